//! The home asks how a peer is, or we are.

use pams_shared::frame::Check;

use super::*;

fn check(question: u64, peer: PeerId, within_ms: u32, came: f64) -> Input {
    let check = Check { correlator: Correlator::of_uuid([9; 16]), peer, within_ms };
    Input::Home(HomeInput::Check { question, check, came: at(came) })
}

#[test]
fn of_ourselves_we_answer_at_once() {
    let mut run = Run::new(AgentConfig::default());
    assert_eq!(run.step(20.0, check(1, A, 1_000, 18.0)), "checked 1 good");
    let Checked { correlator, finding } = &run.checked[0];
    assert_eq!((*correlator, finding.by, finding.status), (Correlator::of_uuid([9; 16]), A.0, Some(Status::Online)));
    assert_eq!(finding.stages.iter().collect::<Vec<_>>(), [(Stage::RemoteHold, 2_000_000)]);
    assert_eq!((finding.reason, finding.total_ns), (None, None));
}

#[test]
fn a_peer_that_is_no_buddy_is_looked_up_and_pinged_once() {
    let mut run = Run::new(AgentConfig::default());
    assert_eq!(run.step(0.0, check(1, B, 3_000, 0.0)), "resolve");
    run.step(1.0, Input::Resolved { peer: B, found: Ok(vec!["b:1".into()]) });
    assert_eq!(run.link_up(100.0), "link_up > ping #1");
    run.step(100.0, Input::Sent { correlator: run.sent[0], at: at(100.0) });
    assert_eq!(run.step(180.0, run.pong(1)), "checked 1 good > presence.ping good");
    let finding = &run.checked[0].finding;
    assert_eq!((finding.total_ns, finding.stages.get(Stage::Queued)), (Some(180_000_000), Some(100_000_000)));
    assert_eq!(finding.status, Some(Status::Online));
}

#[test]
fn what_is_not_answered_in_time_is_told_by_the_deadline_however_late_it_left() {
    let mut run = Run::new(AgentConfig::default());
    run.step(0.0, check(1, B, 2_000, 0.0));
    run.step(1.0, Input::Resolved { peer: B, found: Ok(vec!["b:1".into()]) });
    run.link_up(1_900.0);
    run.step(1_900.0, Input::Sent { correlator: run.sent[0], at: at(1_900.0) });
    let (ms, out) = run.until("checked", 10_000.0);
    assert_eq!((ms, out.as_str()), (2_000.0, "checked 1 aborted > presence.ping aborted no_answer"));
    // One that could not even leave.
    run.step(3_000.0, Input::LinkDown { peer: B, link: 1, why: Why::new(Reason::NoAnswer, "gone"), restarted: false });
    run.step(3_000.0, check(2, B, 500, 3_000.0));
    let (ms, _) = run.until("checked 2 aborted", 10_000.0);
    assert_eq!((ms, run.checked[1].finding.reason), (3_500.0, Some(Reason::NotSent)));
    assert!(run.agent.roster.contact(B).is_none(), "it is forgotten");
}

#[test]
fn a_peer_that_can_not_be_reached_is_told_at_once() {
    let mut run = Run::new(AgentConfig::default());
    run.step(0.0, check(1, B, 3_000, 0.0));
    run.step(1.0, Input::Resolved { peer: B, found: Ok(vec!["b:1".into()]) });
    let out = run.step(2.0, Input::DialFailed { peer: B, why: Why::new(Reason::Refused, "nobody listens") });
    assert_eq!(out, "dial_failed > checked 1 failed > presence.ping failed refused");
}

#[test]
fn there_is_a_bound_and_one_that_leaves_pings_nobody() {
    let mut run = Run::new(AgentConfig::default());
    let peer = |n: u64| PeerId::from_bytes([0x10 + n as u8; 16]);
    for n in 0..CHECKS_MAX as u64 {
        assert_eq!(run.step(0.0, check(n, peer(n), 60_000, 0.0)), "resolve");
    }
    assert_eq!(run.step(1.0, check(90, B, 1_000, 1.0)), "checked 90 failed");
    assert_eq!(run.step(1.0, check(91, A, 1_000, 1.0)), "checked 91 good");
    assert_eq!(run.checked[0].finding.reason, Some(Reason::Refused));
    let out = run.step(2.0, Input::Command(Command::Shutdown));
    assert_eq!(out.matches("checked").count(), CHECKS_MAX, "those under way end: {out}");
    assert_eq!(run.step(3.0, check(92, B, 1_000, 3.0)), "checked 92 failed");
}
