//! Who is to be told of changes, one subscription for each pair of presentity and subscriber: an agent's Publisher has one
//! presentity, itself; a home's has many. What is told is the caller's, which looks it up when it is written; so a subscriber
//! is always told the newest, and what it was not told in between shows as a gap in the versions.
//!
//! Of each subscription one notify is under way. A subscriber that does not acknowledge within `patience` is *silent*: it is
//! told nothing more until it does, or subscribes again. One without a connection is *away*, and after `patience` it is lost:
//! its subscription ends. So a loss is noticed by the next change and `patience`, or by the end of the connection and
//! `patience`, whichever is sooner, and a goodbye is not needed. Whoever was lost subscribes anew, and the answer to that tells
//! the present state.
//!
//! Who did not run for a while has read no acknowledgement for want of listening: after [`Publisher::doubt`] patience counts
//! from then on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    id::{Correlator, PeerId},
    moment::Moment,
};

#[derive(Clone, Copy, Debug)]
pub struct PublisherConfig {
    /// How long an acknowledgement may take, and a subscriber be without a connection.
    pub patience: Duration,
    /// Of one presentity.
    pub subscribers_max: usize,
    /// Of one subscriber.
    pub subscriptions_max: usize,
    /// In all.
    pub total_max: usize,
}

type Pair = (PeerId, PeerId);

#[derive(Debug)]
pub struct Publisher {
    config: PublisherConfig,
    /// By presentity, then subscriber.
    subscriptions: BTreeMap<Pair, Subscription>,
    /// Subscriber first.
    by_subscriber: BTreeSet<Pair>,
    timers: BTreeSet<(Moment, Pair)>,
    /// Those to be told something now.
    ready: BTreeSet<Pair>,
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub since: Moment,
    /// When the last notify was acknowledged.
    pub acked_at: Option<Moment>,
    connected: bool,
    silent: bool,
    /// Changes since it began, and when the last one was.
    changes: u64,
    changed_at: Moment,
    /// Of these, those that it knows of, or that a later one made needless.
    told: u64,
    under_way: Option<UnderWay>,
    timer: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    number: u64,
    published: Moment,
    correlator: Option<Correlator>,
}

/// How it stands with a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Connected, and acknowledges.
    Active,
    /// Has not acknowledged in time.
    Silent,
    /// Without a connection for a moment.
    Away,
}

impl Standing {
    pub const ALL: [Standing; 3] = [Standing::Active, Standing::Silent, Standing::Away];

    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Silent => "silent",
            Standing::Away => "away",
        }
    }
}

/// A notify to be written now, saying what is newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tell {
    pub presentity: PeerId,
    pub subscriber: PeerId,
    pub number: u64,
    /// When the newest change was published.
    pub published: Moment,
    /// It was written before, on a connection that is lost; this is its transaction, if it has one.
    pub again: bool,
    pub correlator: Option<Correlator>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// From the publishing.
    pub took: Duration,
    /// It had been silent.
    pub returned: bool,
}

/// A subscription that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub presentity: PeerId,
    pub subscriber: PeerId,
    /// It was silent, which was told before.
    pub silent: bool,
    /// A notify was under way, and will not be acknowledged.
    pub under_way: bool,
    /// Its transaction.
    pub correlator: Option<Correlator>,
}

/// What patience ran out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// No acknowledgement came; it is told nothing more until one does.
    Silent { presentity: PeerId, subscriber: PeerId },
    /// It did not come back.
    Lost(Ended),
}

/// A bound is reached; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("this peer has {0} subscribers and takes no more; try again later")]
    Subscribers(usize),
    #[error("you have {0} subscriptions here and get no more; end one that you do not need")]
    Subscriptions(usize),
    #[error("there are {0} subscriptions here and no more are taken; try again later")]
    Total(usize),
}

const MIN: PeerId = PeerId::from_bytes([0; 16]);
const MAX: PeerId = PeerId::from_bytes([0xff; 16]);

impl Subscription {
    pub fn standing(&self) -> Standing {
        match (self.connected, self.silent) {
            (false, _) => Standing::Away,
            (true, true) => Standing::Silent,
            (true, false) => Standing::Active,
        }
    }

    /// A notify is written and not acknowledged.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    fn wants(&self) -> bool {
        self.connected && !self.silent && self.under_way.is_none() && self.told < self.changes
    }
}

impl Publisher {
    pub fn new(config: PublisherConfig) -> Self {
        Self {
            config,
            subscriptions: BTreeMap::new(),
            by_subscriber: BTreeSet::new(),
            timers: BTreeSet::new(),
            ready: BTreeSet::new(),
        }
    }

    /// Takes other bounds; subscriptions beyond them stay until they end.
    pub fn bound(&mut self, config: PublisherConfig) {
        self.config = config;
    }

    /// Begins a subscription or renews it, on the subscriber's present connection. Whoever calls answers with the present
    /// state, so what changed before needs no notify; one that is under way is written again, for its transaction's sake.
    pub fn subscribe(&mut self, now: Moment, presentity: PeerId, subscriber: PeerId) -> Result<(), NoRoom> {
        let pair = (presentity, subscriber);
        if !self.subscriptions.contains_key(&pair) {
            self.room(presentity, subscriber)?;
            let subscription = Subscription {
                since: now,
                acked_at: None,
                connected: true,
                silent: false,
                changes: 0,
                changed_at: now,
                told: 0,
                under_way: None,
                timer: None,
            };
            self.subscriptions.insert(pair, subscription);
            self.by_subscriber.insert((subscriber, presentity));
            return Ok(());
        }
        self.set_timer(pair, None);
        let Some(s) = self.subscriptions.get_mut(&pair) else { return Ok(()) };
        (s.connected, s.silent, s.told) = (true, false, s.changes);
        if s.under_way.is_some() {
            self.ready.insert(pair);
        } else {
            self.ready.remove(&pair);
        }
        Ok(())
    }

    fn room(&self, presentity: PeerId, subscriber: PeerId) -> Result<(), NoRoom> {
        let PublisherConfig { subscribers_max, subscriptions_max, total_max, .. } = self.config;
        if self.of(presentity).count() >= subscribers_max {
            return Err(NoRoom::Subscribers(subscribers_max));
        }
        if self.by_subscriber.range((subscriber, MIN)..=(subscriber, MAX)).count() >= subscriptions_max {
            return Err(NoRoom::Subscriptions(subscriptions_max));
        }
        if self.subscriptions.len() >= total_max {
            return Err(NoRoom::Total(total_max));
        }
        Ok(())
    }

    /// Ends a subscription at its subscriber's wish.
    pub fn unsubscribe(&mut self, presentity: PeerId, subscriber: PeerId) -> Option<Ended> {
        self.remove((presentity, subscriber))
    }

    /// The subscriber leaves: all its subscriptions end, and none of them is lost.
    pub fn leave(&mut self, subscriber: PeerId) -> Vec<Ended> {
        self.pairs(subscriber).into_iter().filter_map(|pair| self.remove(pair)).collect()
    }

    /// The presentity's state changed: each subscriber is to be told.
    pub fn changed(&mut self, now: Moment, presentity: PeerId) {
        for (pair, s) in self.subscriptions.range_mut((presentity, MIN)..=(presentity, MAX)) {
            s.changes += 1;
            s.changed_at = now;
            if s.wants() {
                self.ready.insert(*pair);
            }
        }
    }

    /// The next notify to write. Call until `None`.
    pub fn next(&mut self, now: Moment) -> Option<Tell> {
        let pair = self.ready.pop_first()?;
        self.set_timer(pair, Some(now + self.config.patience));
        let s = self.subscriptions.get_mut(&pair)?;
        let again = s.under_way.is_some();
        let under_way =
            *s.under_way.get_or_insert(UnderWay { number: s.changes, published: s.changed_at, correlator: None });
        let UnderWay { number, published, correlator } = under_way;
        Some(Tell { presentity: pair.0, subscriber: pair.1, number, published, again, correlator })
    }

    /// There was nothing to tell after all, so nothing will be acknowledged either.
    pub fn withdraw(&mut self, presentity: PeerId, subscriber: PeerId) {
        let pair = (presentity, subscriber);
        self.set_timer(pair, None);
        if let Some(s) = self.subscriptions.get_mut(&pair) {
            (s.under_way, s.silent, s.told) = (None, false, s.changes);
            self.ready.remove(&pair);
        }
    }

    /// The transaction that times what is under way.
    pub fn timed_by(&mut self, presentity: PeerId, subscriber: PeerId, correlator: Correlator) {
        if let Some(under_way) =
            self.subscriptions.get_mut(&(presentity, subscriber)).and_then(|s| s.under_way.as_mut())
        {
            under_way.correlator = Some(correlator);
        }
    }

    /// The subscriber has told its side. `None`: not what is under way; it changes nothing.
    pub fn acked(&mut self, now: Moment, presentity: PeerId, subscriber: PeerId, number: u64) -> Option<Acked> {
        let pair = (presentity, subscriber);
        let s = self.subscriptions.get_mut(&pair)?;
        let under_way = s.under_way.take_if(|u| u.number == number)?;
        s.told = s.told.max(number);
        s.acked_at = Some(now);
        let returned = std::mem::take(&mut s.silent);
        let (wants, connected) = (s.wants(), s.connected);
        if wants {
            self.ready.insert(pair);
        } else {
            self.ready.remove(&pair);
        }
        if connected {
            self.set_timer(pair, None);
        }
        Some(Acked { took: now.since(under_way.published), returned })
    }

    /// The subscriber's connection is lost, or another has taken its place: it has to renew its subscriptions.
    pub fn down(&mut self, now: Moment, subscriber: PeerId) {
        self.down_for(now, subscriber, self.config.patience);
    }

    /// As [`down`](Self::down), where it may take so long to come back.
    pub fn down_for(&mut self, now: Moment, subscriber: PeerId, patience: Duration) {
        for pair in self.pairs(subscriber) {
            self.ready.remove(&pair);
            if let Some(s) = self.subscriptions.get_mut(&pair)
                && std::mem::take(&mut s.connected)
            {
                self.set_timer(pair, Some(now + patience));
            }
        }
    }

    /// We did not run for a while: what came meanwhile is yet to be read, so that nobody's patience ran out by it.
    pub fn doubt(&mut self, now: Moment) {
        let due = now + self.config.patience;
        let sooner: Vec<Pair> = self.timers.iter().take_while(|(at, _)| *at < due).map(|(_, pair)| *pair).collect();
        sooner.into_iter().for_each(|pair| self.set_timer(pair, Some(due)));
    }

    /// The next one whose patience ran out. Call until `None`.
    pub fn expired(&mut self, now: Moment) -> Option<Expired> {
        let &(_, pair) = self.timers.first().filter(|(due, _)| *due <= now)?;
        self.set_timer(pair, None);
        let s = self.subscriptions.get_mut(&pair)?;
        if s.connected {
            s.silent = true;
            return Some(Expired::Silent { presentity: pair.0, subscriber: pair.1 });
        }
        self.remove(pair).map(Expired::Lost)
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.timers.first().map(|(m, _)| *m)
    }

    /// The subscribers of one presentity.
    pub fn of(&self, presentity: PeerId) -> impl Iterator<Item = (PeerId, &Subscription)> {
        self.subscriptions.range((presentity, MIN)..=(presentity, MAX)).map(|((_, s), v)| (*s, v))
    }

    /// Every subscription, as presentity, subscriber and how it stands.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, PeerId, &Subscription)> {
        self.subscriptions.iter().map(|((p, s), v)| (*p, *s, v))
    }

    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    fn pairs(&self, subscriber: PeerId) -> Vec<Pair> {
        self.by_subscriber.range((subscriber, MIN)..=(subscriber, MAX)).map(|(s, p)| (*p, *s)).collect()
    }

    fn remove(&mut self, pair: Pair) -> Option<Ended> {
        self.set_timer(pair, None);
        let s = self.subscriptions.remove(&pair)?;
        self.by_subscriber.remove(&(pair.1, pair.0));
        self.ready.remove(&pair);
        Some(Ended {
            presentity: pair.0,
            subscriber: pair.1,
            silent: s.silent,
            under_way: s.under_way.is_some(),
            correlator: s.under_way.and_then(|u| u.correlator),
        })
    }

    fn set_timer(&mut self, pair: Pair, timer: Option<Moment>) {
        let Some(s) = self.subscriptions.get_mut(&pair) else { return };
        if let Some(old) = std::mem::replace(&mut s.timer, timer) {
            self.timers.remove(&(old, pair));
        }
        self.timers.extend(timer.map(|t| (t, pair)));
    }

    /// Whether all its parts agree. For tests: it walks everything.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let timers: usize = self.subscriptions.values().filter(|s| s.timer.is_some()).count();
        let each = self.subscriptions.iter().all(|(pair, s)| {
            let again = s.under_way.is_some() && s.connected && s.timer.is_none() && !s.silent;
            self.ready.contains(pair) == (s.wants() || again)
                && self.by_subscriber.contains(&(pair.1, pair.0))
                && s.timer.is_none_or(|t| self.timers.contains(&(t, *pair)))
                && s.told <= s.changes
        });
        each && timers == self.timers.len()
            && self.by_subscriber.len() == self.subscriptions.len()
            && self.ready.iter().all(|pair| self.subscriptions.contains_key(pair))
    }
}
