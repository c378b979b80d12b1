//! The directory: one row per peer, the time at which each is to be judged again, and the census of all of them. It keeps
//! these three in step; what the rules are stands in the engine.
//!
//! A row has one timer, set lazily: a report does not move it. When it comes due, the row's last sign of life tells whether
//! there is something to judge. So a report costs no timer work, and nothing ever scans the directory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use pams_shared::{
    frame::{Entry, Profile},
    id::{Order, PeerId},
    moment::Moment,
    record::Record,
    status::{Liveness, Presence},
};

use super::{SessionId, books::Books};

/// What the home knows of one peer.
#[derive(Debug)]
pub(super) struct Row {
    pub epoch: u64,
    pub attach: u64,
    pub profile: Profile,
    /// What it said of itself; `None` before it did.
    pub presence: Option<Presence>,
    /// Version of the presence that the present epoch sent; `None` before it did.
    pub version: Option<u64>,
    pub observed: SocketAddr,
    /// Its agent runs on our own host.
    pub same_host: bool,
    pub clock_offset_ms: i64,
    pub liveness: Liveness,
    pub liveness_since: Moment,
    /// The last sign of life.
    pub heard: Moment,
    /// How many buddies its agent takes from us.
    pub takes: usize,
    /// Its agent takes the list of servers, and goes elsewhere when it is told to.
    pub moves: bool,
    /// Its agent answers checks.
    pub checks: bool,
    pub session: Option<SessionId>,
    pub session_since: Moment,
    /// The last batch of the epoch that was applied.
    pub applied: u64,
    /// The last that was acknowledged.
    pub acked: u64,
    /// Reports that have come in the present session.
    pub came: u64,
    /// Another home, or an earlier start of ours, had the peer before.
    pub inherited: bool,
    /// When the siblings were told of the row last.
    pub shared: Moment,
    /// Records that the agent's backlog shed in this epoch.
    pub shed: u64,
    pub books: Books,
    pub recent: VecDeque<Record>,
    timer: Moment,
}

impl Row {
    pub fn new(epoch: u64, attach: u64, profile: Profile, observed: SocketAddr, now: Moment) -> Self {
        Self {
            epoch,
            attach,
            profile,
            presence: None,
            version: None,
            observed,
            same_host: false,
            clock_offset_ms: 0,
            liveness: Liveness::Live,
            liveness_since: now,
            heard: now,
            takes: 0,
            moves: false,
            checks: false,
            session: None,
            session_since: now,
            applied: 0,
            acked: 0,
            came: 0,
            inherited: false,
            shared: now,
            shed: 0,
            books: Books::default(),
            recent: VecDeque::new(),
            timer: now,
        }
    }

    pub fn order(&self) -> Order {
        Order { epoch: self.epoch, attach: self.attach, version: self.version.unwrap_or(0) }
    }

    pub fn departed(&self) -> bool {
        matches!(self.liveness, Liveness::Gone | Liveness::Left)
    }

    /// As it travels. Presence of version 0: it has not said anything yet.
    pub fn entry(&self, peer: PeerId, now: Moment) -> Entry {
        Entry {
            peer,
            order: self.order(),
            profile: self.profile.clone(),
            presence: self.presence.clone().unwrap_or_default(),
            liveness: self.liveness,
            age_ms: ms(now.since(self.heard)),
            observed: Some(self.observed),
        }
    }
}

pub(super) fn ms(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// How many rows there are of each liveness and each status, the last column for those that have said none.
pub(super) type Census = [[u64; 5]; 4];

fn cell(row: &Row) -> (usize, usize) {
    (row.liveness as usize, row.presence.as_ref().map_or(4, |p| p.status as usize))
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    // Boxed: nodes of the tree stay small, so that an insertion moves pointers and not rows.
    rows: BTreeMap<PeerId, Box<Row>>,
    /// When to look at the rows of peers that are live or overdue.
    looks: BTreeSet<(Moment, PeerId)>,
    /// When to forget those that are gone or left; the first departed first.
    departures: BTreeSet<(Moment, PeerId)>,
    census: Census,
    /// Those whose liveness or presence is another since the last look.
    changed: Vec<PeerId>,
}

impl Directory {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn departed(&self) -> usize {
        self.departures.len()
    }

    /// Of this one too something is to be told.
    pub fn note(&mut self, peer: PeerId) {
        self.changed.push(peer);
    }

    /// Takes those whose liveness or presence changed.
    pub fn changed(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.changed)
    }

    pub fn census(&self) -> &Census {
        &self.census
    }

    pub fn row(&self, peer: PeerId) -> Option<&Row> {
        self.rows.get(&peer).map(|row| &**row)
    }

    /// For everything but liveness and presence, which have their own verbs.
    pub fn row_mut(&mut self, peer: PeerId) -> Option<&mut Row> {
        self.rows.get_mut(&peer).map(|row| &mut **row)
    }

    /// In order of their ids, after the one given.
    pub fn after(&self, peer: Option<PeerId>) -> impl Iterator<Item = (PeerId, &Row)> {
        use std::ops::Bound;
        let from = peer.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range((from, Bound::Unbounded)).map(|(peer, row)| (*peer, &**row))
    }

    /// Puts in a new row, to be looked at then.
    pub fn insert(&mut self, peer: PeerId, mut row: Row, look: Moment) {
        self.remove(peer);
        row.timer = look;
        self.timers(row.departed()).insert((look, peer));
        let (liveness, status) = cell(&row);
        self.census[liveness][status] += 1;
        self.rows.insert(peer, Box::new(row));
        self.changed.push(peer);
    }

    pub fn remove(&mut self, peer: PeerId) -> Option<Box<Row>> {
        let row = self.rows.remove(&peer)?;
        self.timers(row.departed()).remove(&(row.timer, peer));
        let (liveness, status) = cell(&row);
        self.census[liveness][status] -= 1;
        Some(row)
    }

    /// Sets the verdict and when to look again.
    pub fn judge(&mut self, peer: PeerId, liveness: Liveness, now: Moment, look: Moment) {
        self.change(peer, |row| {
            if row.liveness != liveness {
                row.liveness = liveness;
                row.liveness_since = now;
            }
            row.timer = look;
        });
    }

    /// Sets what the peer says of itself.
    pub fn say(&mut self, peer: PeerId, presence: Presence) {
        self.change(peer, |row| {
            row.version = Some(presence.version);
            row.presence = Some(presence);
        });
    }

    /// All that are live or overdue.
    pub fn here(&self) -> Vec<PeerId> {
        self.looks.iter().map(|(_, peer)| *peer).collect()
    }

    /// Looks at the row again later.
    pub fn look_again(&mut self, peer: PeerId, look: Moment) {
        self.change(peer, |row| row.timer = look);
    }

    /// The next row to look at, and when.
    pub fn next_look(&self) -> Option<(Moment, PeerId)> {
        self.looks.first().copied()
    }

    /// The longest departed peer, and when to forget it.
    pub fn next_departure(&self) -> Option<(Moment, PeerId)> {
        self.departures.first().copied()
    }

    fn timers(&mut self, departed: bool) -> &mut BTreeSet<(Moment, PeerId)> {
        if departed { &mut self.departures } else { &mut self.looks }
    }

    fn change(&mut self, peer: PeerId, change: impl FnOnce(&mut Row)) {
        let Some(row) = self.rows.get_mut(&peer) else { return };
        let (before, timer) = (cell(row), (row.departed(), row.timer));
        let said = (row.liveness, row.version);
        change(row);
        if said != (row.liveness, row.version) {
            self.changed.push(peer);
        }
        let (after, timer_after) = (cell(row), (row.departed(), row.timer));
        self.census[before.0][before.1] -= 1;
        self.census[after.0][after.1] += 1;
        if timer != timer_after {
            self.timers(timer.0).remove(&(timer.1, peer));
            self.timers(timer_after.0).insert((timer_after.1, peer));
        }
    }

    /// Whether rows, timers and census agree. For tests: it walks everything.
    #[cfg(test)]
    pub fn is_consistent(&self) -> bool {
        let mut census = Census::default();
        for (peer, row) in &self.rows {
            let (liveness, status) = cell(row);
            census[liveness][status] += 1;
            let (set, other) =
                if row.departed() { (&self.departures, &self.looks) } else { (&self.looks, &self.departures) };
            if !set.contains(&(row.timer, *peer)) || other.contains(&(row.timer, *peer)) {
                return false;
            }
        }
        census == self.census && self.looks.len() + self.departures.len() == self.rows.len()
    }
}
