//! Callers that do not keep to the rules.

use std::time::Duration;

use pams_server::shell::Limits;
use pams_shared::{
    clock::Clock,
    frame::{ALPN, ALPN_JOIN, Frame, Rejection, close},
    id::PeerId,
    identity::{Authority, DOMAIN_DEFAULT, JOIN_NAME, client_tls, home_name, join_tls, system_time},
    quic,
};

use crate::harness::*;

fn impatient() -> Option<Limits> {
    // A handshake has to be done by then, also on a machine that does other things as well.
    Some(Limits { patience: Duration::from_secs(2), ..Limits::of_peers(100) })
}

#[tokio::test]
async fn without_a_certificate_one_has_to_join_first() {
    let home = Home::start().await;
    let agent = Agent::new();
    let pin = home.running.ready.first_token.as_ref().unwrap().pin;
    let mut tls = join_tls(pin, system_time()).unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
    let connection = agent.call_as(&home, quic_client(tls), JOIN_NAME).await.unwrap();
    let rejected = Session::open(connection, agent.hello(1, 0)).await.turned_away().await;
    assert_eq!(rejected.code, Rejection::Role);
    assert!(rejected.detail.contains("--join"), "{}", rejected.detail);
    home.handshakes("certificate", 1.0).await;
    assert_eq!(home.rejected_frames("hello").await, 1.0);
    assert_eq!(home.look(|pams, now| pams.summary(now).sessions).await, 0);
}

#[tokio::test]
async fn a_server_that_calls_itself_is_told_so() {
    let home = Home::start().await;
    let mut own = None;
    let home = home
        .restart(|dir| {
            let authority =
                Authority::open(&dir.path().join("home"), DOMAIN_DEFAULT, Clock.now().wall_ms() / 1_000).unwrap();
            own = Some((authority.own(), authority.root().clone()));
        })
        .await;
    let (own, root) = own.unwrap();
    let agent = Agent::new();
    let client = quic_client(client_tls(own, &root, system_time()).unwrap());
    let connection = agent.call_as(&home, client, &home_name(DOMAIN_DEFAULT)).await.unwrap();
    let rejected = Session::open(connection, agent.hello(1, 0)).await.turned_away().await;
    assert_eq!((rejected.code, &rejected.detail[..]), (Rejection::Oneself, "you are me"));
}

#[tokio::test]
async fn a_certificate_of_another_cluster_does_not_get_through_tls() {
    let (home, other) = (Home::start().await, Home::start().await);
    let (agent, foreign) = (Agent::of(&home).await, Agent::of(&other).await);
    // It knows our root, but is not of it.
    let tls = client_tls(foreign.identity.own().unwrap(), agent.identity.root().unwrap(), system_time()).unwrap();
    let why = match foreign.call_as(&home, quic_client(tls), &home_name(DOMAIN_DEFAULT)).await {
        Ok(connection) => quic::why(&soon(connection.closed()).await),
        Err(why) => why,
    };
    assert!(why.text.contains("another cluster"), "{why}");
    home.handshakes("failed", 1.0).await;
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let home = Home::with(impatient()).await;
    let token = home.running.ready.first_token.clone().unwrap();
    let agent = Agent::of(&home).await;
    let silent = agent.call(&home).await;
    let joining = agent.call_to_join(&home, &token).await;
    let halfway = agent.call(&home).await;
    let (mut send, _receive) = halfway.open_bi().await.unwrap();
    send.write_all(&[200]).await.unwrap();
    for connection in [silent, joining, halfway] {
        assert_eq!(closed(&connection).await, Some(close::SILENT));
    }
    assert_eq!(home.rejected_frames("silent").await, 3.0);
}

#[tokio::test]
async fn who_does_not_read_is_closed() {
    let home = Home::with(impatient()).await;
    let agent = Agent::of(&home).await;
    let mut client = quic_client(agent.tls());
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(256u32.into());
    client.transport_config(transport.into());
    let connection = agent.call_as(&home, client, &home_name(DOMAIN_DEFAULT)).await.unwrap();
    let mut session = Session::open(connection, agent.hello(1, 0)).await;
    let mut written = 0;
    let error = soon(async {
        loop {
            if let Err(error) = quic::write_frame(&mut session.send, &Frame::Report(batch(written + 1, 0))).await {
                break error;
            }
            written += 1;
        }
    })
    .await;
    assert_eq!(closed(&session.connection).await, Some(close::PROTOCOL));
    assert!(error.why().text.contains("acknowledgements are not read"), "{error}");
    let taken = home.peer(agent.peer()).await.unwrap().batch;
    // An acknowledgement of at least 5 bytes answers for 4 at most, and 256 bytes of them may be unread.
    assert!(taken < 4 * (256 / 5) && written > taken, "{taken} of {written}: the others wait at the agent");
}

/// A connection with a session, on which these bytes follow.
async fn after_hello(home: &Home, agent: &Agent, bytes: &[u8]) -> Session {
    let mut session = agent.attach(home, 1).await;
    session.send.write_all(bytes).await.unwrap();
    session
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_connection() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let mutated = {
        let mut bytes = pams_shared::frame::wire::encode(&Frame::Report(batch(1, 1)));
        bytes[2] ^= 0x7f; // longer than it is
        [&[bytes.len() as u8], &bytes[..]].concat()
    };
    let cases: [(&[u8], &str); 5] = [
        (&[5, 0xff, 0xff, 0xff, 0xff, 0xff], "malformed"),
        (&[0xff, 0xff, 0xff, 0x7f], "oversized"),
        (&[0x81, 0x80, 0x04], "oversized"), // 65,537
        (&[0], "invalid"),
        (&mutated, "malformed"),
    ];
    for (bytes, label) in cases {
        let before = home.rejected_frames(label).await;
        let session = after_hello(&home, &agent, bytes).await;
        assert_eq!(closed(&session.connection).await, Some(close::PROTOCOL), "{label}");
        assert_eq!(home.rejected_frames(label).await, before + 1.0, "{label}");
    }
    let mut session = after_hello(&home, &agent, &[5, 1]).await;
    session.send.finish().unwrap();
    assert_eq!(closed(&session.connection).await, Some(close::PROTOCOL), "cut off");
    let session = agent.attach(&home, 1).await;
    let (mut send, _receive) = session.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    assert_eq!(closed(&session.connection).await, Some(close::PROTOCOL), "on a stream of its own");
    home.until(|pams, now| pams.summary(now).sessions == 0).await;
}

#[tokio::test]
async fn garbage_in_place_of_hello_ends_the_connection() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let connection = agent.call(&home).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&[3, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(closed(&connection).await, Some(close::PROTOCOL));
    assert_eq!(home.rejected_frames("malformed").await, 1.0);
}

#[tokio::test]
async fn frames_of_a_newer_version_are_skipped() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    // Field 2000, empty.
    let unknown = [3, 0x82, 0x7d, 0];
    let connection = agent.call(&home).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&unknown).await.unwrap();
    quic::write_frame(&mut send, &Frame::Hello(agent.hello(1, 0))).await.unwrap();
    let Some(Frame::HelloAck(ack)) = soon(quic::read_frame(&mut receive)).await.unwrap() else { panic!("no answer") };
    let mut session = Session { connection, send, receive, ack };
    session.send.write_all(&unknown).await.unwrap();
    let (mut question, mut answer) = session.connection.open_bi().await.unwrap();
    question.write_all(&unknown).await.unwrap();
    assert_eq!(soon(quic::read_frame(&mut answer)).await.unwrap(), None, "no answer, and no harm");
    assert_eq!(session.report(batch(1, 0)).await.batch, 1);
    assert_eq!(home.rejected_frames("unknown_kind").await, 3.0);
}

#[tokio::test]
async fn a_question_that_is_given_up_harms_nothing() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let mut session = agent.attach(&home, 1).await;
    let (mut send, _receive) = session.connection.open_bi().await.unwrap();
    send.write_all(&[9]).await.unwrap();
    send.reset(0u8.into()).unwrap();
    let (mut send, _receive) = session.connection.open_bi().await.unwrap();
    send.finish().unwrap();
    assert_eq!(session.ask(Frame::Fetch(PeerId::from_bytes([7; 16]))).await, Frame::FetchAck(None));
    assert_eq!(session.report(batch(1, 0)).await.batch, 1);
}

#[tokio::test]
async fn frames_in_the_wrong_place_are_turned_away() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let connection = agent.call(&home).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    quic::write_frame(&mut send, &Frame::Goodbye).await.unwrap();
    let Some(Frame::HelloAck(ack)) = soon(quic::read_frame(&mut receive)).await.unwrap() else { panic!("no answer") };
    let rejected = Session { connection, send, receive, ack }.turned_away().await;
    assert_eq!(rejected.code, Rejection::Protocol);
    let mut session = agent.attach(&home, 1).await;
    session.tell(&Frame::Hello(agent.hello(2, 0))).await;
    assert_eq!(closed(&session.connection).await, Some(close::PROTOCOL), "a second Hello");
    let session = agent.attach(&home, 1).await;
    assert!(soon(quic::request(&session.connection, &Frame::Report(batch(1, 0)))).await.is_err());
    assert_eq!(closed(&session.connection).await, Some(close::PROTOCOL), "a report on a stream of its own");
    assert_eq!(home.rejected_frames("misplaced").await, 2.0);
}

#[tokio::test]
async fn hello_without_a_profile_is_turned_away() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let hello = pams_shared::frame::Hello { profile: None, ..agent.hello(1, 0) };
    let rejected = Session::open(agent.call(&home).await, hello).await.turned_away().await;
    assert_eq!(rejected.code, Rejection::Protocol);
    assert_eq!(home.notices("bad_hello").await, 1.0);
}
