//! Who plays, how far apart they live, and what happens when.

use std::time::Duration;

use pams_shared::{sim::Link, status::Status};

pub struct Character {
    pub name: &'static str,
    /// Its own line to everywhere: one way, in ms. The way between two is the sum of both.
    pub line_ms: f64,
    pub jitter_ms: f64,
    pub loss: f64,
    pub status: Status,
    pub note: Option<&'static str>,
    /// How long it takes to answer a ping.
    pub answer_after: Duration,
}

const fn character(name: &'static str, line_ms: f64, jitter_ms: f64, loss: f64) -> Character {
    Character { name, line_ms, jitter_ms, loss, status: Status::Online, note: None, answer_after: Duration::ZERO }
}

/// Fibre in the city to a satellite: what an operator of a P2P service has among his peers.
pub const CAST: [Character; 6] = [
    character("ams", 1.0, 0.1, 0.0),
    Character { status: Status::Busy, note: Some("in a meeting"), ..character("ber", 4.0, 0.2, 0.002) },
    // Answers slowly: its network is good, its hold is long.
    Character { answer_after: Duration::from_millis(60), ..character("cai", 15.0, 0.5, 0.005) },
    Character { status: Status::Away, ..character("del", 30.0, 2.0, 0.01) },
    // Goes away and comes back.
    character("eze", 45.0, 3.0, 0.01),
    // Is killed.
    character("fai", 60.0, 8.0, 0.02),
];

pub const LEAVES: usize = 4;
pub const KILLED: usize = 5;
/// Of the servers: the one that made the cluster and has the root's key, since nothing hangs on it.
pub const CRASHES: usize = 0;

/// One direction between two of them. Delays add up, losses and jitters nearly do.
pub fn link(from: &Character, to: &Character) -> Link {
    Link {
        delay: Duration::from_secs_f64((from.line_ms + to.line_ms) / 2e3),
        jitter: Duration::from_secs_f64((from.jitter_ms + to.jitter_ms) / 2e3),
        loss: (from.loss + to.loss) / 2.0,
        ..Link::default()
    }
}

/// There and back.
pub fn round_trip_ms(a: usize, b: usize) -> f64 {
    CAST[a].line_ms + CAST[b].line_ms
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Leave(usize),
    Return(usize),
    Kill(usize),
    /// A server is killed.
    Crash(usize),
}

#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub at: Duration,
    pub what: What,
}

/// What happens in a demo of this length.
pub fn plot(length: Duration) -> [Turn; 4] {
    [
        Turn { at: length.mul_f64(0.2), what: What::Leave(LEAVES) },
        Turn { at: length.mul_f64(0.4), what: What::Kill(KILLED) },
        Turn { at: length.mul_f64(0.5), what: What::Crash(CRASHES) },
        Turn { at: length.mul_f64(0.7), what: What::Return(LEAVES) },
    ]
}
