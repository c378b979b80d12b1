//! What must hold at any time, looked at now and then: no verdict outlives its bound, nothing in flight is forgotten, no record
//! is lost between an agent and its home, and the home's rows are what it heard.

use pams_agent::core::BuddyView;
use pams_server::core::view::{Filter, PAGE_MAX};
use pams_shared::{
    frame::RECORDS_MAX,
    record::{Kind, Ledger},
    status::Liveness,
};

use crate::{
    setup::{self, HOME, node},
    trace::{name, short},
    world::{Event, MS, SECOND, World},
};

/// How often.
const EVERY: u64 = 2_500 * MS;
/// Batches under way at once.
const WINDOW: usize = 4;
/// The longest way of a stamp from the socket to the core, and more.
const STAMP: u64 = 400 * MS;

impl World {
    pub fn sweep(&mut self) {
        for me in 1..=self.setup.agents {
            if self.processes[me].up && !self.agents[me].leaving && !self.stalled_lately(me) {
                self.sweep_agent(me);
            }
        }
        if self.processes[HOME].up && !self.stalled_lately(HOME) {
            self.sweep_home();
        }
        self.plan(self.now + EVERY, Event::Sweep);
    }

    fn sweep_agent(&mut self, me: usize) {
        let moment = self.moment(me);
        let patience = setup::ns(self.setup.watcher.patience);
        let agent = &mut self.agents[me];
        let Some(core) = &agent.core else { return };
        let view = core.view(moment);
        let facts = &mut agent.facts;

        facts.sent.retain(|c, _| !facts.closed.contains(c));
        let forgotten = facts.sent.iter().find(|(_, at)| self.now > **at + patience + STAMP);
        if let Some((correlator, _)) = forgotten {
            panic!("{} has {} open for too long", name(me), short(correlator));
        }

        let waits = facts.asked.iter().find(|(_, at)| self.now > **at + 2 * patience + STAMP);
        assert!(waits.is_none(), "{}: somebody waits for too long: {waits:?}", name(me));

        let home = &view.home;
        assert_eq!(facts.records, facts.acked + home.backlog as u64 + home.shed, "records of {}", name(me));
        assert_eq!(home.shed, facts.shed);
        assert!(home.unacked <= WINDOW && home.backlog <= self.setup.backlog_max + WINDOW * RECORDS_MAX);
        assert_eq!(view.epoch, facts.life);
        for buddy in &view.buddies {
            self.sweep_buddy(me, buddy);
        }
    }

    /// A verdict has its time: live for as long as an answer counts, gone when silence has lasted.
    fn sweep_buddy(&self, me: usize, buddy: &BuddyView) {
        let (now, facts, other) = (self.now, &self.agents[me].facts, node(buddy.peer).expect("a node"));
        // What it did not do while it did not run is no fault of its own.
        let awake = self.processes[me].stalled.max(self.processes[me].sleep.woke);
        let since = facts.watched_since(other, self.agents[me].configures(other));
        let silent = now - facts.silent_since(other).max(awake).max(since);
        let longest = self.agents[me].longest;
        let hungry = facts.starved > 0 && now - facts.starved < self.setup.gone_max(longest);
        if hungry {
            return; // polls were left out
        }
        let who = || format!("{} of {} at {} s", name(me), name(other), now / SECOND);
        if buddy.liveness == Some(Liveness::Live) {
            let answered = facts.answered.get(&other).copied().unwrap_or_default().max(awake);
            // A ping that waited for its connection has its patience from then on.
            let waited = facts.linked.get(&other).is_some_and(|at| *at > answered);
            let most = self.setup.live_max(longest) + if waited { setup::ns(self.setup.watcher.patience) } else { 0 };
            assert!(now - answered <= most, "{}: live, answered {} ns ago", who(), now - answered);
        }
        if silent > self.setup.gone_max(longest) {
            let over = matches!(buddy.liveness, Some(Liveness::Gone | Liveness::Left));
            assert!(over, "{}: {:?}, heard {silent} ns ago", who(), buddy.liveness);
        }
    }

    fn sweep_home(&mut self) {
        let now = self.moment(HOME);
        let Some(core) = &self.home.core else { return };
        let memory = &self.home.memory;
        let (overdue, gone) = (setup::ns(self.setup.home.overdue_after()), setup::ns(self.setup.home.gone_after));
        for row in core.peers(now, &Filter::default(), None, PAGE_MAX).peers {
            let who = node(row.id).expect("a node");
            // Its clock stands still while its host is suspended.
            let silent = setup::ns(now.since(self.moment_of(HOME, memory.heard[&who])));
            assert_eq!(row.age_ms, silent / MS, "{} heard", name(who));
            let in_time = match row.liveness {
                Liveness::Live => silent <= overdue + 2 * MS,
                Liveness::Overdue => silent >= overdue && silent <= gone + 2 * MS,
                Liveness::Gone => silent >= gone,
                Liveness::Left => memory.left.contains(&who),
            };
            assert!(in_time, "{} is {:?}, heard {silent} ns ago", name(who), row.liveness);
            let works = self.works(who, overdue + SECOND);
            assert!(row.liveness == Liveness::Live || !works, "{} is {:?} and works", name(who), row.liveness);
            if !memory.forgotten.contains(&who) {
                for kind in Kind::BUILT_IN {
                    let booked = core.ledger(row.id).find(|(k, _)| **k == kind).map(|(_, l)| *l).unwrap_or_default();
                    assert_eq!(booked, self.booked(who, &kind), "{kind} of {}", name(who));
                }
            }
        }
        assert!(core.events().count() <= self.setup.home.events_max);
    }

    /// What should be booked of an agent's kind, over all its epochs.
    pub fn booked(&self, who: usize, kind: &Kind) -> Ledger {
        let mut sum = Ledger::default();
        let books = self.home.memory.books.iter().filter(|((n, _, k), _)| *n == who && k == kind);
        books.for_each(|(_, book)| sum.add(&book.booked));
        sum
    }
}
