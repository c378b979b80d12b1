//! What others may say, and the bounds: nothing that comes in is believed unread, and nothing grows for ever.

use foca::{Header, Message};
use proptest::prelude::*;

use super::{
    super::{
        wire::{Packet, Update},
        *,
    },
    MS, SECOND, lossy, member,
    net::Net,
};

const NOW: Moment = Moment::new(5_000_000_000, 0);

fn engine(config: MembershipConfig) -> Membership {
    Membership::new(member(1), config, [1; 32], NOW)
}

/// Server 1 that has met server 2, with nothing left to poll.
fn met() -> Membership {
    let mut engine = engine(MembershipConfig::default());
    engine.handle(NOW, Input::Met(member(2)));
    while engine.poll().is_some() {}
    engine
}

fn life(n: u8) -> Identity {
    Identity::first(Arc::new(Card::new(0, member(n))))
}

fn message(src: Identity, dst: Identity, updates: Vec<Update>) -> Vec<u8> {
    let header = Header { src, src_incarnation: 0, dst, message: Message::Gossip };
    Packet { header, updates }.encode().expect("it fits")
}

fn gossip(from: u8, bytes: Vec<u8>) -> Input {
    Input::Gossip { from: member(from).id, bytes }
}

fn notices(engine: &mut Membership) -> Vec<Notice> {
    std::iter::from_fn(|| engine.poll())
        .filter_map(|o| if let Output::Notice(notice) = o { Some(notice) } else { None })
        .collect()
}

#[test]
fn a_message_counts_only_from_the_server_it_names_and_for_us() {
    let mut engine = met();
    engine.handle(NOW, gossip(2, message(life(3), life(1), vec![])));
    assert_eq!(notices(&mut engine), [Notice::Forged { from: member(2).id, claimed: member(3).id }]);
    engine.handle(NOW, gossip(1, message(life(1), life(1), vec![])));
    assert_eq!(notices(&mut engine), [Notice::Forged { from: member(1).id, claimed: member(1).id }]);
    engine.handle(NOW, gossip(2, message(life(2), life(3), vec![])));
    assert_eq!(notices(&mut engine), [Notice::Misdelivered { from: member(2).id }]);
    engine.handle(NOW, gossip(2, vec![1, 2, 3]));
    assert_eq!(notices(&mut engine)[0].label(), "garbled");
    assert_eq!(engine.members().count(), 1);
}

#[test]
fn a_stranger_is_not_heard_until_it_says_who_it_is() {
    let mut engine = met();
    let nameless = Identity { card: None, ..life(3) };
    engine.handle(NOW, gossip(3, message(nameless, life(1), vec![])));
    assert_eq!(notices(&mut engine), [Notice::Stranger { from: member(3).id }]);
    engine.handle(NOW, gossip(3, message(life(3), life(1), vec![])));
    assert_eq!(notices(&mut engine), []);
    assert_eq!(engine.members().count(), 2);
}

#[test]
fn gossip_of_a_later_start_of_ours_is_neither_believed_nor_passed_on() {
    let mut engine = met();
    let later = Identity { generation: u64::MAX, ..life(1) };
    let updates = vec![Update::down(later), Update::alive(life(3))];
    engine.handle(NOW, gossip(2, message(life(2), life(1), updates)));
    assert!(engine.members().any(|s| s.member.id == member(3).id), "the rest of it is");
    let mut told = Vec::new();
    engine.handle(NOW + 20 * MS, Input::Tick);
    while let Some(output) = engine.poll() {
        match output {
            Output::Send { bytes, .. } => told.extend(Packet::decode(&bytes).expect("ours").updates),
            Output::Notice(notice) => assert_eq!(notice, Notice::Impostor { generation: u64::MAX }),
            Output::Changed { .. } => {}
        }
    }
    assert!(!told.is_empty());
    assert!(told.iter().all(|u| u.id().id != member(1).id));
}

#[test]
fn an_older_start_is_not_met() {
    let mut engine = met();
    let older = Member { generation: 5, ..member(2) };
    engine.handle(NOW, Input::Met(older));
    let known = member(2).generation;
    assert_eq!(notices(&mut engine), [Notice::OldGeneration { id: member(2).id, said: 5, known }]);
    engine.handle(NOW, Input::Met(member(1)));
    assert_eq!(notices(&mut engine), []);
    assert_eq!(engine.members().count(), 1);
}

#[test]
fn members_are_bounded_and_those_down_make_room() {
    let mut engine = engine(MembershipConfig { members_max: 3, ..MembershipConfig::default() });
    for n in 2..6 {
        engine.handle(NOW, Input::Met(member(n)));
    }
    assert_eq!(notices(&mut engine), [Notice::MembersFull { id: member(5).id }]);
    assert_eq!(engine.members().count(), 3);

    let updates = vec![Update::alive(life(9))];
    engine.handle(NOW, gossip(2, message(life(2), life(1), updates)));
    assert_eq!(notices(&mut engine), [Notice::MembersFull { id: member(9).id }]);

    let updates = vec![Update::down(life(4))];
    engine.handle(NOW, gossip(2, message(life(2), life(1), updates)));
    engine.handle(NOW, Input::Met(member(5)));
    assert_eq!(notices(&mut engine), [Notice::Evicted { id: member(4).id }]);
    let ids: Vec<_> = engine.members().map(|s| s.member.id).collect();
    assert_eq!(ids, [2, 3, 5].map(|n| member(n).id));
    assert!(engine.cards.len() <= 3);
}

#[test]
fn one_down_is_forgotten_in_time_and_while_it_is_not_its_timers_do_not_pile_up() {
    let config = MembershipConfig { forget_after: 600 * SECOND, ..MembershipConfig::default() };
    let mut net = Net::with(1, 3, lossy(0.01), config);
    for _ in 0..40 {
        net.part(&[0], &[1, 2], pams_shared::sim::Link::PARTITION);
        net.run_for(3 * SECOND);
        net.heal(&[0], &[1, 2]);
        net.run_for(2 * SECOND);
    }
    assert!((0..3).all(|n| net.engine(n).timers.len() < 12), "{:?}", net.engine(0).timers);
    net.crash(2);
    net.run_for(590 * SECOND);
    assert_eq!(net.state(0, 2), Some(State::Down));
    net.run_for(20 * SECOND);
    assert_eq!(net.state(0, 2), None);
    assert!(net.is_whole());
}

#[test]
fn outputs_that_nobody_takes_are_bounded_but_for_changes() {
    let mut engine = met();
    for _ in 0..2 * OUTPUTS_MAX {
        engine.handle(NOW, gossip(2, vec![]));
    }
    engine.handle(NOW, Input::Met(member(3)));
    let outputs: Vec<_> = std::iter::from_fn(|| engine.poll()).collect();
    assert!(outputs.len() <= OUTPUTS_MAX + 2);
    assert!(outputs.iter().any(|o| matches!(o, Output::Notice(Notice::Shed { count }) if *count > 8_000)));
    assert!(outputs.iter().any(|o| matches!(o, Output::Changed { state: State::Alive, .. })));
}

#[test]
fn after_leaving_nothing_brings_us_back() {
    let mut net = Net::new(1, 3, lossy(0.0));
    net.input(2, Input::Leave);
    net.input(2, Input::Met(member(1)));
    net.run_for(10 * SECOND);
    assert_eq!((net.state(0, 2), net.state(1, 2)), (Some(State::Left), Some(State::Left)));
    assert!(net.engine(2).deadline().is_none(), "it has nothing more to do");
    net.sent.clear();
    net.run_for(10 * SECOND);
    assert!(net.sent.keys().all(|(from, to)| ![*from, *to].contains(&2)), "nor is it called: {:?}", net.sent);
}

#[test]
fn a_suspect_that_answers_is_told_that_it_is_one() {
    let mut engine = met();
    engine.handle(NOW, gossip(2, message(life(2), life(1), vec![Update::alive(life(3))])));
    engine.handle(NOW, gossip(2, message(life(2), life(1), vec![Update::new(life(3), 4, foca::State::Suspect)])));
    while engine.poll().is_some() {}
    let header = Header { src: life(3), src_incarnation: 4, dst: life(1), message: Message::Ping(1) };
    let ping = Packet { header, updates: vec![] }.encode().expect("it fits");
    engine.handle(NOW, gossip(3, ping));
    let told = std::iter::from_fn(|| engine.poll()).find_map(|output| match output {
        Output::Send { to, bytes } if to == member(3).id => Packet::decode(&bytes).ok(),
        _ => None,
    });
    assert_eq!(told.expect("it is told").updates, [Update::new(life(3), 4, foca::State::Suspect)]);
}

#[test]
fn a_flap_is_not_told() {
    let mut engine = met();
    let updates = vec![Update::alive(life(3))];
    engine.handle(NOW, gossip(2, message(life(2), life(1), updates)));
    while engine.poll().is_some() {}
    let updates = vec![Update::down(life(3))];
    engine.handle(NOW, gossip(2, message(life(2), life(1), updates)));
    let state = |e: &Membership| e.members().find(|s| s.member.id == member(3).id).map(|s| s.state);
    assert_eq!(state(&engine), Some(State::Suspect));
    let back = Identity { bump: 1, ..life(3) };
    engine.handle(NOW + 200 * MS, gossip(3, message(back, life(1), vec![])));
    assert_eq!(state(&engine), Some(State::Alive));
    assert!(notices(&mut engine).contains(&Notice::Flapped { id: member(3).id }));
    // What is said of the life before changes nothing.
    let updates = vec![Update::down(life(3))];
    engine.handle(NOW + 210 * MS, gossip(2, message(life(2), life(1), updates)));
    assert_eq!(state(&engine), Some(State::Alive));
}

proptest! {
    #[test]
    fn any_bytes_at_all_harm_nothing(
        messages in prop::collection::vec((2..5_u8, prop::collection::vec(any::<u8>(), 0..120)), 0..20),
    ) {
        let mut engine = met();
        for (from, bytes) in messages {
            engine.handle(NOW, gossip(from, bytes));
        }
        prop_assert!(notices(&mut engine).iter().all(|n| n.label() == "garbled"));
        prop_assert_eq!(engine.members().count(), 1);
    }

    /// Messages that are well made and say anything: nothing panics, bounds hold, and we are never our own member.
    #[test]
    fn any_gossip_is_survived(
        said in prop::collection::vec((2..4_u8, 1..9_u8, 0..3_u64, any::<u32>(), any::<u16>(), 0..3_u8), 1..40),
    ) {
        let mut engine = engine(MembershipConfig { members_max: 5, ..MembershipConfig::default() });
        engine.handle(NOW, Input::Met(member(2)));
        engine.handle(NOW, Input::Met(member(3)));
        let mut now = NOW;
        for (from, of, generation, bump, incarnation, state) in said {
            let state = [foca::State::Alive, foca::State::Suspect, foca::State::Down][usize::from(state)];
            let generation = member(of).generation - 1 + generation;
            let about = Identity { generation, bump, ..life(of) };
            let update = Update::new(about, incarnation, state);
            now += 70 * MS;
            engine.handle(now, gossip(from, message(life(from), life(1), vec![update])));
            while let Some(output) = engine.poll() {
                if let Output::Changed { member: changed, .. } = output {
                    prop_assert_ne!(changed.id, member(1).id);
                }
            }
            prop_assert!(engine.members().count() <= 5);
        }
    }
}
