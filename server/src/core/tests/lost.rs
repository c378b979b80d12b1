//! Whom a server tells of another that it has found down, and when it tells nobody.

use std::collections::BTreeSet;

use pams_shared::{
    frame::{Deltas, HomeLost, Lot, Member, Packed, Profile, Shared, capability},
    id::ServerId,
};

use super::{
    super::{
        cluster::{
            io::{FollowId, LinkId, SiblingInput, SiblingOutput},
            lost::Told,
            membership::State,
        },
        notice::Notice,
    },
    *,
};

const fn server(n: u8) -> ServerId {
    ServerId::from_bytes([n; 16])
}

fn member(n: u8) -> Member {
    let (name, region, software) = (String::new(), String::new(), String::new());
    Member { id: server(n), generation: 1, name, addresses: Vec::new(), http: None, region, software }
}

fn peer(n: u64) -> PeerId {
    PeerId::from_bytes((u128::from(n) + (1 << 64)).to_be_bytes())
}

/// Us, and server 2, which has so many agents and is about to fall silent.
struct Scene {
    pams: Pams,
    follow: Option<FollowId>,
    down: Option<Moment>,
    tells: Vec<(Moment, PeerId, HomeLost)>,
}

impl Scene {
    fn new(agents: u64) -> Self {
        let me = Myself { member: member(1), seed: [1; 32], ..Myself::alone() };
        let mut scene =
            Self { pams: Pams::among(me, PamsConfig::default(), at(0)), follow: None, down: None, tells: Vec::new() };
        let (link, member) = (LinkId(1), Box::new(member(2)));
        let linked = SiblingInput::Linked { link, member, capabilities: 0, dialled: true, same_host: false };
        scene.sibling(0, linked);
        let follow = scene.follow.expect("it is followed");
        let lot = |n: u64| Lot {
            liveness: Liveness::Live,
            observed: Some(([192, 0, 2, 1], 7_000 + n as u16).into()),
            profile: Profile { capabilities: if n == 0 { 0 } else { capability::HOME_LOST }, ..Profile::default() },
            ..Lot::default()
        };
        let shared = |n: u64| Shared {
            peer: peer(n),
            generation: 1,
            seq: n + 1,
            epoch: 1,
            attach: 1,
            lot: Some(Packed::new(&lot(n))),
            banned: false,
        };
        let deltas = |anew, bulk_end, entries| Deltas {
            owner: server(2),
            generation: 1,
            anew,
            bulk: true,
            bulk_end,
            upto: agents,
            entries,
            digest: None,
        };
        for deltas in [deltas(true, false, Vec::new()), deltas(false, true, (0..agents).map(shared).collect())] {
            scene.sibling(0, SiblingInput::Deltas { follow, deltas: Box::new(deltas) });
        }
        scene
    }

    fn sibling(&mut self, ms: u64, input: SiblingInput) {
        self.input(ms, Input::Sibling(input));
    }

    fn input(&mut self, ms: u64, input: Input) {
        self.pams.handle(at(ms), input);
        while let Some(output) = self.pams.poll() {
            match output {
                Output::Sibling(SiblingOutput::Follow { follow, .. }) => self.follow = Some(follow),
                Output::Sibling(SiblingOutput::Tell { peer, what, addresses }) => {
                    assert_eq!(addresses.len(), 1);
                    self.tells.push((at(ms), peer, what));
                }
                Output::Notice(Notice::Server { state: State::Down, .. }) => self.down = Some(at(ms)),
                _ => {}
            }
        }
    }

    /// Time passes, in which an agent of ours is heard, or nobody.
    fn pass(&mut self, ms: std::ops::Range<u64>, hears: bool) {
        for ms in ms.step_by(50) {
            let input = if hears { Input::Heard { session: SessionId(1) } } else { Input::Tick };
            self.input(ms, input);
        }
    }

    fn open(&mut self, ms: u64, session: u64, peer: PeerId) {
        let hello = pams_shared::frame::Hello {
            software: String::new(),
            epoch: 1,
            capabilities: 0,
            wall_ms: at(ms).wall_ms(),
            attach: 2,
            profile: Some(Profile::default()),
            member: None,
        };
        let observed = ([192, 0, 2, 2], 7_000).into();
        let session = SessionId(session);
        self.input(ms, Input::Opened { session, peer, hello: Box::new(hello), observed, same_host: false });
    }

    fn told(&self) -> BTreeSet<PeerId> {
        self.tells.iter().map(|(_, peer, _)| *peer).collect()
    }
}

#[test]
fn agents_of_a_server_that_is_down_are_told_once_each_at_a_pace_and_not_those_that_came() {
    let mut scene = Scene::new(101);
    scene.open(1_500, 1, PeerId::from_bytes([9; 16]));
    for (n, moved) in [(2, 50), (3, 100)] {
        scene.open(1_600, n, peer(moved));
    }
    scene.pass(1_700..4_000, true);
    let down = scene.down.expect("it is silent");
    scene.pass(4_000..6_000, true);
    // As many calls at once as may be, until they end.
    assert_eq!(scene.tells.len(), 64);
    for peer in scene.told() {
        let told = if peer == self::peer(1) { Told::Asks } else { Told::Unreachable };
        scene.sibling(6_000, SiblingInput::Told { peer, told });
    }
    scene.pass(6_000..8_000, true);
    // All but the one that is too old to listen, and those that are ours by now.
    let all: BTreeSet<PeerId> = (1..101).filter(|n| ![50, 100].contains(n)).map(peer).collect();
    assert_eq!((scene.told(), scene.tells.len()), (all.clone(), all.len()));
    let within = |from: Moment, ms: u64| {
        scene.tells.iter().filter(|(at, ..)| *at >= from && at.since(from) < Duration::from_millis(ms)).count()
    };
    assert!(within(down, 100) <= 20 && within(down, 300) <= 60, "in steps");
    let what = scene.tells[0].2;
    assert_eq!((what.server, what.generation), (server(2), 1));
    let counts = scene.pams.cluster(at(8_000)).counts;
    assert_eq!((counts.told_asks, counts.told_unreachable), (1, 63));
}

#[test]
fn who_hears_nobody_tells_nobody_and_who_lets_many_in_tells_later() {
    let mut scene = Scene::new(20);
    scene.pass(100..20_000, false);
    assert!(scene.down.is_some() && scene.tells.is_empty(), "it is the one that is cut off");

    let mut scene = Scene::new(20);
    scene.open(1_500, 1, PeerId::from_bytes([9; 16]));
    let mut session = 100;
    for ms in (1_600..6_000).step_by(50) {
        for _ in 0..10 {
            session += 1;
            scene.open(ms, session, PeerId::from_bytes(u128::from(session).to_be_bytes()));
        }
        scene.pass(ms..ms + 50, true);
    }
    assert!(scene.down.is_some() && scene.tells.is_empty());
    scene.pass(6_000..6_500, true);
    assert_eq!(scene.told().len(), 19);
}
