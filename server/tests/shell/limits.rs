//! Bounds at the door.

use pams_server::shell::Limits;
use pams_shared::{
    identity::{JOIN_NAME, join_tls, system_time},
    record::Reason,
};

use crate::harness::*;

#[tokio::test]
async fn too_many_newcomers_are_refused_and_told_so() {
    let home = Home::with(Some(Limits { newcomers: 1, newcomers_unproven: 1, ..Limits::of_peers(100) })).await;
    let agent = Agent::of(&home).await;
    home.handshakes("ok", 1.0).await;
    let silent = soon(async {
        loop {
            // The connection by which it joined may not be over yet.
            if let Ok(connection) = agent.try_call(&home).await {
                break connection;
            }
        }
    })
    .await;
    home.handshakes("ok", 2.0).await;
    let why = agent.try_call(&home).await.unwrap_err();
    assert_eq!(why.reason, Reason::Refused);
    assert!(why.text.contains("takes no connections now"), "{why}");
    home.handshakes("busy", 1.0).await;
    let session = Session::open(silent, agent.hello(1, 0)).await;
    assert_eq!(session.ack.verdict, Ok(()), "who is in goes on");
    // Its place is free a moment after it is answered.
    soon(async { while agent.try_call(&home).await.is_err() {} }).await;
}

#[tokio::test]
async fn under_load_addresses_are_proven_and_agents_do_not_notice() {
    let home = Home::with(Some(Limits { newcomers_unproven: 0, ..Limits::of_peers(100) })).await;
    let agent = Agent::of(&home).await;
    let mut session = agent.attach(&home, 1).await;
    assert_eq!(session.report(batch(1, 0)).await.batch, 1);
}

#[tokio::test]
async fn connections_are_bounded() {
    let home = Home::with(Some(Limits { connections: 1, ..Limits::of_peers(100) })).await;
    let agent = Agent::of(&home).await;
    let session = soon(async {
        loop {
            if let Ok(connection) = agent.try_call(&home).await {
                break Session::open(connection, agent.hello(1, 0)).await;
            }
        }
    })
    .await;
    agent.try_call(&home).await.unwrap_err();
    session.connection.close(0u8.into(), b"");
    soon(async { while agent.try_call(&home).await.is_err() {} }).await;
}

#[tokio::test]
async fn one_host_cannot_take_all_places_of_newcomers() {
    let bounds = Limits { newcomers: 4, newcomers_unproven: 4, newcomers_per_source: 2, ..Limits::of_peers(100) };
    let home = Home::with(Some(bounds)).await;
    let agent = Agent::new();
    let token = home.running.ready.first_token.clone().unwrap();
    let (one, two) = (agent.call_to_join(&home, &token).await, agent.call_to_join(&home, &token).await);
    let client = || quic_client(join_tls(token.pin, system_time()).unwrap());
    let why = agent.call_as(&home, client(), JOIN_NAME).await.unwrap_err();
    assert!(why.text.contains("takes no connections now"), "{why}");
    drop((one, two));
    soon(async { while agent.call_as(&home, client(), JOIN_NAME).await.is_err() {} }).await;
}
