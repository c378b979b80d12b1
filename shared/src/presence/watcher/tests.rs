//! Scripts of what comes of a buddy, and what is concluded; who is polled when.

use super::*;

const B: PeerId = PeerId::from_bytes([2; 16]);

fn at(ms: u64) -> Moment {
    Moment::new(ms * 1_000_000, 0)
}

/// Runs a script: `12.5 pong` (`pong 12.1`: to a ping opened at 12.1), `15 miss 10` (opened at 10), `20 heard`,
/// `21 bye`, `22 late`, `23 restarted`, `24 slept` (we did); returns the conclusions as they come.
fn check(script: &str, expected: &str) {
    let mut minter = Minter::new([1; 32]);
    let mut w = Watcher::new(WatcherConfig::default());
    w.watch(at(0), B, &mut minter);
    let mut seen = Vec::new();
    for line in script.split('|') {
        let mut words = line.split_whitespace();
        let secs = |s: &str| at((s.parse::<f64>().unwrap() * 1e3) as u64);
        let now = secs(words.next().unwrap());
        let mut out = Vec::new();
        match words.next().unwrap() {
            "pong" => w.answered(now, B, words.next().map_or(now, secs), (Status::Online, 1), &mut out),
            "miss" => w.missed(now, B, secs(words.next().unwrap()), Reason::NoAnswer, &mut out),
            "heard" => w.heard(now, B, &mut out),
            "bye" => w.left(now, B, &mut out),
            "restarted" => w.restarted(now, B, &mut out),
            "late" => w.late(now, B, Status::Busy, 2, &mut out),
            "slept" => w.doubt(now, &mut minter),
            other => panic!("{other}"),
        }
        for change in out {
            let what = match change {
                Change::Liveness { to, .. } => to.as_str(),
                Change::Status { to, .. } => to.as_str(),
                Change::Heard { .. } => "heard",
            };
            seen.push(format!("{} {what}", now.ns() as f64 / 1e9));
        }
    }
    assert_eq!(seen.join(" | "), expected);
}

#[test]
fn a_silent_buddy_is_overdue_and_then_gone() {
    check(
        "0.1 pong | 15 miss 10 | 16 miss 11 | 17 miss 12 | 18 miss 13",
        "0.1 online | 0.1 live | 15 overdue | 17 gone",
    );
}

#[test]
fn one_that_is_still_heard_is_never_gone_and_goes_when_it_falls_silent() {
    // One-way block: our pings are lost, its own arrive, the last at 18; silence is 16 s.
    check(
        "0.1 pong | 15 miss 10 | 15.5 heard | 16 miss 11 | 17 miss 12 | 18 heard | 19 miss 14 | 33.9 miss 28 | 34 miss 29",
        "0.1 online | 0.1 live | 15 overdue | 15.5 heard",
    );
    check(
        "0.1 pong | 15 miss 10 | 16 miss 11 | 17 miss 12 | 20 heard",
        "0.1 online | 0.1 live | 15 overdue | 17 gone | 20 overdue",
    );
}

#[test]
fn one_that_was_heard_after_the_misses_began_and_then_fell_silent_is_gone() {
    check(
        "0.1 pong | 15 miss 10 | 15.5 heard | 16 miss 11 | 21 miss 16 | 31.4 miss 26.4 | 31.6 miss 26.6",
        "0.1 online | 0.1 live | 15 overdue | 15.5 heard | 31.6 gone",
    );
}

#[test]
fn a_goodbye_is_left_at_once_and_stays_so_until_it_starts_again() {
    check(
        "0.1 pong | 3 bye | 8 miss 3 | 9 miss 4 | 10 miss 5 | 60 restarted | 61 pong",
        "0.1 online | 0.1 live | 3 left | 60 overdue | 60 heard | 61 live",
    );
}

#[test]
fn what_was_sent_before_a_goodbye_and_comes_after_it_brings_nobody_back() {
    check("0.1 pong | 3 bye | 3.1 pong 2.9 | 3.2 heard | 3.3 late", "0.1 online | 0.1 live | 3 left | 3.3 busy");
    // A goodbye that came out of turn: the ping that is hastened by what is heard is answered.
    check("0.1 pong | 3 bye | 9 heard | 9.1 pong 9", "0.1 online | 0.1 live | 3 left | 9.1 live");
    let (mut w, mut minter, mut out) = (Watcher::new(WatcherConfig::default()), Minter::new([1; 32]), Vec::new());
    w.watch(at(0), B, &mut minter);
    w.left(at(3_000), B, &mut out);
    assert_eq!(w.deadline(), Some(at(63_000)));
    w.restarted(at(4_000), B, &mut out);
    assert_eq!(w.deadline(), Some(at(4_000)), "another start is called at once");
    w.left(at(5_000), B, &mut out);
    w.heard(at(9_000), B, &mut out);
    assert_eq!(w.deadline(), Some(at(9_000)));
    assert_eq!(w.due(at(9_000), &mut minter), Some(B));
    w.answered(at(9_100), B, at(9_000), (Status::Online, 1), &mut out);
    assert!(w.deadline().unwrap() <= at(19_100), "watched as often as others again");
}

#[test]
fn a_miss_from_before_the_last_answer_says_nothing() {
    check("0.1 pong | 12 pong | 15 miss 10", "0.1 online | 0.1 live");
}

#[test]
fn a_late_pong_is_news_of_the_status_but_no_answer() {
    check("0.1 pong | 15 miss 10 | 15.2 late", "0.1 online | 0.1 live | 15 overdue | 15.2 busy | 15.2 heard");
}

#[test]
fn never_heard_is_gone_after_three() {
    check("5 miss 0 | 6 miss 1 | 7 miss 2", "5 overdue | 7 gone");
}

#[test]
fn buddies_do_not_align_and_a_miss_is_retried_each_second() {
    let mut minter = Minter::new([3; 32]);
    let mut w = Watcher::new(WatcherConfig::default());
    let peers: Vec<PeerId> = (1..=50).map(|n| PeerId::from_bytes([n; 16])).collect();
    peers.iter().for_each(|p| assert!(w.watch(at(0), *p, &mut minter)));
    let (mut turns, mut out) = (BTreeMap::<PeerId, Vec<u64>>::new(), Vec::new());
    for ms in 0..60_000 {
        while let Some(p) = w.due(at(ms), &mut minter) {
            turns.entry(p).or_default().push(ms);
            w.answered(at(ms), p, at(ms), (Status::Online, 1), &mut out);
        }
    }
    for t in turns.values() {
        assert!((6..=8).contains(&t.len()), "{t:?}");
        assert!(t[1..].windows(2).all(|w| (8_999..=11_001).contains(&(w[1] - w[0]))), "{t:?}");
    }
    let fullest = (0..60).map(|s| turns.values().flatten().filter(|ms| **ms / 1_000 == s && s > 1).count()).max();
    assert!(fullest.unwrap() < 16, "{fullest:?}");
    // One miss: its turn comes within 1.1 s, and again.
    let p = peers[0];
    w.missed(at(70_000), p, at(65_000), Reason::NoAnswer, &mut out);
    assert!(w.buddy(p).unwrap().due <= at(71_000));
    let turn = (70_000..).find(|ms| std::iter::from_fn(|| w.due(at(*ms), &mut minter)).any(|q| q == p)).unwrap();
    assert!((900..=1_100).contains(&(w.buddy(p).unwrap().due.since(at(turn)).as_millis())));
}

#[test]
fn who_did_not_run_itself_finds_nobody_gone_for_a_whole_silence() {
    // Two misses before the sleep count no more, and neither does the hour of it.
    check(
        "0.1 pong | 15 miss 10 | 16 miss 11 | 3600 slept | 3606 miss 3601 | 3607 miss 3602 | 3608 miss 3603 | \
         3616.1 miss 3611",
        "0.1 online | 0.1 live | 15 overdue | 3616.1 gone",
    );
    check("0.1 pong | 3600 slept | 3600.5 pong | 3605 miss 3600.4", "0.1 online | 0.1 live");
}

#[test]
fn after_a_sleep_all_are_asked_within_a_second_and_a_shorter_interval_holds_at_once() {
    let mut minter = Minter::new([1; 32]);
    let mut w = Watcher::new(WatcherConfig { interval: Duration::from_secs(3_600), ..WatcherConfig::default() });
    let peers: Vec<PeerId> = (1..=50).map(|n| PeerId::from_bytes([n; 16])).collect();
    for peer in &peers {
        w.watch(at(0), *peer, &mut minter);
        w.hasten(*peer, at(0));
        assert_eq!(w.due(at(0), &mut minter), Some(*peer));
    }
    let within = |w: &Watcher, ms: u64| w.buddies.values().filter(|b| b.due <= at(ms)).count();
    assert!(within(&w, 11_000) < 10);
    w.reconfigure(at(1_000), WatcherConfig::default(), &mut minter);
    assert_eq!(within(&w, 11_000), 50);
    assert!(within(&w, 6_000) < 40, "they are spread");
    w.doubt(at(1_000), &mut minter);
    assert_eq!((within(&w, 1_000), within(&w, 2_000)), (0, 50));
    assert!(w.unwatch(peers[0]) && !w.unwatch(peers[0]));
    assert_eq!((w.len(), w.due.len()), (49, 49));
}
