//! What a server's shell does between it and its siblings: calls and Hello, gossip, the streams on which it follows and is followed.

use pams_server::core::{
    Input,
    cluster::io::{LinkId, SiblingInput, SiblingOutput, Target},
    share::FollowerId,
};
use pams_shared::frame::{Frame, Hello, HelloAck, Member, capability};

use crate::{
    conn::{ConnId, Role, State},
    setup,
    world::{SECOND, World},
};

impl World {
    pub fn tell_sibling(&mut self, s: usize, input: SiblingInput) {
        self.tell(s, Input::Sibling(input));
    }

    pub fn perform_sibling(&mut self, s: usize, output: SiblingOutput) {
        match output {
            SiblingOutput::Call { target, addresses, .. } => self.call(s, target, &addresses),
            SiblingOutput::Unlink { link, code } => {
                if let Some(conn) = self.servers[s].links.remove(&link) {
                    let side = self.side(conn, s);
                    self.close(conn, side, code);
                }
            }
            SiblingOutput::Gossip { link, bytes } => {
                if let Some(conn) = self.servers[s].links.get(&link).copied() {
                    let side = self.side(conn, s);
                    self.send_datagram(conn, side, &Frame::Gossip(bytes));
                }
            }
            SiblingOutput::Follow { link, follow, what } => {
                let Some(conn) = self.servers[s].links.get(&link).copied() else { return };
                let side = self.side(conn, s);
                if !self.is_open(conn, side) {
                    return self.tell_sibling(s, SiblingInput::FollowEnded { follow });
                }
                let stream = self.open_stream(conn, side);
                self.net.conns[conn].ends[side].roles.insert(stream, Role::Follow(follow));
                self.servers[s].follows.insert(follow, (conn, stream));
                self.send_frame(conn, side, stream, &Frame::Follow(what));
            }
            SiblingOutput::Unfollow { follow } => {
                let Some((conn, stream)) = self.servers[s].follows.remove(&follow) else { return };
                let side = self.side(conn, s);
                self.net.conns[conn].ends[side].roles.remove(&stream);
                self.end_stream(conn, side, stream);
                self.tell_sibling(s, SiblingInput::FollowEnded { follow });
            }
            SiblingOutput::Held { follow, held } => {
                if let Some((conn, stream)) = self.servers[s].follows.get(&follow).copied() {
                    let side = self.side(conn, s);
                    self.send_frame(conn, side, stream, &Frame::Held(held));
                }
            }
            SiblingOutput::Unbanned { peer } => {
                self.servers[s].banned.remove(&peer);
            }
            SiblingOutput::Tell { peer, what, .. } => self.tell_lost(s, peer, what),
            SiblingOutput::Probe { probe, .. } => panic!("nobody asked for {probe:?}"),
            SiblingOutput::Deltas { stream, deltas } => self.feed(s, stream, &Frame::Deltas(*deltas)),
            SiblingOutput::Members(members) => self.servers[s].book.note(members),
            SiblingOutput::Banned { peer } => self.ban(s, peer),
        }
    }

    fn call(&mut self, s: usize, target: Target, addresses: &[String]) {
        let to = addresses.iter().find_map(|address| setup::at(address));
        let refused = match (to, target) {
            (None, _) => true,
            (Some(to), _) if to == s => true,
            (Some(to), Target::Server(id)) => setup::id(to) != id,
            (Some(to), Target::Seed(_)) if self.are_linked(s, to) => true,
            // A host without a server may say so, or not.
            (Some(to), Target::Seed(_)) => !self.processes[to].up && self.odds(50),
        };
        if refused {
            self.tally.count("call_failed");
            return self.tell_sibling(s, SiblingInput::Called { target, server: None });
        }
        self.dial(s, to.expect("a server"), Some(target));
    }

    /// As far as `s` knows.
    fn are_linked(&self, s: usize, to: usize) -> bool {
        let mut conns = self.servers[s].links.values().map(|conn| &self.net.conns[*conn]);
        conns.any(|conn| conn.ends.iter().any(|end| end.node == to))
    }

    /// A call was answered: Hello.
    pub fn greet(&mut self, s: usize, conn: ConnId) {
        let hello = Hello {
            software: "sim/1".to_owned(),
            epoch: self.processes[s].life,
            capabilities: capability::SIBLINGS,
            wall_ms: self.moment(s).wall_ms(),
            attach: 0,
            profile: None,
            member: Some(setup::member(s, self.processes[s].life)),
        };
        self.send_frame(conn, 0, 0, &Frame::Hello(hello));
    }

    pub fn sibling_frame(&mut self, s: usize, conn: ConnId, side: usize, stream: u64, frame: Frame) {
        match frame {
            Frame::Hello(hello) => {
                let member = Some(setup::member(s, self.processes[s].life));
                let ack = HelloAck { member, ..self.hello_ack(s, Ok(())) };
                self.send_frame(conn, side, 0, &Frame::HelloAck(ack));
                self.link(s, conn, side, hello.member.expect("a server says who it is"));
            }
            Frame::HelloAck(ack) => {
                let member = ack.member.expect("a server says who it is");
                let (target, server) = (self.net.conns[conn].sibling.expect("a call"), member.id);
                self.link(s, conn, side, member);
                self.tell_sibling(s, SiblingInput::Called { target, server: Some(server) });
            }
            Frame::Follow(follow) => {
                let Some(link) = self.net.conns[conn].ends[side].link else { return };
                let id = FollowerId(self.number(s));
                let (owner, since) = (follow.owner, self.now);
                let role = Role::Feed { stream: id, owner, since, under_way: 0, waits: false };
                self.net.conns[conn].ends[side].roles.insert(stream, role);
                self.servers[s].feeds.insert(id, (conn, stream));
                self.tell_sibling(s, SiblingInput::Followed { link, stream: id, follow });
            }
            frame => match (self.net.conns[conn].ends[side].roles.get(&stream), frame) {
                (Some(Role::Follow(follow)), Frame::Deltas(deltas)) => {
                    let follow = *follow;
                    self.tally.count("deltas");
                    self.tell_sibling(s, SiblingInput::Deltas { follow, deltas: Box::new(deltas) });
                }
                (Some(Role::Feed { stream, .. }), Frame::Held(held)) => {
                    let stream = *stream;
                    self.tell_sibling(s, SiblingInput::Held { stream, held });
                }
                // A stream that is not wanted any more.
                (None, _) => {}
                (_, frame) => panic!("not for this stream: {frame:?}"),
            },
        }
    }

    fn number(&mut self, s: usize) -> u64 {
        self.servers[s].next += 1;
        self.servers[s].next
    }

    fn link(&mut self, s: usize, conn: ConnId, side: usize, member: Member) {
        let link = LinkId(self.number(s));
        self.tally.count("linked");
        let end = &mut self.net.conns[conn].ends[side];
        (end.link, end.linked) = (Some(link), self.now);
        self.servers[s].links.insert(link, conn);
        let (dialled, same_host) = (side == 0, false);
        let capabilities = self.setup.capabilities(s, self.net.conns[conn].ends[1 - side].node);
        let member = Box::new(member);
        self.tell_sibling(s, SiblingInput::Linked { link, member, capabilities, dialled, same_host });
        self.unpark(conn, side);
    }

    pub fn gossip_came(&mut self, s: usize, conn: ConnId, side: usize, frame: Frame) {
        let (Frame::Gossip(bytes), Some(link)) = (frame, self.net.conns[conn].ends[side].link) else { return };
        let is_short = bytes.first() == Some(&2);
        assert!(!is_short || !self.setup.is_old(s), "a server of the release before cannot read {bytes:?}");
        self.tally.count(if is_short { "gossip_short" } else { "gossip" });
        self.tell_sibling(s, SiblingInput::Gossip { link, bytes });
    }

    fn feed(&mut self, s: usize, id: FollowerId, frame: &Frame) {
        let Some((conn, number)) = self.servers[s].feeds.get(&id).copied() else { return };
        let side = self.side(conn, s);
        let window = self.setup.window;
        if let Some(Role::Feed { under_way, waits, .. }) = self.net.conns[conn].ends[side].roles.get_mut(&number) {
            assert!(!*waits, "a frame came before the one before was written");
            *under_way += 1;
            *waits = *under_way >= window;
            if !*waits {
                self.tell_sibling(s, SiblingInput::Written { stream: id });
            }
        }
        self.send_frame(conn, side, number, frame);
    }

    /// A frame of a stream is through.
    pub fn delivered(&mut self, conn: ConnId, from: usize, number: u64) {
        let node = self.net.conns[conn].ends[from].node;
        if !self.is_open(conn, from) {
            return;
        }
        if let Some(Role::Feed { stream, under_way, waits, .. }) =
            self.net.conns[conn].ends[from].roles.get_mut(&number)
        {
            let stream = *stream;
            *under_way = under_way.saturating_sub(1);
            if std::mem::take(waits) {
                self.tell_sibling(node, SiblingInput::Written { stream });
            }
        }
    }

    /// The other end has ended a stream.
    pub fn stream_ended(&mut self, conn: ConnId, side: usize, number: u64) {
        let s = self.net.conns[conn].ends[side].node;
        match self.net.conns[conn].ends[side].roles.remove(&number) {
            Some(Role::Feed { stream, .. }) => {
                self.servers[s].feeds.remove(&stream);
                self.tell_sibling(s, SiblingInput::Unfollowed { stream });
            }
            Some(Role::Follow(follow)) => {
                self.servers[s].follows.remove(&follow);
                self.tell_sibling(s, SiblingInput::FollowEnded { follow });
            }
            None => {}
        }
    }

    /// The connection is over at this end: each of its tasks says so in its own time.
    pub fn link_over(&mut self, s: usize, conn: ConnId, side: usize) {
        let end = &mut self.net.conns[conn].ends[side];
        let (link, roles) = (end.link, std::mem::take(&mut end.roles));
        let (target, greeted) =
            (self.net.conns[conn].sibling.expect("a call"), end_greeted(&self.net.conns[conn], side));
        if side == 0 && !greeted {
            self.tally.count("call_failed");
            self.tell_sibling(s, SiblingInput::Called { target, server: None });
        }
        let first = self.odds(50);
        let unlinked = link.map(|link| SiblingInput::Unlinked { link });
        if let Some(link) = link {
            self.servers[s].links.remove(&link);
        }
        let (before, after) = if first { (unlinked, None) } else { (None, unlinked) };
        before.into_iter().for_each(|input| self.tell_sibling(s, input));
        for role in roles.into_values() {
            match role {
                Role::Follow(follow) => {
                    self.servers[s].follows.remove(&follow);
                    self.tally.count("follow_ended");
                    self.tell_sibling(s, SiblingInput::FollowEnded { follow });
                }
                Role::Feed { stream, .. } => {
                    self.servers[s].feeds.remove(&stream);
                    // Its task ends with that of the connection, and may have no time to say so.
                    if self.odds(50) {
                        self.tell_sibling(s, SiblingInput::Unfollowed { stream });
                    }
                }
            }
        }
        after.into_iter().for_each(|input| self.tell_sibling(s, input));
    }

    /// A stream between two servers stands still, for too much of it was lost in a row.
    pub fn is_stuck(&self, a: usize, b: usize) -> bool {
        let stuck = |conn: &ConnId| self.other(*conn, a) == b && self.net.conns[*conn].stuck > self.now;
        self.servers[a].links.values().any(stuck)
    }

    /// For so long two servers have had a connection that works, and both have run.
    pub fn is_linked(&self, a: usize, b: usize, for_ns: u64) -> bool {
        let since = self.now.saturating_sub(for_ns);
        let calm =
            |s: usize| self.processes[s].up && self.servers[s].shaken < since && self.processes[s].started < since;
        let stands = |conn: &&ConnId| {
            let ends = &self.net.conns[**conn].ends;
            ends.iter().all(|end| end.link.is_some() && end.linked < since && [a, b].contains(&end.node))
                && self.is_open(**conn, 0)
                && self.is_open(**conn, 1)
        };
        let linked = self.servers[a].links.values().any(|conn| stands(&conn));
        linked && calm(a) && calm(b) && self.net.is_steady((a, b), since.saturating_sub(4 * SECOND))
    }
}

fn end_greeted(conn: &crate::conn::Conn, side: usize) -> bool {
    conn.ends[side].greeted || matches!(conn.ends[side].state, State::Fresh)
}
