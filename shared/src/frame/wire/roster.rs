//! Whom a home wants an agent to watch (`home.proto`), and how many of them, with what of each, go into one frame.

use prost::bytes::Bytes;

use super::{
    FrameError,
    field::{self, address, clip, fields, id, text},
};
use crate::{
    frame::{ADDRESSES_MAX, NAME_BYTES_MAX, ROSTER_MAX, Roster, Rostered, STREAM_BYTES_MAX},
    id::PeerId,
    proto,
};

/// Tag and length of the frame's body.
const FRAME_BYTES: usize = 2 + 3;
/// Tag and length of a peer's message.
const PEER_BYTES: usize = 1 + 2;
/// Tag, length and bytes of an id.
const ID_BYTES: usize = 1 + 1 + 16;

impl Roster {
    /// As much as fits a frame: the first [`ROSTER_MAX`] peers, and of each, within an equal share of the frame, its name,
    /// cut if need be, and the first of its addresses. An agent asks its home for what it was not told.
    pub fn fitted(mut peers: Vec<Rostered>) -> Self {
        peers.truncate(ROSTER_MAX);
        let share = (STREAM_BYTES_MAX - FRAME_BYTES) / peers.len().max(1) - PEER_BYTES - ID_BYTES;
        for peer in &mut peers {
            fit(peer, share);
        }
        Self { peers }
    }
}

fn fit(peer: &mut Rostered, share: usize) {
    // Its length may take two bytes, an address' takes one.
    peer.name = clip(&peer.name, NAME_BYTES_MAX.min(share.saturating_sub(3)));
    let mut left = share.saturating_sub(peer.name.len() + 3);
    peer.addresses.truncate(ADDRESSES_MAX);
    let fit = peer.addresses.iter().take_while(|address| {
        let bytes = address.to_string().len() + 2;
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    });
    let fit = fit.count();
    peer.addresses.truncate(fit);
}

/// Refuses lists that are too long before they are decoded.
pub(super) fn count(roster: &[u8]) -> Result<(), FrameError> {
    field::count(roster, &[(1, ROSTER_MAX, "roster.peers")])?;
    for field in fields(roster) {
        let field = field?;
        if field.tag == 1 {
            field::count(field.message()?, &[(3, ADDRESSES_MAX, "rostered.addresses")])?;
        }
    }
    Ok(())
}

impl From<&Roster> for proto::Roster {
    fn from(r: &Roster) -> Self {
        Self { peers: r.peers.iter().map(Into::into).collect() }
    }
}

impl TryFrom<proto::Roster> for Roster {
    type Error = FrameError;

    fn try_from(r: proto::Roster) -> Result<Self, FrameError> {
        Ok(Self { peers: r.peers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()? })
    }
}

impl From<&Rostered> for proto::Rostered {
    fn from(r: &Rostered) -> Self {
        Self {
            peer: Bytes::copy_from_slice(r.peer.as_bytes()),
            name: r.name.clone(),
            addresses: r.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<proto::Rostered> for Rostered {
    type Error = FrameError;

    fn try_from(r: proto::Rostered) -> Result<Self, FrameError> {
        Ok(Self {
            peer: PeerId::from_bytes(id(&r.peer, "rostered.peer")?),
            name: text(r.name, NAME_BYTES_MAX, "rostered.name")?,
            addresses: r.addresses.iter().map(|a| address(a, "rostered.addresses")).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, wire};

    fn peer(n: usize, name: usize, addresses: &[&str]) -> Rostered {
        let peer = PeerId::from_bytes((n as u128).to_be_bytes());
        Rostered { peer, name: "n".repeat(name), addresses: addresses.iter().map(|a| a.parse().unwrap()).collect() }
    }

    #[test]
    fn whatever_is_given_fits_a_frame_and_few_peers_lose_nothing() {
        let longest = ["[2001:db8:1111:2222:3333:4444:5555:6666%4294967295]:65535"; ADDRESSES_MAX];
        for n in [0, 1, 2, 80, 100, 200, ROSTER_MAX, ROSTER_MAX + 88] {
            for (name, addresses) in [(0, &[][..]), (NAME_BYTES_MAX, &longest), (11, &longest), (NAME_BYTES_MAX, &[])] {
                let given: Vec<_> = (0..n).map(|i| peer(i, name, addresses)).collect();
                let roster = Roster::fitted(given.clone());
                assert_eq!(roster.peers.len(), n.min(ROSTER_MAX));
                assert!(n > 100 || roster.peers == given, "{n} peers lose something");
                let bytes = wire::encode(&Frame::Roster(roster.clone()));
                assert!(bytes.len() <= STREAM_BYTES_MAX, "{n} peers take {} bytes", bytes.len());
                assert_eq!(wire::decode(&bytes, STREAM_BYTES_MAX), Ok(Frame::Roster(roster)));
            }
        }
    }

    #[test]
    fn a_full_roster_still_has_names_and_an_address_of_each() {
        let addresses = ["[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "192.0.2.1:7421"];
        let roster = Roster::fitted((0..ROSTER_MAX).map(|i| peer(i, 30, &addresses)).collect());
        assert!(roster.peers.iter().all(|p| p.name.len() == 30 && !p.addresses.is_empty()));
    }
}
