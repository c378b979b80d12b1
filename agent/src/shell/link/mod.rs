//! Connections to peers: dialling, accepting, Hello, and a reader each, which stamps what comes in. Which of two connections
//! with the same peer is kept is decided in [`hello`]; what is sent over them is the core's to say.

mod hello;
mod push;
mod read;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
    thread,
    time::Duration,
};

use futures_util::stream::{BoxStream, SelectAll, Stream, StreamExt};
use pams_shared::{
    clock::Clock,
    frame::{Entry, Frame, News, Notify, NotifyAck, Ping, Pong, SubscribeAck, capability, close, wire},
    id::{Correlator, PeerId},
    moment::Moment,
    presence::Ask,
    quic,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

pub use self::hello::{Me, Ready, offset};
use self::{
    hello::{Standing, answer, dial, prefer, silent},
    read::{Datagrams, Ended, Guard, streams},
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
/// Calls answered at once, from the first packet until Hello is; further ones are refused.
pub const CALLS_MAX: usize = 64;
/// With so many of them, a caller must first show that it is at the address it calls from (RFC 9000, 8.1.2).
pub const CALLS_TRUSTED: usize = 16;
/// What is written on the connections of one that leaves.
pub const GOODBYE: &[u8] = b"goodbye";
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
    /// A caller said nothing in time.
    Silent,
    Goodbye {
        peer: PeerId,
        /// Of the start that leaves.
        epoch: u64,
    },
    /// The other side sends from another address now.
    Moved {
        link: LinkId,
        to: SocketAddr,
    },
    /// The peer asks for our own entry.
    AskedForSelf(oneshot::Sender<Entry>),
    /// The peer wants to be told of `peer`.
    AskedToTell {
        from: PeerId,
        peer: PeerId,
        answer: oneshot::Sender<SubscribeAck>,
    },
    /// The peer need not be told any more.
    AskedToBeQuiet {
        from: PeerId,
    },
    /// What came of [`Links::subscribe`].
    Subscribed {
        ask: Ask,
        answer: Result<Option<News>, Why>,
    },
    /// A notify is about to be written.
    NotifyLeft {
        correlator: Correlator,
        at: Moment,
    },
    NotifyAck {
        from: PeerId,
        ack: NotifyAck,
        arrived: Moment,
    },
    /// The peer tells; the next one is read when this is answered.
    Notify {
        from: PeerId,
        notify: Notify,
        arrived: Moment,
        answer: oneshot::Sender<NotifyAck>,
    },
    Closed {
        peer: PeerId,
        epoch: u64,
        link: LinkId,
        ended: Ended,
    },
}

/// All connections with peers.
pub struct Links {
    me: Arc<Me>,
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    socket: Arc<Socket>,
    events: mpsc::Sender<LinkEvent>,
    /// Of each connection; one that has nothing costs nothing.
    datagrams: SelectAll<BoxStream<'static, thread::Result<LinkEvent>>>,
    live: HashMap<PeerId, Live>,
    /// The address of each connection that is read, so that its arrivals are remembered as long as one needs them.
    tracked: HashMap<LinkId, SocketAddr>,
    /// Of two connections with a peer, the one that is still read for a while.
    retired: HashMap<PeerId, (LinkId, Connection)>,
    /// Free places for calls under way.
    door: Arc<Semaphore>,
    tasks: JoinSet<()>,
    panics: usize,
    next: LinkId,
}

#[derive(Debug)]
struct Live {
    link: LinkId,
    epoch: u64,
    connection: Connection,
    standing: Standing,
    since: Moment,
    capabilities: u64,
    /// To the task that tells the peer; made with the first thing to tell.
    push: Option<mpsc::Sender<Notify>>,
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
            datagrams: SelectAll::new(),
            live: HashMap::new(),
            tracked: HashMap::new(),
            retired: HashMap::new(),
            door: Arc::new(Semaphore::new(CALLS_MAX)),
            tasks: JoinSet::new(),
            panics: 0,
            next: 1,
        };
        (links, inbox)
    }

    /// Begins to call a peer at its addresses; ends in `Ready` or `DialFailed`.
    pub fn dial(&mut self, peer: PeerId, addresses: Vec<String>) {
        let (me, endpoint, client) = (self.me.clone(), self.endpoint.clone(), self.client.clone());
        let (socket, events) = (self.socket.clone(), self.events.clone());
        self.spawn(async move {
            let dialled = timeout(HANDSHAKE_PATIENCE, dial(&me, &endpoint, &socket, client, peer, &addresses)).await;
            let event = match dialled {
                Ok(Ok(ready)) => LinkEvent::Ready(Box::new(ready)),
                Ok(Err(why)) => LinkEvent::DialFailed { peer, why },
                Err(_) => LinkEvent::DialFailed { peer, why: silent(&addresses) },
            };
            let _ = events.send(event).await;
        });
    }

    /// Takes a call; `false`: refused, as there are too many.
    pub fn accept(&mut self, incoming: quinn::Incoming) -> bool {
        self.collect();
        let place = self.door.clone().try_acquire_owned().ok();
        let Some(place) = place.filter(|_| self.tasks.len() < LINKS_MAX) else {
            incoming.refuse();
            return false;
        };
        if CALLS_MAX - self.door.available_permits() > CALLS_TRUSTED && !incoming.remote_address_validated() {
            let _ = incoming.retry(); // fails only for one that is validated
            return true;
        }
        let (me, events) = (self.me.clone(), self.events.clone());
        self.spawn(async move {
            let answered = timeout(HANDSHAKE_PATIENCE, answer(&me, incoming)).await;
            drop(place);
            let event = match answered {
                Ok(Ok(ready)) => LinkEvent::Ready(Box::new(ready)),
                Ok(Err(Some(error))) => LinkEvent::Rejected { from: None, label: error },
                Ok(Err(None)) => return,
                Err(_) => LinkEvent::Silent,
            };
            let _ = events.send(event).await;
        });
        true
    }

    /// What the next datagram tells, whichever connection it comes on, each in turn. Waits for ever while there is no
    /// connection. Nothing is lost where it is not waited for to the end.
    pub async fn datagram(&mut self) -> LinkEvent {
        loop {
            match self.datagrams.next().await {
                Some(Ok(event)) => return event,
                Some(Err(_)) => self.panics += 1,
                None => std::future::pending().await,
            }
        }
    }

    /// A connection is ready: keeps it and starts its reader. `None` if the one there is stays the better; the new one is
    /// then read for a while, in case the other side has used it already.
    pub fn ready(&mut self, ready: Ready) -> Option<LinkId> {
        let Ready { peer, connection, epoch, capabilities, standing, .. } = ready;
        let link = self.next;
        self.next += 1;
        let address = connection.remote_address();
        self.socket.track(address);
        self.tracked.insert(link, address);
        self.read(peer, epoch, link, connection.clone());
        let now = Clock.now();
        let keeps = |old: &Live| {
            let alive = old.connection.close_reason().is_none() && now.since(old.since) < CROSSING;
            alive && !prefer(standing, old.standing)
        };
        if self.live.get(&peer).is_some_and(keeps) {
            self.retire(peer, link, connection);
            return None;
        }
        let live = Live { link, epoch, connection, standing, since: now, capabilities, push: None };
        if let Some(old) = self.live.insert(peer, live) {
            if old.standing.epochs == standing.epochs {
                self.retire(peer, old.link, old.connection);
            } else {
                old.connection.close(close::SUPERSEDED.into(), b"restarted");
            }
        }
        Some(link)
    }

    /// The other side of a connection sends from another address now.
    pub fn moved(&mut self, link: LinkId, to: SocketAddr) {
        if let Some(from) = self.tracked.insert(link, to) {
            self.untrack(from);
        }
    }

    /// A connection ended.
    pub fn closed(&mut self, peer: PeerId, link: LinkId) {
        if let Some(address) = self.tracked.remove(&link) {
            self.untrack(address);
        }
        if self.live.get(&peer).is_some_and(|l| l.link == link) {
            self.live.remove(&peer);
        }
        if self.retired.get(&peer).is_some_and(|(l, _)| *l == link) {
            self.retired.remove(&peer);
        }
    }

    /// Whether this start of the peer is over: another one is connected.
    pub fn is_over(&self, peer: PeerId, epoch: u64) -> bool {
        self.live.get(&peer).is_some_and(|l| l.epoch > epoch)
    }

    /// No connection has this address any more, unless one has.
    fn untrack(&self, address: SocketAddr) {
        if !self.tracked.values().any(|a| *a == address) {
            self.socket.untrack(address);
            self.socket.unexpect(address);
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

    /// Closes the connection with a peer; its end is told as any other.
    pub fn hang_up(&self, peer: PeerId) {
        if let Some(live) = self.live.get(&peer) {
            live.connection.close(close::DONE.into(), b"connecting anew");
        }
    }

    /// Closes the connections that others made with one of these addresses of ours, which we have no more: the side that
    /// dialled can not follow us (RFC 9000, 9). Those that we dialled move by themselves. Says how many there were.
    pub fn hang_up_at(&self, lost: &BTreeSet<IpAddr>) -> usize {
        let cut = |l: &&Live| {
            l.connection.side().is_server()
                && l.connection.local_ip().is_some_and(|ip| lost.contains(&ip.to_canonical()))
        };
        let cut: Vec<&Live> = self.live.values().filter(cut).collect();
        cut.iter().for_each(|l| l.connection.close(close::DONE.into(), b"moved"));
        cut.len()
    }

    /// Asks a connected peer to tell us; ends in `Subscribed`. `Err`: it can not be asked.
    pub fn subscribe(&mut self, ask: Ask) -> Result<(), Why> {
        let Some(live) = self.live.get(&ask.peer) else {
            return Err(Why::new(Reason::NotSent, "the connection was lost meanwhile"));
        };
        if live.capabilities & capability::SUBSCRIPTIONS == 0 {
            return Err(Why::new(Reason::Refused, "its agent is of a version that knows no subscriptions: update it"));
        }
        let (connection, events) = (live.connection.clone(), self.events.clone());
        self.spawn(async move {
            let answer = subscribe(&connection, ask.peer).await;
            let _ = events.send(LinkEvent::Subscribed { ask, answer }).await;
        });
        Ok(())
    }

    /// Tells a connected peer that we need not be told any more.
    pub fn unsubscribe(&mut self, peer: PeerId) {
        if let Some(connection) = self.live.get(&peer).map(|live| live.connection.clone()) {
            self.spawn(async move {
                // It ends without an answer. Who misses it is told so with the next notify.
                let _ = timeout(REQUEST_PATIENCE, quic::request(&connection, &Frame::Unsubscribe(peer))).await;
            });
        }
    }

    /// Gives a notify to its connection; without one it is lost, and given again with the next.
    pub fn notify(&mut self, peer: PeerId, notify: Notify) {
        let Some(live) = self.live.get_mut(&peer) else { return };
        if let Some(push) = live.push.as_ref().filter(|push| !push.is_closed()) {
            let _ = push.try_send(notify);
            return;
        }
        let (push, notifies) = mpsc::channel(push::WAITING_MAX);
        let _ = push.try_send(notify);
        live.push = Some(push);
        let task = push::publish(peer, live.connection.clone(), notifies, self.events.clone());
        self.spawn(task);
    }

    /// Tells every peer that we leave, all at once, and closes.
    pub async fn goodbye(&mut self) {
        let mut tasks = JoinSet::new();
        for (_, live) in self.live.drain() {
            tasks.spawn(async move {
                let _ = timeout(GOODBYE_PATIENCE, quic::tell(&live.connection, &Frame::Goodbye)).await;
                live.connection.close(close::GOODBYE.into(), GOODBYE);
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Takes finished tasks away; tells how many of them panicked since the last time.
    pub fn reap(&mut self) -> usize {
        self.collect();
        std::mem::take(&mut self.panics)
    }

    fn collect(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.panics += usize::from(ended.is_err_and(|e| e.is_panic()));
        }
    }

    fn read(&mut self, peer: PeerId, epoch: u64, link: LinkId, connection: Connection) {
        let (socket, events) = (self.socket.clone(), self.events.clone());
        let guard = Guard { peer, epoch, link, connection: connection.clone(), events: None };
        let streams = streams(peer, epoch, connection.clone(), events.clone());
        self.spawn(async move {
            let _guard = guard;
            streams.await;
        });
        let datagrams = Datagrams::new(Guard { peer, epoch, link, connection, events: Some(events) }, socket);
        self.listen(datagrams.events());
    }

    /// Adds to what [`datagram`](Self::datagram) gives. Should it panic, it has ended.
    pub fn listen(&mut self, events: impl Stream<Item = LinkEvent> + Send + 'static) {
        self.datagrams.push(AssertUnwindSafe(events).catch_unwind().boxed());
    }

    /// Reads a connection for a while yet; only one with each peer, so that a peer that calls again and again costs no more.
    fn retire(&mut self, peer: PeerId, link: LinkId, connection: Connection) {
        if let Some((_, older)) = self.retired.insert(peer, (link, connection.clone())) {
            older.close(close::SUPERSEDED.into(), b"superseded");
        }
        self.spawn(async move {
            let _ = timeout(SUPERSEDED_FOR, connection.closed()).await;
            connection.close(close::SUPERSEDED.into(), b"superseded");
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("live", &self.live).finish_non_exhaustive()
    }
}

/// Asks the other side, a peer or a home, to be told of a peer.
pub async fn subscribe(connection: &Connection, peer: PeerId) -> Result<Option<News>, Why> {
    match timeout(REQUEST_PATIENCE, quic::request(connection, &Frame::Subscribe(peer))).await {
        Ok(Ok(Frame::SubscribeAck(SubscribeAck(Ok(news))))) => Ok(news),
        Ok(Ok(Frame::SubscribeAck(SubscribeAck(Err(rejected))))) => Err(Why::new(Reason::Refused, rejected.detail)),
        Ok(Ok(_)) => Err(Why::new(Reason::Refused, "the answer to a subscription was something else")),
        Ok(Err(error)) => Err(error.why()),
        Err(_) => Err(Why::new(Reason::NoAnswer, "the subscription was not answered in time")),
    }
}

#[cfg(test)]
mod tests;
