//! What must hold at each step of an agent: every transaction ends once, the ledger is what the records add up to, stages add
//! up to the total and to what the links did, nothing is over its bound, and no verdict lacks its grounds.

use std::collections::btree_map::Entry;

use pams_agent::core::{Notice, Output};
use pams_shared::{
    frame::{CHANGES_MAX, RECORDS_MAX, Report, VIEWS_MAX},
    id::PeerId,
    record::{Kind, Ledger, Outcome, Reason, Record, Stage},
    status::Liveness,
};

use crate::{
    facts::Facts,
    setup::{self, node},
    trace::{name, short},
    world::{Process, World},
};

/// One input ends at most all that is in flight, each with its record, its answer and a change of verdict.
const OUTPUTS_EACH: usize = 4;
const OUTPUTS_BESIDE: usize = 64;

impl World {
    pub fn check_output(&mut self, me: usize, output: &Output) {
        let now = self.now;
        let facts = &mut self.agents[me].facts;
        match output {
            Output::SendPing { peer, ping } => {
                let correlator = ping.correlator;
                assert!(!facts.closed.contains(&correlator), "{} is over and leaves for {peer}", short(&correlator));
                assert!(facts.sent.insert(correlator, now).is_none(), "{} leaves twice", short(&correlator));
            }
            Output::Record(record) => self.check_record(me, record),
            Output::Told(told) => self.check_told(me, told),
            Output::Pinged { token, .. } => {
                assert!(
                    facts.asked.remove(token).is_some(),
                    "ping {token} of a person is answered twice, or was never asked"
                );
            }
            Output::Dial { peer, .. } | Output::Resolve { peer } => {
                facts.reached.extend(node(*peer).map(|n| (n, now)));
            }
            Output::Report(report) => check_report(facts, report),
            Output::Notice(notice) => self.check_notice(me, notice),
            _ => {}
        }
    }

    fn check_record(&mut self, me: usize, record: &Record) {
        let now = self.now;
        let facts = &mut self.agents[me].facts;
        assert!(facts.closed.insert(record.correlator), "{} ends twice", short(&record.correlator));
        facts.counted.entry(record.kind.clone()).or_default().count(record.outcome);
        self.tally.count(record.outcome.as_str());
        assert_eq!(record.reason.map_or(Outcome::Good, Reason::outcome), record.outcome);
        if record.outcome == Outcome::Failed {
            facts.failed = now;
        }
        if record.kind == Kind::Report {
            return;
        }
        facts.records += 1;
        if record.outcome != Outcome::Good {
            assert_eq!((record.total_ns, record.stages.get(Stage::Network)), (None, None), "a time of no answer");
            return;
        }
        if record.kind == Kind::Notify {
            return self.check_notify(me, record);
        }
        let (correlator, way) = facts.answer.expect("a good record, and no pong");
        assert_eq!(correlator, record.correlator, "another one's pong closed it");
        facts.answered.insert(node(PeerId(record.target)).expect("a node answered"), now);
        let (total, measured) = (record.total_ns.expect("answered"), record.stages);
        let sum: u64 = measured.iter().map(|(_, ns)| ns).sum();
        assert!(sum <= total, "{sum} ns in stages of {total} ns: {record:?}");
        let Some(network) = measured.get(Stage::Network) else { return };
        assert!(Stage::EXCHANGE.iter().all(|s| measured.get(*s).is_some()), "a network without its neighbours");
        assert_eq!(sum, total, "{record:?}");
        assert_eq!(network, way.ns, "the network took {} ns: {record:?}", way.ns);
        self.tally.count("split");
        if way.sure {
            self.tally.count("whole_split");
            let (least, most) = (way.least, way.most);
            assert!((least..=most).contains(&network), "{network} ns is not in {least}..={most}: {record:?}");
        }
    }

    fn check_notice(&mut self, me: usize, notice: &Notice) {
        let (now, silence, patience) =
            (self.now, self.setup.silence(self.agents[me].interval), setup::ns(self.setup.watcher.patience));
        let woke = self.processes[me].sleep.woke;
        let configures = |other| self.agents[me].configures(other);
        let configured = (1..=self.setup.agents).filter(|n| configures(*n)).collect::<Vec<_>>();
        let facts = &mut self.agents[me].facts;
        let ping = facts.counted.entry(Kind::Ping).or_default();
        match notice {
            Notice::Late { .. } => {
                ping.late += 1;
                let (correlator, _) = facts.answer.expect("a late pong");
                assert!(facts.late.insert(correlator), "{} is late twice", short(&correlator));
                self.tally.count("late");
            }
            Notice::Duplicate { .. } => {
                ping.duplicate += 1;
                let (correlator, _) = facts.answer.expect("a second pong");
                assert!(facts.closed.contains(&correlator), "{} is a duplicate of none", short(&correlator));
                self.tally.count("duplicate");
            }
            Notice::UnknownCorrelator { peer } => {
                // A pong for a life before this one.
                assert!(facts.life > 1, "a pong of {peer} to nothing");
            }
            Notice::PoolFull { .. } => {
                facts.starved = now;
                self.tally.count("pool_full");
            }
            Notice::Shed { records } => {
                facts.shed += records;
                self.tally.count_n("shed", *records);
            }
            Notice::ClockOffset { .. } => self.tally.count("clock_offset"),
            Notice::Liveness { peer, from, to } => {
                let other = node(*peer).expect("a buddy");
                match to {
                    Liveness::Live => assert_eq!(facts.answered.get(&other), Some(&now), "live without an answer"),
                    Liveness::Left => assert_eq!(facts.goodbyes.get(&other), Some(&now), "left without a goodbye"),
                    Liveness::Gone => {
                        let silent = now - facts.silent_since(other);
                        let since = facts.watched_since(other, configured.contains(&other));
                        let never = facts.heard.get(&other).is_none_or(|heard| *heard <= since);
                        assert!(never || silent >= silence, "{} gone, heard {silent} ns ago", name(other));
                        assert!(woke == 0 || now - woke >= silence, "{} gone because {} slept", name(other), name(me));
                        assert!(!self.sees(me, other, silence), "{} gone, and nothing is amiss", name(other));
                    }
                    Liveness::Overdue if *from == Some(Liveness::Live) => {
                        let waited = now - facts.answered[&other];
                        let just = waited >= patience || facts.failed == now;
                        assert!(just, "{} overdue, answered {waited} ns ago", name(other));
                    }
                    Liveness::Overdue => {}
                }
                self.tally.count(to.as_str());
            }
            Notice::SubscriberLost { .. } => self.tally.count("subscriber_lost"),
            Notice::SubscriberReturned { .. } => self.tally.count("subscriber_returned"),
            Notice::SubscriberRefused { .. } => panic!("{notice:?}"),
            Notice::SubscriberCame { .. } | Notice::SubscriptionRefused { .. } | Notice::NotifyGap { .. } => {}
            Notice::AnswersOverrun { .. } => panic!("answers overrun"),
            // The last two are the shell's own.
            Notice::RosterNamesSelf | Notice::FrameRejected { .. } | Notice::SilentCaller | Notice::CallRefused => {
                panic!("{notice:?}")
            }
            Notice::Status { .. }
            | Notice::LinkUp { .. }
            | Notice::LinkDown { .. }
            | Notice::DialFailed { .. }
            | Notice::RosterCame { .. }
            | Notice::HomeUp { .. }
            | Notice::HomeDown { .. }
            | Notice::HomeMoved { .. }
            | Notice::HomeDoubted { .. }
            | Notice::Slept { .. }
            | Notice::Moved { .. } => {}
        }
    }

    /// For so long both have run and were connected, and no packet between them was lost.
    fn sees(&self, me: usize, other: usize, since: u64) -> bool {
        let quiet = self.now.saturating_sub(since + 3 * setup::ns(self.setup.watcher.patience));
        let runs = |n: usize| {
            let Process { up, started, stalled, .. } = self.processes[n];
            up && started < quiet && stalled < quiet && !self.agents[n].leaving
        };
        let links = [self.agents[me].links.since(other), self.agents[other].links.since(me)];
        let linked = links.into_iter().all(|since| since.is_some_and(|at| at < quiet));
        let clear = |path| self.net.steady(path, quiet) && self.net.link(path).loss == 0.0;
        runs(me) && runs(other) && linked && clear((me, other)) && clear((other, me)) && self.healed
    }

    /// After each input: the ledgers.
    pub fn check_agent(&mut self, me: usize, outputs: usize) {
        let agent = &mut self.agents[me];
        let (Some(core), facts) = (&agent.core, &mut agent.facts) else { return };
        facts.answer = None;
        let mut in_flight = 0;
        for (kind, ledger) in core.ledgers() {
            assert!(ledger.is_conserved(), "{kind} {ledger:?}");
            let before = facts.ledgers.insert(kind.clone(), ledger).unwrap_or_default();
            assert!(grew(&before, &ledger), "{kind} fell: {before:?} {ledger:?}");
            let counted = facts.counted.entry(kind.clone()).or_default();
            if kind != Kind::Ping {
                // Nobody is told of an acknowledgement that came late, or twice.
                (counted.late, counted.duplicate) = (ledger.late, ledger.duplicate);
            }
            let expected = Ledger { opened: ledger.opened, in_flight: ledger.in_flight, ..*counted };
            assert_eq!(ledger, expected, "{kind}: the ledger is not what the records add up to");
            in_flight += ledger.in_flight as usize;
        }
        assert!(in_flight <= self.setup.pool_max, "{in_flight} in flight");
        let most = (in_flight + outputs.min(self.setup.pool_max)) * OUTPUTS_EACH + OUTPUTS_BESIDE;
        assert!(outputs <= most, "{outputs} outputs at once");
    }

    /// The home says up to where it has applied an agent's batches.
    pub fn check_acked(&mut self, me: usize, batch: u64) {
        let facts = &mut self.agents[me].facts;
        let newest = facts.newest;
        assert!(batch <= newest, "batch {batch} is acknowledged and {newest} is the newest");
        while let Some(entry) = facts.batches.first_entry().filter(|e| *e.key() <= batch) {
            let lost = entry.get().iter().find(|c| !self.home.counted_ever.contains(*c));
            assert!(lost.is_none(), "batch {} is acknowledged and {lost:?} not counted", entry.key());
            facts.acked += entry.remove().len() as u64;
        }
    }
}

/// Batches are numbered without gaps; a replay is what it was.
fn check_report(facts: &mut Facts, report: &Report) {
    assert!(
        report.records.len() <= RECORDS_MAX && report.changes.len() <= CHANGES_MAX && report.views.len() <= VIEWS_MAX
    );
    let records: Vec<_> = report.records.iter().map(|r| r.correlator).collect();
    assert!(report.totals.iter().all(|(_, l)| l.is_conserved()));
    match facts.batches.entry(report.batch) {
        Entry::Occupied(known) => assert_eq!(known.get(), &records, "batch {} changed", report.batch),
        Entry::Vacant(new) => {
            facts.newest += 1;
            assert_eq!(report.batch, facts.newest, "a gap in the batches");
            new.insert(records);
        }
    }
    assert_eq!(report.shed, facts.shed, "what was shed is told");
}

/// No total ever falls.
pub fn grew(before: &Ledger, after: &Ledger) -> bool {
    let totals = |l: &Ledger| [l.opened, l.good, l.aborted, l.failed, l.unknown, l.late, l.duplicate];
    totals(before).into_iter().zip(totals(after)).all(|(before, after)| before <= after)
}

/// Whether two ledgers say the same of how transactions ended, late and second answers apart.
pub fn same_ends(a: &Ledger, b: &Ledger) -> bool {
    let ends = |l: &Ledger| [l.opened, l.good, l.aborted, l.failed, l.unknown, l.in_flight];
    ends(a) == ends(b)
}
