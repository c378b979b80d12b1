//! Timelines in virtual time: inputs go in with `<`, what comes out is written with `>`.

mod checks;
mod crossings;
mod moves;
mod rosters;

use pams_shared::{
    frame::{Checked, Notify, Pong, Report, ReportAck, Terms},
    id::ServerId,
    presence::Ask,
    record::Stage,
    status::{Liveness, Status},
};

use super::{choice::Because, *};

mod subscriptions;
mod upheaval;

const A: PeerId = PeerId::from_bytes([0xA; 16]);
const B: PeerId = PeerId::from_bytes([0xB; 16]);
const S: ServerId = ServerId::from_bytes([0x5; 16]);

fn at(ms: f64) -> Moment {
    let ns = (ms * 1e6) as u64;
    Moment::new(ns, 1_700_000_000_000 + ns / 1_000_000)
}

struct Run {
    agent: Agent,
    /// Pings in the order they were sent, so that scripts can number them from 1.
    sent: Vec<Correlator>,
    reports: Vec<Report>,
    records: Vec<Record>,
    notifies: Vec<Notify>,
    asks: Vec<Ask>,
    told: Vec<Told>,
    checked: Vec<Checked>,
}

impl Run {
    fn new(config: AgentConfig) -> Self {
        let agent = Agent::new(config, A, 1, [1; 32], at(0.0));
        Self {
            agent,
            sent: Vec::new(),
            reports: Vec::new(),
            records: Vec::new(),
            notifies: Vec::new(),
            asks: Vec::new(),
            told: Vec::new(),
            checked: Vec::new(),
        }
    }

    fn with_buddy(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        let buddies = vec![BuddyConfig { peer: B, name: None, addresses }];
        Self::new(AgentConfig { buddies, ..AgentConfig::default() })
    }

    /// One input at a time in ms; what came out of it.
    fn step(&mut self, ms: f64, input: Input) -> String {
        self.agent.handle(at(ms), input);
        let mut out = Vec::new();
        while let Some(output) = self.agent.poll() {
            out.extend(self.note(output));
        }
        for (kind, l) in self.agent.ledgers() {
            assert!(l.is_conserved(), "{kind} {l:?}");
        }
        out.join(" > ")
    }

    /// Lets time pass until something comes out that contains `what`; when that was.
    fn until(&mut self, what: &str, limit_ms: f64) -> (f64, String) {
        while let Some((m, _)) = self.agent.deadline().filter(|(m, _)| *m <= at(limit_ms)) {
            let ms = m.ns() as f64 / 1e6;
            let out = self.step(ms, Input::Tick);
            if out.contains(what) {
                return (ms, out);
            }
        }
        panic!("no {what:?} by {limit_ms} ms");
    }

    fn note(&mut self, output: Output) -> Option<String> {
        Some(match output {
            Output::Dial { addresses, .. } => format!("dial {}", addresses.join(",")),
            Output::Resolve { .. } => "resolve".into(),
            Output::SendPing { ping, .. } => {
                self.sent.push(ping.correlator);
                format!("ping #{}", self.sent.len())
            }
            Output::SendPong { pong, .. } => format!("pong {}", pong.status.as_str()),
            Output::Greet { attach, .. } => format!("greet {attach}"),
            Output::Report(report) => {
                let text = format!("report {}", report.batch);
                self.reports.push(report);
                text
            }
            Output::Record(record) => {
                let reason = record.reason.map_or("", |r| r.as_str());
                let text = format!("{} {} {reason}", record.kind, record.outcome.as_str()).trim_end().to_owned();
                self.records.push(record);
                text
            }
            Output::Pinged { token, result } => match result {
                Ok(_) => format!("pinged {token}"),
                Err(why) => format!("pinged {token} {}", why.reason.as_str()),
            },
            Output::AskToSubscribe(ask) => {
                self.asks.push(ask);
                format!("ask {}", ask.path.as_str())
            }
            Output::Unsubscribe { path, .. } => format!("unsubscribe {}", path.as_str()),
            Output::AnswerSubscribe { ack, .. } => match ack.0 {
                Ok(news) => format!("accept v{}", news.unwrap().order.version),
                Err(rejected) => format!("reject {}", rejected.detail),
            },
            Output::SendNotify { notify, .. } => {
                let text = format!("notify v{}", notify.news.order.version);
                self.notifies.push(notify);
                text
            }
            Output::AckNotify(ack) => {
                let hold = ack.hold_ns.map_or_else(|| "-".into(), |ns| (ns / 1_000_000).to_string());
                format!("ack {} hold {hold}", ack.number)
            }
            Output::Told(told) => {
                let what = match (&told.presence, told.liveness) {
                    (_, Some(liveness)) => liveness.as_str(),
                    (Some(p), None) => p.status.as_str(),
                    (None, None) => "nothing",
                };
                let text = format!("told {what} by {:?}", told.by).to_lowercase();
                self.told.push(told);
                text
            }
            Output::Checked { question, checked } => {
                let text = format!("checked {question} {}", checked.finding.outcome.as_str());
                self.checked.push(checked);
                text
            }
            Output::Published(p) => format!("published {}", p.status.as_str()),
            Output::HangUp { .. } => "hang_up".into(),
            Output::Rejoin { .. } => "rejoin".into(),
            Output::Goodbye => "goodbye".into(),
            Output::Notice(Notice::Liveness { to, .. }) => to.as_str().into(),
            Output::Notice(Notice::Status { to, .. }) => to.as_str().into(),
            Output::Notice(n) => n.label().into(),
        })
    }

    fn pong(&self, n: usize) -> Input {
        let pong = Pong { correlator: self.sent[n - 1], status: Status::Online, hold_ns: Some(1_000_000), version: 1 };
        Input::Pong { from: B, pong, arrived: None, path_rtt_ns: None }
    }

    fn link_up(&mut self, ms: f64) -> String {
        self.step(ms, Input::LinkUp { peer: B, link: 1, epoch: 1, clock_offset_ms: 0 })
    }

    fn home_up(&mut self, ms: f64, applied: u64) -> String {
        self.home_up_at(ms, S, applied, Because::Start)
    }

    fn home_up_at(&mut self, ms: f64, server: ServerId, applied: u64, because: Because) -> String {
        let terms = Terms { pace_ms: 1_500, gone_after_ms: 4_500, applied_batch: applied };
        let a = self.step(ms, Input::Home(HomeInput::Reached { server }));
        let up = HomeInput::Up { terms, observed: None, clock_offset_ms: 0, because };
        format!("{a} > {}", self.step(ms, Input::Home(up)))
    }
}

#[test]
fn a_ping_waits_for_its_connection_and_the_network_is_not_charged_with_it() {
    let mut run = Run::with_buddy(&["b:1"]);
    let (t, out) = run.until("dial", 1_000.0);
    assert_eq!(out, "dial b:1");
    assert_eq!(run.link_up(t + 300.0), "link_up > ping #1");
    run.step(t + 300.2, Input::Sent { correlator: run.sent[0], at: at(t + 300.2) });
    let pong = Pong { correlator: run.sent[0], status: Status::Busy, hold_ns: Some(1_000_000), version: 1 };
    let arrived = Some(at(t + 380.2));
    let out = run.step(t + 380.3, Input::Pong { from: B, pong, arrived, path_rtt_ns: Some(7) });
    assert_eq!(out, "presence.ping good > busy > live");
    let stage = |s| (run.records[0].stages.get(s).unwrap() as f64 / 1e5).round() / 10.0;
    assert_eq!(Stage::EXCHANGE.map(stage), [300.2, 79.0, 1.0, 0.1]);
    assert_eq!(run.agent.view(at(t + 381.0)).buddies[0].last.as_ref(), Some(&run.records[0]));
}

#[test]
fn without_a_connection_a_ping_is_not_sent_and_the_buddy_gone_after_three() {
    let mut run = Run::with_buddy(&["b:1"]);
    let (t, _) = run.until("dial", 1_000.0);
    let why = Why::new(Reason::NoAnswer, "timed out");
    assert_eq!(run.step(t + 4_000.0, Input::DialFailed { peer: B, why }), "dial_failed");
    let (missed, out) = run.until("overdue", 10_000.0);
    assert_eq!(out, "presence.ping aborted not_sent > overdue");
    assert_eq!((missed - t).round(), 5_000.0);
    let (gone, _) = run.until("gone", 30_000.0);
    assert!(gone - t < 23_200.0, "{gone}");
    let buddy = &run.agent.view(at(gone)).buddies[0];
    assert_eq!(buddy.why.as_ref().unwrap().reason, Reason::NoAnswer);
    assert!(!buddy.hears && !buddy.is_heard);
}

#[test]
fn a_refusal_is_a_failure_at_once_with_its_reason() {
    for reason in [Reason::Refused, Reason::Certificate, Reason::Clock] {
        let mut run = Run::with_buddy(&["b:1"]);
        let (t, _) = run.until("dial", 1_000.0);
        let out = run.step(t + 1.0, Input::DialFailed { peer: B, why: Why::new(reason, "no") });
        assert_eq!(out, format!("dial_failed > presence.ping failed {} > overdue", reason.as_str()));
    }
}

#[test]
fn a_buddy_without_an_address_is_looked_up_at_the_home() {
    let mut run = Run::with_buddy(&[]);
    let (t, out) = run.until("resolve", 1_000.0);
    assert_eq!(out, "resolve");
    assert_eq!(run.step(t + 1.0, Input::Resolved { peer: B, found: Ok(vec!["b:7".into()]) }), "dial b:7");
    assert_eq!(run.link_up(t + 2.0), "link_up > ping #1");
    // Whoever asks for a peer that nobody knows is told at once.
    let c = PeerId::from_bytes([0xC; 16]);
    assert_eq!(run.step(t + 3.0, Input::Command(Command::Ping { peer: c, token: 9 })), "resolve");
    let out = run.step(t + 4.0, Input::Resolved { peer: c, found: Ok(vec![]) });
    assert_eq!(out, "dial_failed > pinged 9 not_sent > presence.ping aborted not_sent");
    assert!(run.agent.roster.contact(c).is_none(), "a stranger that can't be reached is forgotten");
}

#[test]
fn a_home_that_is_lost_leaves_nobody_waiting_for_its_answer() {
    let mut run = Run::with_buddy(&[]);
    let (t, out) = run.until("resolve", 1_000.0);
    assert_eq!(out, "resolve");
    let c = PeerId::from_bytes([0xC; 16]);
    assert_eq!(run.step(t + 1.0, Input::Command(Command::Ping { peer: c, token: 9 })), "resolve");
    let down = HomeInput::Down { why: Why::new(Reason::Refused, "the home left") };
    let out = run.step(t + 2.0, Input::Home(down));
    assert_eq!(out, "home_down > dial_failed > dial_failed > pinged 9 not_sent > presence.ping aborted not_sent");
    assert_eq!(run.step(t + 3.0, Input::Command(Command::Ping { peer: c, token: 10 })), "resolve", "it is asked anew");
    // An answer that comes when nobody waits for it is no news.
    assert_eq!(run.step(t + 4.0, Input::Resolved { peer: B, found: Ok(vec!["b:7".into()]) }), "");
    run.step(t + 5.0, Input::LinkUp { peer: c, link: 3, epoch: 1, clock_offset_ms: 0 });
    for found in [Ok(vec![]), Ok(vec!["c:1".into()]), Err(Why::new(Reason::NotSent, "no"))] {
        assert_eq!(run.step(t + 6.0, Input::Resolved { peer: c, found }), "");
    }
}

#[test]
fn many_pings_in_flight_each_close_their_own() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    for n in 2..=5 {
        run.step(1_000.0, Input::Command(Command::Ping { peer: B, token: n }));
    }
    for n in 1..=5 {
        run.step(1_000.0, Input::Sent { correlator: run.sent[n - 1], at: at(1_000.0) });
    }
    assert_eq!(run.step(1_030.0, run.pong(4)), "pinged 4 > presence.ping good > online > live");
    assert_eq!(run.step(1_040.0, run.pong(2)), "pinged 2 > presence.ping good");
    assert_eq!(run.step(1_041.0, run.pong(2)), "duplicate");
    assert_eq!(run.agent.ledgers()[0].1.in_flight, 3);
    let (_, out) = run.until("no_answer", 6_100.0);
    assert!(out.contains("presence.ping aborted no_answer"), "{out}");
    assert_eq!(run.step(6_200.0, run.pong(5)), "late");
    let stranger = Pong { correlator: Correlator::of_uuid([9; 16]), status: Status::Online, hold_ns: None, version: 1 };
    let input = Input::Pong { from: B, pong: stranger, arrived: None, path_rtt_ns: None };
    assert_eq!(run.step(6_201.0, input), "unknown_correlator");
}

#[test]
fn a_restart_of_the_other_side_is_called_again_at_once() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    run.step(1_001.0, run.pong(1));
    let why = Why::new(Reason::NoAnswer, "reset");
    let stale = Input::LinkDown { peer: B, link: 7, why: why.clone(), restarted: true };
    assert_eq!(run.step(2_000.0, stale), "");
    let down = Input::LinkDown { peer: B, link: 1, why, restarted: true };
    assert_eq!(run.step(2_000.0, down), "link_down > dial b:1");
}

#[test]
fn a_goodbye_is_left_and_hearing_from_it_again_brings_it_back() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    run.step(1_001.0, run.pong(1));
    assert_eq!(run.step(2_000.0, Input::Goodbye { peer: B }), "left");
    let down = Input::LinkDown { peer: B, link: 1, why: Why::new(Reason::Refused, "left"), restarted: false };
    assert_eq!(run.step(2_001.0, down), "link_down");
    let up = Input::LinkUp { peer: B, link: 2, epoch: 2, clock_offset_ms: 0 };
    assert_eq!(run.step(9_000.0, up), "link_up > ping #2 > overdue");
    assert_eq!(run.step(9_010.0, run.pong(2)), "presence.ping good > live");
}

#[test]
fn a_pong_that_a_goodbye_overtook_ends_its_ping_and_brings_nobody_back() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    assert_eq!(run.step(1_010.0, Input::Goodbye { peer: B }), "left");
    assert_eq!(run.step(1_011.0, run.pong(1)), "presence.ping good");
    assert_eq!(run.agent.view(at(1_012.0)).buddies[0].liveness, Some(Liveness::Left));
}

#[test]
fn every_status_answers_and_a_change_reaches_the_home_at_once() {
    let mut run = Run::new(AgentConfig::default());
    assert_eq!(run.home_up(10.0, 0), "greet 1 > home_up > home_moved > report 1");
    let publish = Command::Publish { status: Status::Offline, note: Some("night".into()) };
    assert_eq!(run.step(20.0, Input::Command(publish)), "published offline > report 2");
    assert_eq!(run.reports[1].changes[0].note.as_deref(), Some("night"));
    let ping = Ping { correlator: Correlator::of_uuid([3; 16]) };
    assert_eq!(run.step(30.0, Input::Ping { from: B, ping, arrived: None }), "pong offline");
}

#[test]
fn reports_come_at_the_pace_are_replayed_and_their_totals_add_up() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    run.home_up(1_000.0, 0);
    assert_eq!((run.reports[0].batch, run.reports[0].views.len(), run.reports[0].changes.len()), (1, 1, 1));
    run.step(1_000.5, Input::Home(HomeInput::Written { batch: 1 }));
    let ack = |batch| Input::Home(HomeInput::Acked(ReportAck { batch, pace_ms: 1_500, came: 0 }));
    assert_eq!(run.step(1_001.0, ack(1)), "pams.report good");
    assert_eq!(run.step(1_002.0, run.pong(1)), "presence.ping good > online > live > report 2");
    assert_eq!(run.reports[1].records.len(), 1, "the record of the report itself does not travel");
    assert_eq!(run.until("report 3", 3_000.0).0, 2_502.0);
    let down = HomeInput::Down { why: Why::new(Reason::NoAnswer, "gone") };
    assert_eq!(run.step(2_600.0, Input::Home(down)), "home_down");
    // The home had applied 2: 3 comes again, under its number, and new things after it.
    assert_eq!(run.home_up(3_000.0, 2), "greet 1 > home_up > pams.report good > report 3 > report 4");
    for report in &run.reports {
        assert!(report.totals.iter().all(|(_, l)| l.is_conserved()));
    }
}

#[test]
fn peers_go_on_without_a_home_and_the_backlog_is_bounded() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.agent.batcher = Batcher::new(3);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    for n in 1..=5 {
        run.step(1_000.0 + n as f64, run.pong(n));
        run.step(1_000.0 + n as f64, Input::Command(Command::Ping { peer: B, token: 0 }));
    }
    run.home_up(2_000.0, 0);
    let report = &run.reports[0];
    assert_eq!((report.records.len(), report.shed), (3, 2));
    assert_eq!(report.totals[0].1.good, 5, "the totals lose nothing");
}

#[test]
fn a_shutdown_books_what_is_in_flight_as_unknown_and_reports_it() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.link_up(1_000.0);
    run.home_up(1_000.0, 0);
    let out = run.step(1_100.0, Input::Command(Command::Shutdown));
    assert_eq!(out, "presence.ping unknown shutdown > pams.report unknown shutdown > report 2 > goodbye");
    let totals = &run.reports[1].totals;
    assert!(totals.iter().all(|(_, l)| l.in_flight == 0 && l.is_conserved()), "{totals:?}");
    assert!(!run.agent.is_settled());
    run.step(1_110.0, Input::Home(HomeInput::Acked(ReportAck { batch: 2, pace_ms: 1_500, came: 0 })));
    assert!(run.agent.is_settled());
}

#[test]
fn a_roster_that_names_itself_loses_that_line_and_says_so() {
    let buddies = vec![BuddyConfig { peer: A, name: None, addresses: vec![] }];
    let mut run = Run::new(AgentConfig { buddies, ..AgentConfig::default() });
    assert_eq!(run.step(0.0, Input::Tick), "roster_names_self");
    assert!(run.agent.view(at(0.0)).buddies.is_empty());
}

#[test]
fn a_clock_that_is_off_is_told_and_a_step_of_our_own_changes_no_duration() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    let up = Input::LinkUp { peer: B, link: 1, epoch: 1, clock_offset_ms: -3_600_000 };
    assert_eq!(run.step(1_000.0, up), "clock_offset > link_up > ping #1");
    run.step(1_000.0, Input::Sent { correlator: run.sent[0], at: at(1_000.0) });
    let hour_back = Moment::new(at(1_020.0).ns(), 1_700_000_000_000 - 3_600_000);
    let input = run.pong(1);
    run.agent.handle(hour_back, input);
    while let Some(output) = run.agent.poll() {
        run.note(output);
    }
    let opened = run.records[0].total_ns.unwrap();
    assert!((20_000_000..1_020_000_000).contains(&opened), "{opened}");
}

#[test]
fn a_clock_that_is_off_is_not_told_with_each_connection() {
    let mut run = Run::with_buddy(&["b:1"]);
    let mut up = |s: f64, ms| {
        let up = Input::LinkUp { peer: B, link: s as u64, epoch: 1, clock_offset_ms: ms };
        run.step(s * 1e3, up).contains("clock_offset")
    };
    assert!(!up(1.0, 59_000));
    assert!(up(2.0, 3_600_000));
    assert!(!up(3.0, 3_601_000) && !up(4.0, 0) && !up(5.0, -3_600_000) && !up(900.0, 3_620_000));
    assert!(up(901.0, -3_600_000));
}
