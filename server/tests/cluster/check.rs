//! What must hold at each step of a server: no acknowledgement for what no other server holds while one follows, no verdict
//! without its grounds, nothing that cannot be.

use pams_server::core::{
    Input, Notice, Output, SessionId, What,
    cluster::{
        io::{SiblingInput, SiblingOutput},
        membership::State,
    },
    view::MemberState,
};
use pams_shared::{
    frame::{Deltas, Packed, ReportAck},
    id::PeerId,
    status::Liveness,
};

use crate::{
    conn::{ConnId, Role},
    setup::{self, ns},
    trace::name,
    world::{MS, SECOND, World},
};

/// A stream that has just begun may not be known to the core yet.
const FRESH: u64 = 300 * MS;

impl World {
    pub fn check_input(&mut self, s: usize, input: &Input) {
        if let Input::Sibling(SiblingInput::Deltas { deltas, .. }) = input {
            self.holds(s, deltas);
        }
    }

    /// Notes what a server holds that is not its peers' home.
    fn holds(&mut self, s: usize, deltas: &Deltas) {
        if deltas.owner == setup::id(s) {
            return;
        }
        for entry in &deltas.entries {
            if let Some(lot) = &entry.lot {
                let newest = self.held.entry(entry.peer).or_default();
                *newest = (*newest).max((entry.epoch, lot.lot().applied));
            }
        }
    }

    pub fn check_output(&mut self, s: usize, output: &Output) {
        match output {
            Output::Ack { session, ack } => self.check_ack(s, *session, ack),
            Output::Event(event) => self.came_or_went(s, event.peer, event.what),
            Output::Sibling(SiblingOutput::Deltas { deltas, .. }) if deltas.owner == setup::id(s) => {
                self.note(s, deltas);
            }
            Output::Held { .. } => self.tally.count("held"),
            Output::Abandoned { .. } => self.tally.count("abandoned"),
            Output::Notice(notice) => self.noticed(s, notice),
            _ => {}
        }
    }

    /// Notes what a home says of its peers.
    fn note(&mut self, s: usize, deltas: &Deltas) {
        for entry in &deltas.entries {
            if let Some(lot) = entry.lot.as_ref().map(Packed::lot) {
                let version = lot.presence.as_ref().filter(|_| lot.said).map_or(0, |p| p.version);
                let word = (setup::id(s), entry.peer, entry.epoch, entry.attach, version);
                self.said.entry(word).or_default().insert(lot.liveness);
            }
        }
    }

    /// A batch that said something is acknowledged: somebody else has it, or there is nobody.
    fn check_ack(&mut self, s: usize, session: SessionId, ack: &ReportAck) {
        let conn = session.0 as ConnId;
        let a = self.other(conn, s);
        let lives = self.servers[s].hellos.get(&conn) == Some(&self.processes[a].life);
        if !lives || !self.setup.config.ack_held {
            return;
        }
        let Some(batch) = self.agents[a].batches.newest_full(ack.batch) else { return };
        let said = self.servers[s].acked.entry(setup::peer(a)).or_default();
        if *said >= (self.processes[a].life, batch) {
            return self.tally.count("nudged");
        }
        *said = (self.processes[a].life, batch);
        let held = self.held.get(&setup::peer(a)).copied().unwrap_or_default();
        if held >= (self.processes[a].life, batch) {
            return;
        }
        let follower = self.follower(s);
        assert!(
            follower.is_none(),
            "batch {batch} of {} is acknowledged by {}, nobody else holds more than {held:?}, and {} follows",
            name(a),
            name(s),
            follower.map_or('?', name)
        );
        self.tally.count("acked_alone");
    }

    /// A sibling that follows what the server owns, and that it does not take for down.
    fn follower(&self, s: usize) -> Option<usize> {
        let core = self.servers[s].core.as_ref()?;
        let members = core.cluster(self.moment(s)).members;
        let is_up = |who: usize| {
            let member = members.iter().find(|m| m.member.id == setup::id(who));
            let settled = self.servers[s].turned.get(&setup::id(who)).is_none_or(|at| at + FRESH <= self.now);
            settled && member.is_some_and(|m| !matches!(m.state, MemberState::Down | MemberState::Left))
        };
        let follows = |(conn, number): &(ConnId, u64)| {
            let side = self.side(*conn, s);
            let role = self.net.conns[*conn].ends[side].roles.get(number);
            let ours = matches!(role, Some(Role::Feed { owner, since, .. })
                if *owner == setup::id(s) && since + FRESH <= self.now);
            (ours && self.is_open(*conn, side)).then(|| self.other(*conn, s))
        };
        if self.servers[s].shaken + FRESH > self.now {
            return None;
        }
        self.servers[s].feeds.values().filter_map(follows).find(|who| is_up(*who))
    }

    fn came_or_went(&mut self, s: usize, peer: PeerId, what: What) {
        let a = self.agent_of(peer);
        match what {
            What::Gone => {
                self.tally.count("gone");
                let for_ns = ns(self.setup.config.gone_after) + SECOND;
                assert!(self.works(a, for_ns) != Some(s), "{} is gone at {}, its home that hears it", name(a), name(s));
            }
            What::Left => {
                self.tally.count("left");
                let left = self.is_leaving(a) || !self.processes[a].up || !self.agents[a].past.is_empty();
                assert!(left, "{} left {} without a goodbye", name(a), name(s));
            }
            What::Returned => self.tally.count("returned"),
            What::Restarted => self.tally.count("restarted"),
            What::Moved => self.tally.count("moved"),
            What::Superseded | What::Came | What::Forgotten => {}
        }
    }

    fn noticed(&mut self, s: usize, notice: &Notice) {
        if let Notice::Server { server, .. } = notice {
            self.servers[s].turned.insert(*server, self.now);
        }
        let what = match notice {
            Notice::Resumed { .. } => "resumed",
            Notice::Replayed { .. } => "replayed",
            Notice::Settling { .. } => "settling",
            Notice::Server { state: State::Down, .. } => "server_down",
            Notice::Server { state: State::Left, .. } => "server_left",
            // Its digest differs, it says what cannot be: never, whatever befalls.
            Notice::BadDeltas { error, .. } => {
                assert!(is_curable(error), "{} got what cannot be: {error}", name(s));
                "bad_deltas"
            }
            Notice::BadHello { .. }
            | Notice::PeersFull { .. }
            | Notice::KindsFull { .. }
            | Notice::Implausible { .. }
            | Notice::Evicted { .. }
            | Notice::SiblingsFull { .. }
            | Notice::SubscriptionRefused { .. } => panic!("{}: {notice:?}", name(s)),
            _ => return,
        };
        self.tally.count(what);
    }

    /// What a server says of a peer.
    pub fn verdict(&self, s: usize, a: usize) -> Option<Liveness> {
        let core = self.servers[s].core.as_ref()?;
        core.peer(self.moment(s), setup::peer(a)).map(|detail| detail.home.liveness)
    }

    /// Whether the server has a row for the peer of this agent: takes itself for its home.
    pub fn is_home(&self, s: usize, a: usize) -> bool {
        let core = self.servers[s].core.as_ref();
        let detail = core.and_then(|core| core.peer(self.moment(s), setup::peer(a)));
        detail.is_some_and(|detail| detail.home.because != pams_server::core::view::Because::Told)
    }
}

/// A stream may go on where the follower has lost its place; it begins anew.
fn is_curable(error: &str) -> bool {
    error.contains("follow it again, it is told anew") || error.contains("but only")
}
