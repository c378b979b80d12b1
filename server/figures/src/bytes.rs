//! Bytes of IP of one warm ping and pong, counted by the socket: UDP payload and 28 bytes of IPv4 and UDP headers a packet.

use std::time::Duration;

use anyhow::{Context, bail};
use pams_agent::config::Buddy;
use pams_shared::socket::Traffic;

use crate::crowd;

const HEADERS: u64 = 28;
/// Tries; the least counts, since reports to the home share the socket.
const TRIES: usize = 40;
/// Longer than QUIC delays an acknowledgement (25 ms).
const SETTLE: Duration = Duration::from_millis(120);

pub async fn measure() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (server, token) = crowd::server(dir.path()).await?;
    let b = crowd::agent(dir.path(), "b", &token, Vec::new()).await?;
    let buddy = Buddy { id: b.ready.peer, name: None, addresses: vec![b.ready.quic.into()], subscribe: false };
    let a = crowd::agent(dir.path(), "a", &token, vec![buddy]).await?;
    let mut tries = Vec::new();
    for _ in 0..TRIES {
        tokio::time::sleep(SETTLE).await;
        let before = a.udp.traffic();
        if let Err(why) = a.handle.ping(b.ready.peer).await? {
            bail!("no pong: {why}");
        }
        let answered = a.udp.traffic();
        tokio::time::sleep(SETTLE).await;
        tries.push((ip(before, answered), ip(answered, a.udp.traffic())));
    }
    let exchange = tries.iter().map(|t| t.0).filter(|e| e.packets() == 2).min_by_key(Way::bytes);
    let exchange = exchange.context("no exchange of two packets was seen")?;
    let acknowledged = tries.iter().map(|t| t.1).min_by_key(Way::bytes).context("there were tries")?;
    println!("ping {} + pong {} = {} bytes of IP in two packets", exchange.sent, exchange.received, exchange.bytes());
    println!(
        "QUIC's own acknowledgement of the pong: {} bytes in {} packet(s)",
        acknowledged.bytes(),
        acknowledged.packets()
    );
    println!("bare quinn with 24 bytes each way: 88 + 91 = 179, and a lone acknowledgement of 63 (see the README)");
    a.stop().await;
    b.stop().await;
    server.stop().await;
    Ok(())
}

#[derive(Clone, Copy)]
struct Way {
    sent: u64,
    received: u64,
    packets: u64,
}

impl Way {
    fn bytes(&self) -> u64 {
        self.sent + self.received
    }

    fn packets(&self) -> u64 {
        self.packets
    }
}

fn ip(before: Traffic, after: Traffic) -> Way {
    let (sent, received) = (after.packets_sent - before.packets_sent, after.packets_received - before.packets_received);
    Way {
        sent: after.bytes_sent - before.bytes_sent + sent * HEADERS,
        received: after.bytes_received - before.bytes_received + received * HEADERS,
        packets: sent + received,
    }
}
