//! Memory of the `pams-agent` binary under load for a long time: what piles up with records would show. Home, agent and
//! buddies are processes of their own; the home's memory is shown beside the agent's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use pams_agent::config::Buddy;
use pams_shared::{clock::Clock, control::Control};
use serde_json::Value;
use tokio::process::Child;

use crate::{
    crowd::{self, LOOPBACK},
    daemons::{all_live, roster_toml, token_of},
    proc::{Usage, binary, myself, spawn, usage},
};

/// How many processes the buddies share.
const PROCESSES: usize = 4;
/// Fastest that an agent asks a buddy.
const INTERVAL: Duration = Duration::from_millis(100);
/// What the agent gets to come to rest, at most a tenth of the whole: every map and buffer has been filled once, and a CSV
/// file was begun anew.
const WARM_UP: Duration = Duration::from_secs(120);
const SAMPLE: Duration = Duration::from_secs(60);

/// An agent with so many buddies, asked ten times a second each, its CSV files and its home.
pub async fn measure(buddies: usize, watch: Duration, bin: Option<&Path>) -> anyhow::Result<()> {
    let programs = (binary(bin, "pams-agent")?, binary(bin, "pams-server")?);
    let dir = tempfile::tempdir()?;
    let (home, token) = home(&programs.1, dir.path()).await?;
    let mut company = Vec::new();
    let mut roster = Vec::new();
    for part in 0..PROCESSES {
        let share = buddies / PROCESSES + usize::from(part < buddies % PROCESSES);
        let at = dir.path().join(format!("company{part}")).display().to_string();
        let (child, line) = spawn(&myself()?, &["role", "company", &at, &token, &share.to_string()]).await?;
        roster.extend(serde_json::from_str::<Vec<Buddy>>(&line).context("the company says who it is")?);
        company.push(child);
    }
    let (agent, socket) = agent(&programs.0, dir.path(), &token, &roster).await?;
    let control = Control::new(&socket, "pams-agent");
    all_live(&control, buddies).await?;

    let pids = (agent.id().context("it runs")?, home.id().context("it runs")?);
    let warm_up = WARM_UP.min(watch / 10);
    println!("{:>7}  {:>10} {:>10}  {:>10}  {:>9}", "s", "agent KiB", "private", "home KiB", "records/s");
    let begin = Clock.now();
    let (mut first, mut last) = (None, (begin, opened(&control).await?));
    loop {
        let passed = Clock.now().since(begin);
        let wait = if first.is_none() { warm_up.saturating_sub(passed) } else { SAMPLE.min(watch - passed) };
        tokio::time::sleep(wait).await;
        let sample =
            Sample { at: Clock.now(), agent: usage(pids.0)?, home: usage(pids.1)?, opened: opened(&control).await? };
        let (at, rate) = (sample.at.since(begin), sample.rate(last));
        let (rss, private) = (sample.agent.rss_kib, sample.agent.private_kib);
        println!("{:>7.0}  {rss:>10} {private:>10}  {:>10}  {rate:>9.0}", at.as_secs_f64(), sample.home.rss_kib);
        last = (sample.at, sample.opened);
        let first = first.get_or_insert(sample);
        if at >= watch {
            return told(first, &sample, &dir.path().join("csv"));
        }
    }
}

#[derive(Clone, Copy)]
struct Sample {
    at: pams_shared::moment::Moment,
    agent: Usage,
    home: Usage,
    opened: u64,
}

impl Sample {
    /// Transactions a second since an earlier count.
    fn rate(&self, (at, opened): (pams_shared::moment::Moment, u64)) -> f64 {
        (self.opened - opened) as f64 / self.at.since(at).as_secs_f64()
    }
}

fn told(first: &Sample, last: &Sample, csv: &Path) -> anyhow::Result<()> {
    let grown = |of: fn(&Sample) -> u64| of(last) as f64 / 1_024.0 - of(first) as f64 / 1_024.0;
    let mut bytes = 0;
    for file in std::fs::read_dir(csv)? {
        bytes += file?.metadata()?.len();
    }
    println!(
        "pams-agent, {:.0} transactions/s for {:.0} s: RSS grew by {:.2} MiB ({:.2} MiB of it private); its home's by {:.2} \
         MiB; {:.0} MB of CSV kept",
        last.rate((first.at, first.opened)),
        last.at.since(first.at).as_secs_f64(),
        grown(|s| s.agent.rss_kib),
        grown(|s| s.agent.private_kib),
        grown(|s| s.home.rss_kib),
        bytes as f64 / 1e6,
    );
    Ok(())
}

/// The server binary, and a token of it.
async fn home(program: &Path, dir: &Path) -> anyhow::Result<(Child, String)> {
    let data = dir.join("server");
    let path = data.display().to_string();
    let args = ["--data-dir", &path, "--listen", LOOPBACK, "--http", LOOPBACK, "--ready-json", "--log", "warn"];
    let (child, line) = spawn(program, &args).await?;
    let ready: Value = serde_json::from_str(&line).with_context(|| format!("not the line of --ready-json: {line}"))?;
    let token = token_of(&data, ready["quic"].as_str().context("quic")?)?;
    Ok((child, token))
}

/// The agent binary with all that it can have, and its control socket.
async fn agent(program: &Path, dir: &Path, token: &str, roster: &[Buddy]) -> anyhow::Result<(Child, PathBuf)> {
    let (config, data, socket) = (dir.join("agent.toml"), dir.join("measured"), dir.join("measured.sock"));
    let csv = dir.join("csv");
    let interval = humantime(INTERVAL);
    let text = format!(
        "[ping]\ninterval = \"{interval}\"\nretry = \"{interval}\"\n[csv]\ndir = {csv:?}\nmax_size = \"16MiB\"\nkeep = 3\n{}",
        roster_toml(roster)
    );
    std::fs::write(&config, text)?;
    let shown = [&config, &data, &socket].map(|path| path.display().to_string());
    let args = ["--config", &shown[0], "--data-dir", &shown[1], "--socket", &shown[2], "--listen", LOOPBACK];
    let more = ["--http", LOOPBACK, "--join", token, "--ready-json", "--log", "warn"];
    let (child, _) = spawn(program, &[&args[..], &more[..]].concat()).await?;
    Ok((child, socket))
}

fn humantime(d: Duration) -> String {
    format!("{}ms", d.as_millis())
}

/// Pings opened so far.
async fn opened(control: &Control) -> anyhow::Result<u64> {
    let status: Value = control.get("/v1/status").await?;
    let ledgers = status["ledgers"].as_array().context("ledgers")?;
    Ok(ledgers.iter().filter_map(|l| l["opened"].as_u64()).sum())
}

/// Agents without buddies, as a process of their own; says who they are.
pub async fn company(dir: &Path, token: &str, agents: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut all = Vec::new();
    for i in 0..agents {
        all.push(crowd::agent(dir, &format!("b{i}"), token, Vec::new()).await?);
    }
    let buddy = |b: &pams_agent::shell::Running| Buddy {
        id: b.ready.peer,
        name: None,
        addresses: vec![b.ready.quic.into()],
        subscribe: false,
    };
    println!("{}", serde_json::to_string(&all.iter().map(buddy).collect::<Vec<_>>())?);
    std::future::pending().await
}
