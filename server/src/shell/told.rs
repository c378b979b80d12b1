//! What the log says of what the core tells. An agent can make the same oddity happen with each of its reports, so that it
//! is worth a warning once per session; after that it stays in the counters, and in the log at debug.

use std::collections::HashMap;

use crate::core::{self, Notice, SessionId, cluster::membership::State};

/// Which oddities each session was warned of: one bit for each, by its place in [`Notice::LABELS`].
#[derive(Debug, Default)]
pub struct Told(HashMap<SessionId, u32>);

const _: () = assert!(Notice::LABELS.len() <= u32::BITS as usize);

impl Told {
    /// Logs a notice that came of an input on `session`; `None`: of time, or of an operator.
    pub fn notice(&mut self, session: Option<SessionId>, notice: &Notice) {
        log(notice, session.is_some_and(|session| self.is_repeated(session, notice)));
    }

    /// The session is over.
    pub fn forget(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    fn is_repeated(&mut self, session: SessionId, notice: &Notice) -> bool {
        // What an agent cannot repeat within a session needs no memory.
        if !matches!(notice, Notice::Gap { .. } | Notice::RecordsShed { .. }) {
            return false;
        }
        let bit = Notice::LABELS.iter().position(|label| *label == notice.label()).map_or(0, |at| 1 << at);
        let told = self.0.entry(session).or_default();
        let again = *told & bit != 0;
        *told |= bit;
        again
    }
}

pub fn log_event(event: &core::Event) {
    let core::Event { peer, name, epoch, what, .. } = event;
    tracing::info!(%peer, name, epoch, what = what.as_str(), "agent");
}

/// error: data lost or a bug; warn: unexpected but recovered; info: a change an operator cares about; debug: the rest, and
/// what an agent may repeat with each report, from the second time on.
fn log(notice: &Notice, again: bool) {
    use tracing::{debug, info, warn};
    match notice {
        Notice::Superseded { peer } => {
            warn!(%peer, "a newer session took over; again and again: one identity on two hosts");
        }
        Notice::OlderOrder { peer, known } => warn!(%peer, ?known, "turned away: older than what is known"),
        Notice::BadHello { peer } => warn!(%peer, "turned away: no usable Hello"),
        Notice::PeersFull { peer } => warn!(%peer, "turned away: no room for more peers"),
        Notice::Draining { peer } => debug!(%peer, "turned away: the server stops"),
        Notice::Settling { peer } => debug!(%peer, "turned away: the server asks the others what it knew"),
        Notice::Gap { peer, missing } if again => debug!(%peer, missing, "batches never came"),
        Notice::Gap { peer, missing } => warn!(%peer, missing, "batches never came; their records are not counted"),
        Notice::Resumed { peer, batch } => {
            info!(%peer, batch, "its earlier batches went to another home, or to us before");
        }
        Notice::Replayed { peer, batch } => debug!(%peer, batch, "batch came again; not applied twice"),
        Notice::StaleSession { session } => debug!(session = session.0, "frame on a session that is over"),
        Notice::StalePresence { peer, count } => debug!(%peer, count, "presence older than known"),
        Notice::ClockOff { peer, offset_ms } => warn!(%peer, offset_ms, "its clock and ours differ: check NTP on both"),
        Notice::KindsFull { peer, count } => debug!(%peer, count, "totals of too many kinds"),
        Notice::Implausible { peer, count } => debug!(%peer, count, "totals beyond any real count"),
        Notice::ViewsFull { peer, count } => debug!(%peer, count, "views over the bound"),
        Notice::RecordsShed { peer, count } if again => debug!(%peer, count, "the agent's backlog was full"),
        Notice::RecordsShed { peer, count } => warn!(%peer, count, "the agent's backlog was full: records lost"),
        Notice::Evicted { peer } => info!(%peer, "forgotten early to make room"),
        Notice::ForgottenForGood { peer } => info!(%peer, "its ledger is no longer known"),
        Notice::SubscriberLost { peer } => {
            info!(%peer, "subscriber lost: it did not acknowledge, or come back, in time");
        }
        Notice::SubscriptionRefused { peer } => debug!(%peer, "subscription refused"),
        Notice::LateChecked { peer } => debug!(%peer, "what it found out came too late, or was not asked"),
        Notice::Server { server, name, state: State::Alive } => info!(%server, name, "another server is here"),
        Notice::Server { server, name, state: State::Suspect } => {
            info!(%server, name, "another server does not answer; others are asked");
        }
        Notice::Server { server, name, state: State::Down } => {
            warn!(%server, name, "another server is down, or cut off from all that we hear: its agents move on");
        }
        Notice::Server { server, name, state: State::Left } => info!(%server, name, "another server has left"),
        Notice::Gossip(notice) => debug!(?notice, "membership"),
        Notice::BadDeltas { server, error } => {
            warn!(%server, error, "what another server shared cannot be; it is asked anew");
        }
        Notice::SiblingsFull { server } => {
            warn!(%server, "another server was turned away: no room, or no way to follow");
        }
        Notice::Stalled { late } => warn!(?late, "the server did not run for a while; silence before now says nothing"),
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::id::PeerId;

    use super::*;

    #[test]
    fn what_an_agent_repeats_is_warned_of_once_per_session() {
        let mut told = Told::default();
        let peer = PeerId::from_bytes([1; 16]);
        let (gap, shed) = (Notice::Gap { peer, missing: 1 }, Notice::RecordsShed { peer, count: 9 });
        let (one, two) = (SessionId(1), SessionId(2));
        assert_eq!([&gap, &shed, &gap, &shed].map(|n| told.is_repeated(one, n)), [false, false, true, true]);
        assert!(!told.is_repeated(two, &gap), "another session");
        told.forget(one);
        assert!(!told.is_repeated(one, &gap));
        told.forget(one);
        told.forget(two);
        assert!(!told.is_repeated(one, &Notice::Superseded { peer }) && told.0.is_empty());
    }
}
