//! Real connections on loopback.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::stream;
use pams_shared::{
    frame::{Frame, close, wire},
    id::Correlator,
    identity, quic,
    record::Reason,
    socket::Socket,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

use super::{
    super::cluster::{Cluster, Side, soon},
    call::CALLS_MAX,
    read::Guard,
    *,
};

/// Two peers with their links.
struct Pair {
    _cluster: Cluster,
    sides: [Side; 2],
    links: [Links; 2],
    events: [mpsc::Receiver<LinkEvent>; 2],
}

impl Pair {
    fn new() -> Self {
        let mut cluster = Cluster::new();
        let sides = ["alpha", "beta"].map(|name| cluster.side(name));
        let [(a, of_a), (b, of_b)] = [0, 1].map(|n: usize| sides[n].links());
        Self { _cluster: cluster, sides, links: [a, b], events: [of_a, of_b] }
    }

    /// The first calls the second at these addresses; both ends as they are when Hello is answered.
    async fn call(&mut self, addresses: Vec<String>) -> [Ready; 2] {
        self.links[0].dial(self.sides[1].me.peer, addresses);
        soon(async {
            loop {
                tokio::select! {
                    incoming = self.sides[1].endpoint.accept() => assert!(self.links[1].accept(incoming.unwrap())),
                    event = self.events[1].recv() => {
                        let Some(LinkEvent::Ready(answered)) = event else { panic!("{event:?}") };
                        let event = self.events[0].recv().await;
                        let Some(LinkEvent::Ready(dialled)) = event else { panic!("{event:?}") };
                        return [*dialled, *answered];
                    }
                }
            }
        })
        .await
    }

    /// What the second is told next.
    async fn told(&mut self) -> LinkEvent {
        tokio::select! {
            event = self.links[1].datagram() => event,
            event = self.events[1].recv() => event.unwrap(),
        }
    }

    async fn meet(&mut self) -> [Ready; 2] {
        let at = self.sides[1].at().to_string();
        self.call(vec![at]).await
    }
}

#[tokio::test]
async fn a_dead_address_and_a_wrong_name_keep_nobody_from_the_right_one() {
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut pair = Pair::new();
    let good = pair.sides[1].at().to_string();
    let [dialled, _] = pair.call(vec!["no port".into(), hole.local_addr().unwrap().to_string(), good]).await;
    assert_eq!(dialled.connection.remote_address(), pair.sides[1].at());
}

#[tokio::test]
async fn callers_that_say_nothing_get_so_many_places_and_give_them_back() {
    let mut pair = Pair::new();
    let [caller, called] = &pair.sides;
    let name = identity::dns_name(pams_shared::frame::Role::Agent, called.me.peer.0, &called.me.domain);
    let mut calls = JoinSet::new();
    for _ in 0..CALLS_MAX + 1 {
        let (endpoint, client, name, at) = (caller.endpoint.clone(), caller.client.clone(), name.clone(), called.at());
        calls.spawn(async move { quic::connect(&endpoint, client, at, &name).await });
    }
    let (mut silent, mut refused) = (Vec::new(), 0);
    let full = async {
        while silent.len() + refused < CALLS_MAX + 1 {
            tokio::select! {
                incoming = called.endpoint.accept() => { pair.links[1].accept(incoming.unwrap()); }
                Some(called) = calls.join_next() => match called.unwrap() {
                    Ok(connection) => silent.push(connection),
                    Err(why) => {
                        assert_eq!(why.reason, Reason::Refused, "{why}");
                        refused += 1;
                    }
                }
            }
        }
    };
    soon(full).await;
    assert_eq!((silent.len(), refused), (CALLS_MAX, 1));
    silent.into_iter().for_each(|c| c.close(close::DONE.into(), b""));
    soon(async {
        while pair.links[1].door.available_permits() < CALLS_MAX {
            tokio::task::yield_now().await;
        }
    })
    .await;
    pair.meet().await;
}

#[tokio::test]
async fn of_many_calls_by_one_peer_only_the_last_two_are_read() {
    let mut pair = Pair::new();
    let mut dialled = Vec::new();
    for n in 1..=3 {
        let [ours, theirs] = pair.meet().await;
        dialled.push(ours.connection);
        assert_eq!(pair.links[1].ready(theirs), Some(n));
    }
    let error = soon(dialled[0].closed()).await; // sooner than the time for which one is still read
    assert!(Ended::from(&error).restarted, "{error}");
    assert!(dialled[1].close_reason().is_none() && dialled[2].close_reason().is_none());
}

#[tokio::test]
async fn arrivals_are_stamped_where_a_peer_has_moved_to() {
    let mut pair = Pair::new();
    let [ours, theirs] = pair.meet().await;
    let (from, peer) = (pair.sides[0].at(), theirs.peer);
    let link = pair.links[1].ready(theirs).unwrap();
    assert_eq!(pair.links[1].tracked[&link], from);
    let (elsewhere, _sent) = Socket::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let now_at = elsewhere.address().unwrap();
    pair.sides[0].endpoint.rebind_abstract(elsewhere).unwrap();
    let mut stamped = false;
    for n in 1..=20 {
        let ping = Frame::Ping(Ping { correlator: Correlator::of_uuid([n; 16]) });
        ours.connection.send_datagram(wire::encode(&ping).into()).unwrap();
        loop {
            match soon(pair.told()).await {
                LinkEvent::Moved { link, to } => pair.links[1].moved(link, to),
                LinkEvent::Ping { arrived, .. } => {
                    stamped = arrived.is_some();
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        if stamped && n > 1 {
            break;
        }
    }
    assert!(stamped);
    assert_eq!(pair.links[1].tracked[&link], now_at);
    pair.links[1].closed(peer, link);
    assert!(pair.links[1].tracked.is_empty() && pair.links[1].live.is_empty());
}

#[tokio::test]
async fn who_closes_for_a_goodbye_has_left_and_who_just_ends_has_not() {
    for (reason, expected) in [(GOODBYE, true), (b"", false)] {
        let mut pair = Pair::new();
        let [ours, theirs] = pair.meet().await;
        let (peer, epoch) = (theirs.peer, theirs.epoch);
        pair.links[1].ready(theirs).unwrap();
        ours.connection.close(close::GOODBYE.into(), reason);
        let event = soon(pair.told()).await;
        let LinkEvent::Closed { ended, .. } = event else { panic!("{event:?}") };
        assert_eq!(ended.left, expected);
        assert!(!pair.links[1].is_over(peer, epoch) && pair.links[1].is_over(peer, epoch - 1));
    }
}

#[tokio::test]
async fn a_panic_of_a_reader_ends_its_connection() {
    let mut pair = Pair::new();
    let [ours, theirs] = pair.meet().await;
    let connection = theirs.connection.clone();
    let events = Some(pair.links[1].events.clone());
    let guard = Guard { peer: theirs.peer, epoch: theirs.epoch, link: 7, connection, events };
    pair.links[1].listen(stream::unfold(guard, |guard| async {
        assert_eq!(guard.link, 0, "a bug, on purpose");
        Some((LinkEvent::Silent, guard))
    }));
    let event = soon(pair.told()).await;
    let LinkEvent::Closed { link: 7, ended, .. } = event else { panic!("{event:?}") };
    assert!(!ended.left && !ended.restarted);
    soon(ours.connection.closed()).await;
    soon(async {
        while pair.links[1].reap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_lost_an_address_hangs_up_what_others_called_there_and_keeps_what_it_called() {
    let mut pair = Pair::new();
    let [dialled, answered] = pair.meet().await;
    let (a, at) = (answered.peer, pair.sides[0].at());
    let [to_b, to_a] = [&dialled, &answered].map(|r| r.connection.clone());
    pair.links[0].ready(dialled).unwrap();
    pair.links[1].ready(answered).unwrap();
    let lost = BTreeSet::from([IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(pair.links[0].hang_up_at(&lost), [], "what it dialled moves with it");
    assert_eq!(pair.links[1].hang_up_at(&BTreeSet::from([IpAddr::from([192, 0, 2, 1])])), []);
    assert_eq!(pair.links[1].hang_up_at(&lost), [(a, at)], "to be called back");
    soon(to_b.closed()).await;
    assert!(to_a.close_reason().is_some());
}

#[tokio::test]
async fn who_slept_hangs_up_and_the_other_side_sees_it_at_once() {
    let mut pair = Pair::new();
    let [dialled, answered] = pair.meet().await;
    let (other, theirs) = (dialled.peer, answered.connection.clone());
    pair.links[0].ready(dialled).unwrap();
    pair.links[0].hang_up(answered.peer);
    assert!(theirs.close_reason().is_none(), "that is no peer of it");
    pair.links[0].hang_up(other);
    soon(theirs.closed()).await;
}
