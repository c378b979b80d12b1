//! The agent's shell: clocks, sockets and tasks around the core. The loop gives the core what happened, one thing at a time,
//! and does what it asks for; long sequential exchanges (handshakes, the home, HTTP) are tasks of their own.
#![allow(clippy::disallowed_methods)] // This is the shell: what the ban keeps out of the core lives here.

#[cfg(test)]
mod cluster;
mod credentials;
pub mod events;
pub mod handle;
pub mod interfaces;
mod join;
mod journey;
mod keep;
mod link;
pub mod local;
pub mod reload;
mod start;
mod told;
mod uplink;
mod whole;

use std::{
    collections::HashMap,
    future::{Future, poll_fn, ready},
    net::SocketAddr,
    task::Poll,
    time::Duration,
};

use pams_shared::{
    clock::Clock,
    frame::{Entry, Frame, NotifyAck, SubscribeAck, close},
    id::Order,
    moment::Moment,
    presence::{Ask, Path},
    pulse::{BEAT, Pulse},
    record::{Reason, Record, Why},
    socket::Sent,
    status::Liveness,
    supervisor::Supervisor,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, sleep_until, timeout},
};

use crate::{
    consumer::Consumers,
    core::{Agent, Command, HomeInput, Input, Notice, Output},
    metrics::Metrics,
};
use events::Listeners;
use handle::Request;
use link::{GOODBYE, LinkEvent, Links};
pub use start::{Options, Ready, Running, run, start};
use uplink::{UplinkEvent, UplinkRequest};

/// How long the last reports may take to be acknowledged at the end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// How long the closing packets may take to leave. Whoever misses them finds out by itself.
const CLOSE_PATIENCE: Duration = Duration::from_millis(250);
/// When nothing is due.
const NEVER: Moment = Moment::new(u64::MAX, 0);
/// Datagrams handled in a row while others may wait for the loop.
const ROW_MAX: usize = 8;
/// How often metrics are tidied and finished tasks taken away.
const UPKEEP: Duration = Duration::from_secs(5);
/// Between heartbeats that nobody waits for.
const NO_HEARTBEAT: Duration = Duration::from_secs(86_400);

/// The loop and all it owns.
struct Shell {
    core: Agent,
    endpoint: quinn::Endpoint,
    /// Who calls; a task of its own waits for them.
    calls: mpsc::Receiver<quinn::Incoming>,
    links: Links,
    link_events: mpsc::Receiver<LinkEvent>,
    sent: mpsc::Receiver<Sent>,
    uplink: mpsc::Sender<UplinkRequest>,
    uplink_events: mpsc::Receiver<UplinkEvent>,
    requests: mpsc::Receiver<Request>,
    metrics: std::sync::Arc<Metrics>,
    /// Where finished transactions go beside the home.
    consumers: Consumers,
    keep: keep::Keep,
    supervisor: std::sync::Arc<Supervisor>,
    pulse: Pulse,
    moves: mpsc::Receiver<interfaces::Moved>,
    place: Place,
    asked: HashMap<u64, oneshot::Sender<Result<Record, Why>>>,
    /// Where the answers to the home's checks go.
    checks: HashMap<u64, mpsc::OwnedPermit<Frame>>,
    /// Who waits for the answer to the input at hand; the core gives it in the same drain.
    asker: Option<Asker>,
    listeners: Listeners,
    token: u64,
    leaving: bool,
}

/// Where this agent is in the network, as far as its configuration leaves that open.
struct Place {
    /// Servers that are tried.
    homes: Vec<String>,
    /// Those among them that the join token named.
    token_homes: Vec<String>,
    /// Own addresses, as found out.
    found: Vec<SocketAddr>,
    /// The configuration names addresses; what is found out does not matter.
    advertised: bool,
}

/// Who waits for what came on a stream to be answered.
enum Asker {
    Subscribe(oneshot::Sender<SubscribeAck>),
    Notify(oneshot::Sender<NotifyAck>),
}

impl Shell {
    /// Runs until `shutdown`, then leaves in good order.
    async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut upkeep = tokio::time::interval(UPKEEP);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Sent by the loop itself, so that one that hangs sends none.
        let mut heartbeat = tokio::time::interval(self.supervisor.heartbeat_every().unwrap_or(NO_HEARTBEAT));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.drain();
        // One timer, set anew only when the deadline moves: making one for each turn would cost more than the turn.
        let sleep = sleep_until(self.deadline());
        tokio::pin!(sleep);
        let mut row = 0;
        while !self.leaving {
            let deadline = self.deadline();
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            tokio::select! {
                // Pings first: somebody times them. But peers could send without an end, so now and then all others are asked
                // before them. Deadlines need no turn of their own, as the core looks at them with each input.
                biased;
                event = self.links.datagram(), if row < ROW_MAX => {
                    row += 1;
                    self.link_event(event);
                }
                () = &mut shutdown => self.handle(Input::Command(Command::Shutdown)),
                _ = beat.tick() => {
                    self.look();
                }
                _ = heartbeat.tick() => self.supervisor.heartbeat(),
                _ = upkeep.tick() => self.upkeep(),
                Some(moved) = self.moves.recv() => self.moved(moved),
                Some(event) = self.uplink_events.recv() => self.uplink_event(event),
                Some(request) = self.requests.recv() => self.request(request),
                Some(incoming) = self.calls.recv() => self.call(incoming),
                Some(event) = self.link_events.recv() => self.link_event(event),
                () = &mut sleep => self.handle(Input::Tick),
                () = ready(()), if row == ROW_MAX => row = 0,
            }
            give_way().await;
        }
        self.leave().await;
    }

    fn deadline(&self) -> tokio::time::Instant {
        Clock.instant(self.core.deadline().map_or(NEVER, |(moment, _)| moment))
    }

    fn handle(&mut self, input: Input) {
        let now = self.look();
        // What has left comes first: a ping's stamp is there before its pong. Nobody need be woken for it sooner.
        while let Ok((correlator, at)) = self.sent.try_recv() {
            self.core.handle(now, Input::Sent { correlator, at });
        }
        self.core.handle(now, input);
        self.drain();
    }

    /// As [`handle`](Self::handle), for what somebody on a stream waits to be answered.
    fn answer(&mut self, input: Input, asker: Asker) {
        self.asker = Some(asker);
        self.handle(input);
        self.asker = None;
    }

    fn link_event(&mut self, event: LinkEvent) {
        let input = match event {
            LinkEvent::Pong { from, pong, arrived, path_rtt_ns } => {
                Input::Pong { from, pong, arrived, path_rtt_ns: Some(path_rtt_ns) }
            }
            LinkEvent::Ping { from, ping, arrived } => Input::Ping { from, ping, arrived },
            LinkEvent::Ready(ready) => {
                let (peer, epoch, clock_offset_ms) = (ready.peer, ready.epoch, ready.clock_offset_ms);
                match self.links.ready(*ready) {
                    Some(link) => Input::LinkUp { peer, link, epoch, clock_offset_ms },
                    None => return,
                }
            }
            LinkEvent::DialFailed { peer, why } => Input::DialFailed { peer, why },
            LinkEvent::Goodbye { peer, epoch } if self.links.is_over(peer, epoch) => return,
            LinkEvent::Goodbye { peer, .. } => Input::Goodbye { peer },
            LinkEvent::Closed { peer, epoch, link, ended } => {
                self.links.closed(peer, link);
                if ended.left && !self.links.is_over(peer, epoch) {
                    self.handle(Input::Goodbye { peer });
                }
                Input::LinkDown { peer, link, why: ended.why, restarted: ended.restarted }
            }
            LinkEvent::Moved { link, to } => return self.links.moved(link, to),
            LinkEvent::Rejected { from, label } => Input::FrameRejected { from, label },
            LinkEvent::HomeLost { by, lost, answer } => {
                return self.ask_home(UplinkRequest::HomeLost { by, lost, answer });
            }
            LinkEvent::Silent => return self.notice(&Notice::SilentCaller),
            LinkEvent::AskedForSelf(answer) => {
                let _ = answer.send(self.entry());
                return;
            }
            LinkEvent::AskedToTell { from, peer, answer } => {
                return self.answer(Input::Subscribe { from, peer, question: 0 }, Asker::Subscribe(answer));
            }
            LinkEvent::AskedToBeQuiet { from } => Input::Unsubscribe { from },
            LinkEvent::Subscribed { ask, answer } => Input::Subscribed { ask, answer },
            LinkEvent::NotifyLeft { correlator, at } => Input::Sent { correlator, at },
            LinkEvent::NotifyAck { from, ack, arrived } => Input::NotifyAck { from, ack, arrived },
            LinkEvent::Notify { from, notify, arrived, answer } => {
                return self.answer(Input::Notify { from: Some(from), notify, arrived }, Asker::Notify(answer));
            }
        };
        self.handle(input);
    }

    fn call(&mut self, incoming: quinn::Incoming) {
        if !self.links.accept(incoming) {
            self.notice(&Notice::CallRefused);
        }
    }

    fn uplink_event(&mut self, event: UplinkEvent) {
        let input = match event {
            UplinkEvent::Reached { server } => HomeInput::Reached { server },
            UplinkEvent::Up { terms, observed, clock_offset_ms, because } => {
                HomeInput::Up { terms, observed, clock_offset_ms, because }
            }
            UplinkEvent::Down { why } => HomeInput::Down { why },
            UplinkEvent::Trying(trying) => HomeInput::Trying(trying),
            UplinkEvent::Written { batch } => HomeInput::Written { batch },
            UplinkEvent::Acked(ack) => HomeInput::Acked(ack),
            UplinkEvent::Roster(roster) => HomeInput::Roster(roster),
            UplinkEvent::Servers(servers) => {
                let known = servers.servers.len();
                self.keep.servers(servers);
                HomeInput::Servers(known)
            }
            UplinkEvent::Check { check, came, answer } => {
                self.token += 1;
                self.checks.insert(self.token, answer);
                HomeInput::Check { question: self.token, check, came }
            }
            UplinkEvent::Subscribed { ask, answer } => return self.handle(Input::Subscribed { ask, answer }),
            UplinkEvent::Notify { notify, arrived, answer } => {
                return self.answer(Input::Notify { from: None, notify, arrived }, Asker::Notify(answer));
            }
            UplinkEvent::Resolved { peer, found } => return self.handle(Input::Resolved { peer, found }),
            UplinkEvent::Rejected { label } => return self.handle(Input::FrameRejected { from: None, label }),
            UplinkEvent::Doubted { by, asks } => return self.notice(&Notice::HomeDoubted { by, asks }),
            UplinkEvent::Renewed => return tracing::info!("certificate renewed"),
        };
        self.handle(Input::Home(input));
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::View(answer) => {
                let _ = answer.send(self.core.view(Clock.now()));
            }
            Request::Publish { status, note, answer } => {
                self.handle(Input::Command(Command::Publish { status, note }));
                let _ = answer.send(self.core.presence().clone());
            }
            Request::Ping { peer, answer } => {
                self.token += 1;
                self.asked.insert(self.token, answer);
                self.handle(Input::Command(Command::Ping { peer, token: self.token }));
            }
            Request::Reconfigure { config, answer } => {
                self.reconfigure(*config);
                let _ = answer.send(());
            }
            Request::Subscribe { peer, answer } => {
                let verdict = self.core.can_subscribe(peer);
                let new = !self.core.is_subscribed(peer);
                if verdict.is_ok() {
                    self.handle(Input::Command(Command::Subscribe { peer }));
                }
                let _ = answer.send(verdict.map(|()| new));
            }
            Request::Unsubscribe { peer, answer } => {
                let was = self.core.is_subscribed(peer);
                self.handle(Input::Command(Command::Unsubscribe { peer }));
                let _ = answer.send(was);
            }
            Request::Listen { peer, answer } => {
                let _ = answer.send(self.listeners.add(peer));
            }
            Request::FetchDirect { peer, answer } => self.links.fetch(peer, answer),
            Request::FetchFromHome { peer, answer } => self.ask_home(UplinkRequest::Fetch { peer, answer }),
        }
    }

    /// Does all that the core asks for.
    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::SendPing { peer, ping } => {
                    if !self.links.send_ping(peer, ping) {
                        self.core.handle(Clock.now(), Input::SentUnstamped { correlator: ping.correlator });
                    }
                }
                Output::SendPong { peer, pong } => self.links.send_pong(peer, pong),
                Output::Dial { peer, addresses } => self.links.dial(peer, addresses),
                Output::Resolve { peer } => self.ask_home(UplinkRequest::Resolve { peer }),
                Output::Greet { attach, profile } => self.ask_home(UplinkRequest::Greet { attach, profile }),
                Output::Report(report) => self.ask_home(UplinkRequest::Report(report)),
                Output::HangUp { peer } => self.links.hang_up(peer),
                Output::Rejoin { why } => self.ask_home(UplinkRequest::Rejoin(why)),
                Output::AskToSubscribe(ask) => self.ask_to_subscribe(ask),
                Output::Unsubscribe { path: Path::Peer, peer } => self.links.unsubscribe(peer),
                Output::Unsubscribe { path: Path::Home, peer } => self.ask_home(UplinkRequest::Unsubscribe { peer }),
                Output::AnswerSubscribe { ack, .. } => {
                    if let Some(Asker::Subscribe(answer)) = self.asker.take() {
                        let _ = answer.send(ack);
                    }
                }
                Output::SendNotify { peer, notify } => self.links.notify(peer, notify),
                Output::AckNotify(ack) => {
                    if let Some(Asker::Notify(answer)) = self.asker.take() {
                        let _ = answer.send(ack);
                    }
                }
                Output::Told(told) => self.metrics.dropped("events", self.listeners.tell(&told)),
                Output::Record(record) => self.consumers.take(&record),
                Output::Pinged { token, result } => {
                    if let Some(answer) = self.asked.remove(&token) {
                        let _ = answer.send(result);
                    }
                }
                Output::Checked { question, checked } => {
                    if let Some(answer) = self.checks.remove(&question) {
                        answer.send(Frame::Checked(checked));
                    }
                }
                Output::Published(presence) => self.keep.presence(presence),
                Output::Notice(notice) => self.notice(&notice),
                Output::Goodbye => self.leaving = true,
            }
        }
    }

    fn notice(&self, notice: &Notice) {
        self.metrics.notice(notice);
        told::log(notice);
    }

    fn ask_to_subscribe(&mut self, ask: Ask) {
        match ask.path {
            Path::Home => self.ask_home(UplinkRequest::Subscribe(ask)),
            Path::Peer => {
                if let Err(why) = self.links.subscribe(ask) {
                    self.core.handle(Clock.now(), Input::Subscribed { ask, answer: Err(why) });
                }
            }
        }
    }

    /// The uplink's queue is longer than all that the core and the handle let be under way but for the ends of subscriptions,
    /// which get half of it: the next notify has one that was left out asked again. So it is full only when the uplink has
    /// ended; then whoever asks sees the answer's sender gone.
    fn ask_home(&mut self, request: UplinkRequest) {
        let is_end = matches!(request, UplinkRequest::Unsubscribe { .. });
        if is_end && self.uplink.capacity() < uplink::REQUESTS_MAX / 2 {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request)) =
            self.uplink.try_send(request)
        {
            let why = Why::new(Reason::NotSent, "the home can not be asked just now");
            let input = match request {
                UplinkRequest::Resolve { peer } => Input::Resolved { peer, found: Err(why) },
                UplinkRequest::Subscribe(ask) => Input::Subscribed { ask, answer: Err(why) },
                _ => return,
            };
            self.core.handle(Clock.now(), input);
        }
    }

    /// Our own entry, for peers that ask.
    fn entry(&self) -> Entry {
        let view = self.core.view(Clock.now());
        Entry {
            peer: view.peer,
            order: Order { epoch: view.epoch, attach: view.home.attach, version: view.presence.version },
            profile: self.core.profile().clone(),
            presence: view.presence,
            liveness: Liveness::Live,
            age_ms: 0,
            observed: view.home.observed.and_then(|o| o.parse().ok()),
        }
    }

    fn upkeep(&mut self) {
        self.tell_supervisor();
        self.metrics.upkeep();
        self.listeners.upkeep();
        for _ in 0..self.links.reap() {
            self.metrics.panicked();
            tracing::error!("a connection's task panicked; the connection is lost, the agent goes on");
        }
    }

    /// The last reports, goodbyes, and out.
    async fn leave(mut self) {
        let settled = async {
            while !self.core.is_settled() && self.core.is_home_up() {
                match self.uplink_events.recv().await {
                    Some(event) => self.uplink_event(event),
                    None => return,
                }
            }
        };
        if timeout(DRAIN_PATIENCE, settled).await.is_err() {
            tracing::warn!("the home did not acknowledge the last reports in time");
        }
        self.links.goodbye().await;
        if self.core.is_home_up() {
            let said = async {
                if self.uplink.send(UplinkRequest::Goodbye).await.is_ok() {
                    // The uplink drops its end of the channel when it has said goodbye.
                    while self.uplink_events.recv().await.is_some() {}
                }
            };
            let _ = timeout(DRAIN_PATIENCE, said).await;
        }
        self.endpoint.close(close::GOODBYE.into(), GOODBYE);
        let _ = timeout(CLOSE_PATIENCE, self.endpoint.wait_idle()).await;
        self.consumers.end().await;
    }
}

/// Lets all other tasks run that can: what QUIC was just given leaves before the loop looks for more. (`yield_now` has the
/// runtime look at its sockets too, and each look is a system call.)
async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
