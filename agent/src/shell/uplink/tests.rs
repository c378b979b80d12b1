use super::{
    super::cluster::{Cluster, soon},
    push::{Ears, ORDERS_MAX, Order, pushes},
    retry::{RETRY_FIRST, RETRY_LAST},
    session::Greeted,
    *,
};
use pams_shared::{
    frame::{self, Frame, Rostered},
    quic,
};

mod home;
mod servers;

#[tokio::test]
async fn a_home_that_is_lost_answers_what_it_was_asked() {
    let mut cluster = Cluster::new();
    let (ours, home) = (cluster.side("alpha"), cluster.side("home"));
    let (connection, their_end) = ours.connect(&home).await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    quic::write_frame(&mut send, &Frame::Goodbye).await.unwrap(); // so that the stream is there for the other side
    let (mut theirs, _reports) = soon(their_end.accept_bi()).await.unwrap();

    let (events, mut told) = mpsc::channel(8);
    let (asks, requests) = mpsc::channel(8);
    let side = Side {
        me: ours.me.clone(),
        endpoint: ours.endpoint.clone(),
        socket: ours.socket.clone(),
        client: ours.client.clone(),
        credentials: ours.credentials.clone(),
        resolver: Default::default(),
    };
    let mut uplink = Uplink::new(side, vec![], Servers::default(), [[1; 32]; 2], events, requests);
    let peers = [1, 2].map(|n| PeerId::from_bytes([n; 16]));
    for peer in peers {
        asks.send(UplinkRequest::Resolve { peer }).await.unwrap();
    }
    let (answer, fetched) = oneshot::channel();
    asks.send(UplinkRequest::Fetch { peer: peers[0], answer }).await.unwrap();
    let lose = async {
        for _ in 0..3 {
            soon(their_end.accept_bi()).await.unwrap();
        }
        theirs.finish().unwrap();
    };
    let (end, ()) = soon(async {
        tokio::join!(uplink.session_on(&connection, (send, receive), Greeted { capabilities: 0, generation: 1 }), lose)
    })
    .await;
    assert!(matches!(end, End::Lost(_)));
    let mut resolved = Vec::new();
    for _ in peers {
        let Some(UplinkEvent::Resolved { peer, found: Err(_) }) = soon(told.recv()).await else { panic!("no answer") };
        resolved.push(peer);
    }
    resolved.sort();
    assert_eq!(resolved, peers);
    assert!(soon(fetched).await.unwrap().is_err());
}

#[tokio::test]
async fn what_the_home_pushes_reaches_the_loop() {
    let mut cluster = Cluster::new();
    let (ours, home) = (cluster.side("alpha"), cluster.side("home"));
    let (connection, their_end) = ours.connect(&home).await;
    let (events, mut told) = mpsc::channel(8);
    let (orders, mut ordered) = mpsc::channel(ORDERS_MAX);
    let ears = Ears::new(events, orders);
    let roster = |n: u8| Roster {
        peers: vec![Rostered { peer: PeerId::from_bytes([n; 16]), name: "beta".into(), addresses: vec![] }],
    };
    let push = async {
        let (mut first, _answers) = their_end.open_bi().await.unwrap();
        for frame in [Frame::Roster(roster(1)), Frame::Goodbye, Frame::Roster(roster(2))] {
            quic::write_frame(&mut first, &frame).await.unwrap();
        }
        ears.wrote(7);
        quic::write_frame(&mut first, &Frame::Servers(vec![])).await.unwrap();
        let order = soon(ordered.recv()).await;
        assert!(matches!(order, Some(Order::Servers(servers)) if servers.is_empty()));
        assert_eq!(ears.heard(), 0, "whoever tells us something need not have heard us");
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(soon(told.recv()).await.unwrap());
        }
        first.finish().unwrap();
        let (mut second, _answers) = their_end.open_bi().await.unwrap();
        quic::write_frame(&mut second, &Frame::Roster(roster(3))).await.unwrap();
        seen.push(soon(told.recv()).await.unwrap());
        second.write_all(&[1, 0xff]).await.unwrap();
        seen
    };
    let (end, seen) = soon(async { tokio::join!(pushes(&connection, &ears), push) }).await;
    assert!(matches!(end, End::Lost(why) if why.reason == Reason::Refused), "rubbish ends the connection");
    let seen: Vec<_> = seen
        .into_iter()
        .map(|event| match event {
            UplinkEvent::Roster(roster) => Ok(roster),
            UplinkEvent::Rejected { label } => Err(label),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, [Ok(roster(1)), Err("misplaced"), Ok(roster(2)), Ok(roster(3))]);
}

#[test]
fn the_longest_pause_is_what_homes_count_on() {
    let pauses = std::iter::successors(Some(RETRY_FIRST), |p| Some((*p * 2).min(RETRY_LAST)));
    assert!(pauses.take(20).all(|p| p <= frame::HOME_RETRY_MAX));
}
