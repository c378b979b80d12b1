//! When a subscriber was told of a change: the bounds that the publisher's records give, held against the truth, which the
//! clock tells that both hosts have in common. Neither agent knows that it has.

use std::time::Duration;

use anyhow::{Context, ensure};
use pams_proof::{
    lab::Lab,
    pams::{Home, PATIENCE, Seat, until},
    role::{Hearing, Published},
    stages::Bounds,
};
use pams_shared::{record::Kind, sim::Link, status::Status};
use tokio::time::sleep;

use crate::{
    Outcome,
    account::settle,
    table::{Row, path},
};

const COUNT: usize = 80;
/// Longer than a change takes to be acknowledged, unless it or the acknowledgement is lost.
const PACE: Duration = Duration::from_millis(100);
/// The home is far away, so that it rarely is the first to tell.
const TO_HOME: Link = link(60, 5);

const fn link(delay_ms: u64, jitter_ms: u64) -> Link {
    let (delay, jitter) = (Duration::from_millis(delay_ms), Duration::from_millis(jitter_ms));
    Link { delay, jitter, loss: 0.02, duplicate: 0.0, reorder: 0.0 }
}

/// One change, in ms from its publishing.
struct Change {
    least: f64,
    most: f64,
    /// Not sooner than the agent's own stamp, which has whole milliseconds, and not later than somebody had it.
    truth: (f64, f64),
}

impl Change {
    fn new(published: &Published, hearing: &Hearing, bounds: Bounds) -> Self {
        let sooner = hearing.told_ms.saturating_sub(published.to_ms + 1) as f64;
        let later = hearing.heard_us.saturating_sub(published.from_us) as f64 / 1e3;
        Self { least: bounds.least_ns as f64 / 1e6, most: bounds.most_ns as f64 / 1e6, truth: (sooner, later) }
    }

    /// How far the truth is from the nearer bound.
    fn margin(&self) -> f64 {
        (self.truth.1 - self.least).min(self.most - self.truth.1)
    }

    fn holds(&self) -> bool {
        self.least <= self.truth.1 && self.truth.0 <= self.most
    }
}

pub async fn subscribers_are_told_within_the_bounds(lab: &Lab) -> Outcome {
    let home = Home::start(lab, "home").await?;
    let b = Seat::new(lab, "b")?;
    let a = Seat::new(lab, "a")?.subscribes(&[&b]);
    let mut beta = b.start(lab, Some(&home.token)).await?;
    let alpha = a.start(lab, Some(&home.token)).await?;
    until("a is to be told", PATIENCE, async || beta.subscriber(a.peer).await.is_ok_and(|s| s["state"] == "active"))
        .await?;
    for host in ["a", "b"] {
        lab.wire.set_both(lab.port(host), lab.port("home"), TO_HOME);
    }
    let mut rows = Vec::new();
    // The second one is a path of which half the round trip would be the wrong answer.
    for (there, back) in [(link(25, 5), link(25, 5)), (link(40, 5), link(10, 2))] {
        lab.wire.set(lab.port("b"), lab.port("a"), there);
        lab.wire.set(lab.port("a"), lab.port("b"), back);
        let mut published = Vec::new();
        for n in 0..COUNT {
            published.push(beta.publish(if n % 2 == 0 { Status::Busy } else { Status::Away }).await?);
            sleep(PACE).await;
        }
        let last = published.last().context("something was published")?.version;
        until("the last change is told", PATIENCE, async || {
            a.told().is_ok_and(|told| told.iter().any(|h| h.version == last))
        })
        .await?;
        let acked = async || beta.subscriber(a.peer).await.is_ok_and(|s| s["under_way"] == false);
        until("it is acknowledged", PATIENCE, acked).await?;
        let changes = changes(&published, &a, &b)?;
        let wrong = changes.iter().filter(|c| !c.holds()).count();
        let shown =
            |c: &Change| format!("{:.3} to {:.3}, told at {:.3} to {:.3}", c.least, c.most, c.truth.0, c.truth.1);
        let set = format!("{}; back {}", path(&there), path(&back));
        ensure!(
            wrong == 0,
            "{set}: {wrong} of {} are outside, as ms {:?}",
            changes.len(),
            changes.iter().filter(|c| !c.holds()).map(shown).collect::<Vec<_>>()
        );
        ensure!(changes.len() * 2 >= COUNT, "{set}: {} of {COUNT} changes have bounds", changes.len());
        let median = |of: fn(&Change) -> f64| {
            let mut values: Vec<f64> = changes.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        rows.push(Row::Told {
            set,
            changes: format!("{}/{COUNT}", changes.len()),
            ms: [median(|c| c.least), median(|c| c.truth.1), median(|c| c.most)],
            closest: changes.iter().map(Change::margin).fold(f64::INFINITY, f64::min),
        });
    }
    settle(&home, &a, alpha).await?;
    settle(&home, &b, beta).await?;
    Ok(rows)
}

/// The changes that have bounds: those that the peer itself was the first to tell, and that no newer one took the place of.
fn changes(published: &[Published], a: &Seat, b: &Seat) -> anyhow::Result<Vec<Change>> {
    let (told, notifies) = (a.told()?, b.records_of(&Kind::Notify)?);
    let mut changes = Vec::new();
    for p in published {
        let notify = notifies.iter().find(|n| (p.from_ms..=p.to_ms).contains(&n.opened_ms));
        let Some(bounds) = notify.and_then(|n| n.told) else { continue };
        let hearing = told.iter().find(|h| h.version == p.version && h.by_peer);
        let hearing = hearing.with_context(|| format!("{bounds:?} of {p:?}, which nobody heard"))?;
        changes.push(Change::new(p, hearing, bounds));
    }
    Ok(changes)
}
