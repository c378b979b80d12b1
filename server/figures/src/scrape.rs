//! A scrape of a server's `/metrics` while it is home to many agents: how long it takes and how many series it has. The agents
//! are as much of one as a home can tell: a certificate, a connection, Hello, and reports at the pace that they are told.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use pams_shared::{
    clock::Clock,
    frame::{Frame, Hello, HelloAck, Profile, Report, Role, View},
    id::{Correlator, PeerId},
    identity::{AgentIdentity, Authority, DOMAIN_DEFAULT, Grant, Token, client_tls, home_name, system_time},
    quic,
    record::{Kind, Ledger, Outcome, Record, Stage, Stages},
    status::{Liveness, Presence, Status},
};
use quinn::{Endpoint, RecvStream, SendStream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

use crate::{
    crowd::LOOPBACK,
    proc::{binary, quantile, spawn, usage},
};

/// Agents that say Hello at once.
const AT_ONCE: usize = 16;
/// Whom each agent watches, and whom it has a record of in each full report.
const BUDDIES: usize = 10;
/// Between two scrapes; Prometheus leaves seconds.
const GAP: Duration = Duration::from_millis(50);

/// A peer as the home will see it.
struct Member {
    peer: PeerId,
    client: quinn::ClientConfig,
}

pub async fn measure(agents: usize, scrapes: usize, pace: Duration, bin: Option<&Path>) -> anyhow::Result<()> {
    let program = binary(bin, "pams-server")?;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("server");
    let members = members(&data, &dir.path().join("agents"), agents)?;
    let config = dir.path().join("server.toml");
    let (pace_ms, gone_ms) = (pace.as_millis(), 20 * pace.as_millis());
    std::fs::write(&config, format!("[pace]\nreport = \"{pace_ms}ms\"\ngone_after = \"{gone_ms}ms\"\n"))?;
    let (config, data) = (config.display().to_string(), data.display().to_string());
    let place = ["--config", &config, "--data-dir", &data, "--listen", LOOPBACK, "--http", LOOPBACK];
    let (child, line) = spawn(&program, &[&place[..], &["--ready-json", "--log", "warn"]].concat()).await?;
    let pid = child.id().context("it runs")?;
    let ready: Value = serde_json::from_str(&line).with_context(|| format!("not the line of --ready-json: {line}"))?;
    let told = |key: &str| ready[key].as_str().map(str::to_owned).with_context(|| key.to_owned());
    let (home, http) = (told("quic")?, told("http")?);

    let (full, report) = watch::channel(false);
    let peers: Vec<PeerId> = members.iter().map(|m| m.peer).collect();
    let mut talks = JoinSet::new();
    let endpoint = Endpoint::client(LOOPBACK.parse()?)?;
    let mut calls = JoinSet::new();
    for (n, member) in members.into_iter().enumerate() {
        if calls.len() == AT_ONCE {
            talks.spawn(talk(calls.join_next().await.context("one calls")???, report.clone()));
        }
        let watched = (1..=BUDDIES).map(|i| peers[(n + i) % peers.len()]).collect();
        calls.spawn(call(endpoint.clone(), home.clone(), member, watched));
    }
    while let Some(called) = calls.join_next().await {
        talks.spawn(talk(called??, report.clone()));
    }
    println!("{agents} agents at home, a report each {:.1} s", pace.as_secs_f64());
    println!("{:<28} {:>9} {:>9} {:>8} {:>9}", "one scrape", "p50, ms", "p99, ms", "series", "bytes");
    scrape("all connected", &http, agents, scrapes).await?;
    full.send(true)?;
    tokio::time::sleep(pace * 3).await;
    scrape("all report views, records", &http, agents, scrapes).await?;
    if let Some(ended) = talks.try_join_next() {
        bail!("an agent lost its home: {:?}", ended?);
    }
    let usage = usage(pid)?;
    println!("the server: RSS {:.0} MiB, {:.1} s of CPU", usage.rss_kib as f64 / 1024.0, usage.cpu_ms as f64 / 1e3);
    Ok(())
}

/// Lets so many agents join, before the server starts.
fn members(data: &Path, agents: &Path, n: usize) -> anyhow::Result<Vec<Member>> {
    let now = Clock.now().wall_ms() / 1_000;
    let mut authority = Authority::open(data, DOMAIN_DEFAULT, now)?;
    let grant = Grant { role: Role::Agent, uses: None, expires_at: now + 3_600, note: "figures".into() };
    let (id, secret) = authority.tokens().create(&grant, now)?;
    let token = Token { pin: authority.pin()?, id, secret, addresses: vec!["127.0.0.1:1".parse()?] };
    let member = |n: usize| {
        let mut identity = AgentIdentity::open(&agents.join(n.to_string()))?;
        let join = identity.join_request(&token, "figures", now * 1_000)?;
        let issued = authority.enrol(&join, now).map_err(|refused| anyhow::anyhow!(refused.detail))?;
        identity.join(&token, &issued)?;
        let (own, root) = identity.own().zip(identity.root()).context("it has joined")?;
        let tls = client_tls(own, root, system_time())?;
        let client = quic::client_config(tls.into(), quic::home_transport())?;
        Ok(Member { peer: identity.peer_id(), client })
    };
    (0..n).map(member).collect()
}

/// An agent's side of its session.
struct Session {
    _connection: quinn::Connection,
    send: SendStream,
    receive: RecvStream,
    pace: Duration,
    watched: Vec<PeerId>,
}

async fn call(endpoint: Endpoint, home: String, member: Member, watched: Vec<PeerId>) -> anyhow::Result<Session> {
    let name = home_name(DOMAIN_DEFAULT);
    let connection = quic::connect(&endpoint, member.client, home.parse()?, &name).await;
    let connection = connection.map_err(|why| anyhow::anyhow!(why.text))?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let profile = Profile { name: member.peer.to_string(), software: "figures/1".into(), ..Profile::default() };
    let wall_ms = Clock.now().wall_ms();
    let software = profile.software.clone();
    let hello = Hello { software, epoch: 1, capabilities: 0, wall_ms, attach: 1, profile: Some(profile), member: None };
    quic::write_frame(&mut send, &Frame::Hello(hello)).await?;
    match quic::read_frame(&mut receive).await? {
        Some(Frame::HelloAck(HelloAck { verdict: Ok(()), terms: Some(terms), .. })) => {
            let pace = Duration::from_millis(terms.pace_ms);
            Ok(Session { _connection: connection, send, receive, pace, watched })
        }
        other => bail!("not taken: {other:?}"),
    }
}

/// Reports for ever: nothing but a sign of life, or, once `full`, what an agent of ten buddies tells.
async fn talk(mut session: Session, full: watch::Receiver<bool>) -> anyhow::Result<()> {
    for batch in 1.. {
        let report =
            if *full.borrow() { report(batch, &session.watched) } else { Report { batch, ..Report::default() } };
        quic::write_frame(&mut session.send, &Frame::Report(report)).await?;
        match quic::read_frame(&mut session.receive).await? {
            Some(Frame::ReportAck(ack)) if ack.batch == batch => {}
            other => bail!("not acknowledged: {other:?}"),
        }
        tokio::time::sleep(session.pace).await;
    }
    Ok(())
}

fn report(batch: u64, watched: &[PeerId]) -> Report {
    let now = Clock.now();
    let mut stages = Stages::default();
    for (stage, us) in Stage::EXCHANGE.into_iter().zip([100, 20_000, 300, 80]) {
        stages.set(stage, us * 1_000);
    }
    let record = |(n, peer): (usize, &PeerId)| Record {
        kind: Kind::Ping,
        target: peer.0,
        correlator: Correlator::of_uuid(((batch as u128) << 64 | n as u128).to_be_bytes()),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: now.wall_ms(),
        total_ns: Some(20_480_000),
        stages,
        target_status: Some(Status::Online),
        path_rtt_ns: Some(20_000_000),
    };
    let view = |peer: &PeerId| View {
        peer: *peer,
        liveness: Some(Liveness::Live),
        status: Some(Status::Online),
        missed: 0,
        hears: true,
        heard: true,
        dropped: false,
    };
    let good = batch * watched.len() as u64;
    Report {
        batch,
        totals: vec![(Kind::Ping, Ledger { opened: good, good, ..Ledger::default() })],
        changes: vec![Presence { status: Status::Online, note: None, since_ms: now.wall_ms(), version: batch }],
        views: watched.iter().map(view).collect(),
        records: watched.iter().enumerate().map(record).collect(),
        shed: 0,
    }
}

async fn scrape(when: &str, http: &str, agents: usize, scrapes: usize) -> anyhow::Result<()> {
    let (mut ms, mut text) = (Vec::new(), String::new());
    for _ in 0..scrapes {
        let begin = Clock.now();
        text = get(http).await?;
        ms.push(Clock.now().since(begin).as_secs_f64() * 1e3);
        tokio::time::sleep(GAP).await;
    }
    let series = || text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let sessions = series().find_map(|l| l.strip_prefix("pams_server_sessions ")).context("it tells its sessions")?;
    if sessions.parse() != Ok(agents) {
        bail!("{sessions} sessions of {agents}");
    }
    let (p50, p99) = (quantile(&ms, 0.5), quantile(&ms, 0.99));
    println!("{when:<28} {p50:>9.2} {p99:>9.2} {:>8} {:>9}", series().count(), text.len());
    Ok(())
}

/// The body of `/metrics`, from the connection's first packet to its last.
async fn get(http: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => bail!("no answer of /metrics: {}", answer.lines().next().unwrap_or_default()),
    }
}
