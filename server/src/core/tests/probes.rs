//! Timelines of probes: at the peer's home; then at a server that asks the home, and at one that another server asks.

use pams_shared::{
    frame::{self, Deltas, Lot, Member, Packed, ProbeAck, Rejected, Rejection, Shared},
    id::ServerId,
};

use super::{
    super::cluster::io::{FollowId, LinkId, SiblingInput, SiblingOutput},
    *,
};

#[test]
fn a_home_asks_the_peer_and_has_another_agent_ping_it() {
    check(
        "
        0.000 < open #1 a checks > a came > accept #1 0
        0.000 < open #2 b checks > b came > accept #2 0
        0.100 < report #1 1 online@1 > ack #1 1
        0.200 < probe 1 a > check #1 a 1600ms > check #2 a 1600ms
        0.250 < checked #1 hold=5 busy
        0.290 < checked #2 total=80 busy > probe 1 reachable in 90ms: home good 50ms remote_hold 5ms, b good 80ms; busy live
        0.300 < checked #2 total=80 > notice late_checked 1
        0.300 < checked #1 > notice late_checked 1
        ",
    );
}

#[test]
fn one_that_hangs_is_told_from_one_that_is_cut_off_from_its_home_alone() {
    check(
        "
        0.0 < open #1 a checks > a came > accept #1 0
        0.0 < open #2 b checks > b came > accept #2 0
        0.2 < probe 1 a > check #1 a 1600ms > check #2 a 1600ms
        1.8 < checked #2 no_answer
        2.2 > probe 1 unreachable in 2000ms: home no_answer, b no_answer; - overdue
        2.3 < probe 2 a within=500 > check #1 a 400ms > check #2 a 400ms
        2.3 ? due > Probe
        2.4 < checked #2 total=80 online
        2.8 > probe 2 partly in 500ms: home no_answer, b good 80ms; online overdue
        2.9 < checked #1 > notice late_checked 1
        3.0 < lost #1
        3.1 < probe 3 a > check #2 a 1600ms
        3.2 < checked #2 total=80 online > probe 3 partly in 100ms: home not_sent, b good 80ms; online live
        3.3 < lost #2
        3.4 < probe 4 a > probe 4 unreachable in 0ms: home not_sent; - live
        ",
    );
}

#[test]
fn an_agent_that_can_not_be_asked_is_judged_by_what_it_does_and_by_the_witness() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.1 < probe 1 a > probe 1 reachable in 0ms: home good; - live
        0.2 < open #2 b checks > b came > accept #2 0
        0.3 < probe 2 a > check #2 a 1600ms
        0.4 < checked #2 refused > probe 2 partly in 100ms: home good, b refused; - live
        0.5 < heard #2
        2.0 < heard #2
        2.1 < probe 3 a within=100 > check #2 a 80ms
        2.2 > probe 3 unreachable in 100ms: home no_answer; - overdue
        2.3 < checked #2 > notice late_checked 1
        ",
    );
}

#[test]
fn the_witness_is_one_that_hears_the_peer_if_there_is_one() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < open #2 b checks > b came > accept #2 0
        0.0 < open #3 c checks > c came > accept #3 0
        0.0 < open #4 d > d came > accept #4 0
        0.1 < probe 1 c > check #3 c 1600ms > check #2 c 1600ms
        0.2 < checked #3
        0.2 < checked #2 > probe 1 reachable in 100ms: home good 100ms, b good; - live
        0.3 < report #3 1 sees=a:live > ack #3 1
        0.3 < report #4 1 sees=a:live > ack #4 1
        0.4 < probe 2 a > check #3 a 1600ms
        0.5 < checked #3 > probe 2 reachable in 100ms: home good, c good; - live
        ",
    );
}

#[test]
fn who_left_who_was_forgotten_and_who_never_was_are_three_answers() {
    check(
        "
        0.0 < open #1 a checks > a came > accept #1 0
        0.0 < open #2 b checks > b came > accept #2 0
        0.1 < bye #1 > a left
        0.2 < probe 1 a > probe 1 offline in 0ms: ; - left
        0.3 < forget a > a forgotten > close #1 rejected > forgot a Done
        0.4 < probe 2 a > probe 2 offline in 0ms: ; - -
        0.5 < probe 3 x > probe 3 unknown in 0ms: ; - -
        0.6 < probe 4 b http=192.0.2.1 > probe 4 refused: forbidden, again in 0ms
        ",
    );
}

#[test]
fn on_the_tcp_port_each_address_has_its_share_and_all_leave_room_for_operators() {
    let mut pams = Pams::new(PamsConfig { probe_http: true, ..PamsConfig::default() }, at(0));
    let mut number = 0;
    // How many of so many probes, asked for at once, are not refused.
    let mut ask = |ms: u64, from: Option<&str>, n: usize| {
        let from = from.map(|from| from.parse().unwrap());
        let caller = from.map_or(Caller::Operator, |from| Caller::Http { from });
        let mut taken = 0;
        for _ in 0..n {
            number += 1;
            let within = Duration::from_secs(2);
            pams.handle(at(ms), Input::Probe { probe: ProbeId(number), peer: id("x"), within, caller });
            let outputs = std::iter::from_fn(|| pams.poll());
            taken += outputs.filter(|output| matches!(output, Output::Probed { answer: Ok(_), .. })).count();
        }
        taken
    };
    assert_eq!(ask(0, Some("192.0.2.1"), 30), 20);
    assert_eq!(ask(0, Some("::ffff:192.0.2.1"), 1), 0, "the same address");
    assert_eq!(ask(0, Some("2001:db8:0:1::1"), 15), 15, "another one");
    assert_eq!(ask(0, Some("2001:db8:0:1:ffff::2"), 15), 5, "one of the same network");
    assert_eq!(ask(0, Some("2001:db8:0:2::1"), 5), 0, "all together have had their share");
    assert_eq!(ask(0, None, 30), 20, "operators have their own");
    assert_eq!(ask(200, Some("192.0.2.1"), 5), 1);
    assert_eq!(ask(200, Some("192.0.2.9"), 5), 3, "200 ms are 4 for all, one of them taken");
}

#[test]
fn one_peer_is_not_asked_too_often_nor_does_one_caller_ask_too_often() {
    check(
        "
        0.0 < open #1 a > a came > accept #1 0
        0.0 < probe 1 a > probe 1 reachable in 0ms: home good; - live
        0.0 < probe 2 a > probe 2 reachable in 0ms: home good; - live
        0.0 < probe 3 a > probe 3 reachable in 0ms: home good; - live
        0.0 < probe 4 a > probe 4 reachable in 0ms: home good; - live
        0.0 < probe 5 a > probe 5 reachable in 0ms: home good; - live
        0.1 < probe 6 a > probe 6 refused: target, again in 900ms
        1.0 < probe 7 a > probe 7 reachable in 0ms: home good; - live
        ",
    );
    let mut pams = Pams::new(PamsConfig::default(), at(0));
    let mut ask = |n: u64, ms: u64| {
        let within = Duration::from_secs(1);
        pams.handle(at(ms), Input::Probe { probe: ProbeId(n), peer: id("x"), within, caller: Caller::Operator });
        render(&pams.poll().unwrap())
    };
    for n in 0..20 {
        assert!(ask(n, 0).contains("unknown"));
    }
    assert_eq!(ask(20, 50), "probe 20 refused: caller, again in 150ms");
    assert!(ask(21, 200).contains("unknown"));
}

#[test]
fn a_server_that_did_not_run_gives_those_it_asked_the_time_that_it_lost() {
    check(
        "
        0.0 < open #1 a checks > a came > accept #1 0
        0.2 < probe 1 a within=1000 > check #1 a 800ms
        9.2 << suspended 9 > notice stalled 1
        9.3 < checked #1 > probe 1 reachable in 9100ms: home good 9100ms; - live
        ",
    );
}

const FAR: LinkId = LinkId(9);

fn server(n: u8) -> ServerId {
    ServerId::from_bytes([n; 16])
}

/// A server with scripted siblings; of what it says only what is of probes.
struct Among {
    run: Run,
    follows: BTreeMap<ServerId, FollowId>,
    seq: u64,
    /// What a sibling was asked last.
    probe: Option<frame::Probe>,
}

impl Among {
    fn new() -> Self {
        let pams = Pams::new(PamsConfig::default(), at(0));
        let run = Run { pams, asked: BTreeMap::new(), said: String::new() };
        let mut among = Self { run, follows: BTreeMap::new(), seq: 0, probe: None };
        among.link(9);
        among
    }

    /// Link `n` with server `n`.
    fn link(&mut self, n: u8) {
        let member = Member {
            id: server(n),
            generation: 1,
            name: format!("s{n}"),
            addresses: Vec::new(),
            http: None,
            region: String::new(),
            software: String::new(),
        };
        let (link, member) = (LinkId(n.into()), Box::new(member));
        self.sibling(0, SiblingInput::Linked { link, member, capabilities: 0, dialled: true, same_host: false });
        let frame = |bulk_end, upto| Deltas {
            owner: server(n),
            generation: 1,
            anew: true,
            bulk: true,
            bulk_end,
            upto,
            entries: Vec::new(),
            digest: None,
        };
        let follow = self.follows[&server(n)];
        for deltas in [frame(false, 0), frame(true, 0)] {
            self.sibling(0, SiblingInput::Deltas { follow, deltas: Box::new(deltas) });
        }
    }

    fn sibling(&mut self, ms: u64, input: SiblingInput) -> String {
        self.input(ms, Input::Sibling(input))
    }

    fn step(&mut self, ms: u64, text: &str) -> String {
        let input = match text.strip_prefix("checked ") {
            Some(checked) => self.run.checked(checked.split(' ').collect()),
            None => parse(at(ms), text),
        };
        self.input(ms, input)
    }

    fn input(&mut self, ms: u64, input: Input) -> String {
        self.run.pams.handle(at(ms), input);
        let mut said = Vec::new();
        while let Some(output) = self.run.pams.poll() {
            match &output {
                Output::Push { session, push: Push::Check(check) } => {
                    self.run.asked.insert(*session, *check);
                    said.push(render(&output));
                }
                Output::Probed { .. } => said.push(render(&output)),
                Output::Sibling(SiblingOutput::Probe { link, what, .. }) => {
                    self.probe = Some(*what);
                    said.push(format!("ask {} {} {}ms hops {}", link.0, letter(what.peer), what.within_ms, what.hops));
                }
                Output::Sibling(SiblingOutput::Follow { follow, what, .. }) => {
                    self.follows.insert(what.owner, *follow);
                }
                _ => {}
            }
        }
        said.join(" > ")
    }

    /// Server 9 says that it is the home of the peer.
    fn tell(&mut self, ms: u64, peer: &str, liveness: Liveness) {
        self.seq += 1;
        let profile = Profile { name: format!("far-{peer}"), ..Profile::default() };
        let lot = Some(Packed::new(&Lot { profile, liveness, ..Lot::default() }));
        let shared = Shared { peer: id(peer), generation: 1, seq: self.seq, epoch: 1, attach: 0, lot, banned: false };
        let deltas = Deltas {
            owner: server(9),
            generation: 1,
            anew: false,
            bulk: false,
            bulk_end: false,
            upto: self.seq,
            entries: vec![shared],
            digest: None,
        };
        let follow = self.follows[&server(9)];
        self.sibling(ms, SiblingInput::Deltas { follow, deltas: Box::new(deltas) });
    }

    fn home_says(&mut self, ms: u64, probe: u64, ack: Option<Result<Vec<Finding>, Rejection>>) -> String {
        let rejected = |code| Rejected { code, detail: "I am not its home".to_owned() };
        let ack = ack.map(|ack| ProbeAck(ack.map_err(rejected)));
        self.sibling(ms, SiblingInput::Probed { probe: ProbeId(probe), ack })
    }

    fn until(&mut self, ms: u64) -> String {
        let mut said = Vec::new();
        while let Some((due, _)) = self.run.pams.deadline().filter(|(due, _)| *due <= at(ms)) {
            said.push(self.input(due.ns() / 1_000_000, Input::Tick));
        }
        said.retain(|said| !said.is_empty());
        said.join(" > ")
    }

    /// Server `n` asks us.
    fn asked(&mut self, ms: u64, probe: u64, peer: &str, (n, hops): (u8, u32)) -> String {
        let correlator = Correlator::of_uuid([7; 16]);
        let caller = Caller::Sibling { link: LinkId(n.into()), hops, correlator };
        let within = Duration::from_secs(1);
        self.input(ms, Input::Probe { probe: ProbeId(probe), peer: id(peer), within, caller })
    }
}

fn good(by_role: Role, by: &str) -> Finding {
    Finding { by_role, ..finding(by, ["total=80", "online"].into()) }
}

#[test]
fn a_peer_of_another_server_is_asked_by_that_server() {
    let mut among = Among::new();
    among.tell(10, "a", Liveness::Live);
    assert_eq!(among.step(100, "probe 1 a"), "ask 9 a 1600ms hops 1");
    let findings = vec![Finding { by: server(9).0, ..good(Role::Server, "h") }, good(Role::Agent, "w")];
    let said = among.home_says(200, 1, Some(Ok(findings)));
    assert_eq!(said, "probe 1 reachable in 100ms: home good 80ms, w good 80ms; online live");
    assert_eq!(among.home_says(300, 1, Some(Ok(Vec::new()))), "", "it is answered");
    among.step(1_000, "probe 2 a");
    assert_eq!(among.home_says(1_100, 2, Some(Ok(Vec::new()))), "probe 2 offline in 100ms: ; - live");
    among.tell(1_200, "a", Liveness::Left);
    assert_eq!(among.step(1_300, "probe 3 a"), "probe 3 offline in 0ms: ; - left");
    among.tell(1_400, "b", Liveness::Live);
    among.step(1_500, "probe 4 b");
    let said = among.home_says(1_600, 4, Some(Err(Rejection::Busy)));
    assert_eq!(said, "probe 4 refused: target, again in 1000ms");
}

#[test]
fn when_its_home_is_silent_agents_here_are_asked() {
    let mut among = Among::new();
    among.tell(10, "a", Liveness::Live);
    assert_eq!(among.step(20, "probe 1 a"), "ask 9 a 1600ms hops 1");
    assert_eq!(among.until(3_000), "probe 1 home_unreachable in 2000ms: ; - live");
    among.tell(3_000, "a", Liveness::Live);
    among.step(3_000, "open #2 b checks");
    // At half time; and its home's answer still counts.
    among.step(3_100, "probe 2 a");
    assert_eq!(among.until(4_200), "check #2 a 800ms");
    let said = among.home_says(4_300, 2, Some(Ok(vec![good(Role::Agent, "w")])));
    assert_eq!(said, "probe 2 reachable in 1200ms: w good 80ms; online live");
    among.step(4_400, "heard #2");
    among.step(4_400, "probe 3 a");
    assert_eq!(among.until(5_400), "check #2 a 800ms");
    assert_eq!(among.step(5_500, "checked #2 total=80 busy"), "", "the home may still answer");
    assert_eq!(among.until(6_400), "probe 3 home_unreachable in 2000ms: b good 80ms; busy live");
    among.step(6_400, "heard #2");
    // It comes to us while its home is asked.
    among.tell(6_400, "c", Liveness::Live);
    assert_eq!(among.step(6_400, "probe 9 c"), "ask 9 c 1600ms hops 1");
    among.step(6_420, "open #3 c checks h1");
    assert_eq!(among.until(7_400), "check #3 c 800ms > check #2 c 800ms");
    among.step(7_450, "checked #3");
    let said = among.step(7_450, "checked #2 total=80");
    assert_eq!(said, "probe 9 reachable in 1050ms: home good 50ms, b good 80ms; - live");
    among.step(7_450, "lost #3");
    // Its home refuses: it knows better, and so shall we soon.
    among.step(7_500, "probe 4 a");
    assert_eq!(among.home_says(7_600, 4, Some(Err(Rejection::Role))), "check #2 a 1520ms");
    let said = among.step(7_700, "checked #2 no_answer");
    assert_eq!(said, "probe 4 home_unreachable in 200ms: b no_answer; - live");
    // The connection ends while it is asked, and then there is none.
    among.step(7_800, "probe 5 a");
    among.sibling(7_900, SiblingInput::Unlinked { link: FAR });
    assert_eq!(among.home_says(7_900, 5, None), "check #2 a 1520ms");
    assert_eq!(among.step(8_000, "probe 6 a"), "check #2 a 1600ms");
}

#[test]
fn what_its_home_can_not_say_is_told_in_a_sentence() {
    let mut among = Among::new();
    among.tell(10, "a", Liveness::Live);
    among.step(10, "open #2 b checks");
    among.sibling(20, SiblingInput::Unlinked { link: FAR });
    among.run.pams.handle(at(30), parse(at(30), "probe 1 a"));
    let outputs: Vec<_> = std::iter::from_fn(|| among.run.pams.poll()).collect();
    let Some(Output::Push { push: Push::Check(asked), .. }) = outputs.last() else { panic!("{outputs:?}") };
    let answered = |among: &mut Among, checked: Option<Checked>| {
        let input =
            checked.map_or(Input::Tick, |checked| Input::Checked { session: SessionId(2), checked: Box::new(checked) });
        let now = if matches!(input, Input::Tick) { 2_030 } else { 100 };
        among.run.pams.handle(at(now), input);
        std::iter::from_fn(|| among.run.pams.poll())
            .find_map(|output| match output {
                Output::Probed { answer, .. } => Some(answer.unwrap()),
                _ => None,
            })
            .unwrap()
    };
    let checked = Checked { correlator: asked.correlator, finding: finding("b", ["total=80"].into()) };
    let answer = answered(&mut among, Some(checked));
    let text = "there is no connection with its home; it is reachable from agent peer-b (80.0 ms)";
    assert_eq!((answer.text.as_str(), answer.name.as_deref()), (text, Some("far-a")));
    assert_eq!((answer.home, answer.home_name.as_deref()), (Some(server(9)), Some("s9")));
    assert_eq!((answer.age_ms, answer.correlator), (Some(90), asked.correlator));
    among.run.pams.handle(at(30), parse(at(30), "probe 2 a"));
    let answer = answered(&mut among, None);
    let text = "there is no connection with its home; nobody could ask it; agent peer-b was asked to ping it, and did not answer itself";
    assert_eq!((answer.verdict.as_str(), answer.text.as_str()), ("home_unreachable", text));
}

#[test]
fn another_server_is_answered_for_our_own_peers_and_the_question_goes_no_further() {
    let mut among = Among::new();
    among.step(0, "open #1 a checks");
    among.tell(10, "f", Liveness::Live);
    assert_eq!(among.asked(20, 1, "a", (9, 1)), "check #1 a 800ms");
    assert_eq!(among.run.asked[&SessionId(1)].correlator, Correlator::of_uuid([7; 16]), "one trace");
    assert_eq!(among.asked(30, 2, "a", (9, 1)), "check #1 a 800ms");
    assert_ne!(among.run.asked[&SessionId(1)].correlator, Correlator::of_uuid([7; 16]), "each has its own");
    assert_eq!(
        among.step(40, "checked #1 hold=3"),
        "probe 2 reachable in 10ms: home good 10ms remote_hold 3ms; - live"
    );
    let refused = |n: u64| format!("probe {n} refused: not_home, again in 0ms");
    assert_eq!(among.asked(50, 3, "f", (9, 1)), refused(3));
    assert_eq!(among.asked(60, 4, "x", (9, 1)), refused(4));
    assert_eq!(among.asked(70, 5, "a", (9, 2)), refused(5));
    assert_eq!(among.asked(80, 6, "a", (8, 1)), refused(6), "no such connection");
    for n in 7..10 {
        assert_eq!(among.asked(90, n, "a", (9, 1)), "check #1 a 800ms");
    }
    assert_eq!(among.asked(100, 10, "a", (9, 1)), "probe 10 refused: target, again in 920ms");
}

#[test]
fn no_more_are_open_than_there_is_room_for() {
    let mut among = Among::new();
    let mut n = 0;
    for link in 10..24 {
        among.link(link);
        for i in 0..20 {
            let peer = PeerId::from_bytes([link, i, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let (session, hello) = (SessionId(u64::from(link) * 100 + u64::from(i)), Box::new(hello(at(0), peer, 1)));
            let hello = Box::new(Hello { capabilities: capability::CHECKS, ..*hello });
            among.input(0, Input::Opened { session, peer, hello, observed: observed(), same_host: false });
            let caller =
                Caller::Sibling { link: LinkId(link.into()), hops: 1, correlator: Correlator::of_uuid([0; 16]) };
            n += 1;
            let input = Input::Probe { probe: ProbeId(n), peer, within: Duration::from_secs(1), caller };
            let said = among.input(0, input);
            match n {
                ..=256 => assert!(said.starts_with("check #"), "{n}: {said}"),
                _ => assert_eq!(said, format!("probe {n} refused: full, again in 1000ms")),
            }
        }
    }
    assert_eq!(among.until(1_000).matches("unreachable in 1000ms").count(), 256);
}
