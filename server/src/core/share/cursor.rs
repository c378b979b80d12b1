//! A follower's place in a log, and the frames that it is told from there. There is no queue: what a frame says is looked up
//! when it can be written.

use std::ops::Bound::{self, Excluded, Included, Unbounded};

use pams_shared::{
    frame::{DELTAS_MAX, Deltas, Follow, Shared},
    id::ServerId,
    moment::Moment,
};

use super::{
    log::Log,
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
    /// Of a follower's own log: which (generation, upto) is all that it ever wrote.
    claim: (u64, u64),
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
            claim: (0, 0),
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
            .or_else(|| self.beat.then(|| self.frame(&view, Vec::new(), false)))
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
        self.claim = claim(log, generation);
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
        let whole = view.whole && (view.whose != Whose::Foreign || (view.log.complete && !view.log.hole));
        if self.bulk != Bulk::Told || (self.anew && !whole) {
            return None;
        }
        self.bulk = Bulk::Ended;
        Some(Deltas { bulk_end: true, ..self.frame(view, Vec::new(), true) })
    }

    /// A follower gets of its own log only what it wrote in earlier generations.
    fn is_for(&self, view: &View, slot: &Slot) -> bool {
        view.whose != Whose::Earlier || slot.generation < self.asked.generation
    }

    fn frame(&mut self, view: &View, entries: Vec<Shared>, bulk: bool) -> Deltas {
        let log = view.log;
        let all = self.live == log.head;
        let upto = match (view.whose, self.bulk) {
            (Whose::Own, Bulk::On(at)) => at,
            (Whose::Own, Bulk::Told | Bulk::Ended) => self.live,
            (Whose::Foreign, Bulk::Told | Bulk::Ended) if all => log.held,
            (Whose::Earlier, Bulk::Ended) => self.claim.1,
            _ => self.upto,
        };
        self.upto = self.upto.max(upto);
        let digest = (view.whose == Whose::Own && self.bulk == Bulk::Ended && all).then_some(log.digest);
        // What is told of a follower's own log may be newer than that of which all is known.
        let newest = entries.iter().map(|entry| entry.generation).max().unwrap_or(0);
        let generation = if view.whose == Whose::Earlier { self.claim.0.max(newest) } else { log.generation };
        let owner = self.asked.owner;
        Deltas { owner, generation, anew: false, bulk, bulk_end: false, upto: self.upto, entries, digest }
    }
}

/// How far the earlier log of an owner is known to be all, for the owner itself in this generation.
fn claim(log: &Log, generation: u64) -> (u64, u64) {
    if log.generation > generation {
        return (log.generation, 0);
    }
    let here = if log.complete && !log.hole { (log.generation, log.held) } else { (0, 0) };
    let (earlier, upto) = if here.0 < generation { log.settled.max(here) } else { log.settled };
    if earlier == 0 { (generation, 0) } else { (earlier, upto) }
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
