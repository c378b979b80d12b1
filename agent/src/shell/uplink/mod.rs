//! The connection to the home: finds it, says Hello, carries reports up and acknowledgements down, renews the certificate,
//! and asks where peers are. One task, which tries again for ever ([`retry`]); what to report is the core's to say.
//!
//! [`session`] is one connection from the call to its end, [`push`] what the home tells in it unasked, and [`requests`] the
//! questions to it.

mod push;
mod requests;
mod retry;
mod session;

use std::{sync::Arc, time::Duration};

use pams_shared::{
    frame::{Entry, News, Notify, NotifyAck, Profile, Report, ReportAck, Roster, Terms},
    id::{Minter, PeerId, ServerId},
    moment::Moment,
    presence::Ask,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::Endpoint;
use tokio::sync::{mpsc, oneshot};

use super::{credentials::Credentials, link::Me};
use crate::core::{CONTACTS_MAX, Trying};

/// How long a question waits for the home.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// Requests that may wait for the task: a question about each contact, and as much again.
pub const REQUESTS_MAX: usize = 2 * CONTACTS_MAX;
/// Events that may wait for the loop.
pub const EVENTS_MAX: usize = 256;

/// What the home's connection tells the loop.
#[derive(Debug)]
pub enum UplinkEvent {
    Reached {
        server: ServerId,
    },
    Up {
        terms: Terms,
        observed: Option<String>,
        clock_offset_ms: i64,
    },
    Down {
        why: Why,
    },
    Trying(Trying),
    Written {
        batch: u64,
    },
    Acked(ReportAck),
    Roster(Roster),
    Subscribed {
        ask: Ask,
        answer: Result<Option<News>, Why>,
    },
    /// The home tells of a peer; the next thing is read when this is answered.
    Notify {
        notify: Notify,
        arrived: Moment,
        answer: oneshot::Sender<NotifyAck>,
    },
    Resolved {
        peer: PeerId,
        found: Result<Vec<String>, Why>,
    },
    Rejected {
        label: &'static str,
    },
    Renewed,
}

/// What the loop asks of it.
#[derive(Debug)]
pub enum UplinkRequest {
    Greet {
        attach: u64,
        profile: Profile,
    },
    Report(Report),
    /// Where is it? Answered by [`UplinkEvent::Resolved`].
    Resolve {
        peer: PeerId,
    },
    Fetch {
        peer: PeerId,
        answer: oneshot::Sender<Result<Option<Entry>, Why>>,
    },
    /// Connect anew, now.
    Rejoin(Why),
    /// Servers to try from now on, one at least. The present one is left only if it is not among them.
    Homes(Vec<String>),
    /// Be told of a peer. Answered by [`UplinkEvent::Subscribed`], unless the connection ends before.
    Subscribe(Ask),
    Unsubscribe {
        peer: PeerId,
    },
    /// Say goodbye when all is written, and end.
    Goodbye,
}

pub struct Uplink {
    pub me: Arc<Me>,
    pub endpoint: Endpoint,
    /// The one under the endpoint.
    pub socket: Arc<Socket>,
    pub client: quinn::ClientConfig,
    pub credentials: Credentials,
    /// `host:port` each.
    pub homes: Vec<String>,
    pub events: mpsc::Sender<UplinkEvent>,
    pub requests: mpsc::Receiver<UplinkRequest>,
    pub minter: Minter,
    /// A home was there since this was last looked at.
    pub met: bool,
}

/// Why a connection to the home ended.
enum End {
    /// We said goodbye, or the loop is gone.
    Done,
    /// The next try is at once.
    Again(Why),
    Lost(Why),
}

impl Uplink {
    async fn tell(&self, event: UplinkEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Done)
    }
}

fn lost(reason: Reason, text: &str) -> End {
    End::Lost(Why::new(reason, text))
}

#[cfg(test)]
mod tests;
