//! The agent's side of its home: what it is told on arrival, the reports and their acknowledgements.

use std::{collections::BTreeSet, time::Duration};

use pams_shared::{
    frame::{Report, Roster, Rostered, View as WireView},
    id::{Correlator, PeerId, ServerId},
    moment::Moment,
    record::{Kind, Reason, Why},
    transaction::{Answer, Closed},
};

use super::{Agent, HomeInput, Notice, Output, Purpose, Trying, choice::Because, roster::Word};

/// How long a report waits for its acknowledgement.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Home {
    pub server: Option<ServerId>,
    /// The last one that took us, and why it was chosen.
    pub taken: Option<(ServerId, Because)>,
    /// Servers that are known.
    pub servers: usize,
    pub connected: bool,
    pub attach: u64,
    pub why: Option<Why>,
    pub trying: Option<Trying>,
    pub observed: Option<String>,
    pub clock_offset_ms: Option<i64>,
}

impl Agent {
    pub(super) fn home(&mut self, now: Moment, input: HomeInput) {
        match input {
            HomeInput::Reached { server } => {
                if self.home.server != Some(server) {
                    self.home.server = Some(server);
                    self.home.attach += 1;
                }
                self.out.push_back(Output::Greet { attach: self.home.attach, profile: self.profile.clone() });
            }
            HomeInput::Up { terms, observed, clock_offset_ms, because } => {
                self.home.connected = true;
                self.home.why = None;
                self.home.trying = None;
                self.home.observed = observed;
                self.home.clock_offset_ms = Some(clock_offset_ms);
                let Some(server) = self.home.server else { return };
                self.tell_clock(now, server.0, clock_offset_ms);
                self.notice(Notice::HomeUp { server });
                let moved = self.home.taken.is_none_or(|(before, _)| before != server);
                if moved {
                    self.home.taken = Some((server, because));
                    self.notice(Notice::HomeMoved { server, because });
                }
                self.subscriber.home_up();
                // This home may know nothing of us: tell it what is, not only what changes.
                self.batcher.change(self.presentity.presence().clone());
                let buddies: Vec<PeerId> = self.watcher.buddies().map(|(p, _)| p).collect();
                buddies.into_iter().for_each(|p| self.batcher.view(p));
                let ended = self.batcher.attach(now, terms.applied_batch, Duration::from_millis(terms.pace_ms.max(1)));
                self.reported(now, ended);
                if moved {
                    self.give_up_reports(now);
                }
            }
            HomeInput::Down { why } => {
                let was = std::mem::replace(&mut self.home.connected, false);
                self.batcher.detach();
                self.subscriber.home_down();
                if was || self.home.why.as_ref() != Some(&why) {
                    self.notice(Notice::HomeDown { why: why.clone() });
                }
                self.home.why = Some(why.clone());
                // Whatever it was asked, it will not answer any more.
                for peer in self.roster.resolving() {
                    self.resolved(now, peer, Err(why.clone()));
                }
            }
            HomeInput::Trying(trying) => self.home.trying = Some(trying),
            HomeInput::Written { batch } => {
                if let Some(correlator) = self.batcher.correlator(batch) {
                    self.pool.sent(correlator, now);
                }
            }
            HomeInput::Acked(ack) => {
                self.batcher.pace(Duration::from_millis(ack.pace_ms.max(1)));
                let ended = self.batcher.acked(ack.batch);
                self.reported(now, ended);
            }
            HomeInput::Roster(roster) => self.take_roster(now, roster),
            HomeInput::Servers(servers) => self.home.servers = servers,
            HomeInput::Check { question, check, came } => self.asked_to_check(now, question, check, came),
        }
    }

    /// The home says whom to watch. Buddies of the configuration stay what they are; whoever nobody names any more is not
    /// watched any more.
    fn take_roster(&mut self, now: Moment, mut roster: Roster) {
        roster.peers.retain(|r| r.peer != self.me);
        let takes = self.profile.roster_max as usize;
        let over = roster.peers.len().saturating_sub(takes);
        roster.peers.truncate(takes);
        self.notice(Notice::RosterCame { peers: roster.peers.len(), over });
        let named: BTreeSet<PeerId> = roster.peers.iter().map(|r| r.peer).collect();
        for peer in self.roster.given().into_iter().filter(|peer| !named.contains(peer)) {
            self.roster.take(peer);
            self.dismiss(now, peer);
        }
        for Rostered { peer, name, addresses } in roster.peers {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            self.roster.give(peer, Word { name: Some(name).filter(|n| !n.is_empty()), addresses });
            self.watcher.watch(now, peer, &mut self.minter);
        }
    }

    /// The transactions of acknowledged batches end. A batch may be acknowledged by another server than took it.
    fn reported(&mut self, now: Moment, ended: Vec<Correlator>) {
        for correlator in ended {
            let Some(server) = self.pool.target(correlator) else { continue };
            if let Closed::Good(record, purpose) = self.pool.close(now, correlator, server, Answer::default()) {
                self.ended(now, *record, purpose);
            }
        }
    }

    /// What the home before has not acknowledged goes to this one, each batch with a transaction of its own.
    fn give_up_reports(&mut self, now: Moment) {
        for correlator in self.batcher.correlators() {
            self.fail(now, correlator, Reason::Cancelled);
        }
    }

    pub(super) fn report(&mut self, now: Moment) {
        while let Some(batch) = self.batcher.next(now) {
            let (number, timed) = (batch.number, batch.correlator);
            let mut report = Report {
                batch: number,
                changes: batch.changes.clone(),
                records: batch.records.clone(),
                ..Report::default()
            };
            let views = batch.views.clone();
            // A replay goes on with its transaction; one whose transaction ran out gets a new one.
            let running = timed.is_some_and(|c| self.pool.context(c).is_some());
            if !running
                && !self.draining
                && let Some(server) = self.home.server
            {
                let correlator = self.minter.correlator(now);
                let opened = self.pool.open(now, Kind::Report, server.0, correlator, REPORT_PATIENCE, Purpose::Report);
                self.batcher.timed_by(number, opened.is_ok().then_some(correlator));
            }
            report.views = views.into_iter().map(|p| self.wire_view(p)).collect();
            report.totals = self.pool.ledgers();
            report.shed = self.batcher.shed();
            self.out.push_back(Output::Report(report));
        }
    }

    fn wire_view(&self, peer: PeerId) -> WireView {
        let buddy = self.watcher.buddy(peer);
        WireView {
            peer,
            liveness: buddy.and_then(|b| b.liveness),
            status: buddy.and_then(|b| b.status),
            missed: buddy.map_or(0, |b| b.missed),
            hears: buddy.is_some_and(pams_shared::presence::Buddy::hears),
            heard: buddy.is_some_and(pams_shared::presence::Buddy::is_heard),
            dropped: buddy.is_none(),
        }
    }
}
