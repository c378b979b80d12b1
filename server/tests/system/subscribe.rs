//! Subscriptions: changes are pushed, by the peer itself and by the home, acknowledged, and timed by whoever published them.

use pams_agent::{
    core::{SubscriptionView, Teller, Told, View},
    shell::events::{Events, Heard},
};
use pams_shared::{
    control::target,
    id::PeerId,
    record::{Kind, Outcome},
    sim::Link,
    status::{Liveness, Status},
};
use serde_json::{Value, json};

use crate::{
    harness::{eventually, until},
    pams::Pams,
    peer::{Peer, Seat},
};

/// What is told next that is as wanted.
pub async fn next(events: &mut Events, what: &str, wanted: impl Fn(&Told) -> bool) -> Told {
    let found = async {
        loop {
            match events.next().await.expect("the agent runs") {
                Heard::Told(told) if wanted(&told) => return told,
                Heard::Told(_) => {}
                Heard::Missed(n) => panic!("{n} were missed"),
            }
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, found).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

pub async fn publish(agent: &Peer, status: Status, note: &str) -> u64 {
    agent.running.handle.publish(status, Some(note.to_owned())).await.unwrap().version
}

pub fn subscription(view: View, peer: PeerId) -> SubscriptionView {
    view.subscriptions.into_iter().find(|s| s.peer == peer).expect("a subscription")
}

/// Waits until both ways tell.
async fn until_active(agent: &Peer, of: PeerId) -> SubscriptionView {
    let active = |s: &SubscriptionView| s.by_peer.state == "active" && s.by_home.state == "active";
    eventually("told by both", async || Some(subscription(agent.view().await, of)).filter(active)).await
}

pub fn version(told: &Told) -> u64 {
    told.presence.as_ref().map_or(0, |p| p.version)
}

#[tokio::test]
async fn a_change_is_told_at_once_and_the_publisher_knows_within_which_bounds() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let b = Seat::new(pams.dir.path(), "b");
    let a = Seat::new(pams.dir.path(), "a").subscribes(&[&b]);
    let (alpha, beta) = (a.start(Some(&token)).await, b.start(Some(&token)).await);
    let mut events = alpha.running.handle.listen(Some(b.peer)).await.unwrap().unwrap();
    until_active(&alpha, b.peer).await;
    for n in 1..=20 {
        let published = publish(&beta, if n % 2 == 0 { Status::Busy } else { Status::Away }, &format!("n {n}")).await;
        let told = next(&mut events, "the change", |t| version(t) == published).await;
        assert_eq!((told.skipped, told.presence.unwrap().note), (0, Some(format!("n {n}"))));
    }
    until("all are acknowledged", async || {
        let subscriber = beta.view().await.subscribers.remove(0);
        !subscriber.under_way && subscriber.acked_s.is_some()
    })
    .await;
    let view = beta.view().await;
    let ledger = view.ledgers.iter().find(|l| l.kind == Kind::Notify).unwrap().ledger;
    assert!(ledger.good > 0 && ledger.opened == ledger.good && ledger.is_conserved(), "{ledger:?}");
    assert_eq!((view.subscribers[0].peer, view.subscribers[0].state), (a.peer, "active"));
    let notifies = beta.records_of(&Kind::Notify);
    assert_eq!(notifies.len() as u64, ledger.good);
    let bounds: Vec<_> = notifies.iter().filter_map(|r| r.told().map(|t| (t, r.total_ns.unwrap()))).collect();
    // Where the home told it first, there is none.
    assert!(!bounds.is_empty(), "{notifies:?}");
    assert!(bounds.iter().all(|(t, total)| t.least_ns <= t.most_ns && t.most_ns <= *total), "{bounds:?}");
    assert_eq!(beta.metric("pams_agent_told_seconds_count", &[("bound", "least")]).await, bounds.len() as f64);
    assert_eq!(alpha.metric("pams_agent_subscription_skipped_total", &[]).await, 0.0);
    until("the home counts them", async || {
        let sent = pams.metric("pams_server_notifies_total", &[("result", "sent")]).await;
        sent > 0.0 && sent == pams.metric("pams_server_notifies_total", &[("result", "acked")]).await
    })
    .await;
    assert!(pams.metric("pams_server_notify_seconds_count", &[]).await > 0.0);
    assert_eq!(pams.metric("pams_server_subscriptions", &[]).await, 1.0);
}

#[tokio::test]
async fn a_peer_that_is_not_there_yet_is_told_of_when_it_comes_and_when_it_goes() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let b = Seat::new(pams.dir.path(), "b");
    let alpha = Seat::new(pams.dir.path(), "a").start(Some(&token)).await;
    let handle = &alpha.running.handle;
    let mut events = handle.listen(None).await.unwrap().unwrap();
    assert_eq!(handle.subscribe(b.peer).await.unwrap(), Ok(true));
    assert_eq!(handle.subscribe(b.peer).await.unwrap(), Ok(false), "once is enough");
    until("the home is to tell", async || subscription(alpha.view().await, b.peer).by_home.state == "active").await;
    assert_eq!(subscription(alpha.view().await, b.peer).liveness, None, "nobody knows it");

    let beta = b.spawn(Some(&token)).await;
    let came = next(&mut events, "it came", |t| t.liveness == Some(Liveness::Live) && t.by == Teller::Home).await;
    assert_eq!(came.peer, b.peer);
    until_active(&alpha, b.peer).await;
    let presence: Value = beta.control.put("/v1/presence", &json!({ "status": "away" })).await.unwrap();
    let told = next(&mut events, "away", |t| version(t) == presence["version"].as_u64().unwrap()).await;
    assert_eq!(told.presence.unwrap().status, Status::Away);

    beta.kill().await;
    next(&mut events, "gone to its home", |t| t.liveness == Some(Liveness::Gone) && t.by == Teller::Home).await;
    assert_eq!(subscription(alpha.view().await, b.peer).presence.unwrap().status, Status::Away, "the last it said");
    let _beta = b.spawn(None).await;
    next(&mut events, "back", |t| t.liveness == Some(Liveness::Live) && t.by == Teller::Home).await;
    until_active(&alpha, b.peer).await;
    assert!(handle.unsubscribe(b.peer).await.unwrap() && !handle.unsubscribe(b.peer).await.unwrap());
    assert!(alpha.view().await.buddies.is_empty(), "it was watched for that alone");
}

#[tokio::test]
async fn a_subscriber_that_is_killed_is_noticed_without_a_goodbye() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let b = Seat::new(pams.dir.path(), "b");
    let a = Seat::new(pams.dir.path(), "a").subscribes(&[&b]);
    let beta = b.start(Some(&token)).await;
    let alpha = a.spawn(Some(&token)).await;
    until("it subscribes", async || beta.view().await.subscribers.iter().any(|s| s.peer == a.peer)).await;
    alpha.kill().await;
    publish(&beta, Status::Busy, "does anybody hear this").await;
    let lost = async || beta.metric("pams_agent_subscribers_lost_total", &[]).await == 1.0;
    until("the loss is noticed", lost).await;
    let records = beta.records_of(&Kind::Notify);
    assert!(records.iter().all(|r| r.outcome == Outcome::Aborted && r.told().is_none()), "{records:?}");

    let alpha = a.spawn(None).await;
    let back = async || beta.view().await.subscribers.iter().any(|s| s.peer == a.peer && s.state == "active");
    until("it subscribes again", back).await;
    let path = target(&["v1", "subscriptions"], &[]);
    until("and knows what it missed", async || {
        let listed: Value = alpha.control.get(&path).await.unwrap();
        listed["subscriptions"][0]["presence"]["note"] == "does anybody hear this"
    })
    .await;
}

#[tokio::test]
async fn on_a_bad_link_the_last_state_arrives_and_nothing_goes_backwards() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let b = Seat::new(pams.dir.path(), "b");
    let a = Seat::new(pams.dir.path(), "a").subscribes(&[&b]);
    let (alpha, beta) = (a.start(Some(&token)).await, b.start(Some(&token)).await);
    let mut events = alpha.running.handle.listen(Some(b.peer)).await.unwrap().unwrap();
    until_active(&alpha, b.peer).await;
    let lossy = Link { loss: 0.2, ..Link::default() };
    for (from, to) in [(&alpha, b.at), (&beta, a.at), (&alpha, pams.quic), (&beta, pams.quic)] {
        from.emulate(to, lossy);
    }
    let mut last = 0;
    for n in 0..40 {
        last = publish(&beta, Status::Busy, &format!("n {n}")).await;
        tokio::task::yield_now().await;
    }
    let (mut before, mut told, mut skipped) = (None, 0, 0);
    while before != Some(last) {
        let news = next(&mut events, "the next state", |t| t.by != Teller::Agent && version(t) > 0).await;
        let new = version(&news);
        assert!(before.is_none_or(|b| b <= new), "{before:?} and then {news:?}");
        if before != Some(new) {
            (told, skipped) = (told + 1, skipped + news.skipped);
        }
        before = Some(new);
    }
    assert_eq!(told + skipped, last, "each change was told, or counted as a gap");
}

#[tokio::test]
async fn a_home_that_starts_again_is_subscribed_to_again() {
    let mut pams = Pams::start().await;
    let token = pams.open_token().await;
    let b = Seat::new(pams.dir.path(), "b");
    let a = Seat::new(pams.dir.path(), "a").subscribes(&[&b]);
    let (alpha, beta) = (a.start(Some(&token)).await, b.start(Some(&token)).await);
    until_active(&alpha, b.peer).await;
    pams.kill().await;
    let mut events = alpha.running.handle.listen(None).await.unwrap().unwrap();
    let published = publish(&beta, Status::Away, "no home").await;
    let told = next(&mut events, "the peer itself", |t| version(t) == published).await;
    assert_eq!(told.by, Teller::Peer, "peers go on without it");

    let pams = pams.start_again().await;
    until("the home tells again", async || {
        let s = subscription(alpha.view().await, b.peer);
        s.by_home.state == "active" && s.liveness == Some(Liveness::Live)
    })
    .await;
    // The agent may not have noticed yet that it was away.
    until("in its next life", async || pams.metric("pams_server_subscriptions", &[]).await == 1.0).await;
    until_active(&alpha, b.peer).await;
    // The direct way is cut; the home is told, and tells.
    alpha.emulate(b.at, Link::PARTITION);
    beta.emulate(a.at, Link::PARTITION);
    let published = publish(&beta, Status::Busy, "by the home").await;
    let told = next(&mut events, "the home", |t| version(t) == published).await;
    assert_eq!(told.by, Teller::Home);
}
