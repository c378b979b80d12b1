//! The connection to the home: finds one, says Hello, carries reports up and acknowledgements down, renews the certificate,
//! asks where peers are, and goes on to another one. One task, which tries again for ever ([`retry`]); what to report is the
//! core's to say, and which server is called [`Choice`]'s.
//!
//! [`session`] is one connection from the call to its end, [`work`] what is done in it, [`push`] what the home tells in it
//! unasked, [`requests`] the questions to it, and [`dial`] the calls.

mod dial;
mod push;
mod requests;
mod retry;
mod session;
mod work;

use std::{sync::Arc, time::Duration};

use pams_shared::{
    frame::{Check, Entry, Frame, HomeLost, News, Notify, NotifyAck, Profile, Report, ReportAck, Roster, Terms},
    id::{Minter, PeerId, ServerId},
    identity,
    lookup::Resolver,
    moment::Moment,
    presence::Ask,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::sync::{mpsc, oneshot};

use self::dial::Dialler;
use super::{credentials::Credentials, link::Me};
use crate::core::{
    CONTACTS_MAX, Doubter, Trying,
    choice::{Because, Call, Choice, Servers},
};

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
        because: Because,
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
    /// What is known of the servers has changed; to be kept.
    Servers(Servers),
    /// The home asks; the answer has its place on the stream that it came from.
    Check {
        check: Check,
        came: Moment,
        answer: mpsc::OwnedPermit<Frame>,
    },
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
    /// Somebody says that the home is lost. `asks`: it is asked.
    Doubted {
        by: Doubter,
        asks: bool,
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
    /// Homes of the configuration from now on, one at least. The present one is left if it was found by one that is no longer
    /// among them.
    Homes(Vec<String>),
    /// Be told of a peer. Answered by [`UplinkEvent::Subscribed`], unless the connection ends before.
    Subscribe(Ask),
    Unsubscribe {
        peer: PeerId,
    },
    /// Another server says that this one is lost. Answered by whether it is our home, and asked.
    HomeLost {
        by: ServerId,
        lost: HomeLost,
        answer: oneshot::Sender<bool>,
    },
    /// Say goodbye when all is written, and end.
    Goodbye,
}

pub struct Uplink {
    me: Arc<Me>,
    dialler: Dialler,
    credentials: Credentials,
    choice: Choice,
    /// As it was told last.
    kept: Servers,
    events: mpsc::Sender<UplinkEvent>,
    requests: mpsc::Receiver<UplinkRequest>,
    minter: Minter,
    /// A home was there since this was last looked at.
    met: bool,
}

/// Where it calls from, and by what it proves who it is.
pub struct Side {
    pub me: Arc<Me>,
    pub endpoint: Endpoint,
    /// The one under the endpoint.
    pub socket: Arc<Socket>,
    pub client: quinn::ClientConfig,
    pub credentials: Credentials,
    pub resolver: Resolver,
}

/// Why a connection to the home ended.
enum End {
    /// We said goodbye, or the loop is gone.
    Done,
    /// The next try is at once, with the same.
    Again(Why),
    /// Another one has answered our call.
    Moved(Box<(Call, Connection)>, Why),
    Lost(Why),
    /// It does not answer any more.
    Silent(Why),
    /// Another agent with our id took our place.
    Superseded(Why),
}

impl Uplink {
    /// `homes` are those of the configuration, `host:port` or a service each; `servers` those of the last run; there is one at least in both.
    pub fn new(
        side: Side,
        homes: Vec<String>,
        servers: Servers,
        seeds: [[u8; 32]; 2],
        events: mpsc::Sender<UplinkEvent>,
        requests: mpsc::Receiver<UplinkRequest>,
    ) -> Self {
        let Side { me, endpoint, socket, client, credentials, resolver } = side;
        let name = identity::home_name(&me.domain);
        Self {
            me,
            dialler: Dialler { endpoint, socket, client, name, resolver },
            credentials,
            choice: Choice::new(homes, servers, seeds[0]),
            kept: Servers::default(),
            events,
            requests,
            minter: Minter::new(seeds[1]),
            met: false,
        }
    }

    async fn tell(&self, event: UplinkEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Done)
    }

    /// Tells what is known of the servers, if that has changed.
    async fn tell_servers(&mut self) -> Result<(), End> {
        let servers = self.choice.kept();
        if servers == self.kept {
            return Ok(());
        }
        self.kept.clone_from(&servers);
        self.tell(UplinkEvent::Servers(servers)).await
    }
}

impl End {
    const fn why(&self) -> Option<&Why> {
        match self {
            End::Done => None,
            End::Again(why) | End::Moved(_, why) | End::Lost(why) | End::Silent(why) | End::Superseded(why) => {
                Some(why)
            }
        }
    }
}

fn lost(reason: Reason, text: &str) -> End {
    End::Lost(Why::new(reason, text))
}

#[cfg(test)]
mod tests;
