//! The one queue of events. Events of one moment come in the order in which they were planned, so that a seed gives one run.

use std::{cmp::Ordering, collections::BinaryHeap};

#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Planned<E>>,
    planned: u64,
    happened: u64,
    most: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    /// More events than `most` are no simulation but a storm.
    pub fn new(most: u64) -> Self {
        Self { heap: BinaryHeap::new(), planned: 0, happened: 0, most }
    }

    /// It happens at `at`, ns.
    pub fn plan(&mut self, at: u64, event: E) {
        self.planned += 1;
        self.heap.push(Planned { at, number: self.planned, event });
    }

    /// What happens next, and when.
    ///
    /// # Panics
    /// There is no end of it.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.happened += 1;
        assert!(self.happened <= self.most, "{} events and no end", self.most);
        self.heap.pop().map(|planned| (planned.at, planned.event))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_moment_as_planned() {
        let mut queue = Queue::new(9);
        [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')].into_iter().for_each(|(at, event)| queue.plan(at, event));
        let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(all, [(1, 'a'), (1, 'b'), (5, 'c'), (5, 'd')]);
    }

    #[test]
    #[should_panic(expected = "3 events and no end")]
    fn a_storm_is_not_played_for_ever() {
        let mut queue = Queue::new(3);
        queue.plan(0, ());
        while let Some((at, ())) = queue.pop() {
            queue.plan(at + 1, ());
        }
    }
}
