//! From one home to another: nothing is lost, and each server's transactions are its own.

use super::*;

const OTHER: ServerId = ServerId::from_bytes([0x6; 16]);

fn down(ms: f64, run: &mut Run) -> String {
    run.step(ms, Input::Home(HomeInput::Down { why: Why::new(Reason::NoAnswer, "silent") }))
}

#[test]
fn the_next_home_is_attached_to_anew_and_given_what_was_not_acknowledged() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.home_up(0.0, 0);
    run.step(0.5, Input::Home(HomeInput::Written { batch: 1 }));
    run.step(600.0, Input::Command(Command::Publish { status: Status::Busy, note: None }));
    assert_eq!(run.reports.iter().map(|r| r.batch).collect::<Vec<_>>(), [1, 2]);
    // The first one was applied and its acknowledgement lost.
    down(2_000.0, &mut run);
    let out = run.home_up_at(2_100.0, OTHER, 1, Because::Silent);
    let expected =
        "greet 2 > home_up > home_moved > pams.report good > pams.report aborted cancelled > report 2 > report 3";
    assert_eq!(out, expected);
    let of_reports: Vec<_> = run.records.iter().filter(|r| r.kind == Kind::Report).collect();
    assert!(of_reports.iter().all(|r| r.target == S.0), "both were for the first home");
    run.step(2_100.1, Input::Home(HomeInput::Written { batch: 2 }));
    let out = run.step(2_200.0, Input::Home(HomeInput::Acked(ReportAck { batch: 2, pace_ms: 1_500, came: 0 })));
    assert!(out.starts_with("pams.report good"), "{out}");
    assert_eq!(run.records.last().map(|r| r.target), Some(OTHER.0));
    let home = run.agent.view(at(2_200.0)).home;
    assert_eq!((home.because, home.attach), (Some(Because::Silent), 2));
}

#[test]
fn an_acknowledgement_of_less_than_was_sent_ends_nothing_else() {
    let mut run = Run::new(AgentConfig::default());
    run.home_up(0.0, 0);
    run.step(1_500.0, Input::Tick);
    let ack = |batch| Input::Home(HomeInput::Acked(ReportAck { batch, pace_ms: 1_500, came: 0 }));
    assert_eq!(run.step(1_510.0, ack(0)), "", "a sign of life alone");
    assert_eq!(run.step(1_520.0, ack(1)), "pams.report good");
    assert_eq!(run.step(1_530.0, ack(2)), "pams.report good");
}

#[test]
fn the_same_home_again_is_no_move_and_one_that_turns_us_away_neither() {
    let mut run = Run::new(AgentConfig::default());
    run.home_up(0.0, 0);
    down(1.0, &mut run);
    assert_eq!(run.step(2.0, Input::Home(HomeInput::Reached { server: OTHER })), "greet 2");
    down(3.0, &mut run);
    let out = run.home_up_at(4.0, S, 0, Because::Lost);
    assert_eq!(out, "greet 3 > home_up > report 1 > report 2");
    assert_eq!(run.agent.view(at(4.0)).home.because, Some(Because::Start));
    run.step(5.0, Input::Home(HomeInput::Servers(3)));
    assert_eq!(run.agent.view(at(5.0)).home.servers, 3);
}
