//! Probes: how a peer is right now, asked of whoever can tell. Its home asks it itself, over the session that it has, and has
//! one other agent ping it, a *witness*: so a peer that hangs, one that is cut off from its home alone, and a home that is cut
//! off are told apart. A server that is not the home asks the home, and that one asks nobody else, so that there are no loops;
//! where the home is silent, agents here are the witnesses.
//!
//! Each probe is answered by its deadline, come what may. All are bounded: those that are open, how often one caller may ask,
//! and how often one peer may be asked for; so nobody can be flooded by way of us.

mod answer;
mod limits;
mod who;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{
    frame::{self, Check, Checked, Finding, HOPS_MAX, ProbeAck, Rejected, Rejection, Role},
    id::{Correlator, Minter, PeerId, ServerId},
    moment::{Moment, nanos},
    record::{Outcome, Reason, Stage, Stages},
    status::{Liveness, Status},
};

pub use self::answer::{Found, ProbeAnswer, ProbeVerdict};
use self::{limits::Limit, who::Standing};
use super::{
    Notice, Output, Pams, Push, SessionId,
    cluster::io::{LinkId, SiblingOutput},
    directory::ms,
};

/// Bounds of how long an answer may take.
pub const WITHIN_MIN: Duration = Duration::from_millis(100);
pub const WITHIN_MAX: Duration = Duration::from_secs(10);
/// How long it may take unless that is said.
pub const WITHIN: Duration = Duration::from_secs(2);
/// Probes that are open at once; further ones are refused.
const OPEN_MAX: usize = 256;
/// Of one peer: so often, and so many in a row.
const TARGET_EVERY: Duration = Duration::from_secs(1);
const TARGET_BURST: u32 = 5;
/// By one caller.
const CALLER_EVERY: Duration = Duration::from_millis(200);
const CALLER_BURST: u32 = 20;
/// Peers, and callers, of whom it is known that they had their share just now.
const TARGETS_MAX: usize = 4_096;
const CALLERS_MAX: usize = 1_024;

/// One probe; a number that the shell uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// On the admin socket.
    Operator,
    /// On the TCP port, where nobody is asked who they are: all are one caller.
    Http,
    /// Another server, whose probe has passed so many servers.
    Sibling { link: LinkId, hops: u32, correlator: Correlator },
}

impl Caller {
    /// Label of the counter of probes.
    pub const fn label(self) -> &'static str {
        match self {
            Caller::Operator => "operator",
            Caller::Http => "http",
            Caller::Sibling { .. } => "server",
        }
    }

    pub const LABELS: [&'static str; 3] = ["operator", "http", "server"];
}

/// Why there was no probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRefused {
    pub why: Refused,
    /// When to try again; zero: that would not help.
    pub after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This caller may not probe: `probe.http` is off.
    Forbidden,
    /// This caller has asked too often.
    Caller,
    /// Too much was asked of this peer, here or at its home.
    Target,
    /// Too many probes are open.
    Full,
    /// We are not its home, and the probe has come from another server: it goes no further.
    NotHome,
}

impl Refused {
    pub const ALL: [Refused; 5] =
        [Refused::Forbidden, Refused::Caller, Refused::Target, Refused::Full, Refused::NotHome];

    /// Label of the counter of refused probes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refused::Forbidden => "forbidden",
            Refused::Caller => "caller",
            Refused::Target => "target",
            Refused::Full => "full",
            Refused::NotHome => "not_home",
        }
    }

    /// For people, and what to do.
    pub const fn text(self) -> &'static str {
        match self {
            Refused::Forbidden => "probes cannot be asked for on the TCP port of this server",
            Refused::Caller => "too many probes were asked for from here",
            Refused::Target => "this peer was probed too often",
            Refused::Full => "too many probes are under way",
            Refused::NotHome => "this server is not, or no longer, the home of the peer",
        }
    }
}

impl ProbeRefused {
    /// As another server is told.
    pub fn rejected(&self) -> Rejected {
        let code = if self.why == Refused::NotHome { Rejection::Role } else { Rejection::Busy };
        Rejected { code, detail: self.why.text().to_owned() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Operator,
    Http,
    Server(ServerId),
}

#[derive(Debug)]
pub(super) struct Probes {
    open: BTreeMap<ProbeId, Open>,
    /// When something of a probe is due.
    timers: BTreeSet<(Moment, ProbeId)>,
    /// What agents were asked and have not answered.
    checks: BTreeMap<(SessionId, Correlator), ProbeId>,
    callers: Limit<Key>,
    targets: Limit<PeerId>,
    minter: Minter,
}

/// A probe that is not answered yet.
#[derive(Debug)]
struct Open {
    peer: PeerId,
    correlator: Correlator,
    began: Moment,
    deadline: Moment,
    /// When an agent of ours is asked too, if the home has not answered.
    witness_at: Option<Moment>,
    home: Home,
    /// Agents that have not answered.
    asked: Vec<Asked>,
    findings: Vec<Finding>,
}

/// The peer's home, as far as this probe is concerned.
#[derive(Debug)]
enum Home {
    Us,
    /// It was asked, and has not answered.
    Asked,
    Answered,
    Unreachable(String),
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    session: SessionId,
    at: Moment,
    /// `None`: it was asked of itself.
    witness: Option<PeerId>,
}

impl Probes {
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            open: BTreeMap::new(),
            timers: BTreeSet::new(),
            checks: BTreeMap::new(),
            callers: Limit::new(CALLER_EVERY, CALLER_BURST, CALLERS_MAX),
            targets: Limit::new(TARGET_EVERY, TARGET_BURST, TARGETS_MAX),
            minter: Minter::new(seed),
        }
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// We did not run for so long: whoever was asked may have answered meanwhile.
    pub fn stalled(&mut self, late: Duration) {
        for (id, open) in &mut self.open {
            self.timers.remove(&(open.due(), *id));
            open.deadline += late;
            if let Some(at) = &mut open.witness_at {
                *at += late;
            }
            self.timers.insert((open.due(), *id));
        }
    }

    fn is_used(&self, correlator: Correlator) -> bool {
        self.open.values().any(|open| open.correlator == correlator)
    }

    /// What an agent was asked and has not answered.
    fn load(&self, session: SessionId) -> usize {
        let nothing = Correlator::of_uuid([0; 16]);
        self.checks.range((session, nothing)..).take_while(|((s, _), _)| *s == session).count()
    }
}

impl Open {
    fn due(&self) -> Moment {
        self.witness_at.map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn is_waiting(&self) -> bool {
        !self.asked.is_empty() || matches!(self.home, Home::Asked)
    }
}

/// Of the time that there is, so much is left to others, that their answer still comes in time.
fn share(left: Duration) -> Duration {
    left * 4 / 5
}

impl Pams {
    /// Answers at once, or by `within`.
    pub(super) fn probe(&mut self, now: Moment, id: ProbeId, peer: PeerId, within: Duration, caller: Caller) {
        let correlator = match caller {
            Caller::Sibling { correlator, .. } if !self.probes.is_used(correlator) => correlator,
            _ => self.probes.minter.correlator(now),
        };
        match self.may_probe(now, id, peer, caller) {
            Err(refused) => self.probed(id, correlator, Duration::ZERO, Err(refused)),
            Ok(Standing::Known(_, word)) if word.liveness == Liveness::Left => {
                let text = format!("it left {} ago; its agent said goodbye", shown(word.since(now)));
                self.answered(now, id, (peer, correlator, now), (ProbeVerdict::Offline, text), Vec::new());
            }
            Ok(Standing::Forgotten) => {
                let text = "it was forgotten; its agent has to join again".to_owned();
                self.answered(now, id, (peer, correlator, now), (ProbeVerdict::Offline, text), Vec::new());
            }
            Ok(Standing::Unknown) => {
                let text = "no server knows this peer".to_owned();
                self.answered(now, id, (peer, correlator, now), (ProbeVerdict::Unknown, text), Vec::new());
            }
            Ok(Standing::Known(home, _)) => {
                let deadline = now + within.min(WITHIN_MAX);
                let open = Open {
                    peer,
                    correlator,
                    began: now,
                    deadline,
                    witness_at: None,
                    home: Home::Us,
                    asked: Vec::new(),
                    findings: Vec::new(),
                };
                self.probes.open.insert(id, open);
                self.probes.timers.insert((deadline, id));
                match home {
                    None => self.ask_here(now, id),
                    Some(home) => self.ask_home(now, id, home),
                }
                self.settle(now, id);
            }
        }
    }

    /// Who may ask how often. The one place for access rules.
    fn may_probe(&mut self, now: Moment, id: ProbeId, peer: PeerId, caller: Caller) -> Result<Standing, ProbeRefused> {
        let no = |why| ProbeRefused { why, after: Duration::ZERO };
        let later = |why| move |after| ProbeRefused { why, after };
        let key = match caller {
            Caller::Operator => Key::Operator,
            Caller::Http if !self.config.probe_http => return Err(no(Refused::Forbidden)),
            Caller::Http => Key::Http,
            Caller::Sibling { link, hops, .. } if hops <= HOPS_MAX => {
                Key::Server(self.cluster.server_of(link).ok_or(no(Refused::NotHome))?)
            }
            Caller::Sibling { .. } => return Err(no(Refused::NotHome)),
        };
        self.probes.callers.take(now, key).map_err(later(Refused::Caller))?;
        let standing = self.standing(now, peer);
        match (&standing, caller) {
            (Standing::Known(None, _) | Standing::Forgotten, _) => {}
            // What the other server knows is not the newest; the probe goes no further.
            (_, Caller::Sibling { .. }) => return Err(no(Refused::NotHome)),
            _ => {}
        }
        if matches!(&standing, Standing::Known(_, word) if word.liveness != Liveness::Left) {
            if self.probes.open.len() >= OPEN_MAX || self.probes.open.contains_key(&id) {
                return Err(later(Refused::Full)(TARGET_EVERY));
            }
            self.probes.targets.take(now, peer).map_err(later(Refused::Target))?;
        }
        Ok(standing)
    }

    /// We are its home.
    fn ask_here(&mut self, now: Moment, id: ProbeId) {
        let Some(peer) = self.probes.open.get(&id).map(|open| open.peer) else { return };
        let row = self.directory.row(peer);
        let session = row.and_then(|row| row.session);
        match (session, row.is_some_and(|row| row.checks)) {
            (Some(session), true) => self.check(now, id, session, None),
            // It cannot be asked: what it does by itself has to do.
            (Some(_), false) => {
                let is_live = row.is_some_and(|row| row.liveness == Liveness::Live);
                self.found_by_us(id, (!is_live).then_some(Reason::NoAnswer), None, Stages::default(), None);
            }
            (None, _) => self.found_by_us(id, Some(Reason::NotSent), None, Stages::default(), None),
        }
        self.ask_witness(now, id);
    }

    /// Another server is.
    fn ask_home(&mut self, now: Moment, id: ProbeId, home: ServerId) {
        let Some(link) = self.cluster.link_with(home) else {
            return self.home_is_silent(now, id, "there is no connection with its home".to_owned());
        };
        let Some(open) = self.probes.open.get_mut(&id) else { return };
        let left = open.deadline.since(now);
        open.home = Home::Asked;
        let witness_at = now + left / 2;
        open.witness_at = Some(witness_at);
        self.probes.timers.remove(&(open.deadline, id));
        self.probes.timers.insert((open.due(), id));
        let within_ms = u32::try_from(ms(share(left))).unwrap_or(u32::MAX);
        // Only what was asked of us by people goes on, so it has passed one server then: us.
        let what = frame::Probe { peer: open.peer, correlator: open.correlator, within_ms, hops: 1 };
        self.cluster.send(SiblingOutput::Probe { link, probe: id, what });
    }

    /// Has an agent of ours ping the peer, if there is one that can.
    fn ask_witness(&mut self, now: Moment, id: ProbeId) {
        let Some(open) = self.probes.open.get_mut(&id) else { return };
        if let Some(at) = open.witness_at.take() {
            self.probes.timers.remove(&(at, id));
            self.probes.timers.insert((open.deadline, id));
        }
        let peer = open.peer;
        if let Some((witness, session)) = self.witness_of(peer) {
            self.check(now, id, session, Some(witness));
        }
    }

    fn check(&mut self, now: Moment, id: ProbeId, session: SessionId, witness: Option<PeerId>) {
        let Some(open) = self.probes.open.get_mut(&id) else { return };
        self.probes.checks.insert((session, open.correlator), id);
        open.asked.push(Asked { session, at: now, witness });
        let within_ms = u32::try_from(ms(share(open.deadline.since(now)))).unwrap_or(u32::MAX);
        let check = Check { correlator: open.correlator, peer: open.peer, within_ms };
        self.outputs.push_back(Output::Push { session, push: Push::Check(check) });
    }

    /// An agent has answered.
    pub(super) fn checked(&mut self, now: Moment, session: SessionId, checked: Checked) {
        let Some(speaker) = self.speaker(now, session) else { return };
        let Some(id) = self.probes.checks.remove(&(session, checked.correlator)) else {
            return self.notice(Notice::LateChecked { peer: speaker });
        };
        let Some(open) = self.probes.open.get_mut(&id) else { return };
        let Some(at) = open.asked.iter().position(|asked| asked.session == session) else { return };
        let asked = open.asked.remove(at);
        let Finding { outcome, reason, total_ns, stages, status, .. } = checked.finding;
        match asked.witness {
            // That it answers is what was asked.
            None => {
                let hold = stages.get(Stage::RemoteHold).map(Duration::from_nanos);
                let stages = hold.map_or_else(Stages::default, |hold| Stages::default().with(Stage::RemoteHold, hold));
                self.found_by_us(id, None, Some(now.since(asked.at)), stages, status);
            }
            Some(by) => {
                open.findings.push(Finding {
                    by: by.0,
                    by_role: Role::Agent,
                    outcome,
                    reason,
                    total_ns,
                    stages,
                    status,
                });
            }
        }
        self.settle(now, id);
    }

    /// The home has answered, or cannot any more.
    pub(super) fn home_answered(&mut self, now: Moment, id: ProbeId, ack: Option<ProbeAck>) {
        let Some(open) = self.probes.open.get_mut(&id).filter(|open| matches!(open.home, Home::Asked)) else { return };
        match ack {
            Some(ProbeAck(Ok(findings))) => {
                open.home = Home::Answered;
                open.findings.splice(0..0, findings);
                // What an agent here still finds out would add little.
                self.finish(now, id);
            }
            Some(ProbeAck(Err(Rejected { code: Rejection::Busy, .. }))) => {
                let refused = ProbeRefused { why: Refused::Target, after: TARGET_EVERY };
                let Some(open) = self.close(id) else { return };
                self.probed(id, open.correlator, now.since(open.began), Err(refused));
            }
            Some(ProbeAck(Err(rejected))) => {
                self.home_is_silent(now, id, format!("its home refused to ask it: {}", rejected.detail));
            }
            None => self.home_is_silent(now, id, "its home did not answer".to_owned()),
        }
        self.settle(now, id);
    }

    fn home_is_silent(&mut self, now: Moment, id: ProbeId, why: String) {
        let Some(open) = self.probes.open.get_mut(&id) else { return };
        let asked = matches!(open.home, Home::Asked) && open.witness_at.is_none();
        open.home = Home::Unreachable(why);
        if !asked {
            self.ask_witness(now, id);
        }
    }

    /// What is due by now.
    pub(super) fn end_probes(&mut self, now: Moment) {
        while let Some((_, id)) = self.probes.timers.first().copied().filter(|(at, _)| *at <= now) {
            match self.probes.open.get(&id) {
                Some(open) if open.deadline > now => self.ask_witness(now, id),
                _ => self.finish(now, id),
            }
        }
    }

    /// Answers, if nothing is waited for.
    fn settle(&mut self, now: Moment, id: ProbeId) {
        if self.probes.open.get(&id).is_some_and(|open| !open.is_waiting()) {
            self.finish(now, id);
        }
    }

    /// Takes a probe out, with all that belongs to it.
    fn close(&mut self, id: ProbeId) -> Option<Open> {
        let probes = &mut self.probes;
        let open = probes.open.remove(&id)?;
        probes.timers.remove(&(open.due(), id));
        for asked in &open.asked {
            probes.checks.remove(&(asked.session, open.correlator));
        }
        Some(open)
    }

    fn finish(&mut self, now: Moment, id: ProbeId) {
        let Some(mut open) = self.close(id) else { return };
        if open.asked.iter().any(|asked| asked.witness.is_none()) {
            open.findings.insert(0, self.finding_of_us(Some(Reason::NoAnswer)));
        }
        let silent: Vec<String> = open.asked.iter().filter_map(|asked| Some(self.called(asked.witness?))).collect();
        let found = self.named(&open.findings);
        let (verdict, mut text) = match open.home {
            Home::Answered if open.findings.is_empty() => {
                (ProbeVerdict::Offline, "its home says that it left, or was forgotten".to_owned())
            }
            Home::Us | Home::Answered => (ProbeVerdict::of(&open.findings), answer::sentence(&found)),
            Home::Asked => {
                let text = format!("its home did not answer in time; {}", answer::sentence(&found));
                (ProbeVerdict::HomeUnreachable, text)
            }
            Home::Unreachable(why) => (ProbeVerdict::HomeUnreachable, format!("{why}; {}", answer::sentence(&found))),
        };
        answer::silent(&mut text, &silent);
        self.answered(now, id, (open.peer, open.correlator, open.began), (verdict, text), found);
    }

    fn answered(
        &mut self,
        now: Moment,
        id: ProbeId,
        (peer, correlator, began): (PeerId, Correlator, Moment),
        (verdict, text): (ProbeVerdict, String),
        findings: Vec<Found>,
    ) {
        let word = match self.standing(now, peer) {
            Standing::Known(_, word) => Some(word),
            Standing::Forgotten | Standing::Unknown => None,
        };
        let just_now = findings.iter().find(|f| f.outcome == Outcome::Good).and_then(|f| f.status);
        let took = now.since(began);
        let answer = ProbeAnswer {
            peer,
            verdict,
            text,
            status: just_now.or_else(|| word.as_ref().and_then(|word| word.status)),
            liveness: word.as_ref().map(|word| word.liveness),
            liveness_since_ms: word.as_ref().map(|word| word.since_ms),
            home: word.as_ref().map(|word| word.home),
            home_name: word.as_ref().and_then(|word| self.server_name(word.home)),
            age_ms: word.as_ref().map(|word| ms(word.age)),
            name: word.map(|word| word.name),
            findings,
            correlator,
            took_ms: ms(took),
        };
        self.probed(id, correlator, took, Ok(Box::new(answer)));
    }

    /// Not shed: each probe has one.
    fn probed(
        &mut self,
        probe: ProbeId,
        correlator: Correlator,
        took: Duration,
        answer: Result<Box<ProbeAnswer>, ProbeRefused>,
    ) {
        self.outputs.push_back(Output::Probed { probe, correlator, took, answer });
    }

    fn found_by_us(
        &mut self,
        id: ProbeId,
        reason: Option<Reason>,
        total: Option<Duration>,
        stages: Stages,
        status: Option<Status>,
    ) {
        let total_ns = total.map(nanos);
        let finding = Finding { total_ns, stages, status, ..self.finding_of_us(reason) };
        if let Some(open) = self.probes.open.get_mut(&id) {
            open.findings.insert(0, finding);
        }
    }

    /// Without times.
    fn finding_of_us(&self, reason: Option<Reason>) -> Finding {
        Finding {
            by: self.cluster.me.id.0,
            by_role: Role::Server,
            outcome: reason.map_or(Outcome::Good, Reason::outcome),
            reason,
            total_ns: None,
            stages: Stages::default(),
            status: None,
        }
    }
}

/// To the second, or the millisecond below one.
fn shown(d: Duration) -> String {
    let d = if d.as_secs() > 0 { Duration::from_secs(d.as_secs()) } else { Duration::from_millis(ms(d)) };
    humantime::format_duration(d).to_string()
}
