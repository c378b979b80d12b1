//! Which streams we follow: each sibling for what it owns itself, and others for what is owned by servers with which there is
//! no connection (dead, or cut off from us alone) and by our own earlier starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{id::ServerId, moment::Moment};

use super::io::{FollowId, LinkId};

/// Siblings that are followed for one owner that can't be asked itself.
const RELAYS: usize = 3;
/// How long an owner has to be without a connection before others are asked for it.
const RELAY_AFTER: Duration = Duration::from_secs(3);
/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stream {
    pub link: LinkId,
    /// Who is asked.
    pub at: ServerId,
    pub owner: ServerId,
}

#[derive(Debug, Default)]
pub(super) struct Follows {
    last: u64,
    open: BTreeMap<FollowId, Stream>,
    /// Streams that ended by themselves, and when they may be opened again.
    pauses: BTreeMap<Stream, Moment>,
    /// Since when an owner is without a connection.
    cut: BTreeMap<ServerId, Moment>,
    /// Streams that have told all they can.
    done: BTreeSet<Stream>,
    /// When there is something new because of time alone.
    due: Option<Moment>,
}

/// What is to be opened and closed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub open: Vec<(FollowId, Stream)>,
    pub close: Vec<FollowId>,
}

impl Follows {
    pub fn get(&self, id: FollowId) -> Option<&Stream> {
        self.open.get(&id)
    }

    /// Whether the owner itself is followed.
    pub fn is_direct(&self, owner: ServerId) -> bool {
        self.open.values().any(|stream| stream.owner == owner && stream.at == owner)
    }

    /// A stream has ended by itself.
    pub fn ended(&mut self, now: Moment, id: FollowId) {
        if let Some(stream) = self.open.remove(&id) {
            self.pauses.insert(stream, now + PAUSE);
        }
    }

    /// A stream has told all it can: it is not opened again on this link.
    pub fn done(&mut self, id: FollowId) {
        self.done.extend(self.open.remove(&id));
    }

    /// Brings the streams in line with the links that stand and the owners that are known.
    pub fn plan(
        &mut self,
        now: Moment,
        me: ServerId,
        links: &[(ServerId, LinkId)],
        owners: impl Iterator<Item = ServerId>,
    ) -> Plan {
        let linked = |owner: ServerId| links.iter().any(|(server, _)| *server == owner);
        let mut wanted: BTreeSet<Stream> =
            links.iter().map(|(server, link)| Stream { link: *link, at: *server, owner: *server }).collect();
        let mut cut = BTreeMap::new();
        for owner in owners.filter(|owner| !linked(*owner)) {
            let since = self.cut.get(&owner).copied().unwrap_or(now);
            cut.insert(owner, since);
            // What our own earlier starts shared, only others can tell.
            if owner == me || now.since(since) >= RELAY_AFTER {
                // And each that follows us has to have told its part before it may take what we say for all.
                let relays = links.iter().take(if owner == me { links.len() } else { RELAYS });
                wanted.extend(relays.map(|(server, link)| Stream { link: *link, at: *server, owner }));
            }
        }
        self.cut = cut;
        let relays = self.cut.iter().filter(|(owner, _)| **owner != me).map(|(_, since)| *since + RELAY_AFTER);
        let relay = relays.filter(|at| *at > now).min();
        let close: Vec<_> = self.open.iter().filter(|(_, s)| !wanted.contains(s)).map(|(id, _)| *id).collect();
        close.iter().for_each(|id| {
            self.open.remove(id);
        });
        self.pauses.retain(|stream, at| wanted.contains(stream) && *at > now);
        self.due = self.pauses.values().copied().chain(relay).min();
        self.done.retain(|stream| wanted.contains(stream));
        let opened: BTreeSet<Stream> = self.open.values().chain(&self.done).copied().collect();
        let mut open = Vec::new();
        for stream in wanted {
            if !opened.contains(&stream) && !self.pauses.contains_key(&stream) {
                self.last += 1;
                self.open.insert(FollowId(self.last), stream);
                open.push((FollowId(self.last), stream));
            }
        }
        Plan { open, close }
    }

    /// When [`Follows::plan`] has something new because of time alone.
    pub fn deadline(&self) -> Option<Moment> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u8) -> ServerId {
        ServerId::from_bytes([n; 16])
    }

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    fn streams(plan: &Plan) -> Vec<(u64, u8)> {
        plan.open.iter().map(|(_, s)| (s.link.0, s.owner.as_bytes()[0])).collect()
    }

    #[test]
    fn each_sibling_is_followed_and_a_dead_one_at_the_others() {
        let mut follows = Follows::default();
        let links = [(id(2), LinkId(2)), (id(3), LinkId(3))];
        let owners = || [id(1), id(2), id(3)].into_iter();
        let plan = follows.plan(at(0), id(1), &links, owners());
        assert_eq!(streams(&plan), [(2, 1), (2, 2), (3, 1), (3, 3)]);
        // 3 is lost: after a while 2 is asked for what it owned.
        let plan = follows.plan(at(1_000), id(1), &links[..1], owners());
        assert_eq!((streams(&plan), plan.close.len()), (vec![], 2));
        assert_eq!(follows.deadline(), Some(at(4_000)));
        assert_eq!(streams(&follows.plan(at(4_000), id(1), &links[..1], owners())), [(2, 3)]);
        // It is back: it is asked itself, and 2 no more.
        let plan = follows.plan(at(5_000), id(1), &links, owners());
        assert_eq!((streams(&plan), plan.close.len()), (vec![(3, 1), (3, 3)], 1));
    }

    #[test]
    fn a_stream_that_ends_by_itself_comes_again_after_a_pause() {
        let mut follows = Follows::default();
        let links = [(id(2), LinkId(2))];
        let plan = follows.plan(at(0), id(1), &links, std::iter::empty());
        follows.ended(at(10), plan.open[0].0);
        assert_eq!(follows.plan(at(10), id(1), &links, std::iter::empty()), Plan::default());
        assert_eq!(streams(&follows.plan(at(310), id(1), &links, std::iter::empty())), [(2, 2)]);
    }
}
