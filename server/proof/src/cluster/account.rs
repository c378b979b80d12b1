//! The pings of all agents, counted twice: by the agents one by one as they ended, and by the cluster.

use pams_shared::{
    control::Control,
    record::{Kind, Ledger, Outcome},
};

/// What the agents counted themselves, and what a server says of them all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    pub own: Ledger,
    pub cluster: Ledger,
}

impl Account {
    fn differences(&self) -> impl Iterator<Item = (u64, u64)> {
        Outcome::ALL.into_iter().map(|o| (self.own.closed(o), self.cluster.closed(o)))
    }

    /// Ended by the agents' word, in no ledger.
    pub fn lost(&self) -> u64 {
        self.differences().map(|(own, cluster)| own.saturating_sub(cluster)).sum()
    }

    /// In a ledger, and not by the agents' word.
    pub fn doubled(&self) -> u64 {
        self.differences().map(|(own, cluster)| cluster.saturating_sub(own)).sum()
    }

    /// Nothing, once the server has heard of all.
    pub fn wrong(&self) -> u64 {
        self.lost() + self.doubled() + self.cluster.in_flight
    }
}

/// The ledger of all pings of the cluster, as one server says.
pub async fn ledger(control: &Control) -> anyhow::Result<Ledger> {
    let mut answer: serde_json::Value = control.get("/api/v1/ledger").await?;
    Ok(serde_json::from_value(answer[Kind::Ping.as_str()].take())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_and_what_is_doubled_do_not_make_up_for_each_other() {
        let of = |good, failed| Ledger { opened: good + failed, good, failed, ..Ledger::default() };
        let account = Account { own: of(10, 5), cluster: of(7, 6) };
        assert_eq!((account.lost(), account.doubled(), account.wrong()), (3, 1, 4));
        let account = Account { own: of(10, 5), cluster: Ledger { opened: 16, in_flight: 1, ..of(10, 5) } };
        assert_eq!((account.lost(), account.doubled(), account.wrong()), (0, 0, 1));
    }
}
