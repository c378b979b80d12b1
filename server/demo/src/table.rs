//! What the demo prints.

use std::{fmt::Write, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use pams_shared::status::Liveness;
use serde::Serialize;

use crate::{
    account::Cluster,
    stage::{NamedLedger, Pair, Scene, Stage},
};

/// The object of `--json`.
#[derive(Serialize)]
pub struct Summary<'a> {
    pub agents: &'a [NamedLedger],
    pub pairs: &'a [Pair],
    pub cluster: &'a Cluster,
}

pub fn welcome(stage: &Stage) -> String {
    format!(
        "{} servers and {} agents, which ping each other every second on an emulated network. Ctrl-C ends it.\n{}\n",
        stage.servers.0.len(),
        stage.actors.len(),
        urls(stage)
    )
}

fn urls(stage: &Stage) -> String {
    let mut out = String::new();
    for (server, running) in stage.servers.alive() {
        if let Some(http) = running.ready.http {
            let _ = writeln!(out, "{:8}http://{http}/metrics  http://{http}/api/v1/cluster", server.name);
        }
    }
    if let Some((name, http)) = stage.actors.iter().find_map(|a| Some((a.name, a.http()?))) {
        let _ = writeln!(out, "agent   http://{http}/metrics ({name})");
    }
    if let Some(socket) = stage.actors.iter().find_map(|a| a.socket()) {
        let _ = writeln!(out, "ask it  curl --unix-socket {} http://agent/v1/buddies", socket.display());
    }
    out
}

/// The table that is drawn again and again.
pub fn live(stage: &Stage, scene: &Scene, since: Duration) -> String {
    let mut out = format!("PAMS demo, {:.0} s\n\n", since.as_secs_f64());
    let _ = writeln!(out, "{}", servers(scene));
    let (account, wrongly_gone) = (&scene.account, scene.wrongly_gone);
    let _ = writeln!(
        out,
        "pings ended: {}; not counted yet: {}; counted twice: {}; peers wrongly told gone: {wrongly_gone}\n",
        account.closed, account.missing, account.doubled
    );
    let _ = writeln!(out, "{}\n", who(scene));
    out += "RTT in ms over all answered pings, its parts are medians. Liveness: the home's conclusion.\n\n";
    for line in stage.news.iter().rev().take(4).rev() {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "\n{}", urls(stage));
    out
}

/// The servers, and what became of the one that was killed.
fn servers(scene: &Scene) -> String {
    let header = ["server", "state", "agents", "entries"];
    let table = plain(
        &header,
        2,
        scene
            .servers
            .iter()
            .map(|s| vec![s.name.to_owned(), s.state.to_owned(), s.agents.to_string(), s.entries.to_string()]),
    );
    format!("{table}\n\n{}", scene.crash.as_deref().unwrap_or("none was killed"))
}

/// Two tables that fit a terminal of 100 columns: who is here and how far away, and what became of every ping.
fn who(scene: &Scene) -> String {
    let header = ["who", "status", "liveness", "buddies say", "p50", "p99", "queued", "network", "hold", "wait"];
    let times = plain(
        &header,
        4,
        scene.rows.iter().map(|row| {
            let seen: Vec<String> = row.seen.iter().map(|(word, n)| format!("{n} {word}")).collect();
            let mut cells = vec![
                row.name.to_owned(),
                row.status.map_or("-", |s| s.as_str()).to_owned(),
                row.liveness.map_or("-", Liveness::as_str).to_owned(),
                seen.join(", "),
                ms(row.rtt.map(|t| t.p50)),
                ms(row.rtt.map(|t| t.p99)),
            ];
            cells.extend(row.rtt.map_or([None; 4], |t| t.parts).map(ms));
            cells
        }),
    );
    let header = ["pings of", "opened", "good", "aborted", "failed", "unknown", "in flight", "late", "duplicate"];
    let ledgers = plain(
        &header,
        1,
        scene.rows.iter().map(|row| {
            let l = &row.ledger;
            let counts = [l.opened, l.good, l.aborted, l.failed, l.unknown, l.in_flight, l.late, l.duplicate];
            std::iter::once(row.name.to_owned()).chain(counts.map(|n| n.to_string())).collect()
        }),
    );
    format!("{times}\n\n{ledgers}")
}

/// A table without lines, numbers to the right from column `numbers` on.
fn plain(header: &[&str], numbers: usize, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn ms(v: Option<f64>) -> String {
    v.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"))
}

/// What stands on the screen at the end.
pub fn summary(scene: &Scene, pairs: &[Pair], cluster: &Cluster) -> String {
    let header = ["from", "to", "set", "network", "queued", "hold", "wait", "total"];
    let table = plain(
        &header,
        2,
        pairs.iter().map(|p| {
            let mut cells = vec![p.from.to_owned(), p.to.to_owned(), format!("{:.0}", p.emulated_ms)];
            cells.extend([p.network_ms, p.queued_ms, p.remote_hold_ms, p.local_wait_ms, p.total_ms].map(ms));
            cells
        }),
    );
    let Cluster { records_lost, records_doubled, wrongly_gone, .. } = cluster;
    format!(
        "\n{}\n\nMedians in ms of each pair; `set` is the emulated round trip.\n\n{table}\n\n{}\n\
         records lost: {records_lost}, doubled: {records_doubled}; peers wrongly told gone: {wrongly_gone}\n",
        who(scene),
        servers(scene)
    )
}
