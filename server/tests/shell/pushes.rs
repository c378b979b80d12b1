//! The stream on which the home tells what nobody asked for.

use pams_shared::{
    frame::{Frame, Roster, capability, close},
    id::PeerId,
    quic,
};
use quinn::{Connection, RecvStream, SendStream};

use crate::harness::*;

async fn pushed(connection: &Connection) -> (SendStream, RecvStream, Vec<PeerId>) {
    let (send, mut receive) = soon(connection.accept_bi()).await.unwrap();
    let peers = roster(&mut receive).await;
    (send, receive, peers)
}

async fn roster(receive: &mut RecvStream) -> Vec<PeerId> {
    match soon(quic::read_frame(receive)).await.unwrap() {
        Some(Frame::Roster(Roster { peers })) => peers.iter().map(|r| r.peer).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn agents_are_told_whom_to_watch_on_one_stream_and_may_answer_with_what_is_not_known_yet() {
    let home = Home::without_grace().await;
    let (a, b) = (Agent::of(&home).await, joined(&home).await);
    let alone = Session::open(a.call(&home).await, a.hello_takes(1, 9)).await;
    assert_eq!(alone.ack.capabilities & capability::ROSTERS, capability::ROSTERS);
    let (mut answers, mut rosters, first) = pushed(&alone.connection).await;
    assert_eq!(first, []);
    // A frame of a newer version, of kind 60, and one byte.
    answers.write_all(&[4, 0xe2, 0x03, 1, 7]).await.unwrap();

    let other = Session::open(b.call(&home).await, b.hello_takes(1, 9)).await;
    let (_answers, _rosters, second) = pushed(&other.connection).await;
    assert_eq!(second, [a.peer()]);
    assert_eq!(roster(&mut rosters).await, [b.peer()], "on the same stream");
    assert_eq!(home.metric("pams_server_rosters_pushed_total", &[]).await, 3.0);
    assert_eq!(home.metric("pams_server_roster_edges", &[]).await, 2.0);
    assert_eq!(home.metric("pams_server_roster_short_peers", &[]).await, 2.0);
    soon(async {
        while home.rejected_frames("unknown_kind").await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let seen = home.peer(a.peer()).await.unwrap();
    assert_eq!((seen.watched_by, seen.watches), (vec![b.peer()], vec![b.peer()]));

    quic::write_frame(&mut answers, &Frame::Goodbye).await.unwrap();
    assert_eq!(closed(&alone.connection).await, Some(close::PROTOCOL), "a roster is not answered");
}

#[tokio::test]
async fn one_that_takes_no_rosters_gets_no_stream() {
    let home = Home::without_grace().await;
    let (old, new) = (Agent::of(&home).await, joined(&home).await);
    let session = old.attach(&home, 1).await;
    let other = Session::open(new.call(&home).await, new.hello_takes(1, 9)).await;
    // Told later than the first would be, as it attached later.
    let (_answers, _rosters, peers) = pushed(&other.connection).await;
    assert_eq!(peers, [old.peer()], "it is watched all the same");
    let nothing = tokio::time::timeout(std::time::Duration::ZERO, session.connection.accept_bi()).await;
    assert!(nothing.is_err(), "a stream for an agent that can not read it");
    assert_eq!(home.metric("pams_server_rosters_pushed_total", &[]).await, 1.0);
}

/// One more agent.
async fn joined(home: &Home) -> Agent {
    let (mut agent, token) = (Agent::new(), home.token(None, 0));
    let issued = agent.enrol(home, &token).await.unwrap();
    agent.identity.join(&token, &issued).unwrap();
    agent
}
