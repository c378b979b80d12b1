//! Who leaves says so, and is what it was when it comes back.

use std::time::Duration;

use pams_shared::status::{Liveness, Status};

use crate::{harness::until, pams::Pams, peer::Seat};

#[tokio::test]
async fn who_leaves_has_left_at_once_for_home_and_buddy_and_keeps_its_presence() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let a = Seat::new(pams.dir.path(), "a");
    // Asked once an hour: what is known of the goodbye is not what a poll finds.
    let b = Seat::new(pams.dir.path(), "b").watches(&[&a]).with(|c| c.ping.interval = Duration::from_secs(3_600));
    let (alpha, beta) = (a.start(Some(&token)).await, b.start(Some(&token)).await);
    let published = alpha.running.handle.publish(Status::Away, Some("at sea".into())).await.unwrap();
    beta.until("live", a.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;
    pams.until("its note", a.peer, |p| p["presence"]["note"] == "at sea").await;

    let epoch = pams.epoch_of(a.peer).await;
    let records = alpha.stop().await;
    assert!(records.is_empty(), "it watched nobody: {records:?}");
    let told = pams.until_liveness(a.peer, "left").await;
    assert_eq!(told["home"]["because"], "goodbye", "{told}");
    let seen = beta.until("left", a.peer, |buddy| buddy.liveness == Some(Liveness::Left)).await;
    assert_eq!(seen.missed, 0, "{seen:?}");
    pams.until("the buddy's view", a.peer, |p| p["watchers"][0]["liveness"] == "left").await;

    let alpha = a.start(None).await;
    assert_eq!(alpha.view().await.presence, published);
    pams.until_liveness(a.peer, "live").await;
    assert_eq!(pams.epoch_of(a.peer).await, epoch + 1);
    pams.until("its presence", a.peer, |p| p["presence"]["status"] == "away" && p["presence"]["note"] == "at sea")
        .await;
    let events: Vec<String> =
        pams.events().await.into_iter().filter(|(peer, _)| *peer == a.peer.to_string()).map(|(_, what)| what).collect();
    assert_eq!(events, ["came", "left", "came"]);

    alpha.running.handle.publish(Status::Offline, None).await.unwrap();
    until("an agent that says offline answers", async || beta.running.handle.ping(a.peer).await.unwrap().is_ok()).await;
    let hidden = pams.until("offline", a.peer, |p| p["presence"]["status"] == "offline").await;
    assert_eq!((&hidden["liveness"], &hidden["presence"]["note"]), (&"live".into(), &serde_json::Value::Null));
}
