//! A peer's process dies, or is stopped, without a word.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use pams_proof::{
    lab::Lab,
    pams::{Home, PATIENCE, Seat, ask, until},
    stages::Exchange,
};
use pams_shared::{clock::Clock, record::Reason};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Outcome,
    account::{left, settle},
    cuts::{Pair, SLACK, WHOLE, gone},
    table::{Row, after},
};

/// What users are told of a server with the defaults.
const HOME_GONE_WITHIN: Duration = Duration::from_secs(5);
/// A peer that starts again is live at once.
const LIVE_WITHIN: Duration = Duration::from_secs(6);
/// Agents report every 1.5 s by default, and a report takes a moment.
const REPORTED_WITHIN: Duration = Duration::from_millis(2_500);
const IN_FLIGHT: u64 = 5;
const STOPPED: Duration = Duration::from_secs(20);

/// Asks five times a second.
pub fn often(seat: Seat) -> Seat {
    seat.pings(Duration::from_millis(200), Duration::from_secs(1))
}

/// `b` is killed with exchanges in flight to the slow peer `c`, watched by `a`.
pub async fn a_peer_is_killed(lab: &Lab) -> Outcome {
    for (one, other) in [("a", "b"), ("b", "c")] {
        lab.wire.set_both(lab.port(one), lab.port(other), WHOLE);
    }
    let home = Home::start(lab, "home").await?;
    let mut c = Seat::new(lab, "c")?;
    c.answer_after = Duration::from_secs(4);
    // Only what it is told to: so the home knows all of it when it dies.
    let b = Seat::new(lab, "b")?.pings(Duration::from_secs(3_600), Duration::from_secs(5)).watches(&[&c]);
    let a = often(Seat::new(lab, "a")?).watches(&[&b]);
    let gamma = c.start(lab, Some(&home.token)).await?;
    let beta = b.start(lab, Some(&home.token)).await?;
    let alpha = a.start(lab, Some(&home.token)).await?;
    let ready = async || alpha.takes_for(b.peer, "live").await && beta.pings().await.is_ok_and(|l| l.good == 1);
    until("b is live, and its first poll is answered", PATIENCE, ready).await?;
    let mut asked = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        asked.spawn(ask(beta.control.clone(), c.peer));
    }
    let known = async || home.pings_of(b.peer).await.in_flight == IN_FLIGHT;
    until("the home knows of what is in flight", PATIENCE, known).await?;
    let before = home.pings_of(b.peer).await;

    beta.kill().await?;
    let to_home = until("gone for its home", HOME_GONE_WITHIN + SLACK, async || {
        home.liveness(b.peer).await.as_deref() == Some("gone")
    });
    let (to_a, to_home) = tokio::try_join!(gone(&alpha, &a, &b), to_home)?;
    asked.shutdown().await;
    let beta = b.start(lab, None).await?;
    let back = until("live again", LIVE_WITHIN, async || alpha.takes_for(b.peer, "live").await).await?;
    until("its next life asks", PATIENCE, async || beta.pings().await.is_ok_and(|l| l.good == 1)).await?;

    let of_a = settle(&home, &a, alpha).await?;
    let of_b = left(&home, &b, beta).await?;
    let (lost, ended) = (of_b.home.unknown, of_b.home.opened - of_b.home.unknown);
    ensure!(lost == IN_FLIGHT, "of {before:?} {lost} are booked as unknown");
    ensure!(ended == of_b.file.opened, "all others are in its file and at home: {of_b:?}");
    drop(gamma);
    let noticed = vec![
        after("a: gone", to_a, a.gone_within()),
        after("home: gone", to_home, HOME_GONE_WITHIN),
        after("live again", back, LIVE_WITHIN),
    ];
    Ok(vec![Row::Outage { what: "b: kill -9, 5 in flight", noticed, accounts: vec![("a", of_a), ("b", of_b)] }])
}

/// `b` is killed while it asks `a` all the time. What it had not reported yet is in its own file only: at most what it opened
/// since its last report.
pub async fn a_busy_peer_is_killed(lab: &Lab) -> Outcome {
    let Pair { home, a, b, alpha, beta } = Pair::start(lab, often).await?;
    until("the home counts", PATIENCE, async || home.pings_of(b.peer).await.good >= 10).await?;
    let killed_ms = Clock.now().wall_ms();
    beta.kill().await?;
    let to_a = gone(&alpha, &a, &b).await?;
    let first = b.records()?;
    let beta = b.start(lab, None).await?;
    let back = until("live again", LIVE_WITHIN, async || alpha.takes_for(b.peer, "live").await).await?;
    until("its next life asks", PATIENCE, async || beta.pings().await.is_ok_and(|l| l.good >= 3)).await?;

    let of_a = settle(&home, &a, alpha).await?;
    let of_b = left(&home, &b, beta).await?;
    let unreported_since = killed_ms.saturating_sub(REPORTED_WITHIN.as_millis() as u64);
    let reported = first.iter().filter(|e| e.opened_ms < unreported_since).count() as u64;
    let second = of_b.file.opened - first.len() as u64;
    ensure!(of_b.home.opened >= reported + second, "the home misses what it was told: {reported}, {second}, {of_b:?}");
    let noticed = vec![after("a: gone", to_a, a.gone_within()), after("live again", back, LIVE_WITHIN)];
    Ok(vec![Row::Outage { what: "b: kill -9, while asking", noticed, accounts: vec![("a", of_a), ("b", of_b)] }])
}

pub async fn a_peer_is_stopped_for_twenty_seconds(lab: &Lab) -> Outcome {
    let pair = Pair::start(lab, often).await?;
    let before = pair.beta.pings().await?;
    let stopped = Clock.now();
    pair.beta.signal(Signal::SIGSTOP)?;
    let to_home = until("gone for its home", HOME_GONE_WITHIN + SLACK, async || {
        pair.home.liveness(pair.b.peer).await.as_deref() == Some("gone")
    });
    let (to_a, to_home) = tokio::try_join!(gone(&pair.alpha, &pair.a, &pair.b), to_home)?;
    sleep(STOPPED.saturating_sub(Clock.now().since(stopped))).await;
    pair.beta.signal(Signal::SIGCONT)?;
    let back = until("both are live again, and at home", LIVE_WITHIN, async || {
        pair.live().await && pair.home.liveness(pair.b.peer).await.as_deref() == Some("live")
    })
    .await?;
    let noticed = vec![
        after("a: gone", to_a, pair.a.gone_within()),
        after("home: gone", to_home, HOME_GONE_WITHIN),
        after("back", back, LIVE_WITHIN),
    ];
    let on = async || pair.beta.pings().await.is_ok_and(|l| l.good >= before.good + 10);
    until("b asks on", PATIENCE, on).await?;
    let b = pair.b.clone();
    let rows = pair.settle("b: SIGSTOP for 20 s", noticed).await?;
    no_answer_is_missed(&b.records()?)?;
    Ok(rows)
}

/// What was under way when its peer was stopped has no outcome, and everything else is answered, until the other one leaves:
/// what comes after the last answer is of that.
fn no_answer_is_missed(of_b: &[Exchange]) -> anyhow::Result<()> {
    let last = of_b.iter().filter(|e| e.is_good()).map(|e| e.opened_ms).max().unwrap_or_default();
    let fits = |e: &Exchange| e.is_good() || e.reason.as_deref() == Some(Reason::Stalled.as_str());
    let missed: Vec<&Exchange> = of_b.iter().filter(|e| e.opened_ms <= last && !fits(e)).collect();
    ensure!(missed.is_empty(), "b was stopped, and these ended otherwise: {missed:?}");
    Ok(())
}
