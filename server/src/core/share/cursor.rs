//! A follower's place in a log, and the frames that it is told from there. There is no queue: what a frame says is looked up
//! when it can be written.

use std::ops::Bound::{self, Excluded, Included, Unbounded};

use pams_shared::{
    frame::{DELTAS_MAX, Deltas, Follow, Shared},
    id::ServerId,
    moment::Moment,
};

use super::{
    log::{Log, Settled},
    store::{Slot, Store},
};

/// Bytes of entries in one frame, so that the whole stays below `STREAM_BYTES_MAX`.
const FRAME_BYTES: usize = 60 * 1024;
/// What an entry takes beside its lot at most: ids, numbers, and the tags and lengths before them.
const ENTRY_BYTES: usize = 80;
/// Entries looked at for one frame, those that are not told included.
const LOOKS_MAX: usize = 16 * 1024;

/// Whether a stream is to be asked for its next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Its last answer was that there is none, and nothing came since.
    Idle,
    /// In the queue of those with news.
    Queued,
    /// It is asked after each frame.
    Busy,
}

/// What is told of what was there when the stream began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bulk {
    /// Anew: peers that may be reached, then the others. After this place.
    Essential(u64),
    Rest(u64),
    /// Going on: all that the follower does not hold. After this place.
    On(u64),
    /// All of it is told, but not yet that this was all.
    Told,
    Ended,
}

/// A follower's place in a log.
#[derive(Debug)]
pub(super) struct Cursor {
    pub who: ServerId,
    asked: Follow,
    pub since: Moment,
    pub pace: Pace,
    /// To tell that there is nothing to tell.
    pub beat: bool,
    /// When it last told something.
    pub last: Moment,
    /// Generation and cut of the log when it began; when they change it begins again.
    begun: Option<(u64, u64)>,
    bulk: Bulk,
    /// Where the log ended then.
    start: u64,
    /// What came since is told up to there.
    live: u64,
    /// The last frame was of what came since.
    turn: bool,
    anew: bool,
    pub upto: u64,
    pub held: u64,
}

/// Whose log a cursor goes through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The server's that serves it.
    Own,
    /// Another's.
    Foreign,
    /// The follower's own, of its earlier generations.
    Earlier,
}

impl Cursor {
    pub fn new(now: Moment, who: ServerId, asked: Follow) -> Self {
        Self {
            who,
            asked,
            since: now,
            pace: Pace::Queued,
            beat: false,
            last: now,
            begun: None,
            bulk: Bulk::Told,
            start: 0,
            live: 0,
            turn: false,
            anew: true,
            upto: 0,
            held: 0,
        }
    }

    pub fn owner(&self) -> ServerId {
        self.asked.owner
    }

    /// The generation that is being told.
    pub fn generation(&self) -> Option<u64> {
        self.begun.map(|(generation, _)| generation)
    }

    /// The next frame. `recovered`: of the log of `me` all is here.
    pub fn next(&mut self, me: ServerId, recovered: bool, log: Option<&Log>, store: &Store) -> Option<Deltas> {
        let whose = match self.asked.owner {
            owner if owner == self.who => Whose::Earlier,
            owner if owner == me => Whose::Own,
            _ => Whose::Foreign,
        };
        // Whoever asks for itself is told at once that nothing is known, so that it need not wait for it.
        let nothing = Log::new(self.last, self.asked.generation);
        let log = log.or((whose == Whose::Earlier).then_some(&nothing))?;
        let view = View { log, store, whose, whole: recovered || whose != Whose::Own };
        if self.begun != Some((log.generation, log.cut)) {
            // A relay that is behind its follower has nothing for it yet.
            let behind = whose != Whose::Earlier && self.asked.generation > log.generation;
            return (!behind).then(|| self.begin(&view));
        }
        let copying = !matches!(self.bulk, Bulk::Told | Bulk::Ended);
        let bulk_first = copying && self.turn;
        let live = |cursor: &mut Self, now: bool| if now { cursor.live(&view) } else { None };
        live(self, !bulk_first)
            .or_else(|| self.bulk(&view))
            .or_else(|| live(self, bulk_first))
            .or_else(|| self.end(&view))
            .or_else(|| (self.beat || self.reached(&view) > self.upto).then(|| self.frame(&view, Vec::new(), false)))
    }

    fn begin(&mut self, view: &View) -> Deltas {
        let Follow { generation, from, .. } = self.asked;
        let log = view.log;
        let on = self.begun.is_none() && view.whose != Whose::Earlier && generation == log.generation;
        self.anew = !(on && from > 0 && from >= log.floor);
        self.begun = Some((log.generation, log.cut));
        (self.start, self.live, self.turn) = (log.head, log.head, false);
        let place = if view.whose == Whose::Own { from } else { 0 };
        (self.bulk, self.upto) = if self.anew { (Bulk::Essential(0), 0) } else { (Bulk::On(place), from) };
        Deltas { bulk: true, anew: self.anew, ..self.frame(view, Vec::new(), true) }
    }

    /// What came since the stream began.
    fn live(&mut self, view: &View) -> Option<Deltas> {
        let told = view.fill((Excluded(self.live), Unbounded), |slot| self.is_for(view, slot));
        self.live = told.at.unwrap_or(view.log.head);
        if told.entries.is_empty() && told.at.is_none() {
            return None;
        }
        self.turn = true;
        Some(self.frame(view, told.entries, false))
    }

    /// What was there when the stream began.
    fn bulk(&mut self, view: &View) -> Option<Deltas> {
        loop {
            let (Bulk::Essential(at) | Bulk::Rest(at) | Bulk::On(at)) = self.bulk else { return None };
            let (stage, from, generation) = (self.bulk, self.asked.from, view.log.generation);
            let told = view.fill((Excluded(at), Included(self.start)), |slot| {
                let now = match stage {
                    Bulk::Essential(_) => slot.essential,
                    Bulk::Rest(_) => !slot.essential,
                    _ => view.whose == Whose::Own || slot.generation < generation || slot.seq > from,
                };
                now && self.is_for(view, slot)
            });
            self.bulk = match (stage, told.at) {
                (Bulk::Essential(_), Some(at)) => Bulk::Essential(at),
                (Bulk::Essential(_), None) => Bulk::Rest(0),
                (Bulk::Rest(_), Some(at)) => Bulk::Rest(at),
                (_, Some(at)) => Bulk::On(at),
                (_, None) => Bulk::Told,
            };
            if !told.entries.is_empty() || told.at.is_some() {
                self.turn = false;
                // Without entries it would be the beginning of a stream.
                let bulk = !told.entries.is_empty();
                return Some(self.frame(view, told.entries, bulk));
            }
        }
    }

    /// The end of what was there. Not before all that came since is told too: it may have been told only under its old number.
    fn end(&mut self, view: &View) -> Option<Deltas> {
        let whole = view.whole && (view.whose != Whose::Foreign || view.log.all.complete);
        if self.bulk != Bulk::Told || (self.anew && !whole) {
            return None;
        }
        self.bulk = Bulk::Ended;
        let frame = Deltas { bulk_end: true, ..self.frame(view, Vec::new(), true) };
        let known = (view.whose == Whose::Earlier).then(|| known(view.log, self.asked.generation)).flatten();
        let Some(known) = known else { return Some(frame) };
        self.upto = known.to.1;
        Some(Deltas { generation: known.to.0, upto: known.to.1, anew: known.since == 0, ..frame })
    }

    /// A follower gets of its own log only what it wrote in earlier generations.
    fn is_for(&self, view: &View, slot: &Slot) -> bool {
        view.whose != Whose::Earlier || slot.generation < self.asked.generation
    }

    /// Up to which number all is told.
    fn reached(&self, view: &View) -> u64 {
        let reached = match (view.whose, self.bulk) {
            (Whose::Own, Bulk::On(at)) => at,
            (Whose::Own, Bulk::Told | Bulk::Ended) => self.live,
            (Whose::Foreign, Bulk::Told | Bulk::Ended) if self.live == view.log.head => view.log.all.held,
            _ => 0,
        };
        reached.max(self.upto)
    }

    fn frame(&mut self, view: &View, entries: Vec<Shared>, bulk: bool) -> Deltas {
        let log = view.log;
        let newest = self.live == log.head;
        self.upto = self.reached(view);
        let digest = (view.whose == Whose::Own && self.bulk == Bulk::Ended && newest).then_some(log.digest);
        // An owner is told of its earlier generations within the one that it is in.
        let asked = if view.whose == Whose::Earlier { self.asked.generation } else { 0 };
        let generation = log.generation.max(asked);
        let owner = self.asked.owner;
        Deltas { owner, generation, anew: false, bulk, bulk_end: false, upto: self.upto, entries, digest }
    }
}

/// What is known of the log of an owner before this generation; `None`: something newer of it may be missing.
fn known(log: &Log, generation: u64) -> Option<Settled> {
    let (newest, known) =
        if log.generation < generation { (log.generation, log.known()) } else { (log.before, log.settled) };
    (known.to.0 == newest && newest > 0).then_some(known)
}

/// What a cursor goes through.
struct View<'a> {
    log: &'a Log,
    store: &'a Store,
    whose: Whose,
    /// All that the owner has is there.
    whole: bool,
}

/// What was found for one frame.
struct Told {
    entries: Vec<Shared>,
    /// How far was looked; `None`: to the end.
    at: Option<u64>,
}

impl View<'_> {
    fn fill(&self, range: (Bound<u64>, Bound<u64>), keep: impl Fn(&Slot) -> bool) -> Told {
        let (mut entries, mut bytes, mut last) = (Vec::new(), 0, None);
        for (looked, (stamp, handle)) in self.log.order.range(range).enumerate() {
            let slot = self.store.at(*handle).filter(|slot| keep(slot));
            let size = slot.map_or(0, |slot| ENTRY_BYTES + slot.lot.as_ref().map_or(0, |lot| lot.bytes().len()));
            if looked == LOOKS_MAX || entries.len() == DELTAS_MAX || bytes + size > FRAME_BYTES {
                return Told { entries, at: last };
            }
            bytes += size;
            entries.extend(slot.map(Slot::shared));
            last = Some(*stamp);
        }
        Told { entries, at: None }
    }
}
