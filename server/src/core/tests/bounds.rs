//! Bounds, and the answers that are more than one line.

use super::*;

fn open(pams: &mut Pams, now: Moment, session: u64, peer: PeerId, overlays: &[&str]) {
    let mut hello = hello(now, peer, 1);
    hello.profile.as_mut().unwrap().overlays = overlays.iter().map(|o| (*o).to_owned()).collect();
    pams.handle(
        now,
        Input::Opened {
            session: SessionId(session),
            peer,
            hello: Box::new(hello),
            observed: observed(),
            same_host: false,
        },
    );
}

fn drain(pams: &mut Pams) -> Vec<Output> {
    std::iter::from_fn(|| pams.poll()).collect()
}

#[test]
fn totals_alone_are_shared_now_and_then() {
    let mut pams = Pams::new(PamsConfig::default(), at(0));
    let a = id("a");
    open(&mut pams, at(0), 1, a, &[]);
    let mut shared = Vec::new();
    for batch in 1..=130 {
        let now = at(batch * 1_000);
        let ledger = Ledger { opened: batch, good: batch - 1, in_flight: 1, ..Ledger::default() };
        let records = if batch == 5 { vec![record(batch, 0)] } else { Vec::new() };
        let report = Report { batch, totals: vec![(Kind::Report, ledger)], records, ..Report::default() };
        let before = pams.origins().next().unwrap().upto;
        pams.handle(now, Input::Report { session: SessionId(1), report });
        drain(&mut pams);
        if pams.origins().next().unwrap().upto > before {
            shared.push(batch);
        }
    }
    // What it did in the fifth second is told at once, and what it has done since a minute later.
    assert_eq!(shared, [5, 65, 125]);
}

#[test]
fn a_full_directory_makes_room_by_forgetting_the_longest_departed_or_turns_away() {
    let config = PamsConfig { peers_max: 2, forgotten_max: 1, ..PamsConfig::default() };
    check_with(
        config,
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b > b came > accept #2 0
        0.1 < open #3 c > notice peers_full 1 > reject #3 Busy
        0.2 < bye #1 > a left
        0.3 < bye #2 > b left
        0.4 < open #3 c > notice evicted 1 > a forgotten > close #1 > c came > accept #3 0
        0.5 < open #4 d > notice evicted 1 > b forgotten > close #2 > notice forgotten_for_good 1 > d came > accept #4 0
        0.6 < open #5 b > notice peers_full 1 > reject #5 Busy
        ",
    );
}

#[test]
fn no_more_departed_than_the_bound_are_kept() {
    let config = PamsConfig { departed_max: 1, ..PamsConfig::default() };
    check_with(
        config,
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b > b came > accept #2 0
        0.1 < report #1 1 ping=2/1 > ack #1 1
        0.2 < lost #1
        0.3 < heard #2
        4.6 > a gone
        4.7 < heard #2
        4.8 < bye #2 > b left > notice evicted 1 > abandoned a presence.ping 1 crash > a forgotten
        4.9 ? totals > presence.ping 2=1+0+0+1+0
        ",
    );
}

#[test]
fn oddities_of_a_report_are_counted_and_the_rest_of_it_holds() {
    let config = PamsConfig { views_per_watcher: 1, ..PamsConfig::default() };
    check_with(
        config,
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < report #1 1 ping=9999999999999/1 app.x=1/1 sees=b:live sees=c:live shed=7
            > ack #1 1 > notice implausible 1 > notice records_shed 7 > notice views_full 1
        0.2 < report #1 2 shed=9 > ack #1 2 > notice records_shed 2
        0.2 ? totals > app.x 1=1+0+0+0+0
        ",
    );
}

#[test]
fn a_whole_network_that_goes_silent_is_judged_in_turns_within_the_bounds() {
    let config = PamsConfig { departed_max: 500, events_max: 100, ..PamsConfig::default() };
    let mut pams = Pams::new(config, at(0));
    for n in 0..1_000_u64 {
        open(&mut pams, at(0), n, PeerId::from_bytes((u128::from(n)).to_be_bytes()), &[]);
        drain(&mut pams);
    }
    let (mut gone, mut forgotten, mut turns, mut longest) = (0, 0, 0, 0);
    while let Some((due, _)) = pams.deadline().filter(|(due, _)| *due <= at(4_500)) {
        pams.handle(due, Input::Tick);
        turns += 1;
        let outputs = drain(&mut pams);
        longest = longest.max(outputs.len());
        for output in outputs {
            match output {
                Output::Event(Event { what: What::Gone, .. }) => gone += 1,
                Output::Event(Event { what: What::Forgotten, .. }) => forgotten += 1,
                _ => {}
            }
        }
    }
    assert_eq!((gone, forgotten, turns), (1_000, 500, 8), "overdue and gone, each in four turns");
    assert!(longest <= 4 * LOOKS_MAX);
    assert_eq!((pams.events().count(), pams.directory.len()), (100, 500));
    assert!(pams.directory.is_consistent());
}

#[test]
fn outputs_that_nobody_fetches_are_shed_and_counted_but_for_answers() {
    let mut pams = Pams::new(PamsConfig::default(), at(0));
    open(&mut pams, at(0), 1, id("a"), &[]);
    let batches = (OUTPUTS_MAX / 256 + 2) as u64;
    for batch in 1..=batches {
        let report = Report { batch, records: (0..256).map(|n| record(batch, n)).collect(), ..Report::default() };
        pams.handle(at(1), Input::Report { session: SessionId(1), report });
    }
    let summary = pams.summary(at(1));
    let outputs = drain(&mut pams);
    let acks = outputs.iter().filter(|o| matches!(o, Output::Ack { .. })).count() as u64;
    let records = outputs.iter().filter(|o| matches!(o, Output::Record { .. })).count() as u64;
    assert_eq!(acks, batches);
    assert_eq!(summary.records, batches * 256);
    assert_eq!(summary.outputs_shed, summary.records - records);
    assert!(outputs.len() as u64 <= OUTPUTS_MAX as u64 + batches);
}

#[test]
fn recent_records_are_a_ring_that_shrinks_as_peers_grow_in_number() {
    let config = PamsConfig { recent_records: 8, recent_total: 12, ..PamsConfig::default() };
    let mut pams = Pams::new(config, at(0));
    let kept = |pams: &Pams| pams.peer(at(1), id("a")).unwrap().records;
    open(&mut pams, at(0), 1, id("a"), &[]);
    for (batch, keeps) in [(1, 8), (2, 6)] {
        let report = Report { batch, records: (0..20).map(|n| record(batch, n)).collect(), ..Report::default() };
        pams.handle(at(1), Input::Report { session: SessionId(1), report });
        let records = kept(&pams);
        assert_eq!((records.len(), records.last()), (keeps, Some(&record(batch, 19))));
        open(&mut pams, at(1), 2, id("b"), &[]);
    }
}

#[test]
fn peers_come_in_pages_and_by_filter() {
    let mut pams = Pams::new(PamsConfig::default(), at(0));
    for (n, (peer, overlay)) in [("a", "cdn/eu"), ("b", "cdn"), ("c", "game"), ("d", "cdn/us")].into_iter().enumerate()
    {
        open(&mut pams, at(0), n as u64, id(peer), &[overlay]);
    }
    pams.handle(at(10), Input::Goodbye { session: SessionId(1) });
    let names = |page: &Page| page.peers.iter().map(|p| letter(p.id)).collect::<String>();
    let cdn = Filter { overlay: Some("cdn".into()), ..Filter::default() };
    let first = pams.peers(at(20), &cdn, None, 2);
    assert_eq!((names(&first).as_str(), first.next), ("ab", Some(id("b"))));
    let last = pams.peers(at(20), &cdn, first.next, 2);
    assert_eq!((names(&last).as_str(), last.next), ("d", None));
    let here = Filter { liveness: Some(Liveness::Live), ..cdn };
    assert_eq!(names(&pams.peers(at(20), &here, None, 100)), "ad");
    assert_eq!(names(&pams.peers(at(20), &Filter { name: Some("R-C".into()), ..Filter::default() }, None, 100)), "c");

    let overlays = pams.overlays(at(20));
    let counts: Vec<_> = overlays.overlays.iter().map(|o| (o.name.as_str(), o.live, o.left)).collect();
    assert_eq!(counts, [("cdn", 2, 1), ("cdn/eu", 1, 0), ("cdn/us", 1, 0), ("game", 1, 0)]);
}

#[test]
fn what_is_shown_of_a_peer_reads_well_as_json() {
    let mut pams = Pams::new(PamsConfig::default(), at(0));
    open(&mut pams, at(0), 1, id("a"), &["cdn/eu"]);
    open(&mut pams, at(0), 2, id("b"), &[]);
    let report = parse_report("1 ping=3/2 busy@4 records=1".split(' ').collect());
    pams.handle(at(500), Input::Report { session: SessionId(1), report });
    let report = parse_report("1 sees=a:overdue".split(' ').collect());
    pams.handle(at(600), Input::Report { session: SessionId(2), report });
    let json = serde_json::to_value(pams.peer(at(800), id("a")).unwrap()).unwrap();
    assert_eq!(json["name"], "peer-a");
    assert_eq!(json["presence"]["status"], "busy");
    assert_eq!(json["order"]["version"], 4);
    assert_eq!(json["home"]["because"], "heard");
    assert_eq!((&json["home"]["age_ms"], &json["home"]["session"]), (&300.into(), &1.into()));
    assert_eq!(json["ledger"]["presence.ping"]["in_flight"], 1);
    assert_eq!(json["records"][0]["status"], "good");
    assert_eq!((&json["watchers"][0]["name"], &json["watchers"][0]["liveness"]), (&"peer-b".into(), &"overdue".into()));
    assert_eq!(json["events"][0]["what"], "came");

    let sd = serde_json::to_value(pams.sd_page(at(800), None, 100, false).0).unwrap();
    assert_eq!(
        sd[0]["targets"],
        serde_json::json!(["192.0.2.1:7481"]),
        "where we see it, at the port that it announced"
    );
    assert_eq!(sd[0]["labels"]["__meta_pams_overlays"], ",cdn/eu,");
    assert_eq!(sd[0]["labels"]["__meta_pams_status"], "busy");
    assert_eq!(sd[1]["labels"]["__meta_pams_status"], "");

    let summary = pams.summary(at(800));
    assert_eq!(summary.status[1], (Some(Status::Busy), 1));
    assert_eq!(summary.status[4], (None, 1));
    assert_eq!((summary.views, summary.records, summary.sessions), (1, 1, 2));
}

#[test]
fn no_agent_chooses_the_host_that_is_scraped() {
    for (said, quic) in [
        (&[][..], "192.0.2.1:4433"),
        (&["169.254.169.254:80"], "192.0.2.1:4433"),
        (&["0.0.0.0:9000", "[::]:9000"], "192.0.2.1:4433"),
        (&["10.0.0.7:9000", "192.0.2.1:9001", "192.0.2.1:9002"], "192.0.2.1:9001"),
        (&["[::ffff:192.0.2.1]:9001"], "192.0.2.1:9001"),
    ] {
        let mut pams = Pams::new(PamsConfig::default(), at(0));
        let mut hello = hello(at(0), id("a"), 1);
        let profile = hello.profile.as_mut().unwrap();
        profile.addresses = said.iter().map(|a| a.parse().unwrap()).collect();
        let (session, peer, hello) = (SessionId(1), id("a"), Box::new(hello));
        pams.handle(at(0), Input::Opened { session, peer, hello, observed: observed(), same_host: false });
        let found = pams.sd_page(at(0), None, 100, true).0.remove(0);
        assert_eq!(found.targets, ["192.0.2.1:7481"], "{said:?}");
        assert_eq!(found.labels["__meta_pams_address"], quic, "{said:?}");
        assert!(said.iter().all(|a| found.labels["__meta_pams_addresses"].contains(a)));
    }
}
