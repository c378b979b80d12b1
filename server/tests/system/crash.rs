//! An agent dies, as by `kill -9`: nothing is closed, nothing is said.

use std::{sync::Arc, time::Duration};

use pams_shared::{clock::Clock, record::Ledger, sim::Link};
use tokio::task::JoinSet;

use crate::{
    harness::{outcomes, until},
    pams::Pams,
    peer::Seat,
};

/// The promise to whoever runs the defaults.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const KILLED_WITH: u64 = 5;

#[tokio::test]
async fn its_home_sees_it_gone_within_five_seconds_and_books_what_it_left_open() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let mute = Seat::new(pams.dir.path(), "mute");
    let buddy = mute.start(Some(&token)).await;
    // With the defaults, but for when its buddy is asked: once an hour, so that only this test's pings are in flight, and they
    // are so as long as it takes.
    let seat = Seat::new(pams.dir.path(), "victim").watches(&[&mute]).with(|c| {
        c.ping.interval = Duration::from_secs(3_600);
        c.ping.deadline = Duration::from_secs(3_600);
    });
    let victim = Arc::new(seat.spawn(Some(&token)).await);
    let asked = |count: u64| {
        let mut pings = JoinSet::new();
        for _ in 0..count {
            let (victim, to) = (victim.clone(), buddy.peer);
            pings.spawn(async move { victim.ping(to).await.is_ok() });
        }
        pings
    };
    // The first poll comes within a second, the next ones much later.
    until("one ping is answered", async || victim.pings().await.good == 1).await;
    let answered = victim.pings().await;
    buddy.emulate(seat.at, Link::PARTITION);
    let mut left_open = asked(KILLED_WITH);
    let wanted = Ledger { opened: answered.opened + KILLED_WITH, in_flight: KILLED_WITH, ..answered };
    until("its home knows of those in flight", async || outcomes(&pams.pings_of(seat.peer).await) == outcomes(&wanted))
        .await;
    let first_life = victim.pings().await;
    assert_eq!((first_life, first_life.in_flight), (wanted, KILLED_WITH));
    assert_eq!(pams.pings_of(seat.peer).await, first_life);

    let killed_ms = Clock.now().wall_ms();
    left_open.abort_all();
    while left_open.join_next().await.is_some() {}
    Arc::into_inner(victim).expect("nobody asks it any more").kill().await;
    let detail = pams.until_liveness(seat.peer, "gone").await;
    // As the home says, for it may take a while to ask it.
    let after = detail["home"]["since_ms"].as_u64().expect("a time").saturating_sub(killed_ms);
    assert!(u128::from(after) <= GONE_WITHIN.as_millis(), "gone after {after} ms");
    assert_eq!(detail["home"]["because"], "silence", "{detail}");
    let epoch = pams.epoch_of(seat.peer).await;
    // It may only be cut off: nothing is concluded of what it had in flight.
    assert_eq!(pams.pings_of(seat.peer).await, first_life);

    buddy.emulate(seat.at, Link::default());
    let next = seat.spawn(None).await;
    let detail = pams.until("its next epoch", seat.peer, |p| p["order"]["epoch"] == epoch + 1).await;
    assert_eq!(detail["liveness"], "live");
    until("one ping of the next life is answered", async || next.pings().await.good == 1).await;
    let second_life = next.pings().await;
    assert_eq!((second_life.opened, second_life.in_flight), (1, 0), "{second_life:?}");
    let mut both = first_life;
    assert_eq!(both.abandon(), KILLED_WITH);
    both.add(&second_life);
    until("both lives are counted", async || pams.pings_of(seat.peer).await == both).await;
    let crashed = [("kind", "presence.ping"), ("reason", "crash")];
    assert_eq!(pams.metric("pams_server_transaction_reasons_total", &crashed).await, KILLED_WITH as f64);
    assert!(pams.events().await.contains(&(seat.peer.to_string(), "restarted".into())));
}

#[tokio::test]
async fn one_that_was_only_cut_off_is_counted_on_as_if_nothing_had_been() {
    let pams = Pams::start().await;
    let seat = Seat::new(pams.dir.path(), "a");
    let agent = seat.start(Some(pams.token())).await;
    pams.until_liveness(seat.peer, "live").await;
    let epoch = pams.epoch_of(seat.peer).await;
    agent.emulate(pams.quic, Link::PARTITION);
    pams.until_liveness(seat.peer, "gone").await;
    agent.emulate(pams.quic, Link::default());
    pams.until_liveness(seat.peer, "live").await;
    assert_eq!(pams.epoch_of(seat.peer).await, epoch);
    assert!(pams.events().await.contains(&(seat.peer.to_string(), "returned".into())));
}
