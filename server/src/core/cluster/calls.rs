//! Whom to call and when, so that each server has a connection with each other, and a server that is alone finds the others.
//!
//! Of two servers the one with the smaller id calls first, the other when that has not come about after a while. Failed calls
//! are tried again, soon at first and then with pauses that grow, for ever: this is what heals a cut. Seeds are called soon
//! while there is no connection at all, and now and then for ever, for what a name stands for changes: so two halves that know
//! nothing of each other meet, and a server that moved is found.

use std::{collections::BTreeMap, time::Duration};

use pams_shared::{id::ServerId, moment::Moment};

use super::io::Target;

/// How much later the greater id calls.
const COURTESY: Duration = Duration::from_millis(700);
/// First and last pause after a call that failed.
const PAUSE_FIRST: Duration = Duration::from_millis(300);
const PAUSE_LAST: Duration = Duration::from_secs(3);
/// A server that is lost is called again so soon for so many times, some minutes: so long most cuts last, and all are to be
/// equal again within a second of its end.
const SOON: u32 = 200;
/// How long a call to a server may take: the packets that open it are sent again after 0.3 and 0.9 s, and what is sent later than
/// that is better sent by a new call. One call of some is given the time that a way of seconds needs.
const PATIENCE: Duration = Duration::from_millis(1_200);
const PATIENCE_FAR: Duration = Duration::from_secs(5);
const FAR_EACH: u32 = 8;
/// Between calls to seeds while there are connections. Whoever was split off is called by itself all the time, and whoever is
/// left alone calls its seeds at once: only those that never knew each other wait so long.
const SEED_PAUSE: Duration = Duration::from_secs(30);
/// How long a call may take; the shell gives up before.
const CALL_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Call {
    at: Moment,
    tries: u32,
    under_way: bool,
}

#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<Target, Call>);

impl Calls {
    pub fn seeds(n: usize, now: Moment) -> Self {
        let call = |i| (Target::Seed(i), Call { at: now, tries: 0, under_way: false });
        Self((0..n).map(call).collect())
    }

    /// A server is known that we should have a connection with.
    pub fn want(&mut self, now: Moment, me: ServerId, server: ServerId) {
        let at = if me < server { now } else { now + COURTESY };
        self.0.entry(Target::Server(server)).or_insert(Call { at, tries: 0, under_way: false });
    }

    /// The server is known no more.
    pub fn drop(&mut self, server: ServerId) {
        self.0.remove(&Target::Server(server));
    }

    /// Its connection has ended, so that it is to be called again.
    pub fn lost(&mut self, now: Moment, me: ServerId, server: ServerId) {
        self.want(now, me, server);
        if let Some(call) = self.0.get_mut(&Target::Server(server)) {
            let pause = if me < server { PAUSE_FIRST } else { COURTESY };
            (call.at, call.tries) = (now + pause, 0);
        }
    }

    /// The last connection has ended: the seeds may lead to somebody who is not known, or has moved.
    pub fn alone(&mut self, now: Moment) {
        let seeds = self.0.iter_mut().filter(|(target, _)| matches!(target, Target::Seed(_)));
        for (_, call) in seeds {
            (call.at, call.tries) = (call.at.min(now + PAUSE_FIRST), 0);
        }
    }

    /// A call has ended, with a connection or without.
    pub fn ended(&mut self, now: Moment, target: Target, reached: bool, alone: bool) {
        let Some(call) = self.0.get_mut(&target) else { return };
        call.under_way = false;
        call.tries = if reached { 0 } else { call.tries.saturating_add(1) };
        call.at = now
            + match target {
                Target::Seed(_) if !alone => SEED_PAUSE,
                Target::Server(_) => pause(call.tries.saturating_sub(SOON)),
                Target::Seed(_) => pause(call.tries),
            };
    }

    /// The next whose time has come, of those for which `wanted` holds; it is under way then. The others are looked at again
    /// when something changes.
    pub fn next(&mut self, now: Moment, wanted: impl Fn(Target) -> bool) -> Option<Target> {
        let due = |call: &Call| !call.under_way && call.at <= now;
        let (target, call) = self.0.iter_mut().find(|(target, call)| due(call) && wanted(**target))?;
        call.under_way = true;
        call.at = now + CALL_MAX;
        Some(*target)
    }

    /// How long the call that is under way may take.
    pub fn patience(&self, target: Target) -> Duration {
        let tries = self.0.get(&target).map_or(0, |call| call.tries);
        match target {
            Target::Server(_) if !tries.is_multiple_of(FAR_EACH) => PATIENCE,
            _ => PATIENCE_FAR,
        }
    }

    /// When the next of those for which `wanted` holds is due.
    pub fn deadline(&self, wanted: impl Fn(Target) -> bool) -> Option<Moment> {
        self.0.iter().filter(|(target, call)| !call.under_way && wanted(**target)).map(|(_, call)| call.at).min()
    }
}

fn pause(tries: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(PAUSE_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u8) -> ServerId {
        ServerId::from_bytes([n; 16])
    }

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    #[test]
    fn the_smaller_id_calls_first_and_failed_calls_come_again_with_growing_pauses() {
        let all = |_: Target| true;
        let (mut small, mut great) = (Calls::default(), Calls::default());
        small.want(at(0), id(1), id(2));
        great.want(at(0), id(2), id(1));
        assert_eq!(small.next(at(0), all), Some(Target::Server(id(2))));
        assert_eq!((small.next(at(0), all), great.next(at(0), all)), (None, None));
        assert_eq!(great.deadline(all), Some(at(700)));
        let mut now = at(0);
        let mut pauses = Vec::new();
        assert_eq!(small.patience(Target::Server(id(2))), PATIENCE_FAR);
        for tries in 1..=SOON {
            small.ended(now, Target::Server(id(2)), false, true);
            let next = small.deadline(all).unwrap();
            assert_eq!(next.since(now), PAUSE_FIRST);
            now = next;
            assert!(small.next(now, all).is_some());
            assert_eq!(small.patience(Target::Server(id(2))) == PATIENCE_FAR, tries % FAR_EACH == 0);
        }
        for _ in 0..6 {
            small.ended(now, Target::Server(id(2)), false, true);
            let next = small.deadline(all).unwrap();
            pauses.push(next.since(now).as_millis());
            now = next;
            assert!(small.next(now, all).is_some());
        }
        assert_eq!(pauses, [300, 600, 1_200, 2_400, 3_000, 3_000]);
    }

    #[test]
    fn seeds_are_called_often_only_while_there_is_no_connection() {
        let all = |_: Target| true;
        let mut calls = Calls::seeds(1, at(0));
        assert_eq!(calls.next(at(0), all), Some(Target::Seed(0)));
        calls.ended(at(0), Target::Seed(0), false, true);
        assert_eq!(calls.deadline(all), Some(at(300)));
        assert_eq!(calls.next(at(300), all), Some(Target::Seed(0)));
        calls.ended(at(400), Target::Seed(0), true, false);
        assert_eq!(calls.deadline(all), Some(at(30_400)));
        assert_eq!(calls.next(at(30_400), all), Some(Target::Seed(0)));
        calls.ended(at(30_500), Target::Seed(0), false, false);
        assert_eq!(calls.deadline(all), Some(at(60_500)), "what it stands for may change");
        calls.alone(at(40_000));
        assert_eq!(calls.deadline(all), Some(at(40_300)), "whoever is left alone does not wait");
        calls.alone(at(40_200));
        assert_eq!(calls.deadline(all), Some(at(40_300)));
    }
}
