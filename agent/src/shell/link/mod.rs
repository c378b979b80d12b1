//! Connections to peers: dialling, accepting, Hello, and a reader each, which stamps what comes in. Which of two connections
//! with the same peer is kept is decided in [`hello`]; what is sent over them is the core's to say.
//!
//! [`table`] is who there is a connection with, [`call`] how one comes about, [`send`] what is said over it, and [`read`]
//! what comes from it. [`word`] is what a server has to say that calls an agent.

mod call;
mod hello;
mod push;
mod read;
mod send;
mod table;
mod word;

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{Entry, HomeLost, News, Notify, NotifyAck, Ping, Pong, SubscribeAck},
    id::{Correlator, PeerId, ServerId},
    moment::Moment,
    presence::Ask,
    record::Why,
};
use tokio::sync::oneshot;

use self::read::Ended;
pub use self::{
    hello::{Me, Ready, offset},
    send::subscribe,
    table::Links,
};
use crate::core::LinkId;

/// How long a question waits for the other side.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// What is written on the connections of one that leaves.
pub const GOODBYE: &[u8] = b"goodbye";
/// Events that wait for the loop; beyond, readers wait, and QUIC drops the oldest datagrams.
pub const EVENTS_MAX: usize = 1_024;

/// What a link tells the loop.
#[derive(Debug)]
pub enum LinkEvent {
    /// Hello is answered.
    Ready(Box<Ready>),
    DialFailed {
        peer: PeerId,
        why: Why,
    },
    Ping {
        from: PeerId,
        ping: Ping,
        arrived: Option<Moment>,
    },
    Pong {
        from: PeerId,
        pong: Pong,
        arrived: Option<Moment>,
        path_rtt_ns: u64,
    },
    Rejected {
        from: Option<PeerId>,
        label: &'static str,
    },
    /// A caller said nothing in time.
    Silent,
    /// A server says that another one, which may be our home, is lost.
    HomeLost {
        by: ServerId,
        lost: HomeLost,
        answer: oneshot::Sender<bool>,
    },
    Goodbye {
        peer: PeerId,
        /// Of the start that leaves.
        epoch: u64,
    },
    /// The other side sends from another address now.
    Moved {
        link: LinkId,
        to: SocketAddr,
    },
    /// The peer asks for our own entry.
    AskedForSelf(oneshot::Sender<Entry>),
    /// The peer wants to be told of `peer`.
    AskedToTell {
        from: PeerId,
        peer: PeerId,
        answer: oneshot::Sender<SubscribeAck>,
    },
    /// The peer need not be told any more.
    AskedToBeQuiet {
        from: PeerId,
    },
    /// What came of [`Links::subscribe`].
    Subscribed {
        ask: Ask,
        answer: Result<Option<News>, Why>,
    },
    /// A notify is about to be written.
    NotifyLeft {
        correlator: Correlator,
        at: Moment,
    },
    NotifyAck {
        from: PeerId,
        ack: NotifyAck,
        arrived: Moment,
    },
    /// The peer tells; the next one is read when this is answered.
    Notify {
        from: PeerId,
        notify: Notify,
        arrived: Moment,
        answer: oneshot::Sender<NotifyAck>,
    },
    Closed {
        peer: PeerId,
        epoch: u64,
        link: LinkId,
        ended: Ended,
    },
}

#[cfg(test)]
mod tests;
