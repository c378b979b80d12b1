//! How soon a crash is seen, and what all this costs when nothing happens.

use super::{
    super::State,
    MS, SECOND, far, lossy,
    net::{Net, Spread},
    seeds,
};
use pams_shared::sim::Link;

/// From the crash of one server until the last of the others is told.
fn crashes(count: usize, link: Link, seeds: std::ops::Range<u64>) -> Spread {
    Spread(
        seeds
            .map(|seed| {
                let mut net = Net::new(seed, count, link);
                assert!(net.is_whole(), "seed {seed}: {:?}", net.told);
                assert!(net.downs().is_empty(), "seed {seed}");
                let wait = net.chances.below(1_000);
                net.run_for(wait as u32 * MS);
                let victim = net.chances.below(count as u64) as usize;
                net.crash(victim);
                let others = net.others(victim);
                let all = |net: &Net| others.iter().all(|o| net.state(*o, victim) == Some(State::Down));
                net.until(10 * SECOND, all).unwrap_or_else(|| panic!("seed {seed}: not seen"))
            })
            .collect(),
    )
}

#[test]
fn a_crash_is_seen_by_all_within_two_seconds() {
    for count in [3, 5, 10] {
        for (name, link) in [("0..60 ms", lossy(0.01)), ("60 ms", far(0.01))] {
            let mut took = crashes(count, link, seeds(34));
            took.print(&format!("crash, {count} servers, {name}, 1 % loss"));
            assert!(took.at(0.99) <= 2 * SECOND);
        }
    }
}

#[test]
fn gossip_is_silent_when_nothing_is_new() {
    for count in [2, 3, 5, 10] {
        let mut net = Net::new(1, count, lossy(0.0));
        net.run_for(10 * SECOND);
        net.sent.clear();
        net.run_for(100 * SECOND);
        let most = net.sent.values().max_by_key(|(_, bytes)| *bytes).expect("they probe");
        println!(
            "idle, {count} servers: {:.1} messages, {} bytes a second each way",
            most.0 as f64 / 100.0,
            most.1 / 100
        );
        assert!(most.1 / 100 <= 200, "{} bytes a second", most.1 / 100);
        // One exchange in 0.33 s does for both.
        assert!(most.0 <= 340, "{} messages", most.0);
    }
}
