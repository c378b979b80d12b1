//! What the loop wants to tell an agent unasked, between the loop, which never waits, and the session's task, which writes as
//! fast as the agent reads.
//!
//! What waits is bounded by what it says, and that is different for each kind: of rosters only the newest counts, so at most
//! one waits. Of one peer's presence there is one notify until it is acknowledged, and one written again takes its place, so
//! there are no more than the agent has subscriptions. Of checks the core has fewer under way than there is room for: an older
//! one that has to go is one that nobody waits for any more.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use pams_shared::frame::{self, Frame, ReportAck};
use tokio::sync::Notify;

use crate::core::Push;

/// Checks that wait to be written.
const CHECKS_MAX: usize = 32;

#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    more: Notify,
    acked: Notify,
    /// Reports taken since an acknowledgement was written last.
    unanswered: AtomicUsize,
    answered: Notify,
}

/// Reports that are taken before an acknowledgement is written, as many as an agent has under way: whoever does not read what
/// we write stops itself.
const UNANSWERED_MAX: usize = 4;

#[derive(Debug, Default)]
struct Waiting {
    /// Replaced by a newer one.
    ack: Option<ReportAck>,
    roster: Option<Frame>,
    servers: Option<Frame>,
    to: Option<Frame>,
    /// The oldest first.
    checks: VecDeque<frame::Check>,
    /// The oldest first, one of each peer.
    notifies: VecDeque<frame::Notify>,
}

impl Outbox {
    /// Puts in what is to be told.
    pub fn put(&self, push: Push) {
        match push {
            Push::Servers(servers) => self.waiting().servers = Some(Frame::Servers(servers)),
            Push::Move(to) => self.waiting().to = Some(Frame::Move(to)),
            Push::Roster(roster) => self.waiting().roster = Some(Frame::Roster(roster)),
            Push::Check(check) => {
                let waiting = &mut self.waiting().checks;
                if waiting.len() >= CHECKS_MAX {
                    waiting.pop_front();
                }
                waiting.push_back(check);
            }
            Push::Notify(notify) => {
                let waiting = &mut self.waiting().notifies;
                match waiting.iter_mut().find(|n| n.news.peer == notify.news.peer) {
                    Some(older) => *older = notify,
                    None => waiting.push_back(notify),
                }
            }
        }
        self.more.notify_one();
    }

    /// Puts in how far reports are acknowledged.
    pub fn ack(&self, ack: ReportAck) {
        self.waiting().ack = Some(ack);
        self.acked.notify_one();
    }

    /// A report was taken; waits while too many were that were not answered.
    pub async fn taken(&self) {
        self.unanswered.fetch_add(1, Relaxed);
        while self.unanswered.load(Relaxed) >= UNANSWERED_MAX {
            self.answered.notified().await;
        }
    }

    /// An acknowledgement was written.
    pub fn written(&self) {
        self.unanswered.store(0, Relaxed);
        self.answered.notify_one();
    }

    /// Waits for the next acknowledgement to write. For one reader at a time.
    pub async fn next_ack(&self) -> ReportAck {
        loop {
            let waiting = self.waiting().ack.take();
            match waiting {
                Some(ack) => return ack,
                None => self.acked.notified().await,
            }
        }
    }

    /// Waits for the next frame to write. For one reader at a time.
    pub async fn next(&self) -> Frame {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<Frame> {
        let mut waiting = self.waiting();
        // Somebody waits for the answer to a check.
        if let Some(check) = waiting.checks.pop_front() {
            return Some(Frame::Check(check));
        }
        let first = waiting.to.take().or_else(|| waiting.servers.take()).or_else(|| waiting.roster.take());
        first.or_else(|| waiting.notifies.pop_front().map(Frame::Notify))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::{
        frame::{Roster, Rostered},
        id::{Correlator, PeerId},
    };

    use super::*;

    #[test]
    fn notifies_wait_in_order_one_of_each_peer() {
        let outbox = Outbox::default();
        let notify = |peer, number| frame::Notify {
            number,
            news: frame::News {
                peer: PeerId::from_bytes([peer; 16]),
                order: Default::default(),
                presence: None,
                liveness: None,
                age_ms: 0,
            },
            correlator: None,
        };
        for (peer, number) in [(1, 1), (2, 1), (1, 2)] {
            outbox.put(Push::Notify(notify(peer, number)));
        }
        let taken: Vec<_> = std::iter::from_fn(|| outbox.take()).collect();
        assert_eq!(taken, [Frame::Notify(notify(1, 2)), Frame::Notify(notify(2, 1))]);
    }

    #[test]
    fn checks_come_first_and_the_oldest_of_too_many_goes() {
        let outbox = Outbox::default();
        let check = |n: u8| {
            let (correlator, peer) = (Correlator::of_uuid([n; 16]), PeerId::from_bytes([n; 16]));
            frame::Check { correlator, peer, within_ms: 1 }
        };
        outbox.put(Push::Roster(roster(1)));
        (0..=CHECKS_MAX as u8).for_each(|n| outbox.put(Push::Check(check(n))));
        for n in 1..=CHECKS_MAX as u8 {
            assert_eq!(outbox.take(), Some(Frame::Check(check(n))));
        }
        assert_eq!(outbox.take(), Some(Frame::Roster(roster(1))));
    }

    fn roster(n: u8) -> Roster {
        Roster { peers: vec![Rostered { peer: PeerId::from_bytes([n; 16]), name: String::new(), addresses: vec![] }] }
    }

    #[tokio::test]
    async fn the_newest_roster_waits_and_each_is_given_once() {
        let outbox = Outbox::default();
        (1..=9).for_each(|n| outbox.put(Push::Roster(roster(n))));
        assert_eq!(outbox.next().await, Frame::Roster(roster(9)));
        let put = async { outbox.put(Push::Roster(roster(10))) };
        let (frame, ()) = tokio::join!(biased_next(&outbox), put);
        assert_eq!(frame, Frame::Roster(roster(10)));
        assert_eq!(outbox.take(), None);
    }

    /// Polled first, so that it waits when the frame is put in.
    async fn biased_next(outbox: &Outbox) -> Frame {
        outbox.next().await
    }
}
