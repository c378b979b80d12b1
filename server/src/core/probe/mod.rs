//! Probes: how a peer is right now, asked of whoever can tell. Its home asks it itself, over the session that it has, and has
//! one other agent ping it, a *witness*: so a peer that hangs, one that is cut off from its home alone, and a home that is cut
//! off are told apart. A server that is not the home asks the home, and that one asks no other server, so that there are no loops;
//! where the home is silent, agents here are the witnesses.
//!
//! Each probe is answered by its deadline, come what may. All are bounded: those that are open, how often one caller may ask,
//! and how often one peer may be asked for; so nobody can be flooded by way of us.

mod answer;
mod course;
mod limits;
mod who;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use pams_shared::{
    frame::{Finding, Rejected, Rejection, Role},
    id::{Correlator, Minter, PeerId, ServerId},
    moment::Moment,
};

pub use self::answer::{Found, ProbeAnswer, ProbeVerdict};
use self::limits::Limit;
use super::{SessionId, cluster::io::LinkId};

/// Bounds of how long an answer may take.
pub const WITHIN_MIN: Duration = Duration::from_millis(100);
pub const WITHIN_MAX: Duration = Duration::from_secs(10);
/// How long it may take unless that is said.
pub const WITHIN: Duration = Duration::from_secs(2);
/// Probes that are open at once; further ones are refused.
const OPEN_MAX: usize = 256;
/// Of one peer: so often, and so many in a row.
const TARGET_EVERY: Duration = Duration::from_secs(1);
const TARGET_BURST: u32 = 5;
/// By one caller.
const CALLER_EVERY: Duration = Duration::from_millis(200);
const CALLER_BURST: u32 = 20;
/// By all callers on the TCP port together: what they have open leaves room for operators, however long each takes.
const HTTP_EVERY: Duration = Duration::from_millis(50);
const HTTP_BURST: u32 = 40;
const _: () = assert!(HTTP_BURST as u128 + WITHIN_MAX.as_millis() / HTTP_EVERY.as_millis() < OPEN_MAX as u128);
/// Peers, and callers, of whom it is known that they had their share just now.
const TARGETS_MAX: usize = 4_096;
const CALLERS_MAX: usize = 1_024;
const ADDRESSES_MAX: usize = 4_096;

/// One probe; a number that the shell uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// On the admin socket.
    Operator,
    /// On the TCP port, where nobody is asked who they are: those of one address are one caller.
    Http { from: IpAddr },
    /// Another server, whose probe has passed so many servers.
    Sibling { link: LinkId, hops: u32, correlator: Correlator },
}

impl Caller {
    /// Label of the counter of probes.
    pub const fn label(self) -> &'static str {
        match self {
            Caller::Operator => "operator",
            Caller::Http { .. } => "http",
            Caller::Sibling { .. } => "server",
        }
    }

    pub const LABELS: [&'static str; 3] = ["operator", "http", "server"];
}

/// Why there was no probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRefused {
    pub why: Refused,
    /// When to try again; zero: that would not help.
    pub after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This caller may not probe: `probe.http` is off.
    Forbidden,
    /// This caller has asked too often.
    Caller,
    /// Too much was asked of this peer, here or at its home.
    Target,
    /// Too many probes are open.
    Full,
    /// We are not its home, and the probe has come from another server: it goes no further.
    NotHome,
}

impl Refused {
    pub const ALL: [Refused; 5] =
        [Refused::Forbidden, Refused::Caller, Refused::Target, Refused::Full, Refused::NotHome];

    /// Label of the counter of refused probes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refused::Forbidden => "forbidden",
            Refused::Caller => "caller",
            Refused::Target => "target",
            Refused::Full => "full",
            Refused::NotHome => "not_home",
        }
    }

    /// For people, and what to do.
    pub const fn text(self) -> &'static str {
        match self {
            Refused::Forbidden => "probes cannot be asked for on the TCP port of this server",
            Refused::Caller => "too many probes were asked for from here",
            Refused::Target => "this peer was probed too often",
            Refused::Full => "too many probes are under way",
            Refused::NotHome => "this server is not, or no longer, the home of the peer",
        }
    }
}

impl ProbeRefused {
    /// As another server is told.
    pub fn rejected(&self) -> Rejected {
        let code = if self.why == Refused::NotHome { Rejection::Role } else { Rejection::Busy };
        Rejected { code, detail: self.why.text().to_owned() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Operator,
    /// All addresses.
    Http,
    Server(ServerId),
}

/// What one caller on the TCP port can't get out of: its address, of IPv6 the first 64 bits (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix(IpAddr);

impl Prefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(ip) => Self(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

#[derive(Debug)]
pub(super) struct Probes {
    open: BTreeMap<ProbeId, Open>,
    /// When something of a probe is due.
    timers: BTreeSet<(Moment, ProbeId)>,
    /// What agents were asked and have not answered.
    checks: BTreeMap<(SessionId, Correlator), ProbeId>,
    callers: Limit<Key>,
    addresses: Limit<Prefix>,
    http: Limit<Key>,
    targets: Limit<PeerId>,
    minter: Minter,
}

/// A probe that is not answered yet.
#[derive(Debug)]
struct Open {
    peer: PeerId,
    correlator: Correlator,
    began: Moment,
    deadline: Moment,
    /// When an agent of ours is asked too, if the home has not answered.
    witness_at: Option<Moment>,
    home: Home,
    /// Agents that have not answered.
    asked: Vec<Asked>,
    findings: Vec<Finding>,
}

/// The peer's home, as far as this probe is concerned.
#[derive(Debug)]
enum Home {
    Us,
    /// It was asked, and has not answered.
    Asked,
    Answered,
    Unreachable(String),
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    session: SessionId,
    at: Moment,
    /// `None`: it was asked of itself.
    witness: Option<PeerId>,
}

impl Probes {
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            open: BTreeMap::new(),
            timers: BTreeSet::new(),
            checks: BTreeMap::new(),
            callers: Limit::new(CALLER_EVERY, CALLER_BURST, CALLERS_MAX),
            addresses: Limit::new(CALLER_EVERY, CALLER_BURST, ADDRESSES_MAX),
            http: Limit::new(HTTP_EVERY, HTTP_BURST, 1),
            targets: Limit::new(TARGET_EVERY, TARGET_BURST, TARGETS_MAX),
            minter: Minter::new(seed),
        }
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn begin(&mut self, now: Moment, id: ProbeId, (peer, correlator): (PeerId, Correlator), within: Duration) {
        let deadline = now + within;
        let (asked, findings) = (Vec::new(), Vec::new());
        let open = Open { peer, correlator, began: now, deadline, witness_at: None, home: Home::Us, asked, findings };
        self.open.insert(id, open);
        self.timers.insert((deadline, id));
    }

    /// We did not run for so long: whoever was asked may have answered meanwhile.
    pub fn stalled(&mut self, late: Duration) {
        for (id, open) in &mut self.open {
            self.timers.remove(&(open.due(), *id));
            open.deadline += late;
            if let Some(at) = &mut open.witness_at {
                *at += late;
            }
            self.timers.insert((open.due(), *id));
        }
    }

    fn is_used(&self, correlator: Correlator) -> bool {
        self.open.values().any(|open| open.correlator == correlator)
    }

    /// What an agent was asked and has not answered.
    fn load(&self, session: SessionId) -> usize {
        let nothing = Correlator::of_uuid([0; 16]);
        self.checks.range((session, nothing)..).take_while(|((s, _), _)| *s == session).count()
    }
}

impl Open {
    fn due(&self) -> Moment {
        self.witness_at.map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn is_waiting(&self) -> bool {
        !self.asked.is_empty() || matches!(self.home, Home::Asked)
    }
}
