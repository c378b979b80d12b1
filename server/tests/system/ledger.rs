//! Scraped ten times a second under loss, delay, jitter and doubled packets, the numbers add up at each look.

use std::time::Duration;

use pams_shared::sim::Link;
use tokio::task::JoinSet;

use crate::{
    harness::{outcomes, sum, until},
    http::{assert_catalogued, assert_conserved, assert_grown, scrape},
    pams::Pams,
    peer::Seat,
};

const BAD: Link = Link {
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(20),
    loss: 0.2,
    duplicate: 0.1,
    reorder: 0.1,
};

#[tokio::test]
async fn at_each_of_many_scrapes_every_ledger_adds_up_and_no_counter_falls() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let quick = |config: &mut pams_agent::config::Config| {
        config.ping.interval = Duration::from_millis(100);
        config.ping.deadline = Duration::from_millis(100);
    };
    let (a, b) = (Seat::new(pams.dir.path(), "a").with(quick), Seat::new(pams.dir.path(), "b").with(quick));
    let (alpha, beta) =
        (a.clone().watches(&[&b]).start(Some(&token)).await, b.watches(&[&a]).start(Some(&token)).await);
    until("they see each other", async || {
        alpha.buddy(beta.peer).await.last.is_some() && beta.buddy(alpha.peer).await.last.is_some()
    })
    .await;
    alpha.emulate(beta.at, BAD);
    beta.emulate(alpha.at, BAD);

    let (mut agent, mut server) = (alpha.scrape().await, pams.scrape().await);
    let (opened, reported) = (assert_conserved(&agent, "pams_agent"), assert_conserved(&server, "pams_server"));
    let mut scrapes = tokio::time::interval(Duration::from_millis(100));
    let mut load = JoinSet::new();
    for _ in 0..40 {
        scrapes.tick().await;
        for _ in 0..3 {
            let (handle, to) = (alpha.running.handle.clone(), beta.peer);
            load.spawn(async move { handle.ping(to).await });
        }
        let (agent_now, server_now) = tokio::join!(scrape(alpha.running.ready.http.unwrap()), scrape(pams.http));
        let _ = (assert_conserved(&agent_now, "pams_agent"), assert_conserved(&server_now, "pams_server"));
        assert_grown(&agent, &agent_now);
        assert_grown(&server, &server_now);
        (agent, server) = (agent_now, server_now);
    }
    assert_catalogued(&agent, pams_agent::metrics::CATALOGUE);
    assert_catalogued(&server, pams_server::metrics::CATALOGUE);
    while load.join_next().await.is_some() {}
    let agent_now = alpha.scrape().await;
    assert_grown(&agent, &agent_now);
    assert!(assert_conserved(&agent_now, "pams_agent") > opened + 120.0);
    // It is told of them each pace.
    until("they are known at home", async || {
        let server_now = pams.scrape().await;
        assert_grown(&server, &server_now);
        server = server_now;
        assert_conserved(&server, "pams_server") > reported + 120.0
    })
    .await;

    let own = alpha.pings().await;
    assert!(own.good > 0 && own.aborted > 0 && own.late > 0, "{own:?}");
    assert_eq!(own.duplicate, 0, "QUIC takes a doubled packet once");
    let peer = alpha.peer;
    let ended = sum(&alpha.stop().await);
    let left = pams.until_liveness(peer, "left").await;
    assert_eq!(outcomes(&pams.pings_of(peer).await), outcomes(&ended), "{left}");
    drop(beta);
}
