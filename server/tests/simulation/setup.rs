//! What a seed decides before anything happens: how many agents, who watches whom, how they are set, how their links are.

use std::time::Duration;

use pams_server::core::PamsConfig;
use pams_shared::{
    id::{Minter, PeerId, ServerId},
    presence::WatcherConfig,
    sim::Link,
};

use crate::world::{MS, SECOND};

/// The home's place among the nodes.
pub const HOME: usize = 0;
pub const SERVER: ServerId = ServerId::from_bytes([0x5e; 16]);
/// Longest way of a packet: twice the longest delay, and its jitter.
pub const WAY_MAX: u64 = 400 * MS;

#[derive(Clone, Debug)]
pub struct Setup {
    /// Agents are nodes 1 to this.
    pub agents: usize,
    pub watcher: WatcherConfig,
    pub pool_max: usize,
    pub backlog_max: usize,
    pub home: PamsConfig,
    /// By agent: whom it watches, and whether it knows the address or asks its home.
    pub buddies: Vec<Vec<(usize, bool)>>,
    /// Agents are in two overlays of one, some in both; else all are in the same.
    pub nested: bool,
    /// By agent: how many it takes from its home.
    pub takes: Vec<u32>,
    /// By agent: of whose presence it wants to be told.
    pub subscribes: Vec<Vec<usize>>,
    pub answer_after: Vec<Duration>,
    /// Arrivals without a stamp, in 100.
    pub stampless: u64,
    /// Faults befall until here.
    pub chaos: u64,
    pub faults: u64,
}

impl Setup {
    pub fn new(chance: &mut Minter) -> Self {
        let agents = 2 + chance.below(4) as usize;
        // The settings of the product, and quicker ones, of which a run shows more.
        let slow = chance.below(5) == 0;
        let watcher = if slow {
            WatcherConfig::default()
        } else {
            WatcherConfig {
                interval: Duration::from_secs(2),
                retry: Duration::from_millis(500),
                patience: Duration::from_secs(2),
            }
        };
        let chaos = match chance.below(25) {
            0 => 200 * SECOND,
            _ if slow => 60 * SECOND,
            _ => 20 * SECOND + chance.below(20) * SECOND,
        };
        let odds = |chance: &mut Minter, usual: usize, odd: usize| if chance.below(4) == 0 { odd } else { usual };
        let mut home = PamsConfig { events_max: 4_096, ..PamsConfig::default() };
        if chance.below(3) == 0 {
            home.forget_after = Duration::from_secs(8);
        }
        let buddies: Vec<_> = (1..=agents).map(|me| roster(chance, me, agents)).collect();
        let some =
            |watched: &Vec<(usize, bool)>| watched.iter().map(|(n, _)| *n).filter(|_| chance.below(3) > 0).collect();
        let subscribes = buddies.iter().map(some).collect();
        home.watchers = 1 + chance.below(3) as usize;
        home.gone_watched = Duration::from_secs([5, 600][chance.below(2) as usize]);
        Self {
            agents,
            subscribes,
            watcher,
            pool_max: odds(chance, 16_384, 12),
            backlog_max: odds(chance, 10_000, 15),
            home,
            nested: chance.below(2) == 0,
            takes: (0..agents).map(|_| if chance.below(6) == 0 { chance.below(3) as u32 } else { 16 }).collect(),
            buddies,
            answer_after: (0..agents).map(|_| slowness(chance)).collect(),
            stampless: chance.below(2) * 10,
            chaos,
            faults: 4 + chance.below(14),
        }
    }

    /// After the last fault, the time in which all must be well again.
    pub fn settle(&self, some_left: bool, interval: Duration) -> u64 {
        // The home is called again after at most 22.5 s and a handshake's patience.
        // Then it tells its rosters, and whoever is given a buddy that is gone finds that out.
        let home = 35 * SECOND + 3 * SECOND + self.gone_max(interval);
        // One that left is polled each sixth interval, and its connection may have to time out.
        let intervals = if some_left { 7 } else { 2 };
        let peers = ns(interval) * intervals + ns(self.watcher.patience) * 3 + 5 * SECOND;
        home.max(peers)
    }

    /// How long a buddy may be called live after its last answer: the next poll's turn, and its patience.
    pub fn live_max(&self, interval: Duration) -> u64 {
        self.silence(interval) + SLACK
    }

    /// So long a buddy must have been silent before it is called gone.
    pub fn silence(&self, interval: Duration) -> u64 {
        ns(interval) + ns(interval) / 10 + ns(self.watcher.patience)
    }

    /// And so long after its last sign of life it must be called so: the first miss and two retries of it.
    pub fn gone_max(&self, interval: Duration) -> u64 {
        let w = self.watcher;
        self.silence(interval) + ns(w.retry) * 21 / 10 + ns(w.patience) + SLACK
    }
}

/// A loop wakes a little late, and a ping's deadline runs from when it was sent.
pub const SLACK: u64 = 60 * MS;

pub fn ns(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).expect("short")
}

pub fn peer(node: usize) -> PeerId {
    PeerId::from_bytes([node as u8; 16])
}

/// The node of an id; `None`: somebody that there is not.
pub fn node(peer: PeerId) -> Option<usize> {
    Some(usize::from(peer.as_bytes()[0])).filter(|n| peer == self::peer(*n) && *n < 100)
}

/// An id that nobody has.
pub fn nobody() -> PeerId {
    peer(200)
}

/// Where a node is: its first address, or another.
pub fn address(node: usize, place: u8) -> String {
    format!("127.0.0.{place}:{}", 4_000 + node)
}

pub fn at_address(address: &str) -> Option<(usize, u8)> {
    let (ip, port) = address.rsplit_once(':')?;
    let place = ip.rsplit_once('.')?.1.parse().ok()?;
    Some((port.parse::<usize>().ok()?.checked_sub(4_000)?, place))
}

/// Most watch all others; some only a few.
fn roster(chance: &mut Minter, me: usize, agents: usize) -> Vec<(usize, bool)> {
    let few = chance.below(4) == 0;
    let others = (1..=agents).filter(|n| *n != me).collect::<Vec<_>>();
    let keeps = others.into_iter().filter(|_| !few || chance.below(2) == 0).collect::<Vec<_>>();
    keeps.into_iter().map(|n| (n, chance.below(4) != 0)).collect()
}

fn slowness(chance: &mut Minter) -> Duration {
    match chance.below(4) {
        0 => Duration::from_millis(5 + chance.below(200)),
        _ => Duration::ZERO,
    }
}

/// An ordinary link: from next door to another continent, some of them bad.
pub fn link(chance: &mut Minter) -> Link {
    let most = if chance.below(3) == 0 { 120_000 } else { 20_000 };
    let delay = Duration::from_micros(200 + chance.below(most));
    let bad = chance.below(3) == 0;
    let of = |n: u64| if bad { n as f64 / 100.0 } else { 0.0 };
    Link {
        delay,
        jitter: delay.mul_f64(chance.below(60) as f64 / 100.0),
        loss: of(chance.below(8)),
        duplicate: of(chance.below(5)),
        reorder: of(chance.below(10)),
    }
}

/// The same without mishaps.
pub fn healed(link: Link) -> Link {
    Link { delay: link.delay, jitter: link.jitter, ..Link::default() }
}
