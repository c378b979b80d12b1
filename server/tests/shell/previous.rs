//! What was shipped as 0.1 and is not updated yet goes on with a server of today: another server of the cluster, and an agent.

use std::collections::BTreeSet;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use pams_server::core::probe::Caller;
use pams_shared::{
    frame::{Role, capability, close},
    id::PeerId,
};
use quinn::{Connection, RecvStream, SendStream};
use serde_json::Value;

use crate::{
    harness::*,
    v0_1::{
        self, Body,
        server::{OldServer, PEER},
    },
};

/// What the server serves there.
async fn json(home: &Home, path: &str) -> Value {
    let stream = tokio::net::TcpStream::connect(home.running.ready.http.unwrap()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "localhost").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// An agent of 0.1: what is on its first stream, and whatever the home opens.
struct OldAgent {
    agent: Agent,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    ack: v0_1::HelloAck,
}

impl OldAgent {
    async fn of(home: &Home, capabilities: u64) -> Self {
        let (mut agent, token) = (Agent::new(), home.token(None, 0));
        let issued = agent.enrol(home, &token).await.unwrap();
        agent.identity.join(&token, &issued).unwrap();
        let connection = agent.call(home).await;
        let Body::Hello(mut hello) = v0_1::golden("hello_metrics") else { panic!() };
        hello.capabilities = capabilities;
        hello.profile.as_mut().unwrap().capabilities = capabilities;
        let (ack, send, receive) = v0_1::hello(&connection, hello).await;
        assert_eq!(ack.rejection, 0, "{}", ack.detail);
        Self { agent, connection, send, receive, ack }
    }

    fn id(&self) -> [u8; 16] {
        *self.agent.peer().as_bytes()
    }

    /// Reports as in the golden frame, as the first batch.
    async fn report(&mut self) -> v0_1::ReportAck {
        let Body::Report(mut report) = v0_1::golden("report") else { panic!() };
        report.batch = 1;
        v0_1::write_frame(&mut self.send, Body::Report(report)).await;
        match soon(v0_1::read_frame(&mut self.receive)).await {
            Some(Body::ReportAck(ack)) => ack,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_of_0_1_joins_and_is_served() {
    let home = Home::start().await;
    let mut agent = OldAgent::of(&home, capability::SUBSCRIPTIONS).await;
    assert_eq!(agent.report().await.batch, 1);
    let mut old = OldServer::start(&home, &home.token_of(Role::Server, Some(1), 0)).await;
    let me = home.look(|pams, now| pams.cluster(now).me).await;
    assert_eq!((old.ack.rejection, old.ack.member.as_ref().unwrap().id.to_vec()), (0, me.0.as_bytes().to_vec()));

    // It is a member as long as each has answers of the other.
    old.is_answered(5).await;
    let cluster = json(&home, "/api/v1/cluster").await;
    let id = uuid::Uuid::from_bytes(old.id).to_string();
    let member = cluster["members"].as_array().unwrap().iter().find(|m| m["id"] == *id).unwrap();
    assert_eq!((&member["state"], &member["connected"]), (&"alive".into(), &true.into()), "{member}");
    assert_eq!(home.metric("pams_server_membership_notices_total", &[("notice", "garbled")]).await, 0.0);

    // What it shares is taken, and what is shared here is told to it.
    old.is_held().await;
    let peer = json(&home, &format!("/api/v1/peers/{}", uuid::Uuid::from_bytes(PEER))).await;
    assert_eq!((&peer["name"], &peer["presence"]["note"]), (&"tracker-β".into(), &"lunch".into()), "{peer}");
    assert_eq!((&peer["liveness"], &peer["server"]), (&"live".into(), &id.as_str().into()), "{peer}");
    let told = old.follow(*me.0.as_bytes(), &[agent.id()]).await;
    let lot: v0_1::Lot = v0_1::known(&told.iter().rfind(|shared| shared.peer == agent.id()[..]).unwrap().lot);
    assert_eq!((lot.applied, lot.profile.unwrap().name.as_str()), (1, "tracker-β"));

    // Each asks the other how a peer of it is.
    let probed =
        soon(home.running.handle.probe(PeerId::from_bytes(PEER), std::time::Duration::from_secs(5), Caller::Operator));
    let probed = probed.await.unwrap().unwrap();
    assert_eq!((probed.verdict.as_str(), probed.findings.len()), ("partly", 2), "{probed:?}");
    let answer = old.probe(agent.id()).await;
    let by: Vec<_> = answer.findings.iter().map(|finding| finding.by.to_vec()).collect();
    assert_eq!((answer.rejection, by), (0, vec![me.0.as_bytes().to_vec()]), "{answer:?}");

    old.is_answered(10).await;
    old.connection.close(close::DONE.into(), b"");
}

/// With today's agent beside it, which is pushed all that there is.
#[tokio::test]
async fn an_agent_of_0_1_is_served_and_pushed_nothing_that_it_does_not_take() {
    let home = Home::start().await;
    let mut old = OldAgent::of(&home, capability::SUBSCRIPTIONS).await;
    let (terms, capabilities) = (old.ack.terms.unwrap(), old.ack.capabilities);
    assert_eq!((terms.applied_batch, capabilities & capability::SUBSCRIPTIONS), (0, capability::SUBSCRIPTIONS));
    assert_eq!(old.report().await, v0_1::ReportAck { batch: 1, pace_ms: terms.pace_ms });
    let mut new = OldAgent::of(&home, capability::SUBSCRIPTIONS | capability::SERVERS | capability::CHECKS).await;
    let id = old.id();

    // What it asks is answered: of itself, and of one that it is told of from then on.
    let entry = match v0_1::ask(&old.connection, Body::Fetch(v0_1::Fetch { peer: id.to_vec().into() })).await {
        Body::FetchAck(v0_1::FetchAck { entry: Some(entry) }) => entry,
        other => panic!("{other:?}"),
    };
    assert_eq!((entry.peer.to_vec(), entry.liveness()), (id.to_vec(), v0_1::Liveness::Live));
    let subscribe = v0_1::Subscribe { peer: new.id().to_vec().into() };
    match v0_1::ask(&old.connection, Body::Subscribe(subscribe)).await {
        Body::SubscribeAck(ack) => assert_eq!((ack.rejection, ack.news.unwrap().peer.to_vec()), (0, new.id().to_vec())),
        other => panic!("{other:?}"),
    }
    let Body::Renew(mut renew) = v0_1::golden("renew") else { panic!() };
    renew.csr = old.agent.identity.csr().unwrap().into();
    assert!(matches!(v0_1::ask(&old.connection, Body::Renew(renew)).await, Body::Issued(_)));

    new.report().await;
    let mut to_old = Pushed::to(&old.connection).await;
    to_old.until(Some("notify")).await;

    // There is another server, a question about each of them, and an end of this one.
    let connection = new.connection.clone();
    let told = tokio::spawn(async move {
        let to_new = async { Pushed::to(&connection).await.until(Some("move")).await };
        tokio::join!(to_old.until(None), to_new)
    });
    let _second = Home::joining(home.token_of(Role::Server, Some(1), 0)).await.unwrap();
    for peer in [old.id(), new.id()] {
        let within = std::time::Duration::from_millis(200);
        soon(home.running.handle.probe(PeerId::from_bytes(peer), within, Caller::Operator)).await.unwrap().unwrap();
    }
    soon(home.running.handle.drain()).await.unwrap();
    soon(new.connection.closed()).await;
    soon(home.running.stop()).await;
    let (to_old, to_new) = soon(told).await.unwrap();
    assert_eq!((to_old, to_new), (BTreeSet::from(["notify"]), BTreeSet::from(["servers", "check", "move"])));
}

/// The stream on which the home pushes, and the kinds that came on it.
struct Pushed {
    connection: Connection,
    streams: (SendStream, RecvStream),
    kinds: BTreeSet<&'static str>,
}

impl Pushed {
    async fn to(connection: &Connection) -> Self {
        let streams = soon(connection.accept_bi()).await.unwrap();
        Self { connection: connection.clone(), streams, kinds: BTreeSet::new() }
    }

    /// Reads until one of this kind, or the end; who is to move goes.
    async fn until(&mut self, last: Option<&'static str>) -> BTreeSet<&'static str> {
        while last.is_none_or(|last| !self.kinds.contains(last))
            && let Some(body) = soon(v0_1::read_frame(&mut self.streams.1)).await
        {
            self.kinds.insert(match body {
                Body::Servers(_) => "servers",
                Body::Check(_) => "check",
                Body::Move(_) => "move",
                Body::Notify(_) => "notify",
                other => panic!("{other:?}"),
            });
        }
        if self.kinds.contains("move") {
            self.connection.close(close::DONE.into(), b"");
        }
        self.kinds.clone()
    }
}
