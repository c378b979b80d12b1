//! What is known of one owner: its entries in the order in which they came here, and how far that is all there is.
//!
//! The log of our own is ordered by our own numbers, so that a place in it is a `seq`. An owner's that we follow is ordered as
//! its entries came, because a relay must be able to tell on what came late.

use std::collections::BTreeMap;

use pams_shared::{frame::Deltas, id::ServerId, moment::Moment};

use super::{ShareError, digest::Doubt, store::Handle};

/// Streams that tell us of one owner; beyond it the oldest is taken for ended. A server follows an owner at itself, and when
/// that fails at some relays.
const LINES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Log {
    pub generation: u64,
    /// The newest before it of which something was told; 0: none.
    pub before: u64,
    /// What its owner told us itself, and whoever it was. Of our own log: not used.
    pub direct: Mark,
    pub all: Mark,
    /// When `generation` was first heard of, and whether that is longer ago than the life of a tombstone: until then the owner
    /// takes back what it wrote in earlier ones.
    pub since: Moment,
    pub ripe: bool,
    /// Before the last renewal or doubt.
    pub settled: Settled,
    /// Whoever holds less of `generation` may hold what was buried since, and is told anew.
    pub floor: u64,
    /// Tellings anew so far.
    pub round: u32,
    /// The last place given.
    pub head: u64,
    pub order: BTreeMap<u64, Handle>,
    /// XOR of the hashes of all its entries.
    pub digest: u64,
    /// Grows when entries vanish without a tombstone: whoever was told of them is told anew.
    pub cut: u64,
    /// Last frame about it, of any server.
    pub heard: Moment,
    /// Last frame of the owner itself, or of a relay that had news: it is no orphan.
    pub news: Moment,
    pub doubt: Doubt,
    lines: Vec<Line>,
}

/// A part of a log of which nothing more can be news, unless the owner itself says so: what is not held of it was buried, given
/// up, or taken over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    /// From this generation on.
    pub since: u64,
    /// (generation, seq); generation 0: nothing.
    pub to: (u64, u64),
}

impl Settled {
    pub fn contains(&self, generation: u64, seq: u64) -> bool {
        generation >= self.since && (generation, seq) <= self.to
    }
}

/// How far a log is known. What a relay told is less than it seems: an entry that another owner took over at the relay is told
/// in that owner's log, which may not have come. So it counts where only a relay is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// All entries whose newest seq in the log's generation is not above it are held.
    pub held: u64,
    /// A telling anew has ended, so that nothing is held which the owner did not say.
    pub complete: bool,
}

/// A stream that tells us of the owner.
#[derive(Debug)]
pub(super) struct Line {
    from: ServerId,
    /// It tells anew, and since this round; `None`: it goes on where an earlier one ended.
    pub round: Option<u32>,
    pub ended: bool,
    /// Something that it told was shed, so that it counts for nothing more.
    pub hole: bool,
    pub upto: u64,
}

impl Log {
    pub fn new(now: Moment, generation: u64) -> Self {
        Self {
            generation,
            before: 0,
            direct: Mark::default(),
            all: Mark::default(),
            since: now,
            ripe: false,
            settled: Settled::default(),
            floor: 0,
            round: 0,
            head: 0,
            order: BTreeMap::new(),
            digest: 0,
            cut: 0,
            heard: now,
            news: now,
            doubt: Doubt::default(),
            lines: Vec::new(),
        }
    }

    /// The owner is in a newer generation, of which nothing is held yet.
    pub fn renew(&mut self, now: Moment, generation: u64) {
        self.doubt();
        (self.since, self.ripe) = (now, false);
        self.before = std::mem::replace(&mut self.generation, generation).max(self.before);
        self.floor = 0;
        self.doubt = Doubt::default();
    }

    /// What is held may not be all, or too much: only a telling anew can cure that.
    pub fn doubt(&mut self) {
        self.settled = self.known();
        (self.direct, self.all) = (Mark::default(), Mark::default());
        self.lines.clear();
    }

    /// What nobody but the owner can bring back by now.
    pub fn known(&self) -> Settled {
        if !self.all.complete {
            return self.settled;
        }
        let since = if self.ripe { 0 } else { self.generation };
        Settled { since, to: (self.generation, self.all.held) }
    }

    /// An entry of a relay is no news, unless it is held.
    pub fn is_settled(&self, generation: u64, seq: u64) -> bool {
        self.settled.contains(generation, seq) || self.known().contains(generation, seq)
    }

    /// A stream begins.
    pub fn begin(&mut self, from: ServerId, anew: bool, upto: u64) {
        if anew {
            self.round += 1;
        }
        self.lines.retain(|line| line.from != from);
        if self.lines.len() >= LINES_MAX {
            self.lines.remove(0);
        }
        self.lines.push(Line { from, round: anew.then_some(self.round), ended: false, hole: false, upto });
    }

    /// How far it is known, by the owner's word or also by others'.
    pub fn mark(&self, direct: bool) -> Mark {
        if direct { self.direct } else { self.all }
    }

    /// A stream has told all up to `upto`.
    pub fn reach(&mut self, from: ServerId, direct: bool, upto: u64) {
        let Some(line) = self.line(from).filter(|line| !line.hole) else { return };
        let anew = line.round.is_some() && !line.ended;
        if anew {
            // What was buried before is not told, so nor can we tell it.
            self.floor = self.floor.max(upto);
        }
        for mark in self.marks(direct) {
            // What is to be swept is swept only at the end, so what is held must not seem newer before.
            if !(anew && mark.complete) {
                mark.held = mark.held.max(upto);
            }
        }
    }

    /// A stream has told all that was there when it began. Returns whether all is held.
    pub fn end(&mut self, from: ServerId, direct: bool, upto: u64) -> bool {
        let Some(line) = self.line(from) else { return false };
        line.ended = true;
        if line.hole {
            return false;
        }
        let anew = line.round.is_some();
        if anew {
            self.floor = self.floor.max(upto);
        }
        for mark in self.marks(direct) {
            mark.complete |= anew;
            mark.held = mark.held.max(upto);
        }
        self.all.complete
    }

    /// What a stream counts for.
    fn marks(&mut self, direct: bool) -> impl Iterator<Item = &mut Mark> {
        [direct.then_some(&mut self.direct), Some(&mut self.all)].into_iter().flatten()
    }

    pub fn line(&mut self, from: ServerId) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.from == from)
    }

    /// A stream that tells anew is not through.
    pub fn is_being_told(&self) -> bool {
        self.lines.iter().any(|line| !line.ended)
    }

    /// The last stream of this server is through.
    pub fn has_told(&self, from: ServerId) -> bool {
        self.lines.iter().any(|line| line.from == from && line.ended)
    }

    /// A stream is through.
    pub fn is_followed(&self) -> bool {
        self.lines.iter().any(|line| line.ended && !line.hole)
    }
}

impl Line {
    /// Whether a frame can follow those that came.
    pub fn check(&self, owner: ServerId, direct: bool, deltas: &Deltas) -> Result<(), ShareError> {
        let upto = deltas.upto;
        if upto < self.upto {
            return Err(ShareError::Backwards { owner, upto, before: self.upto });
        }
        if deltas.bulk && self.ended {
            return Err(ShareError::Ended { owner });
        }
        let seqs = deltas.entries.iter().filter(|entry| entry.generation == deltas.generation).map(|entry| entry.seq);
        match seqs.max().filter(|seq| direct && self.ended && *seq > upto) {
            Some(seq) => Err(ShareError::Beyond { owner, upto, seq }),
            None => Ok(()),
        }
    }
}
