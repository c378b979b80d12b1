//! What PAMS says of a path, beside what ICMP says of it.

use std::time::Duration;

use anyhow::bail;
use pams_shared::record::{Outcome, Stage};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use crate::{
    icmp::{self, Echoes},
    lab::Lab,
    pams::{Agent, ask},
};

/// A finished transaction, as an agent writes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Exchange {
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
    pub opened_ms: u64,
    pub total_ns: Option<u64>,
    /// Of a notify: when its subscriber was told.
    pub told: Option<Bounds>,
    #[serde(default)]
    stages_ns: Map<String, Value>,
}

/// From the opening of a notify.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Bounds {
    pub least_ns: u64,
    pub most_ns: u64,
}

impl Exchange {
    pub fn is_good(&self) -> bool {
        self.status == Outcome::Good.as_str()
    }

    /// A stage in ms; `None`: not measured.
    pub fn stage_ms(&self, stage: Stage) -> Option<f64> {
        self.stages_ns.get(stage.as_str())?.as_f64().map(|ns| ns / 1e6)
    }
}

/// The median of a stage in ms, and over how many of the exchanges it was measured.
pub fn median_ms<'a>(exchanges: impl IntoIterator<Item = &'a Exchange>, stage: Stage) -> (f64, usize) {
    let mut values: Vec<f64> = exchanges.into_iter().filter_map(|e| e.stage_ms(stage)).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        Some(upper) if values.len().is_multiple_of(2) => (f64::midpoint(values[middle - 1], *upper), values.len()),
        Some(value) => (*value, values.len()),
        None => (f64::NAN, 0),
    }
}

/// Both witnesses on one path at one time.
#[derive(Clone, Debug)]
pub struct Beside {
    pub echoes: Echoes,
    pub exchanges: Vec<Exchange>,
    pub asked: usize,
}

impl Beside {
    /// `count` of both, one each `interval`, from the host `from`, where `agent` is, to the host `to`, where `buddy` is.
    pub async fn measure(
        lab: &Lab,
        (from, agent): (&str, &Agent),
        (to, buddy): (&str, pams_shared::id::PeerId),
        count: usize,
        interval: Duration,
    ) -> anyhow::Result<Self> {
        let pings = async {
            let (mut pings, mut exchanges) = (JoinSet::new(), Vec::new());
            let mut pace = tokio::time::interval(interval);
            for _ in 0..count {
                pace.tick().await;
                pings.spawn(ask(agent.control.clone(), buddy));
            }
            while let Some(ended) = pings.join_next().await {
                exchanges.extend(ended.ok().flatten());
            }
            exchanges
        };
        let (echoes, exchanges) = tokio::join!(icmp::ping(lab, from, lab.address(to), count, interval), pings);
        let measured = Self { echoes: echoes?, exchanges, asked: count };
        let (_, networks) = measured.network();
        if networks * 2 < measured.exchanges.len() || networks == 0 {
            bail!("the network was measured in {networks} of {} exchanges only", measured.exchanges.len());
        }
        Ok(measured)
    }

    /// The median network stage in ms, and in how many exchanges it was measured.
    pub fn network(&self) -> (f64, usize) {
        median_ms(&self.exchanges, Stage::Network)
    }

    /// How much longer the network stage is than ICMP, in ms.
    pub fn difference_ms(&self) -> f64 {
        self.network().0 - self.echoes.median_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_and_its_median_is_over_what_was_measured() {
        let record = pams_shared::record::Stages::default().with(Stage::Network, Duration::from_millis(50));
        let of = |stages: Value| {
            let value = serde_json::json!({ "kind": "presence.ping", "status": "good", "opened_ms": 1, "total_ns": 2, "stages_ns": stages });
            serde_json::from_value::<Exchange>(value).unwrap()
        };
        let all = [
            of(serde_json::to_value(record).unwrap()),
            of(serde_json::json!({})),
            of(serde_json::json!({ "network": 52e6 })),
        ];
        assert_eq!(median_ms(&all, Stage::Network), (51.0, 2));
        assert_eq!(median_ms(&all, Stage::Queued).1, 0);
        assert!(all[0].is_good());
    }
}
