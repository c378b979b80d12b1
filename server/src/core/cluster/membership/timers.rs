//! What the engine beneath wants to be reminded of, in an order of our own: it can be put off when we did not run, and
//! brought forward when nothing is left to wait for.

use std::{collections::BTreeMap, time::Duration};

use foca::Timer;
use pams_shared::moment::Moment;

use super::{config::MembershipConfig, identity::Identity};

#[derive(Debug)]
struct Reminder {
    timer: Timer<Identity>,
    /// Has been put off once because we were late: the next time it counts, or a slow host would judge nobody ever.
    excused: bool,
}

/// Reminders by when they are due, then by when they were asked for. Of each kind there is one, or one for each member: what the
/// engine asks for anew makes the older one void.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Moment, u64), Reminder>,
    asked: u64,
}

impl Timers {
    pub(super) fn push(&mut self, due: Moment, timer: Timer<Identity>) {
        // Failed again while it is suspect: the time to object runs on.
        let is_suspicion = matches!(timer, Timer::ChangeSuspectToDown { .. });
        if is_suspicion && self.queue.values().any(|r| r.timer == timer) {
            return;
        }
        self.queue.retain(|_, r| !replaces(&timer, &r.timer));
        self.insert(due, Reminder { timer, excused: false });
    }

    fn insert(&mut self, due: Moment, reminder: Reminder) {
        self.asked += 1;
        self.queue.insert((due, self.asked), reminder);
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.queue.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the first that is due.
    pub(super) fn due(&mut self, now: Moment) -> Option<Timer<Identity>> {
        self.queue.first_entry().filter(|first| first.key().0 <= now).map(|first| first.remove().timer)
    }

    /// How late we are with what judges others, if that has not been excused.
    pub(super) fn late(&self, now: Moment) -> Option<Duration> {
        let mut reminders = self.queue.iter().take_while(|((due, _), _)| *due <= now);
        reminders.find(|(_, r)| judges(&r.timer) && !r.excused).map(|((due, _), _)| now.since(*due))
    }

    /// Begins the waiting for others anew: what they said meanwhile is still to be read. `all`, or only what was not excused.
    pub(super) fn excuse(&mut self, now: Moment, config: &MembershipConfig, all: bool) {
        let of = |r: &Reminder| judges(&r.timer) && (all || !r.excused);
        let excused: Vec<_> = self.queue.extract_if(.., |_, r| of(r)).collect();
        for (_, Reminder { timer, .. }) in excused {
            let wait = match timer {
                Timer::SendIndirectProbe { .. } => config.probe_rtt,
                Timer::ChangeSuspectToDown { .. } => config.suspect_for,
                _ => config.probe_period,
            };
            self.insert(now + wait, Reminder { timer, excused: true });
        }
    }

    /// The probe under way is answered: its second step is done with, and the next may begin at `next`.
    pub(super) fn answered(&mut self, now: Moment, next: Moment) {
        self.forward(now, |t| matches!(t, Timer::SendIndirectProbe { .. }));
        self.forward(next.max(now), |t| matches!(t, Timer::ProbeRandomMember(_)));
    }

    /// Brings the first such reminder forward to `due`.
    fn forward(&mut self, due: Moment, which: impl Fn(&Timer<Identity>) -> bool) {
        let Some(key) = self.queue.iter().find(|(_, r)| which(&r.timer)).map(|(key, _)| *key) else { return };
        if due < key.0
            && let Some(reminder) = self.queue.remove(&key)
        {
            self.insert(due, reminder);
        }
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Whether something is concluded from silence when this is due.
fn judges(timer: &Timer<Identity>) -> bool {
    matches!(timer, Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } | Timer::ChangeSuspectToDown { .. })
}

fn replaces(new: &Timer<Identity>, old: &Timer<Identity>) -> bool {
    match (new, old) {
        (Timer::RemoveDown(a), Timer::RemoveDown(b)) => a.id == b.id,
        (Timer::ChangeSuspectToDown { member_id: a, .. }, Timer::ChangeSuspectToDown { member_id: b, .. }) => {
            a.id == b.id
        }
        _ => std::mem::discriminant(new) == std::mem::discriminant(old),
    }
}
