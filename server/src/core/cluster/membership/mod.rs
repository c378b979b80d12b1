//! STUB
use pams_shared::{frame::Member, id::ServerId, moment::Moment};
use std::time::Duration;
#[derive(Clone, Debug, Default)]
pub struct MembershipConfig {}
#[derive(Debug)]
pub struct Membership {}
#[derive(Debug)]
pub enum Input {
    Gossip { from: ServerId, bytes: Vec<u8> },
    Met(Member),
    Parted(ServerId),
    Stalled { late: Duration },
    Leave,
    Tick,
}
#[derive(Debug)]
pub enum Output {
    Send { to: ServerId, bytes: Vec<u8> },
    Changed { member: Member, state: State },
    Notice(Notice),
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Alive,
    Suspect,
    Down,
    Left,
}
#[derive(Clone, Debug)]
pub struct Seen {
    pub member: Member,
    pub state: State,
    pub since: Moment,
}
impl Membership {
    pub fn new(_me: Member, _config: MembershipConfig, _seed: [u8; 32], _now: Moment) -> Self {
        Self {}
    }
    pub fn handle(&mut self, _now: Moment, _input: Input) {}
    pub fn poll(&mut self) -> Option<Output> {
        None
    }
    pub fn deadline(&self) -> Option<Moment> {
        None
    }
    pub fn members(&self) -> impl Iterator<Item = &Seen> {
        std::iter::empty()
    }
}
impl Notice {
    pub const fn label(&self) -> &'static str {
        "x"
    }
    pub const LABELS: &[&str] = &[];
}
