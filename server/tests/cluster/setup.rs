//! What a run is like: how many servers and agents, how they are configured, how bad it gets. All from the seed.

use std::{net::SocketAddr, time::Duration};

use pams_server::core::PamsConfig;
use pams_shared::{
    frame::{Member, capability},
    id::{Minter, PeerId, ServerId},
    sim::Link,
};

use crate::world::{MS, SECOND};

pub const SERVERS_MAX: usize = 5;

/// Places of agents come after those of servers, all of which there may be.
pub const fn agent(n: usize) -> usize {
    SERVERS_MAX + n
}

#[derive(Debug)]
pub struct Setup {
    pub servers: usize,
    pub agents: usize,
    /// No cuts, little loss, and one server at most that anything befalls: what must hold whatever single server crashes.
    pub calm: bool,
    /// Until then there are faults.
    pub chaos: u64,
    pub faults: usize,
    /// Frames of a stream that the writer's side takes before one has arrived.
    pub window: usize,
    pub config: PamsConfig,
}

/// After the faults: until agents have no more work, and until the end.
pub const WORK: u64 = 10 * SECOND;
pub const QUIET: u64 = 45 * SECOND;

impl Setup {
    pub fn new(chance: &mut Minter) -> Self {
        let calm = chance.below(3) == 0;
        let servers = [3, 3, 4, 5][chance.below(4) as usize];
        let config = PamsConfig {
            ack_held: chance.below(8) != 0,
            orphan_gone: Duration::from_secs(8),
            sd_grace: Some(Duration::from_secs(3)),
            watchers: 2,
            ..PamsConfig::default()
        };
        config.check().expect("times that can work");
        Self {
            servers,
            agents: 2 + chance.below(6) as usize,
            calm,
            chaos: if calm { 16 * SECOND } else { 10 * SECOND + chance.below(25 * SECOND) },
            faults: if calm { 3 } else { 3 + chance.below(14) as usize },
            window: 1 + chance.below(4) as usize,
            config,
        }
    }

    /// What servers told each other in Hello: one of them may be of the release before, which knows no short gossip.
    pub fn capabilities(&self, a: usize, b: usize) -> u64 {
        if self.is_old(a) || self.is_old(b) {
            capability::SIBLINGS
        } else {
            capability::SIBLINGS | capability::SHORT_GOSSIP
        }
    }

    pub fn is_old(&self, server: usize) -> bool {
        server == self.agents % (self.servers + 1)
    }

    pub fn is_server(node: usize) -> bool {
        node < SERVERS_MAX
    }

    /// A path as long as there are faults.
    pub fn link(&self, chance: &mut Minter) -> Link {
        let (delay, jitter) = (chance.below(if self.calm { 60 } else { 150 }), chance.below(30));
        let loss = match chance.below(3) {
            _ if self.calm => 0.01,
            0 => 0.0,
            1 => 0.02,
            _ => 0.1,
        };
        let ms = Duration::from_millis;
        Link { delay: ms(delay), jitter: ms(jitter.min(delay)), loss, duplicate: 0.03, reorder: 0.05 }
    }
}

/// A path when all is well again.
pub fn healed() -> Link {
    let ms = Duration::from_millis;
    Link { delay: ms(20), jitter: ms(5), loss: 0.0, duplicate: 0.01, reorder: 0.01 }
}

pub fn ns(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).expect("seconds")
}

/// Ids are not in the order of the places.
pub fn id(server: usize) -> ServerId {
    ServerId::from_bytes([[0x31, 0x05, 0x77, 0x22, 0x9a][server]; 16])
}

pub fn server(id: ServerId) -> Option<usize> {
    (0..SERVERS_MAX).find(|n| self::id(*n) == id)
}

pub fn peer(node: usize) -> PeerId {
    PeerId::from_bytes([0xa0 + u8::try_from(node).expect("few nodes"); 16])
}

pub fn node(peer: PeerId) -> Option<usize> {
    let node = usize::from(peer.as_bytes()[0].checked_sub(0xa0)?);
    (self::peer(node) == peer).then_some(node)
}

pub fn address(node: usize) -> SocketAddr {
    let last = u8::try_from(node + 1).expect("few nodes");
    SocketAddr::from(([10, 0, 0, last], 7_420))
}

/// Who listens there.
pub fn at(address: &str) -> Option<usize> {
    (0..SERVERS_MAX).find(|n| self::address(*n).to_string() == address)
}

pub fn member(server: usize, generation: u64) -> Member {
    Member {
        id: id(server),
        generation,
        name: crate::trace::name(server).to_string(),
        addresses: vec![address(server)],
        http: None,
        region: String::new(),
        software: "sim/1".to_owned(),
    }
}

/// Longest way of a packet that arrives at the first try: a slow link, with its detours.
pub const WAY_MAX: u64 = 900 * MS;
