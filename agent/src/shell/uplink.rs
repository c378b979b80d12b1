//! The connection to the home: finds it, says Hello, carries reports up and acknowledgements down, renews the certificate,
//! and asks where peers are. One task, which tries again for ever; what to report is the core's to say.

use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{
        self, Entry, Frame, Hello, News, Notify, NotifyAck, Profile, Report, ReportAck, Role, Roster, Terms,
        capability, close,
    },
    id::{Minter, PeerId, ServerId},
    identity::{self, Subject},
    moment::Moment,
    presence::Ask,
    quic::{self, StreamError},
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, ConnectionError, Endpoint};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{
    credentials::Credentials,
    journey::Journey,
    link::{GOODBYE, Me, offset, subscribe},
};
use crate::core::Trying;

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
const SUPERSEDED: &str = "another agent with this peer's id took our place at the home: if its data directory was copied, \
                          stop one of the two, remove its copy and join it again";
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// Pauses between tries double from the first to the last of these, each with up to a third less as jitter.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = frame::HOME_RETRY_MAX;
/// How long the questions under way may take to end once their connection has.
const END_PATIENCE: Duration = Duration::from_millis(100);
/// How often the certificate's age is looked at.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);
/// Requests that may wait for the task.
pub const REQUESTS_MAX: usize = 256;

/// What the home's connection tells the loop.
#[derive(Debug)]
pub enum UplinkEvent {
    Reached {
        server: ServerId,
    },
    Up {
        terms: Terms,
        observed: Option<String>,
        clock_offset_ms: i64,
    },
    Down {
        why: Why,
    },
    Trying(Trying),
    Written {
        batch: u64,
    },
    Acked(ReportAck),
    Roster(Roster),
    Subscribed {
        ask: Ask,
        answer: Result<Option<News>, Why>,
    },
    /// The home tells of a peer; the next thing is read when this is answered.
    Notify {
        notify: Notify,
        arrived: Moment,
        answer: oneshot::Sender<NotifyAck>,
    },
    Resolved {
        peer: PeerId,
        found: Result<Vec<String>, Why>,
    },
    Rejected {
        label: &'static str,
    },
    Renewed,
}

/// What the loop asks of it.
#[derive(Debug)]
pub enum UplinkRequest {
    Greet {
        attach: u64,
        profile: Profile,
    },
    Report(Report),
    /// Where is it? Answered by [`UplinkEvent::Resolved`].
    Resolve {
        peer: PeerId,
    },
    Fetch {
        peer: PeerId,
        answer: oneshot::Sender<Result<Option<Entry>, Why>>,
    },
    /// Connect anew, now.
    Rejoin(Why),
    /// Servers to try from now on, one at least. The present one is left only if it is not among them.
    Homes(Vec<String>),
    /// Be told of a peer. Answered by [`UplinkEvent::Subscribed`], unless the connection ends before.
    Subscribe(Ask),
    Unsubscribe {
        peer: PeerId,
    },
    /// Say goodbye when all is written, and end.
    Goodbye,
}

pub struct Uplink {
    pub me: Arc<Me>,
    pub endpoint: Endpoint,
    /// The one under the endpoint.
    pub socket: Arc<Socket>,
    pub client: quinn::ClientConfig,
    pub credentials: Credentials,
    /// `host:port` each.
    pub homes: Vec<String>,
    pub events: mpsc::Sender<UplinkEvent>,
    pub requests: mpsc::Receiver<UplinkRequest>,
    pub minter: Minter,
    /// A home was there since this was last looked at.
    pub met: bool,
}

/// Why a connection to the home ended.
enum End {
    /// We said goodbye, or the loop is gone.
    Done,
    /// The next try is at once.
    Again(Why),
    Lost(Why),
}

/// How a wait for the next try ended.
enum Idle {
    Over,
    /// Something changed: the next try is now.
    Hurry,
    End,
}

/// Questions to the home that are under way.
#[derive(Default)]
struct Asked {
    tasks: JoinSet<Option<UplinkEvent>>,
    /// Those whose addresses are asked for.
    peers: BTreeSet<PeerId>,
    /// The home is of a version that knows subscriptions.
    knows_subscriptions: bool,
}

impl Asked {
    /// What a task that ended has to tell.
    fn ended(&mut self, done: Result<Option<UplinkEvent>, JoinError>) -> Option<UplinkEvent> {
        let event = done.ok()??;
        if let UplinkEvent::Resolved { peer, .. } = &event {
            self.peers.remove(peer);
        }
        Some(event)
    }
}

impl Uplink {
    /// Runs until Goodbye or until the loop is gone.
    pub async fn run(mut self) {
        let (mut pause, mut turn, mut journey) = (RETRY_FIRST, 0, Journey::default());
        loop {
            let Some(address) = self.homes.get(turn % self.homes.len().max(1)).cloned() else { return };
            let (why, again) = match self.session(&address, &mut pause).await {
                End::Done => return,
                End::Again(why) => (why, true),
                End::Lost(why) => (why, false),
            };
            if self.events.send(UplinkEvent::Down { why: why.clone() }).await.is_err() {
                return;
            }
            if again {
                journey = Journey::default();
                // The same one, unless it is no longer to be tried.
                turn = self.homes.iter().position(|h| *h == address).unwrap_or(0);
                pause = RETRY_FIRST;
                continue;
            }
            let jitter = self.minter.below(pause.as_millis() as u64 / 3 + 1);
            let wait = pause - Duration::from_millis(jitter);
            if std::mem::take(&mut self.met) {
                journey = Journey::default();
            }
            // Beside the wait, which it may take a part of.
            let next = Clock.now() + wait;
            let told = tokio::select! {
                trying = journey.tried(&address, &why, next) => Some(trying),
                () = self.events.closed() => None,
            };
            let Some(trying) = told else { return };
            if self.events.send(UplinkEvent::Trying(trying)).await.is_err() {
                return;
            }
            match self.idle(next.since(Clock.now()), &why).await {
                Idle::End => return,
                Idle::Hurry => pause = RETRY_FIRST,
                Idle::Over => pause = (pause * 2).min(RETRY_LAST),
            }
            turn += 1;
        }
    }

    /// Waits for the next try; whoever asks meanwhile is told why there is no answer.
    async fn idle(&mut self, pause: Duration, why: &Why) -> Idle {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return Idle::Over,
                request = self.requests.recv() => match request {
                    None | Some(UplinkRequest::Goodbye) => return Idle::End,
                    Some(UplinkRequest::Rejoin(_)) => return Idle::Hurry,
                    Some(UplinkRequest::Homes(homes)) => {
                        self.homes = homes;
                        return Idle::Hurry;
                    }
                    Some(request) => self.refuse(request, why).await,
                },
            }
        }
    }

    async fn session(&mut self, address: &str, pause: &mut Duration) -> End {
        let connection = match timeout(HANDSHAKE_PATIENCE, self.connect(address)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return End::Lost(Why::new(why.reason, format!("home {address}: {}", why.text))),
            Err(_) => {
                let text =
                    format!("no answer over UDP from home {address}: it is down, or a firewall drops UDP on the way");
                return End::Lost(Why::new(Reason::NoAnswer, text));
            }
        };
        match self.greet(&connection).await {
            Ok((streams, capabilities)) => {
                self.met = true;
                let end = self.session_on(address, &connection, streams, capabilities).await;
                // Two that take each other's place again and again do so less and less often.
                if is_superseded(&connection) {
                    return lost(Reason::Refused, SUPERSEDED);
                }
                *pause = RETRY_FIRST;
                end
            }
            Err(end) => {
                connection.close(close::DONE.into(), b"");
                end
            }
        }
    }

    /// From the answer to Hello until the connection ends.
    async fn session_on(
        &mut self,
        address: &str,
        connection: &Connection,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
        capabilities: u64,
    ) -> End {
        let knows_subscriptions = capabilities & capability::SUBSCRIPTIONS != 0;
        let mut asked = Asked { knows_subscriptions, ..Asked::default() };
        let end = self.work(address, connection, send, receive, &mut asked).await;
        match &end {
            End::Done => connection.close(close::GOODBYE.into(), GOODBYE),
            End::Lost(why) | End::Again(why) => {
                // What ended it is still to be read from it, so it is closed only if it lives.
                if connection.close_reason().is_none() {
                    connection.close(close::DONE.into(), b"");
                }
                self.unanswered(asked, why).await;
            }
        }
        end
    }

    async fn connect(&self, address: &str) -> Result<Connection, Why> {
        let name = identity::home_name(&self.me.domain);
        let attempt = |at| quic::call(&self.endpoint, &self.socket, self.client.clone(), at, &name);
        quic::race(&[address.to_owned()], attempt).await
    }

    /// Hello and its answer on the stream that reports will use.
    /// The stream of the reports, and what the home can do.
    async fn greet(&mut self, connection: &Connection) -> Result<((quinn::SendStream, quinn::RecvStream), u64), End> {
        let subject = connection.peer_identity().and_then(|id| Subject::of_peer(&*id).ok());
        let Some(subject) = subject.filter(|s| s.role == Role::Server) else {
            return Err(lost(Reason::Certificate, "what answers there is not a pams-server of this trust domain"));
        };
        self.tell(UplinkEvent::Reached { server: ServerId(subject.id) }).await?;
        let (attach, profile) = loop {
            match self.requests.recv().await {
                Some(UplinkRequest::Greet { attach, profile }) => break (attach, profile),
                None | Some(UplinkRequest::Goodbye) => return Err(End::Done),
                Some(request) => {
                    self.refuse(request, &Why::new(Reason::NotSent, "the home is being called; try again")).await;
                }
            }
        };
        let hello = Hello { attach, profile: Some(profile), ..self.me.hello() };
        let exchange = async {
            let (mut send, mut receive) = connection.open_bi().await.map_err(StreamError::from)?;
            quic::write_frame(&mut send, &Frame::Hello(hello)).await?;
            let answer = quic::read_frame(&mut receive).await?;
            Ok::<_, StreamError>((send, receive, answer))
        };
        let (send, receive, answer) = match timeout(HANDSHAKE_PATIENCE, exchange).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(error)) => return Err(End::Lost(error.why())),
            Err(_) => return Err(lost(Reason::NoAnswer, "the home did not answer Hello")),
        };
        let Some(Frame::HelloAck(ack)) = answer else {
            return Err(lost(Reason::Refused, "the home answered Hello with something else"));
        };
        if let Err(rejected) = ack.verdict {
            return Err(lost(Reason::Refused, &rejected.detail));
        }
        let Some(terms) = ack.terms else { return Err(lost(Reason::Refused, "the home named no terms")) };
        let observed = ack.observed.map(|a| a.to_string());
        self.tell(UplinkEvent::Up { terms, observed, clock_offset_ms: offset(ack.wall_ms) }).await?;
        Ok(((send, receive), ack.capabilities))
    }

    async fn work(
        &mut self,
        address: &str,
        connection: &Connection,
        mut send: quinn::SendStream,
        receive: quinn::RecvStream,
        asked: &mut Asked,
    ) -> End {
        let mut acks = std::pin::pin!(acknowledgements(receive, self.events.clone()));
        let mut pushes = std::pin::pin!(pushes(connection, self.events.clone()));
        let mut renewal = tokio::time::interval(RENEWAL_LOOK);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                end = &mut acks => return end,
                end = &mut pushes => return end,
                Some(done) = asked.tasks.join_next() => if let Some(event) = asked.ended(done)
                    && self.events.send(event).await.is_err() { return End::Done },
                request = self.requests.recv() => match request {
                    None => return End::Done,
                    Some(UplinkRequest::Report(report)) => {
                        let batch = report.batch;
                        if let Err(error) = quic::write_frame(&mut send, &Frame::Report(report)).await {
                            return End::Lost(error.why());
                        }
                        if self.events.send(UplinkEvent::Written { batch }).await.is_err() { return End::Done }
                    }
                    Some(UplinkRequest::Fetch { peer, answer }) => {
                        let connection = connection.clone();
                        asked.tasks.spawn(async move { let _ = answer.send(fetch(&connection, peer).await); None });
                    }
                    Some(UplinkRequest::Resolve { peer }) => {
                        let connection = connection.clone();
                        asked.peers.insert(peer);
                        asked.tasks.spawn(async move { Some(resolve(&connection, peer).await) });
                    }
                    Some(UplinkRequest::Subscribe(ask)) => {
                        let (connection, knows) = (connection.clone(), asked.knows_subscriptions);
                        asked.tasks.spawn(async move {
                            let answer = if knows { subscribe(&connection, ask.peer).await } else { Err(too_old()) };
                            Some(UplinkEvent::Subscribed { ask, answer })
                        });
                    }
                    Some(UplinkRequest::Unsubscribe { peer }) => {
                        let connection = connection.clone();
                        asked.tasks.spawn(async move {
                            // It ends without an answer.
                            let _ = timeout(REQUEST_PATIENCE, quic::request(&connection, &Frame::Unsubscribe(peer))).await;
                            None
                        });
                    }
                    Some(UplinkRequest::Greet { .. }) => {}
                    Some(UplinkRequest::Rejoin(why)) => return End::Again(why),
                    Some(UplinkRequest::Homes(homes)) => {
                        let stays = homes.iter().any(|h| h == address);
                        self.homes = homes;
                        if !stays {
                            let text = format!("{address} is no home any more: the configuration names others");
                            return End::Again(Why::new(Reason::Cancelled, text));
                        }
                    }
                    Some(UplinkRequest::Goodbye) => {
                        let said = async {
                            quic::write_frame(&mut send, &Frame::Goodbye).await.ok()?;
                            send.finish().ok()?;
                            send.stopped().await.ok()
                        };
                        let _ = timeout(REQUEST_PATIENCE, said).await;
                        return End::Done;
                    }
                },
                _ = renewal.tick() => if self.credentials.is_due(Clock.now()) {
                    let (connection, credentials) = (connection.clone(), self.credentials.clone());
                    asked.tasks.spawn(async move { renew(&connection, &credentials).await });
                },
            }
        }
    }

    /// The connection has ended: passes on what was answered, and answers the rest.
    async fn unanswered(&self, mut asked: Asked, why: &Why) {
        let answered = async {
            while let Some(done) = asked.tasks.join_next().await {
                if let Some(event) = asked.ended(done) {
                    let _ = self.events.send(event).await;
                }
            }
        };
        let _ = timeout(END_PATIENCE, answered).await;
        for peer in asked.peers {
            let _ = self.events.send(UplinkEvent::Resolved { peer, found: Err(why.clone()) }).await;
        }
    }

    /// Tells whoever waits that there is no home now. Reports are kept by the core and come again.
    async fn refuse(&mut self, request: UplinkRequest, why: &Why) {
        match request {
            UplinkRequest::Fetch { answer, .. } => {
                let _ = answer.send(Err(why.clone()));
            }
            UplinkRequest::Resolve { peer } => {
                let _ = self.events.send(UplinkEvent::Resolved { peer, found: Err(why.clone()) }).await;
            }
            UplinkRequest::Homes(homes) => self.homes = homes,
            // Subscriptions begin anew with the next connection.
            UplinkRequest::Subscribe(_)
            | UplinkRequest::Unsubscribe { .. }
            | UplinkRequest::Greet { .. }
            | UplinkRequest::Report(_)
            | UplinkRequest::Rejoin(_)
            | UplinkRequest::Goodbye => {}
        }
    }

    async fn tell(&self, event: UplinkEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Done)
    }
}

/// Reads what the home sends until the connection ends.
async fn acknowledgements(mut receive: quinn::RecvStream, events: mpsc::Sender<UplinkEvent>) -> End {
    loop {
        let event = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::ReportAck(ack))) => UplinkEvent::Acked(ack),
            Ok(Some(_)) => UplinkEvent::Rejected { label: "misplaced" },
            Err(StreamError::Frame(error @ frame::FrameError::UnknownKind { .. })) => {
                UplinkEvent::Rejected { label: error.label() }
            }
            Ok(None) => return lost(Reason::Refused, "the home ended the conversation"),
            Err(error) => return End::Lost(error.why()),
        };
        if events.send(event).await.is_err() {
            return pending().await;
        }
    }
}

/// Reads what the home tells unasked, on the stream that it opens for that. Of several such streams the next is read when the
/// one before has ended. The end of the connection is for [`acknowledgements`] to see.
async fn pushes(connection: &Connection, events: mpsc::Sender<UplinkEvent>) -> End {
    loop {
        // Our half stays open as long as theirs.
        let Ok((mut answers, mut receive)) = connection.accept_bi().await else { return pending().await };
        loop {
            let event = match quic::read_frame(&mut receive).await {
                Ok(Some(Frame::Roster(roster))) => UplinkEvent::Roster(roster),
                Ok(Some(Frame::Notify(notify))) => {
                    let (answer, ack) = oneshot::channel();
                    let event = UplinkEvent::Notify { notify, arrived: Clock.now(), answer };
                    if events.send(event).await.is_err() {
                        return pending().await;
                    }
                    if let Ok(ack) = ack.await
                        && quic::write_frame(&mut answers, &Frame::NotifyAck(ack)).await.is_err()
                    {
                        break;
                    }
                    continue;
                }
                Ok(Some(_)) => UplinkEvent::Rejected { label: "misplaced" },
                Err(StreamError::Frame(error @ frame::FrameError::UnknownKind { .. })) => {
                    UplinkEvent::Rejected { label: error.label() }
                }
                Ok(None) | Err(StreamError::Connection(_) | StreamError::Read(_)) => break,
                Err(error) => return End::Lost(error.why()),
            };
            if events.send(event).await.is_err() {
                return pending().await;
            }
        }
    }
}

async fn fetch(connection: &Connection, peer: PeerId) -> Result<Option<Entry>, Why> {
    match timeout(REQUEST_PATIENCE, quic::request(connection, &Frame::Fetch(peer))).await {
        Ok(Ok(Frame::FetchAck(entry))) => Ok(entry.map(|e| *e)),
        Ok(Ok(_)) => Err(Why::new(Reason::Refused, "the home gave something else than an entry")),
        Ok(Err(error)) => Err(error.why()),
        Err(_) => Err(Why::new(Reason::NoAnswer, "the home did not answer in time")),
    }
}

/// Where the peer can be called: the addresses it named, then the one its home sees it at.
async fn resolve(connection: &Connection, peer: PeerId) -> UplinkEvent {
    let found = fetch(connection, peer).await.map(|entry| {
        let mut addresses = Vec::new();
        for address in entry.into_iter().flat_map(|e| e.profile.addresses.into_iter().chain(e.observed)) {
            let address = address.to_string();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    });
    UplinkEvent::Resolved { peer, found }
}

/// Fetches a new certificate; a failure is tried again at the next look, long before the old one runs out.
async fn renew(connection: &Connection, credentials: &Credentials) -> Option<UplinkEvent> {
    let csr = credentials.csr().inspect_err(|error| tracing::warn!(%error, "no certificate request")).ok()?;
    match timeout(REQUEST_PATIENCE, quic::request(connection, &Frame::Renew(csr))).await {
        Ok(Ok(Frame::Issued(issued))) => match credentials.renew(issued).await {
            Ok(()) => return Some(UplinkEvent::Renewed),
            Err(error) => tracing::warn!(%error, "the renewed certificate can not be used"),
        },
        Ok(Ok(Frame::Refused(refused))) => {
            tracing::warn!(detail = refused.detail, "the home refuses to renew the certificate");
        }
        Ok(Ok(_)) => tracing::warn!("the home answered the renewal with something else"),
        Ok(Err(error)) => tracing::warn!(%error, "renewing the certificate went wrong"),
        Err(_) => tracing::warn!("the home did not answer the renewal in time"),
    }
    None
}

fn too_old() -> Why {
    Why::new(Reason::Refused, "the home is of a version that knows no subscriptions: update it")
}

/// Whether the home ended the connection because there is another one with our id.
fn is_superseded(connection: &Connection) -> bool {
    matches!(connection.close_reason(), Some(ConnectionError::ApplicationClosed(closed))
        if closed.error_code == close::SUPERSEDED.into())
}

fn lost(reason: Reason, text: &str) -> End {
    End::Lost(Why::new(reason, text))
}

#[cfg(test)]
mod tests;
