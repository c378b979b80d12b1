//! Which server is to be the home: of those that homes told of and those of the configuration, and why that one.
//!
//! A pure, seeded engine beside the agent's: the uplink tells it what came of each call ([`Choice::handle`]), asks it whom to
//! call ([`Choice::next`]), and, while there is a home, whether another one would be better ([`Choice::poll`], not before
//! [`Choice::deadline`]). Nearness is the RTT of a QUIC connection, or of a handshake alone where there was none; a server
//! is left for a nearer one, or because it is full, seldom and only by a clear margin.
//!
//! `book` is what is known of the servers, `silence` when a home counts as silent, `doubt` what comes of others' word that it is lost.

mod book;
mod doubt;
mod silence;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{
    frame::Server,
    id::{Minter, ServerId},
    moment::Moment,
};
use serde::Serialize;

use book::Book;
pub use book::{Known, Servers};
pub use doubt::Doubt;
pub use silence::Silence;

/// Calls without a pause: whoever finds nobody home does not knock at all doors again and again.
const PASS_MAX: usize = 4;
/// Whoever did not answer is called after all others for so long.
const FAILED_FOR: Duration = Duration::from_secs(30);
/// Servers that are measured at once.
const MEASURED_MAX: usize = 3;
/// The first measurement after the home has told of others, and what jitter adds at most.
const LOOK_FIRST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));
/// Between two of them.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(8 * 60), Duration::from_secs(4 * 60));
/// The next one, of a server that looks better.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// So often in a row it must be better.
const TIMES: u32 = 3;
/// Between a change of home and one of our own will.
const REST: Duration = Duration::from_secs(600);
/// Nearer: by so many parts of a thousand of the home's RTT, and by so much.
const NEARER_BY: (u128, Duration) = (300, Duration::from_millis(10));
/// A home with such a load is left, in thousandths.
const FULL: u32 = 900;
/// Where we go of our own will there is room.
const ROOM: u32 = 600;

/// Why a server became the home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The first one of this run.
    Start,
    /// The connection with the one before ended.
    Lost,
    /// The one before did not answer any more.
    Silent,
    /// The one before sent us away.
    Told,
    /// It is nearer, by measured round trips.
    Nearer,
    /// The one before was full, and this one is not.
    LessLoaded,
}

impl Because {
    pub const ALL: [Because; 6] =
        [Because::Start, Because::Lost, Because::Silent, Because::Told, Because::Nearer, Because::LessLoaded];

    pub const fn as_str(self) -> &'static str {
        match self {
            Because::Start => "start",
            Because::Lost => "lost",
            Because::Silent => "silent",
            Because::Told => "told",
            Because::Nearer => "nearer",
            Because::LessLoaded => "less_loaded",
        }
    }
}

/// Somebody to call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// One that homes told of.
    Server(ServerId),
    /// `host:port` or a service of the configuration or the token; who is there shows when it answers.
    Named(String),
}

/// Call these, which all lead to the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub place: Place,
    /// `host:port` or a service each, one at least; the most promising first.
    pub names: Vec<String>,
    pub because: Because,
    /// Somebody else can be called if this comes to nothing.
    pub others: bool,
}

/// What comes of calls, and what the home says.
#[derive(Clone, Debug)]
pub enum Heard {
    /// All servers that take agents, as the home knows them.
    Servers(Vec<Server>),
    /// It is this server that answers there.
    Reached { place: Place, server: ServerId },
    /// It is our home now.
    Up { place: Place, server: ServerId, rtt: Duration },
    /// The call came to nothing, or we were turned away.
    Failed { place: Place },
    /// The home is no more, for a reason of its own.
    Down { because: Because },
    /// Another agent with our id took our place: nobody else is called before the pause.
    Superseded,
    /// We leave the home to connect anew with the same.
    Anew,
    /// We leave the home for another one; should that one turn us away, we come back.
    Left,
    /// What a handshake took, and what the round trip to the home takes; `None`: it did not answer.
    Measured { server: ServerId, rtt: Option<Duration>, home: Duration },
}

/// What is to be done while there is a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Measure the round trips to these.
    Measure(Vec<Call>),
    /// Go there.
    Move(Call),
}

#[derive(Debug)]
pub struct Choice {
    minter: Minter,
    book: Book,
    /// The one that is up.
    home: Option<(Place, ServerId)>,
    /// The last one that was.
    last: Option<ServerId>,
    /// When it became so in place of another; `None`: it is the first.
    changed: Option<Moment>,
    because: Because,
    /// Called first.
    prefer: Option<Place>,
    /// Called since the last pause.
    tried: BTreeSet<Place>,
    failed: BTreeMap<Place, Moment>,
    look_at: Option<Moment>,
    /// The one that looks better, why, and how often in a row.
    better: Option<(ServerId, Because, u32)>,
    advice: Option<Call>,
}

impl Choice {
    /// `named` are tried in this order where nothing else is known; `servers` are those of the last run.
    pub fn new(named: Vec<String>, servers: Servers, seed: [u8; 32]) -> Self {
        Self {
            minter: Minter::new(seed),
            book: Book::new(named, servers),
            home: None,
            last: None,
            changed: None,
            because: Because::Start,
            prefer: None,
            tried: BTreeSet::new(),
            failed: BTreeMap::new(),
            look_at: None,
            better: None,
            advice: None,
        }
    }

    pub fn handle(&mut self, now: Moment, heard: Heard) {
        match heard {
            Heard::Servers(servers) => {
                self.book.list(servers);
                self.failed.retain(|place, _| self.book.has(place));
                if self.look_at.is_none() && self.others() > 0 {
                    self.look(now, LOOK_FIRST);
                }
            }
            Heard::Reached { place, server } => self.book.leads(&place, server),
            Heard::Up { place, server, rtt } => {
                self.book.measured(now, server, rtt);
                self.failed.remove(&self.book.settled(place.clone(), Some(server)));
                self.tried.clear();
                (self.prefer, self.advice, self.better) = (None, None, None);
                if self.last.replace(server).is_some_and(|last| last != server) {
                    self.changed = Some(now);
                }
                self.home = Some((place, server));
                // Whoever comes next does so for a reason of its own.
                self.because = Because::Lost;
                if self.others() > 0 {
                    self.look(now, LOOK_FIRST);
                }
            }
            Heard::Failed { place } => self.failed(now, place),
            Heard::Down { because } => {
                // One that has sent us away may go before we have.
                if self.because != Because::Told {
                    self.because = because;
                }
                if let Some(place) = self.leave() {
                    self.failed(now, place);
                }
            }
            Heard::Superseded => {
                self.leave();
                self.tried.extend(self.book.places());
            }
            Heard::Anew => self.prefer = self.leave().or(self.prefer.take()),
            Heard::Left => {
                self.prefer = self.leave();
                self.tried.clear();
            }
            Heard::Measured { server, rtt, home } => self.measured(now, server, rtt, home),
        }
    }

    /// Homes of the configuration from now on, one at least. Whether the present one is to be left, as it was found by a name
    /// that is no longer among them.
    pub fn names(&mut self, named: Vec<String>) -> bool {
        let found = |choice: &Self| {
            let (place, server) = choice.home.as_ref()?;
            Some(choice.book.is_named(place, *server))
        };
        let before = found(self);
        let first = named.first().cloned();
        self.book.name(named);
        let leaves = before == Some(true) && found(self) == Some(false);
        if leaves {
            self.leave();
            self.prefer = first.map(Place::Named);
        }
        leaves
    }

    /// The home sends us to this server, or away. Whom to call; `None`: there is nobody else.
    pub fn told(&mut self, now: Moment, server: Option<ServerId>) -> Option<Call> {
        self.tried = self.home.clone().map(|(place, home)| self.book.settled(place, Some(home))).into_iter().collect();
        self.because = Because::Told;
        self.prefer = server.map(Place::Server);
        self.next(now)
    }

    /// Nobody else would have us: the home stays.
    pub fn stay(&mut self) {
        self.tried.clear();
        (self.because, self.prefer) = (Because::Lost, None);
    }

    /// Whom to call now; `None`: nobody before the next [`again`](Self::again), which is for after a pause.
    pub fn next(&mut self, now: Moment) -> Option<Call> {
        if let Some(place) = self.prefer.take().filter(|p| self.book.has(p) && !self.tried.contains(p)) {
            return Some(self.call(place));
        }
        if self.tried.len() >= PASS_MAX {
            return None;
        }
        let home = self.home.as_ref().map(|(_, server)| *server);
        let open = self.book.places().into_iter().filter(|place| !self.tried.contains(place));
        // What leads to the server that is, or was just tried, is no other.
        let tried: BTreeSet<ServerId> = self.tried.iter().filter_map(|p| self.book.server_of(p)).chain(home).collect();
        let open: Vec<Place> = open.filter(|p| self.book.server_of(p).is_none_or(|s| !tried.contains(&s))).collect();
        let jittered = |place: Place| {
            let failed = self.failed.get(&place).filter(|at| now.since(**at) < FAILED_FOR).map(|at| at.ns());
            let jitter = self.minter.below(400);
            (failed, self.book.order(&place, jitter), place)
        };
        let (.., place) = open.into_iter().map(jittered).min()?;
        Some(self.call(place))
    }

    /// After a pause: all can be called again.
    pub fn again(&mut self) {
        self.tried.clear();
    }

    pub fn is_home(&self) -> bool {
        self.home.is_some()
    }

    /// Other servers that the home has told of.
    pub fn others(&self) -> usize {
        let home = self.home.as_ref().map(|(_, server)| *server);
        self.book.listed().filter(|server| Some(*server) != home).count()
    }

    /// What is to be kept over restarts.
    pub fn kept(&self) -> Servers {
        self.book.kept()
    }

    pub fn deadline(&self) -> Option<Moment> {
        if self.advice.is_some() { Some(Moment::default()) } else { self.look_at.filter(|_| self.home.is_some()) }
    }

    /// What is due while there is a home. Call until `None`.
    pub fn poll(&mut self, now: Moment) -> Option<Advice> {
        let (_, home) = self.home.clone()?;
        if let Some(call) = self.advice.take() {
            return Some(Advice::Move(call));
        }
        self.look_at.filter(|at| *at <= now)?;
        self.look(now, LOOK_EVERY);
        let whom = match self.better {
            Some((server, ..)) => vec![server],
            None => self.book.stalest(home, MEASURED_MAX, &mut self.minter),
        };
        let calls: Vec<Call> = whom.into_iter().map(|s| self.call(Place::Server(s))).collect();
        (!calls.is_empty()).then_some(Advice::Measure(calls))
    }

    fn measured(&mut self, now: Moment, server: ServerId, rtt: Option<Duration>, home_rtt: Duration) {
        let Some(home) = self.home.as_ref().map(|(_, home)| *home) else { return };
        self.book.measured(now, home, home_rtt);
        if let Some(rtt) = rtt {
            self.book.measured(now, server, rtt);
        }
        let because = rtt.and_then(|rtt| self.is_better(now, home, server, rtt, home_rtt));
        match (self.better, because) {
            (Some((better, why, times)), Some(because)) if better == server && why == because => {
                self.better = Some((server, because, times + 1));
            }
            (Some((better, ..)), _) if better != server => return, // one at a time
            (_, because) => self.better = because.map(|because| (server, because, 1)),
        }
        match self.better {
            Some((_, because, TIMES..)) => {
                self.better = None;
                self.advice = Some(Call { because, ..self.call(Place::Server(server)) });
            }
            Some(_) => self.look(now, LOOK_AGAIN),
            None => {}
        }
    }

    /// Why it would be the better home, if it would.
    fn is_better(
        &self,
        now: Moment,
        home: ServerId,
        server: ServerId,
        rtt: Duration,
        home_rtt: Duration,
    ) -> Option<Because> {
        let rested = self.changed.is_none_or(|at| now.since(at) >= REST);
        let load = self.book.load(server)?;
        if !rested || server == home || load > ROOM {
            return None;
        }
        let (parts, least) = NEARER_BY;
        let gain = home_rtt.saturating_sub(rtt);
        let nearer = gain >= least && gain.as_nanos() * 1_000 >= home_rtt.as_nanos() * parts;
        match self.book.load(home) {
            _ if nearer => Some(Because::Nearer),
            Some(FULL..) => Some(Because::LessLoaded),
            _ => None,
        }
    }

    fn look(&mut self, now: Moment, (least, jitter): (Duration, Duration)) {
        let jitter = self.minter.below(jitter.as_millis() as u64 + 1);
        self.look_at = Some(now + least + Duration::from_millis(jitter));
    }

    fn leave(&mut self) -> Option<Place> {
        (self.look_at, self.better, self.advice) = (None, None, None);
        self.home.take().map(|(place, server)| self.book.settled(place, Some(server)))
    }

    fn failed(&mut self, now: Moment, place: Place) {
        let place = self.book.settled(place, None);
        self.tried.insert(place.clone());
        self.failed.insert(place, now);
    }

    fn call(&self, place: Place) -> Call {
        let others = self.book.places().iter().any(|p| *p != place && !self.tried.contains(p));
        Call { names: self.book.addresses(&place), because: self.because, others, place }
    }
}

#[cfg(test)]
mod tests;
