//! Other processes: this program in another role, and what the kernel says of a process.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Starts a program and waits for the first line that it prints; it is killed when dropped.
pub async fn spawn(program: &Path, args: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} can not be started", program.display()))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let Some(line) = lines.next_line().await? else { bail!("{} said nothing", program.display()) };
    Ok((child, line))
}

/// This very program.
pub fn myself() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// A binary of the workspace: in `dir`, else in the build that this program is of.
pub fn binary(dir: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let exe = myself()?;
    let build = exe.parent().context("a program lies in its build")?;
    let path = dir.unwrap_or(build).join(name);
    if !path.exists() {
        bail!("{} is not there: build it first, with `cargo build --release`", path.display());
    }
    Ok(path)
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub rss_kib: u64,
    /// Of it, not backed by a file: what the process really adds.
    pub private_kib: u64,
    pub cpu_ms: u64,
}

pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    // Clock ticks are hundredths of a second on every Linux that Rust knows.
    Ok(Usage {
        rss_kib: kib("VmRSS:").context("no VmRSS")?,
        private_kib: kib("RssAnon:").context("no RssAnon")?,
        cpu_ms: (ticks(11) + ticks(12)) * 10,
    })
}

/// The middle of what was measured.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Sorted quantile.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}
