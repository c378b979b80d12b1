//! Three to five servers, and streams between them that are lost at any frame; servers that crash and come back with nothing
//! but their id, partitions, peers that move, tombstones and their end. At the end all are connected and quiet: then all must
//! hold the same, nothing forgotten may live and nothing that lives be lost. `SIM_SEEDS=n` runs n seeds.

use pams_shared::{
    frame::{Deltas, Held},
    id::Minter,
};

use super::*;

const PEERS: u64 = 24;

struct Node {
    generation: u64,
    /// `None`: crashed.
    share: Option<Share>,
}

/// A stream from `teller` to `follower` about `owner`.
struct Stream {
    teller: usize,
    follower: usize,
    owner: ServerId,
    id: FollowerId,
    frames: VecDeque<Deltas>,
    acks: VecDeque<Held>,
}

/// What its agent, or the operator, knows of a peer.
#[derive(Clone, Debug)]
struct Truth {
    home: usize,
    epoch: u64,
    attach: u64,
    content: u64,
    /// Its agent is there, and attaches again wherever it is lost.
    active: bool,
    buried: bool,
    /// The only server that knew crashed.
    unsure: bool,
}

struct World {
    random: Minter,
    ms: u64,
    nodes: Vec<Node>,
    cut: Vec<Vec<bool>>,
    streams: Vec<Stream>,
    truths: BTreeMap<u64, Truth>,
    config: ShareConfig,
    /// Servers crash; else tombstones end while servers are cut off.
    crashes: bool,
    number: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut bytes = [3; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = Minter::new(bytes);
        let crashes = random.below(3) > 0;
        let life = if crashes { 3_000 } else { 15 };
        let config = ShareConfig { tombstone_life: Duration::from_secs(life), ..ShareConfig::default() };
        let n = 3 + random.below(3) as usize;
        let node = |i: u64| Node { generation: 1, share: Some(Share::new(server(i), 1, config.clone(), at(0))) };
        Self {
            nodes: (0..n as u64).map(node).collect(),
            cut: vec![vec![false; n]; n],
            streams: Vec::new(),
            truths: BTreeMap::new(),
            random,
            ms: 0,
            config,
            crashes,
            number: 0,
        }
    }

    fn pick(&mut self, n: usize) -> usize {
        self.random.below(n as u64) as usize
    }

    fn joined(&self, a: usize, b: usize) -> bool {
        a != b && !self.cut[a][b] && self.nodes[a].share.is_some() && self.nodes[b].share.is_some()
    }

    /// What a core would do: follow each sibling at itself; at each sibling what we were before, and owners that can't be reached.
    fn connect(&mut self, all: bool) {
        for (teller, follower) in pairs(self.nodes.len()) {
            if !self.joined(teller, follower) || (!all && self.random.below(4) > 0) {
                continue;
            }
            let Some(share) = &self.nodes[teller].share else { continue };
            let mut owners: BTreeSet<ServerId> = share.origins().map(|origin| origin.owner).collect();
            for near in 0..self.nodes.len() {
                if self.joined(near, follower) {
                    owners.remove(&server(near as u64));
                }
            }
            owners.insert(server(teller as u64));
            if self.nodes[follower].generation > 1 {
                owners.insert(server(follower as u64));
            } else {
                owners.remove(&server(follower as u64));
            }
            for owner in owners {
                self.open(teller, follower, owner);
            }
        }
    }

    fn open(&mut self, teller: usize, follower: usize, owner: ServerId) {
        if self.streams.iter().any(|s| (s.teller, s.follower, s.owner) == (teller, follower, owner)) {
            return;
        }
        let Some(want) = self.nodes[follower].share.as_ref().map(|share| share.want(owner, server(teller as u64)))
        else {
            return;
        };
        let Some(share) = &mut self.nodes[teller].share else { return };
        self.number += 1;
        let id = FollowerId(self.number);
        share.follow(at(self.ms), id, server(follower as u64), want).unwrap();
        self.streams.push(Stream { teller, follower, owner, id, frames: VecDeque::new(), acks: VecDeque::new() });
    }

    fn close(&mut self, doomed: impl Fn(&Stream) -> bool) {
        for stream in self.streams.extract_if(.., |s| doomed(s)) {
            if let Some(share) = &mut self.nodes[stream.teller].share {
                share.unfollow(stream.id);
            }
        }
    }

    /// Moves each stream by at most one frame.
    fn pump(&mut self, all: bool) {
        let mut broken = Vec::new();
        for stream in &mut self.streams {
            if !all && self.random.below(3) == 0 {
                continue;
            }
            let [Some(teller), Some(follower)] =
                self.nodes.get_disjoint_mut([stream.teller, stream.follower]).unwrap().map(|node| node.share.as_mut())
            else {
                continue;
            };
            if stream.frames.len() < 3 {
                stream.frames.extend(teller.next(stream.id));
            }
            if let Some(ack) = stream.acks.pop_front() {
                teller.held(stream.id, ack);
            }
            if !all && self.random.below(3) == 0 {
                continue;
            }
            if let Some(deltas) = stream.frames.pop_front() {
                match follower.take(at(self.ms), server(stream.teller as u64), deltas) {
                    Ok(held) => stream.acks.push_back(held),
                    Err(ShareError::Differs { .. } | ShareError::NotBegun { .. } | ShareError::Gap { .. }) => {
                        broken.push(stream.id);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
        self.close(|s| broken.contains(&s.id));
    }

    fn tick(&mut self, ms: u64) {
        self.ms += ms;
        for node in &mut self.nodes {
            if let Some(share) = &mut node.share {
                share.tick(at(self.ms));
                while share.changed().is_some() {}
                while share.ready().is_some() {}
            }
        }
    }

    fn publish(&mut self, n: u64) {
        let truth = self.truths[&n].clone();
        if let Some(share) = &mut self.nodes[truth.home].share {
            let seq = share.publish(at(self.ms), peer(n), truth.epoch, truth.attach, lot(truth.content));
            assert!(seq.is_some(), "{n} {truth:?} is newer than {:?}", share.entry(peer(n)));
        }
    }

    fn act(&mut self) {
        let n = self.random.below(PEERS);
        let home = self.pick(self.nodes.len());
        match self.random.below(40) {
            0..15 => self.report(n, home),
            15..20 => self.shift(n, home),
            20..22 => self.bury(n, home),
            22 => {
                if let Some(truth) = self.truths.get_mut(&n) {
                    truth.active = false;
                }
            }
            23 if self.crashes => self.crash(home),
            24..27 => self.restart(home),
            27..29 => {
                let other = self.pick(self.nodes.len());
                (self.cut[home][other], self.cut[other][home]) = (true, true);
                self.close(|s| [(home, other), (other, home)].contains(&(s.teller, s.follower)));
            }
            29..32 => {
                let other = self.pick(self.nodes.len());
                (self.cut[home][other], self.cut[other][home]) = (false, false);
            }
            32..34 if !self.streams.is_empty() => {
                let stream = self.pick(self.streams.len());
                let id = self.streams[stream].id;
                self.close(|s| s.id == id);
            }
            34..37 => self.connect(false),
            _ => {
                let ms = self.random.below(1_500);
                self.tick(ms);
            }
        }
    }

    /// A peer's home has news of it; or it is there for the first time.
    fn report(&mut self, n: u64, home: usize) {
        self.number += 1;
        let content = self.number;
        if self.nodes[self.truths.get(&n).map_or(home, |truth| truth.home)].share.is_none() {
            return;
        }
        let new = Truth { home, epoch: 1, attach: 1, content, active: true, buried: false, unsure: false };
        let truth = self.truths.entry(n).or_insert(new);
        if truth.active && !truth.buried {
            truth.content = content;
            truth.unsure = false;
            self.publish(n);
        }
    }

    /// A peer goes to another home, or starts again there.
    fn shift(&mut self, n: u64, home: usize) {
        let again = self.random.below(3) == 0;
        if self.nodes[home].share.is_none() {
            return;
        }
        if let Some(truth) = self.truths.get_mut(&n).filter(|t| t.active && !t.buried && t.home != home) {
            truth.home = home;
            truth.attach += 1;
            truth.epoch += u64::from(again);
            self.report(n, home);
        }
    }

    fn bury(&mut self, n: u64, at_home: usize) {
        let elsewhere = self.random.below(3) == 0;
        let Some(truth) = self.truths.get_mut(&n) else { return };
        let place = if elsewhere { at_home } else { truth.home };
        let Some(share) = &mut self.nodes[place].share else { return };
        truth.buried = true;
        let buried = share.bury(at(self.ms), peer(n), truth.epoch, truth.attach, n.is_multiple_of(2)).is_some();
        // If not all know that it is at home where it is buried, its tombstone may reach nobody while it lives.
        let home = server(place as u64);
        let mut shares = self.nodes.iter().filter_map(|node| node.share.as_ref());
        let known = self.crashes || shares.all(|share| share.entry(peer(n)).is_none_or(|e| e.owner == home));
        truth.unsure = !buried || !known;
    }

    fn crash(&mut self, node: usize) {
        let Some(lost) = self.nodes[node].share.take() else { return };
        let generation = self.nodes[node].generation;
        self.close(|s| s.teller == node || s.follower == node);
        let left: Vec<&Share> = self.nodes.iter().filter_map(|node| node.share.as_ref()).collect();
        for (n, truth) in &mut self.truths {
            let known = left.iter().filter_map(|share| share.entry(peer(*n))).any(|e| {
                let newest = (e.epoch, e.attach) == (truth.epoch, truth.attach);
                // What it had not got back yet since its last crash, it is not waited for again.
                let back =
                    e.owner != server(node as u64) || e.generation == generation || lost.entry(peer(*n)).is_some();
                newest && back && if truth.buried { e.lot.is_none() } else { e.lot == Some(&lot(truth.content)) }
            });
            truth.unsure |= !known;
        }
    }

    fn restart(&mut self, node: usize) {
        let Node { generation, share } = &mut self.nodes[node];
        if share.is_none() {
            *generation += 1;
            *share = Some(Share::new(server(node as u64), *generation, self.config.clone(), at(self.ms)));
        }
    }

    /// What is acknowledged as held elsewhere is.
    fn check_covered(&self) {
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(share) = &node.share else { continue };
            let (me, covered) = (server(i as u64), share.covered());
            let mine = share.after(None).filter(|(_, e)| (e.owner, e.generation) == (me, node.generation));
            let buried = |p: PeerId| self.truths.iter().any(|(n, truth)| peer(*n) == p && truth.buried);
            for (peer, e) in mine.filter(|(p, e)| e.seq <= covered && !buried(*p)) {
                let newest =
                    |other: &Share| other.entry(peer).is_some_and(|o| (o.epoch, o.attach) >= (e.epoch, e.attach));
                let others = self.nodes.iter().enumerate().filter(|(j, _)| *j != i);
                let held = others.filter_map(|(_, n)| n.share.as_ref()).any(newest);
                assert!(held || e.lot.is_none(), "{peer} of {me} is covered, and nobody holds it");
            }
        }
    }

    /// All servers are back and connected, and all agents have attached; lets everything settle.
    fn settle(&mut self) {
        for node in 0..self.nodes.len() {
            self.restart(node);
            self.cut[node].fill(false);
        }
        self.run(60);
        for n in 0..PEERS {
            match self.truths.get_mut(&n) {
                Some(truth) if truth.buried && truth.unsure => {
                    truth.attach += 1;
                    let home = truth.home;
                    self.bury(n, home);
                }
                Some(truth) if truth.active && !truth.buried => self.publish(n),
                _ => {}
            }
        }
        for _ in 0..400 {
            self.run(20);
            if self.is_equal() {
                break;
            }
        }
        // Past the life of all tombstones nothing comes back.
        self.tick(4_000_000);
        self.run(30);
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.connect(true);
            while {
                self.pump(true);
                self.streams.iter().any(|s| !s.frames.is_empty())
            } {}
            self.pump(true);
            self.tick(1_000);
        }
    }

    fn is_equal(&self) -> bool {
        let mut shares = self.nodes.iter().filter_map(|node| node.share.as_ref());
        let first = shares.next().unwrap();
        shares.all(|share| lives(share) == lives(first) && digests(share) == digests(first))
    }

    fn check(&self) {
        let shares: Vec<&Share> = self.nodes.iter().filter_map(|node| node.share.as_ref()).collect();
        for (i, share) in shares.iter().enumerate().skip(1) {
            assert_eq!(lives(shares[0]), lives(share), "server {i} holds something else than server 0");
            assert_eq!(digests(shares[0]), digests(share), "of server {i} and 0");
        }
        for (n, truth) in &self.truths {
            let entry = shares[0].entry(peer(*n)).filter(|e| e.lot.is_some());
            if truth.buried {
                assert!(entry.is_none(), "{n} lives: {truth:?} {entry:?}");
            } else if truth.active || !truth.unsure {
                let is = entry.map(|e| (e.epoch, e.attach, e.lot.cloned()));
                assert_eq!(is, Some((truth.epoch, truth.attach, Some(lot(truth.content)))), "{n}: {truth:?}");
            }
        }
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).map(move |b| (a, b)))
}

fn simulate(seed: u64) {
    let mut world = World::new(seed);
    world.connect(true);
    for step in 0..400 {
        world.act();
        world.pump(false);
        if step % 40 == 0 {
            world.check_covered();
        }
    }
    world.settle();
    world.check();
}

#[test]
fn all_servers_end_with_the_same() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let first: u64 = std::env::var("SIM_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        if let Err(panic) = std::panic::catch_unwind(|| simulate(seed)) {
            eprintln!("seed {seed}: run it alone with SIM_FIRST={seed} SIM_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}
