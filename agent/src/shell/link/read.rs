//! Reads a connection until it ends: datagrams with their stamps, and what little comes on streams.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
};

use futures_util::stream::{self, Stream};
use pams_shared::{
    clock::Clock,
    frame::{self, Frame, FrameError, close, wire},
    id::PeerId,
    moment::{Moment, nanos},
    quic::{self, StreamError},
    record::{Reason, Why},
    socket::Socket,
};
use quinn::Connection;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{GOODBYE, LinkEvent, REQUEST_PATIENCE, push};
use crate::core::LinkId;

/// The datagrams of a connection. The loop looks at them itself: a task between would cost a ping more than all that the
/// core does with it.
pub struct Datagrams {
    guard: Guard,
    socket: Arc<Socket>,
    from: SocketAddr,
    /// Read already, and told next.
    later: Option<LinkEvent>,
}

impl Datagrams {
    pub fn new(guard: Guard, socket: Arc<Socket>) -> Self {
        let from = guard.connection.remote_address();
        Self { guard, socket, from, later: None }
    }

    /// What they tell, one by one, until the connection ends. That is told behind what came on its streams.
    pub fn events(self) -> impl Stream<Item = LinkEvent> + Send {
        stream::unfold(self, |mut datagrams| async {
            match datagrams.next().await {
                Ok(event) => Some((event, datagrams)),
                Err(error) => {
                    let Guard { peer, epoch, link, events, .. } = &datagrams.guard;
                    let closed =
                        LinkEvent::Closed { peer: *peer, epoch: *epoch, link: *link, ended: Ended::from(&error) };
                    if let Some(events) = events {
                        let _ = events.send(closed).await;
                    }
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> Result<LinkEvent, quinn::ConnectionError> {
        if let Some(event) = self.later.take() {
            return Ok(event);
        }
        let Guard { peer, link, ref connection, .. } = self.guard;
        // The last look that found nothing: no earlier packet carried this datagram.
        let (mut looked, mut idle_since) = (Moment::default(), Moment::default());
        let mut datagram = pin!(connection.read_datagram());
        let read = poll_fn(|cx| {
            looked = Clock.stamp();
            let read = datagram.as_mut().poll(cx);
            if read.is_pending() {
                idle_since = looked;
            }
            read
        });
        let bytes = read.await?;
        // It may move: another network, or another binding of a NAT (RFC 9000, 9).
        let at = connection.remote_address();
        let moved = at != self.from;
        if moved {
            self.from = at;
            self.socket.track(at);
        }
        let arrived = self.socket.arrival(at, bytes.len(), idle_since, looked);
        let event = match wire::decode(&bytes, frame::DATAGRAM_BYTES_MAX) {
            Ok(Frame::Ping(ping)) => LinkEvent::Ping { from: peer, ping, arrived },
            Ok(Frame::Pong(pong)) => {
                LinkEvent::Pong { from: peer, pong, arrived, path_rtt_ns: nanos(connection.rtt()) }
            }
            Ok(_) => LinkEvent::Rejected { from: Some(peer), label: "misplaced" },
            Err(error) => LinkEvent::Rejected { from: Some(peer), label: FrameError::label(&error) },
        };
        if moved {
            self.later = Some(event);
            return Ok(LinkEvent::Moved { link, to: at });
        }
        Ok(event)
    }
}

/// Takes what little comes on streams, until the connection ends. A task of its own: such an exchange is a sequence.
pub async fn streams(peer: PeerId, epoch: u64, connection: Connection, events: mpsc::Sender<LinkEvent>) {
    let mut questions = JoinSet::new(); // bounded by the number of streams that the peer may open
    loop {
        tokio::select! {
            uni = connection.accept_uni() => match uni {
                Ok(receive) => told(peer, epoch, receive, &events).await,
                Err(_) => return,
            },
            bi = connection.accept_bi() => match bi {
                Ok((send, receive)) => { questions.spawn(asked(peer, send, receive, events.clone())); }
                Err(_) => return,
            },
            Some(_) = questions.join_next() => {}
        }
    }
}

/// A peer tells something on a stream; all that it can tell is that it leaves.
async fn told(peer: PeerId, epoch: u64, mut receive: quinn::RecvStream, events: &mpsc::Sender<LinkEvent>) {
    let event = match timeout(REQUEST_PATIENCE, quic::read_frame(&mut receive)).await {
        Ok(Ok(Some(Frame::Goodbye))) => LinkEvent::Goodbye { peer, epoch },
        Ok(Ok(Some(_))) => LinkEvent::Rejected { from: Some(peer), label: "misplaced" },
        Ok(Err(StreamError::Frame(error))) => LinkEvent::Rejected { from: Some(peer), label: error.label() },
        Ok(Ok(None) | Err(_)) | Err(_) => return,
    };
    let _ = events.send(event).await;
}

/// A peer asks on a stream, for our own entry or to be told of our presence; or it tells us of its own, and then the stream is
/// its push stream.
async fn asked(
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
            return answer(&mut send, Frame::FetchAck(entry)).await;
        }
        Ok(Ok(Some(Frame::Subscribe(of)))) => {
            let (tx, rx) = oneshot::channel();
            let _ = events.send(LinkEvent::AskedToTell { from: peer, peer: of, answer: tx }).await;
            if let Ok(ack) = rx.await {
                answer(&mut send, Frame::SubscribeAck(ack)).await;
            }
            return;
        }
        Ok(Ok(Some(Frame::Unsubscribe(_)))) => {
            let _ = events.send(LinkEvent::AskedToBeQuiet { from: peer }).await;
            return;
        }
        Ok(Ok(Some(Frame::Notify(first)))) => return push::be_told(peer, first, send, receive, events).await,
        Ok(Err(StreamError::Frame(error))) => error.label(),
        Ok(Ok(_)) => "misplaced",
        Ok(Err(_)) | Err(_) => return,
    };
    let _ = events.send(LinkEvent::Rejected { from: Some(peer), label }).await;
}

async fn answer(send: &mut quinn::SendStream, frame: Frame) {
    // Whoever does not take its answer gets none.
    let _ = timeout(REQUEST_PATIENCE, quic::write_frame(send, &frame)).await;
    let _ = send.finish();
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub why: Why,
    /// The other side lost its state, that is: restarted.
    pub restarted: bool,
    /// The other side left, and its Goodbye may be lost with the connection. A program that just ends closes with the same
    /// code, but gives no reason.
    pub left: bool,
}

impl From<&quinn::ConnectionError> for Ended {
    fn from(error: &quinn::ConnectionError) -> Self {
        let (restarted, left) = match error {
            quinn::ConnectionError::Reset => (true, false),
            quinn::ConnectionError::ApplicationClosed(c) => (
                c.error_code == close::SUPERSEDED.into(),
                c.error_code == close::GOODBYE.into() && c.reason[..] == *GOODBYE,
            ),
            _ => (false, false),
        };
        Self { why: quic::why(error), restarted, left }
    }
}

/// Kept by the readers of a connection: should one panic, the connection is closed, and the loop told of it.
pub struct Guard {
    pub peer: PeerId,
    pub epoch: u64,
    pub link: LinkId,
    pub connection: Connection,
    /// `None`: the other reader tells.
    pub events: Option<mpsc::Sender<LinkEvent>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.connection.close(close::DONE.into(), b"a bug on this side");
        let Self { peer, epoch, link, .. } = *self;
        let why = Why::new(Reason::Cancelled, "a bug on this side lost the connection; the log has more");
        let ended = Ended { why, restarted: false, left: false };
        if let Some(events) = &self.events {
            let _ = events.try_send(LinkEvent::Closed { peer, epoch, link, ended });
        }
    }
}
