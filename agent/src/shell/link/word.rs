//! A server calls, which is not our home: it has one thing to say, that the home is lost. No entry of the table comes of it, and the
//! connection ends with the answer. What is said is a reason to ask the home, which the uplink does.

use pams_shared::{
    frame::{Frame, close},
    id::ServerId,
    quic::{self, StreamError},
};
use quinn::Connection;
use tokio::sync::{mpsc, oneshot};

use super::LinkEvent;

/// Hears a server out that has said Hello; whoever calls has set the time for it. `Err(Some(label))`: to be counted.
pub async fn hear(
    by: ServerId,
    connection: &Connection,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), Option<&'static str>> {
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|_| None)?;
    let lost = match quic::read_frame(&mut receive).await {
        Ok(Some(Frame::HomeLost(lost))) => lost,
        Ok(Some(_)) => return Err(Some("misplaced")),
        Err(StreamError::Frame(error)) => return Err(Some(error.label())),
        Ok(None) | Err(_) => return Err(None),
    };
    let (answer, asks) = oneshot::channel();
    events.send(LinkEvent::HomeLost { by, lost, answer }).await.map_err(|_| None)?;
    // Not taken: too much else is asked of the home just now.
    let asks = asks.await.unwrap_or(false);
    quic::write_frame(&mut send, &Frame::HomeLostAck(asks)).await.map_err(|_| None)?;
    let _ = send.finish();
    let _ = send.stopped().await;
    connection.close(close::DONE.into(), b"");
    Ok(())
}
