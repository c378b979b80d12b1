//! A bounded queue from the loop, which never waits, to a thread that may. The thread takes all there is at once, a moment
//! after the first came, so that it wakes once for many.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Full;

/// Room kept for the next after all was taken; what an outage needed beyond that is given back.
const KEPT: usize = 1_024;

#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    /// Rung for the first item, when it is half full, and at the end.
    bell: Condvar,
    max: usize,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// Of `max` items at most, at least 1.
    pub fn new(max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner { items: VecDeque::new(), closed: false }),
            bell: Condvar::new(),
            max: max.max(1),
        }
    }

    /// Takes an item unless it is full or closed. The lock is held by nobody for longer than it takes to swap two queues.
    pub fn push(&self, item: T) -> Result<(), Full> {
        let mut inner = self.lock();
        if inner.closed || inner.items.len() >= self.max {
            return Err(Full);
        }
        inner.items.push_back(item);
        let len = inner.items.len();
        drop(inner);
        if len == 1 || len == self.half() {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Waits for a first item, then for `linger`, half a queue or the end; moves all items to `into`, which is empty.
    /// `false`: closed, and nothing is left.
    pub fn take(&self, linger: Duration, into: &mut VecDeque<T>) -> bool {
        if into.capacity() > 4 * KEPT {
            into.shrink_to(KEPT);
        }
        let inner = self.lock();
        let inner = self.bell.wait_while(inner, |q| q.items.is_empty() && !q.closed);
        let inner = inner.unwrap_or_else(PoisonError::into_inner);
        let lingered = self.bell.wait_timeout_while(inner, linger, |q| q.items.len() < self.half() && !q.closed);
        let (mut inner, _) = lingered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut inner.items, into);
        !into.is_empty()
    }

    /// Waits for `pause`, but no longer than until it is closed; says whether it is.
    pub fn pause(&self, pause: Duration) -> bool {
        let waited = self.bell.wait_timeout_while(self.lock(), pause, |q| !q.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Nothing more is taken. What is there can still be taken out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn half(&self) -> usize {
        self.max.div_ceil(2)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_all_there_is_in_order_and_takes_no_more_than_its_bound() {
        let queue = Queue::new(4);
        let pushed: Vec<bool> = (0..6).map(|n| queue.push(n).is_ok()).collect();
        assert_eq!(pushed, [true, true, true, true, false, false]);
        let mut taken = VecDeque::new();
        assert!(queue.take(Duration::MAX, &mut taken), "half full: it does not linger");
        assert_eq!(taken, [0, 1, 2, 3]);
        taken.clear();
        assert_eq!(queue.push(7), Ok(()));
        queue.close();
        assert_eq!(queue.push(8), Err(Full));
        assert!(queue.take(Duration::MAX, &mut taken));
        assert_eq!((taken.len(), queue.len(), queue.pause(Duration::MAX)), (1, 0, true));
        taken.clear();
        assert!(!queue.take(Duration::MAX, &mut taken));
    }

    #[test]
    fn whoever_waits_is_woken_by_the_first_and_by_the_end() {
        let queue = Queue::new(2);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let (mut taken, mut all) = (VecDeque::new(), Vec::new());
                while queue.take(Duration::ZERO, &mut taken) {
                    all.extend(taken.drain(..));
                }
                all
            });
            let mut n = 0;
            while n < 1_000 {
                match queue.push(n) {
                    Ok(()) => n += 1,
                    Err(Full) => std::thread::yield_now(),
                }
            }
            queue.close();
            assert_eq!(taker.join().unwrap(), (0..1_000).collect::<Vec<_>>());
        });
    }

    #[test]
    fn room_for_an_outage_is_given_back() {
        let queue = Queue::new(100_000);
        (0..100_000).for_each(|n| queue.push(n).unwrap());
        let mut taken = VecDeque::new();
        queue.take(Duration::ZERO, &mut taken);
        assert!(taken.capacity() >= 100_000);
        taken.clear();
        queue.push(1).unwrap();
        queue.take(Duration::ZERO, &mut taken);
        assert!(queue.lock().items.capacity() < 10_000);
    }
}
