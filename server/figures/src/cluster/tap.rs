//! What a server sees of the changes at others, and when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pams_server::{
    core::{Pams, cluster::io::SiblingInput},
    shell::feed::Tap,
};
use pams_shared::clock::Clock;

use super::{Lags, load::due};

/// Changes whose lag is kept; further ones are not looked at.
const LAGS_MAX: usize = 4_000_000;

#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    lags_us: Vec<f64>,
    /// First link, and how many entries of others were held when, at most one for each frame.
    linked: Option<u64>,
    held: Vec<(u64, usize)>,
}

#[derive(Debug)]
struct Watch {
    seen: Seen,
    /// When what is being applied was due. What was there before a stream began is not news.
    due: Vec<u64>,
    /// Frames with entries are applied.
    entries: bool,
}

impl Seen {
    pub fn tap(&self) -> impl Tap + use<> {
        Watch { seen: self.clone(), due: Vec::new(), entries: false }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of what was seen since the last call.
    pub fn lags(&self) -> Lags {
        let lags = std::mem::take(&mut self.noted().lags_us);
        Lags::of(&lags)
    }

    /// When there was the first link, and when so many entries were held.
    pub fn held(&self, entries: usize) -> (Option<u64>, Option<u64>) {
        let noted = self.noted();
        (noted.linked, noted.held.iter().find(|(_, held)| *held >= entries).map(|(at, _)| *at))
    }
}

impl Tap for Watch {
    fn comes(&mut self, input: &SiblingInput) {
        match input {
            SiblingInput::Linked { .. } => {
                self.seen.noted().linked.get_or_insert(Clock.monotonic_us());
            }
            SiblingInput::Deltas { deltas, .. } => {
                self.entries = !deltas.entries.is_empty();
                let lots = deltas.entries.iter().filter(|_| !deltas.bulk).filter_map(|shared| shared.lot.as_ref());
                self.due.extend(lots.filter_map(|lot| due(lot.bytes())));
            }
            _ => {}
        }
    }

    fn applied(&mut self, pams: &Pams) {
        if !std::mem::take(&mut self.entries) {
            return;
        }
        let now = Clock.monotonic_us();
        let mut noted = self.seen.noted();
        let room = LAGS_MAX.saturating_sub(noted.lags_us.len());
        noted.lags_us.extend(self.due.drain(..).take(room).map(|due| now.saturating_sub(due) as f64));
        let held = pams.origins().map(|origin| origin.entries).sum();
        if noted.held.last().is_none_or(|(_, last)| *last < held) {
            noted.held.push((now, held));
        }
    }
}
