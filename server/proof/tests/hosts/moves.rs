//! Somebody starts again, or is somewhere else.

use std::time::Duration;

use anyhow::ensure;
use pams_proof::{
    lab::Lab,
    pams::{Home, PATIENCE, Seat, until},
};

use crate::{
    Outcome,
    account::settle,
    crashes::often,
    cuts::{Pair, SLACK, WHOLE},
    table::{Row, after},
};

const LEFT_WITHIN: Duration = Duration::from_secs(2);
const LIVE_WITHIN: Duration = Duration::from_secs(6);
/// The connection goes on from another address (RFC 9000, 9), so a peer that moves is not gone for long.
const MOVED_WITHIN: Duration = Duration::from_secs(4);

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
    lab.wire.set_both(lab.port("a"), lab.port("b"), WHOLE);
    let home = Home::start(lab, "home").await?;
    let a = often(Seat::new(lab, "a")?);
    let b = often(Seat::new(lab, "b")?).asks_home_for(&[&a]);
    let alpha = a.start(lab, Some(&home.token)).await?;
    let beta = b.start(lab, Some(&home.token)).await?;
    until("a is live", PATIENCE, async || beta.takes_for(a.peer, "live").await).await?;

    let before = beta.pings().await?.good;
    lab.readdress("b")?;
    let back = until("a answers b again", MOVED_WITHIN, async || {
        beta.takes_for(a.peer, "live").await && beta.pings().await.is_ok_and(|l| l.good >= before + 5)
    })
    .await?;
    let of_a = settle(&home, &a, alpha).await?;
    let of_b = settle(&home, &b, beta).await?;
    let noticed = vec![after("5 more answered", back, MOVED_WITHIN)];
    Ok(vec![Row::Outage { what: "b: another address", noticed, accounts: vec![("a", of_a), ("b", of_b)] }])
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
