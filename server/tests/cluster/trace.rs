//! What a trace says of nodes, and of what goes into cores and comes out.

use std::fmt::Write as _;

use pams_server::core::{
    Input, Output,
    cluster::io::{SiblingInput, SiblingOutput},
    view::PeerView,
};
use pams_shared::frame::{Deltas, Report};

use crate::setup;

/// Servers are capitals, agents small letters.
pub fn name(node: usize) -> char {
    let letter = |first: u8, n: usize| char::from(first + u8::try_from(n).expect("few nodes"));
    if node < setup::SERVERS_MAX { letter(b'A', node) } else { letter(b'a', node - setup::SERVERS_MAX) }
}

pub fn input(input: &Input) -> String {
    match input {
        Input::Opened { session, peer, hello, .. } => {
            let who = setup::node(*peer).map_or('?', name);
            format!("opened {} {who} epoch {} attach {}", session.0, hello.epoch, hello.attach)
        }
        Input::Report { session, report } => format!("report {} {}", session.0, brief(report)),
        Input::Sibling(SiblingInput::Gossip { link, .. }) => format!("gossip {}", link.0),
        Input::Sibling(SiblingInput::Linked { link, member, dialled, .. }) => {
            let who = setup::server(member.id).map_or('?', name);
            format!("linked {} {who} generation {} dialled {dialled}", link.0, member.generation)
        }
        Input::Sibling(SiblingInput::Deltas { follow, deltas }) => format!("deltas {} {}", follow.0, told(deltas)),
        Input::Sibling(input) => format!("{input:?}"),
        input => format!("{input:?}"),
    }
}

pub fn output(output: &Output) -> String {
    match output {
        Output::Record { peer, .. } => format!("record {}", setup::node(*peer).map_or('?', name)),
        Output::Event(event) => {
            format!("{} {} epoch {}", setup::node(event.peer).map_or('?', name), event.what.as_str(), event.epoch)
        }
        Output::Sibling(SiblingOutput::Gossip { link, .. }) => format!("gossip {}", link.0),
        Output::Sibling(SiblingOutput::Deltas { stream, deltas }) => format!("deltas {} {}", stream.0, told(deltas)),
        Output::Sibling(SiblingOutput::Members(members)) => format!("members {}", members.len()),
        Output::Sibling(output) => format!("{output:?}"),
        Output::Push { session, push } => match push {
            pams_server::core::Push::Servers(servers) => format!("push {} servers {}", session.0, servers.len()),
            pams_server::core::Push::Roster(roster) => format!("push {} roster {}", session.0, roster.peers.len()),
            push => format!("push {} {push:?}", session.0),
        },
        output => format!("{output:?}"),
    }
}

fn told(d: &Deltas) -> String {
    let mut text = format!("of {} {}", setup::server(d.owner).map_or('?', name), d.generation);
    for (is, word) in [(d.anew, " anew"), (d.bulk, " bulk"), (d.bulk_end, " bulk_end")] {
        text.push_str(if is { word } else { "" });
    }
    write!(text, " upto {}", d.upto).expect("a string takes all");
    for e in &d.entries {
        let who = setup::node(e.peer).map_or('?', name);
        let what = e.lot.as_ref().map_or(if e.banned { "banned" } else { "buried" }, |lot| lot.liveness().as_str());
        let applied = e.lot.as_ref().map_or(0, |lot| lot.lot().applied);
        write!(text, " {who}({}.{}: {},{} {what} {applied})", e.generation, e.seq, e.epoch, e.attach)
            .expect("a string takes all");
    }
    text
}

/// A peer as a server shows it.
pub fn shown(v: &PeerView) -> String {
    let who = setup::node(v.id).map_or('?', name);
    let home = setup::server(v.server).map_or('?', name);
    let (order, stale) = (v.order, if v.stale { ", stale" } else { "" });
    format!(
        "{who} at {home} ({}, {}, {}) {} for {} ms{stale}",
        order.epoch,
        order.attach,
        order.version,
        v.liveness.as_str(),
        v.age_ms
    )
}

pub fn brief(r: &Report) -> String {
    format!("batch {}: {} records, {} changes", r.batch, r.records.len(), r.changes.len())
}
