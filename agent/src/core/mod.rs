//! The agent's engine: watches buddies, answers pings, keeps the ledger and hands batches to the home.
//!
//! Drain rule: after each [`Agent::handle`] call [`Agent::poll`] until it gives `None`; then wait until [`Agent::deadline`]
//! or the next input. No clock, no socket, no task, no randomness of its own: a run is a function of its seed and inputs.

mod batcher;
mod checks;
pub mod choice;
mod config;
mod home;
mod io;
mod peers;
mod publish;
mod roster;
mod subscribe;
mod upheaval;
mod view;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use pams_shared::{
    frame::{Ping, Profile},
    id::{Correlator, Minter, PeerId},
    moment::Moment,
    presence::{Change, Presentity, Publisher, Subscriber, Watcher},
    record::{Kind, Ledger, Outcome, Reason, Record, Why},
    status::Presence,
    transaction::Pool,
};

use batcher::Batcher;
pub use checks::CHECKS_MAX;
use checks::Checks;
pub use config::{AgentConfig, BuddyConfig};
use home::Home;
pub use io::{Command, Doubter, HomeInput, Input, LinkId, Notice, Output, Trying};
pub use roster::CONTACTS_MAX;
use roster::{Reach, Roster, Wanter, Word};
pub use subscribe::{SUBSCRIPTIONS_MAX, Teller, Told};
pub use upheaval::{Move, Sleep};
pub use view::{BuddyView, HomeView, LedgerView, LegView, Origin, SubscriberView, SubscriptionView, View};

/// Why the core wants to be woken: for logs and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Ping,
    Expire,
    Answer,
    Notify,
    Subscribe,
    Report,
}

/// What a transaction in the pool is for.
#[derive(Debug)]
enum Purpose {
    Poll { opened: Moment },
    Asked { token: u64 },
    Check { question: u64 },
    Notify,
    Report,
}

#[derive(Debug)]
pub struct Agent {
    me: PeerId,
    epoch: u64,
    minter: Minter,
    pool: Pool<Purpose>,
    watcher: Watcher,
    patience: Duration,
    presentity: Presentity,
    roster: Roster,
    batcher: Batcher,
    profile: Profile,
    home: Home,
    checks: Checks,
    publisher: Publisher,
    subscriber: Subscriber,
    /// The last good notify to each subscriber.
    notified: BTreeMap<PeerId, Record>,
    last: BTreeMap<PeerId, Record>,
    /// When an offset of whose clock was told, and which.
    clocks_told: BTreeMap<uuid::Uuid, (Moment, i64)>,
    /// The last time that it did not run.
    sleep: Option<Sleep>,
    moved: Option<Move>,
    changes: Vec<Change>,
    out: VecDeque<Output>,
    draining: bool,
}

impl Agent {
    pub fn new(config: AgentConfig, me: PeerId, epoch: u64, seed: [u8; 32], now: Moment) -> Self {
        let mut agent = Self {
            me,
            epoch,
            minter: Minter::new(seed),
            pool: Pool::new(config.pool_max, Kind::BUILT_IN),
            watcher: Watcher::new(config.watcher),
            patience: config.watcher.patience,
            presentity: Presentity::new(config.presence, config.answer_after),
            roster: Roster::default(),
            batcher: Batcher::new(config.backlog_max),
            profile: config.profile,
            home: Home::default(),
            checks: Checks::default(),
            publisher: Publisher::new(publish::bounds()),
            subscriber: Subscriber::new(SUBSCRIPTIONS_MAX),
            notified: BTreeMap::new(),
            last: Default::default(),
            clocks_told: Default::default(),
            sleep: None,
            moved: None,
            changes: Vec::new(),
            out: VecDeque::new(),
            draining: false,
        };
        for buddy in config.buddies {
            let peer = buddy.peer;
            if peer == me {
                agent.notice(Notice::RosterNamesSelf);
            } else if agent.watcher.watch(now, peer, &mut agent.minter) {
                agent.roster.configure(peer, Word { name: buddy.name, addresses: buddy.addresses });
            }
        }
        config.subscribe.into_iter().for_each(|peer| agent.want(now, peer, Wanter::Config));
        agent
    }

    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Tick => {}
            // These only put a deadline off. Others that have left may not have been told of yet, and that we did not run may be
            // noticed only with the next input.
            Input::Sent { correlator, at } => return self.left(correlator, at),
            Input::SentUnstamped { correlator } => {
                self.pool.left(correlator, now);
                return;
            }
            Input::Ping { from, ping, arrived } => self.ping_came(now, from, ping, arrived),
            Input::Pong { from, pong, arrived, path_rtt_ns } => self.pong_came(now, from, pong, arrived, path_rtt_ns),
            Input::LinkUp { peer, link, epoch, clock_offset_ms } => {
                self.link_up(now, peer, link, epoch, clock_offset_ms);
            }
            Input::LinkDown { peer, link, why, restarted } => self.link_down(now, peer, link, why, restarted),
            Input::DialFailed { peer, why } => self.unreachable(now, peer, why),
            Input::Goodbye { peer } => {
                self.watcher.left(now, peer, &mut self.changes);
                self.subscriber_left(now, peer);
            }
            Input::Subscribe { from, peer, question } => self.asked_to_tell(now, from, peer, question),
            Input::Unsubscribe { from } => self.asked_to_be_quiet(now, from),
            Input::Subscribed { ask, answer } => self.subscribed(now, ask, answer),
            Input::Notify { from, notify, arrived } => self.notified(now, from, notify, arrived),
            Input::NotifyAck { from, ack, arrived } => self.notify_acked(now, from, ack, arrived),
            Input::Resolved { peer, found } => self.resolved(now, peer, found),
            Input::FrameRejected { from, label } => self.notice(Notice::FrameRejected { from, label }),
            Input::Slept { stopped, suspended } => self.slept(now, stopped, suspended),
            Input::Moved { addresses } => self.moved(now, addresses),
            Input::Home(input) => self.home(now, input),
            Input::Command(command) => self.command(now, command),
        }
        self.turn(now);
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The next moment at which something is to be done, and what.
    pub fn deadline(&self) -> Option<(Moment, Due)> {
        let polls = if self.draining { None } else { self.watcher.deadline() };
        [
            polls.map(|m| (m, Due::Ping)),
            self.pool.deadline().map(|m| (m, Due::Expire)),
            self.checks_deadline().map(|m| (m, Due::Expire)),
            self.presentity.deadline().map(|m| (m, Due::Answer)),
            self.publisher.deadline().map(|m| (m, Due::Notify)),
            self.subscriber.deadline().map(|m| (m, Due::Subscribe)),
            self.batcher.deadline().map(|m| (m, Due::Report)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub fn presence(&self) -> &Presence {
        self.presentity.presence()
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Everything for the home is acknowledged; after a shutdown, the moment to go.
    pub fn is_settled(&self) -> bool {
        self.batcher.is_settled()
    }

    pub fn is_home_up(&self) -> bool {
        self.home.connected
    }

    /// The ledger of each kind, for the metrics.
    pub fn ledgers(&self) -> Vec<(Kind, Ledger)> {
        self.pool.ledgers()
    }

    // Commands.

    fn command(&mut self, now: Moment, command: Command) {
        match command {
            Command::Publish { status, note } => {
                if let Some(presence) = self.presentity.publish(now, status, note.as_deref()) {
                    let presence = presence.clone();
                    self.batcher.change(presence.clone());
                    self.publisher.changed(now, self.me);
                    self.out.push_back(Output::Published(presence));
                }
            }
            Command::Ping { peer, token } => self.ping(now, peer, Purpose::Asked { token }),
            Command::Reconfigure(config) => self.reconfigure(now, *config),
            Command::Subscribe { peer } => self.want(now, peer, Wanter::Command),
            Command::Unsubscribe { peer } => self.unsubscribe(now, peer),
            Command::Shutdown => {
                self.draining = true;
                while let Some((record, purpose)) = self.pool.abandon(Reason::Shutdown) {
                    self.ended(now, record, purpose);
                }
                self.batcher.drain();
                self.report(now);
                self.out.push_back(Output::Goodbye);
            }
        }
    }

    /// Opens a ping and lets it leave.
    fn ping(&mut self, now: Moment, peer: PeerId, purpose: Purpose) {
        let correlator = self.minter.correlator(now);
        let token = if let Purpose::Asked { token } = purpose { Some(token) } else { None };
        if self.pool.open(now, Kind::Ping, peer.0, correlator, self.patience, purpose).is_err() {
            self.notice(Notice::PoolFull { peer });
            if let Some(token) = token {
                let why = Why::new(Reason::NotSent, "too many transactions are in flight; try again in a moment");
                self.out.push_back(Output::Pinged { token, result: Err(why) });
            }
            return;
        }
        self.reach(now, peer, correlator);
    }

    /// Lets a ping that is open leave, now or when there is a connection.
    fn reach(&mut self, now: Moment, peer: PeerId, correlator: Correlator) {
        match self.roster.reach(peer, correlator) {
            Some(Reach::Send) => self.out.push_back(Output::SendPing { peer, ping: Ping { correlator } }),
            Some(Reach::Dial(addresses)) => self.out.push_back(Output::Dial { peer, addresses }),
            Some(Reach::Resolve) => self.out.push_back(Output::Resolve { peer }),
            Some(Reach::Wait) => {}
            None => self.fail(now, correlator, Reason::NotSent),
        }
    }

    // What time brings, and how things end.

    /// Everything that is due now. After each input, so that no deadline is overtaken by news.
    fn turn(&mut self, now: Moment) {
        while let Some((record, purpose)) = self.pool.expire(now) {
            self.roster.release(PeerId(record.target), record.correlator);
            self.ended(now, record, purpose);
        }
        self.end_checks(now);
        while let Some((peer, pong)) = self.presentity.due(now) {
            self.out.push_back(Output::SendPong { peer, pong });
        }
        if !self.draining {
            while let Some(peer) = self.watcher.due(now, &mut self.minter) {
                self.ping(now, peer, Purpose::Poll { opened: now });
            }
        }
        self.push(now);
        self.ask(now);
        self.tell_changes(now);
        self.report(now);
    }

    fn fail(&mut self, now: Moment, correlator: Correlator, reason: Reason) {
        if let Some((record, purpose)) = self.pool.fail(correlator, reason) {
            self.ended(now, record, purpose);
        }
    }

    /// A transaction ended: whoever waits for it is told, and all consumers get the record.
    fn ended(&mut self, now: Moment, record: Record, purpose: Purpose) {
        let peer = PeerId(record.target);
        match purpose {
            Purpose::Poll { opened } => {
                if let Some(reason) = record.reason.filter(|r| r.outcome() != Outcome::Unknown) {
                    self.watcher.missed(now, peer, opened, reason, &mut self.changes);
                }
            }
            Purpose::Asked { token } => {
                let result = match record.reason {
                    None => Ok(record.clone()),
                    Some(reason) => {
                        let known = self.roster.contact(peer).and_then(|c| c.why.clone());
                        let text = known.map_or_else(|| missed_text(reason).to_owned(), |w| w.text);
                        Err(Why::new(reason, text))
                    }
                };
                self.out.push_back(Output::Pinged { token, result });
            }
            Purpose::Check { question } => self.check_ended(question, &record),
            Purpose::Notify | Purpose::Report => {}
        }
        // A report about reports would cause the next one, for ever; their totals travel.
        if record.kind != Kind::Report {
            let shed = self.batcher.record(record.clone());
            if shed > 0 {
                self.notice(Notice::Shed { records: shed });
            }
        }
        self.out.push_back(Output::Record(record));
    }

    fn tell_changes(&mut self, now: Moment) {
        for change in std::mem::take(&mut self.changes) {
            let (peer, notice) = match change {
                Change::Liveness { peer, from, to } => {
                    self.concluded(now, peer, to);
                    (peer, Notice::Liveness { peer, from, to })
                }
                Change::Status { peer, from, to } => (peer, Notice::Status { peer, from, to }),
                Change::Heard { peer } => {
                    self.batcher.view(peer);
                    continue;
                }
            };
            self.batcher.view(peer);
            self.notice(notice);
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.out.push_back(Output::Notice(notice));
    }
}

const fn missed_text(reason: Reason) -> &'static str {
    match reason {
        Reason::NoAnswer => "sent, and no answer came in time: the peer is down, or a packet was lost either way",
        Reason::NotSent => "no connection came about in time: is its agent running, and is the UDP port open?",
        Reason::Cancelled => "given up by the caller",
        Reason::Refused => "the peer turned us away",
        Reason::Certificate => "a certificate was not accepted",
        Reason::Clock => "a certificate was not accepted because one of the clocks is off",
        Reason::Shutdown => "this agent is stopping",
        Reason::Crash => "the agent died while it was in flight",
        Reason::Stalled => {
            "this agent did not run while it was in flight: its host was suspended, or the process stopped"
        }
    }
}

#[cfg(test)]
mod tests;
