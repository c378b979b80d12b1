//! Starting, stopping, and starting again.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};

use pams_server::{
    config::Config,
    shell::{Options, StartError, run, start},
};
use pams_shared::{frame::close, identity::IdentityError, quic, record::Reason, sim::Link};
use quinn::ConnectionError;
use tokio::sync::oneshot;

use crate::harness::*;

#[tokio::test]
async fn a_stop_closes_all_connections_and_frees_everything() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let session = agent.attach(&home, 1).await;
    let handle = home.running.handle.clone();
    let home = home.restart(|_| ()).await;
    assert_eq!(closed(&session.connection).await, Some(close::GOODBYE));
    assert!(handle.look(|_, _| ()).await.is_err(), "the old one has ended");
    assert_eq!(home.running.ready.first_token, None, "only at the first start");
    let mut session = agent.attach(&home, 1).await;
    assert_eq!(session.ack.epoch, 2, "the server's second start");
    assert_eq!(session.report(batch(7, 3)).await.batch, 7);
    assert_eq!(home.notices("resumed").await, 1.0);
}

#[tokio::test]
async fn agents_notice_a_restart_at_their_next_packet() {
    let home = Home::start().await;
    let agent = Agent::of(&home).await;
    let mut session = agent.attach(&home, 1).await;
    assert_eq!(session.report(batch(1, 0)).await.batch, 1);
    // As in a crash, nothing is heard from the server any more.
    home.running.socket.emulate(agent.socket.address().unwrap(), Link::PARTITION).unwrap();
    let home = home.restart(|_| ()).await;
    assert_eq!(session.connection.close_reason(), None);
    session.tell(&pams_shared::frame::Frame::Report(batch(2, 0))).await;
    let error = soon(session.connection.closed()).await;
    assert_eq!(error, ConnectionError::Reset);
    assert_eq!(quic::why(&error).reason, Reason::NoAnswer);
    agent.attach(&home, 1).await;
}

#[tokio::test]
async fn a_second_server_in_the_directory_or_on_the_port_does_not_start() {
    let home = Home::start().await;
    let config = |dir: &std::path::Path, listen| Config {
        data_dir: dir.to_owned(),
        listen,
        http: "off".to_owned().try_into().unwrap(),
        ..Config::default()
    };
    let locked = start(config(&home.dir.path().join("home"), LOOPBACK), Options::default()).await.unwrap_err();
    assert!(matches!(locked, StartError::Identity(IdentityError::Locked { .. })), "{locked}");
    let dir = tempfile::tempdir().unwrap();
    let taken = start(config(dir.path(), home.at()), Options::default()).await.unwrap_err();
    assert!(matches!(taken, StartError::Listen { .. }), "{taken}");
    let message = taken.to_string();
    assert!(message.contains(&home.at().to_string()) && message.contains("in use"), "{message}");
    // It made nothing, so that the next start is still the first.
    let first = start(config(dir.path(), LOOPBACK), Options::default()).await.unwrap();
    assert!(first.ready.first_token.is_some() && first.ready.http.is_none());
    first.stop().await;
}

#[tokio::test]
async fn the_program_tells_once_why_it_does_not_start() {
    let home = Home::start().await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pams-server"))
        .env_clear()
        .current_dir(home.dir.path())
        .args(["--data-dir", "other", "--http", "off", "--listen", &home.at().to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "pams-server: cannot listen on UDP {}: Address already in use (os error 98); --listen names another address\n",
        home.at()
    );
    assert_eq!((output.status.code(), told), (Some(74), expected));
}

#[tokio::test]
async fn where_it_is_ready_it_can_be_called() {
    let dir = tempfile::tempdir().unwrap();
    let everywhere = "[::]:0".parse().unwrap();
    let http = "off".to_owned().try_into().unwrap();
    let config = Config { data_dir: dir.path().to_owned(), listen: everywhere, http, ..Config::default() };
    let running = start(config, Options::default()).await.unwrap();
    let (at, bound) = (running.ready.quic, running.socket.address().unwrap());
    assert_eq!((at.ip(), at.port()), (LOOPBACK.ip(), bound.port()));
    running.stop().await;
}

#[tokio::test]
async fn run_tells_when_it_is_ready_and_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let http = LOOPBACK.to_string().try_into().unwrap();
    let config = Config { data_dir: dir.path().to_owned(), listen: LOOPBACK, http, ..Config::default() };
    let (tell, told) = oneshot::channel();
    let options = Options { ready: Some(Box::new(|ready| drop(tell.send(ready.clone())))), ..Options::default() };
    let shutdown = async {
        let ready = told.await.unwrap();
        assert_ne!((ready.quic.port(), ready.http.unwrap().port()), (0, 0));
        assert_eq!(ready.first_token.unwrap().addresses, [ready.quic.into()]);
    };
    soon(run(config, options, shutdown)).await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_fails_late_does_not_cost_the_first_token() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config {
        data_dir: dir.path().join("home"),
        listen: LOOPBACK,
        http: "off".to_owned().try_into().unwrap(),
        ..Config::default()
    };
    // Nothing can be bound in the place of a directory.
    let blocked = config().admin_socket();
    DirBuilder::new().recursive(true).mode(0o700).create(&blocked).unwrap();
    let failed = start(config(), Options::default()).await.unwrap_err();
    assert!(matches!(failed, StartError::Http(_)), "{failed}");
    std::fs::remove_dir(&blocked).unwrap();
    let second = start(config(), Options::default()).await.unwrap();
    assert!(second.ready.first_token.is_some());
    second.stop().await;
    let third = start(config(), Options::default()).await.unwrap();
    assert_eq!(third.ready.first_token, None);
    third.stop().await;
}
