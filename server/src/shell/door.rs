//! The door of the home: which calls are taken, TLS, and the first frame, all within bounds of number and time. A stranger
//! costs what a handshake costs, for a few seconds at most. Who is to be let in now, and who waits, is judged in `queue`.
//!
//! One endpoint serves two protocols, told apart by ALPN: what is said then is `enrol`'s (joining) or `agents`' (working).
//! A certificate that is false, of another cluster, or expired beyond its grace does not get through TLS; whether one is
//! needed, and whose it may be, is asked after that.

use std::{borrow::Cow, sync::Arc, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{ALPN_JOIN, Frame, FrameError, Role, close},
    identity::Subject,
    quic::{self, StreamError},
};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, crypto::rustls::HandshakeData};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    agents::{self, Event},
    enrol::{self, Registrar},
    newcomers::{Newcomer, Newcomers},
    queue::{Queue, Verdict, judge},
    siblings::{self, Neighbours},
};
use crate::{
    core::SessionId,
    metrics::{Handshake, Metrics},
};

/// How long nothing is looked at where nobody waits.
const NOBODY_WAITS: Duration = Duration::from_secs(86_400);

/// Bounds of what callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From a call's first packet to its first frame; and for each single step after that which waits for the other side.
    pub patience: Duration,
    /// Callers that are not through the door yet. A home that takes 100,000 agents back takes about a thousand a second,
    /// a tenth of a second each.
    pub newcomers: usize,
    /// From so many newcomers on, a caller first has to show that its address is its own (RFC 9000, 8.1.2).
    pub newcomers_unproven: usize,
    /// Of the newcomers, those from one host (one IPv4 address, or one /64 of IPv6) that are taken however many others there are. It
    /// may hold as many as there are free places besides. Half of either unless they have shown that the address is theirs.
    pub newcomers_per_source: usize,
    /// Callers that wait for a place, their addresses being their own; of one host within the same bounds.
    pub waiting: usize,
    /// How long they wait.
    pub waiting_for: Duration,
    /// Connections in all.
    pub connections: usize,
}

impl Limits {
    /// For so many peers: each may be calling anew while its old connection is still there, but not all at once.
    pub fn of_peers(peers: usize) -> Self {
        let newcomers = 256;
        Self {
            patience: Duration::from_secs(5),
            newcomers,
            newcomers_unproven: newcomers / 2,
            newcomers_per_source: 16,
            // So many unanswered calls are kept by QUIC.
            waiting: 1_024,
            // Half of what an agent gives a home that it calls, where it knows others.
            waiting_for: Duration::from_secs(1),
            connections: peers.saturating_add(newcomers),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Door {
    pub software: &'static str,
    /// The server's count of starts.
    pub generation: u64,
    pub domain: String,
    pub registrar: Registrar,
    pub metrics: Arc<Metrics>,
    pub events: mpsc::Sender<Event>,
    pub limits: Limits,
    pub newcomers: Arc<Newcomers>,
    /// The other servers.
    pub neighbours: Neighbours,
}

/// What the other side is told as a connection is closed.
#[derive(Debug)]
pub struct End {
    pub code: u32,
    pub text: Cow<'static, str>,
}

impl End {
    /// Nothing more to say, or nobody to say it to.
    pub const DONE: End = End::new(close::DONE, "");
    const SILENT: End = End::new(close::SILENT, "the first frame did not come in time");

    pub const fn new(code: u32, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }
}

/// What it means that a frame could not be read.
#[derive(Debug)]
pub enum Unread {
    /// It is of a kind that is not known here; the next one can be read.
    Skipped,
    /// The other side broke the protocol: the connection is to be closed.
    Broken(End),
    /// There was none: the stream was given up, or the connection lost.
    Lost,
}

/// Answers calls until the endpoint closes, then waits for the connections' tasks.
pub async fn answer(door: Arc<Door>, endpoint: Endpoint) {
    let (mut calls, mut queue) = (JoinSet::new(), Queue::new(door.limits));
    let mut last = 0;
    loop {
        let overdue = queue.deadline().unwrap_or_else(|| Instant::now() + NOBODY_WAITS);
        let called = tokio::select! {
            biased;
            Some(ended) = calls.join_next() => {
                door.ended(ended).await;
                None
            }
            () = door.newcomers.fewer() => None,
            () = sleep_until(overdue) => {
                queue.overdue(Instant::now()).for_each(|call| door.turn_away(call));
                None
            }
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                door.admit(incoming, &mut queue, calls.len())
            }
        };
        let mut let_in = |incoming: Incoming| {
            last += 1;
            let newcomer = door.newcomers.enter(incoming.remote_address().ip());
            calls.spawn(converse(door.clone(), newcomer, SessionId(last), incoming));
        };
        called.into_iter().for_each(&mut let_in);
        while let Some(incoming) = queue.next(&door.newcomers) {
            let_in(incoming);
        }
    }
    drop(queue);
    while let Some(ended) = calls.join_next().await {
        door.ended(ended).await;
    }
}

/// One connection from its first packet to its end.
async fn converse(door: Arc<Door>, newcomer: Newcomer, session: SessionId, incoming: Incoming) {
    let deadline = Clock.instant(Clock.now() + door.limits.patience);
    let from = incoming.remote_address();
    let known = door.neighbours.is_known(from);
    let accept = async {
        if known { incoming.accept_with(door.neighbours.server.clone())?.await } else { incoming.accept()?.await }
    };
    let shaken = timeout_at(deadline, accept).await;
    let connection = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%from, why = %quic::why(&error).text, "handshake failed");
            return door.metrics.handshake(Handshake::Failed);
        }
        Err(_) => return door.metrics.handshake(Handshake::Timeout),
    };
    let _closes = Closes(connection.clone());
    let end = if is_joining(&connection) {
        door.metrics.handshake(Handshake::Ok);
        enrol::converse(&door, &connection, deadline, newcomer).await
    } else if is_server(&connection) {
        siblings::answer(&door, &connection, deadline, newcomer).await
    } else {
        agents::converse(&door, &connection, deadline, newcomer, session).await
    };
    connection.close(end.code.into(), end.text.as_bytes());
}

/// Closes the connection should its task panic: the loop holds it too, and nobody would read it any more.
struct Closes(Connection);

impl Drop for Closes {
    fn drop(&mut self) {
        // Without effect where the task has closed it already.
        self.0.close(close::DONE.into(), b"an error of the server; its log tells more");
    }
}

fn is_joining(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_JOIN))
}

/// Whether a server calls; what its certificate is worth is looked at later.
fn is_server(connection: &Connection) -> bool {
    let subject = connection.peer_identity().and_then(|identity| Subject::of_peer(&*identity).ok());
    subject.is_some_and(|subject| subject.role == Role::Server)
}

impl Door {
    /// Gives back a call that is taken.
    fn admit(&self, incoming: Incoming, queue: &mut Queue<Incoming>, connections: usize) -> Option<Incoming> {
        let from = incoming.remote_address().ip();
        let newcomers = self.newcomers.count(from);
        match judge(&self.limits, newcomers, connections, incoming.remote_address_validated()) {
            Verdict::Take => return Some(incoming),
            Verdict::Retry => {
                // It fails only for an address that is proven; that one was not. Counted when it comes back.
                let _ = incoming.retry();
            }
            Verdict::Wait => {
                if let Err(incoming) = queue.put(Instant::now(), from, incoming) {
                    self.turn_away(incoming);
                }
            }
            Verdict::Refuse => self.turn_away(incoming),
        }
        None
    }

    fn turn_away(&self, incoming: Incoming) {
        self.metrics.handshake(Handshake::Busy);
        incoming.refuse();
    }

    async fn ended(&self, ended: Result<(), JoinError>) {
        if ended.is_err_and(|error| error.is_panic()) {
            // Fails only when the loop has ended.
            let _ = self.events.send(Event::Panicked).await;
        }
    }

    /// The first bidirectional stream, and the first frame on it of a kind that is known here.
    pub async fn first_frame(
        &self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<(SendStream, RecvStream, Frame), End> {
        let first = async {
            let (send, mut receive) = connection.accept_bi().await.map_err(|_| End::DONE)?;
            loop {
                match quic::read_frame(&mut receive).await {
                    Ok(Some(frame)) => return Ok((send, receive, frame)),
                    Ok(None) => return Err(End::DONE),
                    Err(error) => match self.unread(&error) {
                        Unread::Skipped => {}
                        Unread::Broken(end) => return Err(end),
                        Unread::Lost => return Err(End::DONE),
                    },
                }
            }
        };
        timeout_at(deadline, first).await.unwrap_or_else(|_| {
            self.metrics.frame_rejected("silent");
            Err(End::SILENT)
        })
    }

    /// Counts a frame that could not be read, and says what that means.
    pub fn unread(&self, error: &StreamError) -> Unread {
        let label = match error {
            StreamError::Frame(error) => error.label(),
            StreamError::Oversized => "oversized",
            StreamError::Truncated => "truncated",
            _ => return Unread::Lost,
        };
        self.metrics.frame_rejected(label);
        match error {
            StreamError::Frame(FrameError::UnknownKind { .. }) => Unread::Skipped,
            error => Unread::Broken(End { code: close::PROTOCOL, text: error.to_string().into() }),
        }
    }

    /// A frame came where its kind has no place.
    pub fn misplaced(&self, text: &'static str) -> End {
        self.metrics.frame_rejected("misplaced");
        End::new(close::PROTOCOL, text)
    }
}
