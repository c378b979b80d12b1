//! Somebody starts again, or is somewhere else.

use std::time::Duration;

use anyhow::ensure;
use pams_proof::{
    lab::Lab,
    pams::{Home, PATIENCE, Seat, until},
};
use tokio::time::sleep;

use crate::{
    Outcome,
    account::settle,
    crashes::often,
    cuts::{Pair, SLACK, WHOLE},
    table::{Row, after},
};

const LEFT_WITHIN: Duration = Duration::from_secs(2);
const LIVE_WITHIN: Duration = Duration::from_secs(6);
/// Agents look every 5 s whether their addresses are others, tell their home, and call those back that had called them.
const MOVED_WITHIN: Duration = Duration::from_secs(8);
/// Before that age, two calls between the same two that cross leave one of them, whichever came first.
const SETTLED: Duration = Duration::from_secs(11);

pub async fn a_peer_is_restarted(lab: &Lab) -> Outcome {
    let Pair { home, a, b, alpha, beta } = Pair::start(lab, often).await?;
    let told = until("left", LEFT_WITHIN + SLACK, async || alpha.takes_for(b.peer, "left").await);
    let (first, told) = tokio::try_join!(settle(&home, &b, beta), told)?;
    let beta = b.start(lab, None).await?;
    let back = until("live again", LIVE_WITHIN, async || alpha.takes_for(b.peer, "live").await).await?;
    until("its next life asks", PATIENCE, async || beta.pings().await.is_ok_and(|l| l.good >= 3)).await?;
    let pair = Pair { home, a, b, alpha, beta };
    let noticed = vec![after("a: left", told, LEFT_WITHIN), after("live again", back, LIVE_WITHIN)];
    let rows = pair.settle("b: restarted", noticed).await?;
    for row in &rows {
        if let Row::Outage { accounts, .. } = row {
            ensure!(accounts[1].1.home.opened >= first.home.opened + 3, "both lives are in the ledger");
        }
    }
    Ok(rows)
}

/// `b` moves, which had called `a`: QUIC's client may change its address (RFC 9000, 9).
pub async fn who_called_gets_another_address(lab: &Lab) -> Outcome {
    moved(lab, "b: another address, it had called", |a, b| (a.clone(), b.asks_home_for(&[&a]))).await
}

/// `b` moves, which `a` had called: QUIC's server may not, so that `b` has to call back.
pub async fn who_was_called_gets_another_address(lab: &Lab) -> Outcome {
    moved(lab, "b: another address, it was called", |a, b| (a.asks_home_for(&[&b]), b)).await
}

async fn moved(lab: &Lab, what: &'static str, watching: fn(Seat, Seat) -> (Seat, Seat)) -> Outcome {
    lab.wire.set_both(lab.port("a"), lab.port("b"), WHOLE);
    let home = Home::start(lab, "home").await?;
    let (a, b) = watching(often(Seat::new(lab, "a")?), often(Seat::new(lab, "b")?));
    // Who watches learns from the home where the other is, which must be there first.
    let (alpha, beta) = if a.config.buddy.is_empty() {
        let alpha = a.start(lab, Some(&home.token)).await?;
        (alpha, b.start(lab, Some(&home.token)).await?)
    } else {
        let beta = b.start(lab, Some(&home.token)).await?;
        (a.start(lab, Some(&home.token)).await?, beta)
    };
    let (asks, asked) = if a.config.buddy.is_empty() { (&beta, a.peer) } else { (&alpha, b.peer) };
    until("it is live", PATIENCE, async || asks.takes_for(asked, "live").await).await?;

    sleep(SETTLED).await;
    let before = asks.pings().await?.good;
    lab.readdress("b")?;
    let back = until("it is answered again", MOVED_WITHIN, async || {
        asks.takes_for(asked, "live").await && asks.pings().await.is_ok_and(|l| l.good >= before + 5)
    })
    .await?;
    let at_home = async || {
        let detail = home.peer(b.peer).await.unwrap_or_default();
        detail["observed"].as_str().is_some_and(|at| at.contains(&lab.address("b").to_string()))
    };
    let known = until("the home sees b where it is", MOVED_WITHIN, at_home).await?;
    let noticed = vec![after("5 answered", back, MOVED_WITHIN), after("then at home", known, MOVED_WITHIN)];
    let of_a = settle(&home, &a, alpha).await?;
    let of_b = settle(&home, &b, beta).await?;
    Ok(vec![Row::Outage { what, noticed, accounts: vec![("a", of_a), ("b", of_b)] }])
}

pub async fn the_home_is_killed_and_started_again(lab: &Lab) -> Outcome {
    let mut pair = Pair::start(lab, often).await?;
    let counted = async || pair.home.pings_of(pair.a.peer).await.good >= 3;
    until("the home counts", PATIENCE, counted).await?;
    let before = pair.alpha.pings().await?;
    pair.home.kill().await?;
    let on = async || pair.alpha.pings().await.is_ok_and(|l| l.good >= before.good + 10) && pair.live().await;
    until("they ping on without a home", PATIENCE, on).await?;
    pair.home = Home::start(lab, "home").await?;
    let known = async || {
        let (a, b) = (pair.home.liveness(pair.a.peer).await, pair.home.liveness(pair.b.peer).await);
        [a, b].iter().all(|l| l.as_deref() == Some("live"))
    };
    let back = until("the home knows both", LIVE_WITHIN, known).await?;
    let noticed = vec![after("home: both live", back, LIVE_WITHIN)];
    pair.settle("home: kill -9, started again", noticed).await
}
