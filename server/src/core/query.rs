//! Read-only questions to the engine, for HTTP and metrics. They change nothing, and nothing outside sees the directory
//! itself.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use pams_shared::{
    id::{Order, PeerId},
    moment::Moment,
    record::{Kind, Ledger},
    status::{Liveness, Status},
};

use super::{
    Event, Pams, Scrape,
    directory::{Row, ms},
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

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Peers that pass the filter, after one id, at most `limit` and [`PAGE_MAX`].
    pub fn peers(&self, now: Moment, filter: &Filter, after: Option<PeerId>, limit: usize) -> Page {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut rows = self
            .directory
            .after(after)
            .filter(|(_, row)| filter.admits(&row.profile, row.liveness, row.presence.as_ref()));
        let peers: Vec<_> = rows.by_ref().take(limit).map(|(peer, row)| row.view(peer, now)).collect();
        let next = rows.next().and_then(|_| peers.last().map(|p| p.id));
        Page { peers, next }
    }

    /// All that is known of a peer.
    pub fn peer(&self, now: Moment, peer: PeerId) -> Option<PeerDetail> {
        let row = self.directory.row(peer)?;
        Some(PeerDetail {
            peer: row.view(peer, now),
            home: row.verdict(now),
            watchers: self.watchers(now, peer),
            watched_by: self.rosters.watchers_of(peer).into_iter().collect(),
            watches: self.rosters.watched_by(peer).collect(),
            ledger: row.books.iter().map(|(kind, ledger)| (kind.clone(), *ledger)).collect(),
            batch: row.applied,
            records_shed: row.shed,
            clock_offset_ms: row.clock_offset_ms,
            records: row.recent.iter().cloned().collect(),
            events: self.events.iter().filter(|e| e.peer == peer).cloned().collect(),
        })
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
    pub fn overlays(&self) -> Overlays {
        let mut found: BTreeMap<&str, OverlayView> = BTreeMap::new();
        let mut truncated = false;
        for (_, row) in self.directory.after(None) {
            for name in memberships(&row.profile) {
                if found.len() >= OVERLAYS_MAX && !found.contains_key(name) {
                    truncated = true;
                    continue;
                }
                let overlay = found.entry(name).or_default();
                *match row.liveness {
                    Liveness::Live => &mut overlay.live,
                    Liveness::Overdue => &mut overlay.overdue,
                    Liveness::Gone => &mut overlay.gone,
                    Liveness::Left => &mut overlay.left,
                } += 1;
            }
        }
        let view = |(name, counts): (&str, OverlayView)| {
            let (watching, watched) = self.rosters.overlay(name);
            OverlayView { name: name.to_owned(), watched: watched as u64, watching: watching as u64, ..counts }
        };
        let overlays = found.into_iter().map(view).collect();
        Overlays { watchers: self.rosters.summary().wanted, overlays, truncated }
    }

    /// For Prometheus' HTTP service discovery: every peer that has not left and whose metrics can be scraped, in order of
    /// the ids. In pieces: what comes after one id, of `limit` peers ([`PAGE_MAX`] at most), and after which id to go on.
    /// `elsewhere`: also those that announced another address than the one they are seen at. Only a full list may be given
    /// out: see [`Pams::ready`].
    pub fn sd_page(&self, after: Option<PeerId>, limit: usize, elsewhere: bool) -> (Vec<SdTarget>, Option<PeerId>) {
        let mut rows = self.directory.after(after);
        let page: Vec<_> = rows.by_ref().take(limit.clamp(1, PAGE_MAX)).collect();
        let next = rows.next().and_then(|_| page.last().map(|(peer, _)| *peer));
        let here = page.into_iter().filter(|(_, row)| row.liveness != Liveness::Left);
        (here.filter_map(|(peer, row)| row.sd_target(peer, elsewhere)).collect(), next)
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

impl Row {
    fn view(&self, id: PeerId, now: Moment) -> PeerView {
        PeerView {
            id,
            profile: self.profile.clone(),
            order: self.order(),
            presence: self.presence.clone(),
            liveness: self.liveness,
            liveness_since_ms: self.liveness_since.wall_ms(),
            age_ms: ms(now.since(self.heard)),
            observed: self.observed,
            metrics: self.scrape(),
        }
    }

    fn verdict(&self, now: Moment) -> Verdict {
        Verdict {
            liveness: self.liveness,
            because: match self.liveness {
                Liveness::Live => Because::Heard,
                Liveness::Overdue | Liveness::Gone => Because::Silence,
                Liveness::Left => Because::Goodbye,
            },
            since_ms: self.liveness_since.wall_ms(),
            age_ms: ms(now.since(self.heard)),
            session: self.session,
            session_since_ms: self.session_since.wall_ms(),
        }
    }

    fn scrape(&self) -> Option<Scrape> {
        self.profile.metrics.map(|announced| Scrape::new(announced, self.observed.ip(), self.same_host))
    }

    fn sd_target(&self, peer: PeerId, elsewhere: bool) -> Option<SdTarget> {
        let target = self.scrape()?.target(elsewhere)?;
        let status = self.presence.as_ref().map_or("", |p| p.status.as_str());
        let labels = BTreeMap::from([
            ("__meta_pams_address", self.quic().to_string()),
            ("__meta_pams_addresses", listed(self.profile.addresses.iter())),
            ("__meta_pams_epoch", self.epoch.to_string()),
            ("__meta_pams_liveness", self.liveness.as_str().to_owned()),
            ("__meta_pams_name", self.profile.name.clone()),
            ("__meta_pams_observed", self.observed.to_string()),
            ("__meta_pams_overlays", listed(self.profile.overlays.iter())),
            ("__meta_pams_applications", listed(self.profile.applications.iter())),
            ("__meta_pams_peer_id", peer.to_string()),
            ("__meta_pams_software", self.profile.software.clone()),
            ("__meta_pams_status", status.to_owned()),
        ]);
        Some(SdTarget { targets: [target.to_string()], labels })
    }

    /// Where the agent can be reached over QUIC: the address that we see, with the port that it says it has there, if it
    /// does.
    fn quic(&self) -> SocketAddr {
        let same = self.profile.addresses.iter().find(|address| address.ip().to_canonical() == self.observed.ip());
        SocketAddr::new(self.observed.ip(), same.unwrap_or(&self.observed).port())
    }
}

/// As Prometheus lists: with the separator around each, so that a regular expression finds whole items. Empty: nothing.
fn listed<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        text.push(',');
        text.push_str(&item.to_string());
    }
    if !text.is_empty() {
        text.push(',');
    }
    text
}
