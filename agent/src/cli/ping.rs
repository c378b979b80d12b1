//! `ping`: one every interval, none waiting for the one before; a line for each, and statistics at the end. What is in
//! flight then is neither answered nor lost.

use std::{collections::BTreeMap, io::Write, time::Duration};

use pams_shared::{
    control::{Control, ControlError, target},
    id::PeerId,
    terminal,
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{Form, ask::Fault, read::Record, show};

/// Pings under way at once; the next one waits, so that the agent's socket is not filled by one client.
const UNDER_WAY_MAX: usize = 32;
/// Times kept for the percentiles, the newest.
const TIMES_MAX: usize = 100_000;

pub struct Pings {
    pub peer: PeerId,
    /// As the user called it.
    pub name: String,
    pub count: Option<u64>,
    pub interval: Duration,
}

/// What became of the pings.
#[derive(Debug, Default)]
pub struct Statistics {
    sent: u64,
    answered: u64,
    unanswered: BTreeMap<String, u64>,
    total: Times,
    network: Times,
}

/// Times in ns, the newest of them.
#[derive(Debug, Default)]
struct Times {
    ns: Vec<u64>,
    seen: usize,
}

impl Pings {
    /// Until `count` pings have ended, or `interrupted`. Gives the exit code: 0 if any was answered.
    pub async fn run(
        self,
        control: &Control,
        form: Form,
        interrupted: impl Future<Output = ()>,
        out: &mut dyn Write,
    ) -> Result<u8, Fault> {
        let mut statistics = Statistics::default();
        let mut under_way = JoinSet::new();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let path = target(&["v1", "ping", &self.peer.to_string()], &[]);
        tokio::pin!(interrupted);
        if form == Form::Table {
            writeln!(out, "PING {} ({})", terminal::clean(&self.name), self.peer)?;
        }
        loop {
            let more = self.count.is_none_or(|count| statistics.sent < count);
            if !more && under_way.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = &mut interrupted => break,
                Some(ended) = under_way.join_next() => {
                    // Nobody aborts these tasks, and they do not panic.
                    let Ok((seq, result)) = ended else { continue };
                    let line = self.line(&mut statistics, form, seq, result)?;
                    out.write_all(line.as_bytes())?;
                    out.flush()?;
                }
                _ = ticks.tick(), if more && under_way.len() < UNDER_WAY_MAX => {
                    statistics.sent += 1;
                    let (control, path, seq) = (control.clone(), path.clone(), statistics.sent);
                    under_way.spawn(async move { (seq, control.post::<Value>(&path, &json!({})).await) });
                }
            }
        }
        match form {
            Form::Json => writeln!(out, "{}", json!({ "statistics": statistics.json() }))?,
            Form::Table => out.write_all(statistics.text(&self.name).as_bytes())?,
        }
        out.flush()?;
        Ok(u8::from(statistics.answered == 0))
    }

    /// What is said of one ping that ended; an error ends them all.
    fn line(
        &self,
        statistics: &mut Statistics,
        form: Form,
        seq: u64,
        result: Result<Value, ControlError>,
    ) -> Result<String, Fault> {
        match result {
            Ok(answer) => {
                let json = (form == Form::Json).then(|| format!("{}\n", json!({ "seq": seq, "record": answer })));
                let record: Record = serde_json::from_value(answer)?;
                statistics.answered(&record);
                Ok(json.unwrap_or_else(|| show::pong(&self.name, seq, &record)))
            }
            Err(ControlError::Refused { status, problem }) => {
                let Some(reason) = problem.reason.clone() else {
                    return Err(ControlError::Refused { status, problem }.into());
                };
                let line = match form {
                    Form::Json => format!("{}\n", json!({ "seq": seq, "reason": reason, "error": problem.error })),
                    Form::Table => show::no_pong(&self.name, seq, &reason, &problem.error),
                };
                *statistics.unanswered.entry(reason).or_default() += 1;
                Ok(line)
            }
            Err(other) => Err(other.into()),
        }
    }
}

impl Statistics {
    fn answered(&mut self, record: &Record) {
        self.answered += 1;
        record.total_ns.into_iter().for_each(|ns| self.total.add(ns));
        record.stages_ns.network.into_iter().for_each(|ns| self.network.add(ns));
    }

    fn lost(&self) -> u64 {
        self.unanswered.values().sum()
    }

    fn in_flight(&self) -> u64 {
        self.sent - self.answered - self.lost()
    }

    /// Lost of those that ended; `None` if none has.
    fn loss(&self) -> Option<f64> {
        let ended = self.answered + self.lost();
        (ended > 0).then(|| self.lost() as f64 / ended as f64)
    }

    fn text(&self, name: &str) -> String {
        let mut text = format!("\n--- {} ping statistics ---\n", terminal::clean(name));
        text += &format!("{} sent, {} answered", self.sent, self.answered);
        if let Some(loss) = self.loss() {
            text += &format!(", {:.1} % lost", loss * 100.0);
        }
        if self.in_flight() > 0 {
            text += &format!(", {} in flight", self.in_flight());
        }
        text.push('\n');
        for (reason, n) in &self.unanswered {
            text += &format!("lost: {n} for {}\n", terminal::words(reason));
        }
        for (what, times) in [("total  ", &self.total), ("network", &self.network)] {
            if let Some([min, p50, p99, max]) = times.summary().map(|s| s.map(terminal::ms)) {
                text += &format!("{what} min/p50/p99/max = {min}/{p50}/{p99}/{max} ms\n");
            }
        }
        text
    }

    fn json(&self) -> Value {
        let times = |times: &Times| {
            times
                .summary()
                .map(|s| s.map(|ns| ns as f64 / 1e6))
                .map(|[min, p50, p99, max]| json!({ "min": min, "p50": p50, "p99": p99, "max": max }))
        };
        json!({
            "sent": self.sent,
            "answered": self.answered,
            "in_flight": self.in_flight(),
            "unanswered": self.unanswered,
            "loss_ratio": self.loss(),
            "total_ms": times(&self.total),
            "network_ms": times(&self.network),
        })
    }
}

impl Times {
    fn add(&mut self, ns: u64) {
        if self.ns.len() < TIMES_MAX {
            self.ns.push(ns);
        } else {
            self.ns[self.seen % TIMES_MAX] = ns;
        }
        self.seen += 1;
    }

    /// Least, median, 99th percentile (nearest rank) and greatest.
    fn summary(&self) -> Option<[u64; 4]> {
        let mut sorted = self.ns.clone();
        sorted.sort_unstable();
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        (!sorted.is_empty()).then(|| [sorted[0], rank(50), rank(99), sorted[sorted.len() - 1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank_and_of_the_newest_times() {
        let mut times = Times::default();
        assert_eq!(times.summary(), None);
        times.add(7);
        assert_eq!(times.summary(), Some([7; 4]));
        (1..=200).for_each(|n| times.add(n));
        assert_eq!(times.summary(), Some([1, 100, 198, 200]));
        (0..TIMES_MAX).for_each(|_| times.add(5));
        assert_eq!((times.summary(), times.ns.len()), (Some([5; 4]), TIMES_MAX));
    }

    #[test]
    fn what_is_in_flight_is_not_lost() {
        let mut s = Statistics { sent: 4, answered: 1, ..Statistics::default() };
        assert_eq!((s.in_flight(), s.loss()), (3, Some(0.0)));
        s.unanswered.insert("no_answer".into(), 1);
        assert_eq!((s.in_flight(), s.loss()), (2, Some(0.5)));
        assert_eq!(Statistics { sent: 1, ..Statistics::default() }.loss(), None);
    }
}
