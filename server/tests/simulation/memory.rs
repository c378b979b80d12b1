//! What one life of the home should know, kept beside it: who was heard when, which batches reached it, and what they add up
//! to. The books are kept by the rules that the home promises, not by its code.

use std::collections::{BTreeMap, BTreeSet};

use pams_shared::{
    frame::Report,
    id::Correlator,
    record::{Kind, Ledger},
};

use crate::net::ConnId;

/// What one life of the home should know.
#[derive(Debug, Default)]
pub struct Memory {
    /// The session of each agent, and the epoch that opened it.
    pub sessions: BTreeMap<usize, (ConnId, u64)>,
    /// The epoch each connection said in its Hello.
    pub hellos: BTreeMap<ConnId, u64>,
    /// When each agent was last heard.
    pub heard: BTreeMap<usize, u64>,
    /// Said goodbye, and was not back since.
    pub left: BTreeSet<usize>,
    applied: BTreeMap<(usize, u64), u64>,
    pub counted: BTreeSet<Correlator>,
    pub books: BTreeMap<(usize, u64, Kind), Book>,
    pub totals: BTreeMap<Kind, Ledger>,
    /// Entries that were removed at least once.
    pub forgotten: BTreeSet<usize>,
    pub shown: BTreeMap<String, Ledger>,
}

/// What should be booked of one kind of one epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Book {
    pub reported: Ledger,
    /// Booked as unknown by the home and not reported since.
    owed: u64,
    pub booked: Ledger,
    /// The home booked something itself: the epoch was over, or was taken for it.
    pub abandoned: bool,
}

impl Memory {
    /// A session begins, and takes the place of any other; up to where its batches are applied.
    pub fn accept(&mut self, now: u64, from: usize, conn: ConnId) -> u64 {
        let epoch = self.hellos[&conn];
        self.sessions.insert(from, (conn, epoch));
        self.heard.insert(from, now);
        self.left.remove(&from);
        self.applied.get(&(from, epoch)).copied().unwrap_or_default()
    }

    /// A report came on the present session; how many records are to be counted for it.
    pub fn apply(&mut self, from: usize, report: &Report) -> usize {
        let epoch = self.sessions[&from].1;
        let applied = self.applied.entry((from, epoch)).or_default();
        if report.batch <= *applied {
            return 0;
        }
        assert!(*applied == 0 || report.batch == *applied + 1, "batch {} after {applied}", report.batch);
        *applied = report.batch;
        for (kind, look) in &report.totals {
            let growth = self.books.entry((from, epoch, kind.clone())).or_default().take(look);
            let total = self.totals.entry(kind.clone()).or_default();
            total.add(&growth);
            follow(total);
        }
        report.records.len()
    }

    /// What the last epoch of an agent has in flight is booked as unknown; how much that is.
    pub fn abandon(&mut self, who: usize, kind: &Kind) -> u64 {
        let mut books = self.books.iter_mut().filter(|((n, _, k), _)| *n == who && k == kind);
        let (_, book) = books.next_back().expect("something was in flight");
        let count = book.booked.abandon();
        (book.owed, book.abandoned) = (book.owed + count, true);
        let total = self.totals.entry(kind.clone()).or_default();
        total.unknown += count;
        follow(total);
        count
    }
}

/// What is in flight is what the ended ones leave of the opened.
fn follow(ledger: &mut Ledger) {
    ledger.in_flight = ledger.opened - ledger.good - ledger.aborted - ledger.failed - ledger.unknown;
}

impl Book {
    /// Takes a look at the epoch's ledger; what is booked by it. What the home has booked as unknown before is set off.
    fn take(&mut self, look: &Ledger) -> Ledger {
        let before = self.reported;
        self.reported.merge(look);
        let mut growth = Ledger {
            opened: self.reported.opened - before.opened,
            late: self.reported.late - before.late,
            duplicate: self.reported.duplicate - before.duplicate,
            ..Ledger::default()
        };
        let ends = |l: &Ledger| [l.unknown, l.aborted, l.failed, l.good];
        let grown = ends(&self.reported).into_iter().zip(ends(&before)).map(|(now, before)| now - before);
        let booked = [&mut growth.unknown, &mut growth.aborted, &mut growth.failed, &mut growth.good];
        for (booked, grown) in booked.into_iter().zip(grown) {
            let known = self.owed.min(grown);
            self.owed -= known;
            *booked = grown - known;
        }
        self.booked.add(&growth);
        follow(&mut self.booked);
        growth
    }
}
