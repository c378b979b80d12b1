//! Servers on an emulated network, in virtual time, from seeds. `SIM_SEEDS` says how many seeds the longer tests take.

mod detection;
mod faults;
mod net;
mod trust;

use std::time::Duration;

use pams_shared::{id::ServerId, sim::Link};

use super::Member;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Server `n` (1 to 255) of generation 1.
pub(super) fn member(n: u8) -> Member {
    let address = format!("10.0.0.{n}:4433").parse().expect("an address");
    Member {
        id: ServerId::from_bytes([n; 16]),
        generation: 1_700_000_000_000,
        name: format!("server-{n}"),
        addresses: vec![address],
        http: Some(address),
        region: "west".into(),
        software: "pams-server/0.1.0".into(),
    }
}

/// One-way delays of 0 to 60 ms, each drawn anew.
fn lossy(loss: f64) -> Link {
    Link { delay: 30 * MS, jitter: 30 * MS, loss, ..Link::default() }
}

/// Always 60 ms.
fn far(loss: f64) -> Link {
    Link { delay: 60 * MS, jitter: Duration::ZERO, loss, ..Link::default() }
}

fn seeds(normally: u64) -> std::ops::Range<u64> {
    0..std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(normally)
}
