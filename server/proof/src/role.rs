//! What runs on a host: the server as `pams-server` runs it, and an agent as `pams-agent` does, on one thread, with what an
//! experiment needs beside that: each finished transaction goes to a file at once, pongs can be held back, and the thread can
//! be kept busy between the opening of a ping and its leaving, as an application that blocks its own runtime would.
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
use pams_agent::shell::handle::Handle;
use pams_shared::{
    id::PeerId,
    logs,
    program::{Shutdown, print, run},
    record::Record,
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
}

/// A server.
#[derive(Serialize, Deserialize)]
pub struct ServerRole {
    pub config: pams_server::config::Config,
}

/// One ping whose way to the socket is blocked for a while, asked for by a line on stdin; the answer is a line on stdout.
#[derive(Serialize, Deserialize)]
pub struct Stall {
    pub peer: PeerId,
    pub stall: Duration,
}

/// Runs the server that the file describes until SIGTERM, or until whoever started it is gone.
pub fn server(file: &Path) -> anyhow::Result<u8> {
    let ServerRole { config } = read(file)?;
    logs::init(&config.log, config.log_format)?;
    let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    run(runtime, |shutdown| async {
        let options = pams_server::shell::Options {
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
    let mut file = File::options().append(true).create(true).open(&role.records)?;
    let options = pams_agent::shell::Options {
        join: role.join,
        tap: Some(tap),
        answer_after: role.answer_after,
        ..Default::default()
    };
    let running = pams_agent::shell::start(role.config, options).await?;
    print(&format!("{}\n", serde_json::json!({ "peer": running.ready.peer, "quic": running.ready.quic })))?;
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    let mut stalls = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(record) = records.recv() => write(&mut file, &record)?,
            line = asked.next_line() => match line? {
                Some(line) => {
                    let Stall { peer, stall } = serde_json::from_str(&line)?;
                    stalls.spawn(stalled(running.handle.clone(), peer, stall));
                }
                None => std::process::exit(0),
            },
            Some(answer) = stalls.join_next() => print(&format!("{}\n", serde_json::to_string(&answer?)?))?,
        }
    }
    running.stop().await;
    while let Some(record) = records.recv().await {
        write(&mut file, &record)?;
    }
    Ok(())
}

/// Unbuffered, so that it is there even if the process is killed next.
fn write(file: &mut File, record: &Record) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(record)?;
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

fn read<T: for<'a> Deserialize<'a>>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} describes no such role", file.display()))
}
