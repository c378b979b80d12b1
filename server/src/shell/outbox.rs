//! What the loop wants to tell an agent unasked, between the loop, which never waits, and the session's task, which writes as
//! fast as the agent reads.
//!
//! What waits is bounded by what it says, and that is different for each kind: of rosters only the newest counts, so at most
//! one waits. What must not be left out (notifications) needs a queue of its own here, with a bound and a count of what is shed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pams_shared::frame::Frame;
use tokio::sync::Notify;

use crate::core::Push;

#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Replaced by a newer one.
    roster: Option<Frame>,
}

impl Outbox {
    /// Puts in what is to be told.
    pub fn put(&self, push: Push) {
        match push {
            Push::Roster(roster) => self.waiting().roster = Some(Frame::Roster(roster)),
        }
        self.more.notify_one();
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
        self.waiting().roster.take()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::{
        frame::{Roster, Rostered},
        id::PeerId,
    };

    use super::*;

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
