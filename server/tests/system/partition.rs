//! A network that fails in one direction only.

use std::time::Duration;

use pams_shared::{sim::Link, status::Liveness};
use serde_json::Value;

use crate::{harness::until, pams::Pams, peer::Seat};

#[tokio::test]
async fn who_still_hears_does_not_say_gone_and_the_home_shows_both_views_beside_its_own() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    // Who hears nothing for so long, and an interval, says gone; who does not run for a moment hears nothing.
    let quick = |c: &mut pams_agent::config::Config| c.ping.deadline = Duration::from_millis(1_500);
    let (a, b) = (Seat::new(pams.dir.path(), "a").with(quick), Seat::new(pams.dir.path(), "b").with(quick));
    let (alpha, beta) =
        (a.clone().watches(&[&b]).start(Some(&token)).await, b.clone().watches(&[&a]).start(Some(&token)).await);
    alpha.until("live", b.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;
    beta.until("live", a.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;

    // What A sends does not arrive; what B sends does.
    alpha.emulate(b.at, Link::PARTITION);
    beta.until("gone", a.peer, |buddy| buddy.liveness == Some(Liveness::Gone)).await;
    let deaf = beta.buddy(a.peer).await;
    assert!(!deaf.hears && !deaf.is_heard, "{deaf:?}");
    let mute = alpha.until("misses", b.peer, |buddy| buddy.missed >= 6).await;
    assert_eq!((mute.liveness, mute.hears, mute.is_heard), (Some(Liveness::Overdue), true, false), "{mute:?}");

    let seen = |peer: &Value| peer["watchers"][0]["liveness"].clone();
    let of_a = pams.until("B's view of A", a.peer, |p| seen(p) == "gone").await;
    assert_eq!(
        (&of_a["home"]["liveness"], &of_a["watchers"][0]["watcher"]),
        (&"live".into(), &b.peer.to_string().into())
    );
    let of_b = pams.until("A's view of B", b.peer, |p| seen(p) == "overdue").await;
    assert_eq!((&of_b["home"]["liveness"], &of_b["watchers"][0]["hears"]), (&"live".into(), &true.into()));

    alpha.emulate(b.at, Link::default());
    until("both live", async || {
        let live = Some(Liveness::Live);
        alpha.buddy(b.peer).await.liveness == live && beta.buddy(a.peer).await.liveness == live
    })
    .await;
    let events = pams.events().await;
    assert!(events.iter().all(|(_, what)| what == "came"), "to their home nothing happened: {events:?}");
}
