//! Either side starts again: who talked to it notices with its next packet, and goes on.

use std::time::Duration;

use pams_shared::{clock::Clock, quic::IDLE_TIMEOUT, status::Liveness};

use crate::{
    harness::{outcomes, sum, until},
    pams::Pams,
    peer::{Peer, Seat},
};

async fn home_connected(agent: &Peer) -> bool {
    agent.view().await.home.connected
}

#[tokio::test]
async fn without_their_home_peers_go_on_and_its_next_start_counts_nothing_twice() {
    let mut pams = Pams::start().await;
    let token = pams.open_token().await;
    let (a, b) = (Seat::new(pams.dir.path(), "a"), Seat::new(pams.dir.path(), "b"));
    let (alpha, beta) =
        (a.clone().watches(&[&b]).start(Some(&token)).await, b.watches(&[&a]).start(Some(&token)).await);
    until("the home counts both", async || {
        let mut counted = true;
        for agent in [&alpha, &beta] {
            counted &= pams.peer(agent.peer).await.is_some() && pams.pings_of(agent.peer).await.good >= 3;
        }
        counted
    })
    .await;

    let epochs = (alpha.view().await.epoch, beta.view().await.epoch);
    pams.kill().await;
    let before = (alpha.pings().await, beta.pings().await);
    until("they ping on", async || {
        let now = (alpha.pings().await, beta.pings().await);
        now.0.good >= before.0.good + 10 && now.1.good >= before.1.good + 10
    })
    .await;
    assert_eq!(alpha.buddy(beta.peer).await.liveness, Some(Liveness::Live));

    let pams = pams.start_again().await;
    for agent in [&alpha, &beta] {
        pams.until_liveness(agent.peer, "live").await;
        until("the agent knows", async || home_connected(agent).await).await;
    }
    assert_eq!((alpha.view().await.epoch, beta.view().await.epoch), epochs);
    let (a, b) = (alpha.peer, beta.peer);
    for (peer, agent) in [(a, alpha), (b, beta)] {
        let own = sum(&agent.stop().await);
        pams.until_liveness(peer, "left").await;
        assert_eq!(outcomes(&pams.pings_of(peer).await), outcomes(&own));
    }
    let scraped = pams.scrape().await;
    crate::http::assert_conserved(&scraped, "pams_server");
    assert_eq!(scraped.value("pams_server_transactions_in_flight", &[("kind", "presence.ping")]), Some(0.0));
}

#[tokio::test]
async fn a_buddy_that_was_killed_and_is_back_is_live_again_at_once() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let b = Seat::new(pams.dir.path(), "b");
    let a = Seat::new(pams.dir.path(), "a").watches(&[&b]).with(|c| c.ping.deadline = Duration::from_millis(500));
    let beta = b.spawn(Some(&token)).await;
    let alpha = a.start(Some(&token)).await;
    alpha.until("live", b.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;
    beta.kill().await;
    alpha.until("gone", b.peer, |buddy| buddy.liveness == Some(Liveness::Gone)).await;
    // QUIC still believes in the connection: nobody has closed it.
    assert!(alpha.buddy(b.peer).await.connected);

    let _beta = b.spawn(None).await;
    let back = Clock.now();
    alpha.until("live again", b.peer, |buddy| buddy.liveness == Some(Liveness::Live) && buddy.is_heard).await;
    let after = Clock.now().since(back);
    assert!(after < IDLE_TIMEOUT / 5, "live again after {after:?}");
}
