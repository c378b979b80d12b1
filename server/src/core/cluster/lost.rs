//! What the agents of a server that was found down are told, by the others: each by one of them, which rendezvous hashing chooses among
//! those that are up, so that nobody need be asked who does it. It is a reason for them to ask their home; most have noticed by
//! themselves, and are elsewhere when their turn comes.
//!
//! Telling gives way to letting in: both are handshakes, and who comes by itself need not be told. A server that has just heard nobody is
//! the one that is cut off, and tells nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{
    frame::{HomeLost, capability},
    id::{PeerId, ServerId},
    moment::Moment,
    status::Liveness,
};

use super::{
    super::{Pams, directory::ms, roster::weight::Weigher},
    Cluster,
    io::SiblingOutput,
    membership::State,
};

/// Agents are told in steps, so many in each: 200 a second, for which a server has a fifth of a core.
const STEP: Duration = Duration::from_millis(100);
const TOLD_MAX: usize = 20;
/// Entries looked at in each step, about a millisecond.
const LOOKS_MAX: usize = 8_192;
/// Agents that are being called.
const CALLS_MAX: usize = 64;
/// Whoever was not told by then has noticed.
const TOLD_FOR: Duration = Duration::from_secs(60);
/// Whoever has heard nobody for so long is cut off, as far as it can know: a server is found down after more than that.
const DEAF_AFTER: Duration = Duration::from_millis(1_500);
/// Addresses of an agent that are tried, besides the one that its home saw it at.
const ADDRESSES_MAX: usize = 3;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It asks its home now.
    Asks,
    /// Another server is its home by now, or somebody else told it.
    Elsewhere,
    Unreachable,
}

#[derive(Debug, Default)]
pub(super) struct Lost {
    /// One at most for each server that is known.
    servers: BTreeMap<ServerId, Round>,
    calls: BTreeSet<PeerId>,
    /// When the next step is due.
    next: Moment,
    /// Agents that came to us since the last one.
    came: usize,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    generation: u64,
    since: Moment,
    /// All up to this one were looked at.
    after: Option<PeerId>,
}

impl Lost {
    /// The server was found down in this start of it.
    pub fn down(&mut self, now: Moment, server: ServerId, generation: u64) {
        self.next = self.next.max(now);
        self.servers.insert(server, Round { generation, since: now, after: None });
    }

    /// It is not: it is up again, or has left.
    pub fn not_down(&mut self, server: ServerId) {
        self.servers.remove(&server);
    }

    /// An agent has come to us.
    pub fn came(&mut self) {
        self.came += 1;
    }

    pub fn deadline(&self) -> Option<Moment> {
        (!self.servers.is_empty()).then_some(self.next)
    }
}

impl Pams {
    /// Tells those whose turn it is.
    pub(in super::super) fn tell_lost(&mut self, now: Moment) {
        if self.cluster.lost.deadline().is_none_or(|at| at > now) {
            return;
        }
        let lost = &mut self.cluster.lost;
        lost.next = now + STEP;
        let came = std::mem::take(&mut lost.came);
        lost.servers.retain(|_, round| now.since(round.since) < TOLD_FOR);
        if now.since(self.ears) >= DEAF_AFTER || self.draining {
            return;
        }
        // Half as many for each that came.
        let room = TOLD_MAX.checked_shr(u32::try_from(came).unwrap_or(u32::MAX)).unwrap_or(0);
        let mut room = room.min(CALLS_MAX.saturating_sub(self.cluster.lost.calls.len()));
        let mut looks = LOOKS_MAX;
        let rounds: Vec<_> = self.cluster.lost.servers.iter().map(|(server, round)| (*server, *round)).collect();
        for (server, round) in rounds {
            self.tell_of(now, server, round, &mut room, &mut looks);
        }
    }

    fn tell_of(&mut self, now: Moment, server: ServerId, mut round: Round, room: &mut usize, looks: &mut usize) {
        let cluster = &self.cluster;
        let (mut tells, mut over) = (Vec::new(), true);
        for (peer, entry) in cluster.share.after(round.after) {
            if *room == 0 || *looks == 0 {
                over = false;
                break;
            }
            *looks -= 1;
            round.after = Some(peer);
            let is_its = entry.owner == server && entry.generation == round.generation;
            let here = self.directory.row(peer).is_some_and(|row| row.session.is_some());
            let Some(lot) = entry.lot.filter(|_| is_its && !here) else { continue };
            if !matches!(lot.liveness(), Liveness::Live | Liveness::Overdue) || !cluster.tells(peer) {
                continue;
            }
            let lot = lot.lot();
            let named = lot.profile.addresses.into_iter().filter(|at| Some(*at) != lot.observed).take(ADDRESSES_MAX);
            let addresses: Vec<_> = lot.observed.into_iter().chain(named).collect();
            if lot.profile.capabilities & capability::HOME_LOST != 0 && !addresses.is_empty() {
                *room -= 1;
                tells.push((peer, addresses));
            }
        }
        let what = HomeLost { server, generation: round.generation, for_ms: ms(now.since(round.since)) };
        let cluster = &mut self.cluster;
        for (peer, addresses) in tells {
            cluster.lost.calls.insert(peer);
            cluster.out.push(SiblingOutput::Tell { peer, addresses, what });
        }
        if over {
            cluster.lost.servers.remove(&server);
        } else {
            cluster.lost.servers.insert(server, round);
        }
    }
}

impl Cluster {
    /// Whether we are the one that tells this agent.
    fn tells(&self, peer: PeerId) -> bool {
        let weigher = Weigher::new(peer);
        let weigh = |server: ServerId| (weigher.weigh(PeerId(server.0)), server);
        let up = self.membership.members().filter(|seen| matches!(seen.state, State::Alive | State::Suspect));
        let mine = weigh(self.me.id);
        up.map(|seen| weigh(seen.member.id)).all(|other| other < mine)
    }

    /// A call to an agent has ended.
    pub(super) fn told(&mut self, peer: PeerId, told: Told) {
        self.lost.calls.remove(&peer);
        let counts = &mut self.counts;
        *match told {
            Told::Asks => &mut counts.told_asks,
            Told::Elsewhere => &mut counts.told_elsewhere,
            Told::Unreachable => &mut counts.told_unreachable,
        } += 1;
    }
}
