//! The paths between nodes, and how long what goes over them is under way: the truth that the stages of a record are held
//! against.

use std::collections::BTreeMap;

use pams_shared::{
    id::Minter,
    moment::Moment,
    sim::{Link, Network},
};

use crate::{
    net::Conn,
    setup,
    world::{MS, SECOND},
};

#[derive(Debug)]
pub struct Net {
    pub conns: Vec<Conn>,
    paths: Network<(usize, usize)>,
    /// What links are like without faults, and when each last changed.
    pub base: BTreeMap<(usize, usize), Link>,
    changed: BTreeMap<(usize, usize), u64>,
}

/// How long a ping, and its pong behind it, were under way in truth, and what the links promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub ns: u64,
    pub least: u64,
    pub most: u64,
    /// The links did not change meanwhile.
    pub sure: bool,
}

pub const NO_WAY: Way = Way { ns: 0, least: 0, most: 0, sure: true };

impl Net {
    pub fn new(seed: [u8; 32], nodes: usize, chance: &mut Minter) -> Self {
        let mut base = BTreeMap::new();
        for a in 0..nodes {
            for b in a + 1..nodes {
                let link = setup::link(chance);
                base.insert((a, b), link);
                base.insert((b, a), Link { delay: link.delay.mul_f64(0.8 + chance.below(5) as f64 / 10.0), ..link });
            }
        }
        Self { conns: Vec::new(), paths: Network::new(seed), base, changed: BTreeMap::new() }
    }

    pub fn name_paths(&mut self) {
        self.base.iter().for_each(|(path, link)| self.paths.set(*path, *link));
    }

    pub fn set(&mut self, now: u64, path: (usize, usize), link: Link) {
        if self.paths.link(&path) != link {
            self.paths.set(path, link);
            self.changed.insert(path, now);
        }
    }

    pub fn link(&self, path: (usize, usize)) -> Link {
        self.paths.link(&path)
    }

    /// The path has been as it is since then.
    pub fn steady(&self, path: (usize, usize), since: u64) -> bool {
        self.changed.get(&path).is_none_or(|at| *at < since)
    }

    /// When packets that leave at `at` arrive.
    pub fn fates(&mut self, path: (usize, usize), at: u64) -> Vec<u64> {
        self.paths.fate(&path, Moment::new(at, 0)).iter().map(|m| m.ns()).collect()
    }

    /// One leg more.
    pub fn leg(&self, way: Way, path: (usize, usize), sent: u64, arrived: u64) -> Way {
        let link = self.paths.link(&path);
        let (delay, jitter) = (setup::ns(link.delay), setup::ns(link.jitter));
        let detour = if link.reorder > 0.0 { delay.max(MS) } else { 0 };
        let steady = self.steady(path, sent.saturating_sub(SECOND));
        Way {
            ns: way.ns + (arrived - sent),
            least: way.least + delay.saturating_sub(jitter),
            most: way.most + delay + jitter + detour,
            sure: way.sure && steady,
        }
    }
}
