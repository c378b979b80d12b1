//! Checks: the home asks for one ping of a peer, or, with our own id, whether we answer at all. Each is answered once, by its
//! deadline, with what was found. A ping for a check is a transaction like any other; it tells the Watcher nothing by a miss.

use std::{collections::BTreeMap, time::Duration};

use pams_shared::{
    frame::{Check, Checked, Finding, Role},
    id::Correlator,
    moment::Moment,
    record::{Kind, Outcome, Reason, Record, Stage, Stages},
};

use super::{Agent, Output, Purpose};

/// Pings for checks under way at once; further ones are refused.
pub const CHECKS_MAX: usize = 16;
/// Longest time that is given to one, whatever is asked.
const WITHIN_MAX: Duration = Duration::from_secs(60);

/// Those under way, by the number of the question.
pub(super) type Checks = BTreeMap<u64, Checking>;

#[derive(Debug)]
pub(super) struct Checking {
    asked: Correlator,
    /// Of our ping.
    ping: Correlator,
    deadline: Moment,
}

impl Agent {
    /// `came`: when the question came off its stream.
    pub(super) fn asked_to_check(&mut self, now: Moment, question: u64, check: Check, came: Moment) {
        if check.peer == self.me {
            let stages = Stages::default().with(Stage::RemoteHold, now.since(came));
            let status = Some(self.presentity.presence().status);
            return self.checked(question, check.correlator, Finding { stages, status, ..self.finding(None) });
        }
        let refused = self.finding(Some(Reason::Refused));
        if self.draining || self.checks.len() >= CHECKS_MAX {
            return self.checked(question, check.correlator, refused);
        }
        let within = Duration::from_millis(check.within_ms.into()).min(WITHIN_MAX);
        let ping = self.minter.correlator(now);
        let deadline = now + within;
        // If it leaves late, its own deadline is later than this one, which then ends it.
        if self.pool.open(now, Kind::Ping, check.peer.0, ping, within, Purpose::Check { question }).is_err() {
            return self.checked(question, check.correlator, refused);
        }
        self.checks.insert(question, Checking { asked: check.correlator, ping, deadline });
        self.reach(now, check.peer, ping);
    }

    pub(super) fn checks_deadline(&self) -> Option<Moment> {
        self.checks.values().map(|c| c.deadline).min()
    }

    /// Ends those whose time is over.
    pub(super) fn end_checks(&mut self, now: Moment) {
        let due: Vec<Correlator> = self.checks.values().filter(|c| c.deadline <= now).map(|c| c.ping).collect();
        for ping in due {
            if let Some((record, purpose)) = self.pool.cut_short(ping) {
                self.release(&record);
                self.ended(now, record, purpose);
            }
        }
    }

    /// The ping of a check ended.
    pub(super) fn check_ended(&mut self, question: u64, record: &Record) {
        let Some(checking) = self.checks.remove(&question) else { return };
        let finding = Finding {
            total_ns: record.total_ns,
            stages: record.stages,
            status: record.target_status,
            ..self.finding(record.reason)
        };
        self.checked(question, checking.asked, finding);
    }

    fn finding(&self, reason: Option<Reason>) -> Finding {
        Finding {
            by: self.me.0,
            by_role: Role::Agent,
            outcome: reason.map_or(Outcome::Good, Reason::outcome),
            reason,
            total_ns: None,
            stages: Stages::default(),
            status: None,
        }
    }

    fn checked(&mut self, question: u64, correlator: Correlator, finding: Finding) {
        self.out.push_back(Output::Checked { question, checked: Checked { correlator, finding } });
    }
}
