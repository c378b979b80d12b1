//! Several servers of one cluster: how the second one joins, and whose agents are welcome where.

use std::time::Duration;

use pams_server::{
    core::Forgot,
    shell::{Options, StartError, start},
};
use pams_shared::{
    frame::{Frame, Refusal, Rejection, Role, close},
    identity::{Authority, IdentityError, Token},
};

use crate::harness::*;

async fn two() -> (Home, Home) {
    let first = Home::start().await;
    let second = Home::joining(first.token_of(Role::Server, Some(1), 0)).await.unwrap();
    (first, second)
}

fn used(home: &Home, token: &Token) -> u64 {
    home.tokens().list(0).unwrap().into_iter().find(|t| t.id == token.id).unwrap().used
}

#[tokio::test]
async fn an_agent_of_one_server_works_at_the_other() {
    let (first, second) = two().await;
    let (first_token, token) =
        (first.running.ready.first_token.clone().unwrap(), second.running.ready.first_token.clone().unwrap());
    assert_eq!((token.pin, &token.addresses[..]), (first_token.pin, &[second.at().into()][..]));
    let (mine, mut theirs) = (Agent::of(&first).await, Agent::of(&second).await);
    mine.attach(&second, 1).await;
    let session = theirs.attach(&first, 1).await;
    // Renewed there, it is known there, and still here.
    let Frame::Issued(issued) = session.ask(Frame::Renew(theirs.identity.csr().unwrap())).await else {
        panic!("no certificate")
    };
    theirs.identity.renew(&issued).unwrap();
    theirs.attach(&first, 2).await;
    theirs.attach(&second, 3).await;
}

#[tokio::test]
async fn how_old_others_words_are_is_measured_whoever_asks() {
    let (first, second) = two().await;
    let count = async |home: &Home| home.metric("pams_server_directory_staleness_seconds_count", &[]).await;
    let agent = Agent::of(&second).await;
    agent.attach(&second, 1).await;
    let peer = agent.peer();
    first.until(move |pams, now| pams.peer(now, peer).is_some()).await;
    soon(async {
        while count(&first).await < 2.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(count(&second).await, 0.0, "nobody else has peers");
    // Not heard on, it counts with its age, until its peers are gone.
    let ages = first.look(|pams, now| [0, 10, 61].map(|s| pams.ages(now + Duration::from_secs(s)).collect::<Vec<_>>()));
    let [now, later, gone] = ages.await;
    assert_eq!((now.len(), later.len(), gone.len()), (1, 1, 0));
    assert_eq!(later[0] - now[0], Duration::from_secs(10));
}

#[tokio::test]
async fn an_agent_that_was_forgotten_is_turned_away_by_all() {
    let (first, second) = two().await;
    let agent = Agent::of(&second).await;
    let mut session = agent.attach(&second, 1).await;
    assert_eq!(session.report(batch(1, 1)).await.batch, 1);
    let peer = agent.peer();
    first.until(move |pams, now| pams.peer(now, peer).is_some()).await;
    // At another server than its home.
    assert_eq!(first.running.handle.forget(agent.peer(), true).await.unwrap().unwrap().entry, Forgot::Done);
    assert_eq!(closed(&session.connection).await, Some(close::REJECTED));
    second.until(move |pams, now| pams.peer(now, peer).is_none()).await;
    for home in [&second, &first] {
        let rejected = agent.turned_away(home, 2).await;
        assert_eq!(rejected.code, Rejection::Key);
        assert!(rejected.detail.contains("it was forgotten"), "{}", rejected.detail);
    }
    // It lasts, until the agent joins with a new token.
    let second = second.restart(|_| ()).await;
    assert_eq!(agent.turned_away(&second, 3).await.code, Rejection::Key);
    agent.enrol(&second, &second.token(Some(1), 0)).await.unwrap();
    agent.attach_when_settled(&second, 4).await;
}

#[tokio::test]
async fn an_agent_that_joins_anew_is_let_in_also_by_a_server_that_was_away_meanwhile() {
    let (first, second) = two().await;
    let mut agent = Agent::of(&second).await;
    agent.attach(&second, 1).await;
    let peer = agent.peer();
    first.until(move |pams, now| pams.peer(now, peer).is_some()).await;
    assert_eq!(second.running.handle.forget(peer, true).await.unwrap().unwrap().entry, Forgot::Done);
    first.until(move |pams, now| pams.peer(now, peer).is_none()).await;
    let Home { dir, running } = second;
    soon(running.stop()).await;
    let issued = agent.enrol(&first, &first.token(Some(1), 0)).await.unwrap();
    agent.identity.renew(&issued).unwrap();
    agent.attach(&first, 2).await;

    let running = soon(start(config(&dir, LOOPBACK), Options::default())).await.unwrap();
    let second = Home { dir, running };
    second.until(move |pams, now| !pams.is_settling(now) && pams.peer(now, peer).is_some()).await;
    // What it hears it writes down beside all else.
    soon(async { while Session::open(agent.call(&second).await, agent.hello(3, 0)).await.ack.verdict.is_err() {} })
        .await;
}

#[tokio::test]
async fn the_same_command_line_starts_a_joined_server_again() {
    let (first, foreign) = (Home::start().await, Home::start().await);
    let token = first.token_of(Role::Server, Some(1), 0);
    let second = Home::joining(token.clone()).await.unwrap();
    let agent = Agent::of(&second).await;
    let Home { dir, running } = second;
    soon(running.stop()).await;
    let options = |token: &Token| Options { join: Some(token.clone()), ..Options::default() };
    let running = soon(start(config(&dir, LOOPBACK), options(&token))).await.unwrap();
    let second = Home { dir, running };
    agent.attach_when_settled(&second, 1).await;
    assert_eq!((used(&first, &token), &second.running.ready.first_token), (1, &None));
    let Home { dir, running } = second;
    soon(running.stop()).await;

    // One that is no good does not keep it from what it has; one of another cluster is a mistake.
    let bad = Token { id: "0000".into(), ..token.clone() };
    let running = soon(start(config(&dir, LOOPBACK), options(&bad))).await.unwrap();
    soon(running.stop()).await;
    let another = foreign.token_of(Role::Server, Some(1), 0);
    let error = soon(start(config(&dir, LOOPBACK), options(&another))).await.unwrap_err();
    assert!(matches!(error, StartError::Identity(IdentityError::HasCluster { .. })), "{error}");
    assert_eq!(used(&foreign, &another), 0);
    let authority = Authority::open(&dir.path().join("home"), None, 0).unwrap();
    assert_eq!(authority.seeds(), token.addresses);
}

#[tokio::test]
async fn a_server_that_may_not_join_does_not_start_and_says_what_to_do() {
    let (first, second) = two().await;
    let for_agents = first.token(Some(1), 0);
    let error = Home::joining(for_agents.clone()).await.err().unwrap().to_string();
    assert!(error.contains(&format!("{} refuses to let this server join", first.at())), "{error}");
    assert!(
        error.contains("start pams-agent with it, or make a new one with `pams-server token create --role server`")
    );
    let for_servers = first.token_of(Role::Server, Some(1), 0);
    let refused = Agent::new().enrol(&first, &for_servers).await.unwrap_err();
    assert_eq!(refused.code, Refusal::TokenRole);
    assert!(refused.detail.contains("start pams-server with it, or make a new one with `pams-server token create`"));
    let elsewhere = Token { addresses: vec![second.at().into()], ..for_servers.clone() };
    let error = Home::joining(elsewhere).await.err().unwrap().to_string();
    assert!(error.contains("only a server with the root's key can let servers join"), "{error}");
    assert_eq!((used(&first, &for_agents), used(&first, &for_servers)), (0, 0));
    Home::joining(for_servers).await.unwrap();
}

#[tokio::test]
async fn a_server_that_could_not_join_begins_again() {
    let (first, dir) = (Home::start().await, tempfile::tempdir().unwrap());
    let token = first.token_of(Role::Server, Some(1), 0);
    let join = |token: Token| Options { join: Some(token), ..Options::default() };
    let nobody = std::net::UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let dead = Token { addresses: vec![nobody.into()], ..token.clone() };
    let error = soon(start(config(&dir, LOOPBACK), join(dead))).await.unwrap_err();
    assert!(matches!(error, StartError::Join(_)), "{error}");
    assert!(error.to_string().contains("nothing listens there"), "{error}");
    // It asked, and wants another domain than it was given.
    let elsewhere = pams_server::config::Config { domain: Some("x.example".into()), ..config(&dir, LOOPBACK) };
    let error = soon(start(elsewhere, join(token.clone()))).await.unwrap_err().to_string();
    assert!(error.contains("belongs to the trust domain pams.internal, not to x.example"), "{error}");
    let running = soon(start(config(&dir, LOOPBACK), join(token.clone()))).await.unwrap();
    assert!(running.ready.first_token.is_some() && used(&first, &token) == 1);
}
