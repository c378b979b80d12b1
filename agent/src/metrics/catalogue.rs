//! The one list of the agent's metrics: `--list-metrics` prints it, the README shows it, tests hold scrapes to it. No
//! name of a metric stands anywhere else.
//!
//! Exceptions to the conventions of Prometheus, and why. `pams_agent_process_*` carry our prefix and not `process_`, as
//! many agents can live in one process and its numbers are no single agent's. `pams_agent_presence_status` is a state
//! set, as OpenMetrics has it. Gauges of the last ping (`pams_agent_buddy_*_seconds`) stand beside the histograms because
//! a histogram for each buddy would cost twenty series each.

use pams_shared::catalogue::{
    Metric,
    define::{ONE, by, counter, gauge, held, histogram, seconds},
};

const KINDS: &str = "3 kinds of the agent, later 64 with applications";
const PEERS: &str = "buddies, up to metrics.per_peer_max";

pams_shared::catalogue! {
    // Transactions: how many, how they ended, how long they took.
    OPENED = by(&["kind"], KINDS, counter("pams_agent_transactions_opened_total",
        "Transactions opened. At each scrape it equals those closed plus those in flight."));
    CLOSED = by(&["kind", "status"], "kinds x 4 statuses", counter("pams_agent_transactions_closed_total",
        "Transactions that ended, by status: good, aborted, failed, unknown."));
    IN_FLIGHT = by(&["kind"], KINDS, gauge("pams_agent_transactions_in_flight",
        "Transactions that are open now."));
    LATE = by(&["kind"], KINDS, counter("pams_agent_transactions_late_total",
        "Answers that came after the deadline; the transactions stay aborted."));
    DUPLICATE = by(&["kind"], KINDS, counter("pams_agent_transactions_duplicate_total",
        "Answers that came again."));
    REASONS = held(by(&["kind", "reason"], "3 kinds x 8 reasons", counter("pams_agent_transaction_reasons_total",
        "Transactions that did not end well, by reason.")));
    TOTAL = by(&["kind"], "3 kinds", histogram("pams_agent_transaction_seconds",
        "Time of good transactions from opening to closing."));
    STAGE = by(&["kind", "stage"], "4 stages of pings and notifies, 1 of reports", histogram("pams_agent_stage_seconds",
        "Time of good transactions by stage: queued until handed to the socket, network, remote_hold by the other side, local_wait until \
         handled here. The stages of a ping add up to its total; what was not measured is not counted. Those of a notify are \
         taken at its stream and not at the socket."));
    TOLD = by(&["bound"], "2", histogram("pams_agent_told_seconds",
        "When subscribers were told of a change, from its publishing: after least and before most. What is between cannot be \
         known from here."));
    LATE_SECONDS = by(&["kind"], "1 kind", histogram("pams_agent_late_seconds",
        "Time from opening to an answer that came after the deadline."));

    // Buddies.
    BUDDIES = by(&["liveness"], "5", gauge("pams_agent_buddies",
        "Buddies by what this agent concludes of them; unknown are those not judged yet."));
    BUDDY_UP = by(&["peer", "name"], PEERS, gauge("pams_agent_buddy_up",
        "1 while the buddy is live, else 0; absent until it is judged."));
    BUDDY_RTT = by(&["peer", "name"], PEERS, seconds("pams_agent_buddy_rtt_seconds",
        "Total time of the last ping, while the buddy answers."));
    BUDDY_STAGE = by(&["peer", "name", "stage"], "4 for each buddy, up to metrics.per_peer_max",
        seconds("pams_agent_buddy_stage_seconds", "Time of the last ping by stage, while the buddy answers."));
    BUDDY_PATH_RTT = by(&["peer", "name"], PEERS, seconds("pams_agent_buddy_path_rtt_seconds",
        "What QUIC itself takes for the round trip, smoothed, while the buddy answers: another witness of the network."));
    BUDDY_CLOCK_OFFSET = by(&["peer", "name"], PEERS, seconds("pams_agent_buddy_clock_offset_seconds",
        "How far the buddy's wall clock was ahead of ours when the connection was made."));
    DROPPED_SERIES = gauge("pams_agent_metrics_dropped_series",
        "Series of single buddies that are not shown because there are more buddies than metrics.per_peer_max.");
    CONNECTIONS = gauge("pams_agent_connections", "Connections with peers.");

    // Subscriptions.
    SUBSCRIPTIONS = by(&["path", "state"], "2 paths x 4 states", gauge("pams_agent_subscriptions",
        "Peers whose presence is subscribed to, at the peer itself and at the home: waiting for contact, asked, active, refused."));
    SUBSCRIBERS = by(&["state"], "3", gauge("pams_agent_subscribers",
        "Peers that are told of our presence: active; silent, not acknowledging in time; away, without a connection for a moment."));
    SUBSCRIBERS_LOST = held(counter("pams_agent_subscribers_lost_total",
        "Subscribers that did not acknowledge in time, or lost their connection and did not come back; no goodbye is needed."));
    SKIPPED = held(counter("pams_agent_subscription_skipped_total",
        "Changes of others' presence that were not told here, as a newer one was told in their place."));

    // Presence, and the home.
    STATUS = by(&["status"], "4", gauge("pams_agent_presence_status", "1 for the status that this peer publishes, else 0."));
    HOME_CONNECTED = gauge("pams_agent_home_connected", "1 while a home takes reports, else 0.");
    HOME_MOVES = held(by(&["because"], "6", counter("pams_agent_home_moves_total",
        "Times that another server became the home, by why: start for the first one; lost or silent, the one before; told by it; \
         nearer, less_loaded of our own will.")));
    HOME_CLOCK_OFFSET = seconds("pams_agent_home_clock_offset_seconds",
        "How far the home's wall clock was ahead of ours when it took this agent.");
    BACKLOG = gauge("pams_agent_backlog_records", "Records that the home has not acknowledged.");
    SHED = counter("pams_agent_backlog_shed_total", "Records dropped from the backlog, oldest first, because no home took them.");
    CERTIFICATE_EXPIRY = seconds("pams_agent_certificate_expiry_timestamp_seconds",
        "When this agent's certificate runs out, as a unix time; renewal begins 8 hours earlier.");

    // CSV files.
    CSV_WRITTEN = counter("pams_agent_csv_records_written_total",
        "Records that stand in a CSV file; absent unless files are written.");
    CSV_FAILING = gauge("pams_agent_csv_failing",
        "1 while the disk does not take records or takes them too slowly, else 0; absent unless files are written.");

    // What goes wrong.
    NOTICES = held(by(&["notice"], "one for each notice", counter("pams_agent_notices_total",
        "What an operator may want to know of, by what it is.")));
    REJECTED = held(by(&["reason"], "7 reasons", counter("pams_agent_frames_rejected_total",
        "Frames that were refused; unknown_kind are those of newer versions.")));
    DROPPED = held(by(&["consumer"], "4 consumers", counter("pams_agent_records_dropped_total",
        "Records that a consumer was too slow for; events are what subscriptions told.")));
    PANICS = held(counter("pams_agent_task_panics_total", "Tasks that ended by a bug; each lost one connection or request."));

    // The socket.
    UDP_PACKETS = by(&["direction"], "2", counter("pams_agent_udp_packets_total", "UDP packets sent and received."));
    UDP_BYTES = by(&["direction"], "2", Metric { unit: "bytes", ..counter("pams_agent_udp_bytes_total",
        "Payload of these packets; headers are 28 bytes more for each on IPv4, 48 on IPv6.") });
    UDP_ERRORS = counter("pams_agent_udp_send_errors_total", "Packets that the kernel refused to send.");
    UDP_DROPPED = counter("pams_agent_udp_receive_dropped_total", "Packets lost because the socket's buffer was full.");
    STAMPS_SHED = counter("pams_agent_stamps_shed_total", "Moments of sending that were lost to a full queue; those pings have no split.");

    // The program.
    RELOADED = gauge("pams_agent_config_last_reload_successful",
        "1 if the configuration was good when it was read last, at the start or since; 0: an older one is in force.");
    RELOADED_AT = seconds("pams_agent_config_last_reload_success_timestamp_seconds",
        "When the configuration was read well for the last time, as a unix time.");
    BUILD = by(&["version"], ONE, Metric { unit: "info", ..gauge("pams_agent_build_info", "1, with the version as a label.") });
    START = seconds("pams_agent_start_time_seconds", "When this agent started, as a unix time.");
    CPU = Metric { unit: "seconds", ..counter("pams_agent_process_cpu_seconds_total",
        "CPU time of the process, user and system.") };
    RSS = Metric { unit: "bytes", ..gauge("pams_agent_process_resident_memory_bytes", "Memory of the process that is in RAM.") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_keeps_to_the_conventions() {
        assert_eq!(pams_shared::catalogue::lint(CATALOGUE, "pams_agent_"), Vec::<String>::new());
    }
}
