//! The half of a scrape that is written from a snapshot: ledgers, peers, certificates, socket, process. What the engine
//! knows is copied on the loop ([`Snapshot::of`]); the text is written elsewhere.

use std::{collections::BTreeMap, time::Duration};

use pams_shared::{
    expo::Expo,
    id::PeerId,
    moment::Moment,
    process::{self, Families},
    record::{Ledger, Outcome},
    status::Liveness,
};

use super::{Extras, catalogue as c};
use crate::core::{
    Pams, RosterSummary,
    view::{ClusterSummary, PeerView, Summary},
};

/// The engine at one moment.
#[derive(Debug)]
pub struct Snapshot {
    summary: Summary,
    /// The first of our own peers in the order of their ids, so that it is always the same ones that are shown.
    singles: Vec<Single>,
}

/// What is shown of one peer.
#[derive(Debug)]
struct Single {
    peer: PeerId,
    name: String,
    live: bool,
    silence: Duration,
    /// By label of kind.
    ledgers: BTreeMap<String, Ledger>,
}

impl Snapshot {
    /// Costs the same whatever the number of peers, but for the first `per_peer_max` of them.
    pub fn of(pams: &Pams, now: Moment, per_peer_max: usize) -> Self {
        let singles = pams.own_peers(now, per_peer_max).map(|peer| Single::of(pams, peer)).collect();
        Self { summary: pams.summary(now), singles }
    }
}

impl Single {
    fn of(pams: &Pams, peer: PeerView) -> Self {
        let mut ledgers: BTreeMap<String, Ledger> = BTreeMap::new();
        for (kind, ledger) in pams.ledger(peer.id) {
            let sum = ledgers.entry(pams.label(kind).to_owned()).or_default();
            sum.good += ledger.good;
            sum.aborted += ledger.aborted;
            sum.failed += ledger.failed;
            sum.unknown += ledger.unknown;
        }
        Self {
            peer: peer.id,
            live: peer.liveness == Liveness::Live,
            silence: Duration::from_millis(peer.age_ms),
            name: peer.profile.name,
            ledgers,
        }
    }
}

pub(super) fn write(snapshot: &Snapshot, extras: &Extras) -> Expo {
    let mut expo = Expo::new();
    ledgers(&mut expo, &snapshot.summary);
    peers(&mut expo, &snapshot.summary);
    rosters(&mut expo, &snapshot.summary.rosters);
    single_peers(&mut expo, snapshot);
    subscriptions(&mut expo, &snapshot.summary);
    cluster(&mut expo, &snapshot.summary.cluster);
    certificates(&mut expo, extras);
    traffic(&mut expo, extras);
    program(&mut expo, extras);
    expo
}

fn ledgers(expo: &mut Expo, summary: &Summary) {
    let mut each = |metric, value: fn(&Ledger) -> u64| {
        let mut family = expo.family(metric);
        for (kind, ledger) in &summary.ledger {
            family.sample(&[kind], value(ledger));
        }
    };
    each(&c::OPENED, |l| l.opened);
    each(&c::IN_FLIGHT, |l| l.in_flight);
    each(&c::LATE, |l| l.late);
    each(&c::DUPLICATE, |l| l.duplicate);
    let mut closed = expo.family(&c::CLOSED);
    for (kind, ledger) in &summary.ledger {
        for outcome in Outcome::ALL {
            closed.sample(&[kind, outcome.as_str()], ledger.closed(outcome));
        }
    }
    expo.family(&c::RECORDS).sample(&[], summary.records);
    expo.family(&c::RECORDS_SHED).sample(&[], summary.records_shed);
    expo.family(&c::OUTPUTS_SHED).sample(&[], summary.outputs_shed);
}

fn rosters(expo: &mut Expo, rosters: &RosterSummary) {
    expo.family(&c::ROSTERS_PUSHED).sample(&[], rosters.pushed);
    expo.family(&c::ROSTER_EDGES).sample(&[], rosters.edges);
    expo.family(&c::ROSTER_EDGES_CHANGED).sample(&[], rosters.changed);
    expo.family(&c::ROSTER_SHORT).sample(&[], rosters.short);
    let mut cut = expo.family(&c::ROSTER_CUT);
    cut.sample(&["roster_max"], rosters.cut).sample(&["memberships"], rosters.memberships_cut);
}

fn peers(expo: &mut Expo, summary: &Summary) {
    let mut by_liveness = expo.family(&c::PEERS_BY_LIVENESS);
    for (liveness, n) in &summary.peers {
        by_liveness.sample(&[liveness.as_str()], *n);
    }
    let mut by_status = expo.family(&c::PEERS_BY_STATUS);
    for (status, n) in &summary.status {
        by_status.sample(&[status.map_or("unknown", |s| s.as_str())], *n);
    }
    expo.family(&c::SESSIONS).sample(&[], summary.sessions);
    expo.family(&c::VIEWS).sample(&[], summary.views);
    expo.family(&c::FORGOTTEN).sample(&[], summary.forgotten);
    expo.family(&c::READY).sample(&[], summary.ready);
}

fn single_peers(expo: &mut Expo, snapshot: &Snapshot) {
    let shown: Vec<(String, &Single)> = snapshot.singles.iter().map(|s| (s.peer.to_string(), s)).collect();
    let mut up = expo.family(&c::PEER_UP);
    for (peer, single) in &shown {
        up.sample(&[peer, &single.name], single.live);
    }
    let mut silence = expo.family(&c::PEER_SILENCE);
    for (peer, single) in &shown {
        silence.sample(&[peer, &single.name], single.silence);
    }
    let mut closed = expo.family(&c::PEER_CLOSED);
    for (peer, single) in &shown {
        for (kind, ledger) in &single.ledgers {
            for outcome in Outcome::ALL {
                closed.sample(&[peer, &single.name, kind, outcome.as_str()], ledger.closed(outcome));
            }
        }
    }
    let all: u64 = snapshot.summary.peers.iter().map(|(_, n)| n).sum();
    expo.family(&c::DROPPED_PEERS).sample(&[], all.saturating_sub(shown.len() as u64));
}

fn subscriptions(expo: &mut Expo, summary: &Summary) {
    expo.family(&c::SUBSCRIPTIONS).sample(&[], summary.subscriptions);
    let n = &summary.notifies;
    expo.family(&c::NOTIFIES).sample(&["sent"], n.sent).sample(&["acked"], n.acked).sample(&["lost"], n.lost);
}

fn cluster(expo: &mut Expo, cluster: &ClusterSummary) {
    let mut members = expo.family(&c::MEMBERS);
    for (state, n) in &cluster.members {
        members.sample(&[state.as_str()], *n);
    }
    expo.family(&c::LINKS).sample(&[], cluster.links);
    let mut entries = expo.family(&c::ENTRIES);
    entries.sample(&["own"], cluster.own).sample(&["fresh"], cluster.fresh).sample(&["stale"], cluster.stale);
    expo.family(&c::ENTRY_AGE).sample(&[], Duration::from_millis(cluster.age_max_ms));
    let counts = &cluster.counts;
    expo.family(&c::ACKS).sample(&["held"], counts.acked_held).sample(&["alone"], counts.acked_alone);
    expo.family(&c::ACKS_WAITING).sample(&[], cluster.waiting);
    let share = &cluster.share;
    let mut entries = expo.family(&c::SHARED);
    for (result, n) in [
        ("applied", share.applied),
        ("stale", share.stale),
        ("shed", share.shed),
        ("swept", share.swept),
        ("orphaned", share.orphaned),
        ("buried", share.buried),
        ("unburied", share.unburied),
    ] {
        entries.sample(&[result], n);
    }
    let mut streams = expo.family(&c::STREAMS);
    streams.sample(&["in", "anew"], share.taken_anew).sample(&["in", "on"], share.taken_on);
    streams.sample(&["out", "anew"], share.told_anew).sample(&["out", "on"], share.told_on);
    expo.family(&c::MISMATCHES).sample(&[], share.mismatches);
    expo.family(&c::LOT_BYTES).sample(&[], share.lot_bytes as u64);
    expo.family(&c::MOVED).sample(&["in"], counts.taken_over).sample(&["out"], counts.let_go);
    let mut told = expo.family(&c::TOLD_LOST);
    told.sample(&["asks"], counts.told_asks).sample(&["elsewhere"], counts.told_elsewhere);
    told.sample(&["unreachable"], counts.told_unreachable);
}

fn certificates(expo: &mut Expo, extras: &Extras) {
    let mut expiry = expo.family(&c::CERTIFICATE_EXPIRY);
    if let Some(e) = extras.certificates {
        expiry.sample(&["leaf"], e.leaf).sample(&["intermediate"], e.intermediate).sample(&["root"], e.root);
    }
}

fn traffic(expo: &mut Expo, extras: &Extras) {
    let t = &extras.traffic;
    expo.family(&c::UDP_PACKETS).sample(&["sent"], t.packets_sent).sample(&["received"], t.packets_received);
    expo.family(&c::UDP_BYTES).sample(&["sent"], t.bytes_sent).sample(&["received"], t.bytes_received);
    expo.family(&c::UDP_ERRORS).sample(&[], t.send_errors);
    expo.family(&c::UDP_DROPPED).sample(&[], t.dropped_by_kernel);
}

fn program(expo: &mut Expo, extras: &Extras) {
    let mut successful = expo.family(&c::RELOADED);
    if let Some((good, _)) = extras.reload {
        successful.sample(&[], good);
    }
    let mut at = expo.family(&c::RELOADED_AT);
    if let Some((_, ms)) = extras.reload {
        at.sample(&[], ms as f64 / 1e3);
    }
    let families = Families { build: &c::BUILD, start: &c::START, cpu: &c::CPU, resident: &c::RSS };
    process::write(expo, families, env!("CARGO_PKG_VERSION"), extras.started_ms);
}
