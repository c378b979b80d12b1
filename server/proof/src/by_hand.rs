//! A lab for the hands: hosts that stand until stdin is closed, and a line for each change of a path.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use pams_shared::sim::Link;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::lab::Lab;

/// What the lines can say.
pub const HELP: &str = "\
Lines on stdin, until it is closed:
  a=b delay=25ms jitter=5ms loss=0.02 reorder=0.01 duplicate=0.01   how both directions between two hosts are
  a>b cut                                                           nothing gets from a to b
  a>b perfect                                                       everything does, at once
  a address                                                         the host a gets another address";

/// Joins the hosts a, b, ... and does what the lines say.
pub async fn run(program: &Path, hosts: usize) -> anyhow::Result<()> {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let names = NAMES.get(..hosts).with_context(|| format!("{} hosts at most", NAMES.len()))?;
    let lab = Lab::new(program, names)?;
    for host in names {
        println!("{host}: {}, ip netns exec {} sh", lab.address(host), lab.namespace(host));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(error) = obey(&lab, names, &line) {
            eprintln!("{error}");
        }
    }
    println!("packets {:?}", lab.wire.lateness());
    Ok(())
}

fn obey(lab: &Lab, names: &[&str], line: &str) -> anyhow::Result<()> {
    match parse(line, names)? {
        Some(Order::Path { from, to, both, link }) => {
            let (from, to) = (lab.port(from), lab.port(to));
            lab.wire.set(from, to, link);
            if both {
                lab.wire.set(to, from, link);
            }
        }
        Some(Order::Address(host)) => {
            lab.readdress(host)?;
            println!("{host}: {}", lab.address(host));
        }
        None => {}
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Order<'a> {
    Path { from: &'a str, to: &'a str, both: bool, link: Link },
    Address(&'a str),
}

fn parse<'a>(line: &'a str, names: &[&str]) -> anyhow::Result<Option<Order<'a>>> {
    let mut words = line.split_whitespace();
    let Some(path) = words.next() else { return Ok(None) };
    let known = |name: &'a str| if names.contains(&name) { Ok(name) } else { Err(unknown(name)) };
    let (from, to, both) = match (path.split_once('='), path.split_once('>')) {
        (Some((one, other)), _) => (known(one)?, known(other)?, true),
        (_, Some((from, to))) => (known(from)?, known(to)?, false),
        _ if words.next() == Some("address") => return Ok(Some(Order::Address(known(path)?))),
        _ => bail!("{path:?} is no path\n{HELP}"),
    };
    let mut link = Link::default();
    for word in words {
        match word.split_once('=') {
            None if word == "cut" => link = Link::PARTITION,
            None if word == "perfect" => link = Link::default(),
            Some(("delay", time)) => link.delay = time_of(time)?,
            Some(("jitter", time)) => link.jitter = time_of(time)?,
            Some(("loss", p)) => link.loss = probability(p)?,
            Some(("reorder", p)) => link.reorder = probability(p)?,
            Some(("duplicate", p)) => link.duplicate = probability(p)?,
            _ => bail!("{word:?} says nothing of a path\n{HELP}"),
        }
    }
    Ok(Some(Order::Path { from, to, both, link }))
}

fn unknown(name: &str) -> anyhow::Error {
    anyhow::anyhow!("there is no host {name:?}\n{HELP}")
}

fn time_of(text: &str) -> anyhow::Result<Duration> {
    humantime::parse_duration(text).with_context(|| format!("{text:?} is no time; give one as 25ms"))
}

fn probability(text: &str) -> anyhow::Result<f64> {
    let p = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    p.with_context(|| format!("{text:?} is no probability; give one from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let read = |line| parse(line, &["a", "b"]);
        let link = Link { delay: Duration::from_millis(25), loss: 0.5, ..Link::default() };
        let path = Order::Path { from: "a", to: "b", both: true, link };
        assert_eq!(read("a=b delay=25ms loss=0.5").unwrap(), Some(path));
        let cut = Order::Path { from: "b", to: "a", both: false, link: Link::PARTITION };
        assert_eq!(read("b>a cut").unwrap(), Some(cut));
        assert_eq!(read("a address").unwrap(), Some(Order::Address("a")));
        assert_eq!(read("  ").unwrap(), None);
        for wrong in ["a", "a=c", "a=b loss=2", "a=b delay=long", "a>b slower"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
