//! What servers say to each other, and what a home tells its agents of servers (`sibling.proto`).

use prost::{Message, bytes::Bytes};

use super::{
    FrameError,
    field::{self, Arena, clip, id, invalid, observed, text},
    home,
    peer::{count_profile, known_liveness},
};
use crate::{
    frame::{
        ADDRESSES_MAX, Account, DELTAS_MAX, DETAIL_BYTES_MAX, Deltas, Follow, Held, HomeLost, KINDS_MAX, LOT_BYTES_MAX,
        Lot, Member, Move, NAME_BYTES_MAX, OVERLAYS_MAX, PID_BYTES_MAX, Packed, REGION_BYTES_MAX, SERVERS_MAX,
        SOFTWARE_BYTES_MAX, SWIM_BYTES_MAX, Server, Shared, Standing,
    },
    id::{PeerId, ServerId},
    proto,
    record::Ledger,
    status::Liveness,
};

/// Refuses lists that are too long before they are decoded, though this one is not looked at yet.
pub(super) fn count_follow(follow: &[u8]) -> Result<(), FrameError> {
    field::count(follow, &[(4, OVERLAYS_MAX, "follow.overlays")])
}

/// As [`count_follow`]; the lists of a lot are counted when it is read.
pub(super) fn count_deltas(deltas: &[u8]) -> Result<(), FrameError> {
    field::count(deltas, &[(7, DELTAS_MAX, "deltas.entries")])
}

/// As [`count_follow`].
pub(super) fn count_servers(servers: &[u8]) -> Result<(), FrameError> {
    field::count(servers, &[(1, SERVERS_MAX, "servers.servers")])?;
    for server in field::fields(servers) {
        let server = server?;
        if server.tag == 1 {
            count_member(server.message()?, 1, "server.member")?;
        }
    }
    Ok(())
}

/// As [`count_follow`], of the member inside a message.
pub(super) fn count_member(message: &[u8], tag: u32, name: &'static str) -> Result<(), FrameError> {
    let bounds = [(4, ADDRESSES_MAX, "member.addresses")];
    field::only(message, tag, name)?.map_or(Ok(()), |member| field::count(member, &bounds))
}

/// The bytes of a lot. Accounts that no reader takes are left out: what an agent that counts nonsense has brought its home to
/// book, epoch after epoch, must not make siblings refuse all that the home says.
pub fn encode_lot(lot: &Lot) -> Vec<u8> {
    proto::Lot::from(lot).encode_to_vec()
}

/// Reads a lot from bytes of a stranger.
///
/// # Errors
/// As [`super::decode`].
pub fn decode_lot(lot: &[u8]) -> Result<Lot, FrameError> {
    if lot.len() > LOT_BYTES_MAX {
        return Err(FrameError::Oversized { bytes: lot.len() as u64, max: LOT_BYTES_MAX });
    }
    count_profile(lot, 1, "lot.profile")?;
    field::count(lot, &[(9, KINDS_MAX, "lot.accounts")])?;
    proto::Lot::decode(lot)?.try_into()
}

/// The liveness in the bytes of a lot, without reading the rest; `None`: they are no lot.
pub(in crate::frame) fn lot_liveness(lot: &[u8]) -> Option<Liveness> {
    let last = field::fields(lot).map_while(Result::ok).filter(|field| field.tag == 4).last()?;
    i32::try_from(last.number).ok().and_then(known_liveness)
}

/// What rosters go by in the bytes of a lot, without reading the rest.
pub(in crate::frame) fn lot_standing(lot: &[u8]) -> Standing<'_> {
    let (mut liveness, mut profile, mut capabilities, mut roster_max) = (Lot::default().liveness, &[][..], 0, 0);
    for field in field::fields(lot).map_while(Result::ok) {
        match field.tag {
            1 => profile = field.message().unwrap_or_default(),
            4 => liveness = i32::try_from(field.number).ok().and_then(known_liveness).unwrap_or(liveness),
            _ => {}
        }
    }
    for field in field::fields(profile).map_while(Result::ok) {
        match field.tag {
            6 => capabilities = field.number,
            8 => roster_max = field.number as u32,
            _ => {}
        }
    }
    Standing::new(liveness, capabilities, roster_max, profile)
}

/// The overlays in the bytes of a profile.
pub(in crate::frame) fn profile_overlays(profile: &[u8]) -> impl Iterator<Item = &str> {
    let overlays = field::fields(profile).map_while(Result::ok).filter(|field| field.tag == 4);
    overlays.filter_map(|field| field.text())
}

fn server(bytes: &[u8], field: &'static str) -> Result<ServerId, FrameError> {
    id(bytes, field).map(ServerId::from_bytes)
}

pub(super) fn raw(id: &[u8]) -> Bytes {
    Bytes::copy_from_slice(id)
}

impl From<&Member> for proto::Member {
    fn from(m: &Member) -> Self {
        Self {
            id: raw(m.id.as_bytes()),
            generation: m.generation,
            name: m.name.clone(),
            addresses: m.addresses.iter().map(ToString::to_string).collect(),
            http: m.http.map(|a| a.to_string()).unwrap_or_default(),
            region: m.region.clone(),
            software: m.software.clone(),
        }
    }
}

impl TryFrom<proto::Member> for Member {
    type Error = FrameError;

    fn try_from(m: proto::Member) -> Result<Self, FrameError> {
        if m.generation == 0 {
            return Err(invalid("member.generation", "missing"));
        }
        Ok(Self {
            id: server(&m.id, "member.id")?,
            generation: m.generation,
            name: text(m.name, NAME_BYTES_MAX, "member.name")?,
            addresses: m.addresses.iter().map(|a| field::address(a, "member.addresses")).collect::<Result<_, _>>()?,
            http: observed(&m.http, "member.http")?,
            region: text(m.region, REGION_BYTES_MAX, "member.region")?,
            software: text(m.software, SOFTWARE_BYTES_MAX, "member.software")?,
        })
    }
}

pub(super) fn gossip(g: &proto::Gossip) -> Result<Vec<u8>, FrameError> {
    match g.swim.len() {
        0 => Err(invalid("gossip.swim", "missing")),
        n if n > SWIM_BYTES_MAX => Err(invalid("gossip.swim", "too long")),
        _ => Ok(g.swim.to_vec()),
    }
}

impl From<&Follow> for proto::Follow {
    fn from(f: &Follow) -> Self {
        Self { owner: raw(f.owner.as_bytes()), generation: f.generation, from: f.from, ..Self::default() }
    }
}

impl TryFrom<proto::Follow> for Follow {
    type Error = FrameError;

    fn try_from(f: proto::Follow) -> Result<Self, FrameError> {
        Ok(Self { owner: server(&f.owner, "follow.owner")?, generation: f.generation, from: f.from })
    }
}

impl From<&Deltas> for proto::Deltas {
    fn from(d: &Deltas) -> Self {
        let bytes = |s: &Shared| s.peer.as_bytes().len() + s.lot.as_ref().map_or(0, |lot| lot.bytes().len());
        let mut arena = Arena::with_capacity(d.entries.iter().map(bytes).sum());
        Self {
            owner: raw(d.owner.as_bytes()),
            generation: d.generation,
            anew: d.anew,
            bulk: d.bulk,
            bulk_end: d.bulk_end,
            upto: d.upto,
            entries: d.entries.iter().map(|entry| shared(entry, d.generation, &mut arena)).collect(),
            digest: d.digest,
        }
    }
}

impl TryFrom<proto::Deltas> for Deltas {
    type Error = FrameError;

    fn try_from(d: proto::Deltas) -> Result<Self, FrameError> {
        if d.generation == 0 {
            return Err(invalid("deltas.generation", "missing"));
        }
        Ok(Self {
            owner: server(&d.owner, "deltas.owner")?,
            generation: d.generation,
            anew: d.anew,
            bulk: d.bulk,
            bulk_end: d.bulk_end,
            upto: d.upto,
            entries: d.entries.iter().map(|entry| read_shared(entry, d.generation)).collect::<Result<_, _>>()?,
            digest: d.digest,
        })
    }
}

fn shared(s: &Shared, stream: u64, arena: &mut Arena) -> proto::Shared {
    proto::Shared {
        peer: arena.put(&[s.peer.as_bytes()]),
        seq: s.seq,
        epoch: s.epoch,
        attach: s.attach,
        lot: s.lot.as_ref().map(|lot| arena.put(&[lot.bytes()])).unwrap_or_default(),
        banned: s.banned,
        generation: if s.generation == stream { 0 } else { s.generation },
    }
}

fn read_shared(s: &proto::Shared, stream: u64) -> Result<Shared, FrameError> {
    if s.seq == 0 {
        return Err(invalid("shared.seq", "missing"));
    }
    if s.generation > stream {
        return Err(invalid("shared.generation", "newer than the stream's"));
    }
    if s.banned && !s.lot.is_empty() {
        return Err(invalid("shared.banned", "with a lot"));
    }
    Ok(Shared {
        peer: PeerId::from_bytes(id(&s.peer, "shared.peer")?),
        generation: if s.generation == 0 { stream } else { s.generation },
        seq: s.seq,
        epoch: s.epoch,
        attach: s.attach,
        lot: if s.lot.is_empty() { None } else { Some(Packed::read(&s.lot)?) },
        banned: s.banned,
    })
}

impl From<&Held> for proto::Held {
    fn from(h: &Held) -> Self {
        Self { generation: h.generation, upto: h.upto }
    }
}

impl From<proto::Held> for Held {
    fn from(h: proto::Held) -> Self {
        Self { generation: h.generation, upto: h.upto }
    }
}

impl From<&Lot> for proto::Lot {
    fn from(l: &Lot) -> Self {
        Self {
            profile: Some((&l.profile).into()),
            presence: l.presence.as_ref().map(Into::into),
            said: l.said,
            liveness: proto::Liveness::from(l.liveness).into(),
            since_ms: l.since_ms,
            observed: l.observed.map(|a| a.to_string()).unwrap_or_default(),
            applied: l.applied,
            shed: l.shed,
            accounts: l.accounts.iter().map(proto::Account::from).filter(|a| ledgers(a).is_ok()).collect(),
            pid: l.pid.clone(),
        }
    }
}

/// A liveness of a newer version becomes overdue, as in an entry.
impl TryFrom<proto::Lot> for Lot {
    type Error = FrameError;

    fn try_from(l: proto::Lot) -> Result<Self, FrameError> {
        if l.liveness == 0 {
            return Err(invalid("lot.liveness", "missing"));
        }
        Ok(Self {
            profile: l.profile.ok_or(invalid("lot.profile", "missing"))?.try_into()?,
            presence: l.presence.map(TryInto::try_into).transpose()?,
            said: l.said,
            liveness: known_liveness(l.liveness).unwrap_or(Liveness::Overdue),
            since_ms: l.since_ms,
            observed: observed(&l.observed, "lot.observed")?,
            applied: l.applied,
            shed: l.shed,
            accounts: accounts(&l.accounts)?,
            pid: text(l.pid, PID_BYTES_MAX, "lot.pid")?,
        })
    }
}

fn accounts(list: &[proto::Account]) -> Result<Vec<Account>, FrameError> {
    let mut accounts: Vec<Account> = Vec::with_capacity(list.len());
    for account in list {
        let account = Account::try_from(account)?;
        if accounts.iter().any(|a| a.kind == account.kind) {
            return Err(invalid("lot.accounts", "a kind given twice"));
        }
        accounts.push(account);
    }
    Ok(accounts)
}

impl From<&Account> for proto::Account {
    fn from(a: &Account) -> Self {
        let booked = (a.booked != a.reported).then(|| home::encode_ledger(&a.booked));
        Self { reported: Some(home::encode_totals(&a.kind, &a.reported)), booked, owed: a.owed }
    }
}

impl TryFrom<&proto::Account> for Account {
    type Error = FrameError;

    fn try_from(a: &proto::Account) -> Result<Self, FrameError> {
        let (kind, reported, booked) = ledgers(a)?;
        Ok(Self { kind: home::kind(kind, "totals.kind")?, reported, booked, owed: a.owed })
    }
}

/// What an account counts, by the name of its kind: what is reported, and what is booked.
fn ledgers(a: &proto::Account) -> Result<(&str, Ledger, Ledger), FrameError> {
    let totals = a.reported.as_ref().ok_or(invalid("account.reported", "missing"))?;
    let reported = home::ledger(totals)?;
    let booked = match &a.booked {
        None => reported,
        Some(booked) if booked.kind.is_empty() => home::ledger(booked)?,
        Some(_) => return Err(invalid("account.booked", "names a kind")),
    };
    if booked.opened < reported.opened {
        return Err(invalid("account.booked", "fewer than are reported"));
    }
    if a.owed > booked.unknown {
        return Err(invalid("account.owed", "more than is booked as unknown"));
    }
    Ok((&totals.kind, reported, booked))
}

pub(super) fn servers(s: proto::Servers) -> Result<Vec<Server>, FrameError> {
    s.servers.into_iter().map(TryInto::try_into).collect()
}

impl From<&Server> for proto::Server {
    fn from(s: &Server) -> Self {
        Self { member: Some((&s.member).into()), load: s.load }
    }
}

impl TryFrom<proto::Server> for Server {
    type Error = FrameError;

    fn try_from(s: proto::Server) -> Result<Self, FrameError> {
        Ok(Self { member: s.member.ok_or(invalid("server.member", "missing"))?.try_into()?, load: s.load })
    }
}

impl From<&Move> for proto::Move {
    fn from(m: &Move) -> Self {
        let server = m.server.map(|id| raw(id.as_bytes())).unwrap_or_default();
        Self { server, detail: clip(&m.detail, DETAIL_BYTES_MAX) }
    }
}

impl TryFrom<proto::Move> for Move {
    type Error = FrameError;

    fn try_from(m: proto::Move) -> Result<Self, FrameError> {
        let to = if m.server.is_empty() { None } else { Some(server(&m.server, "move.server")?) };
        Ok(Self { server: to, detail: text(m.detail, DETAIL_BYTES_MAX, "move.detail")? })
    }
}

impl From<&HomeLost> for proto::HomeLost {
    fn from(l: &HomeLost) -> Self {
        Self { server: Bytes::copy_from_slice(l.server.as_bytes()), generation: l.generation, for_ms: l.for_ms }
    }
}

impl TryFrom<proto::HomeLost> for HomeLost {
    type Error = FrameError;

    fn try_from(l: proto::HomeLost) -> Result<Self, FrameError> {
        let server = server(&l.server, "home_lost.server")?;
        Ok(Self { server, generation: l.generation, for_ms: l.for_ms })
    }
}
