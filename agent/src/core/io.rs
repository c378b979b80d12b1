//! All that can happen to an agent's core, and all that it can ask for.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{
        Check, Checked, News, Notify, NotifyAck, Ping, Pong, Profile, Report, ReportAck, Roster, SubscribeAck, Terms,
    },
    id::{Correlator, PeerId, ServerId},
    moment::Moment,
    presence::{Ask, Path},
    record::{Record, Why},
    status::{Liveness, Presence, Status},
};
use serde::Serialize;

use super::{AgentConfig, choice::Because};

use super::subscribe::Told;

/// Numbers the connections to peers, so that news of an old one is told from news of the present one.
pub type LinkId = u64;

#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing happened but time.
    Tick,
    /// A ping was handed to the socket, or a notify to its stream, at `at`, which may be before now.
    Sent {
        correlator: Correlator,
        at: Moment,
    },
    /// A ping left, and when was not measured.
    SentUnstamped {
        correlator: Correlator,
    },
    /// `arrived`: out of the kernel; `None`: not measured.
    Ping {
        from: PeerId,
        ping: Ping,
        arrived: Option<Moment>,
    },
    Pong {
        from: PeerId,
        pong: Pong,
        arrived: Option<Moment>,
        path_rtt_ns: Option<u64>,
    },
    /// A connection with this peer is ready: Hello was answered. It replaces any other.
    LinkUp {
        peer: PeerId,
        link: LinkId,
        epoch: u64,
        clock_offset_ms: i64,
    },
    /// `restarted`: the other side lost the connection's state, so it runs and can be called again at once.
    LinkDown {
        peer: PeerId,
        link: LinkId,
        why: Why,
        restarted: bool,
    },
    DialFailed {
        peer: PeerId,
        why: Why,
    },
    /// The peer said that it leaves.
    Goodbye {
        peer: PeerId,
    },
    /// Where the home says the peer is.
    Resolved {
        peer: PeerId,
        found: Result<Vec<String>, Why>,
    },
    /// A peer wants to be told of `peer`; answered by [`Output::AnswerSubscribe`] with the same number, in the same drain.
    Subscribe {
        from: PeerId,
        peer: PeerId,
        question: u64,
    },
    /// A peer does not want to be told any more.
    Unsubscribe {
        from: PeerId,
    },
    /// What came of [`Output::AskToSubscribe`].
    Subscribed {
        ask: Ask,
        answer: Result<Option<News>, Why>,
    },
    /// A change was pushed by the peer itself, or, without `from`, by the home; it came off the stream at `arrived`. Answered by
    /// [`Output::AckNotify`] in the same drain, unless it has no place there.
    Notify {
        from: Option<PeerId>,
        notify: Notify,
        arrived: Moment,
    },
    /// A subscriber's acknowledgement.
    NotifyAck {
        from: PeerId,
        ack: NotifyAck,
        arrived: Moment,
    },
    /// A frame was refused, with the label of its error.
    FrameRejected {
        from: Option<PeerId>,
        label: &'static str,
    },
    /// We did not run for `stopped` of monotonic time, and the host was suspended for `suspended` beside that.
    Slept {
        stopped: Duration,
        suspended: Duration,
    },
    /// The host's addresses changed; where this peer can be called now.
    Moved {
        addresses: Vec<SocketAddr>,
    },
    Home(HomeInput),
    Command(Command),
}

/// How it stands with the search for a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Trying {
    /// `host:port`, or the service, of the last try.
    #[schema(example = "home.example.org:7420")]
    pub home: String,
    /// What the name stands for; empty: it does not resolve.
    #[schema(value_type = Vec<String>, example = json!(["192.0.2.1:7420"]))]
    pub resolved: Vec<SocketAddr>,
    /// Tries since the home was lost, or the start.
    pub tries: u32,
    /// When the first of them began, ms since 1970.
    pub since_ms: u64,
    /// When the next one begins, at the earliest.
    pub next_ms: u64,
    /// What TCP says of the same address, where UDP met silence: a hint where the fault lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
}

#[derive(Clone, Debug)]
pub enum HomeInput {
    /// A server's certificate is proven; it waits for Hello.
    Reached {
        server: ServerId,
    },
    Up {
        terms: Terms,
        observed: Option<String>,
        clock_offset_ms: i64,
        /// Why this server, if it was not our home before.
        because: Because,
    },
    Down {
        why: Why,
    },
    /// A try came to nothing; what was tried, and what comes next.
    Trying(Trying),
    /// The report was handed to the stream.
    Written {
        batch: u64,
    },
    Acked(ReportAck),
    /// All whom the home wants us to watch.
    Roster(Roster),
    /// So many servers are known now, the home among them.
    Servers(usize),
    /// A question that came off its stream at `came`; answered by [`Output::Checked`] with the same number, by its deadline.
    Check {
        question: u64,
        check: Check,
        came: Moment,
    },
}

#[derive(Clone, Debug)]
pub enum Command {
    Publish {
        status: Status,
        note: Option<String>,
    },
    /// One ping now, for a person or a program; answered by [`Output::Pinged`] with the same token.
    Ping {
        peer: PeerId,
        token: u64,
    },
    /// Go on with another configuration.
    Reconfigure(Box<AgentConfig>),
    /// Be told of each change of this peer's presence; see [`Agent::can_subscribe`](super::Agent::can_subscribe).
    Subscribe {
        peer: PeerId,
    },
    Unsubscribe {
        peer: PeerId,
    },
    /// Close what is open, report what there is, say goodbye.
    Shutdown,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Dial {
        peer: PeerId,
        addresses: Vec<String>,
    },
    /// Ask the home where the peer is.
    Resolve {
        peer: PeerId,
    },
    SendPing {
        peer: PeerId,
        ping: Ping,
    },
    SendPong {
        peer: PeerId,
        pong: Pong,
    },
    /// Say Hello to the home that was reached.
    Greet {
        attach: u64,
        profile: Profile,
    },
    Report(Report),
    /// Close the connection with this peer; it is called again when there is something to send.
    HangUp {
        peer: PeerId,
    },
    /// Connect with the home anew, at once.
    Rejoin {
        why: Why,
    },
    /// Ask the peer or the home, over the connection there is, to be told. Answered by [`Input::Subscribed`].
    AskToSubscribe(Ask),
    /// Say there that we need not be told any more.
    Unsubscribe {
        path: Path,
        peer: PeerId,
    },
    AnswerSubscribe {
        question: u64,
        ack: SubscribeAck,
    },
    /// Push to a subscriber; when it leaves, [`Input::Sent`] says so.
    SendNotify {
        peer: PeerId,
        notify: Notify,
    },
    /// Answer the notify at hand: whoever listens here was told.
    AckNotify(NotifyAck),
    /// To whoever listens.
    Told(Told),
    /// To all consumers.
    Record(Record),
    Pinged {
        token: u64,
        result: Result<Record, Why>,
    },
    /// Answer the home's question, if its connection is still there.
    Checked {
        question: u64,
        checked: Checked,
    },
    /// To be kept over restarts.
    Published(Presence),
    /// All is reported that can be: say goodbye to the home and all peers, and end.
    Goodbye,
    Notice(Notice),
}

/// Who says that the home is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubter {
    /// Another server of the cluster.
    Server(ServerId),
    /// The home's host says that nothing listens there (ICMP, which can be forged).
    Network,
}

/// What an operator may want to know: counted by metrics, printed by logs, asserted by tests.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Liveness {
        peer: PeerId,
        from: Option<Liveness>,
        to: Liveness,
    },
    Status {
        peer: PeerId,
        from: Option<Status>,
        to: Status,
    },
    /// A pong after its deadline; total time in ns.
    Late {
        peer: PeerId,
        total_ns: u64,
    },
    Duplicate {
        peer: PeerId,
    },
    UnknownCorrelator {
        peer: PeerId,
    },
    PoolFull {
        peer: PeerId,
    },
    AnswersOverrun {
        peer: PeerId,
    },
    /// Oldest records dropped from the backlog: the home was away for too long.
    Shed {
        records: u64,
    },
    LinkUp {
        peer: PeerId,
    },
    LinkDown {
        peer: PeerId,
        why: Why,
    },
    DialFailed {
        peer: PeerId,
        why: Why,
    },
    HomeUp {
        server: ServerId,
    },
    HomeDown {
        why: Why,
    },
    /// Another server than before is our home, or the first one is.
    HomeMoved {
        server: ServerId,
        because: Because,
    },
    /// Somebody says that the home is lost. `asks`: it is asked; else it is not the home, or was asked a moment ago.
    HomeDoubted {
        by: Doubter,
        asks: bool,
    },
    /// The other clock is this much ahead of ours.
    ClockOffset {
        who: uuid::Uuid,
        ms: i64,
    },
    /// Somebody is told of our presence from now on.
    SubscriberCame {
        peer: PeerId,
    },
    /// A subscriber did not acknowledge in time, or lost its connection and did not come back.
    SubscriberLost {
        peer: PeerId,
    },
    /// A subscriber that was taken for lost acknowledged.
    SubscriberReturned {
        peer: PeerId,
    },
    SubscriberRefused {
        peer: PeerId,
        why: String,
    },
    /// The peer, or the home, does not tell us; it is asked again.
    SubscriptionRefused {
        peer: PeerId,
        path: Path,
        why: Why,
    },
    /// Changes of a peer's presence that nobody told here: a newer one was told in their place.
    NotifyGap {
        peer: PeerId,
        skipped: u64,
    },
    /// The home says whom to watch; `over` more than we take.
    RosterCame {
        peers: usize,
        over: usize,
    },
    /// We did not run for so long; `suspended`: nor did the host.
    Slept {
        gap: Duration,
        suspended: bool,
    },
    /// The host's addresses changed.
    Moved {
        addresses: Vec<SocketAddr>,
    },
    /// The roster names this very peer; that buddy is left out.
    RosterNamesSelf,
    FrameRejected {
        from: Option<PeerId>,
        label: &'static str,
    },
    /// Somebody called and said no Hello in time.
    SilentCaller,
    /// Somebody called while too many others did.
    CallRefused,
}

impl Notice {
    /// Label of its counter.
    pub const fn label(&self) -> &'static str {
        match self {
            Notice::Liveness { .. } => "liveness_changed",
            Notice::Status { .. } => "status_changed",
            Notice::Late { .. } => "late",
            Notice::Duplicate { .. } => "duplicate",
            Notice::UnknownCorrelator { .. } => "unknown_correlator",
            Notice::PoolFull { .. } => "pool_full",
            Notice::AnswersOverrun { .. } => "answers_overrun",
            Notice::Shed { .. } => "shed",
            Notice::LinkUp { .. } => "link_up",
            Notice::LinkDown { .. } => "link_down",
            Notice::DialFailed { .. } => "dial_failed",
            Notice::HomeUp { .. } => "home_up",
            Notice::HomeDown { .. } => "home_down",
            Notice::HomeMoved { .. } => "home_moved",
            Notice::HomeDoubted { asks: false, .. } => "home_doubt_ignored",
            Notice::HomeDoubted { by: Doubter::Server(_), .. } => "home_doubted_by_server",
            Notice::HomeDoubted { by: Doubter::Network, .. } => "home_doubted_by_network",
            Notice::ClockOffset { .. } => "clock_offset",
            Notice::SubscriberCame { .. } => "subscriber_came",
            Notice::SubscriberLost { .. } => "subscriber_lost",
            Notice::SubscriberReturned { .. } => "subscriber_returned",
            Notice::SubscriberRefused { .. } => "subscriber_refused",
            Notice::SubscriptionRefused { .. } => "subscription_refused",
            Notice::NotifyGap { .. } => "notify_gap",
            Notice::RosterCame { .. } => "roster_came",
            Notice::Slept { .. } => "slept",
            Notice::Moved { .. } => "moved",
            Notice::RosterNamesSelf => "roster_names_self",
            Notice::FrameRejected { .. } => "frame_rejected",
            Notice::SilentCaller => "silent_caller",
            Notice::CallRefused => "call_refused",
        }
    }

    pub const LABELS: &'static [&'static str] = &[
        "liveness_changed",
        "status_changed",
        "late",
        "duplicate",
        "unknown_correlator",
        "pool_full",
        "answers_overrun",
        "shed",
        "link_up",
        "link_down",
        "dial_failed",
        "home_up",
        "home_down",
        "home_moved",
        "home_doubt_ignored",
        "home_doubted_by_server",
        "home_doubted_by_network",
        "clock_offset",
        "subscriber_came",
        "subscriber_lost",
        "subscriber_returned",
        "subscriber_refused",
        "subscription_refused",
        "notify_gap",
        "roster_came",
        "slept",
        "moved",
        "roster_names_self",
        "frame_rejected",
        "silent_caller",
        "call_refused",
    ];
}
