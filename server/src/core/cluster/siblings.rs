//! The engine's side of the siblings: connections that come and go, membership, streams of what is shared.

use std::collections::BTreeSet;

use pams_shared::{
    frame::{Follow, capability, close},
    id::ServerId,
    moment::Moment,
};

use super::{
    super::{Notice, Output, Pams, share::FollowerId},
    Cluster, Follower,
    io::{FollowId, LinkId, SiblingInput, SiblingOutput, Target},
    links::{Kept, Link},
    membership::{self, State},
};

/// Streams on which siblings follow; further ones are turned away.
const FOLLOWERS_MAX: usize = 1_024;

impl Pams {
    pub(in super::super) fn sibling(&mut self, now: Moment, input: SiblingInput) {
        let cluster = &mut self.cluster;
        cluster.stirred = true;
        match input {
            SiblingInput::Linked { link, member, capabilities, dialled, same_host } => {
                if member.id == cluster.me.id {
                    return cluster.out.push(SiblingOutput::Unlink { link, code: close::REJECTED });
                }
                let (server, generation) = (member.id, member.generation);
                let with = Link { server, generation, capabilities, dialled, same_host };
                match cluster.links.stand(cluster.me.id, link, with) {
                    Kept::New { before } => {
                        cluster.out.extend(before.map(|link| SiblingOutput::Unlink { link, code: close::SUPERSEDED }));
                        cluster.membership.handle(now, membership::Input::Met(*member));
                    }
                    Kept::Old => cluster.out.push(SiblingOutput::Unlink { link, code: close::SUPERSEDED }),
                    Kept::Full => {
                        cluster.out.push(SiblingOutput::Unlink { link, code: close::REJECTED });
                        self.notice(Notice::SiblingsFull { server: member.id });
                    }
                }
            }
            SiblingInput::Unlinked { link } => cluster.unlinked(now, link),
            SiblingInput::Called { target, server } => {
                let alone = cluster.links.len() == 0;
                cluster.calls.ended(now, target, server.is_some(), alone);
            }
            SiblingInput::Gossip { link, bytes } => self.gossip(now, link, bytes),
            SiblingInput::Deltas { follow, deltas } => self.take(now, follow, *deltas),
            SiblingInput::FollowEnded { follow } => cluster.follows.ended(now, follow),
            SiblingInput::Followed { link, stream, follow } => self.followed(now, link, stream, follow),
            SiblingInput::Written { stream } => {
                if let Some(follower) = cluster.followers.get_mut(&stream) {
                    follower.idle = true;
                    cluster.feed(stream);
                }
            }
            SiblingInput::Held { stream, held } => cluster.share.held(stream, held),
            SiblingInput::Unfollowed { stream } => cluster.unfollowed(stream),
            SiblingInput::Probed { probe, ack } => self.home_answered(now, probe, ack),
            SiblingInput::Told { peer, told } => cluster.told(peer, told),
            SiblingInput::Leave => cluster.membership.handle(now, membership::Input::Leave),
        }
    }

    fn gossip(&mut self, now: Moment, link: LinkId, bytes: Vec<u8>) {
        let cluster = &mut self.cluster;
        let Some(Link { server: from, generation, .. }) = cluster.links.get(link).copied() else { return };
        match membership::lengthen(bytes, (from, generation), cluster.start()) {
            Ok(bytes) => cluster.membership.handle(now, membership::Input::Gossip { from, bytes }),
            Err(error) => self.notice(Notice::Gossip(membership::Notice::Garbled { from, error })),
        }
    }

    fn take(&mut self, now: Moment, follow: FollowId, deltas: pams_shared::frame::Deltas) {
        let cluster = &mut self.cluster;
        let Some(stream) = cluster.follows.get(follow).copied() else { return };
        // What an earlier start of ours shared is told once: nobody adds to it.
        let done = deltas.bulk_end && stream.owner == cluster.me.id;
        match cluster.share.take(now, stream.at, deltas) {
            Ok(_) if done => {
                cluster.follows.done(follow);
                cluster.out.push(SiblingOutput::Unfollow { follow });
            }
            Ok(held) => cluster.out.push(SiblingOutput::Held { follow, held }),
            Err(error) => {
                cluster.follows.ended(now, follow);
                cluster.out.push(SiblingOutput::Unfollow { follow });
                self.notice(Notice::BadDeltas { server: stream.at, error: error.to_string() });
            }
        }
    }

    fn followed(&mut self, now: Moment, link: LinkId, stream: FollowerId, follow: Follow) {
        let cluster = &mut self.cluster;
        let Some(who) = cluster.links.get(link).map(|link| link.server) else { return };
        let full = cluster.followers.len() >= FOLLOWERS_MAX;
        if full || cluster.share.follow(now, stream, who, follow).is_err() {
            cluster.out.push(SiblingOutput::Unlink { link, code: close::PROTOCOL });
            return self.notice(Notice::SiblingsFull { server: who });
        }
        let ours = follow.owner == cluster.me.id;
        cluster.followers.insert(stream, Follower { link, who, ours, idle: true });
        cluster.feed(stream);
    }

    /// What is due by now between the servers.
    pub(in super::super) fn tick_siblings(&mut self, now: Moment) {
        let cluster = &mut self.cluster;
        if !std::mem::take(&mut cluster.stirred) && cluster.deadline().is_none_or(|at| at > now) {
            return;
        }
        cluster.membership.handle(now, membership::Input::Tick);
        cluster.share.tick(now);
        while let Some(output) = self.cluster.membership.poll() {
            self.membership_said(now, output);
        }
        let cluster = &mut self.cluster;
        cluster.call(now);
        cluster.plan(now);
        cluster.list();
        cluster.listen(now);
        cluster.held = cluster.is_held();
        cluster.servers_due = cluster.servers(self.config.peers_max, self.directory.len());
    }

    fn membership_said(&mut self, now: Moment, output: membership::Output) {
        let cluster = &mut self.cluster;
        match output {
            membership::Output::Send { to, bytes } => {
                let Some((link, with)) = cluster.links.with(to).zip(cluster.links.link_with(to)) else { return };
                let short = with.capabilities & capability::SHORT_GOSSIP != 0;
                let ends = (cluster.start(), (to, with.generation));
                let bytes = if short { membership::shorten(bytes, ends.0, ends.1) } else { bytes };
                cluster.out.push(SiblingOutput::Gossip { link, bytes });
            }
            membership::Output::Changed { member, state } => {
                let server = member.id;
                match state {
                    State::Left => cluster.calls.drop(server),
                    _ => cluster.calls.want(now, cluster.me.id, server),
                }
                match state {
                    State::Down => cluster.lost.down(now, server, member.generation),
                    State::Suspect => {}
                    State::Alive | State::Left => cluster.lost.not_down(server),
                }
                cluster.counts.downs += u64::from(state == State::Down);
                self.notice(Notice::Server { server, name: member.name, state });
            }
            membership::Output::Notice(notice) => self.notice(Notice::Gossip(notice)),
        }
    }

    /// Hands on what the siblings are to be sent.
    pub(in super::super) fn send_siblings(&mut self) {
        let cluster = &mut self.cluster;
        while let Some(stream) = cluster.share.ready() {
            cluster.feed(stream);
        }
        self.outputs.extend(cluster.out.drain(..).map(Output::Sibling));
    }
}

impl Cluster {
    /// Which start of which server this is.
    fn start(&self) -> (ServerId, u64) {
        (self.me.id, self.me.generation)
    }

    fn unlinked(&mut self, now: Moment, link: LinkId) {
        let streams: Vec<_> = self.followers.iter().filter(|(_, f)| f.link == link).map(|(id, _)| *id).collect();
        streams.into_iter().for_each(|stream| self.unfollowed(stream));
        let Some(server) = self.links.end(link) else { return };
        if self.links.with(server).is_none() {
            self.calls.lost(now, self.me.id, server);
            self.membership.handle(now, membership::Input::Parted(server));
            if self.links.len() == 0 {
                self.calls.alone(now);
            }
        }
    }

    fn unfollowed(&mut self, stream: FollowerId) {
        self.followers.remove(&stream);
        self.share.unfollow(stream);
    }

    /// Writes the next frame, if the stream is ready for it and there is one.
    fn feed(&mut self, stream: FollowerId) {
        let Some(follower) = self.followers.get_mut(&stream).filter(|follower| follower.idle) else { return };
        if let Some(deltas) = self.share.next(stream) {
            follower.idle = false;
            self.out.push(SiblingOutput::Deltas { stream, deltas: Box::new(deltas) });
        }
    }

    /// Calls whoever is to be called.
    fn call(&mut self, now: Moment) {
        // Taken out, for what is wanted is asked of the rest.
        let mut calls = std::mem::take(&mut self.calls);
        while let Some(target) = calls.next(now, |target| self.is_wanted(target)) {
            let addresses = match target {
                Target::Seed(n) => self.seeds.get(n).cloned().into_iter().collect(),
                Target::Server(server) => {
                    let seen = self.membership.members().find(|seen| seen.member.id == server);
                    seen.map_or_else(Vec::new, |seen| seen.member.addresses.iter().map(ToString::to_string).collect())
                }
            };
            self.out.push(SiblingOutput::Call { target, addresses, patience: calls.patience(target) });
        }
        self.calls = calls;
    }

    /// Opens and ends the streams that we follow.
    fn plan(&mut self, now: Moment) {
        let links: Vec<_> = self.links.iter().collect();
        let own = self.me.id;
        let owners: Vec<_> = self.share.origins().map(|origin| origin.owner).filter(|owner| *owner != own).collect();
        let plan = self.follows.plan(now, own, &links, owners.into_iter().chain([own]));
        self.out.extend(plan.close.into_iter().map(|follow| SiblingOutput::Unfollow { follow }));
        for (follow, stream) in plan.open {
            let what = self.share.want(stream.owner, stream.at);
            self.out.push(SiblingOutput::Follow { link: stream.link, follow, what });
        }
    }

    /// Servers fall silent, and are heard again, without a word: what is said of their peers is another then.
    fn listen(&mut self, now: Moment) {
        let others = self.share.origins().filter(|origin| origin.owner != self.me.id);
        let silent = others.filter(|origin| self.is_silent(now, origin.owner, origin.heard)).map(|origin| origin.owner);
        let silent: BTreeSet<_> = silent.collect();
        for owner in silent.symmetric_difference(&self.silent) {
            self.share.look_again(*owner);
        }
        self.silent = silent;
    }

    /// Tells the disk when other servers are known than before.
    fn list(&mut self) {
        let known = || self.membership.members().filter(|seen| seen.state != State::Left).map(|seen| &seen.member);
        if !known().eq(self.listed.iter()) {
            self.listed = known().cloned().collect();
            self.out.push(SiblingOutput::Members(self.listed.clone()));
        }
    }
}
