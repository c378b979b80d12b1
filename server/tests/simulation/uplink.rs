//! An agent's connection to its home, as its shell keeps it: calls it again and again, carries reports up and
//! acknowledgements down, asks where peers are; and how an agent leaves.

use std::collections::VecDeque;

use pams_agent::core::{Agent, Command, HomeInput, Input, choice::Because};
use pams_shared::{
    frame::{Frame, HelloAck, Report, close},
    id::PeerId,
    record::{Reason, Why},
};

use crate::{
    agent::Timer,
    links::{PATIENCE, offset},
    net::{ConnId, News},
    setup::{HOME, SERVER, node},
    world::{Event, MS, SECOND, US, World},
};

/// Pauses between calls of the home: doubled from the first to the last, each with up to half more.
const RECALL_FIRST: u64 = 500 * MS;
const RECALL_LAST: u64 = 15 * SECOND;
/// How long the last reports may take to be acknowledged, and the goodbyes to arrive.
pub const LEAVE_PATIENCE: u64 = 2 * SECOND;
/// How long an answer to a question may take.
const REQUEST_PATIENCE: u64 = 3 * SECOND;
const GOODBYE_PATIENCE: u64 = 3 * SECOND;

/// The connection to the home.
#[derive(Debug)]
pub struct Uplink {
    pub conn: Option<ConnId>,
    pub up: bool,
    /// The call was answered; Hello may not be.
    answered: bool,
    pause: u64,
    /// Whose whereabouts were asked in which question, in order; `None`: nobody waits for the answer any more.
    asked: VecDeque<(u64, Option<PeerId>)>,
    questions: u64,
    /// To be called anew as soon as Hello is answered.
    again: Option<Why>,
    /// Called anew without a pause.
    hurries: bool,
}

impl Uplink {
    pub fn new() -> Self {
        Self {
            conn: None,
            up: false,
            answered: false,
            pause: RECALL_FIRST,
            asked: VecDeque::new(),
            questions: 0,
            again: None,
            hurries: false,
        }
    }
}

impl World {
    pub fn call_home(&mut self, me: usize) {
        if self.agents[me].leaving || self.agents[me].uplink.conn.is_some() {
            return; // it hurried meanwhile
        }
        let conn = self.dial(me, HOME);
        let uplink = &mut self.agents[me].uplink;
        (uplink.conn, uplink.answered) = (Some(conn), false);
        self.tell_at(self.now + PATIENCE, me, News::Timer(Timer::HomePatience { conn, answered: false }));
    }

    pub fn home_reached(&mut self, me: usize, conn: ConnId) {
        self.agents[me].uplink.answered = true;
        self.tell_at(self.now + PATIENCE, me, News::Timer(Timer::HomePatience { conn, answered: true }));
        self.agent_handle(me, Input::Home(HomeInput::Reached { server: SERVER }));
    }

    /// The call, or Hello, was not answered in time.
    pub fn home_patience(&mut self, me: usize, conn: ConnId, answered: bool) {
        let uplink = &self.agents[me].uplink;
        if uplink.conn == Some(conn) && !uplink.up && uplink.answered == answered {
            self.close(conn, 0, close::DONE);
        }
    }

    pub fn home_said(&mut self, me: usize, conn: ConnId, frame: Frame) {
        match frame {
            Frame::HelloAck(ack) => self.greeted(me, conn, ack),
            Frame::ReportAck(ack) => {
                self.check_acked(me, ack.batch);
                self.agent_handle(me, Input::Home(HomeInput::Acked(ack)));
            }
            Frame::FetchAck(entry) => {
                let (_, asked) = self.agents[me].uplink.asked.pop_front().expect("somebody asked");
                let Some(whom) = asked else { return };
                let addresses = entry.map(|e| e.profile.addresses.iter().map(ToString::to_string).collect());
                self.tally.count("resolved");
                self.agent_handle(me, Input::Resolved { peer: whom, found: Ok(addresses.unwrap_or_default()) });
            }
            Frame::Roster(roster) => {
                let takes = self.agents[me].takes as usize;
                self.agents[me]
                    .facts
                    .given(self.now, roster.peers.iter().filter_map(|r| node(r.peer)).take(takes).collect());
                self.tally.count("roster");
                self.agent_handle(me, Input::Home(HomeInput::Roster(roster)));
            }
            Frame::SubscribeAck(ack) => self.subscribe_answered(me, conn, ack),
            Frame::Notify(notify) => self.notified(me, conn, None, notify),
            frame => panic!("the home said {frame:?}"),
        }
        if self.agents[me].leaving && self.agents[me].core.as_ref().is_some_and(Agent::is_settled) {
            self.farewell(me);
        }
    }

    fn greeted(&mut self, me: usize, conn: ConnId, ack: HelloAck) {
        let clock_offset_ms = offset(ack.wall_ms, self.moment(me).wall_ms());
        match (ack.verdict, ack.terms) {
            (Ok(()), Some(terms)) => {
                let uplink = &mut self.agents[me].uplink;
                (uplink.up, uplink.pause) = (true, RECALL_FIRST);
                self.check_acked(me, terms.applied_batch);
                let observed = ack.observed.map(|a| a.to_string());
                let because = Because::Start;
                self.agent_handle(me, Input::Home(HomeInput::Up { terms, observed, clock_offset_ms, because }));
                if let Some(why) = self.agents[me].uplink.again.take() {
                    self.rejoin(me, why);
                }
            }
            (verdict, _) => {
                let detail = verdict.err().map_or_else(String::new, |r| r.detail);
                self.close(conn, 0, close::DONE);
                self.home_down(me, Why::new(Reason::Refused, detail));
            }
        }
    }

    pub fn home_down(&mut self, me: usize, why: Why) {
        let uplink = &mut self.agents[me].uplink;
        (uplink.conn, uplink.up, uplink.again) = (None, false, None);
        let asked = std::mem::take(&mut uplink.asked);
        let hurries = std::mem::take(&mut uplink.hurries);
        if hurries {
            uplink.pause = RECALL_FIRST;
        }
        let pause = if hurries { 0 } else { uplink.pause + self.chance.below(uplink.pause / 2 + 1) };
        uplink.pause = (uplink.pause * 2).min(RECALL_LAST);
        self.tell_at(self.now + pause, me, News::Timer(Timer::CallHome));
        self.agent_handle(me, Input::Home(HomeInput::Down { why: why.clone() }));
        for whom in asked.into_iter().filter_map(|(_, whom)| whom) {
            self.agent_handle(me, Input::Resolved { peer: whom, found: Err(why.clone()) });
        }
        if self.agents[me].leaving {
            self.farewell(me);
        }
    }

    /// Connects anew, now.
    pub fn rejoin(&mut self, me: usize, why: Why) {
        let uplink = &mut self.agents[me].uplink;
        match uplink.conn {
            Some(conn) if uplink.up => {
                uplink.hurries = true;
                self.tally.count("rejoined");
                self.close(conn, 0, close::DONE);
            }
            // What Hello says was said before.
            Some(_) if uplink.answered => uplink.again = Some(why),
            Some(_) => {}
            None => self.tell_at(self.now, me, News::Timer(Timer::CallHome)),
        }
    }

    pub fn resolve(&mut self, me: usize, whom: PeerId) {
        let uplink = &mut self.agents[me].uplink;
        match uplink.conn.filter(|_| uplink.up) {
            Some(conn) => {
                uplink.questions += 1;
                let question = uplink.questions;
                uplink.asked.push_back((question, Some(whom)));
                self.send_frame(conn, 0, &Frame::Fetch(whom));
                self.tell_at(self.now + REQUEST_PATIENCE, me, News::Timer(Timer::AskPatience { conn, question }));
            }
            None => {
                let why = Why::new(Reason::NotSent, "no home");
                self.give_at(self.now + MS, me, Input::Resolved { peer: whom, found: Err(why) });
            }
        }
    }

    /// The home did not answer in time.
    pub fn ask_patience(&mut self, me: usize, conn: ConnId, question: u64) {
        let uplink = &mut self.agents[me].uplink;
        let asked = uplink.asked.iter_mut().find(|(number, _)| *number == question);
        if let Some(whom) = asked.filter(|_| uplink.conn == Some(conn)).and_then(|(_, whom)| whom.take()) {
            let why = Why::new(Reason::NoAnswer, "the home did not answer in time");
            self.agent_handle(me, Input::Resolved { peer: whom, found: Err(why) });
        }
    }

    pub fn send_report(&mut self, me: usize, report: Report) {
        let uplink = &self.agents[me].uplink;
        let conn = uplink.conn.filter(|_| uplink.up).expect("reports are for a home that is there");
        let batch = report.batch;
        self.send_frame(conn, 0, &Frame::Report(report));
        if self.is_open(conn, 0) {
            let at = self.now + 10 * US + self.chance.below(MS);
            self.give_at(at, me, Input::Home(HomeInput::Written { batch }));
        }
    }

    /// All is reported that could be: says goodbye to the home and to all peers, and ends when they may have heard it.
    pub fn farewell(&mut self, me: usize) {
        if self.agents[me].facts.farewell.is_some() {
            return;
        }
        let node = &mut self.agents[me];
        node.facts.farewell = Some(node.core.as_ref().is_some_and(Agent::is_settled));
        let home = node.uplink.conn.filter(|_| node.uplink.up);
        let links: Vec<ConnId> = node.links.live.values().map(|l| l.conn).collect();
        for conn in home.into_iter().chain(links) {
            self.send_frame(conn, self.side(conn, me), &Frame::Goodbye);
        }
        // Some are stopped before their goodbyes have arrived.
        let patience = if self.healed { GOODBYE_PATIENCE } else { self.chance.below(GOODBYE_PATIENCE) };
        self.tell_at(self.now + patience, me, News::Timer(Timer::Exit));
    }

    pub fn exit(&mut self, me: usize) {
        let open = (0..self.net.conns.len()).filter(|c| self.net.conns[*c].ends.iter().any(|e| e.node == me));
        for conn in open.collect::<Vec<_>>() {
            self.close(conn, self.side(conn, me), close::GOODBYE);
        }
        self.trace.line(self.now, me, || "! ends".to_owned());
        self.stop_agent(me, true);
        if std::mem::take(&mut self.agents[me].returns) {
            let at = self.now + self.chance.below(SECOND);
            self.plan(at, Event::Start { node: me });
        }
    }

    pub fn shut_down(&mut self, me: usize) {
        if self.processes[me].up && !self.agents[me].leaving {
            self.agent_handle(me, Input::Command(Command::Shutdown));
        }
    }
}
