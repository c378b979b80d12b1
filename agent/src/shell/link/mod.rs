//! Connections to peers: dialling, accepting, Hello, and a reader each, which stamps what comes in. Which of two connections
//! with the same peer is kept is decided in [`hello`]; what is sent over them is the core's to say.

mod hello;
mod read;

use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{Entry, Frame, Ping, Pong, close, wire},
    id::PeerId,
    moment::Moment,
    quic,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

pub use self::hello::{Me, Ready, offset};
use self::{
    hello::{Standing, answer, dial, prefer, silent},
    read::{datagrams, ended, streams},
};
use crate::core::LinkId;

/// From the first packet until Hello is answered.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that another one replaced is read for so long: what is under way on it may still arrive.
const SUPERSEDED_FOR: Duration = Duration::from_secs(6);
/// How long a question waits for the other side.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// How long a goodbye may take to arrive; who misses it finds out by itself.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
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
        // Each connection has two tasks.
        if self.tasks.len() >= 2 * LINKS_MAX {
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

    /// Gives a ping to its connection. `false`: it leaves without a stamp. A ping that can not
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
                let _ = timeout(GOODBYE_PATIENCE, quic::tell(&live.connection, &Frame::Goodbye)).await;
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
        self.spawn(streams(peer, connection.clone(), events.clone()));
        self.spawn(async move {
            let error = datagrams(peer, &connection, &socket, &events).await;
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
