use pams_shared::{
    catalogue::compare,
    expo::{Exposition, parse},
    id::{PeerId, ServerId},
    status::Liveness,
};

use super::*;
use crate::sample;

const EXTRAS: Extras = Extras {
    reload_successful: true,
    reload_success_ms: 1_700_000_000_500,
    started_ms: 1_700_000_000_500,
    certificate_expires: Some(1_700_086_400),
    traffic: Traffic {
        packets_sent: 7,
        bytes_sent: 700,
        packets_received: 5,
        bytes_received: 500,
        send_errors: 1,
        dropped_by_kernel: 2,
        stamps_shed: 3,
        emulated_lost: 0,
        emulated_shed: 0,
    },
    csv: Some(Progress { written: 9, failing: true }),
};

fn scrape(metrics: &Metrics, view: &View) -> Exposition {
    let text = metrics.render(view, &EXTRAS);
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn a_scrape_is_what_the_catalogue_says() {
    let scraped = scrape(&Metrics::new(64), &sample::view());
    assert_eq!(compare(CATALOGUE, &scraped), Vec::<String>::new());
    assert_eq!(snapshot::write(&sample::view(), &EXTRAS, 64).refused(), 0);
}

#[test]
fn what_never_happened_shows_0_and_what_was_not_measured_nothing() {
    let mut view = sample::view();
    view.buddies = vec![sample::buddy(5, None)];
    view.buddies[0].clock_offset_ms = None;
    view.home.clock_offset_ms = None;
    let metrics = Metrics::new(64);
    let text = metrics.render(&view, &Extras::default());
    let scraped = parse(&text).unwrap();
    for label in Notice::LABELS.iter().copied() {
        assert_eq!(scraped.value("pams_agent_notices_total", &[("notice", label)]), Some(0.0));
    }
    for (name, series) in [
        ("pams_agent_frames_rejected_total", 7),
        ("pams_agent_transaction_reasons_total", 24),
        ("pams_agent_transaction_seconds_count", 3),
        ("pams_agent_stage_seconds_count", 9),
        ("pams_agent_told_seconds_count", 2),
        ("pams_agent_subscriptions", 8),
        ("pams_agent_subscribers", 3),
        ("pams_agent_subscribers_lost_total", 1),
        ("pams_agent_late_seconds_count", 1),
        ("pams_agent_records_dropped_total", 4),
        ("pams_agent_task_panics_total", 1),
        ("pams_agent_home_moves_total", 6),
        ("pams_agent_buddies", 5),
    ] {
        assert_eq!(scraped.samples.iter().filter(|s| s.name == name).count(), series, "{name}");
    }
    let of_files = ["csv_records_written_total", "csv_failing"];
    let of_others =
        ["buddy_up", "buddy_rtt_seconds", "home_clock_offset_seconds", "certificate_expiry_timestamp_seconds"];
    for absent in of_files.iter().chain(&of_others) {
        assert_eq!(scraped.sum(&format!("pams_agent_{absent}"), &[]), None, "{absent}");
    }
}

#[test]
fn records_and_notices_are_counted_and_timed() {
    let (metrics, b) = (Metrics::new(64), sample::peer(2));
    metrics.record(&sample::record(b));
    metrics.record(&sample::missed(b, Reason::Clock));
    metrics.record(&Record { kind: Kind::parse("app.move").unwrap(), ..sample::record(b) });
    metrics.notice(&Notice::Late { peer: b, total_ns: 6_000_000_000 });
    for label in ["oversized", "hello", "from the future"] {
        metrics.notice(&Notice::FrameRejected { from: None, label });
    }
    metrics.record(&sample::notified(b));
    metrics.notice(&Notice::SubscriberLost { peer: b });
    metrics.notice(&Notice::NotifyGap { peer: b, skipped: 4 });
    metrics.dropped("tap", 1);
    metrics.notice(&Notice::HomeMoved { server: ServerId::from_bytes([1; 16]), because: Because::LessLoaded });
    metrics.panicked();
    metrics.upkeep();
    let s = scrape(&metrics, &sample::view());
    let ping = ("kind", "presence.ping");
    for (name, labels, expected) in [
        ("transaction_seconds_count", &[ping][..], 1.0),
        ("transaction_seconds_sum", &[ping], 0.0851),
        ("transaction_seconds_bucket", &[ping, ("le", "0.05")], 0.0),
        ("transaction_seconds_bucket", &[ping, ("le", "0.1")], 1.0),
        ("stage_seconds_sum", &[ping, ("stage", "network")], 0.084),
        ("transaction_reasons_total", &[ping, ("reason", "clock")], 1.0),
        ("late_seconds_sum", &[ping], 6.0),
        ("notices_total", &[("notice", "frame_rejected")], 3.0),
        ("frames_rejected_total", &[("reason", "hello")], 1.0),
        ("frames_rejected_total", &[("reason", "other")], 1.0),
        ("records_dropped_total", &[("consumer", "tap")], 1.0),
        ("task_panics_total", &[], 1.0),
        ("home_moves_total", &[("because", "less_loaded")], 1.0),
        ("home_moves_total", &[("because", "start")], 0.0),
        ("told_seconds_sum", &[("bound", "least")], 0.005),
        ("told_seconds_sum", &[("bound", "most")], 0.048),
        ("subscribers_lost_total", &[], 1.0),
        ("subscription_skipped_total", &[], 4.0),
        ("subscriptions", &[("path", "peer"), ("state", "active")], 1.0),
        ("subscriptions", &[("path", "home"), ("state", "refused")], 1.0),
        ("subscribers", &[("state", "active")], 1.0),
    ] {
        assert_eq!(s.value(&format!("pams_agent_{name}"), labels), Some(expected), "{name} {labels:?}");
    }
    let stages = s.sum("pams_agent_stage_seconds_sum", &[ping]).unwrap();
    assert!((stages - 0.0851).abs() < 1e-9, "the stages add up to the total: {stages}");
}

#[test]
fn the_ledger_is_conserved_in_a_scrape() {
    let s = scrape(&Metrics::new(64), &sample::view());
    for kind in ["presence.ping", "pams.report"] {
        let of = |name: &str| s.sum(&format!("pams_agent_transactions_{name}"), &[("kind", kind)]).unwrap();
        assert_eq!(of("opened_total"), of("closed_total") + of("in_flight"));
    }
    assert_eq!(s.sum("pams_agent_transactions_closed_total", &[("status", "aborted")]), Some(2.0));
}

#[test]
fn only_a_buddy_that_answers_has_a_latency() {
    let s = scrape(&Metrics::new(64), &sample::view());
    let of = |name: &str, n: u8| {
        let (peer, name_of) = (sample::peer(n).to_string(), format!("b{n}"));
        s.sum(&format!("pams_agent_buddy_{name}"), &[("peer", &peer), ("name", &name_of)])
    };
    assert_eq!((of("up", 2), of("up", 3), of("up", 4), of("up", 5)), (Some(1.0), Some(0.0), Some(0.0), None));
    assert_eq!((of("rtt_seconds", 2), of("path_rtt_seconds", 2)), (Some(0.0851), Some(0.0845)));
    assert_eq!(of("clock_offset_seconds", 2), Some(-1.5));
    for n in 3..=5 {
        for name in ["rtt_seconds", "stage_seconds", "path_rtt_seconds", "clock_offset_seconds"] {
            assert_eq!(of(name, n), None, "{name} of b{n}");
        }
    }
}

#[test]
fn series_of_buddies_are_capped_and_vanish_with_them() {
    let view = View { buddies: (0..10).map(|n| sample::buddy(n, Some(Liveness::Live))).collect(), ..sample::view() };
    let shown = |s: &Exposition, peer: PeerId| {
        let peer = peer.to_string();
        s.samples.iter().filter(|s| s.labels.get("peer") == Some(&peer)).count()
    };
    let metrics = Metrics::new(3);
    let s = scrape(&metrics, &view);
    assert_eq!((shown(&s, sample::peer(2)), shown(&s, sample::peer(3))), (8, 0));
    assert_eq!(s.value("pams_agent_metrics_dropped_series", &[]), Some(56.0));
    assert_eq!(s.value("pams_agent_buddies", &[("liveness", "live")]), Some(10.0));
    let s = scrape(&metrics, &View { buddies: vec![], ..view });
    assert_eq!((shown(&s, sample::peer(2)), s.value("pams_agent_metrics_dropped_series", &[])), (0, Some(0.0)));
}

#[test]
fn files_that_are_written_show_how_far_they_are() {
    let s = scrape(&Metrics::new(64), &sample::view());
    assert_eq!(s.value("pams_agent_csv_records_written_total", &[]), Some(9.0));
    assert_eq!(s.value("pams_agent_csv_failing", &[]), Some(1.0));
}
