//! A peer as it is shown, whether we are its home or another server is.

use std::{collections::BTreeMap, net::SocketAddr};

use pams_shared::{
    frame::Profile,
    id::{PeerId, ServerId},
    moment::Moment,
    status::{Liveness, Presence},
};

use super::{
    Pams, Scrape,
    cluster::Foreign,
    directory::{Row, ms},
    view::*,
};

impl Pams {
    /// All peers of all servers, in order of their ids, after the one given. A row is the truth of its peer, whatever is on
    /// its way from elsewhere.
    pub(super) fn known(&self, now: Moment, after: Option<PeerId>) -> impl Iterator<Item = (PeerId, Known<'_>)> {
        let mut own = self.directory.after(after).peekable();
        let others = self.cluster.others(after).filter(|(peer, _)| self.directory.row(*peer).is_none());
        let mut others = others.peekable();
        std::iter::from_fn(move || {
            let is_other = match (own.peek(), others.peek()) {
                (Some((mine, _)), Some((theirs, _))) => theirs < mine,
                (mine, _) => mine.is_none(),
            };
            if !is_other {
                return own.next().map(|(peer, row)| (peer, Some(Known::Row(row))));
            }
            let (peer, entry) = others.next()?;
            let foreign = self.cluster.read(now, &entry);
            Some((peer, foreign.map(|foreign| Known::Foreign(Box::new(foreign), entry.owner))))
        })
        .filter_map(|(peer, known)| Some((peer, known?)))
    }
}

/// A peer that some server knows.
pub(super) enum Known<'a> {
    /// We are its home.
    Row(&'a Row),
    /// Another server is.
    Foreign(Box<Foreign>, ServerId),
}

impl Known<'_> {
    pub fn profile(&self) -> (&Profile, Liveness) {
        match self {
            Known::Row(row) => (&row.profile, row.liveness),
            Known::Foreign(foreign, _) => (&foreign.lot.profile, foreign.lot.liveness),
        }
    }

    fn presence(&self) -> Option<&Presence> {
        match self {
            Known::Row(row) => row.presence.as_ref(),
            Known::Foreign(foreign, _) => foreign.lot.presence.as_ref(),
        }
    }

    pub fn view(self, pams: &Pams, now: Moment, peer: PeerId) -> PeerView {
        match self {
            Known::Row(row) => row.view(peer, pams.cluster.me.id, now),
            Known::Foreign(foreign, owner) => foreign.view(peer, owner, pams.cluster.is_same_host(owner)),
        }
    }

    pub fn passes(&self, filter: &Filter) -> bool {
        let (profile, liveness) = self.profile();
        filter.admits(profile, liveness, self.presence())
    }
}

impl Foreign {
    pub fn view(self, id: PeerId, server: ServerId, same_host: bool) -> PeerView {
        let observed = self.lot.observed.map(|observed| observed.ip());
        // Whoever is seen on its home's loopback runs on its home's host, and so may we.
        let same_host = same_host && observed.is_some_and(|ip| ip.is_loopback());
        let metrics = self.lot.profile.metrics.zip(observed);
        PeerView {
            id,
            order: self.order(),
            metrics: metrics.map(|(announced, observed)| Scrape::new(announced, observed, same_host)),
            presence: self.lot.presence,
            liveness: self.lot.liveness,
            liveness_since_ms: self.lot.since_ms,
            age_ms: ms(self.age),
            observed: self.lot.observed,
            server,
            stale: self.stale,
            profile: self.lot.profile,
        }
    }
}

impl Row {
    pub fn view(&self, id: PeerId, server: ServerId, now: Moment) -> PeerView {
        PeerView {
            id,
            profile: self.profile.clone(),
            order: self.order(),
            presence: self.presence.clone(),
            liveness: self.liveness,
            liveness_since_ms: self.liveness_since.wall_ms(),
            age_ms: ms(now.since(self.heard)),
            observed: Some(self.observed),
            server,
            stale: false,
            metrics: self.scrape(),
        }
    }

    pub fn verdict(&self, now: Moment) -> Verdict {
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
            session_since_ms: Some(self.session_since.wall_ms()),
        }
    }

    fn scrape(&self) -> Option<Scrape> {
        self.profile.metrics.map(|announced| Scrape::new(announced, self.observed.ip(), self.same_host))
    }
}

impl PeerView {
    pub fn sd_target(&self, elsewhere: bool) -> Option<SdTarget> {
        let target = self.metrics?.target(elsewhere)?;
        let status = self.presence.as_ref().map_or("", |p| p.status.as_str());
        let observed = self.observed?;
        let labels = BTreeMap::from([
            ("__meta_pams_address", quic(&self.profile, observed).to_string()),
            ("__meta_pams_addresses", listed(self.profile.addresses.iter())),
            ("__meta_pams_epoch", self.order.epoch.to_string()),
            ("__meta_pams_liveness", self.liveness.as_str().to_owned()),
            ("__meta_pams_name", self.profile.name.clone()),
            ("__meta_pams_observed", observed.to_string()),
            ("__meta_pams_overlays", listed(self.profile.overlays.iter())),
            ("__meta_pams_applications", listed(self.profile.applications.iter())),
            ("__meta_pams_peer_id", self.id.to_string()),
            ("__meta_pams_server_id", self.server.to_string()),
            ("__meta_pams_software", self.profile.software.clone()),
            ("__meta_pams_status", status.to_owned()),
        ]);
        Some(SdTarget { targets: [target.to_string()], labels })
    }
}

impl MemberView {
    /// A loopback address is of use on the server's own host only.
    pub fn sd_target(&self, same_host: bool) -> Option<SdTarget> {
        let same_host = same_host || self.state == MemberState::Me;
        let http = self.member.http.filter(|http| same_host || !http.ip().is_loopback())?;
        let labels = BTreeMap::from([
            ("__meta_pams_server_id", self.member.id.to_string()),
            ("__meta_pams_server_name", self.member.name.clone()),
            ("__meta_pams_server_region", self.member.region.clone()),
            ("__meta_pams_server_software", self.member.software.clone()),
            ("__meta_pams_server_state", self.state.as_str().to_owned()),
        ]);
        Some(SdTarget { targets: [http.to_string()], labels })
    }
}

/// Where the agent can be reached over QUIC: the address that is seen, with the port that it says it has there, if it does.
fn quic(profile: &Profile, observed: SocketAddr) -> SocketAddr {
    let same = profile.addresses.iter().find(|address| address.ip().to_canonical() == observed.ip());
    SocketAddr::new(observed.ip(), same.unwrap_or(&observed).port())
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
