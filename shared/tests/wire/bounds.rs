//! What a reader refuses, field by field, and what it makes of the numbers and the text that it takes.

use pams_shared::{
    frame::{
        ADDRESSES_MAX, APPLICATIONS_MAX, CERTIFICATE_BYTES_MAX, CHAIN_MAX, CHANGES_MAX, DETAIL_BYTES_MAX, Frame, Join,
        KINDS_MAX, NAME_BYTES_MAX, OVERLAY_BYTES_MAX, OVERLAYS_MAX, RECORDS_MAX, ROSTER_MAX, Refusal, Refused,
        Rejected, Rejection, Role, SOFTWARE_BYTES_MAX, VIEWS_MAX, wire,
    },
    proto::{self, frame::Body},
    record::Outcome,
    status::{Liveness, Status},
};
use prost::Message;
use uuid::Uuid;

use crate::{
    any::{REFUSALS, REJECTIONS},
    field, invalid, read,
};

#[test]
fn lists_are_counted_before_their_elements_are_made() {
    // An element of no bytes takes two on the wire.
    let elements = |tag: u8, n: usize| [(tag << 3) | 2, 0].repeat(n);
    for (list, max, name) in [
        (2, KINDS_MAX, "report.totals"),
        (3, CHANGES_MAX, "report.changes"),
        (4, VIEWS_MAX, "report.views"),
        (5, KINDS_MAX, "report.kinds"),
        (6, RECORDS_MAX, "report.records"),
    ] {
        for n in [max + 1, 30_000] {
            assert_eq!(read(&field(16, &elements(list, n))), Err(invalid(name, "too many")), "{n}");
        }
        assert_ne!(read(&field(16, &elements(list, max))), Err(invalid(name, "too many")));
    }
    for (list, max, name) in [
        (2, ADDRESSES_MAX, "profile.addresses"),
        (4, OVERLAYS_MAX, "profile.overlays"),
        (5, APPLICATIONS_MAX, "profile.applications"),
    ] {
        for n in [max + 1, 30_000] {
            // No text stands behind the list: who decodes first says that.
            let profile = [elements(list, n), field(1, &[0xff])].concat();
            assert_eq!(read(&field(3, &field(6, &profile))), Err(invalid(name, "too many")), "{n}");
            assert_eq!(read(&field(7, &field(1, &field(3, &profile)))), Err(invalid(name, "too many")), "{n}");
        }
        let half = field(6, &elements(list, max));
        assert_eq!(read(&field(3, &[half.clone(), half].concat())), Err(invalid("hello.profile", "given twice")));
    }
    for (body, name) in [
        (elements(1, ROSTER_MAX + 1), "roster.peers"),
        (field(1, &elements(3, ADDRESSES_MAX + 1)), "rostered.addresses"),
    ] {
        assert_eq!(read(&field(19, &body)), Err(invalid(name, "too many")));
    }
    assert_eq!(read(&field(25, &elements(1, CHAIN_MAX + 1))), Err(invalid("issued.chain", "too many")));
}

#[test]
fn what_no_version_sends_is_refused_with_its_field() {
    use proto::*;
    let id = vec![1; 16];
    let text = |n: usize| "x".repeat(n);
    let profile = |change: fn(&mut Profile)| {
        let mut profile = Profile::default();
        change(&mut profile);
        Body::Hello(Hello { profile: Some(profile), ..Hello::default() })
    };
    let record = |change: fn(&mut Record)| {
        let (target, correlator) = (vec![1; 16].into(), vec![1; 16].into());
        let mut record = Record { target, correlator, outcome: 1, ..Record::default() };
        change(&mut record);
        Body::Report(Report { batch: 1, kinds: vec!["a".into()], records: vec![record], ..Report::default() })
    };
    let rostered = |change: fn(&mut Rostered)| {
        let mut rostered = Rostered { peer: vec![1; 16].into(), ..Rostered::default() };
        change(&mut rostered);
        Body::Roster(Roster { peers: vec![rostered] })
    };
    let totals = |totals: Totals| Body::Report(Report { batch: 1, totals: vec![totals], ..Report::default() });
    let join = |change: fn(&mut Join)| {
        let mut join = Join {
            token_id: "t".into(),
            secret: vec![1].into(),
            id: vec![1; 16].into(),
            csr: vec![1].into(),
            role: 1,
            ..Join::default()
        };
        change(&mut join);
        Body::Join(join)
    };
    let issued = |n: usize| Issued { chain: vec![vec![1].into()], root: vec![1; n].into(), domain: "d".into() };
    let refused = |code, detail| Body::Refused(Refused { code, detail });
    let entry = Entry { peer: id.clone().into(), liveness: 1, order: Some(Order::default()), ..Entry::default() };
    let news = || News { peer: vec![1; 16].into(), order: Some(Order::default()), ..News::default() };
    let notify = |news: News| Body::Notify(Notify { news: Some(news), ..Notify::default() });
    let fetched = |entry: Entry| Body::FetchAck(FetchAck { entry: Some(entry) });
    let cases = [
        (Body::Ping(Ping { correlator: vec![1; 15].into() }), "ping.correlator", "not 16 bytes"),
        (Body::Pong(Pong { status: 1, ..Pong::default() }), "pong.correlator", "not 16 bytes"),
        (Body::Pong(Pong { correlator: id.into(), ..Pong::default() }), "pong.status", "missing"),
        (
            Body::Hello(Hello { software: text(SOFTWARE_BYTES_MAX + 1), ..Hello::default() }),
            "hello.software",
            "too long",
        ),
        (profile(|p| p.name = "x".repeat(NAME_BYTES_MAX + 1)), "profile.name", "too long"),
        (profile(|p| p.addresses = vec!["192.0.2.1:1".into(); ADDRESSES_MAX + 1]), "profile.addresses", "too many"),
        (profile(|p| p.addresses = vec!["example.net:1".into()]), "profile.addresses", "not ip:port"),
        (profile(|p| p.overlays = vec!["o".into(); OVERLAYS_MAX + 1]), "profile.overlays", "too many"),
        (profile(|p| p.overlays = vec!["x".repeat(OVERLAY_BYTES_MAX + 1)]), "profile.overlays", "too long"),
        (profile(|p| p.overlays = vec![String::new()]), "profile.overlays", "missing"),
        (profile(|p| p.overlays = vec!["a\u{1b}".into()]), "profile.overlays", "holds a control character"),
        (profile(|p| p.applications = vec!["chess".into()]), "profile.applications", "not a uuid"),
        (profile(|p| p.metrics = "http://192.0.2.1:1/".into()), "profile.metrics", "not ip:port"),
        (profile(|p| p.metrics = "192.0.2.1:0".into()), "profile.metrics", "port 0"),
        (
            Body::HelloAck(HelloAck { observed: "here".into(), ..HelloAck::default() }),
            "hello_ack.observed",
            "not ip:port",
        ),
        (
            Body::HelloAck(HelloAck { detail: text(DETAIL_BYTES_MAX + 1), ..HelloAck::default() }),
            "hello_ack.detail",
            "too long",
        ),
        (Body::Fetch(Fetch::default()), "fetch.peer", "not 16 bytes"),
        (fetched(Entry::default()), "entry.order", "missing"),
        (fetched(Entry { liveness: 0, ..entry.clone() }), "entry.liveness", "missing"),
        (fetched(entry), "entry.profile", "missing"),
        (Body::Subscribe(Subscribe::default()), "subscribe.peer", "not 16 bytes"),
        (Body::Unsubscribe(Unsubscribe::default()), "unsubscribe.peer", "not 16 bytes"),
        (
            Body::SubscribeAck(SubscribeAck { detail: text(DETAIL_BYTES_MAX + 1), ..SubscribeAck::default() }),
            "subscribe_ack.detail",
            "too long",
        ),
        (Body::Notify(Notify::default()), "notify.news", "missing"),
        (notify(News { order: None, ..news() }), "news.order", "missing"),
        (notify(News { peer: vec![1; 17].into(), ..news() }), "news.peer", "not 16 bytes"),
        (notify(News { presence: Some(Presence::default()), ..news() }), "presence.status", "missing"),
        (
            Body::Notify(Notify { news: Some(news()), correlator: vec![1; 15].into(), ..Notify::default() }),
            "notify.correlator",
            "not 16 bytes",
        ),
        (Body::NotifyAck(NotifyAck::default()), "notify_ack.peer", "not 16 bytes"),
        (
            Body::NotifyAck(NotifyAck { peer: vec![1; 16].into(), correlator: vec![1].into(), ..NotifyAck::default() }),
            "notify_ack.correlator",
            "not 16 bytes",
        ),
        (Body::Report(Report::default()), "report.batch", "missing"),
        (record(|r| r.kind = 1), "record.kind", "not in report.kinds"),
        (record(|r| r.target = vec![].into()), "record.target", "not 16 bytes"),
        (record(|r| r.correlator = vec![1; 15].into()), "record.correlator", "not 16 or 24 bytes"),
        (record(|r| r.correlator = vec![1; 23].into()), "record.correlator", "not 16 or 24 bytes"),
        (record(|r| r.outcome = 0), "record.outcome", "missing"),
        (record(|r| r.reason = 1), "record.reason", "belongs to another outcome"),
        (totals(Totals { kind: "A b".into(), ..Totals::default() }), "totals.kind", "not 1 to 64 of a-z 0-9 . _ -"),
        (
            totals(Totals { opened: 1, good: 1, failed: 1, ..Totals::default() }),
            "totals.opened",
            "fewer than have ended",
        ),
        (totals(Totals { opened: u64::MAX, ..Totals::default() }), "totals", "over 2^44"),
        (rostered(|r| r.peer = vec![1; 15].into()), "rostered.peer", "not 16 bytes"),
        (rostered(|r| r.name = "x".repeat(NAME_BYTES_MAX + 1)), "rostered.name", "too long"),
        (rostered(|r| r.addresses = vec!["example.net:1".into()]), "rostered.addresses", "not ip:port"),
        (Body::Renew(Renew::default()), "renew.csr", "missing"),
        (Body::Renew(Renew { csr: vec![1; CERTIFICATE_BYTES_MAX + 1].into() }), "renew.csr", "too long"),
        (join(|j| j.token_id.clear()), "join.token_id", "missing"),
        (join(|j| j.secret = vec![1; 129].into()), "join.secret", "too long"),
        (join(|j| j.role = 0), "join.role", "missing"),
        (join(|j| j.role = 3), "join.role", "not known here"),
        (Body::Issued(Issued::default()), "issued.chain", "missing"),
        (Body::Issued(issued(CERTIFICATE_BYTES_MAX + 1)), "issued.root", "too long"),
        (Body::Issued(Issued { domain: String::new(), ..issued(1) }), "issued.domain", "missing"),
        (refused(0, String::new()), "refused.code", "missing"),
        (refused(1, text(DETAIL_BYTES_MAX + 1)), "refused.detail", "too long"),
    ];
    for (body, name, problem) in cases {
        assert_eq!(read(&bytes_of(body)), Err(invalid(name, problem)));
    }
}

#[test]
fn a_number_of_a_newer_version_claims_least() {
    const NEW: i32 = 99;
    let id = || prost::bytes::Bytes::from(vec![1; 16]);

    let pong = proto::Pong { correlator: id(), status: NEW, ..Default::default() };
    let Ok(Frame::Pong(pong)) = read(&bytes_of(Body::Pong(pong))) else { panic!("an answer is an answer") };
    assert_eq!(pong.status, Status::Online);

    let entry = proto::Entry {
        peer: id(),
        order: Some(proto::Order::default()),
        profile: Some(proto::Profile::default()),
        presence: Some(proto::Presence { status: NEW, ..Default::default() }),
        liveness: NEW,
        ..Default::default()
    };
    let Ok(Frame::FetchAck(Some(entry))) = read(&bytes_of(Body::FetchAck(proto::FetchAck { entry: Some(entry) })))
    else {
        panic!("an entry is an entry")
    };
    assert_eq!((entry.presence.status, entry.liveness), (Status::Online, Liveness::Overdue));

    let order = Some(proto::Order::default());
    let news = proto::News { peer: id(), order, liveness: NEW, ..Default::default() };
    let notify = proto::Notify { news: Some(news), ..Default::default() };
    let Ok(Frame::Notify(notify)) = read(&bytes_of(Body::Notify(notify))) else { panic!("news is news") };
    assert_eq!(notify.news.liveness, Some(Liveness::Overdue));

    let record = |outcome, reason| proto::Record {
        target: id(),
        correlator: id(),
        outcome,
        reason,
        target_status: NEW,
        ..Default::default()
    };
    let report = proto::Report {
        batch: 1,
        kinds: vec!["presence.ping".into()],
        records: vec![record(2, NEW), record(NEW, 1)],
        views: vec![proto::View { peer: id(), liveness: NEW, status: NEW, ..Default::default() }],
        ..Default::default()
    };
    let Ok(Frame::Report(report)) = read(&bytes_of(Body::Report(report))) else { panic!("a batch survives") };
    let ends: Vec<_> = report.records.iter().map(|r| (r.outcome, r.reason, r.target_status)).collect();
    assert_eq!(ends, [(Outcome::Aborted, None, None), (Outcome::Unknown, None, None)]);
    assert_eq!((report.views[0].liveness, report.views[0].status), (None, None));

    let ack = proto::HelloAck { rejection: NEW, detail: "try tomorrow".into(), ..Default::default() };
    let Ok(Frame::HelloAck(ack)) = read(&bytes_of(Body::HelloAck(ack))) else { panic!("a rejection is one") };
    assert_eq!(ack.verdict, Err(Rejected { code: Rejection::Protocol, detail: "try tomorrow".into() }));

    let refused = proto::Refused { code: NEW, detail: "try tomorrow".into() };
    let expected = Refused { code: Refusal::Protocol, detail: "try tomorrow".into() };
    assert_eq!(read(&bytes_of(Body::Refused(refused))), Ok(Frame::Refused(expected)));
}

#[test]
fn the_numbers_of_codes_stay() {
    for (number, code) in (1..).zip(REFUSALS) {
        let refused = Frame::Refused(Refused { code, detail: String::new() });
        assert_eq!(wire::encode(&refused), [0xd2, 0x01, 2, 0x08, number]);
    }
    for (number, code) in (1..).zip(REJECTIONS) {
        let Frame::HelloAck(ack) =
            read(&bytes_of(Body::HelloAck(proto::HelloAck { rejection: number, ..Default::default() })))
                .expect("a hello_ack")
        else {
            panic!("a hello_ack")
        };
        assert_eq!(ack.verdict.map_err(|r| r.code), Err(code));
    }
}

#[test]
fn text_of_strangers_is_stripped_and_our_own_is_clipped() {
    let sly = proto::Refused { code: 1, detail: "no\u{1b}[2J token\u{202e}\u{7}".into() };
    let plain = Refused { code: Refusal::TokenUnknown, detail: "no[2J token".into() };
    assert_eq!(read(&bytes_of(Body::Refused(sly))), Ok(Frame::Refused(plain)));

    let long = Refused { code: Refusal::Csr, detail: "ü".repeat(DETAIL_BYTES_MAX) };
    let Ok(Frame::Refused(clipped)) = read(&wire::encode(&Frame::Refused(long))) else { panic!("it fits now") };
    assert_eq!(clipped.detail, "ü".repeat(DETAIL_BYTES_MAX / 2));
}

#[test]
fn no_secret_is_shown() {
    let join = Join {
        token_id: "t1".into(),
        secret: b"0123456789".to_vec(),
        id: Uuid::max(),
        csr: vec![1],
        role: Role::Agent,
        name: String::new(),
        wall_ms: 0,
    };
    let frame = proto::Frame::decode(wire::encode(&Frame::Join(join.clone())).as_slice()).expect("a frame");
    let shown = format!("{join:?} {frame:?}");
    assert!(shown.contains("t1") && !shown.contains("0123") && !shown.contains("48, 49"), "{shown}");
}

pub(crate) fn bytes_of(body: Body) -> Vec<u8> {
    proto::Frame { body: Some(body) }.encode_to_vec()
}
