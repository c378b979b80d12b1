use quinn::Connection;

use super::*;
use crate::quic::loopback::{Ca, LOOPBACK, Side};

fn correlator(n: u8) -> Correlator {
    Correlator::of_uuid([n; 16])
}

/// One exchange as an agent would time it: (sent, pong's arrival, done).
async fn exchange(a: &mut Side, out: &Connection, b: &Side, back: &Connection) -> (Moment, Moment, Moment) {
    let to = out.remote_address();
    let idle = Clock.now();
    assert!(a.socket.expect(to, 20, correlator(1)));
    out.send_datagram(vec![1; 20].into()).unwrap();
    let ping = back.read_datagram().await.unwrap();
    let from = back.remote_address();
    let heard = b.socket.arrival(from, ping.len(), idle, Clock.now()).expect("measured at the answering side");
    assert!(heard <= Clock.now());
    back.send_datagram(vec![2; 29].into()).unwrap();
    let pong = out.read_datagram().await.unwrap();
    let done = Clock.now();
    let arrived = a.socket.arrival(to, pong.len(), idle, Clock.now()).expect("measured");
    let (which, sent) = a.sent.recv().await.unwrap();
    assert_eq!(which, correlator(1));
    assert!(
        idle <= sent && sent <= heard && heard <= arrived && arrived <= done,
        "{idle:?} {sent:?} {heard:?} {arrived:?}"
    );
    (sent, arrived, done)
}

fn pair(a: SocketAddr, b: SocketAddr) -> (Ca, Side, Side) {
    let ca = Ca::new();
    let (a, b) = (Side::bind(a, &ca), Side::bind(b, &ca));
    (ca, a, b)
}

#[test]
fn a_socket_on_all_addresses_is_called_at_loopback() {
    for (bound, at) in [
        ("[::]:7", "127.0.0.1:7"),
        ("0.0.0.0:7", "127.0.0.1:7"),
        ("192.0.2.1:7", "192.0.2.1:7"),
        ("[2001:db8::1]:7", "[2001:db8::1]:7"),
    ] {
        assert_eq!(reachable(bound.parse().unwrap()).to_string(), at);
    }
}

#[tokio::test]
async fn stamps_of_an_exchange_are_in_order_on_both_sides() {
    let (ca, mut a, b) = pair(LOOPBACK, LOOPBACK);
    let (out, back) = a.connect(&b, &ca).await;
    assert!(a.socket.track(out.remote_address()) && b.socket.track(back.remote_address()));
    for _ in 0..50 {
        exchange(&mut a, &out, &b, &back).await;
    }
    assert_eq!(a.socket.traffic().stamps_shed, 0);
    assert_eq!(a.socket.traffic().send_errors, 0);
}

#[tokio::test]
async fn a_warm_ping_and_pong_are_two_small_packets() {
    let (ca, mut a, b) = pair(LOOPBACK, LOOPBACK);
    let (out, back) = a.connect(&b, &ca).await;
    assert!(a.socket.track(out.remote_address()) && b.socket.track(back.remote_address()));
    let mut two = Vec::new();
    for _ in 0..21 {
        let before = (a.socket.traffic(), b.socket.traffic());
        exchange(&mut a, &out, &b, &back).await;
        let ping = a.socket.traffic().bytes_sent - before.0.bytes_sent;
        let pong = b.socket.traffic().bytes_sent - before.1.bytes_sent;
        two.push(ping + pong + 2 * 28);
    }
    two.sort_unstable();
    // The median: the first ones also carry what is left of the handshake.
    assert!(two[10] <= 190, "bytes of IP: {two:?}");
}

#[tokio::test]
async fn ipv4_peers_reach_a_dual_stack_socket_and_are_stamped_by_either_spelling() {
    let (ca, mut a, b) = pair(LOOPBACK, "[::]:0".parse().unwrap());
    let to = SocketAddr::new(LOOPBACK.ip(), b.address().port());
    let dialled =
        async { a.endpoint.connect_with(ca.client(&ca.leaf()), to, crate::quic::loopback::NAME).unwrap().await };
    let (out, back) = tokio::join!(dialled, async { b.endpoint.accept().await.unwrap().await });
    let (out, back) = (out.unwrap(), back.unwrap());
    assert!(back.remote_address().is_ipv6(), "mapped: {}", back.remote_address());
    assert!(a.socket.track(out.remote_address()) && b.socket.track(a.address()), "tracked as IPv4");
    exchange(&mut a, &out, &b, &back).await;
}

#[tokio::test]
async fn lost_connections_and_refused_datagrams_leave_nothing_behind() {
    let (ca, a, b) = pair(LOOPBACK, LOOPBACK);
    let (out, _back) = a.connect(&b, &ca).await;
    let to = out.remote_address();
    assert!(a.socket.expect(to, 20, correlator(1)));
    a.socket.withdraw(to, &correlator(1));
    assert!(!a.socket.expecting.load(Acquire));
    assert!(a.socket.expect(to, 20, correlator(2)));
    a.socket.unexpect(to);
    assert!(!a.socket.expecting.load(Acquire));
    assert_eq!(a.socket.arrival(to, 20, Moment::default(), Clock.now()), None, "not tracked");
}

#[tokio::test]
async fn stamps_that_nobody_fetches_are_shed_and_counted() {
    let (ca, a, b) = pair(LOOPBACK, LOOPBACK);
    let (out, back) = a.connect(&b, &ca).await;
    for n in 0..70 {
        assert!(a.socket.expect(out.remote_address(), 20, correlator(n)));
        out.send_datagram(vec![n; 20].into()).unwrap();
        back.read_datagram().await.unwrap();
    }
    assert_eq!(a.socket.traffic().stamps_shed, 70 - 64);
    assert_eq!(a.sent.len(), 64);
}

#[cfg(feature = "sim")]
mod emulated {
    use std::time::Duration;

    use super::*;
    use crate::sim::Link;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn the_network_stage_is_the_emulated_delay() {
        let (ca, mut a, b) = pair(LOOPBACK, LOOPBACK);
        let (out, back) = a.connect(&b, &ca).await;
        assert!(a.socket.track(out.remote_address()) && b.socket.track(back.remote_address()));
        a.socket.emulate(b.address(), Link { delay: 12 * MS, ..Link::default() }).unwrap();
        b.socket.emulate(a.address(), Link { delay: 5 * MS, ..Link::default() }).unwrap();
        // Never less; more only by what this machine's scheduler adds, which may be busy for a while.
        let mut network = Vec::new();
        let is_exact = |network: &Vec<Duration>| network.iter().filter(|took| **took < 20 * MS).count() == 5;
        while !is_exact(&network) && network.len() < 500 {
            let (sent, arrived, _) = exchange(&mut a, &out, &b, &back).await;
            network.push(arrived.since(sent));
        }
        assert!(network.iter().all(|took| *took >= 17 * MS), "{network:?}");
        assert!(is_exact(&network), "{network:?}");
    }

    #[tokio::test]
    async fn a_partition_loses_what_was_sent_and_heals() {
        let (ca, mut a, b) = pair(LOOPBACK, LOOPBACK);
        let (out, back) = a.connect(&b, &ca).await;
        assert!(a.socket.track(out.remote_address()) && b.socket.track(back.remote_address()));
        a.socket.emulate(b.address(), Link::PARTITION).unwrap();
        assert!(a.socket.expect(out.remote_address(), 20, correlator(7)));
        out.send_datagram(vec![1; 20].into()).unwrap();
        assert_eq!(a.sent.recv().await.unwrap().0, correlator(7), "sent is sent");
        assert!(a.socket.traffic().emulated_lost > 0);
        a.socket.emulate(b.address(), Link::default()).unwrap();
        exchange(&mut a, &out, &b, &back).await;
    }

    #[tokio::test]
    async fn too_much_under_way_is_shed_and_counted() {
        let (_, a, b) = pair(LOOPBACK, LOOPBACK);
        a.socket.emulate(b.address(), Link { delay: Duration::from_secs(50), ..Link::default() }).unwrap();
        let contents = [0; 40];
        let destination = b.address();
        let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size: None, src_ip: None };
        for _ in 0..emulate::UNDER_WAY_MAX + 3 {
            quinn::AsyncUdpSocket::try_send(&*a.socket, &transmit).unwrap();
        }
        assert_eq!(a.socket.traffic().emulated_shed, 3);
    }
}

/// A port that nobody has: it was bound, and is no more.
#[cfg(target_os = "linux")]
fn dead(ip: &str) -> SocketAddr {
    std::net::UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_call_where_nobody_listens_fails_at_once_and_hurts_no_connection() {
    use crate::{
        quic::{call, loopback::NAME},
        record::Reason,
    };

    for (bound, dead_ips) in [(LOOPBACK, &["127.0.0.1"][..]), ("[::]:0".parse().unwrap(), &["127.0.0.1", "::1"])] {
        let (ca, mut a, b) = pair(bound, LOOPBACK);
        let (out, back) = a.connect(&b, &ca).await;
        assert!(a.socket.track(out.remote_address()) && b.socket.track(back.remote_address()));
        for ip in dead_ips {
            let begun = Clock.now();
            // Two calls of one address, both told; and exchanges beside them.
            let dead = dead(ip);
            let one = || call(&a.endpoint, &a.socket, ca.client(&ca.leaf()), dead, NAME);
            let (first, second) = tokio::join!(one(), one());
            for refused in [first, second] {
                let why = refused.unwrap_err();
                assert!(why.reason == Reason::Refused && why.text.contains("nothing listens"), "{dead}: {why}");
            }
            assert!(
                Clock.now().since(begun) < std::time::Duration::from_secs(4),
                "before QUIC would try again for long"
            );
            exchange(&mut a, &out, &b, &back).await;
        }
        // Packets to the dead leave errors behind that nobody waits for: sends and reads pass them over.
        for _ in 0..40 {
            let nobody = a.endpoint.connect_with(ca.client(&ca.leaf()), dead("127.0.0.1"), NAME).unwrap();
            exchange(&mut a, &out, &b, &back).await;
            drop(nobody);
        }
        assert_eq!((a.socket.traffic().send_errors, out.close_reason()), (0, None));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_call_that_the_kernel_can_not_send_fails_at_once() {
    let ca = Ca::new();
    let a = Side::with(LOOPBACK, None);
    // A socket on loopback has no way to another host.
    let elsewhere = "192.0.2.1:9".parse().unwrap();
    let client = ca.client(&ca.leaf());
    let why =
        crate::quic::call(&a.endpoint, &a.socket, client, elsewhere, crate::quic::loopback::NAME).await.unwrap_err();
    assert_eq!(why.reason, crate::record::Reason::NotSent, "{why}");
}
