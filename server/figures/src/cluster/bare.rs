//! The baseline of what is shared: entries of the same size on bare QUIC streams with the same transport, to as many processes.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use pams_shared::{clock::Clock, quic};
use quinn::Endpoint;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    Lags,
    load::{MARK, due},
};
use crate::{
    crowd::LOOPBACK,
    proc::myself,
    rtt::{bare, certificates, server_config},
};

/// What an entry with its ids takes in a frame.
const ENTRY: usize = 210;
const STEP: Duration = Duration::from_millis(1);

/// Sends so many entries a second to two processes for so long; what each saw.
pub async fn measure(dir: &Path, rate: usize, time: Duration) -> anyhow::Result<Vec<Lags>> {
    certificates(dir)?;
    let mut receivers = Vec::new();
    for _ in 0..2 {
        receivers.push(receiver(dir).await?);
    }
    let feeds: Vec<_> = receivers.iter().map(|receiver| receiver.feed.clone()).collect();
    let sender = std::thread::spawn(move || send(&feeds, rate, time));
    let mut seen = Vec::new();
    for Receiver { child, mut lines, feed, writer } in receivers {
        drop(feed);
        writer.await??;
        let line = lines.next_line().await?.context("a receiver says what it saw")?;
        seen.push(serde_json::from_str(&line)?);
        drop(child);
    }
    sender.join().ok().context("the sender ends")?;
    Ok(seen)
}

struct Receiver {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    feed: mpsc::UnboundedSender<Arc<[u8]>>,
    writer: JoinHandle<anyhow::Result<()>>,
}

async fn receiver(dir: &Path) -> anyhow::Result<Receiver> {
    let mut child = tokio::process::Command::new(myself()?)
        .args(["role", "bare", &dir.display().to_string()])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let address = lines.next_line().await?.context("it says where it listens")?.parse()?;
    let connection = bare(dir, address, Some(quic::sibling_transport())).await?;
    let (feed, mut fed) = mpsc::unbounded_channel::<Arc<[u8]>>();
    let writer = tokio::spawn(async move {
        let mut stream = connection.open_uni().await?;
        while let Some(bytes) = fed.recv().await {
            stream.write_all(&bytes).await?;
        }
        stream.finish()?;
        // It ends when it has read all, and with it the connection.
        let _ = stream.stopped().await;
        Ok(())
    });
    Ok(Receiver { child, lines, feed, writer })
}

fn send(feeds: &[mpsc::UnboundedSender<Arc<[u8]>>], rate: usize, time: Duration) {
    let (begin, step) = (Clock.monotonic_us(), STEP.as_micros() as u64);
    let mut made = 0;
    for k in 1..=time.as_micros() as u64 / step {
        let due = begin + k * step;
        std::thread::sleep(Duration::from_micros(due.saturating_sub(Clock.monotonic_us())));
        let until = (due - begin) as usize * rate / 1_000_000;
        let mut entry = [MARK, format!("{due:016}").as_bytes()].concat();
        entry.resize(ENTRY, 7);
        let frame: Arc<[u8]> = entry.repeat(until - made).into();
        made = until;
        for feed in feeds {
            let _ = feed.send(frame.clone());
        }
    }
}

/// The process that is told.
pub async fn receive(dir: &Path) -> anyhow::Result<()> {
    let endpoint = Endpoint::server(server_config(dir, Some(quic::sibling_transport()))?, LOOPBACK.parse()?)?;
    println!("{}", endpoint.local_addr()?);
    let connection = endpoint.accept().await.context("one dials")?.await?;
    let mut stream = connection.accept_uni().await?;
    let (mut lags, mut entry) = (Vec::new(), [0; ENTRY]);
    while stream.read_exact(&mut entry).await.is_ok() {
        let due = due(&entry).context("an entry says when it was due")?;
        lags.push(Clock.monotonic_us().saturating_sub(due) as f64);
    }
    println!("{}", serde_json::to_string(&Lags::of(&lags))?);
    Ok(())
}
