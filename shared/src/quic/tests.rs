use std::{net::SocketAddr, sync::mpsc, thread};

use quinn::{Connection, ConnectionError};
use tokio::{runtime, sync::oneshot};

use super::{
    loopback::{Ca, LOOPBACK, Leaf, NAME, Side},
    *,
};
use crate::{
    frame::{ALPN, ALPN_JOIN, Frame, Ping},
    id::Correlator,
    record::{Reason, Why},
};

const PING: Frame = Frame::Ping(Ping { correlator: Correlator { trace: [5; 16], span: [5; 8] } });

/// Connects, and goes there and back on a stream, so that the handshake is over on both sides.
async fn meet(side: &Side, ca: &Ca, to: Option<SocketAddr>) -> Connection {
    let Some(to) = to else {
        let connection = side.endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        assert_eq!(read_frame(&mut receive).await.unwrap(), Some(PING));
        write_frame(&mut send, &PING).await.unwrap();
        send.finish().unwrap();
        // Until it has arrived; the other end may be dead by then.
        let _ = send.stopped().await;
        return connection;
    };
    let connection = side.endpoint.connect_with(ca.client(&ca.leaf()), to, NAME).unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    write_frame(&mut send, &PING).await.unwrap();
    assert_eq!(read_frame(&mut receive).await.unwrap(), Some(PING));
    connection
}

/// Two ends in threads and runtimes of their own. One is killed and started again at the same address; the other sends a
/// datagram and must notice.
fn restart_is_noticed(mortal_dials: bool) {
    let ca = Arc::new(Ca::new());
    let (mortal_is_at, wait_for_mortal) = mpsc::channel();
    let (other_is_at, wait_for_other) = mpsc::channel();
    let (restarted, wait_for_restart) = oneshot::channel();
    let (noticed, wait_for_notice) = oneshot::channel::<()>();

    let mortal = {
        let ca = ca.clone();
        thread::spawn(move || {
            let runtime = new_runtime();
            let (side, connection) = runtime.block_on(async {
                let side = Side::bind(LOOPBACK, &ca);
                mortal_is_at.send(side.address()).unwrap();
                let other = wait_for_other.recv().unwrap();
                let connection = meet(&side, &ca, mortal_dials.then_some(other)).await;
                (side, connection)
            });
            let address = side.address();
            // All tasks end before anything of QUIC is dropped, so nothing more is sent: as if killed.
            drop(runtime);
            drop((side, connection));
            new_runtime().block_on(async {
                let _side = Side::bind(address, &ca);
                restarted.send(()).unwrap();
                wait_for_notice.await.unwrap();
            });
        })
    };
    new_runtime().block_on(async {
        let side = Side::bind(LOOPBACK, &ca);
        other_is_at.send(side.address()).unwrap();
        let mortal = wait_for_mortal.recv().unwrap();
        let connection = meet(&side, &ca, (!mortal_dials).then_some(mortal)).await;
        wait_for_restart.await.unwrap();
        // Fails if QUIC's own packets had the reset already.
        let _ = connection.send_datagram(vec![1; 20].into());
        let error = tokio::time::timeout(IDLE_TIMEOUT / 3, connection.closed()).await.expect("a reset");
        assert!(matches!(error, ConnectionError::Reset), "{error}");
        assert!(why(&error).text.contains("restarted"));
        noticed.send(()).unwrap();
    });
    mortal.join().unwrap();
}

fn new_runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_restart_of_who_accepted_is_noticed_at_once() {
    restart_is_noticed(false);
}

#[test]
fn a_restart_of_who_dialled_is_noticed_at_once() {
    restart_is_noticed(true);
}

#[tokio::test]
async fn frames_travel_on_streams_and_bounds_come_first() {
    let ca = Ca::new();
    let (a, b) = (Side::bind(LOOPBACK, &ca), Side::bind(LOOPBACK, &ca));
    let (out, back) = a.connect(&b, &ca).await;

    let long = Frame::Renew(vec![3; 4_000]);
    let mut send = out.open_uni().await.unwrap();
    for frame in [&PING, &long, &PING] {
        write_frame(&mut send, frame).await.unwrap();
    }
    send.finish().unwrap();
    let mut receive = back.accept_uni().await.unwrap();
    for frame in [PING, long, PING] {
        assert_eq!(read_frame(&mut receive).await.unwrap(), Some(frame));
    }
    assert_eq!(read_frame(&mut receive).await.unwrap(), None, "ended between frames");

    let refused = |bytes: &'static [u8]| {
        let (out, back) = (out.clone(), back.clone());
        async move {
            let mut send = out.open_uni().await.unwrap();
            send.write_all(bytes).await.unwrap();
            send.finish().unwrap();
            read_frame(&mut back.accept_uni().await.unwrap()).await.unwrap_err()
        }
    };
    assert!(matches!(refused(&[0x81, 0x80, 0x04]).await, StreamError::Oversized), "65,537");
    assert!(matches!(refused(&[0x80, 0x80, 0x80, 0x01]).await, StreamError::Oversized), "four bytes of length");
    assert!(matches!(refused(&[0x80]).await, StreamError::Truncated));
    assert!(matches!(refused(&[0x05, 1, 2]).await, StreamError::Truncated));
    assert!(matches!(refused(&[0x80, 0x80, 0x04]).await, StreamError::Truncated), "65,536 would do");
    let mut send = out.open_uni().await.unwrap();
    let over = write_frame(&mut send, &Frame::Renew(vec![0; STREAM_BYTES_MAX])).await;
    assert!(matches!(over, Err(StreamError::Oversized)));
}

/// What the dialler learns: at once, or when the other side has looked at its certificate.
async fn turned_away(server: quinn::ServerConfig, client: quinn::ClientConfig, name: &str) -> Why {
    let a = Side::with(LOOPBACK, None);
    let b = Side::with(LOOPBACK, Some(server));
    let accept = async {
        let accepted = b.endpoint.accept().await.unwrap().await;
        std::future::pending::<()>().await;
        drop(accepted);
    };
    let dial = async {
        match a.endpoint.connect_with(client, b.address(), name).unwrap().await {
            Ok(connection) => why(&connection.closed().await),
            Err(error) => why(&error),
        }
    };
    tokio::select! {
        _ = accept => unreachable!(),
        why = dial => why,
    }
}

#[tokio::test]
async fn it_is_said_why_a_peer_can_not_be_reached() {
    let (ca, namesake, other) = (Ca::new(), Ca::new(), Ca::named("other"));
    let server = |leaf: &Leaf| ca.server(leaf, ALPN);
    let is = |w: Why, reason, words: &str| {
        assert_eq!(w.reason, reason, "{w}");
        assert!(w.text.contains(words), "{w}");
    };
    let good = ca.client(&ca.leaf());
    let w = turned_away(server(&ca.leaf()), good.clone(), "c.agent.example").await;
    is(w, Reason::Certificate, "another peer");
    for other in [&namesake, &other] {
        let w = turned_away(other.server(&other.leaf(), ALPN), good.clone(), NAME).await;
        is(w, Reason::Certificate, "another cluster");
    }
    let w = turned_away(server(&ca.expired_leaf()), good.clone(), NAME).await;
    is(w, Reason::Certificate, "expired");
    let w = turned_away(ca.server(&ca.leaf(), ALPN_JOIN), good, NAME).await;
    is(w, Reason::Refused, "no protocol in common");
    // These come late: the dialler was connected already.
    let w = turned_away(server(&ca.leaf()), ca.client(&ca.expired_leaf()), NAME).await;
    is(w, Reason::Clock, "by the other side's clock our certificate");
    for other in [&namesake, &other] {
        let w = turned_away(server(&ca.leaf()), ca.client(&other.leaf()), NAME).await;
        is(w, Reason::Certificate, "belongs to another cluster");
    }
}

#[tokio::test]
async fn a_silent_address_is_no_answer() {
    let ca = Ca::new();
    let a = Side::with(LOOPBACK, None);
    let hole = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let mut transport = transport(Limits { streams: 1, stream_window: 1_024, window: 1_024 });
    transport.max_idle_timeout(Some(VarInt::from_u32(50).into())).initial_rtt(Duration::from_millis(10));
    let mut client = ca.client(&ca.leaf());
    client.transport_config(Arc::new(transport));
    let error = a.endpoint.connect_with(client, hole.local_addr().unwrap(), NAME).unwrap().await.unwrap_err();
    assert_eq!(why(&error).reason, Reason::NoAnswer);
}
