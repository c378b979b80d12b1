//! What runs on a host: the server as `pams-server` runs it, and an agent as `pams-agent` does, on one thread, with what an
//! experiment needs beside that: each finished transaction goes to a file at once, and all that subscriptions tell, with the
//! kernel's time; pongs can be held back; and the thread can be kept busy between the opening of a ping and its leaving, as an
//! application that blocks its own runtime would.
#![allow(clippy::disallowed_methods)] // To block the thread is what it is for.

use std::{
    fs::File,
    future::{Future, poll_fn},
    io::Write,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use anyhow::Context;
use pams_agent::{
    core::Teller,
    shell::{
        events::{Events, Heard},
        handle::Handle,
    },
};
use pams_shared::{
    clock::Clock,
    id::PeerId,
    logs,
    program::{Shutdown, print, run},
    record::{Record, Told},
    status::Status,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    runtime::Builder,
    sync::mpsc,
    task::JoinSet,
};

/// Finished transactions that may wait for the file.
const RECORDS_MAX: usize = 65_536;

/// An agent that can be experimented with.
#[derive(Serialize, Deserialize)]
pub struct AgentRole {
    pub config: pams_agent::config::Config,
    pub join: Option<String>,
    pub answer_after: Duration,
    /// Gets each finished transaction as a line of JSON, as soon as it is finished.
    pub records: PathBuf,
    /// Gets each presence that subscriptions tell, as a line that is a [`Hearing`].
    pub told: PathBuf,
}

/// A server.
#[derive(Serialize, Deserialize)]
pub struct ServerRole {
    pub config: pams_server::config::Config,
    /// Token of the server whose cluster it joins, at its first start.
    pub join: Option<String>,
}

/// What is asked of a running agent by a line on stdin; the answer is a line on stdout.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// One ping whose way to the socket is blocked for a while; answered by its record.
    Stall { peer: PeerId, stall: Duration },
    /// Answered by a [`Published`].
    Publish { status: Status },
}

/// A presence was published at some moment between two others, each by the kernel's monotonic clock, which all processes of a
/// machine have in common, and by the wall clock, which labels records.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Published {
    pub version: u64,
    pub from_us: u64,
    pub to_us: u64,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// A presence that a subscription told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hearing {
    pub version: u64,
    /// The peer itself told it, rather than its home.
    pub by_peer: bool,
    /// When the agent told it, by its own word.
    pub told_ms: u64,
    /// When whoever listens had it, by the kernel's monotonic clock: no sooner than it was told.
    pub heard_us: u64,
}

/// A finished transaction in the file.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a Record,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
}

/// Runs the server that the file describes until SIGTERM, or until whoever started it is gone.
pub fn server(file: &Path) -> anyhow::Result<u8> {
    let ServerRole { config, join } = read(file)?;
    logs::init(&config.log, config.log_format)?;
    let join = join.map(|token| token.parse()).transpose().context("the token is none")?;
    let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    run(runtime, |shutdown| async {
        let options = pams_server::shell::Options {
            join,
            ready: Some(Box::new(|ready| {
                let token = ready.first_token.as_ref().map(ToString::to_string);
                let _ = print(&format!("{}\n", serde_json::json!({ "quic": ready.quic, "token": token })));
            })),
            ..Default::default()
        };
        tokio::select! {
            ended = pams_server::shell::run(config, options, shutdown) => Ok(ended?),
            () = orphaned() => std::process::exit(0),
        }
    })
}

async fn orphaned() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = lines.next_line().await {}
}

/// Runs the agent that the file describes until SIGTERM, or until whoever started it is gone.
pub fn agent(file: &Path) -> anyhow::Result<u8> {
    let role: AgentRole = read(file)?;
    logs::init(&role.config.log, role.config.log_format)?;
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    run(runtime, |shutdown| serve(role, shutdown))
}

async fn serve(role: AgentRole, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let (tap, mut records) = mpsc::channel(RECORDS_MAX);
    let open = |path: &Path| File::options().append(true).create(true).open(path);
    let (mut file, mut told) = (open(&role.records)?, open(&role.told)?);
    let options = pams_agent::shell::Options {
        join: role.join,
        tap: Some(tap),
        answer_after: role.answer_after,
        ..Default::default()
    };
    let running = pams_agent::shell::start(role.config, options).await?;
    print(&format!("{}\n", serde_json::json!({ "peer": running.ready.peer, "quic": running.ready.quic })))?;
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    let mut events = running.handle.listen(None).await?.context("nobody listens yet")?;
    let mut stalls = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(hearing) = hear(&mut events) => write(&mut told, &hearing)?,
            Some(record) = records.recv() => write(&mut file, &line_of(&record))?,
            line = asked.next_line() => match line?.map(|line| serde_json::from_str(&line)).transpose()? {
                Some(Order::Stall { peer, stall }) => {
                    stalls.spawn(stalled(running.handle.clone(), peer, stall));
                }
                Some(Order::Publish { status }) => {
                    print(&format!("{}\n", serde_json::to_string(&publish(&running.handle, status).await?)?))?;
                }
                None => std::process::exit(0),
            },
            Some(answer) = stalls.join_next() => print(&format!("{}\n", serde_json::to_string(&answer?)?))?,
        }
    }
    running.stop().await;
    while let Some(record) = records.recv().await {
        write(&mut file, &line_of(&record))?;
    }
    Ok(())
}

async fn publish(handle: &Handle, status: Status) -> anyhow::Result<Published> {
    let (from_us, from_ms) = (Clock.monotonic_us(), Clock.now().wall_ms());
    let version = handle.publish(status, None).await?.version;
    Ok(Published { version, from_us, to_us: Clock.monotonic_us(), from_ms, to_ms: Clock.now().wall_ms() })
}

/// The next presence that is told; `None`: something else was, or the agent has ended.
async fn hear(events: &mut Events) -> Option<Hearing> {
    let Heard::Told(told) = events.next().await? else { return None };
    let (heard_us, version) = (Clock.monotonic_us(), told.presence?.version);
    Some(Hearing { version, by_peer: told.by == Teller::Peer, told_ms: told.at_ms, heard_us })
}

fn line_of(record: &Record) -> Line<'_> {
    Line { record, told: record.told() }
}

/// Unbuffered, so that it is there even if the process is killed next.
fn write(file: &mut File, what: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(file.write_all(&line)?)
}

/// A ping that the agent's loop opens and gives to QUIC, and that then has to wait for the thread.
async fn stalled(handle: Handle, peer: PeerId, stall: Duration) -> Option<Record> {
    let mut ping = pin!(handle.ping(peer));
    // The request goes to the loop, whose turn is next; ours comes after that, and QUIC's after ours: the runtime has one
    // thread, and takes turns in the order in which tasks were woken.
    if let Poll::Ready(ended) = once(ping.as_mut()).await {
        return ended.ok()?.ok();
    }
    next_turn().await;
    std::thread::sleep(stall);
    ping.await.ok()?.ok()
}

/// Goes to the end of the queue of turns. tokio's own `yield_now` would let everybody else run dry first.
async fn next_turn() {
    let mut queued = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut queued, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One look, without waiting.
async fn once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

pub(crate) fn read<T: for<'a> Deserialize<'a>>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} describes no such role", file.display()))
}
