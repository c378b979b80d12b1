//! Who is told of changes: the peers whose presence is wanted, on which paths it is subscribed to, and what is known of each.
//! There are two paths to one peer, itself and the home. Whatever comes is taken if it is newer than what is known, so that
//! nothing goes backwards, and what comes a second time on the other path is known already.
//!
//! It asks again on each new connection, whatever was before. On one that stands, a question that was not answered is asked again
//! after [`UNANSWERED_RETRY`], one that was refused after [`REFUSED_RETRY`]. Without contact it asks nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    frame::News,
    id::PeerId,
    moment::Moment,
    record::{Outcome, Why},
    status::{Liveness, Presence},
};

/// After an answer did not come, unless there is another connection before.
pub const UNANSWERED_RETRY: Duration = Duration::from_secs(3);
/// After a refusal.
pub const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// Questions under way at once on each path; the others follow as answers come.
const ASKED_MAX: usize = 32;

/// Who tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The peer itself.
    Peer,
    /// Our home.
    Home,
}

impl Path {
    pub const ALL: [Path; 2] = [Path::Peer, Path::Home];

    pub const fn as_str(self) -> &'static str {
        match self {
            Path::Peer => "peer",
            Path::Home => "home",
        }
    }
}

#[derive(Debug)]
pub struct Subscriber {
    max: usize,
    wanted: BTreeMap<PeerId, Wanted>,
    /// Legs that can be asked for now.
    ready: [BTreeSet<PeerId>; 2],
    timers: BTreeSet<(Moment, Path, PeerId)>,
    asked: [usize; 2],
    home: bool,
    next: u64,
}

/// One peer whose presence is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `None`: it has not said anything that came here.
    pub known: Option<Known>,
    /// What the home concludes; `None`: not told.
    pub liveness: Option<Liveness>,
    /// The start of the peer of which it concluded that. It may be behind what the peer itself told: if that start dies before
    /// the home hears of it, the home's last word is right all the same.
    judged: u64,
    legs: [Leg; 2],
}

/// The newest that is known of a peer's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub epoch: u64,
    pub presence: Presence,
    pub path: Path,
    /// When it was told here.
    pub at: Moment,
}

/// How the subscription on one path stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leg {
    /// There is no connection.
    #[default]
    Waiting,
    /// The question is under way; its number.
    Asked(u64),
    Active,
    /// The other side said no, or nothing; it is asked again then.
    Refused(Why, Moment),
}

impl Leg {
    pub const NAMES: [&'static str; 4] = ["waiting", "asked", "active", "refused"];

    pub const fn as_str(&self) -> &'static str {
        match self {
            Leg::Waiting => "waiting",
            Leg::Asked(_) => "asked",
            Leg::Active => "active",
            Leg::Refused(..) => "refused",
        }
    }
}

/// A question to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub path: Path,
    pub peer: PeerId,
    /// To tell its answer from that of an older one.
    pub number: u64,
}

/// What became of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Newer than what was known.
    News {
        /// Changes of presence between that which was known and this one: nobody told them here.
        skipped: u64,
        presence: bool,
        liveness: bool,
    },
    /// As new as what is known, or older.
    Known,
    /// Nobody here wants it.
    Stranger,
}

/// As many peers as can be are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} subscriptions and no more are taken; end one that you do not need")]
pub struct Full(pub usize);

impl Subscriber {
    /// At most `max` peers.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            wanted: BTreeMap::new(),
            ready: Default::default(),
            timers: BTreeSet::new(),
            asked: [0; 2],
            home: false,
            next: 1,
        }
    }

    /// Wants a peer's presence from now on; `linked`: there is a connection with it. `false`: it is wanted already.
    pub fn want(&mut self, peer: PeerId, linked: bool) -> Result<bool, Full> {
        if self.wanted.contains_key(&peer) {
            return Ok(false);
        }
        if self.wanted.len() >= self.max {
            return Err(Full(self.max));
        }
        self.wanted.insert(peer, Wanted::default());
        for (path, connected) in [(Path::Peer, linked), (Path::Home, self.home)] {
            if connected {
                self.connect(path, peer);
            }
        }
        Ok(true)
    }

    /// Does not want it any more; the paths on which to say so. `None`: it was not wanted.
    pub fn unwant(&mut self, peer: PeerId) -> Option<Vec<Path>> {
        let paths = Path::ALL.into_iter().filter(|p| {
            matches!(self.wanted.get(&peer).map(|w| &w.legs[*p as usize]), Some(Leg::Asked(_) | Leg::Active))
        });
        let paths = paths.collect();
        Path::ALL.into_iter().for_each(|path| self.disconnect(path, peer));
        self.wanted.remove(&peer).map(|_| paths)
    }

    /// A new connection with the peer.
    pub fn linked(&mut self, peer: PeerId) {
        self.connect(Path::Peer, peer);
    }

    pub fn unlinked(&mut self, peer: PeerId) {
        self.disconnect(Path::Peer, peer);
    }

    /// A new connection with the home, and perhaps another home.
    pub fn home_up(&mut self) {
        self.home = true;
        self.all().into_iter().for_each(|peer| self.connect(Path::Home, peer));
    }

    pub fn home_down(&mut self) {
        self.home = false;
        self.all().into_iter().for_each(|peer| self.disconnect(Path::Home, peer));
    }

    /// The next question to send. Call until `None`.
    pub fn next(&mut self, now: Moment) -> Option<Ask> {
        while let Some(&(_, path, peer)) = self.timers.first().filter(|(due, ..)| *due <= now) {
            self.connect(path, peer);
        }
        let path = Path::ALL
            .into_iter()
            .find(|p| self.asked[*p as usize] < ASKED_MAX && !self.ready[*p as usize].is_empty())?;
        let peer = self.ready[path as usize].pop_first()?;
        let number = self.next;
        self.next += 1;
        self.set(path, peer, Leg::Asked(number));
        Some(Ask { path, peer, number })
    }

    /// The answer to a question. What it tells is for [`heard`](Self::heard). `false`: of a connection that is no more, or no
    /// longer of interest.
    pub fn answered(&mut self, now: Moment, ask: Ask, answer: Result<(), Why>) -> bool {
        let leg = self.wanted.get(&ask.peer).map(|w| &w.legs[ask.path as usize]);
        if leg != Some(&Leg::Asked(ask.number)) {
            return false;
        }
        let leg = match answer {
            Ok(()) => Leg::Active,
            Err(why) => {
                let refused = why.reason.outcome() == Outcome::Failed;
                Leg::Refused(why, now + if refused { REFUSED_RETRY } else { UNANSWERED_RETRY })
            }
        };
        self.set(ask.path, ask.peer, leg);
        true
    }

    /// Something was told of a peer.
    pub fn heard(&mut self, now: Moment, path: Path, news: &News) -> Heard {
        let Some(wanted) = self.wanted.get_mut(&news.peer) else { return Heard::Stranger };
        let epoch = news.order.epoch;
        let liveness =
            path == Path::Home && news.liveness.is_some() && news.liveness != wanted.liveness && epoch >= wanted.judged;
        if liveness {
            (wanted.liveness, wanted.judged) = (news.liveness, epoch);
        }
        let (mut presence, mut skipped) = (false, 0);
        if let Some(new) = &news.presence
            && wanted.known.as_ref().is_none_or(|k| (epoch, new.version) > (k.epoch, k.presence.version))
        {
            let old = wanted.known.as_ref().map(|k| &k.presence);
            // Versions go on over restarts, so a restart alone is no change and hides none.
            presence = old != Some(new);
            skipped = old.map_or(0, |o| new.version.saturating_sub(o.version.saturating_add(1)));
            wanted.known = Some(Known { epoch, presence: new.clone(), path, at: now });
        }
        if presence || liveness { Heard::News { skipped, presence, liveness } } else { Heard::Known }
    }

    /// The home knows nothing of the peer, so it concludes nothing either.
    pub fn unknown(&mut self, peer: PeerId) {
        if let Some(wanted) = self.wanted.get_mut(&peer) {
            (wanted.liveness, wanted.judged) = (None, 0);
        }
    }

    /// When a refused question is asked again.
    pub fn deadline(&self) -> Option<Moment> {
        self.timers.first().map(|(m, ..)| *m)
    }

    pub fn get(&self, peer: PeerId) -> Option<&Wanted> {
        self.wanted.get(&peer)
    }

    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Wanted)> {
        self.wanted.iter().map(|(p, w)| (*p, w))
    }

    fn all(&self) -> Vec<PeerId> {
        self.wanted.keys().copied().collect()
    }

    fn connect(&mut self, path: Path, peer: PeerId) {
        if self.wanted.contains_key(&peer) {
            self.set(path, peer, Leg::Waiting);
            self.ready[path as usize].insert(peer);
        }
    }

    fn disconnect(&mut self, path: Path, peer: PeerId) {
        self.set(path, peer, Leg::Waiting);
        self.ready[path as usize].remove(&peer);
    }

    /// Moves a leg, and with it its timer and the count of questions.
    fn set(&mut self, path: Path, peer: PeerId, leg: Leg) {
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        if let Leg::Refused(_, due) = &leg {
            self.timers.insert((*due, path, peer));
        }
        self.asked[path as usize] += usize::from(matches!(leg, Leg::Asked(_)));
        match std::mem::replace(&mut wanted.legs[path as usize], leg) {
            Leg::Refused(_, due) => {
                self.timers.remove(&(due, path, peer));
            }
            Leg::Asked(_) => self.asked[path as usize] -= 1,
            Leg::Waiting | Leg::Active => {}
        }
    }
}

impl Wanted {
    pub fn leg(&self, path: Path) -> &Leg {
        &self.legs[path as usize]
    }
}
