//! Timelines of subscriptions: w is told of a.

use super::*;

#[test]
fn a_change_is_told_at_once_one_at_a_time_and_the_newest() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < open #2 w > w came > accept #2 0
        0.2 < report #1 1 online@1 > ack #1 1
        0.3 < sub #2 a > subscribed #2 a 1.1 online@1 live 100ms
        0.4 < report #1 2 busy@2 > ack #1 2 > notify #2 1 a 1.2 busy@2 live 0ms
        0.5 < report #1 3 away@3 > ack #1 3
        0.6 < report #1 4 online@4 > ack #1 4
        0.7 < told #2 a 1 > told in 300ms > notify #2 3 a 1.4 online@4 live 100ms
        0.8 < told #2 a 3 > told in 200ms
        0.9 < report #1 5 online@4 > ack #1 5
        1.0 < unsub #2 a
        1.1 < report #1 6 busy@5 > ack #1 6
        1.2 ? notifies > 0 subscriptions sent 2 acked 2 lost 0
        ",
    );
}

#[test]
fn what_is_concluded_is_told_too_and_one_that_is_out_of_contact_can_be_subscribed_to() {
    check(
        "
        0.0 < open #2 w > w came > accept #2 0
        0.1 < sub #2 a > subscribed #2 nothing
        0.2 < open #1 a > a came > accept #1 0 > notify #2 1 a 1.0 - live 0ms
        0.3 < told #2 a 1 > told in 100ms
        0.4 < report #1 1 busy@7 > ack #1 1 > notify #2 2 a 1.7 busy@7 live 0ms
        0.5 < told #2 a 2 > told in 100ms
        1.4 < heard #2
        2.4 > notify #2 3 a 1.7 busy@7 overdue 2000ms
        2.5 < told #2 a 3 > told in 100ms
        3.4 < heard #2
        4.9 > a gone > notify #2 4 a 1.7 busy@7 gone 4500ms
        5.0 < told #2 a 4 > told in 100ms
        5.1 < sub #2 a > subscribed #2 a 1.7 busy@7 gone 4700ms
        5.2 < open #3 a e2 > close #1 superseded > notice superseded 1 > a restarted > accept #3 0 > notify #2 5 a 2.0 - live 0ms
        5.3 < told #2 a 5 > told in 100ms
        5.4 < report #3 1 busy@7 > ack #3 1 > notify #2 6 a 2.7 busy@7 live 0ms
        5.5 < told #2 a 6 > told in 100ms
        5.6 < bye #3 > a left > notify #2 7 a 2.7 busy@7 left 0ms
        ",
    );
}

#[test]
fn a_subscriber_that_does_not_answer_is_told_of_and_told_more_when_it_does() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.3 < sub #2 a > subscribed #2 a 1.0 - live 300ms
        1.0 < report #1 1 busy@1 > ack #1 1 > notify #2 1 a 1.1 busy@1 live 0ms
        1.5 < heard #2
        2.5 < heard #1
        3.0 < heard #2
        4.0 < heard #1
        4.5 < heard #2
        5.5 < heard #1
        5.9 < heard #2
        5.9 ? due > Overdue
        6.0 > notice subscriber_lost 1
        6.5 < report #1 2 away@2 > ack #1 2
        7.0 < told #2 a 1 > told in 6000ms > notify #2 2 a 1.2 away@2 live 500ms
        7.1 ? notifies > 1 subscriptions sent 2 acked 1 lost 0
        ",
    );
}

#[test]
fn no_subscriber_is_lost_by_a_stop_of_our_own() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.0 < open #3 v > v came > accept #3 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.2 < sub #3 a > subscribed #3 a 1.0 - live 200ms
        0.5 < report #1 1 busy@1 > ack #1 1 > notify #3 1 a 1.1 busy@1 live 0ms > notify #2 1 a 1.1 busy@1 live 0ms
        0.6 < lost #3
        60.0 << heard #2 > notice stalled 1
        60.1 < told #2 a 1 > told in 59600ms
        61.0 < heard #1
        61.1 < heard #2
        62.5 < heard #1
        62.6 < heard #2
        64.0 < heard #1
        64.1 < heard #2
        64.5 > v gone
        65.0 > notice subscriber_lost 1
        65.1 ? notifies > 1 subscriptions sent 2 acked 1 lost 1
        ",
    );
}

#[test]
fn a_subscriber_that_comes_again_subscribes_again_and_one_that_does_not_is_lost() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.5 < report #1 1 busy@1 > ack #1 1 > notify #2 1 a 1.1 busy@1 live 0ms
        0.6 < lost #2
        0.7 < open #3 w > accept #3 0
        0.8 < sub #3 a > subscribed #3 a 1.1 busy@1 live 300ms > notify #3 1 a 1.1 busy@1 live 300ms
        0.9 < told #3 a 1 > told in 400ms
        1.0 < open #4 w > close #3 superseded > notice superseded 1 > w superseded > accept #4 0
        1.1 < report #1 2 away@2 > ack #1 2
        1.2 < told #3 a 1 > notice stale_session 1
        2.5 < heard #1
        2.6 < heard #4
        4.0 < heard #1
        4.1 < heard #4
        5.5 < heard #1
        5.6 < heard #4
        6.0 > notice subscriber_lost 1
        6.1 ? notifies > 0 subscriptions sent 1 acked 1 lost 0
        ",
    );
}

#[test]
fn what_was_under_way_of_a_peer_that_is_forgotten_holds_nothing_up() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.5 < report #1 1 busy@1 > ack #1 1 > notify #2 1 a 1.1 busy@1 live 0ms
        0.6 < lost #2
        0.7 < forget a force > a forgotten > close #1 rejected > forgot a Done
        0.8 < open #3 w > accept #3 0
        0.9 < sub #3 a > subscribed #3 nothing > notify #3 1 a 1.1 busy@1 gone 400ms
        1.0 < told #3 a 1 > told in 500ms
        1.1 < open #4 a e2 > a came > accept #4 0 > notify #3 3 a 2.0 - live 0ms
        1.2 < told #3 a 3 > told in 100ms
        1.3 ? notifies > 1 subscriptions sent 2 acked 2 lost 0
        ",
    );
}

#[test]
fn who_was_not_told_that_a_peer_is_gone_before_it_is_forgotten_is_told_so_after() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.5 < report #1 1 busy@1 > ack #1 1 > notify #2 1 a 1.1 busy@1 live 0ms
        1.5 < heard #2
        3.0 < heard #2
        4.5 < heard #2
        5.0 > a gone
        5.5 > notice subscriber_lost 1
        6.0 < forget a > a forgotten > close #1 rejected > forgot a Done
        6.1 < open #3 v > v came > accept #3 0
        6.2 < sub #3 a > subscribed #3 nothing
        6.3 < told #2 a 1 > told in 5800ms > notify #2 3 a 1.1 busy@1 gone 5800ms
        6.4 < told #2 a 3 > told in 1400ms
        6.5 ? notifies > 2 subscriptions sent 2 acked 2 lost 0
        ",
    );
}

#[test]
fn a_peer_that_is_forgotten_while_it_is_here_is_told_gone_until_it_is_back() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.5 < forget a force > a forgotten > close #1 rejected > forgot a Done > notify #2 1 a 1.0 - gone 500ms
        0.6 < told #2 a 1 > told in 100ms
        0.7 < open #3 a > a came > accept #3 0 > notify #2 2 a 1.0 - live 0ms
        0.8 < told #2 a 2 > told in 100ms
        0.9 < bye #3 > a left > notify #2 3 a 1.0 - left 0ms
        1.0 < forget a > a forgotten > close #3 rejected > forgot a Done
        1.1 < told #2 a 3 > told in 200ms
        1.2 < unsub #2 a
        1.3 < sub #2 a > subscribed #2 nothing
        1.4 ? notifies > 1 subscriptions sent 3 acked 3 lost 0
        ",
    );
}

#[test]
fn who_leaves_is_not_lost_and_what_was_under_way_is_counted() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 w > w came > accept #2 0
        0.1 < sub #2 a > subscribed #2 a 1.0 - live 100ms
        0.5 < report #1 1 busy@1 > ack #1 1 > notify #2 1 a 1.1 busy@1 live 0ms
        0.6 < bye #2 > w left
        0.7 ? notifies > 0 subscriptions sent 1 acked 0 lost 1
        ",
    );
}

#[test]
fn the_bounds_refuse_and_say_why() {
    let config = PamsConfig {
        subscribers_per_peer: 1,
        subscriptions_per_agent: 2,
        subscriptions_total: 3,
        ..PamsConfig::default()
    };
    check_with(
        config,
        "
        0.0 < open #1 w > w came > accept #1 0
        0.0 < open #2 v > v came > accept #2 0
        0.1 < sub #1 w > notice subscription_refused 1 > refused #1 a peer need not be told of itself
        0.1 < sub #1 a > subscribed #1 nothing
        0.1 < sub #2 a > notice subscription_refused 1
          > refused #2 this peer has 1 subscribers and takes no more; try again later
        0.1 < sub #1 b > subscribed #1 nothing
        0.1 < sub #1 c > notice subscription_refused 1
          > refused #1 you have 2 subscriptions here and get no more; end one that you do not need
        0.1 < sub #2 c > subscribed #2 nothing
        0.1 < sub #2 d > notice subscription_refused 1
          > refused #2 there are 3 subscriptions here and no more are taken; try again later
        ",
    );
}
