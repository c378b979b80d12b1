//! An agent's exchanges, counted twice: by the lines of its own file, one for each exchange that ended, and by the ledger that
//! its home keeps.

use anyhow::ensure;
use pams_proof::{
    pams::{Agent, Home, PATIENCE, Seat, until},
    stages::Exchange,
};
use pams_shared::record::{Ledger, Outcome};

#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub file: Ledger,
    pub home: Ledger,
}

impl Account {
    /// Exchanges that ended and that the home has not counted.
    pub fn in_no_ledger(&self) -> u64 {
        self.file.opened.saturating_sub(self.home.opened)
    }
}

/// Lets the agent leave in good order; then each of its exchanges must be in the home's ledger, as it ended.
pub async fn settle(home: &Home, seat: &Seat, agent: Agent) -> anyhow::Result<Account> {
    let account = left(home, seat, agent).await?;
    let Account { file, home } = account;
    ensure!(
        outcomes(&file) == outcomes(&home),
        "{}: its own file has opened, good, aborted, failed, unknown {:?}, its home {:?}",
        seat.host,
        outcomes(&file),
        outcomes(&home)
    );
    Ok(account)
}

/// Lets the agent leave in good order, and reads both.
pub async fn left(home: &Home, seat: &Seat, agent: Agent) -> anyhow::Result<Account> {
    // What an outage left open has its deadline; only what was opened last is in flight when the agent leaves.
    let ended = async || agent.pings().await.is_ok_and(|l| l.in_flight <= 1);
    until(&format!("what {} left open has ended", seat.host), PATIENCE, ended).await?;
    let own = agent.pings().await?;
    ensure!(own.is_conserved(), "{}: {own:?}", seat.host);
    agent.stop().await?;
    let is_left = async || home.liveness(seat.peer).await.as_deref() == Some("left");
    until(&format!("{} has left", seat.host), PATIENCE, is_left).await?;
    let account = Account { file: sum(&seat.records()?), home: home.pings_of(seat.peer).await };
    ensure!(account.home.is_conserved() && account.home.in_flight == 0, "{}: {:?}", seat.host, account.home);
    Ok(account)
}

/// What finished exchanges add up to.
pub fn sum(exchanges: &[Exchange]) -> Ledger {
    let mut ledger = Ledger::default();
    for exchange in exchanges {
        ledger.opened += 1;
        if let Some(outcome) = Outcome::ALL.into_iter().find(|o| o.as_str() == exchange.status) {
            ledger.count(outcome);
        }
    }
    ledger
}

/// How they ended; answers that came late or twice make no record.
fn outcomes(ledger: &Ledger) -> [u64; 5] {
    let [good, aborted, failed, unknown] = Outcome::ALL.map(|o| ledger.closed(o));
    [ledger.opened, good, aborted, failed, unknown]
}
