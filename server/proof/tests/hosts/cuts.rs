//! The path between two peers is cut while both have their home. The agents run with the defaults, as the bounds that are
//! checked are what users are told.

use std::time::Duration;

use anyhow::ensure;
use pams_proof::{
    lab::Lab,
    pams::{Agent, Home, PATIENCE, Seat, until},
};
use pams_shared::{clock::Clock, sim::Link};
use tokio::time::sleep;

use crate::{
    Outcome,
    account::settle,
    table::{Row, after},
};

/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(30);
/// For the test's own looks and signals, on a machine that does more than this.
pub const SLACK: Duration = Duration::from_millis(700);
/// 50 ms there and back, as it is when nothing is cut.
pub const WHOLE: Link =
    Link { delay: Duration::from_millis(25), jitter: Duration::ZERO, loss: 0.0, duplicate: 0.0, reorder: 0.0 };

/// A home and two agents that watch each other and are live.
pub struct Pair {
    pub home: Home,
    pub a: Seat,
    pub b: Seat,
    pub alpha: Agent,
    pub beta: Agent,
}

impl Pair {
    pub async fn start(lab: &Lab, configured: impl Fn(Seat) -> Seat) -> anyhow::Result<Self> {
        lab.wire.set_both(lab.port("a"), lab.port("b"), WHOLE);
        let home = Home::start(lab, "home").await?;
        let (a, b) = (configured(Seat::new(lab, "a")?), configured(Seat::new(lab, "b")?));
        let (a, b) = (a.clone().watches(&[&b]), b.watches(&[&a]));
        let alpha = a.start(lab, Some(&home.token)).await?;
        let beta = b.start(lab, Some(&home.token)).await?;
        let pair = Self { home, a, b, alpha, beta };
        until("both are live", PATIENCE, async || pair.live().await).await?;
        Ok(pair)
    }

    /// Each takes the other for live.
    pub async fn live(&self) -> bool {
        self.alpha.takes_for(self.b.peer, "live").await && self.beta.takes_for(self.a.peer, "live").await
    }

    /// Both leave; each of their exchanges is in the ledger. They do so at once: of whoever stayed longer, the exchanges with
    /// the one that had left would be counted with those that the outage lost.
    pub async fn settle(self, what: &'static str, noticed: Vec<String>) -> Outcome {
        let (of_a, of_b) =
            tokio::try_join!(settle(&self.home, &self.a, self.alpha), settle(&self.home, &self.b, self.beta))?;
        Ok(vec![Row::Outage { what, noticed, accounts: vec![("a", of_a), ("b", of_b)] }])
    }
}

/// Waits until `agent` says that a buddy is gone, which must not be before it was silent for as long as is stated; gives how
/// long that took.
pub async fn gone(agent: &Agent, seat: &Seat, buddy: &Seat) -> anyhow::Result<Duration> {
    let bound = seat.gone_within() + SLACK;
    let took = until("a buddy is gone", bound, async || agent.takes_for(buddy.peer, "gone").await).await?;
    let view = agent.buddy(buddy.peer).await?;
    let heard = view["heard_s"].as_f64().unwrap_or_default();
    ensure!(heard >= seat.silence().as_secs_f64() - 0.001, "gone after a silence of {heard} s: {view}");
    Ok(took)
}

pub async fn both_ways_for_thirty_seconds(lab: &Lab) -> Outcome {
    let pair = Pair::start(lab, |seat| seat).await?;
    let cut = Clock.now();
    lab.wire.set_both(lab.port("a"), lab.port("b"), Link::PARTITION);
    let (by_a, by_b) = tokio::try_join!(gone(&pair.alpha, &pair.a, &pair.b), gone(&pair.beta, &pair.b, &pair.a))?;
    for peer in [pair.a.peer, pair.b.peer] {
        let liveness = pair.home.liveness(peer).await;
        ensure!(liveness.as_deref() == Some("live"), "the home still hears both, and says {liveness:?}");
    }
    sleep(CUT.saturating_sub(Clock.now().since(cut))).await;
    lab.wire.set_both(lab.port("a"), lab.port("b"), WHOLE);
    // A peer that is gone is asked each interval, and the asking takes a handshake if the connection is lost.
    let bound = pair.a.silence() + SLACK;
    let back = until("both are live again", bound, async || pair.live().await).await?;
    let within = pair.a.gone_within();
    let noticed = vec![after("a: gone", by_a, within), after("b: gone", by_b, within), after("both back", back, bound)];
    pair.settle("cut both ways for 30 s", noticed).await
}

pub async fn one_way_for_thirty_seconds(lab: &Lab) -> Outcome {
    let pair = Pair::start(lab, |seat| seat).await?;
    let cut = Clock.now();
    // What a sends does not arrive; what b sends does.
    lab.wire.set(lab.port("a"), lab.port("b"), Link::PARTITION);
    let deaf = gone(&pair.beta, &pair.b, &pair.a);
    let mute = async {
        let mut told = None;
        while Clock.now().since(cut) < CUT {
            let view = pair.alpha.buddy(pair.b.peer).await?;
            ensure!(view["liveness"] == "live" || view["liveness"] == "overdue", "a hears b: {view}");
            if view["liveness"] == "overdue" && told.is_none() {
                told = Some(Clock.now().since(cut));
            }
            if told.is_some() {
                ensure!(view["is_heard"] == false, "b does not hear a: {view}");
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok((told, pair.alpha.buddy(pair.b.peer).await?))
    };
    let (by_b, (overdue, last)) = tokio::try_join!(deaf, mute)?;
    ensure!(last["hears"] == true && last["is_heard"] == false, "{last}");
    let overdue = overdue.unwrap_or(Duration::MAX);
    ensure!(overdue <= pair.a.silence() + SLACK, "a did not say overdue in time: {overdue:?}");
    let deaf = pair.beta.buddy(pair.a.peer).await?;
    ensure!(deaf["hears"] == false && deaf["is_heard"] == false, "{deaf}");
    // The home shows both views, and its own beside them.
    for (of, said, hears) in [(&pair.a, "gone", false), (&pair.b, "overdue", true)] {
        let detail = pair.home.peer(of.peer).await.unwrap_or_default();
        let view = &detail["watchers"][0];
        ensure!(view["liveness"] == said && view["hears"] == hears, "the home's view of {}: {detail}", of.host);
        ensure!(detail["home"]["liveness"] == "live", "the home hears {} itself: {detail}", of.host);
    }

    lab.wire.set(lab.port("a"), lab.port("b"), WHOLE);
    let bound = pair.a.silence() + SLACK;
    let back = until("both are live again", bound, async || pair.live().await).await?;
    let noticed = vec![
        after("b, deaf: gone", by_b, pair.b.gone_within()),
        after("a, mute: overdue", overdue, pair.a.silence()),
        "a: hears, is not heard, never gone".to_owned(),
        after("both back", back, bound),
    ];
    pair.settle("a to b blocked for 30 s", noticed).await
}
