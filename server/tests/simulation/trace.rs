//! What a trace says of nodes, and of what goes into cores and comes out.

use pams_agent::core::{Input, Notice, Output};
use pams_server::core;
use pams_shared::{
    frame::Report,
    id::{Correlator, PeerId},
};

use crate::setup::node;

/// The home is `S`, agents are letters.
pub fn name(node: usize) -> char {
    match u8::try_from(node) {
        Ok(0) => 'S',
        Ok(n) if n <= 26 => char::from(b'a' + n - 1),
        _ => '?',
    }
}

/// The random part of a correlator, short.
pub fn short(c: &Correlator) -> String {
    let [.., a, b, c] = c.trace;
    format!("#{a:02x}{b:02x}{c:02x}")
}

pub fn agent_input(input: &Input) -> String {
    let who = |peer: &PeerId| node(*peer).map_or('?', name);
    match input {
        Input::Tick => "tick".to_owned(),
        Input::Sent { correlator, .. } => format!("sent {}", short(correlator)),
        Input::SentUnstamped { correlator } => format!("sent {} unstamped", short(correlator)),
        Input::Ping { from, ping, .. } => format!("ping {} {}", who(from), short(&ping.correlator)),
        Input::Pong { from, pong, .. } => {
            format!("pong {} {} {}", who(from), short(&pong.correlator), pong.status.as_str())
        }
        Input::LinkUp { peer, link, epoch, .. } => format!("link up {} {link} epoch {epoch}", who(peer)),
        Input::LinkDown { peer, link, why, restarted } => {
            format!("link down {} {link} {}{}", who(peer), why.text, if *restarted { ", restarted" } else { "" })
        }
        Input::DialFailed { peer, why } => format!("dial failed {} {}", who(peer), why.text),
        Input::Goodbye { peer } => format!("goodbye {}", who(peer)),
        Input::Resolved { peer, found } => format!("resolved {} {found:?}", who(peer)),
        Input::Subscribe { from, .. } => format!("subscribe {}", who(from)),
        Input::Unsubscribe { from } => format!("unsubscribe {}", who(from)),
        Input::Subscribed { ask, answer } => format!("subscribed {} {} {answer:?}", ask.path.as_str(), who(&ask.peer)),
        Input::Notify { from, notify, .. } => {
            let by = from.as_ref().map_or('S', who);
            format!("notify by {by} {} {:?}", notify.number, notify.news)
        }
        Input::NotifyAck { from, ack, .. } => format!("notify ack {} {}", who(from), ack.number),
        Input::FrameRejected { label, .. } => format!("rejected {label}"),
        Input::Home(input) => format!("home {input:?}"),
        Input::Slept { stopped, suspended } => format!("slept {stopped:?} {suspended:?}"),
        Input::Moved { addresses } => format!("moved {addresses:?}"),
        Input::Command(command) => format!("{command:?}"),
    }
}

pub fn agent_output(output: &Output) -> String {
    let who = |peer: &PeerId| node(*peer).map_or('?', name);
    match output {
        Output::Dial { peer, .. } => format!("dial {}", who(peer)),
        Output::Resolve { peer } => format!("resolve {}", who(peer)),
        Output::SendPing { peer, ping } => format!("ping {} {}", who(peer), short(&ping.correlator)),
        Output::SendPong { peer, pong } => format!("pong {} {}", who(peer), short(&pong.correlator)),
        Output::Greet { attach, .. } => format!("greet, attach {attach}"),
        Output::Report(report) => format!("report {}", brief(report)),
        Output::Record(r) => {
            let (why, total) = (r.reason.map_or("", |r| r.as_str()), r.total_ns.unwrap_or_default());
            format!("record {} {} {} {why} {total} ns {:?}", r.kind, short(&r.correlator), r.outcome.as_str(), r.stages)
        }
        Output::Pinged { token, result } => format!("pinged {token} {}", result.is_ok()),
        Output::AskToSubscribe(ask) => format!("ask {} {}", ask.path.as_str(), who(&ask.peer)),
        Output::Unsubscribe { path, peer } => format!("unsubscribe {} {}", path.as_str(), who(peer)),
        Output::AnswerSubscribe { ack, .. } => format!("answer {ack:?}"),
        Output::SendNotify { peer, notify } => format!("notify {} {}", who(peer), notify.number),
        Output::AckNotify(ack) => format!("ack notify {} {}", who(&ack.peer), ack.number),
        Output::Told(told) => format!("told {:?} {:?} {:?}", told.by, told.presence, told.liveness),
        Output::Checked { question, checked } => format!("checked {question} {}", checked.finding.outcome.as_str()),
        Output::Published(presence) => format!("published {}", presence.status.as_str()),
        Output::Goodbye => "goodbye".to_owned(),
        Output::Notice(Notice::Liveness { peer, to, .. }) => format!("{} is {}", who(peer), to.as_str()),
        Output::Notice(Notice::Status { peer, to, .. }) => format!("{} says {}", who(peer), to.as_str()),
        Output::HangUp { peer } => format!("hang up {}", who(peer)),
        Output::Rejoin { why } => format!("rejoin {}", why.text),
        Output::Notice(notice) => format!("notice {}", notice.label()),
    }
}

pub fn home_input(input: &core::Input) -> String {
    match input {
        core::Input::Opened { session, peer, hello, .. } => {
            let who = node(*peer).map_or('?', name);
            format!("opened {} {who} epoch {} attach {}", session.0, hello.epoch, hello.attach)
        }
        core::Input::Report { session, report } => format!("report {} {}", session.0, brief(report)),
        input => format!("{input:?}"),
    }
}

pub fn home_output(output: &core::Output) -> String {
    match output {
        core::Output::Record { peer, record } => {
            format!("record {} {}", node(*peer).map_or('?', name), short(&record.correlator))
        }
        core::Output::Fetched { session, entry } => format!("fetched {} {}", session.0, entry.is_some()),
        core::Output::Event(event) => {
            format!("{} {} epoch {}", node(event.peer).map_or('?', name), event.what.as_str(), event.epoch)
        }
        core::Output::Notice(notice) => format!("notice {}", notice.label()),
        output => format!("{output:?}"),
    }
}

fn brief(r: &Report) -> String {
    let (records, changes, views) = (r.records.len(), r.changes.len(), r.views.len());
    format!("batch {}: {records} records, {changes} changes, {views} views, {} shed", r.batch, r.shed)
}
