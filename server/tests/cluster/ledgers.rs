//! What the ledgers of all homes must add up to, by what the agents know.

use std::collections::BTreeMap;

use pams_shared::record::{Kind, Ledger};

use crate::{
    agent::Past,
    batches::Totals,
    world::{SECOND, World},
};

/// Something befell a server so shortly before an agent's life ended that two things were wrong at once.
const APART: u64 = 8 * SECOND;

/// Between these a peer's ledger of one kind lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub least: Ledger,
    pub most: Ledger,
}

impl World {
    /// What must be known of an agent's transactions.
    ///
    /// - Of its present life, when it has told all: everything, exactly.
    /// - Of a life that ended: no more than there was, and no less than was acknowledged, if nothing befell more than one server,
    ///   and not while the agent started again.
    pub fn expected(&mut self, a: usize) -> BTreeMap<Kind, Bounds> {
        let mut bounds: BTreeMap<Kind, Bounds> = BTreeMap::new();
        let mut add = |least: &Totals, most: &Totals| {
            for (kind, ledger) in least {
                plus(&mut bounds.entry(kind.clone()).or_default().least, ledger);
            }
            for (kind, ledger) in most {
                plus(&mut bounds.entry(kind.clone()).or_default().most, ledger);
            }
        };
        let agent = &self.agents[a];
        for past in &agent.past {
            let nothing = Totals::new();
            let least = if self.is_kept(past) { &past.acked } else { &nothing };
            add(least, &past.totals);
        }
        if self.processes[a].up {
            add(&agent.totals, &agent.totals);
        }
        let exact = self.processes[a].up && agent.past.is_empty();
        let kept = agent.past.iter().all(|past| self.is_kept(past));
        self.tally.count(match (exact, kept) {
            (true, _) => "exact_books",
            (_, true) => "bounded_books",
            _ => "whole_books",
        });
        bounds
    }

    fn is_kept(&self, past: &Past) -> bool {
        self.setup.calm && past.ended > self.struck + APART
    }
}

fn plus(sum: &mut Ledger, ledger: &Ledger) {
    sum.opened += ledger.opened;
    sum.good += ledger.good;
    sum.aborted += ledger.aborted;
    sum.failed += ledger.failed;
}

impl Bounds {
    /// Whether a ledger is within; nothing is counted twice and nothing that was is missing.
    pub fn admit(&self, ledger: &Ledger) -> bool {
        let parts = |l: &Ledger| [l.opened, l.good, l.aborted, l.failed];
        let (least, is, most) = (parts(&self.least), parts(ledger), parts(&self.most));
        ledger.is_conserved() && (0..4).all(|n| least[n] <= is[n] && is[n] <= most[n])
    }
}
