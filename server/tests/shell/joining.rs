//! Joining: each mistake with a token has its own refusal, over the wire and in the metrics.

use std::future::Future;

use pams_server::core::Pams;
use pams_shared::{
    frame::{Frame, Join, Refusal, Refused, Role, close},
    identity::{Address, AgentIdentity, JOIN_NAME, Token, join_tls, system_time},
    quic,
    status::Liveness,
};
use uuid::Uuid;

use crate::harness::*;

struct Joining {
    home: Home,
    agent: Agent,
}

impl Joining {
    async fn new() -> Self {
        Self { home: Home::start().await, agent: Agent::new() }
    }

    fn ask(&self, token: &Token) -> Join {
        self.agent.identity.join_request(token, "edge-7", 0).unwrap()
    }

    async fn refused(&self, token: &Token, join: Join) -> Refused {
        self.agent.ask_to_join(&self.home, token, join).await.unwrap_err()
    }

    async fn joins(&self, result: &str) -> f64 {
        self.home.metric("pams_server_joins_total", &[("result", result)]).await
    }
}

/// Checks the code, its counter, and that the text says what to do.
async fn check(joining: &Joining, refused: impl Future<Output = Refused>, code: Refusal, label: &str, advice: &str) {
    let before = joining.joins(label).await;
    let Refused { code: got, detail } = refused.await;
    assert_eq!(got, code, "{detail}");
    assert!(detail.contains(advice), "{detail}");
    assert_eq!(joining.joins(label).await, before + 1.0, "{label}");
}

#[tokio::test]
async fn the_first_token_lets_an_agent_join_and_names_where() {
    let home = Home::start().await;
    let token: Token = home.running.ready.first_token.clone().unwrap().to_string().parse().unwrap();
    assert_eq!(token.addresses, [home.at().into()]);
    let agent = Agent::of(&home).await;
    assert!(agent.identity.is_joined_by(&token));
    assert_eq!(home.metric("pams_server_joins_total", &[("result", "issued")]).await, 1.0);
    let listed = home.tokens().list(0).unwrap();
    assert_eq!(
        (listed[0].uses_left, listed[0].used, listed[0].expires_at - listed[0].created_at),
        (Some(9), 1, 86_400)
    );
}

#[tokio::test]
async fn each_mistake_with_a_token_is_told_apart() {
    const NEW: &str = "pams-server token create";
    let j = Joining::new().await;
    let good = j.home.token(Some(1), 0);
    let unknown = Token { id: "0000".into(), ..good.clone() };
    check(&j, j.refused(&unknown, j.ask(&unknown)), Refusal::TokenUnknown, "token_unknown", NEW).await;
    let wrong = Token { secret: [0; 16], ..good.clone() };
    check(&j, j.refused(&wrong, j.ask(&wrong)), Refusal::TokenSecret, "token_secret", NEW).await;
    let expired = j.home.token(None, 2 * 86_400);
    check(&j, j.refused(&expired, j.ask(&expired)), Refusal::TokenExpired, "token_expired", NEW).await;
    let revoked = j.home.token(None, 0);
    assert!(j.home.tokens().revoke(&revoked.id, 1).unwrap());
    check(&j, j.refused(&revoked, j.ask(&revoked)), Refusal::TokenRevoked, "token_revoked", NEW).await;
    let as_server = Join { role: Role::Server, ..j.ask(&good) };
    check(&j, j.refused(&good, as_server), Refusal::TokenRole, "token_role", "start pams-agent with it").await;
    let csr = Join { csr: vec![1, 2, 3], ..j.ask(&good) };
    check(&j, j.refused(&good, csr), Refusal::Csr, "csr", "pams-agent of this version").await;
    let nobody = Join { id: Uuid::nil(), ..j.ask(&good) };
    check(&j, j.refused(&good, nobody), Refusal::Protocol, "protocol", "UUIDv4").await;

    j.agent.enrol(&j.home, &good).await.unwrap();
    assert!(j.agent.enrol(&j.home, &good).await.is_ok(), "the same request again: its answer may have been lost");
    let other = Agent::new();
    let used_up = async { other.enrol(&j.home, &good).await.unwrap_err() };
    check(&j, used_up, Refusal::TokenUsedUp, "token_used_up", NEW).await;
    let fresh = j.home.token(None, 0);
    let taken = Join { id: j.agent.peer().0, ..other.identity.join_request(&fresh, "b", 0).unwrap() };
    check(&j, j.refused(&fresh, taken), Refusal::IdTaken, "id_taken", "pams-server forget").await;
}

#[tokio::test]
async fn a_token_of_another_cluster_sends_no_secret() {
    let (home, other) = (Home::start().await, Home::start().await);
    let token = other.running.ready.first_token.clone().unwrap();
    let client = quic_client(join_tls(token.pin, system_time()).unwrap());
    let why = Agent::new().call_as(&home, client, JOIN_NAME).await.unwrap_err();
    assert!(why.text.contains("not the one that the token was made by"), "{why}");
    home.handshakes("failed", 1.0).await;
}

#[tokio::test]
async fn who_joins_says_join_and_nothing_else() {
    let j = Joining::new().await;
    let token = j.home.running.ready.first_token.clone().unwrap();
    let connection = j.agent.call_to_join(&j.home, &token).await;
    assert!(soon(quic::request(&connection, &Frame::Goodbye)).await.is_err());
    assert_eq!(closed(&connection).await, Some(close::PROTOCOL));
    assert_eq!(j.home.rejected_frames("misplaced").await, 1.0);
}

#[tokio::test]
async fn a_forgotten_agent_joins_again_with_a_new_token_as_the_same_peer() {
    let (home, dir) = (Home::start().await, tempfile::tempdir().unwrap());
    let first = home.running.ready.first_token.clone().unwrap();
    let used = |token: &Token| {
        let id = token.id.clone();
        home.tokens().list(0).unwrap().into_iter().find(|t| t.id == id).unwrap().used
    };
    let agent = whole_agent(&dir, &first).await;
    let peer = agent.ready.peer;
    let is_here = move |pams: &Pams, now| pams.peer(now, peer).is_some_and(|p| p.home.session.is_some());
    home.until(is_here).await;
    soon(agent.stop()).await;
    home.until(move |pams, now| pams.peer(now, peer).unwrap().peer.liveness == Liveness::Left).await;
    assert!(home.running.handle.forget(peer, false).await.unwrap().unwrap().unbound);

    // The same command line: it starts, uses nothing, and is turned away.
    let agent = whole_agent(&dir, &first).await;
    home.rejected_hello().await;
    soon(agent.stop()).await;
    assert_eq!(used(&first), 1);

    let by_name: Address = format!("localhost:{}", home.at().port()).parse().unwrap();
    let fresh = Token { addresses: vec![home.at().into(), by_name], ..home.token(Some(1), 0) };
    for _ in 0..2 {
        let agent = whole_agent(&dir, &fresh).await;
        assert_eq!(agent.ready.peer, peer);
        home.until(is_here).await;
        soon(agent.stop()).await;
        assert_eq!(used(&fresh), 1, "the second time it has been used already");
    }
    let identity = AgentIdentity::open(&dir.path().join("agent")).unwrap();
    assert_eq!(identity.homes(), fresh.addresses);
    drop(identity);

    // One that is no good does not keep it from what it has.
    let agent = whole_agent(&dir, &Token { id: "0000".into(), ..fresh }).await;
    home.until(is_here).await;
    soon(agent.stop()).await;
}

async fn whole_agent(dir: &tempfile::TempDir, token: &Token) -> pams_agent::shell::Running {
    let config = pams_agent::config::Config {
        data_dir: dir.path().join("agent"),
        socket: Some(dir.path().join("agent.sock")),
        listen: LOOPBACK,
        http: pams_agent::config::Http::Off,
        ..Default::default()
    };
    let options = pams_agent::shell::Options { join: Some(token.to_string()), ..Default::default() };
    soon(pams_agent::shell::start(config, options)).await.unwrap()
}
