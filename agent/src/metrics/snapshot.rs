//! The half of a scrape that is written from a snapshot: ledgers, buddies, presence, home, socket, process.

use std::time::Duration;

use pams_shared::{
    catalogue::Metric,
    expo::{Expo, Number},
    presence::{Leg, Path, Standing},
    process::{self, Families},
    record::{Ledger, Outcome, Stage},
    status::{Liveness, Status},
};

use super::{Extras, catalogue as c};
use crate::core::{BuddyView, SubscriptionView, View};

pub(super) fn write(view: &View, extras: &Extras, per_peer_max: usize) -> Expo {
    let mut expo = Expo::new();
    ledgers(&mut expo, view);
    buddies(&mut expo, view);
    single_buddies(&mut expo, &view.buddies, per_peer_max);
    subscriptions(&mut expo, view);
    home(&mut expo, view, extras);
    csv(&mut expo, extras);
    traffic(&mut expo, extras);
    program(&mut expo, extras);
    expo
}

fn ledgers(expo: &mut Expo, view: &View) {
    by_kind(expo, &c::OPENED, view, |l| l.opened);
    let mut closed = expo.family(&c::CLOSED);
    for l in &view.ledgers {
        for outcome in Outcome::ALL {
            closed.sample(&[l.kind.as_str(), outcome.as_str()], l.ledger.closed(outcome));
        }
    }
    by_kind(expo, &c::IN_FLIGHT, view, |l| l.in_flight);
    by_kind(expo, &c::LATE, view, |l| l.late);
    by_kind(expo, &c::DUPLICATE, view, |l| l.duplicate);
}

fn by_kind(expo: &mut Expo, metric: &'static Metric, view: &View, of: fn(&Ledger) -> u64) {
    let mut family = expo.family(metric);
    for l in &view.ledgers {
        family.sample(&[l.kind.as_str()], of(&l.ledger));
    }
}

fn buddies(expo: &mut Expo, view: &View) {
    let count = |liveness| view.buddies.iter().filter(|b| b.liveness == liveness).count();
    let mut family = expo.family(&c::BUDDIES);
    for liveness in Liveness::ALL {
        family.sample(&[liveness.as_str()], count(Some(liveness)));
    }
    family.sample(&["unknown"], count(None));
    expo.family(&c::CONNECTIONS).sample(&[], view.links);
}

/// What is shown of one buddy. Times only while it answers: nobody out of reach has a latency.
struct Single<'a> {
    peer: String,
    name: &'a str,
    up: Option<bool>,
    rtt: Option<Duration>,
    stages: Vec<(Stage, Duration)>,
    path_rtt: Option<Duration>,
    clock_offset_s: Option<f64>,
}

impl<'a> Single<'a> {
    fn new(buddy: &'a BuddyView) -> Self {
        let last = buddy.last.as_ref().filter(|_| buddy.is_heard);
        let stages = last.map(|r| r.stages.iter().map(|(s, ns)| (s, Duration::from_nanos(ns))).collect());
        Self {
            peer: buddy.peer.to_string(),
            name: buddy.name.as_deref().unwrap_or_default(),
            up: buddy.liveness.map(|l| l == Liveness::Live),
            rtt: last.and_then(|r| r.total_ns).map(Duration::from_nanos),
            stages: stages.unwrap_or_default(),
            path_rtt: last.and_then(|r| r.path_rtt_ns).map(Duration::from_nanos),
            clock_offset_s: buddy.clock_offset_ms.filter(|_| buddy.connected).map(seconds),
        }
    }

    fn series(&self) -> usize {
        let one = |is: bool| usize::from(is);
        let times = one(self.rtt.is_some()) + self.stages.len() + one(self.path_rtt.is_some());
        one(self.up.is_some()) + times + one(self.clock_offset_s.is_some())
    }
}

/// The first buddies in the order of their ids, so that it is always the same ones that are shown.
fn single_buddies(expo: &mut Expo, buddies: &[BuddyView], per_peer_max: usize) {
    let (shown, rest) = buddies.split_at(per_peer_max.min(buddies.len()));
    let shown: Vec<Single<'_>> = shown.iter().map(Single::new).collect();
    by_buddy(expo, &c::BUDDY_UP, &shown, |b| b.up);
    by_buddy(expo, &c::BUDDY_RTT, &shown, |b| b.rtt);
    let mut stage = expo.family(&c::BUDDY_STAGE);
    for b in &shown {
        for (s, d) in &b.stages {
            stage.sample(&[&b.peer, b.name, s.as_str()], *d);
        }
    }
    by_buddy(expo, &c::BUDDY_PATH_RTT, &shown, |b| b.path_rtt);
    by_buddy(expo, &c::BUDDY_CLOCK_OFFSET, &shown, |b| b.clock_offset_s);
    let dropped: usize = rest.iter().map(|b| Single::new(b).series()).sum();
    expo.family(&c::DROPPED_SERIES).sample(&[], dropped);
}

fn by_buddy<N: Number>(
    expo: &mut Expo,
    metric: &'static Metric,
    shown: &[Single<'_>],
    of: impl Fn(&Single<'_>) -> Option<N>,
) {
    let mut family = expo.family(metric);
    for b in shown {
        if let Some(value) = of(b) {
            family.sample(&[&b.peer, b.name], value);
        }
    }
}

fn subscriptions(expo: &mut Expo, view: &View) {
    let mut family = expo.family(&c::SUBSCRIPTIONS);
    for path in Path::ALL {
        let leg = |s: &SubscriptionView| if path == Path::Peer { s.by_peer.state } else { s.by_home.state };
        for state in Leg::NAMES {
            let count = view.subscriptions.iter().filter(|s| leg(s) == state).count();
            family.sample(&[path.as_str(), state], count);
        }
    }
    let mut family = expo.family(&c::SUBSCRIBERS);
    for state in Standing::ALL.map(Standing::as_str) {
        family.sample(&[state], view.subscribers.iter().filter(|s| s.state == state).count());
    }
}

fn home(expo: &mut Expo, view: &View, extras: &Extras) {
    let mut status = expo.family(&c::STATUS);
    for s in Status::ALL {
        status.sample(&[s.as_str()], view.presence.status == s);
    }
    let home = &view.home;
    expo.family(&c::HOME_CONNECTED).sample(&[], home.connected);
    let mut offset = expo.family(&c::HOME_CLOCK_OFFSET);
    if let Some(ms) = home.clock_offset_ms {
        offset.sample(&[], seconds(ms));
    }
    expo.family(&c::BACKLOG).sample(&[], home.backlog);
    expo.family(&c::SHED).sample(&[], home.shed);
    let mut expiry = expo.family(&c::CERTIFICATE_EXPIRY);
    if let Some(s) = extras.certificate_expires {
        expiry.sample(&[], s);
    }
}

fn csv(expo: &mut Expo, extras: &Extras) {
    let mut written = expo.family(&c::CSV_WRITTEN);
    if let Some(csv) = extras.csv {
        written.sample(&[], csv.written);
    }
    let mut failing = expo.family(&c::CSV_FAILING);
    if let Some(csv) = extras.csv {
        failing.sample(&[], csv.failing);
    }
}

fn traffic(expo: &mut Expo, extras: &Extras) {
    let t = &extras.traffic;
    expo.family(&c::UDP_PACKETS).sample(&["sent"], t.packets_sent).sample(&["received"], t.packets_received);
    expo.family(&c::UDP_BYTES).sample(&["sent"], t.bytes_sent).sample(&["received"], t.bytes_received);
    expo.family(&c::UDP_ERRORS).sample(&[], t.send_errors);
    expo.family(&c::UDP_DROPPED).sample(&[], t.dropped_by_kernel);
    expo.family(&c::STAMPS_SHED).sample(&[], t.stamps_shed);
}

fn program(expo: &mut Expo, extras: &Extras) {
    expo.family(&c::RELOADED).sample(&[], extras.reload_successful);
    expo.family(&c::RELOADED_AT).sample(&[], extras.reload_success_ms as f64 / 1e3);
    let families = Families { build: &c::BUILD, start: &c::START, cpu: &c::CPU, resident: &c::RSS };
    process::write(expo, families, env!("CARGO_PKG_VERSION"), extras.started_ms);
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}
