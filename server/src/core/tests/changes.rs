//! Timelines of a server whose configuration or host changes under it.

use super::*;

#[test]
fn a_server_whose_host_was_suspended_judges_nobody_by_it() {
    // The monotonic clock leaves the hour out, so that no deadline shows it.
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        1.0 << suspended 3600 > notice stalled 1
        2.9 ? a > live Heard 2900ms order 1.0.0 - batch 0
        3.1 ? a > overdue Silence 3100ms order 1.0.0 - batch 0
        5.5 > a gone
        5.6 ? due > Forget
        ",
    );
}

#[test]
fn a_shorter_pace_is_known_to_the_agents_before_they_are_judged_by_it() {
    check_with(
        paced(10_000),
        "
        0.0 < open #1 a > a came > accept #1 0
        1.0 < report #1 1 > ack #1 1
        2.0 < pace 1000
        11.0 < report #1 2 > ack #1 2
        12.0 ? a > live Heard 1000ms order 1.0.0 - batch 2
        13.6 ? a > overdue Silence 2600ms order 1.0.0 - batch 2
        15.0 > a gone
        15.1 ? due > Forget
        ",
    );
}

#[test]
fn a_longer_pace_holds_at_once() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        1.0 < pace 10000
        9.0 ? a > live Heard 9000ms order 1.0.0 - batch 0
        32.5 > a gone
        32.6 ? due > Forget
        ",
    );
}

#[test]
fn another_number_of_watchers_and_of_subscribers_holds_for_those_that_are_here() {
    check(
        "
        0.0 < open #1 a in=x takes=9 > a came > accept #1 0
        0.0 < open #2 b in=x takes=9 > b came > accept #2 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.2 < watchers 0
        0.3 < sub #1 b > notice subscription_refused 1
          > refused #1 this peer has 0 subscribers and takes no more; try again later
        0.4 ? rosters > 0 edges 0 short 0 cut 0 pushed
        0.5 < watchers 1
        0.6 < sub #1 b > subscribed #1 b 1.0 - live 500ms
        0.7 ? rosters > 2 edges 0 short 0 cut 0 pushed
        ",
    );
}

#[test]
fn smaller_bounds_forget_the_longest_departed() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b > b came > accept #2 0
        0.0 < open #3 c > c came > accept #3 0
        0.1 < bye #1 > a left
        0.2 < bye #2 > b left
        0.3 < bye #3 > c left
        1.0 < departed 1 > notice evicted 1 > a forgotten > close #1
            > notice evicted 1 > b forgotten > close #2 > notice forgotten_for_good 1
        ",
    );
}
