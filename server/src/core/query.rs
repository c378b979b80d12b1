//! Read-only questions to the engine, for HTTP and metrics. They change nothing, and nothing outside sees the directory
//! itself.

use std::{collections::BTreeMap, time::Duration};

use pams_shared::{
    id::{Order, PeerId},
    moment::Moment,
    record::{Kind, Ledger},
    status::{Liveness, Status},
};

use super::{
    Event, Pams,
    directory::{Row, ms},
    known::Known,
    view::*,
};

impl Pams {
    /// How long until the directory is taken to be full again after the start; zero: it is.
    pub fn ready_in(&self, now: Moment) -> Duration {
        self.config.grace().saturating_sub(now.since(self.started))
    }

    /// Whether a list of all peers may be given out: the agents have had time to attach, and we are not about to stop.
    pub fn ready(&self, now: Moment) -> bool {
        self.ready_in(now).is_zero() && !self.draining
    }

    /// Whether we have just started among other servers, and let nobody in before they have told what we knew.
    pub fn is_settling(&self, now: Moment) -> bool {
        self.cluster.is_settling(now)
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Peers of all servers that pass the filter, after one id, at most `limit` and [`PAGE_MAX`].
    pub fn peers(&self, now: Moment, filter: &Filter, after: Option<PeerId>, limit: usize) -> Page {
        let limit = limit.clamp(1, PAGE_MAX);
        let passing = self.known(now, after).filter(|(_, known)| known.passes(filter));
        let mut views = passing.map(|(peer, known)| known.view(self, now, peer));
        let peers: Vec<_> = views.by_ref().take(limit).collect();
        let next = views.next().and_then(|_| peers.last().map(|p| p.id));
        Page { peers, next }
    }

    /// The first `limit` of the peers whose home we are, in order of their ids: each peer is shown at one server.
    pub fn own_peers(&self, now: Moment, limit: usize) -> impl Iterator<Item = PeerView> {
        self.directory.after(None).take(limit).map(move |(peer, row)| row.view(peer, self.cluster.me.id, now))
    }

    /// All that is known of a peer.
    pub fn peer(&self, now: Moment, peer: PeerId) -> Option<PeerDetail> {
        let Some(row) = self.directory.row(peer) else { return self.foreign_peer(now, peer) };
        Some(PeerDetail {
            peer: row.view(peer, self.cluster.me.id, now),
            home: row.verdict(now),
            watchers: self.watchers(now, peer),
            watched_by: self.rosters.watchers_of(peer).into_iter().collect(),
            watches: self.rosters.watched_by(peer).into_iter().collect(),
            ledger: row.books.iter().map(|(kind, ledger)| (kind.clone(), *ledger)).collect(),
            batch: row.applied,
            records_shed: row.shed,
            clock_offset_ms: Some(row.clock_offset_ms),
            records: row.recent.iter().cloned().collect(),
            events: self.events.iter().filter(|e| e.peer == peer).cloned().collect(),
        })
    }

    /// The same of a peer whose home is another server: records and the views of watchers stay at their homes.
    fn foreign_peer(&self, now: Moment, peer: PeerId) -> Option<PeerDetail> {
        let foreign = self.cluster.foreign(now, peer)?;
        let server = self.cluster.share.entry(peer)?.owner;
        let home = Verdict {
            liveness: foreign.lot.liveness,
            because: Because::Told,
            since_ms: foreign.lot.since_ms,
            age_ms: ms(foreign.age),
            session: None,
            session_since_ms: None,
        };
        Some(PeerDetail {
            home,
            watchers: self.watchers(now, peer),
            watched_by: self.rosters.watchers_of(peer).into_iter().collect(),
            watches: self.rosters.watched_by(peer).into_iter().collect(),
            ledger: foreign.lot.accounts.iter().map(|a| (a.kind.clone(), a.booked)).collect(),
            batch: foreign.lot.applied,
            records_shed: foreign.lot.shed,
            clock_offset_ms: None,
            records: Vec::new(),
            events: self.events.iter().filter(|e| e.peer == peer).cloned().collect(),
            peer: foreign.view(peer, server, self.cluster.is_same_host(server)),
        })
    }

    /// All transactions of all peers that any server knows, by kind: of each peer what its newest home says. Walks the
    /// directory: for people, not for every scrape.
    pub fn cluster_ledger(&self, now: Moment) -> BTreeMap<Kind, Ledger> {
        let mut sums: BTreeMap<Kind, Ledger> = BTreeMap::new();
        let mut add = |kind: &Kind, ledger: &Ledger| super::books::post(sums.entry(kind.clone()).or_default(), ledger);
        for (_, known) in self.known(now, None) {
            match known {
                Known::Row(row) => row.books.iter().for_each(|(kind, ledger)| add(kind, ledger)),
                Known::Foreign(foreign, _) => foreign.lot.accounts.iter().for_each(|a| add(&a.kind, &a.booked)),
            }
        }
        sums
    }

    /// A peer's ledgers by kind, over all its epochs that we know: for series of single peers.
    pub fn ledger(&self, peer: PeerId) -> impl Iterator<Item = (&Kind, &Ledger)> {
        self.directory.row(peer).into_iter().flat_map(|row| row.books.iter())
    }

    /// The order of the newest news of a peer.
    pub fn order(&self, peer: PeerId) -> Option<Order> {
        self.directory.row(peer).map(Row::order)
    }

    /// The label under which a kind is summed: its name, or [`super::OTHER`] beyond the bound.
    pub fn label<'a>(&self, kind: &'a Kind) -> &'a str {
        self.totals.label(kind)
    }

    /// Who came and went, the newest last.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Peers by overlay. Walks the directory: for people, not for every scrape.
    pub fn overlays(&self, now: Moment) -> Overlays {
        let mut found: BTreeMap<String, OverlayView> = BTreeMap::new();
        let mut truncated = false;
        for (_, known) in self.known(now, None) {
            let (profile, liveness) = known.profile();
            for name in memberships(profile) {
                if found.len() >= OVERLAYS_MAX && !found.contains_key(name) {
                    truncated = true;
                    continue;
                }
                let overlay = found.entry(name.to_owned()).or_default();
                *match liveness {
                    Liveness::Live => &mut overlay.live,
                    Liveness::Overdue => &mut overlay.overdue,
                    Liveness::Gone => &mut overlay.gone,
                    Liveness::Left => &mut overlay.left,
                } += 1;
            }
        }
        let view = |(name, counts): (String, OverlayView)| {
            let (watching, watched) = self.rosters.overlay(&name);
            OverlayView { name, watched: watched as u64, watching: watching as u64, ..counts }
        };
        let overlays = found.into_iter().map(view).collect();
        Overlays { watchers: self.rosters.summary().wanted, overlays, truncated }
    }

    /// For Prometheus' HTTP service discovery: every peer that has not left and whose metrics can be scraped, in order of
    /// the ids, whatever server is its home. In pieces: what comes after one id, of `limit` peers ([`PAGE_MAX`] at most), and
    /// after which id to go on. `elsewhere`: also those that announced another address than the one they are seen at. Only a
    /// full list may be given out: see [`Pams::ready`].
    pub fn sd_page(
        &self,
        now: Moment,
        after: Option<PeerId>,
        limit: usize,
        elsewhere: bool,
    ) -> (Vec<SdTarget>, Option<PeerId>) {
        let mut views = self.known(now, after).map(|(peer, known)| known.view(self, now, peer));
        let page: Vec<_> = views.by_ref().take(limit.clamp(1, PAGE_MAX)).collect();
        let next = views.next().and_then(|_| page.last().map(|view| view.id));
        let here = page.iter().filter(|view| view.liveness != Liveness::Left);
        (here.filter_map(|view| view.sd_target(elsewhere)).collect(), next)
    }

    /// The same for the servers: those whose HTTP can be reached from here.
    pub fn sd_servers(&self, now: Moment) -> Vec<SdTarget> {
        let view = self.cluster(now);
        let members = view.members.iter().filter(|member| member.state != MemberState::Left);
        members.filter_map(|member| member.sd_target(self.cluster.is_same_host(member.member.id))).collect()
    }

    /// The whole in numbers. Costs the same whatever the number of peers.
    pub fn summary(&self, now: Moment) -> Summary {
        let census = self.directory.census();
        let statuses = Status::ALL.into_iter().map(Some).chain([None]);
        let (live, overdue) = (&census[Liveness::Live as usize], &census[Liveness::Overdue as usize]);
        Summary {
            peers: Liveness::ALL.map(|l| (l, census[l as usize].iter().sum())).into(),
            status: statuses.zip(live.iter().zip(overdue)).map(|(status, (a, b))| (status, a + b)).collect(),
            sessions: self.sessions.len() as u64,
            ledger: self.totals.iter().map(|(label, ledger)| (label.to_owned(), *ledger)).collect(),
            records: self.records,
            records_shed: self.records_shed,
            views: self.witnesses.len() as u64,
            subscriptions: self.subscriptions() as u64,
            notifies: self.notifies(),
            forgotten: self.forgotten.len() as u64,
            outputs_shed: self.outputs_shed,
            rosters: self.rosters.summary(),
            cluster: self.cluster_summary(now),
            ready: self.ready(now),
            draining: self.draining,
        }
    }

    fn watchers(&self, now: Moment, peer: PeerId) -> Vec<Witness> {
        let witness = |(watcher, seen): (PeerId, &super::witness::Seen)| {
            let row = self.directory.row(watcher);
            Witness {
                watcher,
                name: row.map(|row| row.profile.name.clone()),
                liveness: seen.liveness,
                status: seen.status,
                missed: seen.missed,
                hears: seen.hears,
                is_heard: seen.heard,
                age_ms: ms(now.since(seen.at)),
                stale: row.is_none_or(|row| row.liveness != Liveness::Live),
            }
        };
        self.witnesses.of(peer).map(witness).collect()
    }
}
