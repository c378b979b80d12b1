//! Gossip as 0.1 spoke it.
//!
//! ```text
//! message = 1 | tag | [card] | life of the sender | its incarnation | life of the receiver | what the tag asks for
//!           | [count (u16) | updates]
//! update  = life | incarnation | state | card
//! life    = id (16) | generation (varint) | bump (varint)
//! card    = length (u16) | what a member says of itself
//! ```
//!
//! The card, if bit 7 of the tag says that there is one, stands behind the life of the sender.

const PING: u8 = 1;
const ACK: u8 = 2;
const TURN_UNDEAD: u8 = 10;
const WITH_CARD: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub id: [u8; 16],
    pub generation: u64,
    pub bump: u64,
}

/// A member of 0.1 as far as it takes to be one: it answers probes, probes whoever probes it, and objects to suspicions.
#[derive(Debug)]
pub struct Member {
    me: Life,
    incarnation: u16,
    number: u8,
    /// Answers that it has got.
    pub acks: u32,
}

impl Member {
    pub fn new(id: [u8; 16], generation: u64) -> Self {
        Self { me: Life { id, generation, bump: 0 }, incarnation: 0, number: 0, acks: 0 }
    }

    /// What to send because of this message; everything in it must be of the form of 0.1.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut buf = bytes;
        assert_eq!(byte(&mut buf), 1, "0.1 reads no other form of gossip: {bytes:?}");
        let tag = byte(&mut buf);
        let from = life(&mut buf);
        if tag & WITH_CARD != 0 {
            card(&mut buf);
        }
        word(&mut buf);
        assert_eq!((life(&mut buf).id, from.id == self.me.id), (self.me.id, false), "it is for us");
        let tag = tag & !WITH_CARD;
        assert!((1..=TURN_UNDEAD).contains(&tag), "0.1 knows no gossip {tag}");
        if (3..=6).contains(&tag) {
            life(&mut buf);
        }
        let number = if tag <= 6 { byte(&mut buf) } else { 0 };
        let count = if buf.is_empty() { 0 } else { word(&mut buf) };
        for _ in 0..count {
            self.update(&mut buf);
        }
        assert!(buf.is_empty(), "{} bytes after the end", buf.len());
        match tag {
            PING => {
                self.number = self.number.wrapping_add(1);
                vec![self.message(ACK, from, number), self.message(PING, from, self.number)]
            }
            ACK => {
                self.acks += u32::from(number == self.number);
                Vec::new()
            }
            TURN_UNDEAD => {
                self.me.bump += 1;
                vec![self.message(PING, from, self.number)]
            }
            _ => Vec::new(),
        }
    }

    fn update(&mut self, buf: &mut &[u8]) {
        let (of, incarnation, state) = (life(buf), word(buf), byte(buf));
        assert!(state <= 2, "0.1 knows no state {state}");
        card(buf);
        if of == self.me && state == 1 {
            self.incarnation = self.incarnation.max(incarnation + 1);
        } else if of == self.me && state == 2 {
            self.me.bump += 1;
        }
    }

    fn message(&self, tag: u8, to: Life, number: u8) -> Vec<u8> {
        let mut bytes = vec![1, tag];
        put(self.me, &mut bytes);
        bytes.extend(self.incarnation.to_be_bytes());
        put(to, &mut bytes);
        bytes.extend([number, 0, 0]);
        bytes
    }
}

fn put(of: Life, bytes: &mut Vec<u8>) {
    bytes.extend(of.id);
    prost::encoding::encode_varint(of.generation, bytes);
    prost::encoding::encode_varint(of.bump, bytes);
}

fn life(buf: &mut &[u8]) -> Life {
    let id = take(buf, 16).try_into().unwrap();
    let mut number = || prost::encoding::decode_varint(buf).unwrap();
    Life { id, generation: number(), bump: number() }
}

fn card(buf: &mut &[u8]) {
    let length = word(buf);
    take(buf, length.into());
}

fn word(buf: &mut &[u8]) -> u16 {
    u16::from_be_bytes(take(buf, 2).try_into().unwrap())
}

fn byte(buf: &mut &[u8]) -> u8 {
    take(buf, 1)[0]
}

fn take<'a>(buf: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = buf.split_at(length);
    *buf = rest;
    taken
}
