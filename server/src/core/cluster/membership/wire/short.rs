//! The short form of a probe and its answer, for a connection whose ends have said in Hello which lives they are.
//!
//! ```text
//! short = 2 | tag | bump of the sender | its incarnation | bump of the receiver | number of the probe | [count (u16) | updates]
//! ```
//!
//! The first three numbers are varints; a count of 0 is left out. Ids and generations are those of the connection's ends: 46 of
//! 56 bytes, and the same in every message. What is of another start than Hello has no short form. Only for whom has said that it reads
//! it (`capability::SHORT_GOSSIP`); the whole form is always read.

use bytes::Buf;
use foca::{Header, Message};
use pams_shared::id::ServerId;

use super::{super::identity::Identity, WireError, get, get_header, get_number, header, put_number};

/// Version of this form.
pub(super) const SHORT: u8 = 2;

/// A start of a server: its id and generation.
pub type Start = (ServerId, u64);

/// The short form of a message to be sent, or the message as it is if it has none.
pub fn shorten(whole: Vec<u8>, sender: Start, receiver: Start) -> Vec<u8> {
    let mut updates = &whole[..];
    let Ok(Header { src, src_incarnation, dst, message }) = get_header(&mut updates) else { return whole };
    let (tag, number) = match message {
        Message::Ping(number) => (1, number),
        Message::Ack(number) => (2, number),
        _ => return whole,
    };
    if start(&src) != sender || start(&dst) != receiver {
        return whole;
    }
    let mut short = vec![SHORT, tag];
    for part in [src.bump.into(), src_incarnation.into(), dst.bump.into()] {
        put_number(part, &mut short);
    }
    short.push(number);
    if updates != [0, 0] {
        short.extend(updates);
    }
    short
}

/// The whole form of a message that came.
///
/// # Errors
/// It is of the short form and makes no sense.
pub fn lengthen(came: Vec<u8>, sender: Start, receiver: Start) -> Result<Vec<u8>, WireError> {
    let mut buf = &came[..];
    if buf.first() != Some(&SHORT) {
        return Ok(came);
    }
    buf.advance(1);
    let tag = get(&mut buf, 1, "the tag", Buf::get_u8)?;
    let src = life(sender, get_number(&mut buf, "a bump")?)?;
    let src_incarnation = get_number(&mut buf, "an incarnation")?;
    let src_incarnation = u16::try_from(src_incarnation).map_err(|_| WireError::Number("an incarnation"))?;
    let dst = life(receiver, get_number(&mut buf, "a bump")?)?;
    let number = get(&mut buf, 1, "the probe's number", Buf::get_u8)?;
    let message = match tag {
        1 => Message::Ping(number),
        2 => Message::Ack(number),
        value => return Err(WireError::Unknown { what: "the tag of a short message", value }),
    };
    let mut whole = header(&Header { src, src_incarnation, dst, message })?;
    whole.extend(buf);
    Ok(whole)
}

fn start(of: &Identity) -> Start {
    (of.id, of.generation)
}

fn life((id, generation): Start, bump: u64) -> Result<Identity, WireError> {
    let bump = u32::try_from(bump).map_err(|_| WireError::Number("a bump"))?;
    Ok(Identity { id, generation, bump, card: None })
}

#[cfg(test)]
mod tests {
    use pams_shared::frame::{DATAGRAM_BYTES_MAX, Frame, wire::decode};
    use proptest::prelude::*;

    use super::{
        super::{Packet, tests::packets},
        *,
    };

    /// Of `packets`.
    fn ends() -> (Start, Start) {
        let header = packets().swap_remove(0).header;
        (start(&header.src), start(&header.dst))
    }

    #[test]
    fn probes_and_answers_are_short_and_come_out_whole() {
        let (sender, receiver) = ends();
        for packet in packets() {
            let whole = packet.encode().unwrap();
            let short = shorten(whole.clone(), sender, receiver);
            let is_probe = matches!(packet.header.message, Message::Ping(_) | Message::Ack(_));
            assert_eq!(short.len() < whole.len(), is_probe, "{packet:?}");
            let long = lengthen(short, sender, receiver).unwrap();
            assert_eq!(Packet::decode(&long).unwrap(), packet);
        }
        let probe = packets().swap_remove(0).encode().unwrap();
        assert_eq!(shorten(probe, sender, receiver), [SHORT, 1, 0, 7, 9, 0]);
    }

    #[test]
    fn what_is_of_another_start_stays_whole() {
        let ((from, generation), receiver) = ends();
        let probe = packets().swap_remove(0).encode().unwrap();
        for sender in [(from, generation + 1), (receiver.0, generation)] {
            assert_eq!(shorten(probe.clone(), sender, receiver), probe);
            assert_eq!(shorten(probe.clone(), receiver, sender), probe);
        }
        let garbage = vec![7, 7, 7];
        assert_eq!(shorten(garbage.clone(), receiver, receiver), garbage);
        assert_eq!(lengthen(probe.clone(), receiver, receiver), Ok(probe));
    }

    #[test]
    fn what_is_cut_short_or_not_short_is_refused() {
        let (sender, receiver) = ends();
        for length in 1..6 {
            assert!(lengthen([SHORT, 1, 0, 7, 9, 0][..length].to_vec(), sender, receiver).is_err(), "{length}");
        }
        let tag = lengthen(vec![SHORT, 3, 0, 7, 9, 0], sender, receiver);
        assert_eq!(tag, Err(WireError::Unknown { what: "the tag of a short message", value: 3 }));
        let bump = lengthen(vec![SHORT, 1, 0xff, 0xff, 0xff, 0xff, 0x7f, 7, 9, 0], sender, receiver);
        assert_eq!(bump, Err(WireError::Number("a bump")));
    }

    /// As 0.2 first wrote them.
    #[test]
    fn the_golden_frames_are_read() {
        let (sender, receiver) = ends();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/tests/golden/0.2/");
        for (name, message) in [("gossip_short_probe", Message::Ping(200)), ("gossip_short_answer", Message::Ack(200))]
        {
            let hex = std::fs::read_to_string(format!("{folder}{name}.hex")).unwrap();
            let digits: Vec<_> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
            let bytes: Vec<_> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
            let Ok(Frame::Gossip(swim)) = decode(&bytes, DATAGRAM_BYTES_MAX) else { panic!("{name}") };
            let packet = Packet::decode(&lengthen(swim.clone(), sender, receiver).unwrap()).unwrap();
            assert_eq!((&packet.header.message, packet.header.src.bump), (&message, 300), "{name}");
            assert_eq!((packet.header.src_incarnation, packet.header.dst.bump), (7, 9), "{name}");
            assert_eq!(shorten(packet.encode().unwrap(), sender, receiver), swim, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let (sender, receiver) = ends();
            let _ = shorten(bytes.clone(), sender, receiver);
            if let Ok(whole) = lengthen([&[SHORT][..], &bytes].concat(), sender, receiver) {
                let _ = Packet::decode(&whole);
            }
        }
    }
}
