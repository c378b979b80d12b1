//! What the scenarios found, as tables for people.

use std::time::Duration;

use comfy_table::Table;
use pams_shared::sim::Link;

use crate::account::Account;

pub enum Row {
    /// Both witnesses on one path, in ms.
    Path { set: String, icmp: f64, echoes: String, network: f64, pings: String },
    /// Medians in ms of queued, network, remote_hold, local_wait.
    Stages { what: &'static str, ms: [f64; 4] },
    /// Medians in ms of the least, the truth and the most of when a subscriber was told; how far the truth was from a bound.
    Told { set: String, changes: String, ms: [f64; 3], closest: f64 },
    /// What was noticed of an outage, and what became of the exchanges of who was watched or watched.
    Outage { what: &'static str, noticed: Vec<String>, accounts: Vec<(&'static str, Account)> },
}

/// `gone after 3.21 s (4.15)`: what was seen and its bound.
pub fn after(what: &str, seen: Duration, bound: Duration) -> String {
    format!("{what} after {:.2} s (bound {:.2})", seen.as_secs_f64(), bound.as_secs_f64())
}

/// How a path is, each way.
pub fn path(link: &Link) -> String {
    let (delay, jitter) = (link.delay.as_millis(), link.jitter.as_millis());
    let part = |what, chance: f64| if chance > 0.0 { format!(", {what} {} %", chance * 100.0) } else { String::new() };
    let parts = [part("lost", link.loss), part("reordered", link.reorder), part("doubled", link.duplicate)];
    format!("{delay} ± {jitter} ms{}", parts.concat())
}

pub fn print(rows: Vec<Row>) {
    let mut paths = Table::new();
    paths.set_header(["path, each way", "ICMP ms", "lost", "network stage ms", "lost", "difference ms", "%"]);
    let mut stages = Table::new();
    stages.set_header(["what was slow", "queued ms", "network ms", "remote_hold ms", "local_wait ms"]);
    let mut told = Table::new();
    told.set_header([
        "path of a change",
        "with bounds",
        "told after least ms",
        "in truth ms",
        "before most ms",
        "closest to a bound ms",
    ]);
    let mut outages = Table::new();
    outages.set_header(["outage", "noticed", "of", "opened", "answered", "not", "unknown", "in no ledger"]);
    for row in rows {
        match row {
            Row::Path { set, icmp, echoes, network, pings } => {
                let by = network - icmp;
                let cells =
                    [ms(icmp), echoes, ms(network), pings, format!("{by:+.3}"), format!("{:+.2}", by / icmp * 100.0)];
                paths.add_row(std::iter::once(set).chain(cells));
            }
            Row::Stages { what, ms: values } => {
                stages.add_row(std::iter::once(what.to_owned()).chain(values.map(ms)));
            }
            Row::Told { set, changes, ms: values, closest } => {
                let cells = values.into_iter().chain([closest]).map(ms);
                told.add_row([set, changes].into_iter().chain(cells));
            }
            Row::Outage { what, noticed, accounts } => {
                let of = |cell: fn(&Account) -> u64| {
                    accounts.iter().map(|(_, a)| cell(a).to_string()).collect::<Vec<_>>().join("\n")
                };
                let names = accounts.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n");
                outages.add_row([
                    what.to_owned(),
                    noticed.join("\n"),
                    names,
                    of(|a| a.home.opened),
                    of(|a| a.home.good),
                    of(|a| a.home.aborted + a.home.failed),
                    of(|a| a.home.unknown),
                    of(Account::in_no_ledger),
                ]);
            }
        }
    }
    for table in [paths, stages, told, outages] {
        if !table.is_empty() {
            println!("{table}\n");
        }
    }
}

fn ms(value: f64) -> String {
    format!("{value:.3}")
}
