//! The bytes of each frame kind as each version of the wire first wrote them: later versions must read them, and write the
//! same as long as they say the same. A file is made once; `UPDATE=1` writes those that are missing, and no others.
//! A version that gives a frame more fields adds a folder, and leaves the older ones to be read.

use std::{env, fmt::Write, fs, path::Path};

use pams_shared::{
    frame::{
        Account, Check, Checked, Deltas, Entry, Finding, Follow, Frame, Held, Hello, HelloAck, HomeLost, Issued, Join,
        Lot, Member, Move, News, Notify, NotifyAck, Packed, Ping, Pong, Probe, ProbeAck, Profile, Refusal, Refused,
        Rejected, Rejection, Report, ReportAck, Role, Roster, Rostered, STREAM_BYTES_MAX, Server, Shared, SubscribeAck,
        Terms, View, capability, wire,
    },
    id::{Correlator, Order, PeerId, ServerId},
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
    status::{Liveness, Presence, Status},
};
use uuid::Uuid;

#[test]
fn each_kind_is_written_and_read_as_in_the_golden_files() {
    for (version, frames) in [("0.1", frames()), ("0.2", frames_of_0_2())] {
        compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version), &frames);
    }
}

fn compare(folder: &Path, frames: &[(&str, Frame)]) {
    for (name, frame) in frames {
        let path = folder.join(name).with_extension("hex");
        let written = wire::encode(frame);
        if env::var_os("UPDATE").is_some() && !path.exists() {
            fs::create_dir_all(folder).expect("tests/golden is writable");
            fs::write(&path, hex(&written)).expect("tests/golden is writable");
        }
        let golden =
            fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}; UPDATE=1 makes what is missing"));
        assert_eq!(wire::decode(&unhex(&golden), STREAM_BYTES_MAX).as_ref(), Ok(frame), "{name} is read otherwise");
        assert_eq!(hex(&written), golden, "{name} is written otherwise");
    }
    for file in fs::read_dir(folder).expect("tests/golden") {
        let path = file.expect("an entry").path();
        let known = frames.iter().any(|(name, _)| path.file_stem().is_some_and(|stem| stem == *name));
        assert!(known, "{} is compared with nothing", path.display());
    }
}

/// Every kind with every field given, and with those left out that may be.
fn frames() -> Vec<(&'static str, Frame)> {
    vec![
        ("ping", Frame::Ping(Ping { correlator: correlator(1) })),
        ("pong", Frame::Pong(pong(Some(1_234_567)))),
        ("pong_hold_not_measured", Frame::Pong(pong(None))),
        ("hello", Frame::Hello(hello())),
        ("hello_metrics", Frame::Hello(hello_metrics())),
        ("hello_ack", Frame::HelloAck(hello_ack(Ok(())))),
        ("hello_ack_rejected", Frame::HelloAck(hello_ack(Err(rejected())))),
        ("goodbye", Frame::Goodbye),
        ("fetch", Frame::Fetch(PeerId(uuid(2)))),
        ("fetch_ack", Frame::FetchAck(Some(Box::new(entry())))),
        ("fetch_ack_not_known", Frame::FetchAck(None)),
        ("subscribe", Frame::Subscribe(PeerId(uuid(2)))),
        ("subscribe_ack", Frame::SubscribeAck(SubscribeAck(Ok(Some(news()))))),
        ("subscribe_ack_not_known", Frame::SubscribeAck(SubscribeAck(Ok(None)))),
        ("subscribe_ack_rejected", Frame::SubscribeAck(SubscribeAck(Err(rejected())))),
        ("unsubscribe", Frame::Unsubscribe(PeerId(uuid(2)))),
        ("notify", Frame::Notify(Notify { number: 3, news: news(), correlator: Some(correlator(1)) })),
        ("notify_of_a_home", Frame::Notify(Notify { number: 3, news: silent(), correlator: None })),
        ("notify_ack", Frame::NotifyAck(notify_ack(Some(1_234_567)))),
        ("notify_ack_known_already", Frame::NotifyAck(notify_ack(None))),
        ("report", Frame::Report(report())),
        ("report_stalled", Frame::Report(stalled())),
        ("report_empty", Frame::Report(Report { batch: 18, ..Report::default() })),
        ("report_ack", Frame::ReportAck(ReportAck { batch: 17, pace_ms: 2_000, came: 0 })),
        ("renew", Frame::Renew(b"request".to_vec())),
        ("hello_takes_rosters", Frame::Hello(Hello { profile: Some(takes_rosters()), ..hello() })),
        ("roster", Frame::Roster(roster())),
        ("roster_empty", Frame::Roster(Roster::default())),
        ("hello_member", Frame::Hello(hello_member())),
        ("hello_ack_member", Frame::HelloAck(hello_ack_member())),
        ("servers", Frame::Servers(servers())),
        ("servers_empty", Frame::Servers(vec![])),
        ("move", Frame::Move(Move { server: Some(ServerId(uuid(9))), detail: "this one is full".into() })),
        ("move_to_any", Frame::Move(Move { server: None, detail: String::new() })),
        ("check", Frame::Check(Check { correlator: correlator(1), peer: PeerId(uuid(2)), within_ms: 800 })),
        ("checked", Frame::Checked(Checked { correlator: correlator(1), finding: finding() })),
        ("checked_in_vain", Frame::Checked(Checked { correlator: correlator(1), finding: in_vain() })),
        ("gossip", Frame::Gossip(b"swim".to_vec())),
        ("follow", Frame::Follow(Follow { owner: ServerId(uuid(9)), generation: 4, from: 70 })),
        ("follow_from_nothing", Frame::Follow(Follow { owner: ServerId(uuid(9)), generation: 0, from: 0 })),
        ("deltas", Frame::Deltas(deltas())),
        ("deltas_empty", Frame::Deltas(deltas_empty())),
        ("held", Frame::Held(Held { generation: 4, upto: 77 })),
        ("held_nothing", Frame::Held(Held { generation: 0, upto: 0 })),
        ("probe", Frame::Probe(probe(1))),
        ("probe_at_the_home", Frame::Probe(probe(0))),
        ("probe_ack", Frame::ProbeAck(ProbeAck(Ok(vec![finding(), in_vain()])))),
        ("probe_ack_empty", Frame::ProbeAck(ProbeAck(Ok(vec![])))),
        ("probe_ack_rejected", Frame::ProbeAck(ProbeAck(Err(rejected())))),
        ("join", Frame::Join(join())),
        ("issued", Frame::Issued(issued())),
        ("refused", Frame::Refused(Refused { code: Refusal::TokenExpired, detail: "make a new token".into() })),
    ]
}

/// What 0.2 added.
fn frames_of_0_2() -> Vec<(&'static str, Frame)> {
    // Bump 300 of the sender, incarnation 7, bump 9 of the receiver, probe 200.
    let short = |tag| Frame::Gossip(vec![2, tag, 0xac, 2, 7, 9, 200]);
    let capabilities = capability::SIBLINGS | capability::SHORT_GOSSIP;
    vec![
        ("hello_member_short_gossip", Frame::Hello(Hello { capabilities, ..hello_member() })),
        ("gossip_short_probe", short(1)),
        ("gossip_short_answer", short(2)),
        ("report_ack_came", Frame::ReportAck(ReportAck { batch: 17, pace_ms: 2_000, came: 5 })),
        ("home_lost", Frame::HomeLost(HomeLost { server: ServerId(uuid(9)), generation: 4, for_ms: 1_200 })),
        ("home_lost_ack", Frame::HomeLostAck(true)),
    ]
}

fn uuid(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn correlator(n: u8) -> Correlator {
    Correlator::of_uuid([n; 16])
}

fn pong(hold_ns: Option<u64>) -> Pong {
    Pong { correlator: correlator(1), status: Status::Busy, hold_ns, version: 7 }
}

fn profile() -> Profile {
    Profile {
        name: "tracker-β".into(),
        addresses: vec!["192.0.2.1:7100".parse().unwrap(), "[2001:db8::1]:7100".parse().unwrap()],
        software: "pams-agent/0.1.0".into(),
        overlays: vec!["games".into(), "games/chess".into()],
        applications: vec![uuid(3), uuid(4)],
        capabilities: 5,
        metrics: None,
        roster_max: 0,
    }
}

/// With what came after the first hello.
fn hello_metrics() -> Hello {
    let metrics = Some("0.0.0.0:7481".parse().unwrap());
    Hello { profile: Some(Profile { metrics, ..profile() }), ..hello() }
}

fn takes_rosters() -> Profile {
    Profile { capabilities: capability::SUBSCRIPTIONS | capability::ROSTERS, roster_max: 256, ..profile() }
}

fn roster() -> Roster {
    let nameless = Rostered { peer: PeerId(uuid(8)), name: String::new(), addresses: vec![] };
    let addresses = profile().addresses;
    Roster { peers: vec![Rostered { peer: PeerId(uuid(7)), name: "tracker-β".into(), addresses }, nameless] }
}

fn hello() -> Hello {
    Hello {
        software: "pams-agent/0.1.0".into(),
        epoch: 3,
        capabilities: 5,
        wall_ms: 1_700_000_000_000,
        attach: 2,
        profile: Some(profile()),
        member: None,
    }
}

fn hello_ack(verdict: Result<(), Rejected>) -> HelloAck {
    HelloAck {
        software: "pams-server/0.1.0".into(),
        epoch: 9,
        capabilities: 1,
        wall_ms: 1_700_000_000_500,
        observed: Some("198.51.100.7:40000".parse().unwrap()),
        verdict,
        terms: Some(Terms { pace_ms: 1_000, gone_after_ms: 5_000, applied_batch: 16 }),
        member: None,
    }
}

fn rejected() -> Rejected {
    Rejected { code: Rejection::Oneself, detail: "the roster names this very peer".into() }
}

fn presence() -> Presence {
    Presence { status: Status::Away, note: Some("lunch".into()), since_ms: 1_700_000_000_001, version: 6 }
}

fn entry() -> Entry {
    Entry {
        peer: PeerId(uuid(2)),
        order: Order { epoch: 3, attach: 2, version: 1 },
        profile: profile(),
        presence: presence(),
        liveness: Liveness::Overdue,
        age_ms: 1_500,
        observed: Some("[2001:db8::2]:7100".parse().unwrap()),
    }
}

fn news() -> News {
    let order = Order { epoch: 3, attach: 2, version: 6 };
    News { peer: PeerId(uuid(2)), order, presence: Some(presence()), liveness: Some(Liveness::Live), age_ms: 1_500 }
}

/// Of a peer that has said nothing.
fn silent() -> News {
    News { presence: None, liveness: None, age_ms: 0, ..news() }
}

fn notify_ack(hold_ns: Option<u64>) -> NotifyAck {
    NotifyAck { peer: PeerId(uuid(2)), number: 3, hold_ns, correlator: hold_ns.map(|_| correlator(1)) }
}

fn report() -> Report {
    let mut stages = Stages::default();
    for (n, stage) in Stage::ALL.into_iter().enumerate() {
        stages.set(stage, n as u64 * 1_000_000);
    }
    let answered = Record {
        kind: Kind::Ping,
        target: uuid(2),
        correlator: correlator(1),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: 1_700_000_000_002,
        total_ns: Some(15_000_000),
        stages,
        target_status: Some(Status::Busy),
        path_rtt_ns: Some(900_000),
    };
    let unanswered = |reason: Reason| Record {
        kind: Kind::parse("chess.move").unwrap(),
        correlator: Correlator { trace: [5; 16], span: [6; 8] },
        outcome: reason.outcome(),
        reason: Some(reason),
        total_ns: None,
        stages: Stages::default(),
        target_status: None,
        path_rtt_ns: None,
        ..answered.clone()
    };
    let view = |liveness: Option<Liveness>| View {
        peer: PeerId(uuid(2)),
        liveness,
        status: liveness.map(|_| Status::Busy),
        missed: 2,
        hears: liveness.is_none(),
        heard: true,
        dropped: liveness.is_none(),
    };
    Report {
        batch: 17,
        totals: vec![(
            Kind::Ping,
            Ledger { opened: 21, good: 6, aborted: 5, failed: 4, unknown: 3, in_flight: 3, late: 2, duplicate: 1 },
        )],
        changes: Status::ALL.map(|status| Presence { status, note: None, ..presence() }).to_vec(),
        views: Liveness::ALL.into_iter().map(Some).chain([None]).map(view).collect(),
        records: [answered.clone()].into_iter().chain(first_reasons().map(unanswered)).collect(),
        shed: 8,
    }
}

/// Those that the wire began with.
fn first_reasons() -> impl Iterator<Item = Reason> {
    Reason::ALL.into_iter().filter(|r| *r != Reason::Stalled)
}

/// One record with the reason that came later.
fn stalled() -> Report {
    let mut records = report().records.split_off(1);
    records.truncate(1);
    records[0].outcome = Outcome::Unknown;
    records[0].reason = Some(Reason::Stalled);
    Report { batch: 19, records, ..Report::default() }
}

fn member() -> Member {
    Member {
        id: ServerId(uuid(9)),
        generation: 4,
        name: "pams-β".into(),
        addresses: vec!["192.0.2.9:7420".parse().unwrap(), "[2001:db8::9]:7420".parse().unwrap()],
        http: Some("192.0.2.9:7480".parse().unwrap()),
        region: "eu-west".into(),
        software: "pams-server/0.1.0".into(),
    }
}

/// With nothing that may be left out.
fn member_bare() -> Member {
    let (name, region, software) = Default::default();
    Member { id: ServerId(uuid(10)), generation: 1, name, addresses: vec![], http: None, region, software }
}

fn hello_member() -> Hello {
    let software = "pams-server/0.1.0".into();
    let capabilities = capability::SIBLINGS;
    Hello { software, capabilities, attach: 0, profile: None, member: Some(member()), ..hello() }
}

fn hello_ack_member() -> HelloAck {
    HelloAck { capabilities: capability::SIBLINGS, terms: None, member: Some(member_bare()), ..hello_ack(Ok(())) }
}

fn servers() -> Vec<Server> {
    vec![Server { member: member(), load: 250 }, Server { member: member_bare(), load: 0 }]
}

fn finding() -> Finding {
    let mut stages = Stages::default();
    for (n, stage) in Stage::EXCHANGE.into_iter().enumerate() {
        stages.set(stage, n as u64 * 1_000_000);
    }
    Finding {
        by: uuid(9),
        by_role: Role::Server,
        outcome: Outcome::Good,
        reason: None,
        total_ns: Some(15_000_000),
        stages,
        status: Some(Status::Busy),
    }
}

fn in_vain() -> Finding {
    Finding {
        by: uuid(2),
        by_role: Role::Agent,
        outcome: Outcome::Aborted,
        reason: Some(Reason::NoAnswer),
        total_ns: None,
        stages: Stages::default(),
        status: None,
    }
}

fn probe(hops: u32) -> Probe {
    Probe { peer: PeerId(uuid(2)), correlator: correlator(1), within_ms: 900, hops }
}

fn deltas() -> Deltas {
    let shared = Shared {
        peer: PeerId(uuid(2)),
        generation: 4,
        seq: 71,
        epoch: 3,
        attach: 2,
        lot: Some(Packed::new(&lot())),
        banned: false,
    };
    let older = Shared { generation: 2, seq: 900, lot: Some(Packed::new(&Lot::default())), ..shared.clone() };
    let forgotten = Shared { seq: 72, lot: None, ..shared.clone() };
    let banned = Shared { seq: 73, banned: true, ..forgotten.clone() };
    Deltas {
        owner: ServerId(uuid(9)),
        generation: 4,
        anew: true,
        bulk: true,
        bulk_end: true,
        upto: 77,
        entries: vec![shared, older, forgotten, banned],
        digest: Some(0x0123_4567_89ab_cdef),
    }
}

fn deltas_empty() -> Deltas {
    let (anew, bulk, bulk_end) = Default::default();
    Deltas { owner: ServerId(uuid(9)), generation: 4, anew, bulk, bulk_end, upto: 0, entries: vec![], digest: None }
}

fn lot() -> Lot {
    let metrics = Some("192.0.2.1:7481".parse().unwrap());
    let reported =
        Ledger { opened: 21, good: 6, aborted: 5, failed: 4, unknown: 3, in_flight: 3, late: 2, duplicate: 1 };
    let booked = Ledger { opened: 31, good: 13, unknown: 6, ..reported };
    Lot {
        profile: Profile { metrics, ..takes_rosters() },
        presence: Some(presence()),
        said: true,
        liveness: Liveness::Live,
        since_ms: 1_700_000_000_003,
        observed: Some("[2001:db8::2]:7100".parse().unwrap()),
        applied: 16,
        shed: 8,
        accounts: vec![
            Account { kind: Kind::Ping, reported, booked, owed: 3 },
            Account { kind: Kind::parse("chess.move").unwrap(), reported, booked: reported, owed: 0 },
        ],
        pid: "dc-1".into(),
    }
}

fn join() -> Join {
    Join {
        token_id: "t1".into(),
        secret: b"secret".to_vec(),
        id: uuid(2),
        csr: b"request".to_vec(),
        role: Role::Server,
        name: "tracker-β".into(),
        wall_ms: 1_700_000_000_000,
    }
}

fn issued() -> Issued {
    Issued {
        chain: vec![b"leaf".to_vec(), b"intermediate".to_vec()],
        root: b"root".to_vec(),
        domain: "pams.example".into(),
    }
}

/// 32 bytes a line.
fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).fold(String::new(), |mut text, line| {
        line.iter().for_each(|b| write!(text, "{b:02x}").unwrap());
        text + "\n"
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect()
}
