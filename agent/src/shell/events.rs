//! Whoever listens to what subscriptions tell: clients of the control socket, and applications that carry the agent as a
//! library. Each has a queue of its own with a bound; the loop never waits for one, and tells a slow one how many it missed.

use pams_shared::id::PeerId;
use tokio::sync::mpsc;

use crate::core::Told;

/// Listeners at once.
pub const LISTENERS_MAX: usize = 32;
/// What waits for one listener.
const WAITING_MAX: usize = 256;

/// What a listener gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Told(Told),
    /// So many were told here and did not fit the queue; [`Handle::view`](super::handle::Handle::view) has the present state.
    Missed(u64),
}

/// One listener's end. It ends with the agent.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Heard>);

impl Events {
    /// The next one; `None` when the agent has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        self.0.recv().await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Heard>> {
        self.0.poll_recv(cx)
    }
}

/// The loop's end of all of them.
#[derive(Debug, Default)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    queue: mpsc::Sender<Heard>,
    /// `None`: to all of them.
    peer: Option<PeerId>,
    missed: u64,
}

impl Listeners {
    /// One more listener; `None`: there are too many.
    pub fn add(&mut self, peer: Option<PeerId>) -> Option<Events> {
        self.0.retain(|l| !l.queue.is_closed());
        if self.0.len() >= LISTENERS_MAX {
            return None;
        }
        let (queue, events) = mpsc::channel(WAITING_MAX);
        self.0.push(Listener { queue, peer, missed: 0 });
        Some(Events(events))
    }

    /// Passes on; tells how many listeners missed it.
    pub fn tell(&mut self, told: &Told) -> u64 {
        let mut missed = 0;
        for listener in self.0.iter_mut().filter(|l| l.peer.is_none_or(|p| p == told.peer)) {
            listener.catch_up();
            if listener.missed > 0 || listener.queue.try_send(Heard::Told(told.clone())).is_err() {
                listener.missed += 1;
                missed += u64::from(!listener.queue.is_closed());
            }
        }
        missed
    }

    /// Tells those that are slow what they missed, if there is room by now, and forgets those that are gone. Now and then.
    pub fn upkeep(&mut self) {
        self.0.retain(|l| !l.queue.is_closed());
        self.0.iter_mut().for_each(Listener::catch_up);
    }
}

impl Listener {
    fn catch_up(&mut self) {
        if self.missed > 0 && self.queue.try_send(Heard::Missed(self.missed)).is_ok() {
            self.missed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Teller;

    fn told(n: u8) -> Told {
        let peer = PeerId::from_bytes([n; 16]);
        Told {
            peer,
            name: None,
            at_ms: 0,
            by: Teller::Peer,
            presence: None,
            epoch: None,
            liveness: None,
            age_ms: None,
            skipped: 0,
        }
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_what_it_missed_and_others_miss_nothing() {
        let mut listeners = Listeners::default();
        let (mut slow, mut other) = (listeners.add(None).unwrap(), listeners.add(Some(told(2).peer)).unwrap());
        let missed: u64 = (0..WAITING_MAX + 3).map(|_| listeners.tell(&told(1))).sum();
        assert_eq!(missed, 3);
        assert_eq!(listeners.tell(&told(2)), 1);
        assert_eq!(other.next().await, Some(Heard::Told(told(2))));
        listeners.upkeep();
        for _ in 0..WAITING_MAX {
            assert_eq!(slow.next().await, Some(Heard::Told(told(1))));
        }
        listeners.upkeep();
        assert_eq!(slow.next().await, Some(Heard::Missed(4)));
        assert_eq!(listeners.tell(&told(1)), 0);
        drop((slow, other));
        let kept: Vec<_> = (0..LISTENERS_MAX).map(|_| listeners.add(None).unwrap()).collect();
        assert!(listeners.add(None).is_none());
        drop(kept);
        assert!(listeners.add(None).is_some());
    }
}
