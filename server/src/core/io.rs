//! All that can happen to the engine, and all that it can ask for.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{
        Check, Checked, Entry, Hello, Move, Notify, NotifyAck, Rejected, Report, ReportAck, Roster, Server,
        SubscribeAck, Terms,
    },
    id::{Correlator, PeerId},
    record::{Kind, Reason, Record},
};

use super::{
    Event, Notice, PamsConfig,
    cluster::io::{SiblingInput, SiblingOutput},
    probe::{Caller, ProbeAnswer, ProbeId, ProbeRefused},
};

/// One connection of an agent; a number that the shell uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// All that can happen.
#[derive(Debug)]
pub enum Input {
    /// An agent's Hello; its peer id is proven by its certificate.
    Opened {
        session: SessionId,
        peer: PeerId,
        hello: Box<Hello>,
        observed: SocketAddr,
        /// The agent runs on our own host, so that a loopback address of its is one of ours.
        same_host: bool,
    },
    Report {
        session: SessionId,
        report: Report,
    },
    /// Any other frame came on the session: a sign of life.
    Heard {
        session: SessionId,
    },
    Fetch {
        session: SessionId,
        peer: PeerId,
    },
    /// The session wants to be told of this peer; answered by [`Output::Subscribed`] in the same drain.
    Subscribe {
        session: SessionId,
        peer: PeerId,
    },
    Unsubscribe {
        session: SessionId,
        peer: PeerId,
    },
    /// It has told its side what was pushed.
    NotifyAck {
        session: SessionId,
        ack: NotifyAck,
    },
    /// The agent has found out what it was asked to, or says that it is there.
    Checked {
        session: SessionId,
        checked: Box<Checked>,
    },
    Goodbye {
        session: SessionId,
    },
    /// The connection is no more, for whatever reason.
    Closed {
        session: SessionId,
    },
    /// An operator's wish; answered by [`Output::Forgot`] in the same drain. `force`: also if the peer is here. It must
    /// have been made unwelcome before, or it is back at once.
    Forget {
        peer: PeerId,
        force: bool,
    },
    /// How is this peer right now? Answered by [`Output::Probed`], in `within` ([`super::probe::WITHIN_MAX`] at the longest) at the latest.
    Probe {
        probe: ProbeId,
        peer: PeerId,
        within: Duration,
        caller: Caller,
    },
    /// Between us and another server.
    Sibling(SiblingInput),
    /// Go on with another configuration, which should have passed [`PamsConfig::check`].
    Reconfigured(Box<PamsConfig>),
    /// We did not run for so long, in a way that our deadlines need not show: the host was suspended.
    Stalled {
        late: Duration,
    },
    /// We are about to stop: no more sessions.
    Drain,
    /// We are about to stop, and our agents are to go to other servers before; ends with [`Output::Evacuated`].
    Evacuate,
    /// The deadline has passed.
    Tick,
}

/// What the shell is to do or to tell.
#[derive(Debug)]
pub enum Output {
    /// Answer Hello: welcome.
    Accept {
        session: SessionId,
        terms: Terms,
    },
    /// Answer Hello: no; then close with [`pams_shared::frame::close::REJECTED`]. The core has no such session.
    Reject {
        session: SessionId,
        rejected: Rejected,
    },
    /// Close the connection with this code. The core has no such session any more.
    Close {
        session: SessionId,
        code: u32,
    },
    /// Acknowledge, at once or when a sibling holds what was reported. The same batch again: we heard you.
    Ack {
        session: SessionId,
        ack: ReportAck,
    },
    /// For another server.
    Sibling(SiblingOutput),
    /// A sibling holds a batch, so long after we applied it.
    Held {
        took: Duration,
    },
    /// Tell the agent on the push stream. Only to an agent that said it takes it.
    Push {
        session: SessionId,
        push: Push,
    },
    Fetched {
        session: SessionId,
        entry: Option<Box<Entry>>,
    },
    Subscribed {
        session: SessionId,
        ack: SubscribeAck,
    },
    /// A subscriber has told its side, so long after we took the change or concluded it.
    NotifyAcked {
        took: Duration,
    },
    Forgot {
        peer: PeerId,
        answer: Forgot,
    },
    /// The answer to a probe, or why there is none.
    Probed {
        probe: ProbeId,
        /// Of the transaction that it is.
        correlator: Correlator,
        took: Duration,
        answer: Result<Box<ProbeAnswer>, ProbeRefused>,
    },
    /// All agents have gone to other servers, but for those left behind.
    Evacuated {
        left: usize,
    },
    /// A record, counted once: for histograms and other consumers.
    Record {
        peer: PeerId,
        record: Record,
    },
    /// Booked as unknown by us, with the reason.
    Abandoned {
        peer: PeerId,
        kind: Kind,
        count: u64,
        reason: Reason,
    },
    Event(Event),
    Notice(Notice),
}

/// What an agent is told unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Replaces any before it.
    Roster(Roster),
    /// Of each peer only the newest counts.
    Notify(Notify),
    /// Which servers there are; replaces any before it.
    Servers(Vec<Server>),
    /// Go elsewhere.
    Move(Move),
    /// Ping a peer once; or say that you are there. Only to an agent that said it does. Of no use once its time is over.
    Check(Check),
}

/// What came of the wish to forget a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgot {
    /// The entry is removed; its counts stay in the totals.
    Done,
    /// No such entry.
    Unknown,
    /// Live or overdue, and not forced. Nothing changed.
    StillHere,
}

/// Why there is a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The peer may be overdue by then.
    Overdue(PeerId),
    /// The peer may be gone by then.
    Gone(PeerId),
    /// The entry has been kept long enough.
    Forget(PeerId),
    /// Rosters are to be worked on, or told.
    Roster,
    /// A subscriber is not told of any more.
    Notify,
    /// Something between the servers.
    Sibling,
    /// A probe is to be answered, or somebody else asked.
    Probe,
}
