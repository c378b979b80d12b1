//! The agent's shell: clocks, sockets and tasks around the core. The loop gives the core what happened, one thing at a time,
//! and does what it asks for; long sequential exchanges (handshakes, the home, HTTP) are tasks of their own.
#![allow(clippy::disallowed_methods)] // This is the shell: what the ban keeps out of the core lives here.

#[cfg(test)]
mod cluster;
mod credentials;
pub mod handle;
pub mod interfaces;
mod join;
mod journey;
mod keep;
mod link;
pub mod local;
pub mod reload;
mod start;
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
    frame::{Entry, close},
    id::{Order, PeerId},
    moment::Moment,
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
            LinkEvent::Silent => return self.notice(&Notice::SilentCaller),
            LinkEvent::AskedForSelf(answer) => {
                let _ = answer.send(self.entry());
                return;
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
            UplinkEvent::Up { terms, observed, clock_offset_ms } => HomeInput::Up { terms, observed, clock_offset_ms },
            UplinkEvent::Down { why } => HomeInput::Down { why },
            UplinkEvent::Trying(trying) => HomeInput::Trying(trying),
            UplinkEvent::Written { batch } => HomeInput::Written { batch },
            UplinkEvent::Acked(ack) => HomeInput::Acked(ack),
            UplinkEvent::Roster(roster) => HomeInput::Roster(roster),
            UplinkEvent::Resolved { peer, found } => return self.handle(Input::Resolved { peer, found }),
            UplinkEvent::Rejected { label } => return self.handle(Input::FrameRejected { from: None, label }),
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
                Output::Record(record) => self.consumers.take(&record),
                Output::Pinged { token, result } => {
                    if let Some(answer) = self.asked.remove(&token) {
                        let _ = answer.send(result);
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
        log(notice);
    }

    /// The uplink's queue is longer than all that the core and the handle let be under way, so it is full only when the
    /// uplink has ended; then whoever asks sees the answer's sender gone.
    fn ask_home(&mut self, request: UplinkRequest) {
        if let Err(mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request)) =
            self.uplink.try_send(request)
            && let UplinkRequest::Resolve { peer } = request
        {
            let why = Why::new(Reason::NotSent, "the home can not be asked just now");
            self.core.handle(Clock.now(), Input::Resolved { peer, found: Err(why) });
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

/// error: data lost or a bug; warn: unexpected but recovered; info: a change an operator cares about; debug: the rest.
fn log(notice: &Notice) {
    use tracing::{debug, info, warn};
    let who = |p: &Option<PeerId>| p.map_or_else(|| "-".to_owned(), |p| p.to_string());
    match notice {
        Notice::Liveness { peer, to, .. } => info!(%peer, liveness = to.as_str(), "buddy"),
        Notice::Status { peer, to, .. } => info!(%peer, status = to.as_str(), "buddy"),
        Notice::HomeUp { server } => info!(%server, "home connected"),
        Notice::HomeDown { why } => warn!(reason = why.reason.as_str(), why = why.text, "no home"),
        Notice::Shed { records } => warn!(records, "backlog full: oldest records dropped"),
        Notice::ClockOffset { who, ms } => warn!(%who, offset_ms = ms, "its clock and ours differ: check NTP on both"),
        Notice::Slept { gap, suspended } => {
            let who = if *suspended { "the host was suspended" } else { "the agent did not run for a while" };
            warn!(?gap, "{who}: silence before now says nothing");
        }
        Notice::Moved { addresses } => info!(?addresses, "the host's addresses changed"),
        Notice::RosterCame { peers, over: 0 } => info!(peers, "the home says whom to watch"),
        Notice::RosterCame { peers, over } => warn!(peers, over, "the home gave more buddies than limits.roster"),
        Notice::RosterNamesSelf => warn!("the roster names this very peer; that line is ignored"),
        Notice::PoolFull { peer } => warn!(%peer, "ping not opened: too many transactions in flight"),
        Notice::AnswersOverrun { peer } => warn!(%peer, "ping not answered: too many answers wait"),
        // Whoever sends could fill the log with these; they are counted.
        Notice::FrameRejected { from, label } => debug!(from = who(from), reason = label, "frame rejected"),
        Notice::SilentCaller => debug!("a caller said no hello in time"),
        Notice::CallRefused => debug!("call refused: too many at once"),
        Notice::LinkUp { peer } => debug!(%peer, "connected"),
        Notice::LinkDown { peer, why } => debug!(%peer, reason = why.reason.as_str(), why = why.text, "disconnected"),
        Notice::DialFailed { peer, why } => debug!(%peer, reason = why.reason.as_str(), why = why.text, "not reached"),
        Notice::Late { peer, total_ns } => debug!(%peer, total_ns, "late pong"),
        Notice::Duplicate { peer } => debug!(%peer, "duplicate pong"),
        Notice::UnknownCorrelator { peer } => debug!(%peer, "pong with an unknown correlator"),
    }
}

#[cfg(test)]
mod tests;
