//! What the agents say they did, against what the servers say they did.

use std::collections::{BTreeMap, BTreeSet};

use pams_shared::{
    id::PeerId,
    record::{Kind, Ledger, Outcome},
    status::Liveness,
};
use serde::Serialize;

use crate::{
    actor::Actor,
    servers::{ServerRow, Told},
};

/// Pings that have ended, agents against servers. While all run, some are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// By the agents' word.
    pub closed: u64,
    /// Of these, those that a server has not counted.
    pub missing: u64,
    /// What a server has counted beyond.
    pub doubled: u64,
}

/// What `--json` says of the servers.
#[derive(Serialize)]
pub struct Cluster {
    pub servers: Vec<ServerRow>,
    /// `null`: nobody was.
    pub killed: Option<&'static str>,
    /// From the kill until all its agents had a home again; `null`: some had none until the end.
    pub rehomed_ms: Option<u64>,
    pub records_lost: u64,
    pub records_doubled: u64,
    /// Peers that some server told gone, and that were not.
    pub wrongly_gone: usize,
}

/// The worst of what the servers say. An agent that was killed took with it what it had not reported, so nothing of it is
/// missing; and what it had in flight was booked as unknown without it.
pub fn compare(actors: &[Actor], told: &[Told]) -> Account {
    let mut account = Account { closed: actors.iter().map(|a| ended(&a.closed)).sum(), ..Account::default() };
    for told in told {
        let (mut missing, mut doubled, mut sum) = (0, 0, 0);
        for actor in actors {
            let by_home = told.peers.get(&actor.peer).and_then(|p| p.ledger.get(&Kind::Ping)).copied();
            let by_home = by_home.unwrap_or_default();
            sum += ended(&by_home);
            for outcome in Outcome::ALL {
                let (own, counted) = (actor.closed.closed(outcome), by_home.closed(outcome));
                match actor.was_killed() {
                    false => missing += own.saturating_sub(counted),
                    true if outcome == Outcome::Unknown => continue,
                    true => {}
                }
                doubled += counted.saturating_sub(own);
            }
        }
        // The whole has to be the sum of its parts.
        let whole = ended(&told.ledger);
        account.missing = account.missing.max(missing + sum.saturating_sub(whole));
        account.doubled = account.doubled.max(doubled + whole.saturating_sub(sum));
    }
    account
}

/// Whom some server has told gone, or shows so, though nobody had killed it.
pub fn wrongly_gone(actors: &[Actor], told: &[Told]) -> BTreeSet<PeerId> {
    let innocent: BTreeMap<PeerId, &Actor> = actors.iter().filter(|a| !a.was_killed()).map(|a| (a.peer, a)).collect();
    let shown = |told: &Told| {
        let gone = told.peers.iter().filter(|(_, p)| p.home.liveness == Liveness::Gone).map(|(p, _)| *p);
        gone.chain(told.gone.iter().copied()).collect::<Vec<_>>()
    };
    told.iter().flat_map(shown).filter(|peer| innocent.contains_key(peer)).collect()
}

fn ended(ledger: &Ledger) -> u64 {
    Outcome::ALL.map(|o| ledger.closed(o)).iter().sum()
}
