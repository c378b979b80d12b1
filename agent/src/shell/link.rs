//! Connections to peers: dialling, accepting, Hello, and a reader each, which stamps what comes in. Which of two connections
//! with the same peer is kept is decided here ([`prefer`]); what is sent over them is the core's to say.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use pams_shared::{
    clock::Clock,
    frame::{self, Entry, Frame, FrameError, Hello, HelloAck, Ping, Pong, Rejected, Rejection, Role, close, wire},
    id::PeerId,
    identity::{self, Subject},
    moment::{Moment, nanos},
    quic::{self, StreamError},
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::core::LinkId;

/// From the first packet until Hello is answered.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that another one replaced is read for so long: what is under way on it may still arrive.
const SUPERSEDED_FOR: Duration = Duration::from_secs(6);
/// How long a goodbye and a fetch wait for the other side.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// Two connections that came about within so long of each other may be two calls that crossed. Later, a call says that
/// the caller has lost the old connection.
const CROSSING: Duration = Duration::from_secs(10);
/// Connections with peers at once, handshakes included.
pub const LINKS_MAX: usize = 4_096;
/// Events that wait for the loop; beyond, readers wait, and QUIC drops the oldest datagrams.
pub const EVENTS_MAX: usize = 1_024;

/// What a link tells the loop.
#[derive(Debug)]
pub enum LinkEvent {
    /// Hello is answered.
    Ready(Box<Ready>),
    DialFailed {
        peer: PeerId,
        why: Why,
    },
    Ping {
        from: PeerId,
        ping: Ping,
        arrived: Option<Moment>,
    },
    Pong {
        from: PeerId,
        pong: Pong,
        arrived: Option<Moment>,
        path_rtt_ns: u64,
    },
    Rejected {
        from: Option<PeerId>,
        label: &'static str,
    },
    Goodbye {
        peer: PeerId,
    },
    /// The peer asks for our own entry.
    AskedForSelf(oneshot::Sender<Entry>),
    Closed {
        peer: PeerId,
        link: LinkId,
        why: Why,
        restarted: bool,
    },
}

#[derive(Debug)]
pub struct Ready {
    pub peer: PeerId,
    pub connection: Connection,
    /// The other side's starts.
    pub epoch: u64,
    pub standing: Standing,
    pub clock_offset_ms: i64,
}

/// What decides between two connections with the same peer; both sides see the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Both epochs, the smaller id's first: a restart of either makes a newer connection.
    pub epochs: (u64, u64),
    /// Dialled by the side with the smaller id.
    pub by_smaller: bool,
}

/// Whether a new connection is to replace the one there is. A newer epoch of either side wins; within the same epochs the
/// one dialled by the smaller id; of two by the same side the newer.
pub fn prefer(new: Standing, old: Standing) -> bool {
    let sum = |s: Standing| s.epochs.0.saturating_add(s.epochs.1);
    match sum(new).cmp(&sum(old)) {
        std::cmp::Ordering::Equal => new.by_smaller || !old.by_smaller,
        order => order.is_gt(),
    }
}

/// Who we are to peers.
#[derive(Clone, Debug)]
pub struct Me {
    pub peer: PeerId,
    pub epoch: u64,
    pub domain: String,
    pub software: String,
    pub capabilities: u64,
}

impl Me {
    pub fn hello(&self) -> Hello {
        Hello {
            software: self.software.clone(),
            epoch: self.epoch,
            capabilities: self.capabilities,
            wall_ms: Clock.now().wall_ms(),
            attach: 0,
            profile: None,
        }
    }

    fn standing(&self, peer: PeerId, epoch: u64, dialled: bool) -> Standing {
        let smaller = self.peer < peer;
        let epochs = if smaller { (self.epoch, epoch) } else { (epoch, self.epoch) };
        Standing { epochs, by_smaller: dialled == smaller }
    }
}

/// All connections with peers.
#[derive(Debug)]
pub struct Links {
    me: Arc<Me>,
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    socket: Arc<Socket>,
    events: mpsc::Sender<LinkEvent>,
    live: HashMap<PeerId, Live>,
    /// The address of each connection that is read, so that its arrivals are remembered as long as one needs them.
    tracked: HashMap<LinkId, SocketAddr>,
    tasks: JoinSet<()>,
    next: LinkId,
}

#[derive(Debug)]
struct Live {
    link: LinkId,
    connection: Connection,
    standing: Standing,
    since: Moment,
}

impl Links {
    pub fn new(
        me: Arc<Me>,
        endpoint: Endpoint,
        client: quinn::ClientConfig,
        socket: Arc<Socket>,
    ) -> (Self, mpsc::Receiver<LinkEvent>) {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let links = Self {
            me,
            endpoint,
            client,
            socket,
            events,
            live: HashMap::new(),
            tracked: HashMap::new(),
            tasks: JoinSet::new(),
            next: 1,
        };
        (links, inbox)
    }

    /// Begins to call a peer at its addresses, in turn; ends in `Ready` or `DialFailed`.
    pub fn dial(&mut self, peer: PeerId, addresses: Vec<String>) {
        let (me, endpoint, client) = (self.me.clone(), self.endpoint.clone(), self.client.clone());
        let events = self.events.clone();
        self.spawn(async move {
            let dialled = timeout(HANDSHAKE_PATIENCE, dial(&me, &endpoint, client, peer, &addresses)).await;
            let event = match dialled {
                Ok(Ok(ready)) => LinkEvent::Ready(Box::new(ready)),
                Ok(Err(why)) => LinkEvent::DialFailed { peer, why },
                Err(_) => LinkEvent::DialFailed { peer, why: silent(&addresses) },
            };
            let _ = events.send(event).await;
        });
    }

    /// Takes a call.
    pub fn accept(&mut self, incoming: quinn::Incoming) {
        if self.tasks.len() >= LINKS_MAX {
            incoming.refuse();
            return;
        }
        let (me, events) = (self.me.clone(), self.events.clone());
        self.spawn(async move {
            let event = match timeout(HANDSHAKE_PATIENCE, answer(&me, incoming)).await {
                Ok(Ok(ready)) => LinkEvent::Ready(Box::new(ready)),
                Ok(Err(Some(error))) => LinkEvent::Rejected { from: None, label: error },
                Ok(Err(None)) => return,
                Err(_) => LinkEvent::Rejected { from: None, label: "silent" },
            };
            let _ = events.send(event).await;
        });
    }

    /// A connection is ready: keeps it and starts its reader. `None` if the one there is stays the better; the new one is
    /// then read for a while, in case the other side has used it already.
    pub fn ready(&mut self, ready: Ready) -> Option<LinkId> {
        let Ready { peer, connection, standing, .. } = ready;
        let link = self.next;
        self.next += 1;
        let address = connection.remote_address();
        self.socket.track(address);
        self.tracked.insert(link, address);
        self.read(peer, link, connection.clone());
        let now = Clock.now();
        let keeps = |old: &Live| {
            let alive = old.connection.close_reason().is_none() && now.since(old.since) < CROSSING;
            alive && !prefer(standing, old.standing)
        };
        if self.live.get(&peer).is_some_and(keeps) {
            self.retire(connection);
            return None;
        }
        if let Some(old) = self.live.insert(peer, Live { link, connection, standing, since: now }) {
            if old.standing.epochs == standing.epochs {
                self.retire(old.connection);
            } else {
                old.connection.close(close::SUPERSEDED.into(), b"restarted");
            }
        }
        Some(link)
    }

    /// A connection ended.
    pub fn closed(&mut self, peer: PeerId, link: LinkId) {
        if let Some(address) = self.tracked.remove(&link)
            && !self.tracked.values().any(|a| *a == address)
        {
            self.socket.untrack(address);
            self.socket.unexpect(address);
        }
        if self.live.get(&peer).is_some_and(|l| l.link == link) {
            self.live.remove(&peer);
        }
    }

    /// Gives a ping to its connection. `false`: it leaves without a stamp, so the caller takes the time. A ping that can not
    /// leave at all gets no stamp either way and runs out as not sent.
    pub fn send_ping(&self, peer: PeerId, ping: Ping) -> bool {
        let Some(live) = self.live.get(&peer) else { return true };
        let bytes = wire::encode(&Frame::Ping(ping));
        if live.connection.datagram_send_buffer_space() < bytes.len() {
            return true; // QUIC would drop an older one for it, and not say which
        }
        let to = live.connection.remote_address();
        // Its stamp is on the way before the packet is.
        let stamped = self.socket.expect(to, bytes.len(), ping.correlator);
        let given = live.connection.send_datagram(bytes.into()).is_ok();
        if stamped && !given {
            self.socket.withdraw(to, &ping.correlator);
        }
        stamped || !given
    }

    pub fn send_pong(&self, peer: PeerId, pong: Pong) {
        if let Some(live) = self.live.get(&peer) {
            // A full buffer or a lost connection: to the other side a lost packet, which it counts.
            let _ = live.connection.send_datagram(wire::encode(&Frame::Pong(pong)).into());
        }
    }

    /// Asks a connected peer for its own entry; `None` if it is not connected.
    pub fn fetch(&mut self, peer: PeerId, answer: oneshot::Sender<Option<Result<Entry, Why>>>) {
        let Some(live) = self.live.get(&peer) else {
            let _ = answer.send(None);
            return;
        };
        let connection = live.connection.clone();
        self.spawn(async move {
            let entry = match timeout(REQUEST_PATIENCE, quic::request(&connection, &Frame::Fetch(peer))).await {
                Ok(Ok(Frame::FetchAck(Some(entry)))) if entry.peer == peer => Ok(*entry),
                Ok(Ok(_)) => Err(Why::new(Reason::Refused, "the peer gave something else than its entry")),
                Ok(Err(error)) => Err(error.why()),
                Err(_) => Err(Why::new(Reason::NoAnswer, "the peer did not answer in time")),
            };
            let _ = answer.send(Some(entry));
        });
    }

    /// Tells every peer that we leave, all at once, and closes.
    pub async fn goodbye(&mut self) {
        let mut tasks = JoinSet::new();
        for (_, live) in self.live.drain() {
            tasks.spawn(async move {
                let _ = timeout(REQUEST_PATIENCE, quic::tell(&live.connection, &Frame::Goodbye)).await;
                live.connection.close(close::GOODBYE.into(), b"goodbye");
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Takes finished tasks away; tells how many of them panicked.
    pub fn reap(&mut self) -> usize {
        std::iter::from_fn(|| self.tasks.try_join_next())
            .filter(|r| r.as_ref().is_err_and(tokio::task::JoinError::is_panic))
            .count()
    }

    fn read(&mut self, peer: PeerId, link: LinkId, connection: Connection) {
        let (socket, events) = (self.socket.clone(), self.events.clone());
        self.spawn(async move {
            let error = read(peer, &connection, &socket, &events).await;
            let (why, restarted) = ended(&error);
            let _ = events.send(LinkEvent::Closed { peer, link, why, restarted }).await;
        });
    }

    fn retire(&mut self, connection: Connection) {
        self.spawn(async move {
            tokio::time::sleep(SUPERSEDED_FOR).await;
            connection.close(close::SUPERSEDED.into(), b"superseded");
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

async fn dial(
    me: &Me,
    endpoint: &Endpoint,
    client: quinn::ClientConfig,
    peer: PeerId,
    addresses: &[String],
) -> Result<Ready, Why> {
    let mut why = silent(addresses);
    for address in addresses {
        for address in quic::resolve(address).await? {
            match dial_one(me, endpoint, client.clone(), peer, address).await {
                Ok(ready) => return Ok(ready),
                Err(w) => why = Why::new(w.reason, format!("{address}: {}", w.text)),
            }
        }
    }
    Err(why)
}

async fn dial_one(
    me: &Me,
    endpoint: &Endpoint,
    client: quinn::ClientConfig,
    peer: PeerId,
    address: SocketAddr,
) -> Result<Ready, Why> {
    let name = identity::dns_name(Role::Agent, peer.0, &me.domain);
    let connection = quic::connect(endpoint, client, address, &name).await?;
    let ack = match quic::request(&connection, &Frame::Hello(me.hello())).await {
        Ok(Frame::HelloAck(ack)) => ack,
        Ok(_) => return Err(Why::new(Reason::Refused, "it answered Hello with something else: is it a pams-agent?")),
        Err(error) => return Err(error.why()),
    };
    if let Err(rejected) = ack.verdict {
        connection.close(close::REJECTED.into(), b"");
        return Err(Why::new(Reason::Refused, rejected.detail));
    }
    let (epoch, standing) = (ack.epoch, me.standing(peer, ack.epoch, true));
    Ok(Ready { peer, connection, epoch, standing, clock_offset_ms: offset(ack.wall_ms) })
}

/// The other side of [`dial_one`]. `Err(Some(label))`: turned away and to be counted.
async fn answer(me: &Me, incoming: quinn::Incoming) -> Result<Ready, Option<&'static str>> {
    let connection = incoming.await.map_err(|_| None)?;
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|_| None)?;
    let (hello, verdict) = match quic::read_frame(&mut receive).await {
        Ok(Some(Frame::Hello(hello))) => {
            let verdict = judge(me, &connection);
            (Some(hello), verdict)
        }
        Ok(_) => (None, Err(reject(Rejection::Protocol, "the first frame must be Hello"))),
        Err(error) => (None, Err(reject(Rejection::Protocol, &error.to_string()))),
    };
    let ack = HelloAck {
        software: me.software.clone(),
        epoch: me.epoch,
        capabilities: me.capabilities,
        wall_ms: Clock.now().wall_ms(),
        observed: Some(connection.remote_address()),
        verdict: verdict.as_ref().map(|_| ()).map_err(Clone::clone),
        terms: None,
    };
    let written = quic::write_frame(&mut send, &Frame::HelloAck(ack)).await;
    let _ = send.finish();
    match (hello, verdict) {
        (Some(hello), Ok(peer)) if written.is_ok() => {
            let (epoch, standing) = (hello.epoch, me.standing(peer, hello.epoch, false));
            Ok(Ready { peer, connection, epoch, standing, clock_offset_ms: offset(hello.wall_ms) })
        }
        (_, verdict) => {
            let _ = timeout(REQUEST_PATIENCE, send.stopped()).await;
            connection.close(close::REJECTED.into(), b"");
            Err(verdict.err().map(|_| "hello"))
        }
    }
}

/// Who calls, and whether they may: any agent of the cluster but ourselves.
fn judge(me: &Me, connection: &Connection) -> Result<PeerId, Rejected> {
    let subject = connection
        .peer_identity()
        .ok_or_else(|| reject(Rejection::Role, "a certificate is needed: join first"))
        .and_then(|id| Subject::of_peer(&*id).map_err(|e| reject(Rejection::Role, &e.to_string())))?;
    if subject.role != Role::Agent || subject.domain != me.domain {
        return Err(reject(Rejection::Role, "only agents of the same trust domain exchange pings"));
    }
    let peer = PeerId(subject.id);
    if peer == me.peer {
        return Err(reject(
            Rejection::Oneself,
            "this is you: the address leads back to the caller, or two agents share an id",
        ));
    }
    Ok(peer)
}

fn reject(code: Rejection, detail: &str) -> Rejected {
    Rejected { code, detail: detail[..detail.floor_char_boundary(frame::DETAIL_BYTES_MAX)].to_owned() }
}

/// Reads a connection until it ends: datagrams with their stamps, and what little comes on streams.
async fn read(
    peer: PeerId,
    connection: &Connection,
    socket: &Socket,
    events: &mpsc::Sender<LinkEvent>,
) -> quinn::ConnectionError {
    let datagrams = async {
        loop {
            let mut next = pin!(connection.read_datagram());
            // One look without waiting tells when there was nothing to read: no earlier packet carried this datagram.
            let looked = Clock.now();
            let first = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            let (result, idle_since) = match first {
                Poll::Ready(result) => (result, Moment::default()),
                Poll::Pending => (next.await, looked),
            };
            let bytes = match result {
                Ok(bytes) => bytes,
                Err(error) => return error,
            };
            let arrived = socket.arrival(connection.remote_address(), bytes.len(), idle_since);
            let event = match wire::decode(&bytes, frame::DATAGRAM_BYTES_MAX) {
                Ok(Frame::Ping(ping)) => LinkEvent::Ping { from: peer, ping, arrived },
                Ok(Frame::Pong(pong)) => {
                    LinkEvent::Pong { from: peer, pong, arrived, path_rtt_ns: nanos(connection.rtt()) }
                }
                Ok(_) => LinkEvent::Rejected { from: Some(peer), label: "misplaced" },
                Err(error) => LinkEvent::Rejected { from: Some(peer), label: FrameError::label(&error) },
            };
            if events.send(event).await.is_err() {
                return quinn::ConnectionError::LocallyClosed;
            }
        }
    };
    let streams = async {
        let mut asked = JoinSet::new(); // bounded by the number of streams that the peer may open
        loop {
            tokio::select! {
                uni = connection.accept_uni() => match uni {
                    Ok(mut receive) => if let Ok(Ok(Some(Frame::Goodbye))) = timeout(REQUEST_PATIENCE, quic::read_frame(&mut receive)).await {
                        let _ = events.send(LinkEvent::Goodbye { peer }).await;
                    },
                    Err(error) => return error,
                },
                bi = connection.accept_bi() => match bi {
                    Ok((send, receive)) => { asked.spawn(asked_for_self(peer, send, receive, events.clone())); }
                    Err(error) => return error,
                },
                Some(_) = asked.join_next() => {}
            }
        }
    };
    tokio::select! { biased; error = datagrams => error, error = streams => error }
}

/// A peer asks on a stream; all that it may ask of us is our own entry.
async fn asked_for_self(
    peer: PeerId,
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
    events: mpsc::Sender<LinkEvent>,
) {
    let label = match timeout(REQUEST_PATIENCE, quic::read_frame(&mut receive)).await {
        Ok(Ok(Some(Frame::Fetch(_)))) => {
            let (tx, rx) = oneshot::channel();
            let _ = events.send(LinkEvent::AskedForSelf(tx)).await;
            let entry = rx.await.ok().map(Box::new);
            let _ = quic::write_frame(&mut send, &Frame::FetchAck(entry)).await;
            let _ = send.finish();
            return;
        }
        Ok(Err(StreamError::Frame(error))) => error.label(),
        Ok(Ok(_)) => "misplaced",
        Ok(Err(_)) | Err(_) => return,
    };
    let _ = events.send(LinkEvent::Rejected { from: Some(peer), label }).await;
}

/// Why a connection ended, and whether the other side lost its state, that is: restarted.
fn ended(error: &quinn::ConnectionError) -> (Why, bool) {
    let restarted = match error {
        quinn::ConnectionError::Reset => true,
        quinn::ConnectionError::ApplicationClosed(c) => c.error_code == close::SUPERSEDED.into(),
        _ => false,
    };
    (quic::why(error), restarted)
}

fn silent(addresses: &[String]) -> Why {
    let text = format!("{} did not answer: is its agent running, and is the UDP port open?", addresses.join(", "));
    Why::new(Reason::NoAnswer, text)
}

/// How far the other clock is ahead of ours, in ms; the way here is in it.
pub fn offset(wall_ms: u64) -> i64 {
    i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(Clock.now().wall_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_same_connection() {
        let s = |epochs, by_smaller| Standing { epochs, by_smaller };
        let (by_small, by_large) = (s((1, 1), true), s((1, 1), false));
        // Whatever comes first, the one dialled by the smaller id stays.
        assert!(prefer(by_small, by_large) && !prefer(by_large, by_small));
        // A redial by the same side replaces its elder.
        assert!(prefer(by_small, by_small) && prefer(by_large, by_large));
        // A restart of either side beats the rule.
        assert!(prefer(s((2, 1), false), by_small) && prefer(s((1, 2), false), by_small));
        assert!(!prefer(by_small, s((1, 2), false)));
    }
}
