//! Hello: how two peers come to trust a connection, and which of two connections between them is kept ([`prefer`]).

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{self, Frame, Hello, HelloAck, Rejected, Rejection, Role, close},
    id::{PeerId, ServerId},
    identity::{self, Subject},
    lookup::Resolver,
    quic,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::{sync::Mutex, time::timeout};

/// How long a rejection may take to arrive before the connection is closed over it.
const REJECTION_PATIENCE: Duration = Duration::from_secs(3);
/// How long one connection may keep the others from saying Hello.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Ready {
    pub peer: PeerId,
    pub connection: Connection,
    /// The other side's starts.
    pub epoch: u64,
    pub capabilities: u64,
    pub standing: Standing,
    pub clock_offset_ms: i64,
}

/// What decides between two connections with the same peer; both sides see the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Both epochs, the smaller id's first: a restart of either makes a newer connection.
    pub epochs: (u64, u64),
    /// Dialled by the side with the smaller id.
    pub by_smaller: bool,
}

/// Whether a new connection is to replace the one there is. A newer epoch of either side wins; within the same epochs the
/// one dialled by the smaller id; of two by the same side the newer.
pub fn prefer(new: Standing, old: Standing) -> bool {
    let sum = |s: Standing| s.epochs.0.saturating_add(s.epochs.1);
    match sum(new).cmp(&sum(old)) {
        std::cmp::Ordering::Equal => new.by_smaller || !old.by_smaller,
        order => order.is_gt(),
    }
}

/// Who we are to peers.
#[derive(Clone, Debug)]
pub struct Me {
    pub peer: PeerId,
    pub epoch: u64,
    pub domain: String,
    pub software: String,
    pub capabilities: u64,
}

impl Me {
    pub fn hello(&self) -> Hello {
        Hello {
            software: self.software.clone(),
            epoch: self.epoch,
            capabilities: self.capabilities,
            wall_ms: Clock.now().wall_ms(),
            attach: 0,
            profile: None,
            member: None,
        }
    }

    fn standing(&self, peer: PeerId, epoch: u64, dialled: bool) -> Standing {
        let smaller = self.peer < peer;
        let epochs = if smaller { (self.epoch, epoch) } else { (epoch, self.epoch) };
        Standing { epochs, by_smaller: dialled == smaller }
    }
}

/// Who called.
#[derive(Debug)]
pub enum Caller {
    Peer(Box<Ready>),
    /// It has a word to say; see [`word`](super::word).
    Server(ServerId, Connection),
}

/// Calls a peer at its addresses, until one answers Hello.
pub async fn dial(
    me: &Me,
    endpoint: &Endpoint,
    socket: &Socket,
    client: quinn::ClientConfig,
    peer: PeerId,
    addresses: &[String],
) -> Result<Ready, Why> {
    // Hello is said on one connection at a time, so that the other side does not take several for one.
    let turn = Mutex::new(());
    let attempt = |address| {
        let (client, turn) = (client.clone(), &turn);
        async move {
            let dialled = dial_one(me, endpoint, socket, client, peer, address, turn).await;
            dialled.map_err(|w| Why::new(w.reason, format!("{address}: {}", w.text)))
        }
    };
    quic::race(&Resolver::default(), addresses, attempt).await
}

async fn dial_one(
    me: &Me,
    endpoint: &Endpoint,
    socket: &Socket,
    client: quinn::ClientConfig,
    peer: PeerId,
    address: SocketAddr,
    turn: &Mutex<()>,
) -> Result<Ready, Why> {
    let name = identity::dns_name(Role::Agent, peer.0, &me.domain);
    let connection = quic::call(endpoint, socket, client, address, &name).await?;
    let _turn = timeout(TURN_PATIENCE, turn.lock()).await;
    let ack = match quic::request(&connection, &Frame::Hello(me.hello())).await {
        Ok(Frame::HelloAck(ack)) => ack,
        Ok(_) => return Err(Why::new(Reason::Refused, "it answered Hello with something else: is it a pams-agent?")),
        Err(error) => return Err(error.why()),
    };
    if let Err(rejected) = ack.verdict {
        connection.close(close::REJECTED.into(), b"");
        return Err(Why::new(Reason::Refused, rejected.detail));
    }
    let (epoch, standing) = (ack.epoch, me.standing(peer, ack.epoch, true));
    let capabilities = ack.capabilities;
    Ok(Ready { peer, connection, epoch, capabilities, standing, clock_offset_ms: offset(ack.wall_ms) })
}

/// The other side of [`dial_one`]. `Err(Some(label))`: turned away and to be counted.
pub async fn answer(me: &Me, incoming: quinn::Incoming) -> Result<Caller, Option<&'static str>> {
    let connection = incoming.await.map_err(|_| None)?;
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|_| None)?;
    let (hello, verdict) = match quic::read_frame(&mut receive).await {
        Ok(Some(Frame::Hello(hello))) => {
            let verdict = judge(me, &connection);
            (Some(hello), verdict)
        }
        Ok(_) => (None, Err(reject(Rejection::Protocol, "the first frame must be Hello"))),
        Err(error) => (None, Err(reject(Rejection::Protocol, &error.to_string()))),
    };
    let ack = HelloAck {
        software: me.software.clone(),
        epoch: me.epoch,
        capabilities: me.capabilities,
        wall_ms: Clock.now().wall_ms(),
        observed: Some(connection.remote_address()),
        verdict: verdict.as_ref().map(|_| ()).map_err(Clone::clone),
        terms: None,
        member: None,
    };
    let written = quic::write_frame(&mut send, &Frame::HelloAck(ack)).await;
    let _ = send.finish();
    match (hello, verdict) {
        (Some(_), Ok(Who::Server(server))) if written.is_ok() => Ok(Caller::Server(server, connection)),
        (Some(hello), Ok(Who::Peer(peer))) if written.is_ok() => {
            let (epoch, standing) = (hello.epoch, me.standing(peer, hello.epoch, false));
            let capabilities = hello.capabilities;
            let clock_offset_ms = offset(hello.wall_ms);
            Ok(Caller::Peer(Box::new(Ready { peer, connection, epoch, capabilities, standing, clock_offset_ms })))
        }
        (_, verdict) => {
            let _ = timeout(REJECTION_PATIENCE, send.stopped()).await;
            connection.close(close::REJECTED.into(), b"");
            Err(verdict.err().map(|_| "hello"))
        }
    }
}

enum Who {
    Peer(PeerId),
    Server(ServerId),
}

/// Who calls, and whether they may: any agent of the cluster but ourselves, and its servers.
fn judge(me: &Me, connection: &Connection) -> Result<Who, Rejected> {
    let subject = connection
        .peer_identity()
        .ok_or_else(|| reject(Rejection::Role, "a certificate is needed: join first"))
        .and_then(|id| Subject::of_peer(&*id).map_err(|e| reject(Rejection::Role, &e.to_string())))?;
    if subject.domain != me.domain {
        return Err(reject(Rejection::Role, "only agents of the same trust domain exchange pings"));
    }
    if subject.role == Role::Server {
        return Ok(Who::Server(ServerId(subject.id)));
    }
    let peer = PeerId(subject.id);
    if peer == me.peer {
        return Err(reject(
            Rejection::Oneself,
            "this is you: the address leads back to the caller, or two agents share an id",
        ));
    }
    Ok(Who::Peer(peer))
}

fn reject(code: Rejection, detail: &str) -> Rejected {
    Rejected { code, detail: detail[..detail.floor_char_boundary(frame::DETAIL_BYTES_MAX)].to_owned() }
}

pub fn silent(addresses: &[String]) -> Why {
    let text = format!("{} did not answer: is its agent running, and is the UDP port open?", addresses.join(", "));
    Why::new(Reason::NoAnswer, text)
}

/// How far the other clock is ahead of ours, in ms; the way here is in it.
pub fn offset(wall_ms: u64) -> i64 {
    i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(Clock.now().wall_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_same_connection() {
        let s = |epochs, by_smaller| Standing { epochs, by_smaller };
        let (by_small, by_large) = (s((1, 1), true), s((1, 1), false));
        // Whatever comes first, the one dialled by the smaller id stays.
        assert!(prefer(by_small, by_large) && !prefer(by_large, by_small));
        // A redial by the same side replaces its elder.
        assert!(prefer(by_small, by_small) && prefer(by_large, by_large));
        // A restart of either side beats the rule.
        assert!(prefer(s((2, 1), false), by_small) && prefer(s((1, 2), false), by_small));
        assert!(!prefer(by_small, s((1, 2), false)));
    }
}
