//! What is kept of peers whose home we are, beside where they stand: with whom they make pairs, and what they are told.

use pams_shared::moment::Moment;

use super::peers::Handle;

#[derive(Debug, Default)]
pub(super) struct Own {
    /// It is worked in that its home is here; before that, its pairs are of no interest.
    pub counts: bool,
    /// Whom it watches, and in how many overlays.
    pub watches: Counts,
    /// Who watches it, likewise.
    pub watchers: Counts,
    /// It is counted among those with too few watchers.
    pub short: bool,
    pub due: Option<Moment>,
    pub end: Option<Moment>,
    /// What its agent was told last in this session, as a digest.
    pub told: Option<u64>,
    /// Its agent has a roster of ours that is not empty, so that it is to be told of the end.
    pub holds: bool,
    pub cut: usize,
    pub memberships_cut: usize,
}

/// Peers, and how often each was named; in order of their handles.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<(Handle, u32)>);

impl Counts {
    /// Names a peer once more, or takes one naming back; whether it is new by that, or gone.
    pub fn name(&mut self, peer: Handle, more: bool) -> bool {
        let found = self.0.binary_search_by_key(&peer, |(named, _)| *named);
        match (found, more) {
            (Ok(at), true) => self.0[at].1 += 1,
            (Ok(at), false) if self.0[at].1 > 1 => self.0[at].1 -= 1,
            (Ok(at), false) => {
                self.0.remove(at);
                return true;
            }
            (Err(at), true) => {
                self.0.insert(at, (peer, 1));
                return true;
            }
            (Err(_), false) => {}
        }
        false
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn each(&self) -> impl Iterator<Item = Handle> {
        self.0.iter().map(|(peer, _)| *peer)
    }
}
