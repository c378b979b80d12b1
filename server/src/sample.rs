//! An engine for tests of what people and Prometheus see: four peers, one of each fate, and a crowd.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{Hello, Profile, Report, View},
    id::{Correlator, PeerId},
    moment::Moment,
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
    status::{Liveness, Presence, Status},
};

use crate::core::{Input, Output, Pams, PamsConfig, SessionId};

/// Wall clock at the start, ms since 1970.
pub const STARTED_MS: u64 = 1_800_000_000_000;
/// Live, busy, in games/chess; watches beta; has transactions.
pub const ALPHA: PeerId = PeerId::from_bytes([0xa1; 16]);
/// Live; has said nothing of itself.
pub const BETA: PeerId = PeerId::from_bytes([0xb2; 16]);
/// Said goodbye.
pub const GAMMA: PeerId = PeerId::from_bytes([0xc3; 16]);
/// Gone; its name is out to hurt.
pub const DELTA: PeerId = PeerId::from_bytes([0xd4; 16]);
pub const DELTA_NAME: &str = "del\"ta\\\n\u{1b}[31m";

pub fn at(ms: u64) -> Moment {
    Moment::new(ms * 1_000_000, STARTED_MS + ms)
}

/// The present of [`pams`]: ten seconds after the start.
pub fn now() -> Moment {
    at(10_000)
}

pub fn pams() -> Pams {
    let mut pams = Pams::new(config(), at(0));
    open(&mut pams, 1, DELTA, DELTA_NAME, &[], at(0));
    tick(&mut pams, at(9_500));
    open(&mut pams, 2, ALPHA, "alpha", &["games/chess"], at(9_500));
    open(&mut pams, 3, BETA, "beta", &["games/go", "eu"], at(9_500));
    open(&mut pams, 4, GAMMA, "gamma", &["games"], at(9_500));
    pams.handle(at(9_600), Input::Report { session: SessionId(2), report: report() });
    pams.handle(at(9_700), Input::Goodbye { session: SessionId(4) });
    pams.handle(now(), Input::Heard { session: SessionId(2) });
    while pams.poll().is_some() {}
    pams
}

/// The list is complete at [`now`].
fn config() -> PamsConfig {
    PamsConfig { sd_grace: Some(Duration::from_secs(9)), ..PamsConfig::default() }
}

/// `n` live peers at [`now`].
pub fn crowd(n: u64) -> Pams {
    let mut pams = Pams::new(config(), at(0));
    for i in 0..n {
        let id = PeerId(uuid::Uuid::from_u64_pair(i, i));
        open(&mut pams, i, id, &format!("p{i}"), &[], at(9_500));
    }
    while pams.poll().is_some() {}
    pams
}

fn open(pams: &mut Pams, session: u64, peer: PeerId, name: &str, overlays: &[&str], now: Moment) {
    let observed: SocketAddr = ([192, 0, 2, peer.as_bytes()[0]], 7421).into();
    let profile = Profile {
        name: name.into(),
        addresses: vec![([0, 0, 0, 0], 7421).into()],
        software: "pams-agent/0.1.0".into(),
        overlays: overlays.iter().map(ToString::to_string).collect(),
        metrics: Some(([0, 0, 0, 0], 7481).into()),
        ..Profile::default()
    };
    let software = profile.software.clone();
    let hello = Hello {
        software,
        epoch: 1,
        capabilities: 0,
        wall_ms: now.wall_ms(),
        attach: 0,
        profile: Some(profile),
        member: None,
    };
    pams.handle(
        now,
        Input::Opened { session: SessionId(session), peer, hello: Box::new(hello), observed, same_host: false },
    );
}

fn tick(pams: &mut Pams, until: Moment) {
    while let Some((due, _)) = pams.deadline().filter(|(due, _)| *due < until) {
        pams.handle(due, Input::Tick);
    }
}

/// Five pings: three good, one aborted, one in flight; two records of them; and a view of beta.
pub fn report() -> Report {
    let ledger = Ledger { opened: 5, good: 3, aborted: 1, in_flight: 1, late: 2, ..Ledger::default() };
    let presence = Presence { status: Status::Busy, note: Some("at lunch".into()), since_ms: STARTED_MS, version: 1 };
    let (liveness, status) = (Some(Liveness::Overdue), Some(Status::Online));
    let view = View { peer: BETA, liveness, status, missed: 1, hears: true, heard: false, dropped: false };
    Report {
        batch: 1,
        totals: vec![(Kind::Ping, ledger)],
        changes: vec![presence],
        views: vec![view],
        records: vec![good(), missed(Reason::NoAnswer)],
        shed: 3,
    }
}

/// An answered ping of 85.1 ms.
pub fn good() -> Record {
    let us = [(Stage::Queued, 200), (Stage::Network, 84_000), (Stage::RemoteHold, 800), (Stage::LocalWait, 100)];
    let mut stages = Stages::default();
    us.into_iter().for_each(|(stage, us)| stages.set(stage, us * 1_000));
    Record {
        kind: Kind::Ping,
        target: BETA.0,
        correlator: Correlator::of_uuid([7; 16]),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: STARTED_MS,
        total_ns: Some(85_100_000),
        stages,
        target_status: Some(Status::Online),
        path_rtt_ns: Some(84_500_000),
    }
}

/// A ping that ended for `reason`.
pub fn missed(reason: Reason) -> Record {
    let nothing =
        Record { total_ns: None, stages: Stages::default(), target_status: None, path_rtt_ns: None, ..good() };
    Record { outcome: reason.outcome(), reason: Some(reason), ..nothing }
}

/// What the engine told of since the last call.
pub fn outputs(pams: &mut Pams) -> Vec<Output> {
    std::iter::from_fn(|| pams.poll()).collect()
}
