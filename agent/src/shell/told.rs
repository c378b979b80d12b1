//! What of an agent's life the log tells, and how loudly.

use pams_shared::{id::PeerId, record::Reason};
use tracing::{debug, info, warn};

use crate::core::Notice;

/// error: data lost or a bug; warn: unexpected but recovered; info: a change an operator cares about; debug: the rest.
pub(super) fn log(notice: &Notice) {
    let who = |p: &Option<PeerId>| p.map_or_else(|| "-".to_owned(), |p| p.to_string());
    match notice {
        Notice::Liveness { peer, to, .. } => info!(%peer, liveness = to.as_str(), "buddy"),
        Notice::Status { peer, to, .. } => info!(%peer, status = to.as_str(), "buddy"),
        Notice::HomeUp { server } => info!(%server, "home connected"),
        Notice::HomeMoved { server, because } => info!(%server, because = because.as_str(), "another home"),
        Notice::HomeDoubted { by, asks: true } => info!(?by, "the home is said to be lost, and asked"),
        // Whoever says so could fill the log with these.
        Notice::HomeDoubted { by, asks: false } => {
            debug!(?by, "what is said to be lost is not the home, or was asked just now");
        }
        // We leave it ourselves, for a reason that is told.
        Notice::HomeDown { why } if why.reason == Reason::Cancelled => info!(why = why.text, "home left"),
        Notice::HomeDown { why } => warn!(reason = why.reason.as_str(), why = why.text, "no home"),
        Notice::Shed { records } => warn!(records, "backlog full: oldest records dropped"),
        Notice::ClockOffset { who, ms } => warn!(%who, offset_ms = ms, "its clock and ours differ: check NTP on both"),
        Notice::Slept { gap, suspended } => {
            let who = if *suspended { "the host was suspended" } else { "the agent did not run for a while" };
            warn!(?gap, "{who}: silence before now says nothing");
        }
        Notice::Moved { addresses } => info!(?addresses, "the host's addresses changed"),
        Notice::RosterCame { peers, over: 0 } => info!(peers, "the home says whom to watch"),
        Notice::RosterCame { peers, over } => warn!(peers, over, "the home gave more buddies than limits.roster"),
        Notice::SubscriberCame { peer } => info!(%peer, "subscribes to our presence"),
        Notice::SubscriberLost { peer } => {
            warn!(%peer, "subscriber lost: it did not acknowledge, or come back, in time");
        }
        Notice::SubscriberReturned { peer } => info!(%peer, "subscriber acknowledges again"),
        // Whoever calls could fill the log with these.
        Notice::SubscriberRefused { peer, why } => debug!(%peer, why, "subscription refused"),
        Notice::SubscriptionRefused { peer, path, why } => {
            debug!(%peer, by = path.as_str(), reason = why.reason.as_str(), why = why.text, "not subscribed; asked again later");
        }
        Notice::NotifyGap { peer, skipped } => debug!(%peer, skipped, "changes of its presence were not told here"),
        Notice::RosterNamesSelf => warn!("the roster names this very peer; that line is ignored"),
        Notice::PoolFull { peer } => warn!(%peer, "ping not opened: too many transactions in flight"),
        Notice::AnswersOverrun { peer } => warn!(%peer, "ping not answered: too many answers wait"),
        // Whoever sends could fill the log with these; they are counted.
        Notice::FrameRejected { from, label } => debug!(from = who(from), reason = label, "frame rejected"),
        Notice::SilentCaller => debug!("a caller said no hello in time"),
        Notice::CallRefused => debug!("call refused: too many at once"),
        Notice::LinkUp { peer } => debug!(%peer, "connected"),
        Notice::LinkDown { peer, why } => debug!(%peer, reason = why.reason.as_str(), why = why.text, "disconnected"),
        Notice::DialFailed { peer, why } => debug!(%peer, reason = why.reason.as_str(), why = why.text, "not reached"),
        Notice::Late { peer, total_ns } => debug!(%peer, total_ns, "late pong"),
        Notice::Duplicate { peer } => debug!(%peer, "duplicate pong"),
        Notice::UnknownCorrelator { peer } => debug!(%peer, "pong with an unknown correlator"),
    }
}
