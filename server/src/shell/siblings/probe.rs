//! One question to another server, and one of it to us: how is this peer right now?

use std::time::Duration;

use pams_shared::{
    frame::{Frame, Probe, ProbeAck},
    quic,
};
use quinn::{Connection, SendStream};
use tokio::{sync::oneshot, time::timeout};

use super::{
    super::{
        agents::Event,
        door::{Door, End},
    },
    tell,
};
use crate::core::{
    cluster::io::{LinkId, SiblingInput},
    probe::ProbeId,
};

/// Asks on a stream of its own; `None`: the connection has just ended. The core waits no longer than whoever asked does: here
/// is an end of it in any case.
pub(super) async fn ask(door: &Door, connection: Option<Connection>, probe: ProbeId, what: Probe) {
    let asked = async {
        match quic::request(&connection?, &Frame::Probe(what)).await {
            Ok(Frame::ProbeAck(ack)) => Some(ack),
            Ok(_) => {
                door.metrics.frame_rejected("misplaced");
                None
            }
            Err(error) => {
                tracing::debug!(peer = %what.peer, %error, "a probe was not answered");
                None
            }
        }
    };
    let ack = timeout(Duration::from_millis(what.within_ms.into()) * 2, asked).await.ok().flatten();
    tell(door, SiblingInput::Probed { probe, ack }).await;
}

/// Answers one.
pub(super) async fn answer(door: &Door, link: LinkId, what: Probe, mut send: SendStream) -> Result<(), End> {
    let (answer, answered) = oneshot::channel();
    if door.events.send(Event::Probe { link, what, answer }).await.is_err() {
        return Ok(());
    }
    let Ok(ack): Result<ProbeAck, _> = answered.await else { return Ok(()) };
    // Whoever does not read its answer gets none.
    let _ = timeout(door.limits.patience, quic::write_frame(&mut send, &Frame::ProbeAck(ack))).await;
    Ok(())
}
