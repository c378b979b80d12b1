//! The push stream between two peers, from both its ends. Who publishes opens it and writes Notify; who subscribed writes
//! NotifyAck back. One a connection, opened with the first thing to tell, so that QUIC keeps all of it in order.

use std::future::pending;

use pams_shared::{
    clock::Clock,
    frame::{Frame, Notify, NotifyAck},
    id::PeerId,
    moment::Moment,
    quic::{self, StreamError},
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, oneshot};

use super::LinkEvent;

/// Notifies that wait for the stream. One is under way at a time, and one again after a renewal; more would be a bug, and is
/// treated as lost with the connection.
pub const WAITING_MAX: usize = 4;

/// Writes what is to be told until the connection ends or nobody tells any more.
pub async fn publish(
    to: PeerId,
    connection: Connection,
    mut notifies: mpsc::Receiver<Notify>,
    events: mpsc::Sender<LinkEvent>,
) {
    let Some(mut notify) = notifies.recv().await else { return };
    let Ok((mut send, receive)) = connection.open_bi().await else { return };
    let write = async {
        loop {
            // Before it is written, so that nobody was told before it left.
            let (correlator, at) = (notify.correlator, Clock.now());
            if quic::write_frame(&mut send, &Frame::Notify(notify)).await.is_err() {
                return;
            }
            if let Some(correlator) = correlator
                && events.send(LinkEvent::NotifyLeft { correlator, at }).await.is_err()
            {
                return;
            }
            match notifies.recv().await {
                Some(next) => notify = next,
                None => return,
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = acknowledgements(to, receive, &events) => {}
    }
}

/// Reads what comes back.
async fn acknowledgements(from: PeerId, mut receive: RecvStream, events: &mpsc::Sender<LinkEvent>) {
    loop {
        let event = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::NotifyAck(ack))) => LinkEvent::NotifyAck { from, ack, arrived: Clock.now() },
            Ok(Some(_)) => LinkEvent::Rejected { from: Some(from), label: "misplaced" },
            Err(StreamError::Frame(error)) => LinkEvent::Rejected { from: Some(from), label: error.label() },
            // Nothing more comes back; what is written may still be read.
            Ok(None) | Err(_) => return pending().await,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Reads what a peer tells, its first notify read already, and acknowledges each when the loop has passed it on.
pub async fn be_told(
    from: PeerId,
    first: Notify,
    mut send: SendStream,
    mut receive: RecvStream,
    events: mpsc::Sender<LinkEvent>,
) {
    let (mut notify, mut arrived) = (first, Clock.now());
    loop {
        let Some(ack) = passed_on(from, notify, arrived, &events).await else { return };
        if quic::write_frame(&mut send, &Frame::NotifyAck(ack)).await.is_err() {
            return;
        }
        notify = loop {
            let label = match quic::read_frame(&mut receive).await {
                Ok(Some(Frame::Notify(notify))) => break notify,
                Ok(Some(_)) => "misplaced",
                Err(StreamError::Frame(error)) => error.label(),
                Ok(None) | Err(_) => return,
            };
            if events.send(LinkEvent::Rejected { from: Some(from), label }).await.is_err() {
                return;
            }
        };
        arrived = Clock.now();
    }
}

/// `None`: it has no place here.
async fn passed_on(
    from: PeerId,
    notify: Notify,
    arrived: Moment,
    events: &mpsc::Sender<LinkEvent>,
) -> Option<NotifyAck> {
    let (answer, ack) = oneshot::channel();
    events.send(LinkEvent::Notify { from, notify, arrived, answer }).await.ok()?;
    ack.await.ok()
}
