//! One timeline per rule.

use super::*;

#[test]
fn an_agent_attaches_reports_and_leaves() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 ? a > live Heard 100ms order 1.0.0 - batch 0
        0.5 < report #1 1 ping=3/2 busy@1 records=2 > ack #1 1 > record a presence.ping > record a presence.ping
        2.0 < report #1 2 ping=4/4 online@2 > ack #1 2
        2.0 ? a > live Heard 0ms order 1.0.2 online batch 2 presence.ping 4=4+0+0+0+0
        3.0 < bye #1 > a left
        3.1 < lost #1
        60.0 ? a > left Goodbye 57000ms order 1.0.2 online batch 2 presence.ping 4=4+0+0+0+0
        60.0 ? peers > live 0 overdue 0 gone 0 left 1 sessions 0
        60.0 ? sd > nobody
        ",
    );
}

#[test]
fn a_crashed_agent_is_overdue_then_gone_within_five_seconds_of_its_last_report() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        1.5 < report #1 1 ping=3/1 > ack #1 1
        1.6 < lost #1
        3.4 ? a > live Heard 1900ms order 1.0.0 - batch 1 presence.ping 3=1+0+0+0+2
        3.4 ? due > Overdue
        3.6 ? a > overdue Silence 2100ms order 1.0.0 - batch 1 presence.ping 3=1+0+0+0+2
        3.6 ? due > Gone
        6.0 > a gone
        6.1 ? a > gone Silence 4600ms order 1.0.0 - batch 1 presence.ping 3=1+0+0+0+2
        6.1 ? due > Forget
        6.1 ? sd > peer-a
        ",
    );
}

#[test]
fn what_a_dead_epoch_had_in_flight_is_unknown_once_the_next_attaches() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.5 < report #1 1 ping=5/2 > ack #1 1
        5.0 > a gone
        9.0 ? totals > presence.ping 5=2+0+0+0+3
        9.0 < open #2 a e2 > abandoned a presence.ping 3 crash > close #1 superseded > notice superseded 1 > a restarted
            > accept #2 0
        9.1 < report #2 1 ping=2/1 > ack #2 1
        9.1 ? totals > presence.ping 7=3+0+0+3+1
        9.1 ? a > live Heard 0ms order 2.0.0 - batch 1 presence.ping 7=3+0+0+3+1
        9.2 < lost #1
        9.2 ? peers > live 1 overdue 0 gone 0 left 0 sessions 1
        ",
    );
}

#[test]
fn a_peer_that_was_only_cut_off_returns_and_nothing_is_booked_twice() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.5 < report #1 1 ping=5/2 > ack #1 1
        5.0 > a gone
        8.0 < report #1 2 ping=6/6 > a returned > ack #1 2
        8.0 ? totals > presence.ping 6=6+0+0+0+0
        12.5 > a gone
        20.0 < open #2 a h1 > close #1 superseded > notice superseded 1 > a returned > accept #2 2
        20.0 ? a > live Heard 0ms order 1.1.0 - batch 2 presence.ping 6=6+0+0+0+0
        ",
    );
}

#[test]
fn a_forgotten_peer_that_comes_back_in_its_epoch_goes_on_where_it_was() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.5 < report #1 1 ping=5/2 > ack #1 1
        0.6 < forget a > forgot a StillHere
        5.0 > a gone
        6.0 < forget a > abandoned a presence.ping 3 crash > a forgotten > close #1 rejected > forgot a Done
        6.0 ? a > nothing
        6.0 < forget a > forgot a Unknown
        6.0 ? totals > presence.ping 5=2+0+0+3+0
        7.0 < open #2 a > a came > accept #2 1
        7.1 < report #2 1 ping=5/2 records=1 > ack #2 1 > notice replayed 1
        7.2 < report #2 2 ping=8/4 > ack #2 2
        7.2 ? totals > presence.ping 8=2+0+0+3+3
        7.3 < report #2 3 ping=8/8 > ack #2 3
        7.3 ? totals > presence.ping 8=5+0+0+3+0
        7.3 < report #1 4 ping=9/9 > notice stale_session 1
        ",
    );
}

#[test]
fn a_peer_that_is_here_is_forgotten_by_force_only() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.5 < report #1 1 ping=5/2 > ack #1 1
        0.6 < forget a > forgot a StillHere
        0.7 < forget a force > abandoned a presence.ping 3 crash > a forgotten > close #1 rejected > forgot a Done
        0.7 ? peers > live 0 overdue 0 gone 0 left 0 sessions 0
        0.8 < report #1 2 ping=5/5 > notice stale_session 1
        0.9 < lost #1
        1.0 < forget a force > forgot a Unknown
        1.0 ? totals > presence.ping 5=2+0+0+3+0
        ",
    );
}

#[test]
fn forgetting_lets_an_older_copy_of_a_peer_in_again() {
    check(
        "
        0.0 < open #1 a e7 > a came > accept #1 0
        0.1 < report #1 1 ping=2/2 > ack #1 1
        0.2 < bye #1 > a left
        0.3 < lost #1
        1.0 < open #2 a e3 > notice older_order 1 > reject #2 Epoch
        2.0 < forget a > a forgotten > forgot a Done
        3.0 < open #3 a e3 > a came > accept #3 0
        3.1 < report #3 1 ping=1/1 > ack #3 1
        3.1 ? totals > presence.ping 3=3+0+0+0+0
        3.1 ? a > live Heard 0ms order 3.0.0 - batch 1 presence.ping 1=1+0+0+0+0
        ",
    );
}

#[test]
fn a_replay_is_acknowledged_and_not_applied() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < report #1 1 ping=1/1 records=1 > ack #1 1 > record a presence.ping
        0.2 < report #1 1 ping=9/9 records=1 busy@9 > ack #1 1 > notice replayed 1
        0.3 < lost #1
        0.4 < open #2 a > accept #2 1
        0.5 < report #2 0 ping=9/9 > ack #2 1 > notice replayed 1
        0.5 ? a > live Heard 0ms order 1.0.0 - batch 1 presence.ping 1=1+0+0+0+0
        ",
    );
}

#[test]
fn a_gap_is_accepted_and_counted_and_the_first_batch_may_be_any() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < report #1 40 ping=9/9 > ack #1 40 > notice resumed 1
        0.2 < report #1 44 ping=10/9 > ack #1 44 > notice gap 3
        0.3 < report #1 42 records=1 > ack #1 44 > notice replayed 1
        ",
    );
}

#[test]
fn a_newer_session_takes_the_place_of_the_older_and_an_older_one_is_turned_away() {
    check(
        "
        0.0 < open #1 a e2 h1 > a came > accept #1 0
        0.1 < open #2 a e2 h1 > close #1 superseded > notice superseded 1 > a superseded > accept #2 0
        0.2 < report #1 1 ping=1/1 > notice stale_session 1
        0.3 < open #3 a e2 h0 > notice older_order 1 > reject #3 Epoch
        0.3 < open #4 a e1 h9 > notice older_order 1 > reject #4 Epoch
        0.4 < report #2 1 ping=1/1 > ack #2 1
        0.5 < lost #1
        0.5 ? peers > live 1 overdue 0 gone 0 left 0 sessions 1
        ",
    );
}

#[test]
fn a_hello_needs_a_profile_and_stands_once_on_a_session() {
    check(
        "
        0.0 < open #1 a bare > notice bad_hello 1 > reject #1 Protocol
        0.1 < open #2 a > a came > accept #2 0
        0.2 < open #2 a > notice bad_hello 1 > reject #2 Protocol
        0.3 < open #2 b > notice bad_hello 1 > reject #2 Protocol
        0.4 < heard #9 > notice stale_session 1
        ",
    );
}

#[test]
fn a_clock_that_is_off_by_more_than_a_minute_is_told_of_and_does_no_harm() {
    check(
        "
        0.0 < open #1 a ahead=60 > a came > accept #1 0
        0.1 < open #2 b ahead=-3600 > notice clock_off 1 > b came > accept #2 0
        ",
    );
}

#[test]
fn presence_goes_by_version_and_a_new_epoch_begins_anew() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < report #1 1 busy@5 away@4 busy@5 offline@3 > ack #1 1 > notice stale_presence 2
        0.1 ? a > live Heard 0ms order 1.0.5 busy batch 1
        0.2 < open #2 a e2 > close #1 superseded > notice superseded 1 > a restarted > accept #2 0
        0.2 ? a > live Heard 0ms order 2.0.0 busy batch 0
        0.3 < report #2 1 away@1 > ack #2 1
        0.3 ? a > live Heard 0ms order 2.0.1 away batch 1
        ",
    );
}

#[test]
fn a_goodbye_books_what_it_left_in_flight_and_only_a_new_session_undoes_it() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < report #1 1 ping=3/2 > ack #1 1
        0.2 < bye #1 > abandoned a presence.ping 1 shutdown > a left
        0.3 < bye #1
        0.4 < report #1 2 ping=3/3 records=1 > ack #1 2 > record a presence.ping
        0.4 ? a > left Goodbye 0ms order 1.0.0 - batch 2 presence.ping 3=2+0+0+1+0
        9.0 < open #2 a e2 > close #1 superseded > notice superseded 1 > a came > accept #2 0
        9.0 ? totals > presence.ping 3=2+0+0+1+0
        ",
    );
}

#[test]
fn views_stand_beside_the_home_s_own_and_go_when_their_watcher_leaves_or_restarts() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b > b came > accept #2 0
        0.0 < open #3 c > c came > accept #3 0
        0.1 < report #1 1 sees=c:overdue sees=b:live > ack #1 1
        0.1 < report #2 1 sees=c:live > ack #2 1
        0.1 ? c > live Heard 100ms order 1.0.0 - batch 0 a sees overdue b sees live
        1.9 < heard #2
        1.9 < heard #3
        3.0 ? c > live Heard 1100ms order 1.0.0 - batch 0 a sees overdue (stale) b sees live
        3.1 < report #1 2 drops=b > ack #1 2
        3.1 ? b > live Heard 1200ms order 1.0.0 - batch 1
        3.2 < bye #2 > b left
        3.2 ? c > live Heard 1300ms order 1.0.0 - batch 0 a sees overdue
        3.3 < open #4 a e2 > close #1 superseded > notice superseded 1 > a restarted > accept #4 0
        3.3 ? c > live Heard 1400ms order 1.0.0 - batch 0
        ",
    );
}

#[test]
fn anybody_s_entry_can_be_fetched_with_its_age_and_asking_is_a_sign_of_life() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b > b came > accept #2 0
        1.9 < fetch #1 b > fetched #1 b live 1900ms
        2.5 < fetch #1 b > fetched #1 b overdue 2500ms
        2.5 < fetch #1 c > fetched #1 nothing
        3.8 ? a > live Heard 1300ms order 1.0.0 - batch 0
        4.5 > b gone
        4.6 ? peers > live 0 overdue 1 gone 1 left 0 sessions 2
        ",
    );
}

#[test]
fn a_stall_of_our_own_is_not_held_against_the_peers() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b > b came > accept #2 0
        60.0 << report #1 1 > ack #1 1 > notice stalled 1
        60.1 ? peers > live 2 overdue 0 gone 0 left 0 sessions 2
        61.0 < heard #1
        64.4 < heard #1
        64.5 > b gone
        64.6 ? peers > live 1 overdue 0 gone 1 left 0 sessions 2
        ",
    );
}

#[test]
fn entries_of_the_departed_are_forgotten_after_a_week() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < bye #1 > a left
        0.2 < lost #1
        604800.1 > a forgotten
        604801.0 ? a > nothing
        604802.0 < open #2 a e2 > a came > accept #2 0
        ",
    );
}

#[test]
fn a_list_of_all_is_given_out_after_a_grace_and_not_while_stopping() {
    check(
        "
        0.0 ? ready > false in 15000ms
        14.9 ? ready > false in 100ms
        ",
    );
    check(
        "
        15.0 ? ready > true in 0ms
        15.1 < open #1 a > a came > accept #1 0
        15.2 < drain
        15.3 < open #2 b > notice draining 1 > reject #2 Busy
        15.4 < report #1 1 > ack #1 1
        15.4 ? ready > false in 0ms
        ",
    );
}
