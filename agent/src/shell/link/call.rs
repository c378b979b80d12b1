//! How a connection comes about: calls to a peer, and calls taken, of which there are only so many at once. Both end in an
//! event, of which [`Links::ready`] makes an entry of the table.

use std::time::Duration;

use pams_shared::id::PeerId;
use tokio::time::timeout;

use super::{
    LinkEvent, Links,
    hello::{Caller, answer, dial, silent},
    word,
};

/// From the first packet until Hello is answered.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// Connections with peers at once, handshakes included.
pub const LINKS_MAX: usize = 4_096;
/// Calls answered at once, from the first packet until Hello is; further ones are refused.
pub const CALLS_MAX: usize = 64;
/// With so many of them, a caller must first show that it is at the address it calls from (RFC 9000, 8.1.2).
pub const CALLS_TRUSTED: usize = 16;

impl Links {
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
            let answered = timeout(HANDSHAKE_PATIENCE, async {
                match answer(&me, incoming).await? {
                    Caller::Peer(ready) => Ok(Some(ready)),
                    Caller::Server(server, connection) => word::hear(server, &connection, &events).await.map(|()| None),
                }
            });
            let answered = answered.await;
            drop(place);
            let event = match answered {
                Ok(Ok(Some(ready))) => LinkEvent::Ready(ready),
                Ok(Ok(None)) => return,
                Ok(Err(Some(error))) => LinkEvent::Rejected { from: None, label: error },
                Ok(Err(None)) => return,
                Err(_) => LinkEvent::Silent,
            };
            let _ = events.send(event).await;
        });
        true
    }
}
