//! Connections with other servers: called or answered, greeted, and then gossip, the streams on which we are followed, and the
//! streams on which we follow. What is decided is the core's; here are the tasks that read and write.
//!
//! The loop sends gossip itself, for a datagram never waits. Of each stream on which a sibling follows one frame is on its way;
//! the next is made when it is written, so that a slow sibling costs no memory.

pub mod book;
mod call;
mod follow;
mod greet;
mod probe;
pub mod renew;
mod serve;
mod word;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pams_shared::{
    frame::{Deltas, Frame, Held, Member, close, wire},
    lookup::Resolver,
    quic::DATAGRAMS_OUT_BYTES,
    socket::Socket,
};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

pub use self::serve::answer;
use super::{agents::Event, door::Door};
use crate::core::{
    cluster::io::{FollowId, LinkId, SiblingInput, SiblingOutput},
    share::FollowerId,
};

/// So much of the room for datagrams is not told of when all have gone out: the head of one. Each that waits takes more.
const ROOM_UNTOLD: usize = 64;
/// Between two looks whether datagrams have gone out.
const FLUSH_LOOK: Duration = Duration::from_millis(1);

/// What the connections with siblings have in common.
#[derive(Debug)]
pub struct Neighbours {
    pub me: Member,
    /// How to call them.
    pub client: ClientConfig,
    /// How to call agents of others.
    pub to_agents: ClientConfig,
    /// How to answer them.
    pub server: Arc<ServerConfig>,
    pub socket: Arc<Socket>,
    pub resolver: Resolver,
    /// Where known siblings call from: they are answered with windows for much data, which strangers do not get.
    known: RwLock<HashSet<SocketAddr>>,
    /// Those that stand, for questions of other parts.
    connections: RwLock<HashMap<LinkId, Connection>>,
    links: AtomicU64,
    streams: AtomicU64,
}

impl Neighbours {
    pub fn new(
        me: Member,
        [client, to_agents]: [ClientConfig; 2],
        server: Arc<ServerConfig>,
        (socket, resolver): (Arc<Socket>, Resolver),
    ) -> Self {
        let (known, connections) = (RwLock::default(), RwLock::default());
        let (links, streams) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { me, client, to_agents, server, socket, resolver, known, connections, links, streams }
    }

    /// Whether a known sibling may call from there.
    pub fn is_known(&self, from: SocketAddr) -> bool {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&from)
    }

    fn know(&self, members: &[Member]) {
        let addresses = members.iter().flat_map(|member| member.addresses.iter().copied()).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The connections that stand.
    fn connections(&self) -> Vec<Connection> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn next_link(&self) -> LinkId {
        LinkId(self.links.fetch_add(1, Relaxed))
    }

    fn next_stream(&self) -> FollowerId {
        FollowerId(self.streams.fetch_add(1, Relaxed))
    }
}

/// A sibling's stream as its task tells the loop of it: where to put what is to be written.
pub type Feed = mpsc::Sender<Box<Deltas>>;

/// The loop's end of all siblings.
#[derive(Debug)]
pub struct Siblings {
    door: Arc<Door>,
    endpoint: Endpoint,
    feeds: HashMap<FollowerId, Feed>,
    follows: HashMap<FollowId, watch::Sender<Held>>,
    tasks: JoinSet<()>,
}

impl Siblings {
    pub fn new(door: Arc<Door>, endpoint: Endpoint) -> Self {
        let (feeds, follows) = (HashMap::new(), HashMap::new());
        Self { door, endpoint, feeds, follows, tasks: JoinSet::new() }
    }

    /// Waits for a task that ended by a bug; the others end unseen.
    pub async fn panicked(&mut self) {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_panic() => return,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    pub fn linked(&mut self, link: LinkId, connection: Connection) {
        self.links().insert(link, connection);
    }

    fn links(&self) -> RwLockWriteGuard<'_, HashMap<LinkId, Connection>> {
        self.door.neighbours.connections.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, link: LinkId) -> Option<Connection> {
        self.door.neighbours.connections.read().unwrap_or_else(PoisonError::into_inner).get(&link).cloned()
    }

    pub fn followed(&mut self, stream: FollowerId, feed: Feed) {
        self.feeds.insert(stream, feed);
    }

    /// Waits until the gossip that was sent has gone out: a close would discard it.
    pub async fn flushed(&self) {
        let waits = |connection: &Connection| {
            connection.close_reason().is_none()
                && connection.datagram_send_buffer_space() < DATAGRAMS_OUT_BYTES - ROOM_UNTOLD
        };
        for connection in self.door.neighbours.connections() {
            while waits(&connection) {
                sleep(FLUSH_LOOK).await;
            }
        }
    }

    /// Keeps the tables as long as what they hold; before the core hears of it.
    pub fn saw(&mut self, input: &SiblingInput) {
        match input {
            SiblingInput::Unlinked { link } => {
                self.links().remove(link);
                // Its streams' tasks ended with it, and told nothing.
                self.feeds.retain(|_, feed| !feed.is_closed());
            }
            SiblingInput::Unfollowed { stream } => {
                self.feeds.remove(stream);
            }
            SiblingInput::FollowEnded { follow } => {
                self.follows.remove(follow);
            }
            _ => {}
        }
    }

    /// Does what the core asks for; what is not for siblings is given back.
    pub fn act(&mut self, output: SiblingOutput) -> Option<SiblingOutput> {
        match output {
            SiblingOutput::Call { target, addresses, patience } => {
                let (door, endpoint) = (self.door.clone(), self.endpoint.clone());
                self.tasks.spawn(async move { call::call(&door, &endpoint, target, &addresses, patience).await });
            }
            SiblingOutput::Unlink { link, code } => {
                let closed = self.links().remove(&link);
                if let Some(connection) = closed {
                    connection.close(code.into(), said(code));
                }
            }
            SiblingOutput::Gossip { link, bytes } => {
                if let Some(connection) = self.link(link) {
                    // Lost, as any datagram may be.
                    let _ = connection.send_datagram(wire::encode(&Frame::Gossip(bytes)).into());
                }
            }
            SiblingOutput::Follow { link, follow, what } => {
                let connection = self.link(link)?;
                let (held, acks) = watch::channel(Held { generation: 0, upto: 0 });
                self.follows.insert(follow, held);
                let door = self.door.clone();
                self.tasks.spawn(async move { follow::follow(&door, &connection, follow, what, acks).await });
            }
            SiblingOutput::Unfollow { follow } => {
                self.follows.remove(&follow);
            }
            SiblingOutput::Held { follow, held } => {
                if let Some(acks) = self.follows.get(&follow) {
                    acks.send_replace(held);
                }
            }
            SiblingOutput::Deltas { stream, deltas } => {
                if let Some(feed) = self.feeds.get(&stream) {
                    // There is room for the one that is on its way; a stream that has ended says so by itself.
                    let _ = feed.try_send(deltas);
                }
            }
            SiblingOutput::Probe { link, probe, what } => {
                let (door, connection) = (self.door.clone(), self.link(link));
                self.tasks.spawn(async move { probe::ask(&door, connection, probe, what).await });
            }
            SiblingOutput::Tell { peer, addresses, what } => {
                let (door, endpoint) = (self.door.clone(), self.endpoint.clone());
                self.tasks.spawn(async move { word::tell(&door, &endpoint, peer, &addresses, what).await });
            }
            SiblingOutput::Members(members) => {
                self.door.neighbours.know(&members);
                return Some(SiblingOutput::Members(members));
            }
            other @ (SiblingOutput::Banned { .. } | SiblingOutput::Unbanned { .. }) => return Some(other),
        }
        None
    }
}

/// What the other side reads beside the code.
fn said(code: u32) -> &'static [u8] {
    match code {
        close::SUPERSEDED => b"another connection between us is kept",
        close::PROTOCOL => b"what was asked for cannot be followed here",
        _ => b"no room for another server",
    }
}

/// Tells the loop; false when it has ended.
async fn tell(door: &Door, input: SiblingInput) -> bool {
    door.events.send(Event::Sibling(input)).await.is_ok()
}
