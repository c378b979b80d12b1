//! What the home sends: acknowledgements on the stream of the reports, and on streams of its own what it tells unasked.

use std::future::pending;

use pams_shared::{
    clock::Clock,
    frame::{Frame, FrameError},
    quic::{self, StreamError},
    record::Reason,
};
use quinn::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{End, UplinkEvent, lost};

/// Reads what the home sends until the connection ends.
pub(super) async fn acknowledgements(mut receive: quinn::RecvStream, events: mpsc::Sender<UplinkEvent>) -> End {
    loop {
        let event = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::ReportAck(ack))) => UplinkEvent::Acked(ack),
            Ok(Some(_)) => UplinkEvent::Rejected { label: "misplaced" },
            Err(StreamError::Frame(error @ FrameError::UnknownKind { .. })) => {
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
pub(super) async fn pushes(connection: &Connection, events: mpsc::Sender<UplinkEvent>) -> End {
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
                Err(StreamError::Frame(error @ FrameError::UnknownKind { .. })) => {
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
