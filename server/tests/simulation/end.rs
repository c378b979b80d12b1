//! The end of a run. Some time after the last fault, all must see each other as they are; then all leave in good order, and
//! the home's books must be theirs.

use std::time::Duration;

use pams_agent::core::BuddyView;
use pams_shared::{
    record::{Kind, Ledger, Outcome},
    status::Liveness,
};

use crate::{
    check::same_ends,
    facts::Facts,
    setup::{HOME, node, peer},
    trace::name,
    world::World,
};

impl World {
    /// Whoever runs is live to its home and its buddies, with its own status; whoever does not is gone, or left.
    pub fn settled(&mut self) {
        self.trace.line(self.now, HOME, || "! all should be well".to_owned());
        self.settled_rosters();
        for me in 1..=self.setup.agents {
            if self.processes[me].up {
                self.settled_at_home(me);
                self.settled_with_buddies(me);
                self.settled_subscriptions(me);
            } else {
                assert!(self.agents[me].stays_away, "{} is not back", name(me));
                let left = self.home.memory.left.contains(&me);
                let fits = match self.verdict(me) {
                    None => true, // forgotten, or never known to this life of the home
                    Some(verdict) => verdict == if left { Liveness::Left } else { Liveness::Gone },
                };
                assert!(fits, "{} is {:?} to its home; it left: {left}", name(me), self.verdict(me));
            }
        }
        for me in 1..=self.setup.agents {
            self.shut_down(me);
        }
    }

    fn settled_at_home(&self, me: usize) {
        let (now, agent) = (self.moment(HOME), &self.agents[me]);
        let (Some(home), Some(core)) = (&self.home.core, &agent.core) else { panic!("{} and no home", name(me)) };
        let detail = home.peer(now, peer(me)).unwrap_or_else(|| panic!("{} is not known", name(me)));
        assert_eq!(detail.home.liveness, Liveness::Live, "{}", name(me));
        assert!(agent.uplink.up && detail.home.session.is_some_and(|s| agent.uplink.conn == Some(s.0 as usize)));
        assert_eq!((detail.peer.order.epoch, detail.peer.presence.as_ref()), (agent.facts.life, Some(core.presence())));
        assert_eq!(detail.peer.profile, *core.profile(), "what {} says of itself", name(me));
        // What watchers say of it is what they concluded, and nobody does who watches it no more.
        for told in &detail.watchers {
            let Some(watcher) = node(told.watcher).filter(|n| self.processes[*n].up) else { continue };
            let agent = &self.agents[watcher];
            let watches = agent.configures(me) || agent.subscribes.contains(&me) || agent.facts.given.contains_key(&me);
            assert!(watches, "{} watches {} no more, and is told of", name(watcher), name(me));
        }
        let watchers = (1..=self.setup.agents).filter(|n| self.processes[*n].up && *n != me);
        for watcher in watchers.filter(|n| self.agents[*n].buddies.iter().any(|(b, _)| *b == me)) {
            let told = detail.watchers.iter().find(|w| w.watcher == peer(watcher));
            let seen = self.buddy(watcher, me);
            let same = told.is_some_and(|t| (t.liveness, t.status) == (seen.liveness, seen.status) && !t.stale);
            assert!(same, "{} tells of {}: {told:?}, and sees {seen:?}", name(watcher), name(me));
        }
        let view = core.view(self.moment(me));
        assert!(view.home.unacked <= 2 && view.home.why.is_none(), "{}: {:?}", name(me), view.home);
    }

    fn settled_with_buddies(&self, me: usize) {
        let agent = &self.agents[me];
        let given = agent.facts.given.keys().filter(|other| !agent.configures(**other));
        for other in agent.buddies.iter().map(|(other, _)| other).chain(given) {
            let seen = self.buddy(me, *other);
            let who = || format!("{} sees {}: {seen:?}", name(me), name(*other));
            if self.processes[*other].up {
                let status = self.agents[*other].core.as_ref().map(|c| c.presence().status);
                assert_eq!((seen.liveness, seen.status), (Some(Liveness::Live), status), "{}", who());
                assert!(seen.last.as_ref().is_some_and(|r| r.outcome == Outcome::Good), "{}", who());
                assert!(seen.connected && seen.hears && seen.is_heard && seen.missed == 0, "{}", who());
            } else {
                assert!(matches!(seen.liveness, Some(Liveness::Gone | Liveness::Left)), "{}", who());
                let facts = &agent.facts;
                let goodbye = facts.goodbyes.get(other).is_some_and(|at| facts.linked.get(other) < Some(at));
                // Of one that the home gave again, what it said before that is forgotten.
                let added = facts.added.get(other);
                let known =
                    agent.configures(*other) && added.is_none_or(|at| facts.goodbyes.get(other).is_none_or(|g| at < g));
                assert!(!known || (seen.liveness == Some(Liveness::Left)) == goodbye, "{}", who());
                assert!(seen.why.is_some(), "{}", who());
            }
        }
    }

    fn buddy(&self, me: usize, other: usize) -> BuddyView {
        let view = self.agents[me].core.as_ref().map(|c| c.view(self.moment(me))).expect("it runs");
        view.buddies.into_iter().find(|b| b.peer == peer(other)).expect("on the roster")
    }

    /// All have left; nothing is open, and what the home has booked is what they did.
    pub fn finish(&mut self) {
        for me in 1..=self.setup.agents {
            assert!(!self.processes[me].up, "{} did not end", name(me));
            let agent = &self.agents[me];
            for facts in agent.past.iter().chain([&agent.facts]) {
                finished(me, facts);
            }
            if agent.stays_away {
                continue;
            }
            assert_eq!(agent.facts.farewell, Some(true), "{} left with something to tell", name(me));
            let verdict = self.verdict(me);
            let forgotten = verdict.is_none() && self.setup.home.forget_after < Duration::from_secs(12);
            assert!(verdict == Some(Liveness::Left) || forgotten, "{}: {verdict:?}", name(me));
            self.same_books(me);
            if let Some(detail) = self.home.core.as_ref().and_then(|c| c.peer(self.moment(HOME), peer(me))) {
                assert_eq!(detail.records_shed, self.agents[me].facts.shed, "{}", name(me));
            }
        }
        self.dead_books();
        assert!(self.home.core.as_ref().is_some_and(|c| c.summary(self.moment(HOME)).sessions == 0));
    }

    /// The last life's ledger is booked exactly.
    fn same_books(&mut self, me: usize) {
        let facts = &self.agents[me].facts;
        for (kind, own) in &facts.ledgers {
            let book = self.home.memory.books.get(&(me, facts.life, kind.clone())).copied().unwrap_or_default();
            let booked = book.booked;
            if book.abandoned {
                // It was forgotten while it was cut off: what it had in flight was booked as unknown then, and stays so.
                assert_eq!((booked.opened, booked.in_flight), (own.opened, 0), "{kind} of {}: {booked:?}", name(me));
            } else {
                assert!(same_ends(&booked, own), "{kind} of {}: {booked:?}, its own {own:?}", name(me));
                self.tally.count("exact_books");
            }
        }
    }

    /// Of lives that are over, nothing is in flight, and no more is booked than was.
    fn dead_books(&self) {
        for ((who, life, kind), book) in &self.home.memory.books {
            let agent = &self.agents[*who];
            let facts = agent.past.iter().chain([&agent.facts]).find(|f| f.life == *life).expect("it lived");
            let (own, booked) = (facts.ledgers.get(kind).copied().unwrap_or_default(), book.booked);
            let succeeded = self.agents[*who].facts.life > *life && !agent.stays_away;
            assert!(!succeeded || booked.in_flight == 0, "{} is dead, epoch {life}, and has {booked:?}", name(*who));
            assert!(booked.opened <= own.opened && booked.good <= own.good, "{booked:?} of {own:?}");
        }
    }
}

/// A life that is over: each ping that left has ended, if it ended in good order.
fn finished(me: usize, facts: &Facts) {
    if !facts.left {
        return;
    }
    let open = facts.sent.keys().find(|c| !facts.closed.contains(*c));
    assert!(open.is_none(), "{} left with {open:?} open", name(me));
    assert!(facts.asked.is_empty(), "{} left with {:?} not answered", name(me), facts.asked);
    let flying = |(_, ledger): &(&Kind, &Ledger)| ledger.in_flight > 0;
    assert!(!facts.ledgers.iter().any(|l| flying(&l)), "{} left with something in flight", name(me));
    if facts.farewell == Some(true) {
        assert_eq!(facts.records, facts.acked + facts.shed, "records of {}, epoch {}", name(me), facts.life);
    }
}
