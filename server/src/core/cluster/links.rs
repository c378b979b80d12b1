//! Connections with siblings: of two with the same server one is kept, and both sides keep the same.

use std::collections::BTreeMap;

use pams_shared::id::ServerId;

use super::io::LinkId;

/// Connections with siblings; further ones are turned away.
pub(super) const LINKS_MAX: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub server: ServerId,
    pub generation: u64,
    /// What it can, as its Hello said.
    pub capabilities: u64,
    pub dialled: bool,
    /// The sibling runs on our own host.
    pub same_host: bool,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    of: BTreeMap<LinkId, Link>,
    used: BTreeMap<ServerId, LinkId>,
}

/// What comes of a connection that stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is used; the one before, if there was one, is to be closed.
    New { before: Option<LinkId> },
    /// The one that was there is used on.
    Old,
    /// There is no room.
    Full,
}

impl Links {
    /// A connection stands. A newer start of the server wins, else the connection that the smaller id dialled, else the newer.
    pub fn stand(&mut self, me: ServerId, id: LinkId, link: Link) -> Kept {
        let before = self.used.get(&link.server).copied();
        if let Some(old) = before.and_then(|before| self.of.get(&before)) {
            let by_smaller = |dialled: bool| dialled == (me < link.server);
            let rank = |of: &Link| (of.generation, by_smaller(of.dialled));
            if rank(&link) < rank(old) {
                return Kept::Old;
            }
        } else if self.of.len() >= LINKS_MAX {
            return Kept::Full;
        }
        if let Some(before) = before {
            self.of.remove(&before);
        }
        self.of.insert(id, link);
        self.used.insert(link.server, id);
        Kept::New { before }
    }

    /// The connection is no more; with whom it was, if it was used.
    pub fn end(&mut self, id: LinkId) -> Option<ServerId> {
        let link = self.of.remove(&id)?;
        if self.used.get(&link.server) == Some(&id) {
            self.used.remove(&link.server);
        }
        Some(link.server)
    }

    pub fn get(&self, id: LinkId) -> Option<&Link> {
        self.of.get(&id)
    }

    /// The connection with a server.
    pub fn with(&self, server: ServerId) -> Option<LinkId> {
        self.used.get(&server).copied()
    }

    pub fn link_with(&self, server: ServerId) -> Option<&Link> {
        self.with(server).and_then(|id| self.of.get(&id))
    }

    /// Those that are used, by server.
    pub fn iter(&self) -> impl Iterator<Item = (ServerId, LinkId)> {
        self.used.iter().map(|(server, link)| (*server, *link))
    }

    pub fn len(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u8) -> ServerId {
        ServerId::from_bytes([n; 16])
    }

    const fn with(n: u8, generation: u64, dialled: bool) -> Link {
        Link { server: id(n), generation, capabilities: 0, dialled, same_host: false }
    }

    #[test]
    fn both_sides_keep_the_connection_that_the_smaller_id_dialled() {
        // 1 and 2 dial each other at once; each learns of the two in either order.
        for order in [[true, false], [false, true]] {
            let (mut one, mut two) = (Links::default(), Links::default());
            for by_one in order {
                let link = LinkId(u64::from(by_one));
                one.stand(id(1), link, with(2, 1, by_one));
                two.stand(id(2), link, with(1, 1, !by_one));
            }
            assert_eq!((one.with(id(2)), two.with(id(1))), (Some(LinkId(1)), Some(LinkId(1))), "{order:?}");
        }
    }

    #[test]
    fn a_newer_start_wins_and_the_end_of_one_that_is_not_used_changes_nothing() {
        let mut links = Links::default();
        assert_eq!(links.stand(id(1), LinkId(1), with(2, 1, true)), Kept::New { before: None });
        assert_eq!(links.stand(id(1), LinkId(2), with(2, 2, false)), Kept::New { before: Some(LinkId(1)) });
        assert_eq!(links.stand(id(1), LinkId(3), with(2, 1, true)), Kept::Old);
        assert_eq!(links.end(LinkId(1)), None);
        assert_eq!((links.end(LinkId(2)), links.len()), (Some(id(2)), 0));
    }
}
