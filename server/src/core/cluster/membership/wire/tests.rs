//! What is written is read again; anything else is an error.

use proptest::prelude::*;

use super::{
    super::{GOSSIP_BYTES_MAX, tests::member},
    *,
};

fn life(n: u8, bump: u32) -> Identity {
    let mut member = member(n);
    member.addresses.push("[2001:db8::1]:65535".parse().expect("an address"));
    let card = Arc::new(Card::new(3, member));
    Identity { bump, ..Identity::first(card) }
}

fn packet(message: Message<Identity>, updates: Vec<Update>) -> Packet {
    Packet { header: Header { src: life(1, 0), src_incarnation: 7, dst: life(2, 9), message }, updates }
}

pub(super) fn packets() -> Vec<Packet> {
    let (other, probe_number) = (life(3, u32::MAX), 200);
    let updates = vec![
        Update::new(life(4, 0), 0, State::Alive),
        Update::new(life(5, 1), u16::MAX, State::Suspect),
        Update::new(life(6, u32::MAX), 1, State::Down),
    ];
    vec![
        packet(Message::Ping(0), vec![]),
        packet(Message::Ack(255), updates.clone()),
        packet(Message::PingReq { target: other.clone(), probe_number }, vec![]),
        packet(Message::IndirectPing { origin: other.clone(), probe_number }, vec![]),
        packet(Message::IndirectAck { target: other.clone(), probe_number }, vec![]),
        packet(Message::ForwardedAck { origin: other, probe_number }, updates.clone()),
        packet(Message::Announce, vec![]),
        packet(Message::Feed, updates.clone()),
        packet(Message::Gossip, updates),
        packet(Message::TurnUndead, vec![]),
    ]
}

#[test]
fn what_is_written_is_read_with_its_cards() {
    for packet in packets() {
        let bytes = packet.encode().expect("it fits");
        let read = Packet::decode(&bytes).expect("what was written");
        assert_eq!(read, packet);
        for (read, said) in read.updates.iter().zip(&packet.updates) {
            assert_eq!(read.id().card, said.id().card);
        }
        let is_news =
            matches!(packet.header.message, Message::Announce | Message::Feed | Message::Gossip | Message::TurnUndead);
        assert_eq!(read.header.src.card.is_some(), is_news);
    }
}

#[test]
fn a_probe_is_small_and_the_longest_message_holds_two_of_the_longest_updates() {
    let probe = packet(Message::Ping(1), vec![]).encode().expect("it fits");
    assert!(probe.len() <= 64, "{}", probe.len());

    let mut long = member(1);
    (long.generation, long.name, long.region) = (u64::MAX, "n".repeat(500), "r".repeat(500));
    long.addresses = vec!["[2001:db8::1]:65535".parse().expect("an address"); 20];
    long.http = Some(long.addresses[0]);
    let life = Identity { bump: u32::MAX, ..Identity::first(Arc::new(Card::new(u32::MAX, long))) };
    let one = Update::new(life.clone(), u16::MAX, State::Alive);
    for message in [Message::Gossip, Message::PingReq { target: life.clone(), probe_number: 1 }] {
        let is_gossip = message == Message::Gossip;
        let updates = vec![one.clone(); if is_gossip { 1 } else { 2 }];
        let header = Header { src: life.clone(), src_incarnation: 1, dst: life.clone(), message };
        let bytes = Packet { header, updates }.encode().expect("it fits");
        assert!(bytes.len() <= GOSSIP_BYTES_MAX, "{}", bytes.len());
        assert!(Packet::decode(&bytes).is_ok());
    }
}

#[test]
fn a_later_version_may_append_to_a_card() {
    let plain = packet(Message::Gossip, vec![]).encode().expect("it fits");
    let at = 2 + 16 + 6 + 1;
    let length = u16::from_be_bytes([plain[at], plain[at + 1]]);
    let mut longer = plain[..at].to_vec();
    longer.put_u16(length + 3);
    longer.extend(&plain[at + 2..at + 2 + usize::from(length)]);
    longer.extend([1, 2, 3]);
    longer.extend(&plain[at + 2 + usize::from(length)..]);
    assert_eq!(Packet::decode(&longer).expect("still read"), packet(Message::Gossip, vec![]));
}

#[test]
fn what_is_cut_short_or_too_long_is_refused() {
    for packet in packets() {
        let bytes = packet.encode().expect("it fits");
        let head = header(&packet.header).expect("it fits").len();
        for length in (0..bytes.len()).filter(|length| *length != head) {
            assert!(Packet::decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Packet::decode(&longer).is_err());
    }
    assert_eq!(Packet::decode(&[2, 1]), Err(WireError::Version(2)));
    assert_eq!(get_number(&mut &[0xff; 10][..], "x"), Err(WireError::Number("x")));
    assert_eq!(get_number(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], "x"), Ok(u64::MAX));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Packet::decode(&bytes);
        let _ = Packet::decode(&[&[VERSION, 0x89][..], &bytes].concat());
    }

    #[test]
    fn any_change_to_a_message_is_a_message_or_an_error(
        which in 0..10_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = packets()[which].encode().expect("it fits");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(packet) = Packet::decode(&bytes) {
            prop_assert!(packet.encode().expect("what was read").len() <= bytes.len() + 2);
        }
    }

    #[test]
    fn every_number_is_read_as_written(number: u64) {
        let mut bytes = Vec::new();
        put_number(number, &mut bytes);
        prop_assert_eq!(get_number(&mut &bytes[..], "x"), Ok(number));
    }
}
