//! The network under the connections: what becomes of a packet between two nodes, cuts included.

use std::collections::BTreeMap;

use pams_shared::{moment::Moment, sim::Network};

use crate::{conn::Conn, world::World};

type PathId = (usize, usize);

#[derive(Debug)]
pub struct Net {
    pub conns: Vec<Conn>,
    paths: Network<PathId>,
    /// Nothing gets through until then.
    cuts: BTreeMap<PathId, u64>,
    /// When a path was last cut, or another.
    pub shaken: BTreeMap<PathId, u64>,
}

impl Net {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { conns: Vec::new(), paths: Network::new(seed), cuts: BTreeMap::new(), shaken: BTreeMap::new() }
    }

    pub fn set(&mut self, now: u64, path: PathId, link: pams_shared::sim::Link) {
        self.shaken.insert(path, now);
        self.paths.set(path, link);
    }

    pub fn cut(&mut self, path: PathId, until: u64) {
        let end = self.cuts.entry(path).or_default();
        *end = until.max(*end);
        self.shaken.insert(path, *end);
    }

    pub fn mend(&mut self, now: u64) {
        for (path, until) in std::mem::take(&mut self.cuts) {
            self.shaken.insert(path, until.min(now));
        }
    }

    /// When the copies of a packet arrive that leaves now.
    pub fn fates(&mut self, path: PathId, now: u64) -> Vec<u64> {
        let fates: Vec<u64> = self.paths.fate(&path, Moment::new(now, 0)).iter().map(|at| at.ns()).collect();
        if self.cuts.get(&path).is_some_and(|until| now < *until) { Vec::new() } else { fates }
    }

    /// Neither way was cut or another since then.
    pub fn is_steady(&self, (a, b): PathId, since: u64) -> bool {
        [(a, b), (b, a)].iter().all(|path| self.shaken.get(path).is_none_or(|at| *at < since))
    }
}

impl World {
    pub fn places(&self) -> Vec<usize> {
        self.server_places().chain(self.agent_places()).collect()
    }

    /// All paths, in one order.
    pub fn paths(&self) -> Vec<PathId> {
        let all = self.places();
        all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b).collect()
    }

    pub fn name_paths(&mut self) {
        for path in self.paths() {
            let link = self.setup.link(&mut self.chance);
            self.net.set(0, path, link);
        }
    }
}
