//! The course of a probe: who may ask, who is asked, what comes back, and when it is over.

use std::time::Duration;

use pams_shared::{
    frame::{self, Check, Checked, Finding, HOPS_MAX, ProbeAck, Rejected, Rejection, Role},
    id::{Correlator, PeerId, ServerId},
    moment::{Moment, nanos},
    record::{Outcome, Reason, Stage, Stages},
    status::{Liveness, Status},
};

use super::{
    super::{Notice, Output, Pams, Push, SessionId, cluster::io::SiblingOutput, directory::ms},
    Asked, Caller, Found, Home, Key, OPEN_MAX, Open, Prefix, ProbeAnswer, ProbeId, ProbeRefused, ProbeVerdict, Refused,
    TARGET_EVERY, WITHIN_MAX, answer,
    who::Standing,
};

/// Of the time that there is, so much is left to others, that their answer still comes in time.
fn share(left: Duration) -> Duration {
    left * 4 / 5
}

impl Pams {
    /// Answers at once, or by `within`.
    pub(in super::super) fn probe(&mut self, now: Moment, id: ProbeId, peer: PeerId, within: Duration, caller: Caller) {
        let correlator = match caller {
            Caller::Sibling { correlator, .. } if !self.probes.is_used(correlator) => correlator,
            _ => self.probes.minter.correlator(now),
        };
        let standing = match self.may_probe(now, peer, caller) {
            Ok(standing) => standing,
            Err(refused) => return self.probed(id, correlator, Duration::ZERO, Err(refused)),
        };
        let (home, verdict) = match standing {
            Standing::Known(_, word) if word.liveness == Liveness::Left => {
                let text = format!("it left {} ago; its agent said goodbye", shown(word.since(now)));
                (None, Some((ProbeVerdict::Offline, text)))
            }
            Standing::Known(home, _) => (home, None),
            Standing::Forgotten => {
                (None, Some((ProbeVerdict::Offline, "it was forgotten; its agent has to join again".to_owned())))
            }
            Standing::Unknown => (None, Some((ProbeVerdict::Unknown, "no server knows this peer".to_owned()))),
        };
        if let Some(verdict) = verdict {
            return self.answered(now, id, (peer, correlator, now), verdict, Vec::new());
        }
        self.probes.begin(now, id, (peer, correlator), within.min(WITHIN_MAX));
        match home {
            None => self.ask_here(now, id),
            Some(home) => self.ask_home(now, id, home),
        }
        self.settle(now, id);
    }

    /// Who may ask how often. The one place for access rules.
    fn may_probe(&mut self, now: Moment, peer: PeerId, caller: Caller) -> Result<Standing, ProbeRefused> {
        let no = |why| ProbeRefused { why, after: Duration::ZERO };
        let later = |why| move |after| ProbeRefused { why, after };
        let key = match caller {
            Caller::Operator => Key::Operator,
            Caller::Http { .. } if !self.config.probe_http => return Err(no(Refused::Forbidden)),
            Caller::Http { from } => {
                // Its own bucket first: whoever asks too much takes nothing from the others.
                self.probes.addresses.take(now, Prefix::of(from)).map_err(later(Refused::Caller))?;
                Key::Http
            }
            Caller::Sibling { link, hops, .. } if hops <= HOPS_MAX => {
                Key::Server(self.cluster.server_of(link).ok_or(no(Refused::NotHome))?)
            }
            Caller::Sibling { .. } => return Err(no(Refused::NotHome)),
        };
        let bucket = if key == Key::Http { &mut self.probes.http } else { &mut self.probes.callers };
        bucket.take(now, key).map_err(later(Refused::Caller))?;
        let standing = self.standing(now, peer);
        match (&standing, caller) {
            (Standing::Known(None, _) | Standing::Forgotten, _) => {}
            // What the other server knows is not the newest; the probe goes no further.
            (_, Caller::Sibling { .. }) => return Err(no(Refused::NotHome)),
            _ => {}
        }
        if matches!(&standing, Standing::Known(_, word) if word.liveness != Liveness::Left) {
            if self.probes.open.len() >= OPEN_MAX {
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
    pub(in super::super) fn checked(&mut self, now: Moment, session: SessionId, checked: Checked) {
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
    pub(in super::super) fn home_answered(&mut self, now: Moment, id: ProbeId, ack: Option<ProbeAck>) {
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
            self.ask_others(now, id);
        }
    }

    /// Whoever can tell beside the home that was asked; it may have moved to us meanwhile.
    fn ask_others(&mut self, now: Moment, id: ProbeId) {
        let Some(open) = self.probes.open.get_mut(&id) else { return };
        if self.directory.row(open.peer).is_none() {
            return self.ask_witness(now, id);
        }
        open.home = Home::Us;
        self.ask_here(now, id);
    }

    /// What is due by now.
    pub(in super::super) fn end_probes(&mut self, now: Moment) {
        while let Some((_, id)) = self.probes.timers.first().copied().filter(|(at, _)| *at <= now) {
            match self.probes.open.get(&id) {
                Some(open) if open.deadline > now => self.ask_others(now, id),
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
