//! Loss, cuts, sleep, partitions, restarts: who is told what, and what not.

use pams_shared::sim::Link;

use super::{
    super::*,
    MS, SECOND, lossy, member,
    net::{Net, Spread, Told},
    seeds,
};

/// Nobody was told that somebody is down.
fn assert_no_downs(net: &Net, what: &str) {
    println!("{what}: notices {:?}", net.notices);
    assert!(net.downs().is_empty(), "{what}: {:?}", net.downs());
    assert!(net.is_whole(), "{what}");
}

#[test]
fn in_an_hour_of_one_percent_loss_nobody_is_down() {
    let mut net = Net::new(1, 5, lossy(0.01));
    net.run_for(3_600 * SECOND);
    assert_no_downs(&net, "an hour, 1 % loss");
}

#[test]
fn in_ten_minutes_of_three_percent_loss_nobody_is_down() {
    for (seed, count) in [(1, 5), (2, 3)] {
        let mut net = Net::new(seed, count, lossy(0.03));
        net.run_for(600 * SECOND);
        assert_no_downs(&net, &format!("{count} servers, ten minutes, 3 % loss"));
    }
}

/// Half the world away: slower to judge, but no trouble.
#[test]
fn servers_far_apart_are_seldom_suspected() {
    for way in [150, 200] {
        let link = Link { delay: way * MS, jitter: 20 * MS, loss: 0.01, ..Link::default() };
        let mut net = Net::new(1, 5, link);
        net.run_for(30 * SECOND);
        net.told.clear();
        net.run_for(300 * SECOND);
        assert!(net.downs().is_empty());
        let suspected = net.told.iter().filter(|t| t.state == State::Suspect).count();
        println!("{way} ms one way, five minutes: suspected {suspected} times, notices {:?}", net.notices);
        assert!(suspected <= 10, "{suspected}");
    }
}

#[test]
fn others_vouch_over_a_one_way_cut() {
    for seed in seeds(5) {
        let mut net = Net::new(seed, 5, lossy(0.01));
        net.set(1, 3, Link::PARTITION);
        net.run_for(60 * SECOND);
        assert_no_downs(&net, "a one-way cut");
    }
}

#[test]
fn who_slept_accuses_nobody_and_is_alive_at_once_when_it_wakes() {
    let mut took = Vec::new();
    for seed in seeds(40) {
        let mut net = Net::new(seed, 5, lossy(0.01));
        let wait = net.chances.below(1_000);
        net.run_for(wait as u32 * MS);
        net.sleep(2, 5 * SECOND);
        net.run_for(5 * SECOND);
        assert!(net.others(2).iter().all(|o| net.state(*o, 2) == Some(State::Down)), "seed {seed}");
        let whole = net.until(5 * SECOND, Net::is_whole);
        took.push(whole.unwrap_or_else(|| panic!("seed {seed}: {:?}", net.told)));
        net.run_for(10 * SECOND);
        assert!(net.is_whole(), "seed {seed}");
        let accused: Vec<_> = net.downs().into_iter().filter(|t| t.subject != 2).collect();
        assert!(accused.is_empty(), "seed {seed}: {accused:?}");
    }
    let mut took = Spread(took);
    took.print("alive at all again after a sleep of 5 s");
    assert!(took.at(1.0) <= SECOND);
}

/// Short sleeps, at odd times and of every length, of which the engine is told by nothing but its late timers.
#[test]
fn short_sleeps_harm_nobody_else() {
    for seed in seeds(20) {
        let mut net = Net::new(seed, 5, lossy(0.01));
        net.says_stalls = false;
        for _ in 0..10 {
            let (length, pause) = (net.chances.below(1_500), net.chances.below(1_500));
            net.sleep(2, length as u32 * MS);
            net.run_for((length + pause) as u32 * MS);
        }
        net.run_for(2 * SECOND);
        assert!(net.is_whole(), "seed {seed}");
        let accused: Vec<_> = net.downs().into_iter().filter(|t| t.subject != 2).collect();
        assert!(accused.is_empty(), "seed {seed}: {accused:?}");
    }
}

#[test]
fn a_partition_heals_within_a_second() {
    for (count, side) in [(3, 1), (5, 2), (10, 5), (2, 1)] {
        let mut took = Vec::new();
        for seed in seeds(5) {
            let mut net = Net::new(seed, count, lossy(0.01));
            let (a, b): (Vec<_>, Vec<_>) = (0..count).partition(|n| *n < side);
            net.part(&a, &b, Link::PARTITION);
            net.run_for(30 * SECOND);
            assert_eq!(net.state(0, side), Some(State::Down), "seed {seed}");
            assert_eq!(net.state(side, 0), Some(State::Down), "seed {seed}");
            net.told.clear();
            let wait = net.chances.below(1_000);
            net.run_for(wait as u32 * MS);
            net.heal(&a, &b);
            let whole = net.until(10 * SECOND, Net::is_whole);
            took.push(whole.unwrap_or_else(|| panic!("seed {seed}: {:?}", net.told)));
            net.run_for(10 * SECOND);
            assert!(net.downs().is_empty(), "seed {seed}: {:?}", net.told);
            assert!(net.until(SECOND, Net::is_whole).is_some(), "seed {seed}: {:?}", net.told);
        }
        let mut took = Spread(took);
        took.print(&format!("{count} servers whole again after a partition"));
        assert!(took.at(1.0) <= SECOND);
    }
}

#[test]
fn who_leaves_has_left_at_once_and_a_restart_brings_it_back() {
    for seed in seeds(20) {
        let mut net = Net::new(seed, 5, lossy(0.01));
        net.input(3, Input::Leave);
        net.run_for(200 * MS);
        assert!([0, 1, 2, 4].iter().all(|o| net.state(*o, 3) == Some(State::Left)), "seed {seed}");
        net.crash(3);
        net.run_for(30 * SECOND);
        assert!(net.downs().is_empty(), "seed {seed}: {:?}", net.downs());
        assert!([0, 1, 2, 4].iter().all(|o| net.state(*o, 3) == Some(State::Left)), "seed {seed}");
        net.restart(3);
        net.run_for(SECOND);
        assert!(net.is_whole(), "seed {seed}: {:?}", net.told);
    }
}

#[test]
fn a_restart_wins_at_once() {
    for (seed, pause) in (0..10).flat_map(|seed| [(seed, 10), (seed, 800), (seed, 5_000)]) {
        let mut net = Net::new(seed, 5, lossy(0.01));
        net.crash(1);
        net.run_for(pause * MS);
        net.restart(1);
        net.run_for(SECOND);
        assert!(net.is_whole(), "seed {seed}, {pause} ms: {:?}", net.told);
        let generation = member(1).generation + 1;
        assert!([0, 2, 3, 4].iter().all(|o| {
            net.engine(*o).members().any(|s| s.member.id == member(2).id && s.member.generation == generation)
        }));
        net.told.clear();
        net.run_for(10 * SECOND);
        assert!(net.downs().is_empty() && net.is_whole(), "seed {seed}, {pause} ms: {:?}", net.told);
    }
}

#[test]
fn all_others_down_and_back_one_by_one() {
    let mut net = Net::new(7, 3, lossy(0.01));
    net.crash(1);
    net.crash(2);
    net.run_for(60 * SECOND);
    assert_eq!((net.state(0, 1), net.state(0, 2)), (Some(State::Down), Some(State::Down)));
    net.restart(1);
    net.restart(2);
    net.run_for(SECOND);
    assert!(net.is_whole(), "{:?}", net.told);
}

#[test]
fn another_name_and_address_are_told_to_all() {
    for seed in seeds(20) {
        let mut net = Net::new(seed, 10, lossy(0.01));
        let changed = Member { name: "other".into(), addresses: vec![], ..member(3) };
        net.input(2, Input::Changed(changed.clone()));
        net.run_for(SECOND);
        for o in net.others(2) {
            let seen = net.engine(o).members().find(|s| s.member.id == changed.id).map(|s| s.member.clone());
            assert_eq!(seen.as_ref(), Some(&changed), "seed {seed}");
        }
        net.run_for(5 * SECOND);
        assert_no_downs(&net, "another name");
    }
}

#[test]
fn connections_that_come_and_go_put_nobody_down() {
    let mut net = Net::new(3, 5, lossy(0.01));
    for _ in 0..300 {
        let (a, b) = (net.chances.below(5) as usize, net.chances.below(5) as usize);
        net.input(a, Input::Parted(member(b as u8 + 1).id));
        net.run_for(50 * MS);
        net.connect(a, b);
    }
    assert_no_downs(&net, "connections come and go");
}

/// What two of five see of a third that can hear but not be heard, or speak but not hear.
#[test]
fn one_that_is_deaf_or_mute_is_down_and_takes_nobody_with_it() {
    for (seed, deaf) in seeds(10).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut net = Net::new(seed, 5, lossy(0.01));
        for o in net.others(2) {
            let (from, to) = if deaf { (o, 2) } else { (2, o) };
            net.set(from, to, Link::PARTITION);
        }
        net.run_for(30 * SECOND);
        let wrong = |t: &Told| t.subject != 2 && t.observer != 2;
        let wrong: Vec<_> = net.downs().into_iter().filter(wrong).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        assert!(net.others(2).iter().all(|o| net.state(*o, 2) == Some(State::Down)), "seed {seed}");
        net.heal(&[2], &net.others(2));
        assert!(net.until(SECOND, Net::is_whole).is_some(), "seed {seed}: {:?}", net.told);
    }
}

/// Crashes, restarts, sleeps, cuts, each at odd times and upon each other.
#[test]
fn whatever_happened_all_agree_in_the_end() {
    for seed in seeds(25) {
        let mut net = Net::new(seed, 5, lossy(0.02));
        for _ in 0..12 {
            let (n, other) = (net.chances.below(5) as usize, net.chances.below(5) as usize);
            let others: Vec<_> = (0..5).filter(|o| *o != n).collect();
            match net.chances.below(7) {
                0 => net.crash(n),
                1 => net.restart(n),
                2 => net.sleep(n, SECOND),
                3 if n != other => net.set(n, other, Link::PARTITION),
                4 => net.part(&[n], &others, Link::PARTITION),
                _ => net.heal(&[n], &others),
            }
            let pause = net.chances.below(2_000);
            net.run_for(pause as u32 * MS);
        }
        for (a, b) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))) {
            net.heal(&[a], &[b]);
            net.connect(a, b);
        }
        net.run_for(5 * SECOND);
        let up = net.others(usize::MAX);
        assert!(net.until(SECOND, Net::is_whole).is_some(), "seed {seed}: {up:?} {:?}", net.told);
        let dead = (0..5).filter(|n| !up.contains(n));
        for (n, o) in dead.flat_map(|n| up.iter().map(move |o| (n, *o))) {
            assert!(matches!(net.state(o, n), None | Some(State::Down)), "seed {seed}: {o} of {n}");
        }
    }
}
