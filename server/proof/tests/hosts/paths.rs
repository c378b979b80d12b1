//! Where the time goes: the network stage beside ICMP on the same path, and each stage when only it is slow.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pams_proof::{
    lab::Lab,
    pams::{Agent, Home, PATIENCE, Seat, until},
    stages::{Beside, Exchange, median_ms},
};
use pams_shared::{id::PeerId, record::Stage, sim::Link};
use tokio::time::{sleep, timeout};

use crate::{
    Outcome,
    account::settle,
    table::{Row, path},
};

/// The bar: the network stage within five per cent and 0.3 ms of ICMP.
const PER_CENT: f64 = 5.0;
const ALLOWANCE_MS: f64 = 0.3;
const COUNT: usize = 200;
const PACE: Duration = Duration::from_millis(60);

/// What is slowed down, and by how much.
const SLOW: Duration = Duration::from_millis(100);
/// A stage that is not slow may differ by this much from when nothing is; the other processes of the test are not idle.
const STILL_MS: f64 = 10.0;
const ROUNDS: usize = 25;

/// Asks its buddies only when it is told to.
fn asked_only(seat: Seat) -> Seat {
    seat.pings(Duration::from_secs(3_600), Duration::from_secs(5))
}

/// The first poll comes within a second, and makes the connection.
async fn connected(agent: &Agent, buddy: PeerId) -> anyhow::Result<()> {
    until("a buddy is live", PATIENCE, async || agent.takes_for(buddy, "live").await).await?;
    Ok(())
}

pub async fn the_network_stage_follows_the_path(lab: &Lab) -> Outcome {
    let home = Home::start(lab, "home").await?;
    let b = asked_only(Seat::new(lab, "b")?);
    let a = asked_only(Seat::new(lab, "a")?).watches(&[&b]);
    let beta = b.start(lab, Some(&home.token)).await?;
    let alpha = a.start(lab, Some(&home.token)).await?;
    connected(&alpha, b.peer).await?;
    let ms = Duration::from_millis;
    let bad = Link { delay: ms(25), jitter: ms(5), loss: 0.02, reorder: 0.02, duplicate: 0.01 };
    let mut rows = Vec::new();
    for link in [Link { delay: ms(25), ..Link::default() }, bad, Link { delay: ms(60), ..bad }] {
        lab.wire.set_both(lab.port("a"), lab.port("b"), link);
        let both = Beside::measure(lab, ("a", &alpha), ("b", b.peer), COUNT, PACE).await?;
        let (icmp, (network, measured)) = (both.echoes.median_ms(), both.network());
        let set = path(&link);
        let bar = icmp * PER_CENT / 100.0 + ALLOWANCE_MS;
        ensure!((network - icmp).abs() <= bar, "{set}: the network stage is {network} ms, ICMP {icmp} ms");
        // Not only do both agree: the path is what was set, but for how late a busy machine wakes the link's threads.
        let round_trip = link.delay.as_secs_f64() * 2e3;
        ensure!((icmp - round_trip).abs() <= round_trip / 10.0 + 1.0, "{set}: ICMP says {icmp} ms");
        ensure!(measured * 10 >= COUNT * 8, "{set}: the network was measured in {measured} of {COUNT} pings");
        rows.push(Row::Path {
            set,
            icmp,
            echoes: format!("{}/{}", both.echoes.lost(), both.echoes.sent),
            network,
            pings: format!("{}/{}", both.asked - both.exchanges.len(), both.asked),
        });
    }
    settle(&home, &a, alpha).await?;
    settle(&home, &b, beta).await?;
    Ok(rows)
}

pub async fn what_is_slow_moves_its_stage_only(lab: &Lab) -> Outcome {
    let home = Home::start(lab, "home").await?;
    let b = asked_only(Seat::new(lab, "b")?);
    let mut c = asked_only(Seat::new(lab, "c")?);
    c.answer_after = SLOW;
    let a = asked_only(Seat::new(lab, "a")?).watches(&[&b, &c]);
    let (beta, gamma) = (b.start(lab, Some(&home.token)).await?, c.start(lab, Some(&home.token)).await?);
    let mut alpha = a.start(lab, Some(&home.token)).await?;
    connected(&alpha, b.peer).await?;
    connected(&alpha, c.peer).await?;
    let link = Link { delay: Duration::from_millis(25), ..Link::default() };
    lab.wire.set_both(lab.port("a"), lab.port("b"), link);
    lab.wire.set_both(lab.port("a"), lab.port("c"), link);

    let [mut plain, mut answer, mut reader, mut sending] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        plain.extend(alpha.ping(b.peer).await);
        answer.extend(alpha.ping(c.peer).await);
        reader.push(stopped_reader(lab, &alpha, b.peer).await?);
        sending.extend(alpha.stalled_ping(b.peer, SLOW).await?);
    }
    let medians = |of: &[Exchange]| Stage::EXCHANGE.map(|stage| median_ms(of, stage).0);
    let nothing = medians(&plain);
    let mut rows = vec![Row::Stages { what: "nothing", ms: nothing }];
    for (what, of, slow) in [
        ("the answer, by 100 ms", answer, Stage::RemoteHold),
        ("the reader, stopped for 100 ms", reader, Stage::LocalWait),
        ("before sending, by 100 ms", sending, Stage::Queued),
    ] {
        ensure!(of.len() * 5 >= ROUNDS * 4, "{what}: {} of {ROUNDS} pings were answered", of.len());
        let seen = medians(&of);
        for ((stage, now), before) in Stage::EXCHANGE.into_iter().zip(seen).zip(nothing) {
            let moved = now - before;
            let expected = if stage == slow { SLOW.as_secs_f64() * 1e3 } else { 0.0 };
            ensure!((moved - expected).abs() <= STILL_MS, "{what}: {} went from {before} to {now} ms", stage.as_str());
        }
        rows.push(Row::Stages { what, ms: seen });
    }
    for (seat, agent) in [(&a, alpha), (&b, beta), (&c, gamma)] {
        settle(&home, seat, agent).await?;
    }
    Ok(rows)
}

/// A ping whose pong comes while the agent's process is stopped, [`SLOW`] before it goes on.
async fn stopped_reader(lab: &Lab, alpha: &Agent, buddy: PeerId) -> anyhow::Result<Exchange> {
    let (a, b) = (lab.port("a"), lab.port("b"));
    let (mut there, mut back) = (lab.wire.passed(a, b), lab.wire.passed(b, a));
    // The last packets of the exchange before: QUIC acknowledges a datagram after 25 ms at most.
    while timeout(Duration::from_millis(120), there.changed()).await.is_ok() {}
    let ping = alpha.ping(buddy);
    let stop = async {
        there.changed().await?;
        alpha.signal(Signal::SIGSTOP)?;
        let before = back.borrow().delivered;
        let came = timeout(PATIENCE, back.wait_for(|passed| passed.delivered > before)).await.context("the pong comes");
        let came = came.map(|arrived| arrived.map(drop));
        sleep(SLOW).await;
        alpha.signal(Signal::SIGCONT)?;
        came??;
        anyhow::Ok(())
    };
    let (ping, stopped) = tokio::join!(ping, stop);
    stopped?;
    ping.context("a ping on a path without loss is answered")
}
