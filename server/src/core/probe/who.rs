//! Who stands where: what the directory says of a peer that is to be probed, and which agent is to ping it.

use std::time::Duration;

use pams_shared::{
    frame::Finding,
    id::{PeerId, ServerId},
    moment::Moment,
    status::{Liveness, Status},
};

use super::{
    super::{Pams, SessionId},
    Found, Role,
};

/// Watchers, and agents that are none, that are looked at for one that can ping.
const LOOKED_AT: usize = 64;
/// An agent is asked to ping so many at once; it refuses more.
const LOAD_MAX: usize = 16;

/// What is known of a peer.
#[derive(Debug)]
pub(super) enum Standing {
    /// Its home (`None`: we are), and what that says.
    Known(Option<ServerId>, Word),
    Forgotten,
    Unknown,
}

/// The directory's word.
#[derive(Debug)]
pub(super) struct Word {
    pub name: String,
    pub liveness: Liveness,
    /// Its home's wall clock, ms since 1970.
    pub since_ms: u64,
    /// How old this is.
    pub age: Duration,
    pub status: Option<Status>,
    pub home: ServerId,
}

impl Word {
    /// How long it has been so, by the wall clocks of both; good enough to be told.
    pub fn since(&self, now: Moment) -> Duration {
        Duration::from_millis(now.wall_ms().saturating_sub(self.since_ms))
    }
}

impl Pams {
    pub(super) fn standing(&self, now: Moment, peer: PeerId) -> Standing {
        let me = self.cluster.me.id;
        if let Some(row) = self.directory.row(peer) {
            let word = Word {
                name: row.profile.name.clone(),
                liveness: row.liveness,
                since_ms: row.liveness_since.wall_ms(),
                age: now.since(row.heard),
                status: row.presence.as_ref().map(|p| p.status),
                home: me,
            };
            return Standing::Known(None, word);
        }
        let Some(entry) = self.cluster.share.entry(peer) else { return Standing::Unknown };
        // One of an earlier start of ours counts as ours: its agent has yet to come back.
        let Some(foreign) = self.cluster.read(now, &entry) else { return Standing::Forgotten };
        let word = Word {
            name: foreign.lot.profile.name,
            liveness: foreign.lot.liveness,
            since_ms: foreign.lot.since_ms,
            age: foreign.age,
            status: foreign.lot.presence.map(|p| p.status),
            home: entry.owner,
        };
        Standing::Known((entry.owner != me).then_some(entry.owner), word)
    }

    /// The agent that is to ping the peer: one that watches it and hears it, else one that watches it, else one that is to by our
    /// rosters, else whoever comes after it in the order of ids; of several the first in that order.
    pub(super) fn witness_of(&self, peer: PeerId) -> Option<(PeerId, SessionId)> {
        let seen = || self.witnesses.of(peer).take(LOOKED_AT);
        let hearing = seen().filter(|(_, seen)| seen.hears).map(|(watcher, _)| watcher);
        let watching = seen().map(|(watcher, _)| watcher);
        let rostered = self.rosters.watchers_of(peer).into_iter();
        let others = self.directory.after(Some(peer)).chain(self.directory.after(None)).take(LOOKED_AT);
        let others = others.map(|(other, _)| other);
        let all = hearing.chain(watching).chain(rostered).chain(others);
        let can = |witness: PeerId| {
            let row = self.directory.row(witness).filter(|row| row.checks && row.liveness == Liveness::Live)?;
            let session = row.session.filter(|session| self.probes.load(*session) < LOAD_MAX)?;
            Some((witness, session))
        };
        all.filter(|witness| *witness != peer).find_map(can)
    }

    /// With what people call those who found it.
    pub(super) fn named(&self, findings: &[Finding]) -> Vec<Found> {
        let name = |finding: &Finding| match finding.by_role {
            Role::Server => self.server_name(ServerId(finding.by)),
            Role::Agent => self.peer_name(PeerId(finding.by)),
        };
        findings.iter().map(|finding| Found::new(finding.clone(), name(finding))).collect()
    }

    pub(super) fn server_name(&self, server: ServerId) -> Option<String> {
        self.cluster.name_of(server).filter(|name| !name.is_empty())
    }

    /// The name, or the id where there is none.
    pub(super) fn called(&self, peer: PeerId) -> String {
        self.peer_name(peer).unwrap_or_else(|| peer.to_string())
    }

    fn peer_name(&self, peer: PeerId) -> Option<String> {
        let name = match self.directory.row(peer) {
            Some(row) => row.profile.name.clone(),
            None => self.cluster.share.entry(peer)?.lot?.lot().profile.name,
        };
        Some(name).filter(|name| !name.is_empty())
    }
}
