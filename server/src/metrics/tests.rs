use pams_shared::{
    catalogue::compare,
    expo::{Exposition, parse},
    record::Reason,
    reload::Standing,
};

use super::*;
use crate::{
    core::{Input, Output, Pams},
    sample,
};

const EXPIRY: Expiry = Expiry { leaf: 1, intermediate: 2, root: 3 };

fn scrape(metrics: &Metrics, pams: &Pams) -> Exposition {
    let snapshot = Snapshot::of(pams, sample::now(), metrics.per_peer_max());
    let standing = Standing { successful: true, success_ms: sample::STARTED_MS, error: None, restart: Vec::new() };
    metrics.configuration(&standing);
    let traffic = Traffic { bytes_sent: 7, ..Traffic::default() };
    let text = metrics.render(&snapshot, sample::STARTED_MS, traffic);

    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn a_scrape_shows_what_the_catalogue_lists_and_nothing_else() {
    let metrics = Metrics::new(10).unwrap();
    metrics.certificates(EXPIRY);
    assert_eq!(compare(CATALOGUE, &scrape(&metrics, &sample::pams())), Vec::<String>::new());
}

#[test]
fn nothing_is_refused_by_the_writer_whatever_is_missing() {
    for (max, pams) in [(10, sample::pams()), (0, sample::pams()), (10, sample::crowd(0))] {
        let snapshot = Snapshot::of(&pams, sample::now(), max);
        assert_eq!(snapshot::write(&snapshot, &Extras::default()).refused(), 0);
    }
}

#[test]
fn the_ledger_is_conserved_and_peers_are_counted() {
    let scraped = scrape(&Metrics::new(0).unwrap(), &sample::pams());
    let of = |name: &str, labels: &[(&str, &str)]| scraped.value(&format!("pams_server_{name}"), labels);
    for kind in ["presence.ping", "pams.report"] {
        let closed = scraped.sum("pams_server_transactions_closed_total", &[("kind", kind)]).unwrap();
        let in_flight = of("transactions_in_flight", &[("kind", kind)]).unwrap();
        assert_eq!(of("transactions_opened_total", &[("kind", kind)]), Some(closed + in_flight), "{kind}");
    }
    let ping = [("kind", "presence.ping")];
    assert_eq!(of("transactions_opened_total", &ping), Some(5.0));
    assert_eq!(of("transactions_late_total", &ping), Some(2.0));
    for (liveness, n) in [("live", 2.0), ("overdue", 0.0), ("gone", 1.0), ("left", 1.0)] {
        assert_eq!(of("peers", &[("liveness", liveness)]), Some(n), "{liveness}");
    }
    assert_eq!(of("peers_by_status", &[("status", "busy")]), Some(1.0));
    assert_eq!(of("peers_by_status", &[("status", "unknown")]), Some(1.0));
    assert_eq!((of("records_total", &[]), of("records_shed_total", &[])), (Some(2.0), Some(3.0)));
    assert_eq!((of("ready", &[]), of("sessions", &[])), (Some(1.0), Some(4.0)), "sessions end with connections");
    assert_eq!(of("udp_bytes_total", &[("direction", "sent")]), Some(7.0));
    assert_eq!(of("start_time_seconds", &[]), Some(sample::STARTED_MS as f64 / 1e3));
    assert!(of("process_cpu_seconds_total", &[]).unwrap() > 0.0);
    assert_eq!(scraped.families["pams_server_certificate_expiry_timestamp_seconds"].kind, "gauge");
    assert_eq!(of("certificate_expiry_timestamp_seconds", &[("certificate", "leaf")]), None, "not known, so not 0");
}

#[test]
fn single_peers_are_shown_up_to_a_bound_and_vanish_with_their_peer() {
    let mut pams = sample::pams();
    let metrics = Metrics::new(3).unwrap();
    let scraped = scrape(&metrics, &pams);
    let of = |scraped: &Exposition, name: &str, id, label| {
        let id = pams_shared::id::PeerId::to_string(&id);
        scraped.value(&format!("pams_server_peer_{name}"), &[("peer", &id), ("name", label)])
    };
    assert_eq!(of(&scraped, "up", sample::ALPHA, "alpha"), Some(1.0));
    assert_eq!(of(&scraped, "silence_seconds", sample::BETA, "beta"), Some(0.5));
    assert_eq!(of(&scraped, "up", sample::GAMMA, "gamma"), Some(0.0));
    assert_eq!(of(&scraped, "up", sample::DELTA, sample::DELTA_NAME), None);
    assert_eq!(scraped.value("pams_server_metrics_dropped_peers", &[]), Some(1.0));
    let id = sample::ALPHA.to_string();
    let closed = [("peer", id.as_str()), ("name", "alpha"), ("kind", "presence.ping"), ("status", "good")];
    assert_eq!(scraped.value("pams_server_peer_transactions_closed_total", &closed), Some(3.0));

    pams.handle(sample::now(), Input::Forget { peer: sample::GAMMA, force: false });
    let scraped = scrape(&metrics, &pams);
    assert_eq!(of(&scraped, "up", sample::GAMMA, "gamma"), None);
    assert_eq!(of(&scraped, "up", sample::DELTA, sample::DELTA_NAME), Some(0.0));
    assert_eq!(scraped.value("pams_server_metrics_dropped_peers", &[]), Some(0.0));
}

#[test]
fn what_happens_is_counted_under_known_labels() {
    let metrics = Metrics::new(0).unwrap();
    let mut pams = sample::pams();
    pams.handle(sample::now(), Input::Forget { peer: sample::DELTA, force: false });
    pams.handle(sample::now(), Input::Heard { session: crate::core::SessionId(99) });
    for output in sample::outputs(&mut pams) {
        match output {
            Output::Event(event) => metrics.event(&event),
            Output::Notice(notice) => metrics.notice(&notice),
            _ => {}
        }
    }
    metrics.record(&sample::good());
    metrics.record(&sample::missed(Reason::NoAnswer));
    metrics.record(&Record { kind: Kind::parse("shop.buy").unwrap(), ..sample::good() });
    metrics.abandoned(&Kind::Ping, 4, Reason::Crash);
    Handshake::ALL.iter().for_each(|(call, _)| metrics.handshake(*call));
    FrameError::LABELS.iter().chain(&REJECTED_ELSE).for_each(|reason| metrics.frame_rejected(reason));
    metrics.frame_rejected("of a newer version");
    metrics.joined(Ok(()));
    metrics.renewed(Ok(()));
    REFUSALS.iter().for_each(|(refusal, _)| metrics.joined(Err(*refusal)));
    REFUSALS[RENEWAL_REFUSALS..].iter().for_each(|(refusal, _)| metrics.renewed(Err(*refusal)));
    for (verdict, by) in ProbeVerdict::ALL.into_iter().flat_map(|v| Caller::LABELS.map(|by| (v, by))) {
        metrics.probed(verdict, by, Duration::from_millis(20));
    }
    Refused::ALL.iter().for_each(|why| metrics.probe_refused(*why));
    metrics.panicked();
    metrics.upkeep();

    let scraped = scrape(&metrics, &pams);
    let of = |name: &str, labels: &[(&str, &str)]| scraped.value(&format!("pams_server_{name}"), labels);
    assert_eq!(of("events_total", &[("event", "forgotten")]), Some(1.0));
    assert_eq!(of("events_total", &[("event", "came")]), Some(0.0), "known labels start at 0");
    assert_eq!(of("notices_total", &[("notice", "stale_session")]), Some(1.0));
    let families = [("handshakes", 5.0), ("joins", 12.0), ("renewals", 7.0), ("probes", 18.0), ("probes_refused", 5.0)];
    for (family, n) in families {
        let name = format!("pams_server_{family}_total");
        assert_eq!(scraped.sum(&name, &[]), Some(n), "{family}");
        assert!(scraped.samples.iter().filter(|s| s.name == name).all(|s| s.value == 1.0), "{family}");
    }
    assert_eq!(scraped.sum("pams_server_frames_rejected_total", &[]), Some(10.0));
    assert_eq!(of("frames_rejected_total", &[("reason", "other")]), Some(2.0));
    assert_eq!(of("task_panics_total", &[]), Some(1.0));
    assert_eq!(of("probe_seconds_count", &[]), Some(18.0));

    let ping = ("kind", "presence.ping");
    assert_eq!(of("transaction_seconds_count", &[ping]), Some(1.0), "only good ones have a time");
    assert_eq!(of("transaction_seconds_count", &[("kind", "other")]), Some(1.0));
    assert_eq!(of("transaction_seconds_bucket", &[ping, ("le", "0.05")]), Some(0.0));
    assert_eq!(of("transaction_seconds_bucket", &[ping, ("le", "0.1")]), Some(1.0));
    assert_eq!(of("stage_seconds_sum", &[ping, ("stage", "network")]), Some(0.084));
    assert_eq!(of("stage_seconds_count", &[("kind", "other"), ("stage", "run")]), Some(0.0), "not measured");
    assert_eq!(of("transaction_reasons_total", &[ping, ("reason", "no_answer")]), Some(1.0));
    assert_eq!(of("transaction_reasons_total", &[ping, ("reason", "crash")]), Some(4.0));
}
