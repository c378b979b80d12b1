//! What is said over a connection: pings and pongs as datagrams, notifies on a stream that stays, and questions on a stream
//! each. What can not be given to a connection is to the core a lost packet, or told at once.

use pams_shared::{
    frame::{Entry, Frame, News, Notify, Ping, Pong, SubscribeAck, capability, wire},
    id::PeerId,
    presence::Ask,
    quic,
    record::{Reason, Why},
};
use quinn::Connection;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{LinkEvent, Links, REQUEST_PATIENCE, push};

impl Links {
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
        let Some(live) = self.live.get_mut(&peer) else { return };
        // One at a time: a peer that tells on and on and takes no answer costs no more.
        if live.quieting.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let connection = live.connection.clone();
        live.quieting = Some(self.tasks.spawn(async move {
            // It ends without an answer. Who misses it is told so with the next notify.
            let _ = timeout(REQUEST_PATIENCE, quic::request(&connection, &Frame::Unsubscribe(peer))).await;
        }));
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
