//! A home that can't be reached: what an agent tells its user of it.

use std::time::Duration;

use anyhow::ensure;
use pams_proof::{
    lab::Lab,
    pams::{Agent, Home, PATIENCE, Seat, until},
};
use pams_shared::frame::HOME_RETRY_MAX;
use serde_json::Value;

use crate::{
    Outcome,
    account::settle,
    crashes::often,
    cuts::{SLACK, WHOLE},
    table::{Row, after},
};

/// Two tries that meet silence for 5 s each, the pause between them, and what TCP says.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(13);
/// A try that is under way and has lost its first packets, and the pause.
const AGAIN_WITHIN: Duration = HOME_RETRY_MAX.saturating_add(Duration::from_secs(5));
async fn of_home(agent: &Agent) -> Value {
    agent.status().await.unwrap_or_default()["home"].take()
}

/// What it says of the home holds at last; gives what it said then, too.
async fn says(
    agent: &Agent,
    what: &str,
    within: Duration,
    holds: fn(&Value) -> bool,
) -> anyhow::Result<(Duration, Value)> {
    let took = until(what, within + SLACK, async || holds(&of_home(agent).await)).await;
    let home = of_home(agent).await;
    match took {
        Ok(took) => Ok((took, home)),
        Err(error) => Err(error.context(format!("it says {home}"))),
    }
}

/// A firewall drops UDP between `a` and its home; then the home's port is closed.
pub async fn the_agent_says_why_there_is_no_home(lab: &Lab) -> Outcome {
    lab.wire.set_both(lab.port("a"), lab.port("b"), WHOLE);
    let mut home = Home::start(lab, "home").await?;
    let b = often(Seat::new(lab, "b")?);
    let alone = often(Seat::new(lab, "a")?);
    let a = alone.clone().watches(&[&b]);
    let beta = b.start(lab, Some(&home.token)).await?;
    // It joins, and asks nobody in this life, of which the home will know nothing once it was killed.
    let first = alone.start(lab, Some(&home.token)).await?;
    says(&first, "it has a home", PATIENCE, |h| h["connected"] == true).await?;
    first.stop().await?;

    let to_home = (lab.port("a"), lab.port("home"));
    lab.wire.block_udp(to_home.0, to_home.1, true);
    let alpha = a.start(lab, None).await?;
    let (explained, said) = says(&alpha, "TCP is asked", EXPLAINED_WITHIN, |h| h["trying"]["tcp"].is_string()).await?;
    let (why, trying) = (said["why"]["text"].as_str().unwrap_or_default(), &said["trying"]);
    let at = format!("{}:7420", lab.address("home"));
    ensure!(said["connected"] == false && said["why"]["reason"] == "no_answer", "{said}");
    ensure!(why.contains("firewall drops UDP") && why.contains(&at), "{said}");
    ensure!(trying["home"] == at.as_str() && trying["resolved"][0] == at.as_str() && trying["tries"] == 2, "{said}");
    let tcp = trying["tcp"].as_str().unwrap_or_default();
    ensure!(tcp.contains("the host is up") && tcp.contains("UDP 7420 is open"), "{said}");
    ensure!(alpha.takes_for(b.peer, "live").await, "peers need no home");

    home.kill().await?;
    lab.wire.block_udp(to_home.0, to_home.1, false);
    let closed = |h: &Value| h["why"]["reason"] == "refused" && h["trying"]["tcp"].is_null();
    let (refused, said) = says(&alpha, "nothing listens there", AGAIN_WITHIN, closed).await?;
    ensure!(said["why"]["text"].as_str().is_some_and(|t| t.contains("nothing listens")), "{said}");
    ensure!(said["trying"]["tries"].as_u64() >= Some(3), "one search: {said}");

    let home = Home::start(lab, "home").await?;
    let found = |h: &Value| h["connected"] == true && h["trying"].is_null();
    let (back, _) = says(&alpha, "it has a home again", AGAIN_WITHIN, found).await?;
    let noticed = vec![
        after("UDP dropped: TCP's word", explained, EXPLAINED_WITHIN),
        after("port closed: refused", refused, AGAIN_WITHIN),
        after("home again", back, AGAIN_WITHIN),
    ];
    let of_a = settle(&home, &a, alpha).await?;
    let of_b = settle(&home, &b, beta).await?;
    Ok(vec![Row::Outage { what: "a: no way to its home", noticed, accounts: vec![("a", of_a), ("b", of_b)] }])
}
