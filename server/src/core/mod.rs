//! The engine of a home: sessions of agents, the directory of peers, their ledgers, and every decision about them.
//!
//! Drain rule: after each [`Pams::handle`], call [`Pams::poll`] until `None`; then wait until [`Pams::deadline`] or the next
//! input. It has no clock, socket, task, log or metric of its own: the shell owns connections and HTTP, stamps what comes in
//! and does what comes out. Read-only questions are in `query`; they change nothing.
//!
//! What it decides, in short:
//! - An entry is ordered by epoch, attach, version; older news loses and is counted.
//! - A batch is applied once; a replay is acknowledged and nothing else.
//! - A peer is overdue after a missed report, gone after `gone_after` of silence, whatever became of its connection, and left
//!   only by its own goodbye.
//! - What a dead epoch had in flight is booked as unknown once it is known to be dead: the next epoch attaches, it says
//!   goodbye, or its entry is forgotten. Not when it is gone: it may only be cut off, and closes its transactions meanwhile.
//!   Booked too early, each keeps a false outcome for ever: to set it off counts it once, but as unknown, for no total may
//!   fall. So after a crash, what was in flight shows as such until the next epoch, or until the entry is forgotten.

mod books;
pub mod cluster;
pub mod config;
mod directory;
mod ears;
mod forgotten;
mod io;
mod known;
mod notice;
pub mod probe;
mod query;
mod roster;
mod scrape;
mod session;
pub mod share;
mod subscriptions;
pub mod view;
mod witness;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use pams_shared::{frame::close, id::PeerId, moment::Moment, presence::Publisher, record::Reason, status::Liveness};

use self::{
    books::Totals, cluster::Cluster, directory::Directory, forgotten::Forgotten, probe::Probes, roster::Rosters,
    subscriptions::LastWord, witness::Witnesses,
};
pub use self::{
    books::{OTHER, TOTAL_MAX},
    cluster::Myself,
    config::{PamsConfig, PamsConfigError},
    io::{Due, Forgot, Input, Output, Push, SessionId},
    notice::{Event, Notice, What},
    roster::{MEMBERSHIPS_MAX, RosterSummary},
    scrape::{Scrape, Unlisted},
    subscriptions::Notifies,
};

/// Rows looked at by one call of `handle`: when a whole network goes silent, reports of the others still get their turn.
const LOOKS_MAX: usize = 256;
/// Outputs waiting for `poll`. Beyond it, records, events and notices are shed and counted; answers to sessions are not: one
/// input causes two of them at most.
const OUTPUTS_MAX: usize = 8_192;
/// A wall clock this far off is told of.
const CLOCK_OFFSET_MAX_MS: u64 = 60_000;

/// The engine.
#[derive(Debug)]
pub struct Pams {
    config: PamsConfig,
    started: Moment,
    draining: bool,
    /// Since when we run without a stall; silence before it proves nothing.
    awake: Moment,
    /// When anybody was heard last.
    ears: Moment,
    sessions: BTreeMap<SessionId, PeerId>,
    directory: Directory,
    forgotten: Forgotten,
    witnesses: Witnesses,
    rosters: Rosters,
    /// When rosters were last worked on.
    worked: Moment,
    publisher: Publisher,
    notifies: Notifies,
    /// Of peers without an entry that have subscribers.
    last_words: BTreeMap<PeerId, LastWord>,
    totals: Totals,
    cluster: Cluster,
    probes: Probes,
    events: VecDeque<Event>,
    outputs: VecDeque<Output>,
    records: u64,
    records_shed: u64,
    outputs_shed: u64,
}

impl Pams {
    /// A server that knows of no other. `config` should have passed [`PamsConfig::check`].
    pub fn new(config: PamsConfig, now: Moment) -> Self {
        Self::among(Myself::alone(), config, now)
    }

    /// One of several servers, or of one that may become several. `config` should have passed [`PamsConfig::check`].
    pub fn among(myself: Myself, config: PamsConfig, now: Moment) -> Self {
        // Not the sequence that membership draws from.
        let mut seed = myself.seed;
        seed[0] ^= 1;
        Self {
            probes: Probes::new(seed),
            cluster: Cluster::new(myself, &config, now),
            totals: Totals::new(config.kinds_max),
            rosters: Rosters::new(config.watchers),
            worked: now,
            publisher: Publisher::new(subscriptions::bounds(&config)),
            notifies: Notifies::default(),
            last_words: BTreeMap::new(),
            config,
            started: now,
            draining: false,
            awake: now,
            ears: now,
            sessions: BTreeMap::new(),
            directory: Directory::default(),
            forgotten: Forgotten::default(),
            witnesses: Witnesses::default(),
            events: VecDeque::new(),
            outputs: VecDeque::new(),
            records: 0,
            records_shed: 0,
            outputs_shed: 0,
        }
    }

    /// Takes an input that happened at `now`, then whatever is due by then: what was heard counts before silence does.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Opened { session, peer, hello, observed, same_host } => {
                self.opened(now, session, peer, *hello, (observed, same_host));
            }
            Input::Report { session, report } => self.report(now, session, report),
            Input::Heard { session } => {
                self.speaker(now, session);
            }
            Input::Fetch { session, peer } => self.fetch(now, session, peer),
            Input::Subscribe { session, peer } => self.subscribe(now, session, peer),
            Input::Unsubscribe { session, peer } => self.unsubscribe(now, session, peer),
            Input::NotifyAck { session, ack } => self.notify_acked(now, session, ack),
            Input::Checked { session, checked } => self.checked(now, session, *checked),
            Input::Probe { probe, peer, within, caller } => self.probe(now, probe, peer, within, caller),
            Input::Goodbye { session } => self.goodbye(now, session),
            Input::Closed { session } => self.closed(now, session),
            Input::Forget { peer, force } => self.forget(now, peer, force),
            Input::Reconfigured(config) => self.reconfigured(now, *config),
            Input::Stalled { late } => self.stalled(now, late),
            Input::Sibling(input) => {
                self.hears_sibling(now, &input);
                self.sibling(now, input);
            }
            Input::Drain => self.draining = true,
            Input::Evacuate => self.begin_evacuation(now),
            Input::Tick => {}
        }
        self.look(now);
        self.end_probes(now);
        self.tick_siblings(now);
        self.take_news(now);
        self.work_rosters(now);
        self.push(now);
        self.share_rows(now);
        self.tell_agents(now);
        self.tell_lost(now);
        self.send_siblings();
    }

    /// What is to be done next, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` with [`Input::Tick`] if nothing else happens, and why. It may come to nothing: timers are not
    /// moved by what is heard meanwhile.
    pub fn deadline(&self) -> Option<(Moment, Due)> {
        let look = self.directory.next_look().map(|(at, peer)| match self.directory.row(peer).map(|r| r.liveness) {
            Some(Liveness::Overdue) => (at, Due::Gone(peer)),
            _ => (at, Due::Overdue(peer)),
        });
        let departure = self.directory.next_departure().map(|(at, peer)| (at, Due::Forget(peer)));
        let roster = self.roster_due().map(|(at, _)| (at, Due::Roster));
        let notify = self.publisher.deadline().map(|at| (at, Due::Notify));
        let sibling = self.cluster.deadline().map(|at| (at, Due::Sibling));
        let probe = self.probes.deadline().map(|at| (at, Due::Probe));
        [look, departure, roster, notify, sibling, probe].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Judges the rows that are due, and forgets those kept long enough.
    fn look(&mut self, now: Moment) {
        if let Some((at, _)) = self.directory.next_look()
            && now.since(at) > self.config.pace
            && self.awake < now
        {
            self.stalled(now, now.since(at));
        }
        for _ in 0..LOOKS_MAX {
            match self.directory.next_look() {
                Some((at, peer)) if at <= now => self.judge(now, peer),
                _ => break,
            }
        }
        for _ in 0..LOOKS_MAX {
            match self.directory.next_departure() {
                Some((at, peer)) if at <= now => self.remove(now, peer, close::DONE),
                _ => break,
            }
        }
    }

    /// Takes other bounds and times. Peers hear of another pace with the next acknowledgement, which may be an old pace away:
    /// until then nobody is judged by the new one. Entries that departed before are kept as long as they were to be, and
    /// subscriptions beyond a bound stay until they end.
    fn reconfigured(&mut self, now: Moment, config: PamsConfig) {
        if config.pace != self.config.pace
            || config.slack != self.config.slack
            || config.gone_after != self.config.gone_after
        {
            self.awake = self.awake.max(now + self.config.pace);
            for peer in self.directory.here() {
                self.directory.look_again(peer, now);
            }
        }
        self.publisher.bound(subscriptions::bounds(&config));
        self.rosters.watch_by(config.watchers);
        self.config = config;
        while self.directory.departed() > self.config.departed_max && self.evict(now) {}
        while let Some(peer) = self.forgotten.trim(self.config.forgotten_max) {
            self.notice(Notice::ForgottenForGood { peer });
        }
    }

    /// Silence before now says nothing.
    fn stalled(&mut self, now: Moment, late: Duration) {
        self.awake = self.awake.max(now);
        self.cluster.stalled(now, late);
        self.probes.stalled(late);
        self.publisher.doubt(now);
        self.notice(Notice::Stalled { late });
    }

    /// Concludes from a peer's silence.
    fn judge(&mut self, now: Moment, peer: PeerId) {
        let Some(row) = self.directory.row(peer) else { return };
        let heard = row.heard.max(self.awake);
        let (overdue, gone) = (heard + self.config.overdue_after(), heard + self.config.gone_after);
        match row.liveness {
            // In short steps, for it may end at any time.
            _ if now >= gone && self.is_deaf(now) => self.directory.look_again(peer, now + self.config.pace),
            _ if now >= gone => self.depart(now, peer, Liveness::Gone, What::Gone),
            Liveness::Live if now >= overdue => self.directory.judge(peer, Liveness::Overdue, now, gone),
            Liveness::Live => self.directory.look_again(peer, overdue),
            _ => self.directory.look_again(peer, gone),
        }
    }

    /// A sign of life. One that left stays so: only a new session tells that it is back.
    fn heard(&mut self, now: Moment, peer: PeerId) {
        self.hears(now);
        let overdue_after = self.config.overdue_after();
        let Some(row) = self.directory.row_mut(peer) else { return };
        row.heard = now;
        match row.liveness {
            Liveness::Live | Liveness::Left => {}
            Liveness::Overdue => self.directory.judge(peer, Liveness::Live, now, now + overdue_after),
            Liveness::Gone => {
                self.directory.judge(peer, Liveness::Live, now, now + overdue_after);
                self.place(now, peer);
                self.event(now, peer, What::Returned);
            }
        }
    }

    /// Takes note that a peer is gone or left, and keeps the bound of those.
    fn depart(&mut self, now: Moment, peer: PeerId, liveness: Liveness, what: What) {
        self.directory.judge(peer, liveness, now, now + self.config.forget_after);
        self.place(now, peer);
        self.event(now, peer, what);
        while self.directory.departed() > self.config.departed_max && self.evict(now) {}
    }

    /// Forgets the longest departed peer; false if there is none.
    fn evict(&mut self, now: Moment) -> bool {
        let Some((_, oldest)) = self.directory.next_departure() else { return false };
        self.notice(Notice::Evicted { peer: oldest });
        self.remove(now, oldest, close::DONE);
        true
    }

    fn forget(&mut self, now: Moment, peer: PeerId, force: bool) {
        let answer = match self.directory.row(peer) {
            None => self.forget_foreign(now, peer, force),
            Some(row) if !row.departed() && !force => Forgot::StillHere,
            Some(_) => {
                self.remove(now, peer, close::REJECTED);
                Forgot::Done
            }
        };
        self.outputs.push_back(Output::Forgot { peer, answer });
    }

    /// Another server is its home: it hears of it, and so does everybody else.
    fn forget_foreign(&mut self, now: Moment, peer: PeerId, force: bool) -> Forgot {
        match self.cluster.foreign(now, peer) {
            None => Forgot::Unknown,
            Some(foreign) if !force && matches!(foreign.lot.liveness, Liveness::Live | Liveness::Overdue) => {
                Forgot::StillHere
            }
            Some(_) => {
                self.bury(now, peer, true);
                Forgot::Done
            }
        }
    }

    /// Removes an entry and all that belongs to it, but for its trace; its counts stay in the totals. A session that is
    /// still open is closed with `code`.
    fn remove(&mut self, now: Moment, peer: PeerId, code: u32) {
        self.abandon(peer, Reason::Crash);
        self.event(now, peer, What::Forgotten);
        self.witnesses.drop_watcher(peer);
        self.subscriber_left(peer);
        let Some(row) = self.directory.remove(peer) else { return };
        self.last_word(peer, &row);
        self.place(now, peer);
        if let Some(session) = row.session {
            self.sessions.remove(&session);
            self.outputs.push_back(Output::Close { session, code });
        }
        self.bury(now, peer, code == close::REJECTED);
        if let Some(oldest) = self.forgotten.keep(peer, *row, self.config.forgotten_max) {
            self.notice(Notice::ForgottenForGood { peer: oldest });
        }
    }

    /// Books what the peer's present epoch has in flight as unknown: nobody is left to close it.
    fn abandon(&mut self, peer: PeerId, reason: Reason) {
        let Some(row) = self.directory.row_mut(peer) else { return };
        let closed = row.books.close(&mut self.totals);
        if !closed.is_empty() {
            self.cluster.touched.insert(peer);
        }
        for (kind, count) in closed {
            self.tell(Output::Abandoned { peer, kind, count, reason });
        }
    }

    fn event(&mut self, now: Moment, peer: PeerId, what: What) {
        let Some(row) = self.directory.row(peer) else { return };
        let event = Event { at_ms: now.wall_ms(), peer, name: row.profile.name.clone(), epoch: row.epoch, what };
        while self.events.len() >= self.config.events_max.max(1) {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        self.tell(Output::Event(event));
    }

    fn notice(&mut self, notice: Notice) {
        self.tell(Output::Notice(notice));
    }

    /// Queues what is told; shed and counted if nobody polls.
    fn tell(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        } else {
            self.outputs_shed += 1;
        }
    }
}
