use super::{
    super::cluster::{Cluster, soon},
    *,
};

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
    let mut uplink = Uplink {
        me: ours.me.clone(),
        endpoint: ours.endpoint.clone(),
        client: ours.client.clone(),
        credentials: ours.credentials.clone(),
        homes: vec![],
        events,
        requests,
        minter: Minter::new([1; 32]),
    };
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
    let (end, ()) = soon(async { tokio::join!(uplink.session_on(&connection, send, receive), lose) }).await;
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

#[test]
fn the_longest_pause_is_what_homes_count_on() {
    let pauses = std::iter::successors(Some(RETRY_FIRST), |p| Some((*p * 2).min(RETRY_LAST)));
    assert!(pauses.take(20).all(|p| p <= frame::HOME_RETRY_MAX));
}
