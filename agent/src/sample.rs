//! A view for tests of what people and Prometheus see: four buddies, one of each fate.

use pams_shared::{
    frame::{Entry, Profile},
    id::{Correlator, Order, PeerId, ServerId},
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages, Why},
    status::{Liveness, Presence, Status},
};

use crate::core::{
    BuddyView, HomeView, LedgerView, LegView, Origin, SubscriberView, SubscriptionView, Teller, Told, View,
    choice::Because,
};

pub const ME: PeerId = PeerId::from_bytes([0xa1; 16]);

pub fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 16])
}

/// An answered ping of 85.1 ms.
pub fn record(target: PeerId) -> Record {
    let mut stages = Stages::default();
    for (stage, us) in
        [(Stage::Queued, 200), (Stage::Network, 84_000), (Stage::RemoteHold, 800), (Stage::LocalWait, 100)]
    {
        stages.set(stage, us * 1_000);
    }
    Record {
        kind: Kind::Ping,
        target: target.0,
        correlator: Correlator::of_uuid([7; 16]),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: 1_700_000_000_000,
        total_ns: Some(85_100_000),
        stages,
        target_status: Some(Status::Busy),
        path_rtt_ns: Some(84_500_000),
    }
}

/// A ping that ended for `reason`.
pub fn missed(target: PeerId, reason: Reason) -> Record {
    Record {
        outcome: reason.outcome(),
        reason: Some(reason),
        total_ns: None,
        stages: Stages::default(),
        target_status: None,
        path_rtt_ns: None,
        ..record(target)
    }
}

pub fn buddy(n: u8, liveness: Option<Liveness>) -> BuddyView {
    let live = liveness == Some(Liveness::Live);
    BuddyView {
        peer: peer(n),
        name: Some(format!("b{n}")),
        origin: Origin::Config,
        addresses: vec![format!("192.0.2.{n}:7421")],
        connected: live,
        liveness,
        liveness_s: 3_725.4,
        status: liveness.map(|_| Status::Busy),
        missed: if live { 0 } else { 3 },
        hears: live,
        is_heard: live,
        heard_s: Some(1.5),
        why: (!live).then(|| Why::new(Reason::NoAnswer, "sent, and no answer came in time")),
        clock_offset_ms: live.then_some(-1_500),
        last: liveness.map(|_| record(peer(n))),
    }
}

/// An acknowledged notify of 50 ms: left after 1, held for 4, acknowledged 2 before the end.
pub fn notified(target: PeerId) -> Record {
    let mut stages = Stages::default();
    for (stage, ms) in [(Stage::Queued, 1), (Stage::Network, 43), (Stage::RemoteHold, 4), (Stage::LocalWait, 2)] {
        stages.set(stage, ms * 1_000_000);
    }
    Record {
        kind: Kind::Notify,
        total_ns: Some(50_000_000),
        stages,
        target_status: None,
        path_rtt_ns: None,
        ..record(target)
    }
}

/// Told by the peer, and refused by the home.
pub fn subscription(n: u8) -> SubscriptionView {
    let why = Why::new(Reason::Refused, "too many");
    SubscriptionView {
        peer: peer(n),
        name: Some(format!("b{n}")),
        configured: true,
        presence: Some(told(n).presence.unwrap_or_default()),
        epoch: Some(1),
        told_by: Some(pams_shared::presence::Path::Peer),
        told_s: Some(2.5),
        liveness: None,
        by_peer: LegView { state: "active", why: None },
        by_home: LegView { state: "refused", why: Some(why) },
    }
}

pub fn subscriber(n: u8) -> SubscriberView {
    let last = notified(peer(n));
    SubscriberView {
        peer: peer(n),
        name: Some(format!("b{n}")),
        state: "active",
        since_s: 3_725.4,
        acked_s: Some(2.5),
        under_way: false,
        told: last.told(),
        last: Some(last),
    }
}

pub fn told(n: u8) -> Told {
    Told {
        peer: peer(n),
        name: Some(format!("b{n}")),
        at_ms: 1_700_000_000_000,
        by: Teller::Peer,
        presence: Some(Presence {
            status: Status::Busy,
            note: Some("in a call".into()),
            since_ms: 1_700_000_000_000,
            version: 2,
        }),
        epoch: Some(1),
        liveness: None,
        age_ms: None,
        skipped: 0,
    }
}

pub fn view() -> View {
    let ledger = Ledger { opened: 10, good: 6, aborted: 2, failed: 1, unknown: 0, in_flight: 1, late: 1, duplicate: 0 };
    View {
        peer: ME,
        epoch: 3,
        presence: Presence {
            status: Status::Away,
            note: Some("lunch".into()),
            since_ms: 1_700_000_000_000,
            version: 4,
        },
        home: HomeView {
            connected: true,
            server: Some(ServerId::from_bytes([0x51; 16])),
            observed: Some("198.51.100.7:7421".into()),
            clock_offset_ms: Some(12),
            attach: 1,
            because: Some(Because::Silent),
            servers: 3,
            backlog: 5,
            unacked: 1,
            ..HomeView::default()
        },
        buddies: vec![
            buddy(2, Some(Liveness::Live)),
            buddy(3, Some(Liveness::Gone)),
            buddy(4, Some(Liveness::Left)),
            buddy(5, None),
        ],
        subscriptions: vec![subscription(2)],
        subscribers: vec![subscriber(2)],
        ledgers: vec![
            LedgerView { kind: Kind::Ping, ledger },
            LedgerView { kind: Kind::Report, ledger: Ledger { opened: 2, good: 2, ..Ledger::default() } },
        ],
        links: 1,
        name: "alpha".into(),
        addresses: vec![],
        slept: None,
        moved: None,
    }
}

pub fn entry(n: u8) -> Entry {
    Entry {
        peer: peer(n),
        order: Order { epoch: 1, attach: 1, version: 2 },
        profile: Profile {
            name: format!("b{n}"),
            addresses: vec![([192, 0, 2, n], 7421).into()],
            software: "pams-agent/0.1.0".into(),
            overlays: vec!["games/chess".into()],
            ..Profile::default()
        },
        presence: Presence {
            status: Status::Busy,
            note: Some("in a call".into()),
            since_ms: 1_700_000_000_000,
            version: 2,
        },
        liveness: Liveness::Live,
        age_ms: 2_500,
        observed: None,
    }
}
