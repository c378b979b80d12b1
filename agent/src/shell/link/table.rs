//! Who there is a connection with: one with each peer, and for a while the one that it replaced. What is read from them comes
//! out as [`LinkEvent`]s.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    frame::{Frame, Notify, close},
    id::PeerId,
    moment::Moment,
    quic,
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    EVENTS_MAX, GOODBYE, LinkEvent,
    call::CALLS_MAX,
    hello::{Me, Ready, Standing, prefer},
    read::{Datagrams, Guard, streams},
};
use crate::core::LinkId;

/// A connection that another one replaced is read for so long: what is under way on it may still arrive.
const SUPERSEDED_FOR: Duration = Duration::from_secs(6);
/// How long a goodbye may take to arrive; who misses it finds out by itself.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
/// Two connections that came about within so long of each other may be two calls that crossed. Later, a call says that
/// the caller has lost the old connection.
const CROSSING: Duration = Duration::from_secs(10);

/// All connections with peers.
pub struct Links {
    pub(super) me: Arc<Me>,
    pub(super) endpoint: Endpoint,
    pub(super) client: quinn::ClientConfig,
    pub(super) socket: Arc<Socket>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    /// Of each connection; one that has nothing costs nothing.
    datagrams: SelectAll<BoxStream<'static, thread::Result<LinkEvent>>>,
    pub(super) live: BTreeMap<PeerId, Live>,
    /// The address of each connection that is read, so that its arrivals are remembered as long as one needs them.
    pub(super) tracked: HashMap<LinkId, SocketAddr>,
    /// Of two connections with a peer, the one that is still read for a while.
    retired: HashMap<PeerId, (LinkId, Connection)>,
    /// Free places for calls under way.
    pub(super) door: Arc<Semaphore>,
    pub(super) tasks: JoinSet<()>,
    panics: usize,
    next: LinkId,
}

#[derive(Debug)]
pub(super) struct Live {
    link: LinkId,
    epoch: u64,
    pub(super) connection: Connection,
    standing: Standing,
    since: Moment,
    pub(super) capabilities: u64,
    /// To the task that tells the peer; made with the first thing to tell.
    pub(super) push: Option<mpsc::Sender<Notify>>,
    /// The task that tells the peer that we need not be told.
    pub(super) quieting: Option<AbortHandle>,
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
            live: BTreeMap::new(),
            tracked: HashMap::new(),
            retired: HashMap::new(),
            door: Arc::new(Semaphore::new(CALLS_MAX)),
            tasks: JoinSet::new(),
            panics: 0,
            next: 1,
        };
        (links, inbox)
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
        let live = Live { link, epoch, connection, standing, since: now, capabilities, push: None, quieting: None };
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

    /// Closes the connection with a peer; its end is told as any other.
    pub fn hang_up(&self, peer: PeerId) {
        if let Some(live) = self.live.get(&peer) {
            live.connection.close(close::DONE.into(), b"connecting anew");
        }
    }

    /// Closes the connections that others made with one of these addresses of ours, which we have no more: the side that
    /// dialled can not follow us (RFC 9000, 9), nor hear that we close it, as it takes nothing from elsewhere. Those that we
    /// dialled move by themselves. Says who they were, and where.
    pub fn hang_up_at(&self, lost: &BTreeSet<IpAddr>) -> Vec<(PeerId, SocketAddr)> {
        let is_cut =
            |c: &Connection| c.side().is_server() && c.local_ip().is_some_and(|ip| lost.contains(&ip.to_canonical()));
        let mut cut = Vec::new();
        for (peer, live) in self.live.iter().filter(|(_, l)| is_cut(&l.connection)) {
            live.connection.close(close::DONE.into(), b"moved");
            cut.push((*peer, live.connection.remote_address()));
        }
        cut
    }

    /// Tells every peer that we leave, all at once, and closes.
    pub async fn goodbye(&mut self) {
        let mut tasks = JoinSet::new();
        for (_, live) in std::mem::take(&mut self.live) {
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

    pub(super) fn collect(&mut self) {
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

    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("live", &self.live).finish_non_exhaustive()
    }
}
