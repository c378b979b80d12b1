//! The engine's messages as bytes.
//!
//! ```text
//! message = version | tag | [card] | life of the sender | its incarnation | life of the receiver | what the tag asks for
//!           | [count (u16) | updates]
//! update  = life | incarnation | state | card
//! life    = id (16) | generation (varint) | bump (varint)
//! card    = length (u16) | edition | name | region | addresses | http
//! ```
//!
//! A probe is some 60 bytes, since cards only ride with news; between two that both read it, 6 (`short`). A card is
//! read up to what we know of it and then skipped, so that later versions may append to it. Every length is checked against what is left; nothing is allocated before.

mod short;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Message, State};
use pams_shared::{
    frame::{ADDRESSES_MAX, NAME_BYTES_MAX, SOFTWARE_BYTES_MAX},
    id::ServerId,
};

pub use self::short::{lengthen, shorten};
use super::{
    Member,
    identity::{Card, Identity, REGION_BYTES_MAX},
};

/// Version of this format.
const VERSION: u8 = 1;
/// Bit of the tag: the sender's card follows.
const WITH_CARD: u8 = 0x80;

/// What the engine calls a member: its knowledge of a life.
pub(super) type Update = foca::Member<Identity>;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("ends within {0}")]
    Short(&'static str),
    #[error("is of version {0}, of which this server knows nothing: run the same release on all servers")]
    Version(u8),
    #[error("has the unknown value {value} for {what}")]
    Unknown { what: &'static str, value: u8 },
    #[error("has a {what} of {is}, more than {max}")]
    Long { what: &'static str, is: usize, max: usize },
    #[error("has a {0} that is no UTF-8")]
    Utf8(&'static str),
    #[error("has a number too great for {0}")]
    Number(&'static str),
    #[error("has {0} bytes after its end")]
    Trailing(usize),
    #[error("does not fit the {0} bytes left")]
    Full(usize),
    #[error("tells of a member without its card")]
    NoCard,
}

/// A message, read whole before anything of it is believed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Packet {
    pub header: Header<Identity>,
    pub updates: Vec<Update>,
}

impl Packet {
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, WireError> {
        let header = get_header(&mut bytes)?;
        let mut updates = Vec::new();
        if !bytes.is_empty() {
            for _ in 0..get(&mut bytes, 2, "the count of updates", Buf::get_u16)? {
                updates.push(get_update(&mut bytes)?);
            }
        }
        if bytes.is_empty() { Ok(Self { header, updates }) } else { Err(WireError::Trailing(bytes.len())) }
    }

    /// As [`Wire`] writes it. Not longer than what was decoded if nothing was added since.
    pub(super) fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut bytes = header(&self.header)?;
        if !matches!(self.header.message, Message::Announce | Message::TurnUndead) {
            let count = u16::try_from(self.updates.len()).map_err(|_| WireError::Number("the count of updates"))?;
            bytes.put_u16(count);
        }
        for one in &self.updates {
            bytes.extend(update(one)?);
        }
        Ok(bytes)
    }
}

/// The number of the probe that this message of ours begins.
pub(super) fn probe_number(mut bytes: &[u8]) -> Option<u8> {
    match get_header(&mut bytes).ok()?.message {
        Message::Ping(number) => Some(number),
        _ => None,
    }
}

/// The format, for the engine.
#[derive(Debug)]
pub(super) struct Wire;

impl Codec<Identity> for Wire {
    type Error = WireError;

    fn encode_header(&mut self, from: &Header<Identity>, buf: impl BufMut) -> Result<(), WireError> {
        put(&header(from)?, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, WireError> {
        get_header(&mut buf)
    }

    fn encode_member(&mut self, from: &Update, buf: impl BufMut) -> Result<(), WireError> {
        put(&update(from)?, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Update, WireError> {
        get_update(&mut buf)
    }
}

/// All or nothing: the engine asks for that.
fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), WireError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(WireError::Full(buf.remaining_mut()));
    }
    buf.put_slice(bytes);
    Ok(())
}

fn header(header: &Header<Identity>) -> Result<Vec<u8>, WireError> {
    let (tag, with_card) = match header.message {
        Message::Ping(_) => (1, false),
        Message::Ack(_) => (2, false),
        Message::PingReq { .. } => (3, false),
        Message::IndirectPing { .. } => (4, false),
        Message::IndirectAck { .. } => (5, false),
        Message::ForwardedAck { .. } => (6, false),
        Message::Announce => (7, true),
        Message::Feed => (8, true),
        Message::Gossip => (9, true),
        Message::TurnUndead => (10, true),
        Message::Broadcast => return Err(WireError::Unknown { what: "the tag", value: 11 }),
    };
    let card = header.src.card.as_deref().filter(|_| with_card);
    let mut bytes = vec![VERSION, if card.is_some() { tag | WITH_CARD } else { tag }];
    put_life(&header.src, &mut bytes);
    if let Some(card) = card {
        put_card(card, &mut bytes);
    }
    bytes.put_u16(header.src_incarnation);
    put_life(&header.dst, &mut bytes);
    match &header.message {
        Message::Ping(number) | Message::Ack(number) => bytes.put_u8(*number),
        Message::PingReq { target: other, probe_number }
        | Message::IndirectPing { origin: other, probe_number }
        | Message::IndirectAck { target: other, probe_number }
        | Message::ForwardedAck { origin: other, probe_number } => {
            put_life(other, &mut bytes);
            bytes.put_u8(*probe_number);
        }
        _ => {}
    }
    Ok(bytes)
}

fn get_header(buf: &mut impl Buf) -> Result<Header<Identity>, WireError> {
    match get(buf, 1, "the version", Buf::get_u8)? {
        VERSION => {}
        other => return Err(WireError::Version(other)),
    }
    let tag = get(buf, 1, "the tag", Buf::get_u8)?;
    let mut src = get_life(buf)?;
    if tag & WITH_CARD != 0 {
        src.card = Some(get_card(buf, &src)?);
    }
    let src_incarnation = get(buf, 2, "the incarnation", Buf::get_u16)?;
    let dst = get_life(buf)?;
    let number = |buf: &mut _| get(buf, 1, "the probe's number", Buf::get_u8);
    let message = match tag & !WITH_CARD {
        1 => Message::Ping(number(buf)?),
        2 => Message::Ack(number(buf)?),
        3 => Message::PingReq { target: get_life(buf)?, probe_number: number(buf)? },
        4 => Message::IndirectPing { origin: get_life(buf)?, probe_number: number(buf)? },
        5 => Message::IndirectAck { target: get_life(buf)?, probe_number: number(buf)? },
        6 => Message::ForwardedAck { origin: get_life(buf)?, probe_number: number(buf)? },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::TurnUndead,
        value => return Err(WireError::Unknown { what: "the tag", value }),
    };
    Ok(Header { src, src_incarnation, dst, message })
}

fn update(update: &Update) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::new();
    put_life(update.id(), &mut bytes);
    bytes.put_u16(update.incarnation());
    bytes.put_u8(match update.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
    put_card(update.id().card.as_deref().ok_or(WireError::NoCard)?, &mut bytes);
    Ok(bytes)
}

fn get_update(buf: &mut impl Buf) -> Result<Update, WireError> {
    let mut life = get_life(buf)?;
    let incarnation = get(buf, 2, "the incarnation", Buf::get_u16)?;
    let state = match get(buf, 1, "the state", Buf::get_u8)? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        value => return Err(WireError::Unknown { what: "the state", value }),
    };
    life.card = Some(get_card(buf, &life)?);
    Ok(Update::new(life, incarnation, state))
}

fn put_life(of: &Identity, bytes: &mut Vec<u8>) {
    bytes.extend(of.id.as_bytes());
    put_number(of.generation, bytes);
    put_number(of.bump.into(), bytes);
}

fn get_life(buf: &mut impl Buf) -> Result<Identity, WireError> {
    let mut id = [0; 16];
    get(buf, 16, "an id", |b| b.copy_to_slice(&mut id))?;
    let generation = get_number(buf, "a generation")?;
    let bump = u32::try_from(get_number(buf, "a bump")?).map_err(|_| WireError::Number("a bump"))?;
    Ok(Identity { id: ServerId::from_bytes(id), generation, bump, card: None })
}

fn put_card(card: &Card, bytes: &mut Vec<u8>) {
    let mut body = Vec::new();
    put_number(card.edition.into(), &mut body);
    for text in [&card.member.name, &card.member.region, &card.member.software] {
        put_number(text.len() as u64, &mut body);
        body.extend(text.as_bytes());
    }
    put_number(card.member.addresses.len() as u64, &mut body);
    card.member.addresses.iter().for_each(|a| put_address(a, &mut body));
    put_number(card.member.http.iter().count() as u64, &mut body);
    card.member.http.iter().for_each(|a| put_address(a, &mut body));
    // Cards are cut to their bounds when they are made: some 400 bytes at most.
    bytes.put_u16(body.len() as u16);
    bytes.extend(body);
}

fn get_card(buf: &mut impl Buf, of: &Identity) -> Result<Arc<Card>, WireError> {
    let length = get(buf, 2, "a card's length", Buf::get_u16)?;
    let card = get(buf, length.into(), "a card", |b| b.copy_to_bytes(length.into()))?;
    let buf = &mut &card[..];
    let edition = u32::try_from(get_number(buf, "an edition")?).map_err(|_| WireError::Number("an edition"))?;
    let name = get_text(buf, "name", NAME_BYTES_MAX)?;
    let region = get_text(buf, "region", REGION_BYTES_MAX)?;
    let software = get_text(buf, "software", SOFTWARE_BYTES_MAX)?;
    let addresses = get_addresses(buf, "list of addresses", ADDRESSES_MAX)?;
    let http = get_addresses(buf, "list of HTTP addresses", 1)?.pop();
    let member = Member { id: of.id, generation: of.generation, name, addresses, http, region, software };
    Ok(Arc::new(Card { edition, member }))
}

fn get_length(buf: &mut impl Buf, what: &'static str, max: usize) -> Result<usize, WireError> {
    let is = usize::try_from(get_number(buf, what)?).map_err(|_| WireError::Number(what))?;
    if is > max { Err(WireError::Long { what, is, max }) } else { Ok(is) }
}

fn get_text(buf: &mut impl Buf, what: &'static str, max: usize) -> Result<String, WireError> {
    let length = get_length(buf, what, max)?;
    let bytes = get(buf, length, what, |b| b.copy_to_bytes(length))?;
    String::from_utf8(bytes.into()).map_err(|_| WireError::Utf8(what))
}

fn put_address(address: &SocketAddr, bytes: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.put_u8(4);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.put_u8(6);
            bytes.extend(ip.octets());
        }
    }
    bytes.put_u16(address.port());
}

fn get_addresses(buf: &mut impl Buf, what: &'static str, max: usize) -> Result<Vec<SocketAddr>, WireError> {
    (0..get_length(buf, what, max)?)
        .map(|_| {
            let ip: IpAddr = match get(buf, 1, "an address", Buf::get_u8)? {
                4 => get(buf, 4, "an address", |b| b.get_u32().to_be_bytes())?.into(),
                6 => get(buf, 16, "an address", |b| b.get_u128().to_be_bytes())?.into(),
                value => return Err(WireError::Unknown { what: "the kind of an address", value }),
            };
            Ok(SocketAddr::new(ip, get(buf, 2, "a port", Buf::get_u16)?))
        })
        .collect()
}

/// Seven bits a byte, the least first.
fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn get_number(buf: &mut impl Buf, what: &'static str) -> Result<u64, WireError> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = get(buf, 1, what, Buf::get_u8)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(WireError::Number(what));
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(WireError::Number(what))
}

/// Reads so many bytes, if there are.
fn get<B: Buf, T>(
    buf: &mut B,
    length: usize,
    what: &'static str,
    read: impl FnOnce(&mut B) -> T,
) -> Result<T, WireError> {
    if buf.remaining() < length { Err(WireError::Short(what)) } else { Ok(read(buf)) }
}
