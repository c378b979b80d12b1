//! What an agent that keeps to the rules meets.

use pams_server::core::Forgot;
use pams_shared::{
    clock::Clock,
    frame::{Frame, Rejection, Report, close},
    id::{Correlator, PeerId},
    record::{Kind, Outcome, Record, Stages},
    status::{Liveness, Status},
};

use crate::harness::*;

#[tokio::test]
async fn an_agent_joins_reports_asks_and_leaves() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let peer = agent.peer();
    let mut session = agent.attach(&home, 1).await;
    let terms = session.ack.terms.unwrap();
    assert_eq!((terms.pace_ms, terms.gone_after_ms, terms.applied_batch), (1_500, 4_500, 0));
    assert_eq!(session.ack.observed, Some(agent.socket.address().unwrap()));
    assert_eq!(session.ack.epoch, 1, "the server's first start");
    assert!(session.ack.software.starts_with("pams-server/"), "{}", session.ack.software);
    assert!(session.ack.wall_ms.abs_diff(Clock.now().wall_ms()) < 60_000);

    assert_eq!(session.report(batch(1, 3)).await.batch, 1);
    let view = home.peer(peer).await.unwrap();
    assert_eq!((view.peer.liveness, view.batch), (Liveness::Live, 1));
    assert_eq!(view.peer.presence.unwrap().status, Status::Busy);
    assert_eq!(view.peer.observed, agent.socket.address().ok());
    let Frame::FetchAck(Some(entry)) = session.ask(Frame::Fetch(peer)).await else { panic!("no entry") };
    assert_eq!((entry.peer, entry.profile.name.as_str(), entry.order.version), (peer, "edge-7", 1));
    assert_eq!(session.ask(Frame::Fetch(PeerId::from_bytes([7; 16]))).await, Frame::FetchAck(None));

    session.tell(&Frame::Goodbye).await;
    session.send.finish().unwrap();
    home.until(move |pams, now| pams.peer(now, peer).unwrap().peer.liveness == Liveness::Left).await;
    assert_eq!(session.connection.close_reason(), None, "it is its own to close");
    session.connection.close(close::GOODBYE.into(), b"");
    home.until(|pams, now| pams.summary(now).sessions == 0).await;
    assert_eq!(home.metric("pams_server_events_total", &[("event", "left")]).await, 1.0);
}

#[tokio::test]
async fn records_are_counted_once_also_when_the_connection_is_lost_before_the_acknowledgement() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let record = Record {
        kind: Kind::Ping,
        target: agent.peer().0,
        correlator: Correlator::of_uuid([1; 16]),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: 1,
        total_ns: Some(80_000_000),
        stages: Stages::default(),
        target_status: Some(Status::Online),
        path_rtt_ns: None,
    };
    let report = Report { records: vec![record], ..batch(1, 1) };
    let mut first = agent.attach(&home, 1).await;
    first.tell(&Frame::Report(report.clone())).await;
    // Reported and gone: the connection is closed behind the report's packet.
    let _ = soon(first.send.finish().map(|()| first.send.stopped()).unwrap()).await;
    first.connection.close(close::DONE.into(), b"");
    home.until(|pams, now| pams.summary(now).sessions == 0).await;

    let mut again = agent.attach(&home, 1).await;
    assert_eq!(again.ack.terms.unwrap().applied_batch, 1);
    assert_eq!(again.report(report).await.batch, 1);
    assert_eq!(home.notices("replayed").await, 1.0);
    assert_eq!(home.metric("pams_server_records_total", &[]).await, 1.0);
    assert_eq!(home.metric("pams_server_transaction_seconds_count", &[("kind", "presence.ping")]).await, 1.0);
    assert_eq!(home.metric("pams_server_transactions_opened_total", &[("kind", "presence.ping")]).await, 1.0);
}

#[tokio::test]
async fn reports_may_be_written_without_waiting_for_their_acknowledgements() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let mut session = agent.attach(&home, 1).await;
    for number in 1..=40 {
        session.tell(&Frame::Report(batch(number, number))).await;
    }
    let frames = async {
        // One may answer for several.
        let mut acked = 0;
        while acked < 40 {
            let ack = pams_shared::quic::read_frame(&mut session.receive).await.unwrap();
            let Some(Frame::ReportAck(ack)) = ack else { panic!("{ack:?}") };
            assert!((acked + 1..=40).contains(&ack.batch), "{} after {acked}", ack.batch);
            acked = ack.batch;
        }
    };
    soon(frames).await;
    assert_eq!(home.metric("pams_server_transactions_opened_total", &[("kind", "presence.ping")]).await, 40.0);
}

#[tokio::test]
async fn a_certificate_is_renewed_on_the_connection_and_then_shown() {
    let home = Home::start().await;
    let mut agent = Agent::of(&home).await;
    let session = agent.attach(&home, 1).await;
    let Frame::Issued(issued) = session.ask(Frame::Renew(agent.identity.csr().unwrap())).await else {
        panic!("refused")
    };
    agent.identity.renew(&issued).unwrap();
    let session = agent.attach(&home, 1).await;
    let Frame::Refused(refused) = session.ask(Frame::Renew(vec![1])).await else { panic!("issued") };
    assert!(refused.detail.contains("certificate request"), "{}", refused.detail);
    for (result, count) in [("issued", 1.0), ("csr", 1.0)] {
        assert_eq!(home.metric("pams_server_renewals_total", &[("result", result)]).await, count);
    }
}

#[tokio::test]
async fn a_newer_session_of_a_peer_takes_the_place_of_the_older() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let old = agent.attach(&home, 1).await;
    let mut new = agent.attach(&home, 1).await;
    assert_eq!(closed(&old.connection).await, Some(close::SUPERSEDED));
    assert_eq!(new.report(batch(1, 0)).await.batch, 1);
    assert_eq!(home.notices("superseded").await, 1.0);
    home.until(|pams, now| pams.summary(now).sessions == 1).await;
}

#[tokio::test]
async fn an_older_life_of_a_peer_is_turned_away() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let mut session = agent.attach(&home, 5).await;
    let rejected = agent.turned_away(&home, 4).await;
    assert_eq!(rejected.code, Rejection::Epoch);
    assert!(rejected.detail.contains("epoch 4") && rejected.detail.contains("epoch 5"), "{}", rejected.detail);
    assert_eq!(home.notices("older_order").await, 1.0);
    assert_eq!(session.report(batch(1, 0)).await.batch, 1, "the present one goes on");
}

#[tokio::test]
async fn a_forgotten_peer_has_to_join_again_and_its_id_is_free() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let peer = agent.peer();
    let mut session = agent.attach(&home, 1).await;
    let forgotten = home.running.handle.forget(peer, false).await.unwrap().unwrap();
    assert_eq!((forgotten.entry, forgotten.unbound), (Forgot::StillHere, false));

    session.tell(&Frame::Goodbye).await;
    home.until(move |pams, now| pams.peer(now, peer).unwrap().peer.liveness == Liveness::Left).await;
    let forgotten = home.running.handle.forget(peer, false).await.unwrap().unwrap();
    assert_eq!((forgotten.entry, forgotten.unbound), (Forgot::Done, true));
    assert_eq!(closed(&session.connection).await, Some(close::REJECTED));
    let again = home.running.handle.forget(peer, false).await.unwrap().unwrap();
    assert_eq!((again.entry, again.unbound), (Forgot::Unknown, false));

    let rejected = agent.turned_away(&home, 1).await;
    assert_eq!(rejected.code, Rejection::Key);
    assert!(rejected.detail.contains("join again"), "{}", rejected.detail);
    assert!(home.peer(peer).await.is_none());

    let (other, token) = (Agent::new(), home.token(None, 0));
    let join = other.identity.join_request(&token, "b", 0).unwrap();
    let join = pams_shared::frame::Join { id: peer.0, ..join };
    other.ask_to_join(&home, &token, join).await.unwrap();
    let rejected = agent.turned_away(&home, 1).await;
    assert_eq!(rejected.code, Rejection::Key, "the id is another's now");
}

#[tokio::test]
async fn the_right_of_a_live_peer_can_be_taken() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let peer = agent.peer();
    let mut session = agent.attach(&home, 1).await;
    session.report(batch(1, 3)).await;
    let forgotten = home.running.handle.forget(peer, true).await.unwrap().unwrap();
    assert_eq!((forgotten.entry, forgotten.unbound), (Forgot::Done, true));
    assert_eq!(closed(&session.connection).await, Some(close::REJECTED));
    assert_eq!(agent.turned_away(&home, 1).await.code, Rejection::Key);
    assert!(home.peer(peer).await.is_none());
    assert_eq!(home.look(|pams, now| pams.summary(now).sessions).await, 0);
    assert_eq!(home.metric("pams_server_transactions_opened_total", &[("kind", "presence.ping")]).await, 3.0);
}
