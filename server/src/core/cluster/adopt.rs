//! A row and what is shared of it: what a home tells its siblings, and what the next home begins with.

use std::net::SocketAddr;

use pams_shared::{
    frame::{Account, Entry, Lot, News, Packed, Standing},
    id::{Order, PeerId, ServerId},
    moment::Moment,
    status::Liveness,
};

use super::{
    super::{
        LOOKS_MAX, Pams,
        books::Books,
        directory::{Row, ms},
        share::EntryRef,
    },
    Cluster,
};

/// An entry of a peer that is not ours, read.
#[derive(Debug)]
pub(in super::super) struct Foreign {
    pub lot: Lot,
    pub epoch: u64,
    pub attach: u64,
    /// How old what its home says is.
    pub age: std::time::Duration,
    /// Its home cannot be heard just now.
    pub stale: bool,
}

impl Cluster {
    /// What is known of a peer whose home is another server; `None` if we are it, or nobody knows the peer.
    pub fn foreign(&self, now: Moment, peer: PeerId) -> Option<Foreign> {
        let entry = self.share.entry(peer)?;
        if self.is_ours(&entry) { None } else { self.read(now, &entry) }
    }

    /// What says whom a peer whose home is another server can watch, and who it; and whether it is here. Read without the rest
    /// of the entry, for most changes are of presence alone.
    pub fn standing(&self, now: Moment, peer: PeerId) -> Option<(Standing<'_>, bool)> {
        let entry = self.share.entry(peer).filter(|entry| !self.is_ours(entry))?;
        let standing = entry.lot?.standing();
        let here = matches!(standing.liveness, Liveness::Live | Liveness::Overdue);
        Some((standing, here && !self.is_silent(now, entry.owner, self.heard(&entry))))
    }

    /// Entries of peers whose home is another server, tombstones too, in order of their ids.
    pub fn others(&self, after: Option<PeerId>) -> impl Iterator<Item = (PeerId, EntryRef<'_>)> {
        self.share.after(after).filter(|(_, entry)| !self.is_ours(entry))
    }

    pub fn is_ours(&self, entry: &EntryRef<'_>) -> bool {
        entry.owner == self.me.id && entry.generation == self.me.generation
    }

    /// A server that was heard then is not heard for so long that its peers count as gone.
    pub fn is_silent(&self, now: Moment, owner: ServerId, heard: Moment) -> bool {
        let age = now.since(heard);
        let stale = age >= self.stale_after || owner == self.me.id || !self.follows.is_direct(owner);
        stale && age >= self.orphan_gone
    }

    /// When the entry's owner was heard last.
    fn heard(&self, entry: &EntryRef<'_>) -> Moment {
        self.share.origin(entry.owner).map_or(entry.told, |origin| origin.heard.max(entry.told))
    }

    /// An earlier start of ours shared it.
    pub fn is_leftover(&self, entry: &EntryRef<'_>) -> bool {
        entry.owner == self.me.id && entry.generation != self.me.generation && entry.lot.is_some()
    }

    /// Reads an entry; `None`: a tombstone.
    pub fn read(&self, now: Moment, entry: &EntryRef<'_>) -> Option<Foreign> {
        let mut lot = entry.lot?.lot();
        let heard = self.heard(entry);
        let age = now.since(heard);
        let is_lost = entry.owner == self.me.id || !self.follows.is_direct(entry.owner);
        let stale = age >= self.stale_after || is_lost;
        let here = matches!(lot.liveness, Liveness::Live | Liveness::Overdue);
        if here && self.is_silent(now, entry.owner, heard) {
            lot.liveness = Liveness::Gone;
        }
        Some(Foreign { lot, epoch: entry.epoch, attach: entry.attach, age, stale })
    }
}

impl Pams {
    /// Takes back the peers of our earlier starts, as soon as the siblings have told us of them: from now on we judge them again,
    /// for nobody else does. Silence before now says nothing.
    pub(in super::super) fn take_back(&mut self, now: Moment) {
        if self.cluster.leftovers.is_empty() || self.cluster.share.recovering() {
            return;
        }
        for _ in 0..LOOKS_MAX {
            let Some(peer) = self.cluster.leftovers.pop_first() else { return };
            let left = self.cluster.share.entry(peer).filter(|entry| self.cluster.is_leftover(entry));
            let foreign = left.and_then(|entry| self.cluster.read(now, &entry));
            if let Some(foreign) = foreign
                && let Some(observed) = foreign.lot.observed
                && self.directory.row(peer).is_none()
                && self.directory.len() < self.config.peers_max
            {
                let row = foreign.row(observed, now);
                let look = now + if row.departed() { self.config.forget_after } else { self.config.overdue_after() };
                self.directory.insert(peer, row, look);
                self.place(now, peer);
            }
        }
    }
}

impl Foreign {
    pub fn order(&self) -> Order {
        let said = self.lot.presence.as_ref().filter(|_| self.lot.said);
        Order { epoch: self.epoch, attach: self.attach, version: said.map_or(0, |p| p.version) }
    }

    pub fn entry(self, peer: PeerId) -> Entry {
        Entry {
            peer,
            order: self.order(),
            presence: self.lot.presence.unwrap_or_default(),
            profile: self.lot.profile,
            liveness: self.lot.liveness,
            age_ms: ms(self.age),
            observed: self.lot.observed,
        }
    }

    pub fn news(self, peer: PeerId) -> News {
        News {
            peer,
            order: self.order(),
            presence: self.lot.presence.filter(|_| self.lot.said),
            liveness: Some(self.lot.liveness),
            age_ms: ms(self.age),
        }
    }

    /// A row for the peer that comes to us, with what its home knew of the same epoch.
    pub fn row(self, observed: SocketAddr, now: Moment) -> Row {
        let Self { lot, epoch, attach, .. } = self;
        let mut row = Row::new(epoch, attach, lot.profile, observed, now);
        row.liveness_since = Moment::new(now.ns(), lot.since_ms);
        row.version = lot.presence.as_ref().filter(|_| lot.said).map(|p| p.version);
        row.presence = lot.presence;
        row.liveness = lot.liveness;
        (row.applied, row.acked, row.shed) = (lot.applied, lot.applied, lot.shed);
        row.inherited = true;
        row.books = Books::of(lot.accounts);
        row
    }
}

impl Row {
    /// What the siblings are told.
    pub fn packed(&self) -> Packed {
        Packed::new(&Lot {
            profile: self.profile.clone(),
            presence: self.presence.clone(),
            said: self.version.is_some(),
            liveness: self.liveness,
            since_ms: self.liveness_since.wall_ms(),
            observed: Some(self.observed),
            applied: self.applied,
            shed: self.shed,
            accounts: self.books.accounts().collect::<Vec<Account>>(),
            pid: String::new(),
        })
    }
}
