//! Tests of the engine as timelines in virtual time: inputs with `<`, questions with `?`, outputs with `>`. A line without
//! an input tells of what came of time alone. Whatever the engine says and the script does not, or the other way round,
//! fails. `<<` is an input to a shell that slept until then.

mod bounds;
mod changes;
mod ears;
mod lost;
mod probes;
mod random;
mod rosters;
mod rules;
mod subscriptions;

use std::{collections::VecDeque, fmt::Write as _, net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{
        Check, Checked, Finding, Hello, News, NotifyAck, Profile, Report, Role, SubscribeAck, View, capability, close,
    },
    id::{Correlator, PeerId},
    moment::Moment,
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
    status::{Liveness, Presence, Status},
};

use super::{
    probe::{Caller, Found, ProbeAnswer, ProbeId, ProbeRefused},
    view::*,
    *,
};

/// Wall clock at the start of each test.
const WALL_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Moment {
    Moment::new(ms * 1_000_000, WALL_MS + ms)
}

/// A peer by one letter.
fn id(letter: &str) -> PeerId {
    PeerId::from_bytes([letter.as_bytes()[0]; 16])
}

fn letter(peer: PeerId) -> char {
    char::from(peer.as_bytes()[0])
}

/// Runs the script and compares all that was said. The one place that drives the engine in timelines.
fn check(script: &str) {
    check_with(PamsConfig::default(), script);
}

#[track_caller]
fn check_with(config: PamsConfig, script: &str) {
    let script = normal(script);
    let mut run = Run { pams: Pams::new(config, at(0)), asked: BTreeMap::new(), said: String::new() };
    for line in script.lines() {
        let (time, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no time: {line}"));
        let now = (time.parse::<f64>().unwrap_or_else(|_| panic!("no time: {line}")) * 1000.0).round() as u64;
        match rest.split_once(' ').map(|(sign, rest)| (sign, rest.split(" > ").next().unwrap())) {
            Some(("<", input)) => run.tick_until(at(now)).input(now, "<", input),
            Some(("<<", input)) => run.input(now, "<<", input),
            Some(("?", question)) => run.tick_until(at(now)).answer(now, question),
            _ => continue,
        };
    }
    assert!(run.said == script, "\n--- script\n{script}\n--- engine\n{}", run.said);
    assert!(run.pams.directory.is_consistent());
}

/// One line an input, one blank between words, three digits of a second.
fn normal(script: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in script.lines().filter(|l| !l.trim().is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        match (words[0], lines.last_mut()) {
            (">", Some(last)) => *last += &format!(" {}", words.join(" ")),
            (time, _) => {
                let time: f64 = time.parse().unwrap_or_else(|_| panic!("no time: {line}"));
                lines.push(format!("{time:.3} {}", words[1..].join(" ")));
            }
        }
    }
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

struct Run {
    pams: Pams,
    /// What each session was asked last.
    asked: BTreeMap<SessionId, Check>,
    said: String,
}

impl Run {
    fn tick_until(&mut self, until: Moment) -> &mut Self {
        while let Some((due, _)) = self.pams.deadline().filter(|(due, _)| *due < until) {
            self.pams.handle(due, Input::Tick);
            let said = self.drain();
            if !said.is_empty() {
                self.line(due.ns() / 1_000_000, said.trim_start());
            }
        }
        self
    }

    fn input(&mut self, now: u64, sign: &str, text: &str) {
        let input = match text.strip_prefix("checked ") {
            Some(checked) => self.checked(checked.split(' ').collect()),
            None => parse(at(now), text),
        };
        self.pams.handle(at(now), input);
        let said = self.drain();
        self.line(now, &format!("{sign} {text}{said}"));
    }

    /// Of what the session was asked last: `good` or a reason, `hold=5` and `total=80` in ms, a status.
    fn checked(&self, mut words: VecDeque<&str>) -> Input {
        let session = SessionId(words.pop_front().unwrap()[1..].parse().unwrap());
        let correlator = self.asked[&session].correlator;
        Input::Checked { session, checked: Box::new(Checked { correlator, finding: finding("?", words) }) }
    }

    fn answer(&mut self, now: u64, question: &str) {
        let answer = answer(&self.pams, at(now), question);
        self.line(now, &format!("? {question} > {answer}"));
    }

    fn drain(&mut self) -> String {
        let mut said = String::new();
        while let Some(output) = self.pams.poll() {
            write!(said, " > {}", render(&output)).unwrap();
            if let Output::Push { session, push: Push::Check(check) } = output {
                self.asked.insert(session, check);
            }
        }
        said
    }

    fn line(&mut self, ms: u64, text: &str) {
        writeln!(self.said, "{:.3} {text}", ms as f64 / 1000.0).unwrap();
    }
}

fn parse(now: Moment, text: &str) -> Input {
    let mut words: VecDeque<_> = text.split(' ').collect();
    let verb = words.pop_front().unwrap();
    let session = |words: &mut VecDeque<&str>| SessionId(words.pop_front().unwrap()[1..].parse().unwrap());
    match verb {
        "open" => {
            let session = session(&mut words);
            let peer = id(words.pop_front().unwrap());
            Input::Opened {
                session,
                peer,
                hello: Box::new(parse_hello(now, peer, words)),
                observed: observed(),
                same_host: false,
            }
        }
        "report" => Input::Report { session: session(&mut words), report: parse_report(words) },
        "heard" => Input::Heard { session: session(&mut words) },
        "fetch" => Input::Fetch { session: session(&mut words), peer: id(words[0]) },
        "sub" => Input::Subscribe { session: session(&mut words), peer: id(words[0]) },
        "unsub" => Input::Unsubscribe { session: session(&mut words), peer: id(words[0]) },
        "told" => {
            let (session, peer, number) = (session(&mut words), id(words[0]), words[1].parse().unwrap());
            Input::NotifyAck { session, ack: NotifyAck { peer, number, hold_ns: None, correlator: None } }
        }
        "bye" => Input::Goodbye { session: session(&mut words) },
        "lost" => Input::Closed { session: session(&mut words) },
        "forget" => Input::Forget { peer: id(words[0]), force: words.get(1) == Some(&"force") },
        "drain" => Input::Drain,
        "probe" => {
            let (probe, peer) = (ProbeId(words[0].parse().unwrap()), id(words[1]));
            let within = words.iter().find_map(|word| word.strip_prefix("within=")).unwrap_or("2000");
            let from = words.iter().find_map(|word| word.strip_prefix("http=")).map(|from| from.parse().unwrap());
            let caller = from.map_or(Caller::Operator, |from| Caller::Http { from });
            Input::Probe { probe, peer, within: Duration::from_millis(within.parse().unwrap()), caller }
        }
        "suspended" => Input::Stalled { late: Duration::from_secs(words[0].parse().unwrap()) },
        // The pace alone, in ms; the rest follows.
        "pace" => Input::Reconfigured(Box::new(paced(words[0].parse().unwrap()))),
        "departed" => {
            let departed_max = words[0].parse().unwrap();
            Input::Reconfigured(Box::new(PamsConfig { departed_max, forgotten_max: 1, ..PamsConfig::default() }))
        }
        "watchers" => {
            let watchers = words[0].parse().unwrap();
            Input::Reconfigured(Box::new(PamsConfig {
                watchers,
                subscribers_per_peer: watchers,
                ..PamsConfig::default()
            }))
        }
        "tick" => Input::Tick,
        _ => panic!("unknown input: {text}"),
    }
}

fn observed() -> SocketAddr {
    "192.0.2.1:4433".parse().unwrap()
}

/// `e2` epoch, `h1` attach, `in=eu/de,cdn` overlays, `takes=9` buddies from us, `ahead=90` seconds of the wall clock, `checks`: it answers them,
/// `bare`: no profile.
fn parse_hello(now: Moment, peer: PeerId, words: VecDeque<&str>) -> Hello {
    let mut hello = hello(now, peer, 1);
    for word in words {
        match word.split_once('=') {
            Some(("in", overlays)) => {
                hello.profile.as_mut().unwrap().overlays = overlays.split(',').map(str::to_owned).collect();
            }
            Some(("takes", n)) => {
                hello.capabilities |= capability::ROSTERS;
                hello.profile.as_mut().unwrap().roster_max = n.parse().unwrap();
            }
            Some(("ahead", s)) => hello.wall_ms = now.wall_ms().strict_add_signed(s.parse::<i64>().unwrap() * 1000),
            _ if word == "checks" => hello.capabilities |= capability::CHECKS,
            _ if word == "bare" => hello.profile = None,
            _ if word.starts_with('e') => hello.epoch = word[1..].parse().unwrap(),
            _ => hello.attach = word.strip_prefix('h').unwrap().parse().unwrap(),
        }
    }
    hello
}

fn hello(now: Moment, peer: PeerId, epoch: u64) -> Hello {
    let name = format!("peer-{}", letter(peer));
    let addresses = vec!["0.0.0.0:9000".parse().unwrap()];
    let metrics = Some("[::]:7481".parse().unwrap());
    let profile = Some(Profile { name, addresses, software: "pams-agent/0.1.0".into(), metrics, ..Profile::default() });
    Hello {
        software: "pams-agent/0.1.0".into(),
        epoch,
        capabilities: 0,
        wall_ms: now.wall_ms(),
        attach: 0,
        profile,
        member: None,
    }
}

/// `3` batch, `ping=5/3/1` opened, good, aborted, `busy@2` status and version, `records=2`, `sees=b:gone`, `drops=b`, `shed=9`.
fn parse_report(words: VecDeque<&str>) -> Report {
    let mut report = Report::default();
    for word in words {
        if let Ok(batch) = word.parse() {
            report.batch = batch;
        } else if let Some((status, version)) = word.split_once('@') {
            let status = Status::ALL.into_iter().find(|s| s.as_str() == status).unwrap();
            report.changes.push(Presence { status, version: version.parse().unwrap(), ..Presence::default() });
        } else {
            let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("unknown word: {word}"));
            match key {
                "records" => report.records = (0..value.parse().unwrap()).map(|n| record(report.batch, n)).collect(),
                "shed" => report.shed = value.parse().unwrap(),
                "sees" => report.views.push(view(value)),
                "drops" => report.views.push(View { dropped: true, ..view(value) }),
                "ping" => report.totals.push((Kind::Ping, ledger(value))),
                _ => report.totals.push((Kind::parse(key).unwrap(), ledger(value))),
            }
        }
    }
    report
}

fn ledger(text: &str) -> Ledger {
    let mut n = text.split('/').map(|n| n.parse::<u64>().unwrap());
    let mut next = || n.next().unwrap_or(0);
    let (opened, good, aborted) = (next(), next(), next());
    Ledger { opened, good, aborted, in_flight: opened.saturating_sub(good + aborted), ..Ledger::default() }
}

fn view(text: &str) -> View {
    let (peer, liveness) = text.split_once(':').unwrap_or((text, ""));
    let liveness = Liveness::ALL.into_iter().find(|l| l.as_str() == liveness);
    View { peer: id(peer), liveness, status: None, missed: 0, hears: true, heard: true, dropped: false }
}

fn record(batch: u64, n: u64) -> Record {
    Record {
        kind: Kind::Ping,
        target: id("t").0,
        correlator: Correlator::of_uuid((u128::from(batch) << 64 | u128::from(n)).to_be_bytes()),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: WALL_MS,
        total_ns: Some(80_000_000),
        stages: Stages::default(),
        target_status: Some(Status::Online),
        path_rtt_ns: None,
    }
}

/// As in `Run::checked`; `by` one letter.
fn finding(by: &str, words: VecDeque<&str>) -> Finding {
    let mut finding = Finding {
        by: id(by).0,
        by_role: Role::Agent,
        outcome: Outcome::Good,
        reason: None,
        total_ns: None,
        stages: Stages::default(),
        status: None,
    };
    for word in words {
        let ms = |text: &str| text.parse::<u64>().unwrap() * 1_000_000;
        if let Some(reason) = Reason::ALL.into_iter().find(|reason| reason.as_str() == word) {
            (finding.outcome, finding.reason) = (reason.outcome(), Some(reason));
        } else if let Some(status) = Status::ALL.into_iter().find(|status| status.as_str() == word) {
            finding.status = Some(status);
        } else if let Some(total) = word.strip_prefix("total=") {
            finding.total_ns = Some(ms(total));
        } else if let Some(hold) = word.strip_prefix("hold=") {
            finding.stages.set(Stage::RemoteHold, ms(hold));
        } else {
            assert_eq!(word, "good", "unknown word");
        }
    }
    finding
}

/// `probed 1 partly in 90ms: home no_answer, b good 80ms; busy live`.
fn probed(answer: &Result<Box<ProbeAnswer>, ProbeRefused>, took: Duration) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(refused) => return format!("refused: {}, again in {}ms", refused.why.as_str(), refused.after.as_millis()),
    };
    let found = |f: &Found| {
        let by = if f.by_role == Role::Server { "home".to_owned() } else { letter(PeerId(f.by)).to_string() };
        let mut text = format!("{by} {}", f.reason.map_or(f.outcome.as_str(), Reason::as_str));
        f.total_ns.iter().for_each(|ns| write!(text, " {}ms", ns / 1_000_000).unwrap());
        f.stages_ns.iter().for_each(|(stage, ns)| write!(text, " {} {}ms", stage.as_str(), ns / 1_000_000).unwrap());
        text
    };
    let findings: Vec<_> = answer.findings.iter().map(found).collect();
    let status = answer.status.map_or("-", Status::as_str);
    let liveness = answer.liveness.map_or("-", Liveness::as_str);
    let (verdict, took) = (answer.verdict.as_str(), took.as_millis());
    format!("{verdict} in {took}ms: {}; {status} {liveness}", findings.join(", "))
}

fn render(output: &Output) -> String {
    match output {
        Output::Accept { session, terms } => format!("accept #{} {}", session.0, terms.applied_batch),
        Output::Reject { session, rejected } => format!("reject #{} {:?}", session.0, rejected.code),
        Output::Close { session, code: close::SUPERSEDED } => format!("close #{} superseded", session.0),
        Output::Close { session, code: close::REJECTED } => format!("close #{} rejected", session.0),
        Output::Close { session, .. } => format!("close #{}", session.0),
        Output::Ack { session, ack } => format!("ack #{} {}", session.0, ack.batch),
        Output::Push { session, push: Push::Roster(roster) } => {
            let peers: Vec<_> = roster.peers.iter().map(|r| r.peer).collect();
            format!("push #{} roster {}", session.0, list(&peers))
        }
        Output::Push { session, push: Push::Check(check) } => {
            format!("check #{} {} {}ms", session.0, letter(check.peer), check.within_ms)
        }
        Output::Probed { probe, took, answer, .. } => format!("probe {} {}", probe.0, probed(answer, *took)),
        Output::Push { session, push: Push::Notify(notify) } => {
            format!("notify #{} {} {}", session.0, notify.number, news(&notify.news))
        }
        Output::Subscribed { session, ack: SubscribeAck(Ok(None)) } => format!("subscribed #{} nothing", session.0),
        Output::Subscribed { session, ack: SubscribeAck(Ok(Some(n))) } => {
            format!("subscribed #{} {}", session.0, news(n))
        }
        Output::Subscribed { session, ack: SubscribeAck(Err(rejected)) } => {
            format!("refused #{} {}", session.0, rejected.detail)
        }
        Output::NotifyAcked { took } => format!("told in {}ms", took.as_millis()),
        Output::Fetched { session, entry: None } => format!("fetched #{} nothing", session.0),
        Output::Fetched { session, entry: Some(e) } => {
            format!("fetched #{} {} {} {}ms", session.0, letter(e.peer), e.liveness.as_str(), e.age_ms)
        }
        Output::Forgot { peer, answer } => format!("forgot {} {answer:?}", letter(*peer)),
        Output::Record { peer, record } => format!("record {} {}", letter(*peer), record.kind),
        Output::Abandoned { peer, kind, count, reason } => {
            format!("abandoned {} {kind} {count} {}", letter(*peer), reason.as_str())
        }
        Output::Event(e) => format!("{} {}", letter(e.peer), e.what.as_str()),
        Output::Push { session, push } => format!("push #{} {push:?}", session.0),
        Output::Evacuated { left } => format!("evacuated, {left} left"),
        Output::Sibling(output) => format!("sibling {output:?}"),
        Output::Held { took } => format!("held in {}ms", took.as_millis()),
        Output::Notice(notice) => format!("notice {} {}", notice.label(), notice.count()),
    }
}

fn list(peers: &[PeerId]) -> String {
    if peers.is_empty() { "-".to_owned() } else { peers.iter().map(|p| letter(*p)).collect() }
}

fn news(n: &News) -> String {
    let said = n.presence.as_ref().map_or_else(|| "-".to_owned(), |p| format!("{}@{}", p.status.as_str(), p.version));
    let judged = n.liveness.map_or("-", Liveness::as_str);
    format!("{} {}.{} {said} {judged} {}ms", letter(n.peer), n.order.epoch, n.order.version, n.age_ms)
}

fn sum(l: &Ledger) -> String {
    assert!(l.is_conserved(), "{l:?}");
    format!("{}={}+{}+{}+{}+{}", l.opened, l.good, l.aborted, l.failed, l.unknown, l.in_flight)
}

fn answer(pams: &Pams, now: Moment, question: &str) -> String {
    match question {
        "totals" => {
            let summary = pams.summary(now);
            let used: Vec<_> = summary.ledger.iter().filter(|(_, l)| l.opened > 0).collect();
            used.iter().map(|(label, l)| format!("{label} {}", sum(l))).collect::<Vec<_>>().join(" ")
        }
        "peers" => {
            let summary = pams.summary(now);
            let peers: Vec<_> = summary.peers.iter().map(|(l, n)| format!("{} {n}", l.as_str())).collect();
            format!("{} sessions {}", peers.join(" "), summary.sessions)
        }
        "notifies" => {
            let (n, total) = (pams.notifies(), pams.subscriptions());
            format!("{total} subscriptions sent {} acked {} lost {}", n.sent, n.acked, n.lost)
        }
        "ready" => format!("{} in {}ms", pams.ready(now), pams.ready_in(now).as_millis()),
        "sd" => {
            let names: Vec<_> =
                pams.sd_page(now, None, 100, false).0.iter().map(|t| t.labels["__meta_pams_name"].clone()).collect();
            if names.is_empty() { "nobody".to_owned() } else { names.join(" ") }
        }
        "due" => format!("{:?}", pams.deadline().map(|(at, due)| (at.ns() / 1_000_000, due)).unwrap().1)
            .split('(')
            .next()
            .unwrap()
            .to_owned(),
        "rosters" => {
            let RosterSummary { edges, short, cut, pushed, .. } = pams.summary(now).rosters;
            format!("{edges} edges {short} short {cut} cut {pushed} pushed")
        }
        peer if peer.starts_with("of ") => {
            let detail = pams.peer(now, id(&peer[3..])).unwrap();
            format!("by {} watches {}", list(&detail.watched_by), list(&detail.watches))
        }
        peer => pams.peer(now, id(peer)).map_or("nothing".to_owned(), |d| detail(&d)),
    }
}

fn detail(d: &PeerDetail) -> String {
    let order = d.peer.order;
    let status = d.peer.presence.as_ref().map_or("-", |p| p.status.as_str());
    let mut text = format!(
        "{} {:?} {}ms order {}.{}.{} {status} batch {}",
        d.home.liveness.as_str(),
        d.home.because,
        d.home.age_ms,
        order.epoch,
        order.attach,
        order.version,
        d.batch
    );
    d.ledger.iter().for_each(|(kind, l)| write!(text, " {kind} {}", sum(l)).unwrap());
    for w in &d.watchers {
        let seen = w.liveness.map_or("-", Liveness::as_str);
        write!(text, " {} sees {seen}{}", letter(w.watcher), if w.stale { " (stale)" } else { "" }).unwrap();
    }
    text
}

fn paced(ms: u64) -> PamsConfig {
    let pace = Duration::from_millis(ms);
    PamsConfig { pace, gone_after: pace * 3, ..PamsConfig::default() }
}
