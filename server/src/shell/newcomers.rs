//! Callers that are not through the door yet, or wait before it, counted in all and by where they call from. It decides nothing.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The counts. There is no entry without a newcomer, so the bound of newcomers bounds the map.
#[derive(Debug, Default)]
pub struct Newcomers {
    counts: Mutex<HashMap<Source, usize>>,
    fewer: Notify,
}

/// One IPv4 address, or the first half of an IPv6 address: whoever has one has all of the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(IpAddr);

/// How many newcomers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub all: usize,
    pub same_source: usize,
}

/// One newcomer, until it is dropped.
#[derive(Debug)]
pub struct Newcomer {
    of: Arc<Newcomers>,
    from: Source,
}

impl Newcomers {
    /// In all, and from where this address is.
    pub fn count(&self, from: IpAddr) -> Count {
        let counts = self.counts();
        Count { all: counts.values().sum(), same_source: counts.get(&Source::of(from)).copied().unwrap_or(0) }
    }

    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Newcomer {
        let from = Source::of(from);
        *self.counts().entry(from).or_default() += 1;
        Newcomer { of: self.clone(), from }
    }

    /// Waits until one is no more, or was not since the last such wait. For one waiter at a time.
    pub async fn fewer(&self) {
        self.fewer.notified().await;
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        // Numbers are never half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut counts = self.of.counts();
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
        drop(counts);
        self.of.fewer.notify_one();
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
            v4 => Self(v4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_counted_by_source_while_they_are() {
        let newcomers = Arc::new(Newcomers::default());
        let count = |from: &str| {
            let Count { all, same_source } = newcomers.count(from.parse().unwrap());
            (all, same_source)
        };
        let enter = |from: &str| newcomers.enter(from.parse().unwrap());
        let v4 = [enter("192.0.2.1"), enter("::ffff:192.0.2.1"), enter("192.0.2.2")];
        let v6 = [enter("2001:db8:0:1::1"), enter("2001:db8:0:1:ffff::2"), enter("2001:db8:0:2::1")];
        assert_eq!((count("192.0.2.1"), count("192.0.2.2"), count("192.0.2.3")), ((6, 2), (6, 1), (6, 0)));
        assert_eq!((count("2001:db8:0:1::9"), count("2001:db8:0:2::9")), ((6, 2), (6, 1)));
        drop(v4);
        assert_eq!((count("192.0.2.1"), count("2001:db8:0:1::9")), ((3, 0), (3, 2)));
        drop(v6);
        assert!(newcomers.counts().is_empty(), "nothing is kept of those that have been");
    }
}
