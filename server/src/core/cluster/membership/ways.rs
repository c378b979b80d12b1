//! How far the others are: so long a probe must wait for them.

use std::{collections::BTreeMap, time::Duration};

use pams_shared::{id::ServerId, moment::Moment};

use super::config::MembershipConfig;

/// The newest probe of one member, and how long answers of it take.
#[derive(Clone, Copy, Debug)]
struct Way {
    number: u8,
    began: Moment,
    /// Smoothed; zero until the first answer.
    takes: Duration,
}

/// By member. An answer that comes after its probe has failed tells most: it is measured, too.
#[derive(Debug, Default)]
pub(super) struct Ways {
    of: BTreeMap<ServerId, Way>,
}

impl Ways {
    pub(super) fn probed(&mut self, id: ServerId, number: u8, began: Moment) {
        let takes = self.of.get(&id).map_or(Duration::ZERO, |way| way.takes);
        self.of.insert(id, Way { number, began, takes });
    }

    pub(super) fn answered(&mut self, id: ServerId, number: u8, now: Moment) {
        if let Some(way) = self.of.get_mut(&id).filter(|way| way.number == number) {
            let took = now.since(way.began);
            way.takes = if way.takes.is_zero() { took } else { (way.takes * 3 + took) / 4 };
        }
    }

    /// How long a probe waits: so that the second question, too, can be answered from far away, but not for ever.
    pub(super) fn patience(&self, id: ServerId, config: &MembershipConfig) -> Duration {
        let takes = self.of.get(&id).map_or(Duration::ZERO, |way| way.takes);
        (config.probe_rtt + 2 * takes).clamp(config.probe_period, 4 * config.probe_period)
    }

    pub(super) fn retain(&mut self, is_known: impl Fn(&ServerId) -> bool) {
        self.of.retain(|id, _| is_known(id));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::member, *};

    #[test]
    fn a_probe_waits_longer_for_one_that_is_far() {
        const MS: Duration = Duration::from_millis(1);
        let (config, id, t) = (MembershipConfig::default(), member(1).id, Moment::new(0, 0));
        let mut ways = Ways::default();
        assert_eq!(ways.patience(id, &config), config.probe_period);
        ways.probed(id, 1, t);
        ways.answered(id, 1, t + 100 * MS);
        assert_eq!(ways.patience(id, &config), config.probe_period);
        for n in 2..40 {
            ways.probed(id, n, t);
            ways.answered(id, n - 1, t + Duration::MAX);
            ways.answered(id, n, t + 300 * MS);
        }
        assert!(ways.patience(id, &config) > 740 * MS, "{:?}", ways.patience(id, &config));
        ways.answered(id, 39, t + Duration::MAX);
        assert_eq!(ways.patience(id, &config), 4 * config.probe_period);
    }
}
