//! Who publishes: holds the presence information and turns each ping into a pong that says it, with the time it was held.

use std::{collections::VecDeque, time::Duration};

use crate::{
    frame::{Ping, Pong},
    id::PeerId,
    moment::{Moment, nanos},
    status::{NOTE_BYTES_MAX, Presence, Status},
};

/// Answers waiting when answering is slowed down; beyond, pings go unanswered and are counted by the caller.
const WAITING_MAX: usize = 1_024;

#[derive(Debug)]
pub struct Presentity {
    presence: Presence,
    answer_after: Duration,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    due: Moment,
    to: PeerId,
    ping: Ping,
    arrived: Option<Moment>,
}

/// What becomes of a ping.
#[derive(Debug, PartialEq, Eq)]
pub enum Answering {
    Now(Pong),
    Later,
    /// Too many answers wait; this ping gets none.
    Overrun,
}

/// A pong whose time has come.
pub type Due = (PeerId, Pong);

impl Presentity {
    /// `answer_after` slows every answer down, as a busy application would; zero in ordinary life.
    pub fn new(presence: Presence, answer_after: Duration) -> Self {
        Self { presence, answer_after, waiting: VecDeque::new() }
    }

    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Publishes; `None` if nothing is new. An empty note is none; a longer one is cut at [`NOTE_BYTES_MAX`] bytes.
    pub fn publish(&mut self, now: Moment, status: Status, note: Option<&str>) -> Option<&Presence> {
        let note = note.filter(|n| !n.is_empty()).map(|n| n[..n.floor_char_boundary(NOTE_BYTES_MAX)].to_owned());
        if (status, &note) == (self.presence.status, &self.presence.note) {
            return None;
        }
        let version = self.presence.version + 1;
        self.presence = Presence { status, note, since_ms: now.wall_ms(), version };
        Some(&self.presence)
    }

    /// A ping came from `to` and left the kernel at `arrived`. Every Status answers, offline too: it is the agent that lives.
    pub fn answer(&mut self, now: Moment, to: PeerId, ping: Ping, arrived: Option<Moment>) -> Answering {
        if self.answer_after.is_zero() {
            return Answering::Now(self.pong(now, ping, arrived));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Answering::Overrun;
        }
        self.waiting.push_back(Waiting { due: now + self.answer_after, to, ping, arrived });
        Answering::Later
    }

    /// The next answer whose time has come. Call until `None`.
    pub fn due(&mut self, now: Moment) -> Option<Due> {
        let w = self.waiting.pop_front_if(|w| w.due <= now)?;
        Some((w.to, self.pong(now, w.ping, w.arrived)))
    }

    /// Our host was suspended, which the monotonic clock leaves out: how long the waiting answers were held is not known.
    pub fn suspended(&mut self) {
        self.waiting.iter_mut().for_each(|w| w.arrived = None);
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.waiting.front().map(|w| w.due)
    }

    fn pong(&self, now: Moment, ping: Ping, arrived: Option<Moment>) -> Pong {
        Pong {
            correlator: ping.correlator,
            status: self.presence.status,
            hold_ns: arrived.filter(|a| *a <= now).map(|a| nanos(now.since(a))),
            version: self.presence.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Correlator;

    const B: PeerId = PeerId::from_bytes([2; 16]);

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 1_700_000_000_000 + ms)
    }

    fn ping(n: u8) -> Ping {
        Ping { correlator: Correlator::of_uuid([n; 16]) }
    }

    #[test]
    fn each_change_is_a_version_and_repeating_is_none() {
        let mut p = Presentity::new(Presence::default(), Duration::ZERO);
        assert_eq!(p.publish(at(5), Status::Busy, Some("lunch")).unwrap().version, 1);
        assert!(p.publish(at(6), Status::Busy, Some("lunch")).is_none());
        assert_eq!(p.publish(at(7), Status::Busy, Some("")).unwrap().note, None);
        let long = "ä".repeat(200);
        assert_eq!(p.publish(at(8), Status::Away, Some(&long)).unwrap().note.as_ref().unwrap().len(), 256);
    }

    #[test]
    fn a_pong_says_the_status_and_the_hold_and_offline_answers_too() {
        let presence = Presence { status: Status::Offline, version: 4, ..Presence::default() };
        let mut p = Presentity::new(presence, Duration::ZERO);
        let Answering::Now(pong) = p.answer(at(10), B, ping(1), Some(at(8))) else { panic!("not now") };
        assert_eq!((pong.status, pong.hold_ns, pong.version), (Status::Offline, Some(2_000_000), 4));
        let Answering::Now(pong) = p.answer(at(10), B, ping(1), None) else { panic!("not now") };
        assert_eq!(pong.hold_ns, None);
    }

    #[test]
    fn a_slow_answer_carries_all_of_its_hold() {
        let mut p = Presentity::new(Presence::default(), Duration::from_millis(40));
        assert_eq!(p.answer(at(10), B, ping(1), Some(at(9))), Answering::Later);
        assert_eq!(p.deadline(), Some(at(50)));
        assert!(p.due(at(49)).is_none());
        let (to, pong) = p.due(at(50)).unwrap();
        assert_eq!((to, pong.hold_ns), (B, Some(41_000_000)));
        for n in 0..WAITING_MAX {
            assert_eq!(p.answer(at(60), B, ping(n as u8), None), Answering::Later);
        }
        assert_eq!(p.answer(at(60), B, ping(0), None), Answering::Overrun);
    }

    #[test]
    fn the_hold_of_an_answer_that_waited_through_a_suspension_is_not_known() {
        let mut p = Presentity::new(Presence::default(), Duration::from_millis(40));
        p.answer(at(10), B, ping(1), Some(at(9)));
        p.suspended();
        p.answer(at(10), B, ping(2), Some(at(10)));
        let holds = [1, 2].map(|_| p.due(at(50)).unwrap().1.hold_ns);
        assert_eq!(holds, [None, Some(40_000_000)]);
    }
}
