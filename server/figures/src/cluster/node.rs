//! A server in this process, with what measures it beside it.

use std::{io::Write, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use pams_server::{
    config::{Config, Http},
    shell::{Options, Running, start},
};
use pams_shared::{clock::Clock, id::ServerId, identity::Token, sim::Link};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::oneshot,
};

use super::{
    load::{Crowd, Loaded, Peers},
    tap::Seen,
};
use crate::crowd::LOOPBACK;

/// What it is for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Setting {
    /// As it comes.
    Usual,
    /// Home to this many peers whose agents never speak of themselves, so that only what is told to the loop happens.
    Fed { peers: usize },
}

/// The first line that it says.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub id: ServerId,
    pub quic: SocketAddr,
}

/// A line that it is told; each is answered by one.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// They attach here, and report once.
    Fill(Crowd),
    /// They change, so many each second; answered at once.
    Load {
        rate: usize,
        ms: u64,
    },
    /// Waits for the end of that.
    Rest,
    /// What was seen since the last time.
    Seen,
    /// When it had the first link, and when it held so many entries of others, on the machine's clock in us.
    Held {
        entries: usize,
    },
    Origins,
    Sessions,
    Traffic,
    /// Nothing more gets from here to there, or all does again.
    Cut {
        to: Vec<SocketAddr>,
        cut: bool,
    },
}

/// How it stands with what a server shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub owner: ServerId,
    pub upto: u64,
    pub entries: usize,
    pub digest: u64,
    pub caught_up: bool,
}

/// Bytes and packets, both ways.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Traffic {
    pub sent: (u64, u64),
    pub received: (u64, u64),
}

/// The process of a server.
pub async fn node(dir: &Path, setting: Setting, token: Option<&str>) -> anyhow::Result<()> {
    let seen = Seen::default();
    let token: Option<Token> = token.map(str::parse).transpose()?;
    let options = Options { join: token, tap: Some(Box::new(seen.tap())), ..Options::default() };
    let running = start(config(dir, setting)?, options).await?;
    let id = running.handle.look(|pams, now| pams.cluster(now).me).await?;
    say(&Ready { id, quic: running.ready.quic })?;
    let mut node = At { running, seen, peers: Peers::default(), load: None };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let ask = serde_json::from_str(&line).with_context(|| format!("not a question: {line}"))?;
        node.answer(ask).await?;
    }
    Ok(())
}

fn config(dir: &Path, setting: Setting) -> anyhow::Result<Config> {
    let mut config = Config {
        name: Some("figures".into()),
        data_dir: dir.to_owned(),
        listen: LOOPBACK.parse()?,
        http: Http::Off,
        ..Config::default()
    };
    if let Setting::Fed { peers } = setting {
        let long = Duration::from_secs(86_400);
        (config.pace.report, config.pace.gone_after) = (long, 2 * long);
        config.limits.peers = peers.max(config.limits.peers);
    }
    Ok(config)
}

fn say(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

struct At {
    running: Running,
    seen: Seen,
    peers: Peers,
    load: Option<oneshot::Receiver<anyhow::Result<Loaded>>>,
}

impl At {
    async fn answer(&mut self, ask: Ask) -> anyhow::Result<()> {
        match ask {
            Ask::Fill(crowd) => {
                let (feed, mut all) = (self.running.feed.clone(), std::mem::take(&mut self.peers));
                self.peers = tokio::task::spawn_blocking(move || all.fill(&feed, crowd).map(|()| all)).await??;
                say(&())
            }
            Ask::Load { rate, ms } => {
                let (feed, peers) = (self.running.feed.clone(), self.peers.clone());
                let (done, load) = oneshot::channel();
                // A thread of its own: its sleeps are good to some 60 us, those of the runtime to a millisecond.
                std::thread::spawn(move || done.send(peers.change(&feed, rate, Duration::from_millis(ms))));
                self.load = Some(load);
                say(&())
            }
            Ask::Rest => say(&self.load.take().context("there is a load")?.await??),
            Ask::Seen => say(&self.seen.lags()),
            Ask::Held { entries } => say(&self.seen.held(entries)),
            Ask::Origins => {
                let origins = self.running.handle.look(|pams, _| {
                    let origin = |o: pams_server::core::share::Origin| Origin {
                        owner: o.owner,
                        upto: o.upto,
                        entries: o.entries,
                        digest: o.digest,
                        caught_up: o.caught_up,
                    };
                    pams.origins().map(origin).collect::<Vec<_>>()
                });
                say(&origins.await?)
            }
            Ask::Sessions => say(&self.running.handle.look(|pams, now| pams.summary(now).sessions).await?),
            Ask::Traffic => {
                let t = self.running.socket.traffic();
                let (sent, received) = ((t.bytes_sent, t.packets_sent), (t.bytes_received, t.packets_received));
                say(&Traffic { sent, received })
            }
            Ask::Cut { to, cut } => {
                let link = if cut { Link::PARTITION } else { Link::default() };
                to.into_iter().try_for_each(|to| self.running.socket.emulate(to, link))?;
                say(&Clock.monotonic_us())
            }
        }
    }
}
