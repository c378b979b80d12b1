//! The one list of the server's metrics: `--list-metrics` prints it, the README shows it, tests hold scrapes to it. No
//! name of a metric stands anywhere else.
//!
//! Exceptions to the conventions of Prometheus, and why. `pams_server_process_*` carry our prefix and not `process_`, as
//! agents and servers can live in one process and its numbers are no single one's. Histograms know the kinds
//! presence.ping, presence.notify and other, whereas ledgers know each kind by its name: twenty series for each kind and stage would add up.

use pams_shared::catalogue::{
    Metric,
    define::{ONE, by, counter, gauge, held, histogram, seconds},
};

const KINDS: &str = "kinds, up to limits.kinds, and other";
const PEERS: &str = "peers whose home this server is, up to metrics.per_peer_max";

/// Servers are heard each second at least; what is 3 s old is stale, and after 60 s gone by default.
const STALENESS_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

pams_shared::catalogue! {
    // Transactions of all peers, as they report them: how many, how they ended, how long they took.
    OPENED = by(&["kind"], KINDS, counter("pams_server_transactions_opened_total",
        "Transactions opened by peers. At each scrape it equals those closed plus those in flight."));
    CLOSED = by(&["kind", "status"], "kinds x 4 statuses", counter("pams_server_transactions_closed_total",
        "Transactions that ended, by status: good, aborted, failed, unknown."));
    IN_FLIGHT = by(&["kind"], KINDS, gauge("pams_server_transactions_in_flight",
        "Transactions that were open when their peers last reported."));
    LATE = by(&["kind"], KINDS, counter("pams_server_transactions_late_total",
        "Answers that came after the deadline; the transactions stay aborted."));
    DUPLICATE = by(&["kind"], KINDS, counter("pams_server_transactions_duplicate_total",
        "Answers that came again."));
    REASONS = held(by(&["kind", "reason"], "3 kinds x 9 reasons", counter("pams_server_transaction_reasons_total",
        "Transactions that did not end well, by reason, where their record reached this server; kind is presence.ping, \
         presence.notify or other.")));
    TOTAL = by(&["kind"], "3 kinds", histogram("pams_server_transaction_seconds",
        "Time of good transactions from opening to closing, from their records; kind is presence.ping, presence.notify or other."));
    STAGE = by(&["kind", "stage"], "4 stages of pings and notifies, 6 of others", histogram("pams_server_stage_seconds",
        "The same by stage: queued until handed to the socket, network, remote_hold by the other side, local_wait until \
         handled, run and blocked of applications. What was not measured is not counted."));
    TOLD = by(&["bound"], "2", histogram("pams_server_told_seconds",
        "When subscribers were told of a change by the peer itself, from its publishing, from records: after least and before most. \
         What is between cannot be known."));
    RECORDS = counter("pams_server_records_total", "Records of transactions taken from reports, each counted once.");
    RECORDS_SHED = counter("pams_server_records_shed_total",
        "Records that agents dropped before they could report them; the ledger has their transactions all the same.");

    // Peers.
    PEERS_BY_LIVENESS = by(&["liveness"], "4", gauge("pams_server_peers",
        "Peers in the directory, by what this server concludes of them."));
    PEERS_BY_STATUS = by(&["status"], "5", gauge("pams_server_peers_by_status",
        "Peers that are live or overdue, by what they say of themselves; unknown are those that have not said it yet."));
    SESSIONS = gauge("pams_server_sessions", "Sessions of agents that are open.");
    EVENTS = held(by(&["event"], "8", counter("pams_server_events_total",
        "Peers that came, returned, restarted, were superseded, left, are gone, were forgotten, moved to another home.")));
    VIEWS = gauge("pams_server_views", "Watchers' views of their buddies that are kept.");
    FORGOTTEN = gauge("pams_server_forgotten_peers",
        "Forgotten peers whose ledger is still known, so that one that comes back is not counted twice.");
    PEER_UP = by(&["peer", "name"], PEERS, gauge("pams_server_peer_up", "1 while the peer is live, else 0."));
    PEER_SILENCE = by(&["peer", "name"], PEERS, seconds("pams_server_peer_silence_seconds",
        "Time since something authenticated came from the peer."));
    PEER_CLOSED = by(&["peer", "name", "kind", "status"], "kinds x 4 for each peer, up to metrics.per_peer_max",
        counter("pams_server_peer_transactions_closed_total", "Transactions that ended, by who opened them and status."));
    DROPPED_PEERS = gauge("pams_server_metrics_dropped_peers",
        "Peers without series of their own because there are more than metrics.per_peer_max.");

    // Rosters: whom this server's agents watch by its word. Of a peer and its watcher the watcher's home counts.
    ROSTERS_PUSHED = counter("pams_server_rosters_pushed_total", "Rosters told to agents.");
    ROSTER_EDGES = gauge("pams_server_roster_edges", "Pairs of a peer and an agent of this server that is to watch it.");
    ROSTER_EDGES_CHANGED = counter("pams_server_roster_edges_changed_total",
        "Such pairs made and unmade: a few for each peer that comes or goes.");
    ROSTER_SHORT = gauge("pams_server_roster_short_peers",
        "Peers of this server in overlays with fewer watchers than roster.watchers, because too few others are there that \
         take a roster.");
    ROSTER_CUT = by(&["reason"], "2", gauge("pams_server_roster_cut",
        "What rosters of this server's agents leave out: roster_max are pairs whose watcher's agent takes no more \
         (limits.roster there), memberships are overlays of a peer beyond 32."));
    // Subscriptions.
    SUBSCRIPTIONS = gauge("pams_server_subscriptions", "Pairs of a peer and an agent that this server tells of it.");
    NOTIFIES = by(&["result"], "3", counter("pams_server_notifies_total",
        "Changes of a peer that agents were told of: sent, acked, and lost because the subscription ended before."));
    NOTIFY = held(histogram("pams_server_notify_seconds",
        "Time from when this server took a change from a report, or concluded it, until the agent had told its side and said so. What \
         came before, from publishing to the report, only the publishing agent could time."));

    // Other servers, and what is shared with them.
    MEMBERS = by(&["state"], "5", gauge("pams_server_cluster_members",
        "Servers that are known, by what this one concludes of them: me, alive, suspect, down, left."));
    LINKS = gauge("pams_server_cluster_links", "Connections with other servers.");
    ENTRIES = by(&["home"], "3", gauge("pams_server_directory_entries",
        "Entries of the shared directory by their peers' home: this server, others that can be heard (fresh), or that cannot (stale). \
         Departed peers are among them."));
    ENTRY_AGE = seconds("pams_server_directory_age_seconds",
        "Since the server among those alive that was heard least lately was: what is said of its peers is so old at most.");
    STALENESS = held(Metric { buckets: STALENESS_BUCKETS, ..histogram("pams_server_directory_staleness_seconds",
        "How old what is known of other servers' peers is: for each server that shares some, the time since it was heard, seen 10 times in 7 s.          So old is an answer about a peer of another home, whoever asks and however often. Left out are servers that have left, and          those not heard for cluster.gone_after, whose peers are gone.") });
    REPLICATION = held(histogram("pams_server_replication_seconds",
        "From when a report was applied here until another server held what it said: the lag of the others, their answer's way \
         included."));
    ACKS = by(&["by"], "2", counter("pams_server_acks_total",
        "Reports acknowledged because another server held them, or alone, for there was no other."));
    ACKS_WAITING = gauge("pams_server_acks_waiting", "Agents whose reports wait until another server holds them.");
    MOVED = by(&["direction"], "2", counter("pams_server_peers_moved_total",
        "Peers that came from another home, in, or went to one, out."));

    TOLD_LOST = by(&["result"], "3", counter("pams_server_home_lost_total",
        "Agents of a server that was found down whom this one was to tell: asks, they asked that home then; elsewhere, another was their \
         home by then; unreachable."));

    GOSSIP = held(by(&["notice"], "one for each notice", counter("pams_server_membership_notices_total",
        "Oddities of the membership protocol: messages that were dropped, servers with one id, refutations, members that flapped.")));
    SHARED = by(&["result"], "7", counter("pams_server_share_entries_total",
        "Entries that other servers shared: applied, stale because older than what was held; and entries shed for want of room, swept \
         because a telling anew did not name them, orphaned with a server that never came back, buried and, when the tombstone's life was \
         over, unburied."));
    STREAMS = by(&["direction", "from"], "4", counter("pams_server_share_streams_total",
        "Catch-ups: streams on which this server was told (in) or told others (out), anew or on from where it had stopped."));
    MISMATCHES = counter("pams_server_share_mismatches_total",
        "Digests of what another server shares that differed for too long, so that it was asked anew: should stay 0.");
    LOT_BYTES = Metric { unit: "bytes", ..gauge("pams_server_share_lot_bytes", "Bytes of all entries as they travel, kept in memory.") };

    // Probes: how is this peer right now?
    PROBES = held(by(&["verdict", "by"], "6 verdicts x 3 callers", counter("pams_server_probes_total",
        "Probes that were answered: reachable, partly (from some, not from others), unreachable, offline, home_unreachable, unknown; by \
         who asked: operator on the admin socket, http on the TCP port, server for one that another server was asked for.")));
    PROBE = held(histogram("pams_server_probe_seconds", "Time from the question to the answer of a probe."));
    PROBES_REFUSED = held(by(&["reason"], "5", counter("pams_server_probes_refused_total",
        "Probes that were refused: forbidden because probe.http is off, caller or target asked too often, full when too many were under \
         way, not_home when another server asked for a peer of a third one.")));

    // Joining, and connections.
    JOINS = held(by(&["result"], "issued and 11 refusals", counter("pams_server_joins_total",
        "Requests for a first certificate: issued, or why not.")));
    RENEWALS = held(by(&["result"], "issued and 6 refusals", counter("pams_server_renewals_total",
        "Requests for a new certificate of the same key: issued, or why not.")));
    HANDSHAKES = held(by(&["result"], "5", counter("pams_server_handshakes_total",
        "Connections that were asked for: ok, failed in QUIC or TLS, timeout, certificate missing or not good here, busy \
         when too many were in their handshake.")));
    CERTIFICATE_EXPIRY = by(&["certificate"], "3", seconds("pams_server_certificate_expiry_timestamp_seconds",
        "When this server's own certificates run out, as a unix time; leaf and intermediate are renewed in time, the \
         root is not."));

    // What goes wrong.
    NOTICES = held(by(&["notice"], "one for each notice", counter("pams_server_notices_total",
        "What an operator may want to know of, by what it is; those that tell of many count as many.")));
    REJECTED = held(by(&["reason"], "9 reasons", counter("pams_server_frames_rejected_total",
        "Frames that were refused; unknown_kind are those of newer versions.")));
    OUTPUTS_SHED = counter("pams_server_outputs_shed_total",
        "Records, events and notices that were counted nowhere else because too many came at once.");
    PANICS = held(counter("pams_server_task_panics_total", "Tasks that ended by a bug; each lost one connection or request."));
    READY = gauge("pams_server_ready",
        "1 while the list of peers is complete: from some seconds after the start until the stop; else 0.");

    // The socket.
    UDP_PACKETS = by(&["direction"], "2", counter("pams_server_udp_packets_total", "UDP packets sent and received."));
    UDP_BYTES = by(&["direction"], "2", Metric { unit: "bytes", ..counter("pams_server_udp_bytes_total",
        "Payload of these packets; headers are 28 bytes more for each on IPv4, 48 on IPv6.") });
    UDP_ERRORS = counter("pams_server_udp_send_errors_total", "Packets that the kernel refused to send.");
    UDP_DROPPED = counter("pams_server_udp_receive_dropped_total", "Packets lost because the socket's buffer was full.");

    // The program.
    RELOADED = gauge("pams_server_config_last_reload_successful",
        "1 if the configuration was good when it was read last, at the start or since; 0: an older one is in force.");
    RELOADED_AT = seconds("pams_server_config_last_reload_success_timestamp_seconds",
        "When the configuration was read well for the last time, as a unix time.");
    BUILD = by(&["version"], ONE, Metric { unit: "info", ..gauge("pams_server_build_info", "1, with the version as a label.") });
    START = seconds("pams_server_start_time_seconds", "When this server started, as a unix time.");
    CPU = Metric { unit: "seconds", ..counter("pams_server_process_cpu_seconds_total",
        "CPU time of the process, user and system.") };
    RSS = Metric { unit: "bytes", ..gauge("pams_server_process_resident_memory_bytes", "Memory of the process that is in RAM.") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_keeps_to_the_conventions() {
        assert_eq!(pams_shared::catalogue::lint(CATALOGUE, "pams_server_"), Vec::<String>::new());
    }
}
