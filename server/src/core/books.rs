//! The ledgers: what each peer's transactions add up to, and what all peers' do. A peer's account takes the cumulative
//! totals of its reports by maximum; what an account grows by is posted to the totals at once. So the totals never fall
//! when a peer restarts or is forgotten, and no look at them needs to walk the directory.
//!
//! When a life of a peer is over, what it had in flight is booked as unknown. Should that life speak again after all (a
//! peer that was cut off, taken for dead and forgotten), the closings that it then reports are first set off against
//! those, so that no transaction is booked twice.

use std::collections::BTreeMap;

use pams_shared::{
    frame::{self, KINDS_MAX},
    record::{Kind, Ledger},
};

/// A total over this is no count of anything (1,000 a second for 35 years), and sums of it would overflow.
pub const TOTAL_MAX: u64 = 1 << 40;

/// Name in the totals of the kinds that have no label of their own.
pub const OTHER: &str = "other";

/// One peer's transactions of one kind.
#[derive(Clone, Debug)]
struct Account {
    kind: Kind,
    /// What the present epoch reported.
    reported: Ledger,
    /// Booked as unknown by us in the present epoch and not yet reported closed by it.
    owed: u64,
    /// Over all epochs: what is shown.
    booked: Ledger,
}

impl Account {
    /// Takes a look at the epoch's ledger; returns what was booked by it.
    fn take(&mut self, look: &Ledger) -> Ledger {
        let before = self.reported;
        self.reported.merge(look);
        let now = &self.reported;
        let mut growth = Ledger {
            opened: now.opened - before.opened,
            good: now.good - before.good,
            aborted: now.aborted - before.aborted,
            failed: now.failed - before.failed,
            unknown: now.unknown - before.unknown,
            in_flight: 0,
            late: now.late - before.late,
            duplicate: now.duplicate - before.duplicate,
        };
        for closed in [&mut growth.unknown, &mut growth.aborted, &mut growth.failed, &mut growth.good] {
            let known = self.owed.min(*closed);
            self.owed -= known;
            *closed -= known;
        }
        post(&mut self.booked, &growth);
        growth
    }
}

/// Adds what a ledger grew by; what is in flight follows.
pub(super) fn post(ledger: &mut Ledger, growth: &Ledger) {
    let plus = |a: &mut u64, b: u64| *a = a.saturating_add(b);
    plus(&mut ledger.opened, growth.opened);
    plus(&mut ledger.good, growth.good);
    plus(&mut ledger.aborted, growth.aborted);
    plus(&mut ledger.failed, growth.failed);
    plus(&mut ledger.unknown, growth.unknown);
    plus(&mut ledger.late, growth.late);
    plus(&mut ledger.duplicate, growth.duplicate);
    let finished =
        [ledger.good, ledger.aborted, ledger.failed, ledger.unknown].into_iter().fold(0, u64::saturating_add);
    ledger.in_flight = ledger.opened.saturating_sub(finished);
}

/// One peer's accounts, at most [`KINDS_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    accounts: Vec<Account>,
}

/// How many kinds of a report's totals were not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Untaken {
    pub kinds_full: u64,
    pub implausible: u64,
}

impl Books {
    /// As another home kept them.
    pub fn of(accounts: Vec<frame::Account>) -> Self {
        let account =
            |a: frame::Account| Account { kind: a.kind, reported: a.reported, owed: a.owed, booked: a.booked };
        Self { accounts: accounts.into_iter().take(KINDS_MAX).map(account).collect() }
    }

    /// For another home.
    pub fn accounts(&self) -> impl Iterator<Item = frame::Account> {
        self.accounts.iter().map(|a| frame::Account {
            kind: a.kind.clone(),
            reported: a.reported,
            booked: a.booked,
            owed: a.owed,
        })
    }

    /// Takes the totals of a report.
    pub fn take(&mut self, looks: &[(Kind, Ledger)], totals: &mut Totals) -> Untaken {
        let mut untaken = Untaken::default();
        for (kind, look) in looks {
            if !is_plausible(look) {
                untaken.implausible += 1;
                continue;
            }
            let at = match self.accounts.iter().position(|a| a.kind == *kind) {
                Some(at) => at,
                None if self.accounts.len() >= KINDS_MAX => {
                    untaken.kinds_full += 1;
                    continue;
                }
                None => {
                    let kind = totals.intern(kind);
                    self.accounts.push(Account {
                        kind,
                        reported: Ledger::default(),
                        owed: 0,
                        booked: Ledger::default(),
                    });
                    self.accounts.len() - 1
                }
            };
            let growth = self.accounts[at].take(look);
            totals.post(kind, &growth);
        }
        untaken
    }

    /// The peer's life is over: books what is in flight as unknown. Returns it by kind.
    pub fn close(&mut self, totals: &mut Totals) -> Vec<(Kind, u64)> {
        let mut lost = Vec::new();
        for account in &mut self.accounts {
            let unknown = account.booked.abandon();
            if unknown > 0 {
                account.owed += unknown;
                totals.post(&account.kind, &Ledger { unknown, ..Ledger::default() });
                lost.push((account.kind.clone(), unknown));
            }
        }
        lost
    }

    /// A new epoch begins; the one before must be closed.
    pub fn begin_epoch(&mut self) {
        for account in &mut self.accounts {
            account.reported = Ledger::default();
            account.owed = 0;
        }
    }

    /// Over all epochs that are known, by kind.
    pub fn iter(&self) -> impl Iterator<Item = (&Kind, &Ledger)> {
        self.accounts.iter().map(|a| (&a.kind, &a.booked))
    }
}

fn is_plausible(l: &Ledger) -> bool {
    [l.opened, l.good, l.aborted, l.failed, l.unknown, l.late, l.duplicate].into_iter().all(|n| n <= TOTAL_MAX)
}

/// All peers' transactions since the server's start, by label.
#[derive(Debug)]
pub(super) struct Totals {
    kinds_max: usize,
    of: BTreeMap<Kind, Ledger>,
    other: Option<Ledger>,
}

impl Totals {
    /// The built-in kinds have their label from the start.
    pub fn new(kinds_max: usize) -> Self {
        let of = Kind::BUILT_IN.map(|kind| (kind, Ledger::default()));
        Self { kinds_max: kinds_max.max(of.len()), of: of.into(), other: None }
    }

    /// Gives the kind a label of its own while there is room, and returns the one copy of its name.
    pub fn intern(&mut self, kind: &Kind) -> Kind {
        if let Some((known, _)) = self.of.get_key_value(kind) {
            return known.clone();
        }
        if self.of.len() < self.kinds_max && kind.as_str() != OTHER {
            self.of.insert(kind.clone(), Ledger::default());
        }
        kind.clone()
    }

    /// The label under which the kind is summed.
    pub fn label<'a>(&self, kind: &'a Kind) -> &'a str {
        if self.of.contains_key(kind) { kind.as_str() } else { OTHER }
    }

    fn post(&mut self, kind: &Kind, growth: &Ledger) {
        let ledger = match self.of.get_mut(kind) {
            Some(ledger) => ledger,
            None => self.other.get_or_insert_default(),
        };
        post(ledger, growth);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Ledger)> {
        self.of.iter().map(|(kind, ledger)| (kind.as_str(), ledger)).chain(self.other.iter().map(|l| (OTHER, l)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(opened: u64, good: u64) -> Vec<(Kind, Ledger)> {
        vec![(Kind::Ping, Ledger { opened, good, in_flight: opened - good, ..Ledger::default() })]
    }

    fn ping(totals: &Totals) -> Ledger {
        *totals.iter().find(|(label, _)| *label == "presence.ping").unwrap().1
    }

    #[test]
    fn a_life_taken_for_dead_that_speaks_again_is_not_booked_twice() {
        let (mut books, mut totals) = (Books::default(), Totals::new(4));
        books.take(&look(10, 7), &mut totals);
        assert_eq!(books.close(&mut totals), [(Kind::Ping, 3)]);
        assert_eq!(ping(&totals), Ledger { opened: 10, good: 7, unknown: 3, ..Ledger::default() });
        // It lived: two of the three were answered meanwhile, and two more opened.
        books.take(&look(12, 9), &mut totals);
        assert_eq!(ping(&totals), Ledger { opened: 12, good: 7, unknown: 3, in_flight: 2, ..Ledger::default() });
        books.take(&look(12, 12), &mut totals);
        assert_eq!(ping(&totals), Ledger { opened: 12, good: 9, unknown: 3, ..Ledger::default() });
    }

    #[test]
    fn a_new_epoch_counts_from_zero_and_adds() {
        let (mut books, mut totals) = (Books::default(), Totals::new(4));
        books.take(&look(10, 7), &mut totals);
        books.close(&mut totals);
        books.begin_epoch();
        books.take(&look(4, 4), &mut totals);
        let expected = Ledger { opened: 14, good: 11, unknown: 3, ..Ledger::default() };
        assert_eq!((ping(&totals), *books.iter().next().unwrap().1), (expected, expected));
    }

    #[test]
    fn totals_that_contradict_themselves_or_all_reason_stay_conserved() {
        let (mut books, mut totals) = (Books::default(), Totals::new(4));
        let absurd = vec![(Kind::Ping, Ledger { opened: u64::MAX, good: u64::MAX, ..Ledger::default() })];
        assert_eq!(books.take(&absurd, &mut totals), Untaken { implausible: 1, kinds_full: 0 });
        let contrary = vec![(Kind::Ping, Ledger { opened: 1, good: 5, failed: 2, ..Ledger::default() })];
        books.take(&contrary, &mut totals);
        assert!(ping(&totals).is_conserved());
        assert_eq!(ping(&totals).opened, 7);
    }

    #[test]
    fn kinds_beyond_the_bound_share_a_label_and_are_shed_per_peer() {
        let (mut books, mut totals) = (Books::default(), Totals::new(4));
        let looks: Vec<_> = (0..KINDS_MAX as u64 + 2)
            .map(|i| {
                (Kind::parse(&format!("app.k{i:02}")).unwrap(), Ledger { opened: 1, good: 1, ..Ledger::default() })
            })
            .collect();
        assert_eq!(books.take(&looks, &mut totals).kinds_full, 2);
        let labels: Vec<_> = totals.iter().map(|(label, l)| (label, l.opened)).collect();
        assert_eq!(
            labels,
            [
                ("presence.ping", 0),
                ("presence.notify", 0),
                ("pams.report", 0),
                ("app.k00", 1),
                (OTHER, KINDS_MAX as u64 - 1)
            ]
        );
        assert_eq!(totals.label(&looks[0].0), "app.k00");
        assert_eq!(totals.label(&looks[1].0), OTHER);
    }
}
