//! What a server among others concludes while it hears nobody.

use pams_shared::{frame::Member, id::ServerId};

use super::{
    super::cluster::io::{LinkId, SiblingInput},
    *,
};

fn member(n: u8) -> Member {
    let (name, region, software) = (String::new(), String::new(), String::new());
    Member {
        id: ServerId::from_bytes([n; 16]),
        generation: 1,
        name,
        addresses: Vec::new(),
        http: None,
        region,
        software,
    }
}

/// Home of `a` and `b`, which reported at 1 s and 1.2 s; another server was heard at 1 s.
fn among_two() -> Run {
    let me = Myself { member: member(1), seed: [1; 32], ..Myself::alone() };
    let mut run =
        Run { pams: Pams::among(me, PamsConfig::default(), at(0)), asked: BTreeMap::new(), said: String::new() };
    run.input(0, "<", "open #1 a");
    run.input(0, "<", "open #2 b");
    run.tick_until(at(1_000)).sibling(1_000);
    run.input(1_000, "<", "report #1 1");
    run.input(1_200, "<", "report #2 1");
    run
}

impl Run {
    fn sibling(&mut self, ms: u64) {
        let (link, member) = (LinkId(ms), Box::new(member(2)));
        let linked = SiblingInput::Linked { link, member, capabilities: 0, dialled: true, same_host: false };
        self.pams.handle(at(ms), Input::Sibling(linked));
        self.drain();
    }

    fn stands(&mut self, ms: u64, peer: &str) -> Liveness {
        self.tick_until(at(ms));
        self.pams.peer(at(ms), id(peer)).unwrap().home.liveness
    }
}

#[test]
fn who_hears_nobody_takes_nobody_for_gone() {
    let mut run = among_two();
    assert_eq!(run.stands(3_100, "a"), Liveness::Overdue);
    assert_eq!(run.stands(30_000, "a"), Liveness::Overdue);
    // One is back: from then on the silence of the other counts.
    run.input(30_000, "<", "report #2 2");
    assert_eq!(run.stands(30_100, "b"), Liveness::Live);
    for ms in [31_500, 33_000, 34_400, 35_900] {
        run.tick_until(at(ms)).input(ms, "<", "report #2 3");
    }
    assert_eq!(run.stands(36_000, "a"), Liveness::Gone);
    assert_eq!(run.stands(36_100, "b"), Liveness::Live);
}

#[test]
fn while_anybody_is_heard_silence_counts() {
    let mut run = among_two();
    for ms in [2_500, 4_000, 5_400] {
        run.tick_until(at(ms)).sibling(ms);
    }
    assert_eq!(run.stands(5_400, "a"), Liveness::Overdue);
    assert_eq!((run.stands(5_600, "a"), run.stands(5_800, "b")), (Liveness::Gone, Liveness::Gone));
}

#[test]
fn the_dead_are_gone_in_the_end() {
    let mut run = among_two();
    assert_eq!(run.stands(60_000, "a"), Liveness::Overdue);
    assert_eq!(run.stands(63_000, "a"), Liveness::Gone);
}
