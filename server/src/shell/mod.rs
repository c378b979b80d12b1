//! The server's shell: clocks, sockets and tasks around the core. The loop gives the core what happened, one thing at a
//! time, and does what it asks for; what takes long (handshakes, reading and writing frames, certificates, HTTP) are tasks
//! of their own, which talk to the loop over bounded channels.
#![allow(clippy::disallowed_methods)] // This is the shell: what the ban keeps out of the core lives here.

mod agents;
mod door;
mod enrol;
#[cfg(feature = "feed")]
pub mod feed;
pub mod handle;
pub mod http;
mod join;
mod newcomers;
mod outbox;
mod probes;
mod queue;
pub mod reload;
mod siblings;
mod start;
mod told;

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pams_shared::{
    clock::Clock,
    frame::{Entry, Rejected, SubscribeAck, Terms, close},
    id::PeerId,
    identity::IdentityError,
    moment::Moment,
    pulse::{BEAT, Gap, Pulse},
    record::Record,
    status::Liveness,
    supervisor::Supervisor,
};
use quinn::{Connection, Endpoint};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, sleep_until, timeout},
};

use self::{
    agents::Event,
    enrol::Registrar,
    handle::{Forgotten, Request},
    outbox::Outbox,
    probes::Probes,
    siblings::{Siblings, book::Keeper},
    told::Told,
};
pub use self::{
    door::Limits,
    start::{Options, Ready, RunError, Running, StartError, TellReady, run, start},
};
use crate::{
    core::{
        Forgot, Input, Output, Pams, SessionId,
        cluster::io::{SiblingInput, SiblingOutput},
    },
    metrics::Metrics,
};

/// How often metrics are tidied.
const UPKEEP: Duration = Duration::from_secs(5);
/// How often the ages of what others share are looked at. Idle servers are heard each second: no part of it, so that all
/// ages are seen alike.
const AGES: Duration = Duration::from_millis(700);
/// Between heartbeats that nobody waits for.
const NO_HEARTBEAT: Duration = Duration::from_secs(86_400);
/// How long the word to the other servers that this one leaves may take.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(500);
/// How long the last packets to the agents may take at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The loop and all it owns.
struct Shell {
    core: Pams,
    endpoint: Endpoint,
    registrar: Registrar,
    metrics: Arc<Metrics>,
    events: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<Request>,
    /// To close them and to tell the agents; reading and writing is their tasks' business.
    connections: HashMap<SessionId, Line>,
    asker: Option<Asker>,
    /// On which session the input at hand came.
    on: Option<SessionId>,
    told: Told,
    forgot: Option<Forgot>,
    /// The agents have gone: the server ends. Whoever started it looks at it too.
    evacuated: Arc<AtomicBool>,
    unbinding: JoinSet<Unbound>,
    /// Tasks that let ids in again.
    unbanning: JoinSet<()>,
    siblings: Siblings,
    book: Keeper,
    probes: Probes,
    supervisor: Arc<Supervisor>,
    pulse: Pulse,
    #[cfg(feature = "feed")]
    tap: Option<Box<dyn feed::Tap>>,
}

/// The loop's end of a connection.
struct Line {
    connection: Connection,
    outbox: Arc<Outbox>,
}

/// Who waits for the answer to the input at hand. The core gives it in the same drain, or never.
enum Asker {
    Hello(oneshot::Sender<Result<Terms, Rejected>>),
    Fetch(oneshot::Sender<Option<Box<Entry>>>),
    Subscribe(oneshot::Sender<SubscribeAck>),
}

/// The end of an unbinding, for whoever wanted the peer forgotten.
struct Unbound {
    peer: PeerId,
    /// What had come of its entry before.
    entry: Forgot,
    result: Result<bool, IdentityError>,
    answer: oneshot::Sender<Result<Forgotten, IdentityError>>,
}

impl Shell {
    fn new(
        core: Pams,
        endpoint: Endpoint,
        (registrar, metrics): (Registrar, Arc<Metrics>),
        (events, requests): (mpsc::Receiver<Event>, mpsc::Receiver<Request>),
        (siblings, book): (Siblings, Keeper),
        supervisor: Arc<Supervisor>,
    ) -> Self {
        Self {
            core,
            siblings,
            book,
            probes: Probes::default(),
            endpoint,
            registrar,
            metrics,
            events,
            requests,
            connections: HashMap::new(),
            asker: None,
            on: None,
            told: Told::default(),
            forgot: None,
            evacuated: Arc::default(),
            unbinding: JoinSet::new(),
            unbanning: JoinSet::new(),
            supervisor,
            pulse: Pulse::new(Clock.now(), Clock.suspended()),
            #[cfg(feature = "feed")]
            tap: None,
        }
    }

    /// Runs until `shutdown`, then closes all connections.
    async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ages = tokio::time::interval(AGES);
        ages.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Sent by the loop itself, so that one that hangs sends none.
        let mut heartbeat = tokio::time::interval(self.supervisor.heartbeat_every().unwrap_or(NO_HEARTBEAT));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased; // the rare ones first: under load there is always one more event
                () = &mut shutdown => break,
                _ = beat.tick() => {
                    self.awake();
                }
                _ = heartbeat.tick() => self.supervisor.heartbeat(),
                _ = upkeep.tick() => self.upkeep(),
                _ = ages.tick() => self.core.ages(Clock.now()).for_each(|age| self.metrics.aged(age)),
                Some(ended) = self.unbinding.join_next() => self.unbound(ended),
                Some(_) = self.unbanning.join_next() => {}
                () = self.siblings.panicked() => self.panicked(),
                Some(request) = self.requests.recv() => self.request(request),
                Some(event) = self.events.recv() => self.event(event),
                // Last, for each event does what is due as well.
                () = sleep_until(deadline) => self.handle(Input::Tick),
            }
            if self.evacuated.load(Ordering::Relaxed) {
                break;
            }
        }
        self.leave().await;
    }

    fn deadline(&self) -> tokio::time::Instant {
        let year = || Clock.now() + Duration::from_secs(365 * 86_400);
        Clock.instant(self.core.deadline().map_or_else(year, |(moment, _)| moment))
    }

    fn handle(&mut self, input: Input) {
        let now = self.awake();
        #[cfg(feature = "feed")]
        let mut tap = self.tap.take_if(|tap| feed::comes(&mut **tap, &input));
        self.core.handle(now, input);
        #[cfg(feature = "feed")]
        if let Some(mut tap) = tap.take() {
            tap.applied(&self.core);
            self.tap = Some(tap);
        }
        self.drain();
    }

    /// Whether we have run since the last look, and the time now; to be asked before anything is judged.
    fn awake(&mut self) -> Moment {
        let now = Clock.now();
        if let Some(Gap { stopped, suspended }) = self.pulse.look(now, || Clock.suspended()) {
            self.core.handle(now, Input::Stalled { late: stopped + suspended });
            self.drain();
        }
        now
    }

    fn upkeep(&self) {
        self.metrics.upkeep();
        if self.supervisor.is_there() {
            let counts = self.core.summary(Clock.now());
            let live = counts.peers.iter().find(|(l, _)| *l == Liveness::Live).map_or(0, |(_, n)| *n);
            self.supervisor.status(&format!("{live} peers live, {} connected", counts.sessions));
        }
    }

    fn event(&mut self, event: Event) {
        let (input, asker) = match event {
            Event::Report { session, report } => (Input::Report { session, report }, None),
            Event::Fetch { session, peer, answer } => (Input::Fetch { session, peer }, Some(Asker::Fetch(answer))),
            Event::Subscribe { session, peer, answer } => {
                (Input::Subscribe { session, peer }, Some(Asker::Subscribe(answer)))
            }
            Event::Unsubscribe { session, peer } => (Input::Unsubscribe { session, peer }, None),
            Event::NotifyAck { session, ack } => (Input::NotifyAck { session, ack }, None),
            Event::Heard { session } => (Input::Heard { session }, None),
            Event::Checked { session, checked } => (Input::Checked { session, checked }, None),
            Event::Goodbye { session } => (Input::Goodbye { session }, None),
            Event::Opened { session, peer, hello, observed, same_host, connection, outbox, answer } => {
                self.connections.insert(session, Line { connection, outbox });
                (Input::Opened { session, peer, hello, observed, same_host }, Some(Asker::Hello(answer)))
            }
            Event::Closed { session } => {
                self.connections.remove(&session);
                self.told.forget(session);
                (Input::Closed { session }, None)
            }
            Event::Sibling(input) => {
                self.siblings.saw(&input);
                (Input::Sibling(input), None)
            }
            Event::Linked { input, link, connection } => {
                self.siblings.linked(link, connection);
                (Input::Sibling(input), None)
            }
            Event::Followed { input, stream, feed } => {
                self.siblings.followed(stream, feed);
                (Input::Sibling(input), None)
            }
            Event::Probe { link, what, answer } => (self.probes.server(link, what, answer), None),
            #[cfg(feature = "feed")]
            Event::Fed { inputs, answer } => {
                inputs.into_iter().for_each(|input| self.handle(input));
                let _ = answer.send(());
                return;
            }
            Event::Panicked => return self.panicked(),
        };
        self.on = match &input {
            Input::Report { session, .. } => Some(*session),
            _ => None,
        };
        self.asker = asker;
        self.handle(input);
        self.on = None;
        // Unanswered: the session is over, and its task sees that nobody will answer.
        self.asker = None;
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Drain { answer } => {
                self.handle(Input::Evacuate);
                let _ = answer.send(());
            }
            Request::Probe { peer, within, caller, answer } => {
                let input = self.probes.people(peer, within, caller, answer);
                self.handle(input);
            }
            Request::Look(look) => look(&self.core, Clock.now()),
            Request::Reconfigure { config, answer } => {
                self.metrics.set_per_peer_max(config.metrics.per_peer_max);
                self.handle(Input::Reconfigured(Box::new(config.core())));
                let _ = answer.send(());
            }
            Request::Forget { peer, force: true, answer } => self.unbind(peer, Forgot::Unknown, answer),
            Request::Forget { peer, force: false, answer } => match self.forget(peer, false) {
                entry @ Forgot::StillHere => {
                    // Whoever asked may be gone.
                    let _ = answer.send(Ok(Forgotten { entry, unbound: false }));
                }
                entry => self.unbind(peer, entry, answer),
            },
        }
    }

    fn forget(&mut self, peer: PeerId, force: bool) -> Forgot {
        self.handle(Input::Forget { peer, force });
        self.forgot.take().unwrap_or(Forgot::Unknown)
    }

    /// Frees the id for another key, off the loop, since that writes a file.
    fn unbind(&mut self, peer: PeerId, entry: Forgot, answer: oneshot::Sender<Result<Forgotten, IdentityError>>) {
        let registrar = self.registrar.clone();
        self.unbinding.spawn(async move {
            let result = registrar.ban(peer).await;
            Unbound { peer, entry, result, answer }
        });
    }

    /// From now on the peer is turned away and gets no certificate, so that whoever is forgotten stays so: one that is here
    /// by force, or one that came back meanwhile.
    fn unbound(&mut self, ended: Result<Unbound, JoinError>) {
        let Ok(Unbound { peer, entry, result, answer }) = ended else {
            self.metrics.panicked();
            return tracing::error!("a task of the server panicked; the peer it was to forget can come back");
        };
        let result = result.map(|unbound| {
            let entry = match self.forget(peer, true) {
                Forgot::Done => Forgot::Done,
                _ => entry,
            };
            tracing::info!(%peer, ?entry, unbound, "asked to forget a peer");
            Forgotten { entry, unbound }
        });
        if let Err(error) = &result {
            tracing::error!(%peer, %error, "the id of a peer that is to be forgotten is still bound to its key");
        }
        let _ = answer.send(result);
    }

    /// Does all that the core asks for.
    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Accept { terms, .. } => self.greet(Ok(terms)),
                Output::Reject { session, rejected } => {
                    // Its task closes it when the answer is delivered.
                    self.connections.remove(&session);
                    self.greet(Err(rejected));
                }
                Output::Close { session, code } => {
                    if let Some(line) = self.connections.remove(&session) {
                        line.connection.close(code.into(), said(code));
                    }
                }
                Output::Ack { session, ack } => {
                    if let Some(line) = self.connections.get(&session) {
                        line.outbox.ack(ack);
                    }
                }
                Output::Sibling(output) => self.sibling(output),
                Output::Held { took } => self.metrics.replicated(took),
                Output::Push { session, push } => {
                    if let Some(line) = self.connections.get(&session) {
                        line.outbox.put(push);
                    }
                }
                Output::Fetched { entry, .. } => {
                    if let Some(Asker::Fetch(answer)) = self.asker.take() {
                        let _ = answer.send(entry);
                    }
                }
                Output::Subscribed { ack, .. } => {
                    if let Some(Asker::Subscribe(answer)) = self.asker.take() {
                        let _ = answer.send(ack);
                    }
                }
                Output::Probed { probe, correlator, took, answer } => {
                    self.probes.answered(&self.metrics, probe, correlator, took, answer);
                }
                Output::Evacuated { left } => {
                    tracing::info!(left, "all agents have gone to other servers, but for those left");
                    self.evacuated.store(true, Ordering::Relaxed);
                }
                Output::NotifyAcked { took } => self.metrics.notify_acked(took),
                Output::Forgot { answer, .. } => self.forgot = Some(answer),
                Output::Record { peer, record } => self.consume(peer, &record),
                Output::Abandoned { peer, kind, count, reason } => {
                    self.metrics.abandoned(&kind, count, reason);
                    tracing::info!(%peer, %kind, count, reason = reason.as_str(), "transactions booked as unknown");
                }
                Output::Event(event) => {
                    self.metrics.event(&event);
                    told::log_event(&event);
                }
                Output::Notice(notice) => {
                    self.metrics.notice(&notice);
                    self.told.notice(self.on, &notice);
                }
            }
        }
    }

    fn sibling(&mut self, output: SiblingOutput) {
        match self.siblings.act(output) {
            Some(SiblingOutput::Members(members)) => self.book.write(members),
            Some(SiblingOutput::Banned { peer }) => {
                let (answer, _) = oneshot::channel();
                self.unbind(peer, Forgot::Unknown, answer);
            }
            Some(SiblingOutput::Unbanned { peer }) => {
                let registrar = self.registrar.clone();
                self.unbanning.spawn(async move {
                    if let Err(error) = registrar.unban(peer).await {
                        tracing::error!(%peer, %error, "a peer that has joined anew is still turned away here");
                    }
                });
            }
            _ => {}
        }
    }

    fn greet(&mut self, verdict: Result<Terms, Rejected>) {
        if let Some(Asker::Hello(answer)) = self.asker.take() {
            let _ = answer.send(verdict);
        }
    }

    fn consume(&self, peer: PeerId, record: &Record) {
        self.metrics.record(record);
        tracing::debug!(%peer, kind = %record.kind, target_id = %record.target, status = record.outcome.as_str(), correlator = %record.correlator, "transaction");
    }

    /// Some connection's task did not come to its end, so nobody told which session is over.
    fn panicked(&mut self) {
        self.metrics.panicked();
        tracing::error!("a connection's task panicked; the connection is lost, the server goes on");
        let lost: Vec<_> =
            self.connections.iter().filter(|(_, l)| l.connection.close_reason().is_some()).map(|(s, _)| *s).collect();
        for session in lost {
            self.event(Event::Closed { session });
        }
    }

    /// Agents see their connections closed, and try again later. What they had reported without an answer they keep.
    async fn leave(mut self) {
        self.handle(Input::Drain);
        self.handle(Input::Sibling(SiblingInput::Leave));
        if timeout(FAREWELL_PATIENCE, self.siblings.flushed()).await.is_err() {
            tracing::warn!("not all other servers may have been told that this one leaves; they will take it for down");
        }
        self.endpoint.close(close::GOODBYE.into(), said(close::GOODBYE));
        while let Some(ended) = self.unbinding.join_next().await {
            self.unbound(ended);
        }
        // Connections that wait for the loop see that it has ended.
        drop((self.events, self.requests));
        if timeout(CLOSE_PATIENCE, self.endpoint.wait_idle()).await.is_err() {
            tracing::warn!("not all agents may have seen that the server stops");
        }
    }
}

/// What the other side reads beside the code.
fn said(code: u32) -> &'static [u8] {
    match code {
        close::GOODBYE => b"the server stops",
        close::SUPERSEDED => b"this peer has opened a newer connection",
        close::REJECTED => b"this peer was forgotten; it has to join again with a new token",
        _ => b"",
    }
}
