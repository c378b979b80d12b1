//! Which callers are let in now, and which wait for a place: when a server is lost its agents all call at once, and who waits is let
//! in as soon as there is room, at the pace that this server has, where one that was refused would be back after a pause.
//!
//! A host may hold as many places as are free (dynamic thresholds; Choudhury and Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", 1998). So one that is alone, be it a site of a thousand agents behind one address, gets half of all,
//! and however many places some take, there are others left.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use tokio::time::Instant;

use super::{
    door::Limits,
    newcomers::{Count, Newcomer, Newcomers},
};

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Has to show that its address is its own.
    Retry,
    Wait,
    Refuse,
}

pub fn judge(limits: &Limits, newcomers: Count, connections: usize, proven: bool) -> Verdict {
    let Count { all, same_source } = newcomers;
    let fair = fair(limits, limits.newcomers, all);
    if connections >= limits.connections {
        Verdict::Refuse
    } else if !proven && (all >= limits.newcomers_unproven || same_source * 2 >= fair) {
        Verdict::Retry
    } else if all >= limits.newcomers || same_source >= fair {
        Verdict::Wait
    } else {
        Verdict::Take
    }
}

/// How many of these places one host may hold.
fn fair(limits: &Limits, places: usize, taken: usize) -> usize {
    places.saturating_sub(taken).max(limits.newcomers_per_source)
}

/// Callers that wait, the oldest first. Their addresses are their own.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    waiting: VecDeque<Waiting<T>>,
    counts: Arc<Newcomers>,
}

#[derive(Debug)]
struct Waiting<T> {
    from: IpAddr,
    until: Instant,
    call: T,
    _counted: Newcomer,
}

impl<T> Queue<T> {
    pub fn new(limits: Limits) -> Self {
        Self { limits, waiting: VecDeque::new(), counts: Arc::default() }
    }

    /// Puts in a caller; gives it back where it can't even wait.
    pub fn put(&mut self, now: Instant, from: IpAddr, call: T) -> Result<(), T> {
        let Count { all, same_source } = self.counts.count(from);
        if all >= self.limits.waiting || same_source >= fair(&self.limits, self.limits.waiting, all) {
            return Err(call);
        }
        let until = now + self.limits.waiting_for;
        self.waiting.push_back(Waiting { from, until, call, _counted: self.counts.enter(from) });
        Ok(())
    }

    /// The next that there is a place for: the oldest whose host does not hold its part already.
    pub fn next(&mut self, newcomers: &Newcomers) -> Option<T> {
        let mut full = Vec::new();
        for n in 0..self.waiting.len() {
            let from = self.waiting[n].from;
            if full.contains(&from) {
                continue;
            }
            let count = newcomers.count(from);
            if count.all >= self.limits.newcomers {
                return None;
            }
            if count.same_source < fair(&self.limits, self.limits.newcomers, count.all) {
                return self.waiting.remove(n).map(|waiting| waiting.call);
            }
            // Asked once for each host, of which few hold their part: the more there are, the less they have.
            full.push(from);
        }
        None
    }

    /// Those that have waited for too long.
    pub fn overdue(&mut self, now: Instant) -> impl Iterator<Item = T> {
        let over = self.waiting.partition_point(|waiting| waiting.until <= now);
        self.waiting.drain(..over).map(|waiting| waiting.call)
    }

    /// When the next one has.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn under_load_addresses_are_proven_first_and_then_callers_wait() {
        let limits = Limits::of_peers(1_000);
        let judge = |all, connections, proven| judge(&limits, Count { all, same_source: 0 }, connections, proven);
        assert_eq!(judge(127, 0, false), Verdict::Take);
        assert_eq!(judge(128, 0, false), Verdict::Retry);
        assert_eq!(judge(128, 0, true), Verdict::Take);
        assert_eq!(judge(256, 0, true), Verdict::Wait);
        assert_eq!(judge(256, 0, false), Verdict::Retry, "only who is where it says waits");
        assert_eq!(judge(0, 1_255, false), Verdict::Take);
        assert_eq!(judge(0, 1_256, true), Verdict::Refuse);
    }

    #[test]
    fn a_lone_host_gets_half_of_the_places_and_its_part_when_others_come() {
        let limits = Limits::of_peers(1_000);
        let judge =
            |same_source, others, proven| judge(&limits, Count { all: same_source + others, same_source }, 0, proven);
        assert_eq!((judge(84, 0, false), judge(86, 0, false)), (Verdict::Take, Verdict::Retry));
        assert_eq!((judge(127, 0, true), judge(128, 0, true)), (Verdict::Take, Verdict::Wait));
        // The next one finds places however many the first has, and so on.
        assert_eq!((judge(63, 128, true), judge(64, 128, true)), (Verdict::Take, Verdict::Wait));
        assert_eq!((judge(15, 235, true), judge(16, 235, true)), (Verdict::Take, Verdict::Wait));
    }

    #[test]
    fn who_waits_is_let_in_in_turn_or_told_in_time() {
        let limits = Limits { newcomers: 4, newcomers_per_source: 1, waiting: 4, ..Limits::of_peers(1_000) };
        let (mut queue, newcomers, now) = (Queue::new(limits), Arc::new(Newcomers::default()), Instant::now());
        let mut inside: Vec<_> = (0..2).map(|_| newcomers.enter(source(1))).collect();
        for n in 0..2 {
            assert_eq!(queue.put(now, source(1), n), Ok(()));
        }
        assert_eq!(queue.put(now, source(1), 2), Err(2), "a host alone gets half of the queue");
        assert_eq!(queue.put(now, source(2), 3), Ok(()));
        assert_eq!(queue.next(&newcomers), Some(3), "the first host has its part");
        inside.push(newcomers.enter(source(2)));
        assert_eq!(queue.next(&newcomers), None);
        inside.remove(0);
        assert_eq!((queue.next(&newcomers), queue.deadline()), (Some(0), Some(now + limits.waiting_for)));
        let late = now + limits.waiting_for;
        assert_eq!(queue.overdue(late - Duration::from_millis(1)).count(), 0);
        assert_eq!((queue.overdue(late).collect::<Vec<_>>(), queue.deadline()), (vec![1], None));
        assert_eq!(queue.counts.count(source(1)), Count { all: 0, same_source: 0 });
    }
}
