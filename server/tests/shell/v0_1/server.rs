//! A server of 0.1: it joins, gossips, follows and is followed, and answers probes of its one peer.

use std::sync::Arc;

use pams_shared::{
    frame::Issued,
    identity::{Applicant, Authority, DOMAIN_DEFAULT, JOIN_NAME, Token, client_tls, home_name, join_tls, system_time},
    quic,
    socket::Socket,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

use super::{
    Body, Deltas, Follow, Held, HelloAck, Role, Shared, ask, golden, hello, read, read_frame, swim, write_frame,
    written,
};
use crate::harness::*;

/// Its peer, as in the golden frames.
pub const PEER: [u8; 16] = [2; 16];
/// Bit 4, a server that talks to siblings, is all that a server of 0.1 can.
const CAPABILITIES: u64 = 1 << 4;
/// The newest number in its log.
const LAST: u64 = 2;

pub struct OldServer {
    _dir: TempDir,
    _endpoint: Endpoint,
    /// The stream of Hello stands as long as the connection.
    _hello: (SendStream, RecvStream),
    tasks: JoinSet<()>,
    pub id: [u8; 16],
    pub ack: HelloAck,
    pub connection: Connection,
    /// How far its own log is held by the other.
    held: watch::Receiver<u64>,
    /// Probes of the other that it has got answers to: pings, and what was asked of its peer.
    acks: watch::Receiver<u32>,
}

impl OldServer {
    /// Joins the cluster with a token of role server, and calls.
    pub async fn start(home: &Home, token: &Token) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("home");
        let applicant = Applicant::open(&place, token).unwrap().unwrap();
        let (socket, _) = Socket::bind(LOOPBACK, 1).unwrap();
        let endpoint = quic::endpoint(socket.clone(), applicant.reset_key(), None).unwrap();
        join(home, &endpoint, applicant, token).await;
        let authority = Authority::open(&place, None, pams_shared::clock::Clock.now().wall_ms() / 1_000).unwrap();
        let (id, generation) = (*authority.server_id().as_bytes(), authority.generation());
        let tls = client_tls(authority.own(), authority.root(), system_time()).unwrap();
        let client = quic::client_config(Arc::new(tls), quic::sibling_transport()).unwrap();
        let connection = soon(quic::connect(&endpoint, client, home.at(), &home_name(DOMAIN_DEFAULT))).await.unwrap();
        let (ack, send, receive) = hello(&connection, says(id, generation, &endpoint)).await;
        let ((said, held), (heard, acks)) = (watch::channel(0), watch::channel(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(gossip(connection.clone(), swim::Member::new(id, generation), heard));
        tasks.spawn(serve(connection.clone(), id, generation, said));
        let (_dir, _endpoint, _hello) = (dir, endpoint, (send, receive));
        Self { _dir, _endpoint, _hello, tasks, id, ack, connection, held, acks }
    }

    /// Waits until the other has answered so many of its probes.
    pub async fn is_answered(&mut self, pings: u32) {
        let Self { acks, tasks, .. } = self;
        soon(async {
            tokio::select! {
                answered = acks.wait_for(|acks| *acks >= pings) => drop(answered.expect("it gossips")),
                ended = tasks.join_next() => panic!("{ended:?}"),
            }
        })
        .await;
    }

    /// Waits until the other holds its whole log.
    pub async fn is_held(&mut self) {
        let Self { held, tasks, .. } = self;
        soon(async {
            tokio::select! {
                held = held.wait_for(|held| *held == LAST) => drop(held.expect("it serves")),
                ended = tasks.join_next() => panic!("{ended:?}"),
            }
        })
        .await;
    }

    /// Follows the other's log until it tells of all these peers; what it tells of each.
    pub async fn follow(&self, owner: [u8; 16], peers: &[[u8; 16]]) -> Vec<Shared> {
        let (mut send, mut receive) = soon(self.connection.open_bi()).await.unwrap();
        let Body::Follow(follow) = golden("follow_from_nothing") else { panic!() };
        write_frame(&mut send, Body::Follow(Follow { owner: owner.to_vec().into(), ..follow })).await;
        let (mut told, mut ended) = (Vec::<Shared>::new(), false);
        while !ended || !peers.iter().all(|peer| told.iter().any(|shared| shared.peer == peer[..])) {
            let Some(Body::Deltas(deltas)) = soon(read_frame(&mut receive)).await else { panic!("no Deltas") };
            assert_eq!(deltas.owner, owner[..]);
            ended |= deltas.bulk_end;
            let Deltas { generation, upto, entries, .. } = deltas;
            told.extend(entries);
            write_frame(&mut send, Body::Held(Held { generation, upto })).await;
        }
        told
    }

    /// Asks how a peer is right now.
    pub async fn probe(&self, peer: [u8; 16]) -> super::ProbeAck {
        let Body::Probe(mut probe) = golden("probe") else { panic!() };
        (probe.peer, probe.within_ms) = (peer.to_vec().into(), 5_000);
        match ask(&self.connection, Body::Probe(probe)).await {
            Body::ProbeAck(ack) => ack,
            other => panic!("{other:?}"),
        }
    }
}

async fn join(home: &Home, endpoint: &Endpoint, applicant: Applicant, token: &Token) {
    let request = applicant.join_request(token, "old", 0).unwrap();
    let Body::Join(mut join) = golden("join") else { panic!() };
    (join.token_id, join.secret) = (request.token_id, request.secret.into());
    (join.id, join.csr) = (request.id.as_bytes().to_vec().into(), request.csr.into());
    assert_eq!(join.role(), Role::Server);
    let client = quic_client(join_tls(token.pin, system_time()).unwrap());
    let connection = soon(quic::connect(endpoint, client, home.at(), JOIN_NAME)).await.unwrap();
    let Body::Issued(issued) = ask(&connection, Body::Join(join)).await else { panic!("nothing is issued") };
    connection.close(0u8.into(), b"");
    let chain = issued.chain.iter().map(|der| der.to_vec()).collect();
    let issued = Issued { chain, root: issued.root.to_vec(), domain: issued.domain };
    applicant.join(token, &issued, None).unwrap();
}

/// As 0.1 says Hello to a sibling.
fn says(id: [u8; 16], generation: u64, endpoint: &Endpoint) -> super::Hello {
    let Body::Hello(mut hello) = golden("hello_member") else { panic!() };
    assert_eq!(hello.capabilities, CAPABILITIES);
    hello.epoch = generation;
    let member = hello.member.as_mut().unwrap();
    (member.id, member.generation) = (id.to_vec().into(), generation);
    member.addresses = vec![endpoint.local_addr().unwrap().to_string()];
    hello
}

async fn gossip(connection: Connection, mut member: swim::Member, heard: watch::Sender<u32>) {
    while let Ok(bytes) = connection.read_datagram().await {
        let Body::Gossip(gossip) = read(&bytes) else { panic!("no gossip in a datagram") };
        for swim in member.take(&gossip.swim) {
            let gossip = super::Gossip { swim: swim.into() };
            let _ = connection.send_datagram(written(Body::Gossip(gossip)).into());
        }
        heard.send_replace(member.acks);
    }
}

/// Serves the streams that the other opens.
async fn serve(connection: Connection, id: [u8; 16], generation: u64, held: watch::Sender<u64>) {
    let mut open = JoinSet::new();
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let held = held.clone();
        open.spawn(async move {
            match read_frame(&mut receive).await {
                Some(Body::Follow(follow)) if follow.owner == id[..] => {
                    feed(send, receive, (&id, generation), &held).await;
                }
                // It has no other's log.
                Some(Body::Follow(_)) | None => {}
                Some(Body::Probe(probe)) => {
                    assert_eq!(probe.peer, PEER[..]);
                    write_frame(&mut send, golden("probe_ack")).await;
                }
                Some(other) => panic!("0.1 answers no {other:?}"),
            }
        });
        while let Some(ended) = open.try_join_next() {
            ended.unwrap();
        }
    }
}

/// Tells its log as 0.1 does: the beginning, what was there, the end of that, and what came since. Twice the same peer, so that the
/// second is news.
async fn feed(mut send: SendStream, mut receive: RecvStream, me: (&[u8], u64), held: &watch::Sender<u64>) {
    let (Body::Deltas(golden), Body::Deltas(empty)) = (golden("deltas"), golden("deltas_empty")) else { panic!() };
    let shared = |seq| Shared { seq, ..golden.entries[0].clone() };
    let frame = Deltas { owner: me.0.to_vec().into(), generation: me.1, ..empty };
    let frames = [
        Deltas { anew: true, bulk: true, ..frame.clone() },
        Deltas { bulk: true, entries: vec![shared(1)], ..frame.clone() },
        Deltas { bulk: true, bulk_end: true, upto: 1, ..frame.clone() },
        Deltas { upto: LAST, entries: vec![shared(LAST)], ..frame },
    ];
    for deltas in frames {
        write_frame(&mut send, Body::Deltas(deltas)).await;
    }
    while let Some(frame) = read_frame(&mut receive).await {
        let Body::Held(Held { upto, .. }) = frame else { panic!("{frame:?} does not acknowledge") };
        held.send_replace(upto);
    }
}
