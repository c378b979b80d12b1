//! The other witness: `ping` of iputils, on the same path. Both stamp what they send in the program, just before the kernel
//! gets it, and what they receive in the kernel, so that what differs is what the other side does.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, bail};

use crate::lab::Lab;

/// What `ping` measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Echoes {
    /// Round-trip times in ms, as printed: rounded to `step`.
    pub rtts_ms: Vec<f64>,
    step_ms: f64,
    pub sent: u32,
}

/// `count` echo requests from a host, one each `interval`.
pub async fn ping(lab: &Lab, from: &str, to: Ipv4Addr, count: usize, interval: Duration) -> anyhow::Result<Echoes> {
    let mut command = lab.command(from, Path::new("ping"));
    command.env("LC_ALL", "C").args(["-n", "-c", &count.to_string(), "-i", &interval.as_secs_f64().to_string()]);
    let output = command.args(["-W", "2"]).arg(to.to_string()).output().await.context("ping cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match parse(&text) {
        Some(echoes) if !echoes.rtts_ms.is_empty() => Ok(echoes),
        _ => bail!("ping of {to}: {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Reads the lines `64 bytes from 10.77.2.1: icmp_seq=1 ttl=64 time=50.3 ms`, each echo once, and the summary. `None`: no
/// summary, so it did not come to its end.
fn parse(text: &str) -> Option<Echoes> {
    let mut echoes = Echoes { step_ms: 0.001, ..Echoes::default() };
    for line in text.lines() {
        if let Some(sent) = line.split_once(" packets transmitted").and_then(|(n, _)| n.parse().ok()) {
            echoes.sent = sent;
        }
        let Some((_, time)) = line.split_once(" time=").filter(|_| !line.ends_with("(DUP!)")) else { continue };
        let time = time.split_whitespace().next().unwrap_or_default();
        let Ok(rtt) = time.parse() else { continue };
        let decimals = time.split_once('.').map_or(0, |(_, d)| d.len());
        echoes.step_ms = echoes.step_ms.max(0.1_f64.powi(decimals as i32));
        echoes.rtts_ms.push(rtt);
    }
    (echoes.sent > 0).then_some(echoes)
}

impl Echoes {
    /// The median in ms. `ping` rounds to three digits, so it is that of grouped data: what was rounded to the middle value is
    /// taken to lie evenly around it.
    pub fn median_ms(&self) -> f64 {
        let (half, n) = (self.step_ms / 2.0, self.rtts_ms.len() as f64);
        let mut sorted = self.rtts_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(&middle) = sorted.get(sorted.len() / 2) else { return f64::NAN };
        let below = sorted.iter().filter(|v| **v < middle - half).count() as f64;
        let within = sorted.iter().filter(|v| (**v - middle).abs() <= half).count() as f64;
        middle - half + self.step_ms * (n / 2.0 - below) / within
    }

    /// Echoes that did not come back.
    pub fn lost(&self) -> usize {
        (self.sent as usize).saturating_sub(self.rtts_ms.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
PING 10.77.2.1 (10.77.2.1) 56(84) bytes of data.
64 bytes from 10.77.2.1: icmp_seq=1 ttl=64 time=50.3 ms
64 bytes from 10.77.2.1: icmp_seq=2 ttl=64 time=50.4 ms
64 bytes from 10.77.2.1: icmp_seq=2 ttl=64 time=51.9 ms (DUP!)
64 bytes from 10.77.2.1: icmp_seq=4 ttl=64 time=50.3 ms

--- 10.77.2.1 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, 25% packet loss, time 151ms
rtt min/avg/max/mdev = 50.270/50.333/50.400/0.050 ms
";

    #[test]
    fn each_echo_is_read_once() {
        let echoes = parse(TEXT).unwrap();
        assert_eq!((echoes.rtts_ms.as_slice(), echoes.sent, echoes.lost()), ([50.3, 50.4, 50.3].as_slice(), 4, 1));
        assert_eq!(parse("ping: connect: Network is unreachable\n"), None);
    }

    #[test]
    fn the_median_undoes_the_rounding() {
        let exact: Vec<f64> = (0..1_000).map(|i| 50.0 + f64::from(i) * 0.0005).collect(); // 50.0 to 50.5, median 50.25
        let rounded = exact.iter().map(|v| (v * 10.0).round() / 10.0).collect();
        let echoes = Echoes { rtts_ms: rounded, step_ms: 0.1, sent: 1_000 };
        assert!((echoes.median_ms() - 50.25).abs() < 0.001, "{}", echoes.median_ms());
        assert!(Echoes::default().median_ms().is_nan());
    }
}
