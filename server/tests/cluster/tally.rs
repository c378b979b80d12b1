//! What runs go through.

use pams_simulator::Tally;

/// All that is counted, so that what never happens shows.
const COUNTED: &[&str] = &[
    // What befell.
    "agent_crash",
    "agent_leave",
    "agent_return",
    "storm",
    "publish",
    "server_crash",
    "server_restart",
    "without_seeds",
    "evacuate",
    "evacuated",
    "stall",
    "stalled",
    "cut",
    "one_way",
    "bad_path",
    "slow_path",
    "wall_step",
    "forget",
    "forgot",
    "forced",
    // What came of it.
    "linked",
    "idle",
    "reset",
    "call_failed",
    "follow_ended",
    "deltas",
    "gossip",
    "gossip_short",
    "move",
    "servers",
    "moved",
    "rehomed",
    "gave_up",
    "word_asks",
    "word_late",
    "word_lost",
    "word_moves",
    "busy",
    "settling",
    "resumed",
    "replayed",
    "restarted",
    "gone",
    "left",
    "returned",
    "abandoned",
    "held",
    "acked_alone",
    "nudged",
    "banned",
    "told",
    "told_across",
    "roster",
    "server_down",
    "server_left",
    "stale_view",
    "orphan",
    // What was checked at the end.
    "exact_books",
    "whole_books",
    "bounded_books",
    "calm",
];

/// What need not happen in each run.
const RARE: &[&str] = &["bad_deltas", "behind", "lives_on", "foreign_forget", "stuck"];

pub fn tally() -> Tally {
    Tally::new(COUNTED, RARE)
}
