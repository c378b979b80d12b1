//! What servers tell each other: what a reader refuses of it, what it makes of newer numbers, and lots at their bounds.

use pams_shared::{
    frame::{
        ADDRESSES_MAX, APPLICATIONS_MAX, Account, DATAGRAM_BYTES_MAX, DELTAS_MAX, DETAIL_BYTES_MAX, Deltas,
        FINDINGS_MAX, Frame, FrameError, HOPS_MAX, KINDS_MAX, LOT_BYTES_MAX, Lot, Member, NAME_BYTES_MAX,
        OVERLAY_BYTES_MAX, OVERLAYS_MAX, PID_BYTES_MAX, Packed, ProbeAck, Profile, REGION_BYTES_MAX, Rejected,
        Rejection, Role, SERVERS_MAX, SOFTWARE_BYTES_MAX, STREAM_BYTES_MAX, SWIM_BYTES_MAX, Server, Shared, wire,
    },
    id::{PeerId, ServerId},
    proto::{self, frame::Body},
    record::{KIND_BYTES_MAX, Kind, Ledger, Outcome},
    status::{Liveness, NOTE_BYTES_MAX, Presence, Status},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use prost::Message;
use uuid::Uuid;

use crate::{any_sibling::any_lot, bounds::bytes_of, field, invalid, read};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lot_comes_back_as_it_was_packed(lot in any_lot()) {
        let packed = Packed::new(&lot);
        prop_assert_eq!(packed.lot(), lot.clone());
        let (standing, profile) = (packed.standing(), &lot.profile);
        prop_assert_eq!(standing.overlays().collect::<Vec<_>>(), profile.overlays.iter().collect::<Vec<_>>());
        prop_assert_eq!((standing.liveness, packed.liveness()), (lot.liveness, lot.liveness));
        prop_assert_eq!((standing.capabilities, standing.roster_max), (profile.capabilities, profile.roster_max));
        prop_assert_eq!(Packed::read(packed.bytes()), Ok(packed));
    }

    #[test]
    fn a_mutated_lot_is_refused_or_one_that_can_be_packed_anew(
        lot in any_lot(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = wire::encode_lot(&lot);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(packed) = Packed::read(&bytes) {
            prop_assert_eq!(packed.bytes(), &bytes, "handed on as it came");
            prop_assert_eq!(Packed::new(&packed.lot()).lot(), packed.lot());
        }
    }
}

/// `n` elements of no bytes, and behind them what is neither text nor a message: who decodes before counting stumbles over
/// that.
fn elements(list: u32, n: usize, broken: u32) -> Vec<u8> {
    [field(list, &[]).repeat(n), field(broken, &[0xff])].concat()
}

#[test]
fn lists_are_counted_before_their_elements_are_made() {
    for (tag, list, max, name) in [
        (20, 1, SERVERS_MAX, "servers.servers"),
        (41, 4, OVERLAYS_MAX, "follow.overlays"),
        (42, 7, DELTAS_MAX, "deltas.entries"),
        (45, 1, FINDINGS_MAX, "probe_ack.findings"),
    ] {
        for n in [max + 1, 30_000] {
            assert_eq!(read(&field(tag, &elements(list, n, list))), Err(invalid(name, "too many")), "{n}");
        }
        assert_ne!(read(&field(tag, &elements(list, max - 1, list))), Err(invalid(name, "too many")));
    }
    for n in [ADDRESSES_MAX + 1, 30_000] {
        let member = elements(4, n, 3);
        let hello = field(3, &field(7, &member));
        let hello_ack = field(4, &field(9, &member));
        let servers = field(20, &[field(1, &[]), field(1, &field(1, &member))].concat());
        for frame in [hello, hello_ack, servers] {
            assert_eq!(read(&frame), Err(invalid("member.addresses", "too many")), "{n}");
        }
    }
    let half = field(4, &[]).repeat(ADDRESSES_MAX);
    for (tag, member, name) in [(3, 7, "hello.member"), (4, 9, "hello_ack.member")] {
        let twice = field(member, &half).repeat(2);
        assert_eq!(read(&field(tag, &twice)), Err(invalid(name, "given twice")));
    }
    let twice = field(1, &half).repeat(2);
    assert_eq!(read(&field(20, &field(1, &twice))), Err(invalid("server.member", "given twice")));
}

#[test]
fn lists_of_a_lot_are_counted_before_their_elements_are_made() {
    let refused = |lot: &[u8]| {
        let error = Packed::read(lot).unwrap_err();
        let shared = [field(1, &[1; 16]), vec![0x10, 1], field(5, lot)].concat();
        let deltas = [field(1, &[1; 16]), vec![0x10, 1], field(7, &shared)].concat();
        assert_eq!(read(&field(42, &deltas)), Err(error.clone()), "in a frame as alone");
        error
    };
    for (list, max, name) in [
        (2, ADDRESSES_MAX, "profile.addresses"),
        (4, OVERLAYS_MAX, "profile.overlays"),
        (5, APPLICATIONS_MAX, "profile.applications"),
    ] {
        for n in [max + 1, 8_000] {
            assert_eq!(refused(&field(1, &elements(list, n, 1))), invalid(name, "too many"), "{n}");
        }
        let half = field(1, &field(list, &[]).repeat(max));
        assert_eq!(refused(&half.repeat(2)), invalid("lot.profile", "given twice"));
    }
    for n in [KINDS_MAX + 1, 8_000] {
        assert_eq!(refused(&elements(9, n, 10)), invalid("lot.accounts", "too many"), "{n}");
    }
    let oversize = vec![0xff; LOT_BYTES_MAX + 1];
    assert_eq!(refused(&oversize), FrameError::Oversized { bytes: LOT_BYTES_MAX as u64 + 1, max: LOT_BYTES_MAX });
    assert_eq!(refused(&oversize[1..]).label(), "malformed");
}

#[test]
fn what_no_server_sends_is_refused_with_its_field() {
    use proto::*;
    let id = || prost::bytes::Bytes::from(vec![1; 16]);
    let member = |change: fn(&mut Member)| {
        let mut member = Member { id: vec![1; 16].into(), generation: 1, ..Member::default() };
        change(&mut member);
        Body::Servers(Servers { servers: vec![Server { member: Some(member), load: 0 }] })
    };
    let deltas = |change: fn(&mut Deltas)| {
        let mut deltas = Deltas { owner: vec![1; 16].into(), generation: 4, ..Deltas::default() };
        change(&mut deltas);
        Body::Deltas(deltas)
    };
    let shared = |change: fn(&mut Shared)| {
        let mut shared = Shared { peer: vec![1; 16].into(), seq: 1, ..Shared::default() };
        change(&mut shared);
        Body::Deltas(Deltas { owner: vec![1; 16].into(), generation: 4, entries: vec![shared], ..Deltas::default() })
    };
    let probe = |change: fn(&mut Probe)| {
        let mut probe = Probe { peer: vec![1; 16].into(), correlator: vec![1; 16].into(), ..Probe::default() };
        change(&mut probe);
        Body::Probe(probe)
    };
    let finding = |change: fn(&mut Finding)| {
        let mut finding = Finding { by: vec![1; 16].into(), by_role: 1, outcome: 1, ..Finding::default() };
        change(&mut finding);
        Body::ProbeAck(ProbeAck { findings: vec![finding], ..ProbeAck::default() })
    };
    let cases = [
        (member(|m| m.id = vec![1; 17].into()), "member.id", "not 16 bytes"),
        (member(|m| m.generation = 0), "member.generation", "missing"),
        (member(|m| m.name = "x".repeat(NAME_BYTES_MAX + 1)), "member.name", "too long"),
        (member(|m| m.addresses = vec!["example.net:1".into()]), "member.addresses", "not ip:port"),
        (member(|m| m.http = "http://192.0.2.1:1/".into()), "member.http", "not ip:port"),
        (member(|m| m.region = "x".repeat(REGION_BYTES_MAX + 1)), "member.region", "too long"),
        (member(|m| m.software = "x".repeat(SOFTWARE_BYTES_MAX + 1)), "member.software", "too long"),
        (Body::Hello(Hello { member: Some(Member::default()), ..Hello::default() }), "member.generation", "missing"),
        (Body::Servers(Servers { servers: vec![Server::default()] }), "server.member", "missing"),
        (Body::Move(Move { server: vec![1].into(), ..Move::default() }), "move.server", "not 16 bytes"),
        (Body::HomeLost(HomeLost::default()), "home_lost.server", "not 16 bytes"),
        (Body::Move(Move { detail: "x".repeat(DETAIL_BYTES_MAX + 1), ..Move::default() }), "move.detail", "too long"),
        (Body::Check(Check { peer: id(), ..Check::default() }), "check.correlator", "not 16 bytes"),
        (Body::Check(Check { correlator: id(), ..Check::default() }), "check.peer", "not 16 bytes"),
        (Body::Checked(Checked { correlator: id(), finding: None }), "checked.finding", "missing"),
        (Body::Gossip(Gossip::default()), "gossip.swim", "missing"),
        (Body::Gossip(Gossip { swim: vec![1; SWIM_BYTES_MAX + 1].into() }), "gossip.swim", "too long"),
        (Body::Follow(Follow::default()), "follow.owner", "not 16 bytes"),
        (deltas(|d| d.owner = vec![1; 15].into()), "deltas.owner", "not 16 bytes"),
        (deltas(|d| d.generation = 0), "deltas.generation", "missing"),
        (shared(|s| s.peer = vec![1; 15].into()), "shared.peer", "not 16 bytes"),
        (shared(|s| s.seq = 0), "shared.seq", "missing"),
        (shared(|s| s.generation = 5), "shared.generation", "newer than the stream's"),
        (
            shared(|s| (s.banned, s.lot) = (true, Packed::new(&Default::default()).bytes().to_vec().into())),
            "shared.banned",
            "with a lot",
        ),
        (shared(|s| s.lot = vec![0x18, 1].into()), "lot.liveness", "missing"),
        (probe(|p| p.peer = vec![].into()), "probe.peer", "not 16 bytes"),
        (probe(|p| p.correlator = vec![1; 24].into()), "probe.correlator", "not 16 bytes"),
        (probe(|p| p.hops = HOPS_MAX + 1), "probe.hops", "too many"),
        (finding(|f| f.by = vec![1; 15].into()), "finding.by", "not 16 bytes"),
        (finding(|f| f.by_role = 0), "finding.by_role", "missing"),
        (finding(|f| f.outcome = 0), "finding.outcome", "missing"),
        (finding(|f| f.reason = 1), "finding.reason", "belongs to another outcome"),
        (
            Body::ProbeAck(ProbeAck { detail: "x".repeat(DETAIL_BYTES_MAX + 1), ..ProbeAck::default() }),
            "probe_ack.detail",
            "too long",
        ),
    ];
    for (body, name, problem) in cases {
        assert_eq!(read(&bytes_of(body)), Err(invalid(name, problem)));
    }
}

#[test]
fn a_lot_that_no_home_writes_is_refused_with_its_field() {
    use proto::*;
    let lot = |change: fn(&mut Lot)| {
        let mut lot = Lot { profile: Some(Profile::default()), liveness: 1, ..Lot::default() };
        change(&mut lot);
        lot
    };
    let totals = |kind: &str, opened, unknown| {
        Some(Totals { kind: kind.into(), opened, unknown, late: opened, ..Totals::default() })
    };
    let account = |reported, booked, owed| Lot { accounts: vec![Account { reported, booked, owed }], ..lot(|_| {}) };
    let ping = || Account { reported: totals("presence.ping", 1, 1), ..Account::default() };
    let cases = [
        (lot(|l| l.profile = None), "lot.profile", "missing"),
        (lot(|l| l.liveness = 0), "lot.liveness", "missing"),
        (lot(|l| l.presence = Some(Presence::default())), "presence.status", "missing"),
        (lot(|l| l.observed = "here".into()), "lot.observed", "not ip:port"),
        (lot(|l| l.pid = "x".repeat(PID_BYTES_MAX + 1)), "lot.pid", "too long"),
        (Lot { accounts: vec![ping(), ping()], ..lot(|_| {}) }, "lot.accounts", "a kind given twice"),
        (account(None, totals("", 1, 1), 0), "account.reported", "missing"),
        (account(totals("", 1, 1), None, 0), "totals.kind", "not 1 to 64 of a-z 0-9 . _ -"),
        (account(totals("a", 1, 2), None, 0), "totals.opened", "fewer than have ended"),
        (account(totals("a", (1 << 44) + 1, 0), None, 0), "totals", "over 2^44"),
        (account(totals("a", 1, 1), totals("a", 1, 1), 0), "account.booked", "names a kind"),
        (account(totals("a", 1, 1), totals("", 1, 2), 0), "totals.opened", "fewer than have ended"),
        (account(totals("a", 2, 1), totals("", 1, 1), 0), "account.booked", "fewer than are reported"),
        (account(totals("a", 2, 1), None, 2), "account.owed", "more than is booked as unknown"),
        (account(totals("a", 2, 1), totals("", 9, 4), u64::MAX), "account.owed", "more than is booked as unknown"),
    ];
    for (lot, name, problem) in cases {
        assert_eq!(Packed::read(&lot.encode_to_vec()), Err(invalid(name, problem)));
    }
}

#[test]
fn a_number_of_a_newer_version_claims_least() {
    const NEW: i32 = 99;
    let presence = Some(proto::Presence { status: NEW, ..Default::default() });
    let lot = proto::Lot { profile: Some(Default::default()), presence, liveness: NEW, ..Default::default() };
    let lot = Packed::read(&lot.encode_to_vec()).expect("a lot is a lot").lot();
    assert_eq!((lot.presence.unwrap().status, lot.liveness), (Status::Online, Liveness::Overdue));

    let finding = |by_role, outcome, reason| proto::Finding {
        by: vec![1; 16].into(),
        by_role,
        outcome,
        reason,
        status: NEW,
        ..Default::default()
    };
    let findings = vec![finding(NEW, NEW, 1), finding(2, 2, NEW)];
    let Ok(Frame::ProbeAck(ProbeAck(Ok(findings)))) =
        read(&bytes_of(Body::ProbeAck(proto::ProbeAck { findings, ..Default::default() })))
    else {
        panic!("findings are findings")
    };
    let found: Vec<_> = findings.iter().map(|f| (f.by_role, f.outcome, f.reason, f.status)).collect();
    assert_eq!(found, [(Role::Agent, Outcome::Unknown, None, None), (Role::Server, Outcome::Aborted, None, None)]);

    let ack = proto::ProbeAck { rejection: NEW, detail: "try tomorrow".into(), ..Default::default() };
    let rejected = Rejected { code: Rejection::Protocol, detail: "try tomorrow".into() };
    assert_eq!(read(&bytes_of(Body::ProbeAck(ack))), Ok(Frame::ProbeAck(ProbeAck(Err(rejected)))));
}

#[test]
fn a_lot_with_everything_at_its_bound_fits_and_comes_back() {
    let lot = greatest_lot();
    let packed = Packed::new(&lot);
    println!("{} of {LOT_BYTES_MAX} bytes", packed.bytes().len());
    assert!(packed.bytes().len() <= LOT_BYTES_MAX, "{} bytes", packed.bytes().len());
    assert_eq!(packed.lot(), lot);

    let shared = Shared { generation: u64::MAX - 1, ..shared(Some(packed)) };
    let deltas = Frame::Deltas(Deltas { entries: vec![shared; 3], ..deltas() });
    let bytes = wire::encode(&deltas);
    assert!(bytes.len() <= STREAM_BYTES_MAX, "three take {} bytes", bytes.len());
    assert_eq!(read(&bytes), Ok(deltas));
}

#[test]
fn what_an_agent_brought_to_book_by_lies_does_not_spoil_its_lot() {
    let most = 1 << 44;
    let account =
        |kind: &str, reported, booked, owed| Account { kind: Kind::parse(kind).unwrap(), reported, booked, owed };
    let open = |opened| Ledger { opened, in_flight: opened, ..Ledger::default() };
    let fair = account("app.fair", open(3), open(5), 0);
    let kept = account("app.most", open(most), open(most), 0);
    let lies = [
        account("app.booked", open(1), open(most + 1), 0),
        account("app.full", open(u64::MAX), open(u64::MAX), 0),
        account("app.sum", open(1), Ledger { opened: 1, good: most, failed: most, ..Ledger::default() }, 0),
        account("app.fewer", open(2), open(1), 0),
        account("app.owed", open(2), open(2), 1),
    ];
    let accounts: Vec<_> = [fair.clone()].into_iter().chain(lies).chain([kept.clone()]).collect();
    let packed = Packed::new(&Lot { accounts, ..Lot::default() });
    assert_eq!(packed.lot(), Lot { accounts: vec![fair, kept], ..Lot::default() });
    assert_eq!(Packed::read(packed.bytes()), Ok(packed));
}

#[test]
fn what_a_full_frame_of_entries_makes_is_bounded_by_its_bytes() {
    let greatest = Packed::new(&greatest_lot());
    let big = Frame::Deltas(Deltas { entries: vec![shared(Some(greatest)); DELTAS_MAX], ..deltas() });
    let bytes = wire::encode(&big);
    let oversized = FrameError::Oversized { bytes: bytes.len() as u64, max: STREAM_BYTES_MAX };
    assert_eq!(read(&bytes), Err(oversized));

    // Many accounts of few bytes: the most that the bytes of a lot can be made to mean.
    let accounts = ('a'..='m').map(|c| Account {
        kind: Kind::parse(&c.to_string()).unwrap(),
        reported: Ledger::default(),
        booked: Ledger::default(),
        owed: 0,
    });
    let dense = Packed::new(&Lot { accounts: accounts.collect(), ..Lot::default() });
    let small = Shared { seq: 1, epoch: 1, attach: 1, ..shared(Some(dense)) };
    let full = Frame::Deltas(Deltas { entries: vec![small; DELTAS_MAX], ..deltas() });
    let bytes = wire::encode(&full);
    assert!((STREAM_BYTES_MAX * 7 / 10..=STREAM_BYTES_MAX).contains(&bytes.len()), "{} bytes", bytes.len());
    let Ok(Frame::Deltas(read)) = read(&bytes) else { panic!("a full frame is one") };
    let kept: usize = read.entries.iter().flat_map(|e| &e.lot).map(|lot| lot.bytes().len()).sum();
    assert!(kept <= bytes.len(), "{kept} bytes of lots out of {}", bytes.len());
    assert_eq!(Frame::Deltas(read), full);
}

#[test]
fn servers_findings_and_gossip_at_their_bounds_fit_their_frames() {
    let member = Member {
        id: ServerId(Uuid::max()),
        generation: u64::MAX,
        name: "x".repeat(NAME_BYTES_MAX),
        addresses: vec![LONGEST.parse().unwrap(); ADDRESSES_MAX],
        http: Some(LONGEST.parse().unwrap()),
        region: "x".repeat(REGION_BYTES_MAX),
        software: "x".repeat(SOFTWARE_BYTES_MAX),
    };
    let servers = Frame::Servers(vec![Server { member, load: u32::MAX }; SERVERS_MAX]);
    let bytes = wire::encode(&servers);
    assert!(bytes.len() <= STREAM_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(read(&bytes), Ok(servers));

    let gossip = Frame::Gossip(vec![0xff; SWIM_BYTES_MAX]);
    assert_eq!(wire::decode(&wire::encode(&gossip), DATAGRAM_BYTES_MAX), Ok(gossip));
}

const LONGEST: &str = "[2001:db8:1111:2222:3333:4444:5555:6666%4294967295]:65535";

fn shared(lot: Option<Packed>) -> Shared {
    let peer = PeerId(Uuid::max());
    Shared { peer, generation: u64::MAX, seq: u64::MAX, epoch: u64::MAX, attach: u64::MAX, lot, banned: false }
}

fn deltas() -> Deltas {
    Deltas {
        owner: ServerId(Uuid::max()),
        generation: u64::MAX,
        anew: true,
        bulk: true,
        bulk_end: true,
        upto: u64::MAX,
        entries: vec![],
        digest: Some(u64::MAX),
    }
}

fn greatest_lot() -> Lot {
    let address = || LONGEST.parse().unwrap();
    let quarter = 1 << 42;
    let most = 4 * quarter;
    let reported = Ledger {
        opened: most,
        good: quarter,
        aborted: quarter,
        failed: quarter,
        unknown: quarter,
        in_flight: 0,
        late: most,
        duplicate: most - 1,
    };
    let account = |n: usize| Account {
        kind: Kind::parse(&format!("{n:x>KIND_BYTES_MAX$}")).unwrap(),
        reported,
        booked: Ledger { duplicate: most, ..reported },
        owed: quarter,
    };
    let note = Some("x".repeat(NOTE_BYTES_MAX));
    Lot {
        profile: Profile {
            name: "x".repeat(NAME_BYTES_MAX),
            addresses: vec![address(); ADDRESSES_MAX],
            software: "x".repeat(SOFTWARE_BYTES_MAX),
            overlays: vec!["x".repeat(OVERLAY_BYTES_MAX); OVERLAYS_MAX],
            applications: vec![Uuid::max(); APPLICATIONS_MAX],
            capabilities: u64::MAX,
            metrics: Some(address()),
            roster_max: u32::MAX,
        },
        presence: Some(Presence { status: Status::Offline, note, since_ms: u64::MAX, version: u64::MAX }),
        said: true,
        liveness: Liveness::Left,
        since_ms: u64::MAX,
        observed: Some(address()),
        applied: u64::MAX,
        shed: u64::MAX,
        accounts: (0..KINDS_MAX).map(account).collect(),
        pid: "x".repeat(PID_BYTES_MAX),
    }
}
