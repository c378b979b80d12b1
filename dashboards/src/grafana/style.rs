//! One colour, one meaning, on all dashboards: the same word has the same colour everywhere.

use pams_server::core::view::MemberState;
use pams_shared::{
    record::{Outcome, Stage},
    status::{Liveness, Status},
};

pub const GREEN: &str = "#73BF69";
pub const YELLOW: &str = "#FADE2A";
pub const ORANGE: &str = "#FF9830";
pub const RED: &str = "#F2495C";
pub const BLUE: &str = "#5794F2";
pub const PURPLE: &str = "#B877D9";
pub const PALE: &str = "#8AB8FF";
pub const TEAL: &str = "#37A6A6";
pub const GREY: &str = "#8E8E8E";
/// Where nothing is good or bad.
pub const PLAIN: &str = "text";

/// Series by name, and their colours.
pub type Colours = Vec<(&'static str, &'static str)>;

pub fn liveness() -> Colours {
    let colour = |l| match l {
        Liveness::Live => GREEN,
        Liveness::Overdue => YELLOW,
        Liveness::Gone => RED,
        Liveness::Left => PALE,
    };
    Liveness::ALL.map(|l| (l.as_str(), colour(l))).into_iter().chain([("unknown", GREY)]).collect()
}

pub fn status() -> Colours {
    let colour = |s| match s {
        Status::Online => GREEN,
        Status::Busy => ORANGE,
        Status::Away => YELLOW,
        Status::Offline => PALE,
    };
    Status::ALL.map(|s| (s.as_str(), colour(s))).into_iter().chain([("unknown", GREY)]).collect()
}

pub fn stages() -> Colours {
    let colour = |s| match s {
        Stage::Queued => PURPLE,
        Stage::Network => BLUE,
        Stage::RemoteHold => ORANGE,
        Stage::LocalWait => YELLOW,
        Stage::Run => GREEN,
        Stage::Blocked => RED,
    };
    Stage::ALL.map(|s| (s.as_str(), colour(s))).into()
}

pub fn outcomes() -> Colours {
    let colour = |o| match o {
        Outcome::Good => GREEN,
        Outcome::Aborted => ORANGE,
        Outcome::Failed => RED,
        Outcome::Unknown => GREY,
    };
    Outcome::ALL.map(|o| (o.as_str(), colour(o))).into()
}

/// Servers, as another sees them.
pub fn members() -> Colours {
    let colour = |s| match s {
        MemberState::Me | MemberState::Alive => GREEN,
        MemberState::Suspect => YELLOW,
        MemberState::Down => RED,
        MemberState::Left => PALE,
    };
    MemberState::ALL.map(|s| (s.as_str(), colour(s))).into()
}

/// What is known of a time that cannot be measured: it lies between the two.
pub fn bounds() -> Colours {
    vec![("least", GREEN), ("most", ORANGE)]
}

/// Quantiles and means.
pub fn quantiles() -> Colours {
    vec![("p50", BLUE), ("p95", ORANGE), ("p99", RED)]
}
