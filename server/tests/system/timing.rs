//! What is slow shows in its own stage and in no other: the other side's hold, the network, a pong behind its deadline.

use std::time::Duration;

use pams_shared::{
    clock::Clock,
    record::{Outcome, Reason, Record, Stage},
    sim::Link,
    status::Liveness,
};
use tokio::task::JoinSet;

use crate::{
    harness::{eventually, median_ms, outcomes, until},
    pams::Pams,
    peer::{Peer, Seat},
};

const PINGS: usize = 50;

/// Two agents of one cluster that only ping when they are told to; the connection is there. The second answers after
/// `answer_after`.
async fn pair(pams: &Pams, deadline: Duration, answer_after: Duration) -> (Peer, Peer) {
    let token = pams.open_token().await;
    let rarely = |c: &mut pams_agent::config::Config| {
        c.ping.interval = Duration::from_secs(3_600);
        c.ping.deadline = deadline;
    };
    let mut b = Seat::new(pams.dir.path(), "b").with(rarely);
    b.answer_after = answer_after;
    let a = Seat::new(pams.dir.path(), "a").with(rarely).watches(&[&b]);
    let beta = b.start(Some(&token)).await;
    let alpha = a.start(Some(&token)).await;
    // The first poll comes within a second, the next one much later.
    alpha.until("live", beta.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;
    (alpha, beta)
}

/// Opens `count` pings, one each 10 ms, whatever becomes of those before.
async fn ping_on(from: &Peer, to: &Peer, count: usize) {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let mut pings = JoinSet::new();
    for _ in 0..count {
        pace.tick().await;
        let (handle, peer) = (from.running.handle.clone(), to.peer);
        pings.spawn(async move { handle.ping(peer).await });
    }
    while pings.join_next().await.is_some() {}
}

fn others_ms(records: &[Record], but: Stage) -> f64 {
    Stage::EXCHANGE.into_iter().filter(|s| *s != but).map(|s| median_ms(records, s)).sum()
}

/// Pings again and again until the medians in ms of the slow stage, and of all others together, are as wanted: what is slow in
/// these tests is so each time, and a machine that does other things as well is slow now and then.
async fn until_medians(from: &Peer, to: &Peer, slow: Stage, wanted: impl Fn(f64, f64) -> bool) -> Vec<Record> {
    eventually(&format!("only {} is slow", slow.as_str()), async || {
        let seen = from.records().len();
        ping_on(from, to, PINGS).await;
        let records = from.records().split_off(seen);
        let (slow, others) = (median_ms(&records, slow), others_ms(&records, slow));
        if !wanted(slow, others) {
            println!("{slow} ms, and {others} ms in the other stages");
            return None;
        }
        Some(records)
    })
    .await
}

#[tokio::test]
async fn a_slow_answer_is_the_remote_hold_and_nothing_else() {
    let pams = Pams::start().await;
    let (alpha, beta) = pair(&pams, Duration::from_secs(5), Duration::from_millis(100)).await;
    let records = until_medians(&alpha, &beta, Stage::RemoteHold, |hold, others| {
        assert!(hold >= 100.0, "held {hold} ms");
        hold < 115.0 && others < 10.0
    })
    .await;
    for record in records.iter().filter(|r| r.stages.iter().count() == 4) {
        assert_eq!(record.stages.iter().map(|(_, ns)| ns).sum::<u64>(), record.total_ns.unwrap(), "{record:?}");
    }
}

#[tokio::test]
async fn a_long_way_is_the_network_to_within_five_per_cent() {
    let pams = Pams::start().await;
    let (alpha, beta) = pair(&pams, Duration::from_secs(5), Duration::ZERO).await;
    // So long that five per cent of it are more than what a busy machine lets an emulated packet wait.
    let round_trip = 400.0;
    let link = Link { delay: Duration::from_secs_f64(round_trip / 2e3), ..Link::default() };
    alpha.emulate(beta.at, link);
    beta.emulate(alpha.at, link);
    let bar = round_trip * 0.05 + 0.3;
    until_medians(&alpha, &beta, Stage::Network, |network, others| {
        assert!(network >= round_trip - bar, "{network} ms for {round_trip} ms");
        network <= round_trip + bar && others < 10.0
    })
    .await;
    let path =
        alpha.metric("pams_agent_buddy_path_rtt_seconds", &[("peer", &beta.peer.to_string()), ("name", "b")]).await;
    assert!(path >= round_trip / 1e3 * 0.5, "QUIC's own estimate stands beside it: {path} s");
}

#[tokio::test]
async fn lost_packets_are_unanswered_pings_and_doubled_ones_count_once() {
    let pams = Pams::start().await;
    // Long enough that only what is lost is not answered.
    let (alpha, beta) = pair(&pams, Duration::from_secs(3), Duration::ZERO).await;
    let before = alpha.pings().await;
    alpha.emulate(beta.at, Link { loss: 0.2, ..Link::default() });
    beta.emulate(alpha.at, Link { duplicate: 1.0, ..Link::default() });
    let count = 200;
    let seen = alpha.records().len();
    ping_on(&alpha, &beta, count).await;
    let after = alpha.pings().await;
    let records = &alpha.records()[seen..];
    let lost = records.iter().filter(|r| r.outcome == Outcome::Aborted).count();
    // Four standard deviations around the fifth part.
    assert!((17..=63).contains(&lost), "{lost} of {count} were lost");
    assert!(records.iter().all(|r| r.reason.is_none_or(|reason| reason == Reason::NoAnswer)), "{records:?}");
    assert!(
        records.iter().filter(|r| r.outcome != Outcome::Good).all(|r| r.total_ns.is_none()),
        "no time of what did not come"
    );
    let [opened, good, aborted, failed, unknown] = outcomes(&after);
    assert_eq!((opened, aborted), (before.opened + count as u64, before.aborted + lost as u64));
    assert_eq!((good, failed, unknown), (before.good + (count - lost) as u64, before.failed, before.unknown));
    assert_eq!((after.in_flight, after.duplicate), (0, 0), "{after:?}");
}

#[tokio::test]
async fn a_pong_behind_its_deadline_is_late_and_timed_and_closes_nothing() {
    let pams = Pams::start().await;
    let (alpha, beta) = pair(&pams, Duration::from_millis(200), Duration::ZERO).await;
    let before = alpha.pings().await;
    beta.emulate(alpha.at, Link { delay: Duration::from_millis(400), ..Link::default() });
    let begin = Clock.now();
    ping_on(&alpha, &beta, 10).await;
    until("the pongs come", async || alpha.pings().await.late == before.late + 10).await;
    let took = Clock.now().since(begin).as_secs_f64();
    let after = alpha.pings().await;
    assert_eq!((after.aborted, after.good), (before.aborted + 10, before.good), "{after:?}");
    let kind = [("kind", "presence.ping")];
    let scraped = alpha.scrape().await;
    let of = |name: &str| scraped.value(name, &kind).unwrap();
    assert_eq!(of("pams_agent_late_seconds_count"), of("pams_agent_transactions_late_total"));
    let mean = of("pams_agent_late_seconds_sum") / of("pams_agent_late_seconds_count");
    assert!((0.35..=took).contains(&mean), "{mean} s on average, of {took} s");
}
