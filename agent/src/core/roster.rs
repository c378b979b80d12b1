//! How each peer can be reached: its addresses, the connection if there is one, and the pings that wait for one. It decides
//! when to dial; it does not judge anybody (that is the Watcher's).

use std::collections::BTreeMap;

use pams_shared::{
    id::{Correlator, PeerId},
    record::Why,
};

use super::io::LinkId;

/// Contacts kept at once: buddies, and others that called or were asked for.
pub const CONTACTS_MAX: usize = 8_192;

#[derive(Debug, Default)]
pub struct Roster {
    contacts: BTreeMap<PeerId, Contact>,
}

#[derive(Debug, Default)]
pub struct Contact {
    /// A label from the configuration.
    pub name: Option<String>,
    /// On the roster: kept whether reachable or not.
    pub buddy: bool,
    /// From the configuration; may hold host names.
    pub addresses: Vec<String>,
    pub link: Link,
    /// Pings opened and waiting for a link, oldest first.
    pub held: Vec<Correlator>,
    /// Why it could not be reached last; `None` once it could.
    pub why: Option<Why>,
    pub epoch: u64,
    pub clock_offset_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Down,
    Resolving,
    Dialling,
    Up(LinkId),
}

/// What must be done so that a ping can leave.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach {
    /// It can leave now.
    Send,
    Dial(Vec<String>),
    Resolve,
    /// It waits for what was begun before.
    Wait,
}

impl Roster {
    pub fn add_buddy(&mut self, peer: PeerId, name: Option<String>, addresses: Vec<String>) {
        let contact = self.contacts.entry(peer).or_default();
        contact.buddy = true;
        contact.name = name;
        contact.addresses = addresses;
    }

    /// No buddy any more; the pings that waited for a connection with it. Who has a connection stays until that ends.
    pub fn remove_buddy(&mut self, peer: PeerId) -> Vec<Correlator> {
        let Some(contact) = self.contacts.get_mut(&peer) else { return Vec::new() };
        contact.buddy = false;
        contact.name = None;
        contact.addresses.clear();
        std::mem::take(&mut contact.held)
    }

    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.contacts.get(&peer).is_some_and(|c| matches!(c.link, Link::Up(_)))
    }

    /// All that have a connection.
    pub fn connected(&self) -> Vec<(PeerId, LinkId)> {
        let up = |(peer, contact): (&PeerId, &Contact)| match contact.link {
            Link::Up(link) => Some((*peer, link)),
            _ => None,
        };
        self.contacts.iter().filter_map(up).collect()
    }

    pub fn contact(&self, peer: PeerId) -> Option<&Contact> {
        self.contacts.get(&peer)
    }

    pub fn contact_mut(&mut self, peer: PeerId) -> Option<&mut Contact> {
        self.contacts.get_mut(&peer)
    }

    pub fn links(&self) -> usize {
        self.contacts.values().filter(|c| matches!(c.link, Link::Up(_))).count()
    }

    /// A ping wants to leave. `None`: there is no room for one more contact.
    pub fn reach(&mut self, peer: PeerId, correlator: Correlator) -> Option<Reach> {
        if !self.contacts.contains_key(&peer) && self.contacts.len() >= CONTACTS_MAX {
            return None;
        }
        let contact = self.contacts.entry(peer).or_default();
        if let Link::Up(_) = contact.link {
            return Some(Reach::Send);
        }
        contact.held.push(correlator);
        Some(match contact.link {
            Link::Down if contact.addresses.is_empty() => {
                contact.link = Link::Resolving;
                Reach::Resolve
            }
            Link::Down => {
                contact.link = Link::Dialling;
                Reach::Dial(contact.addresses.clone())
            }
            _ => Reach::Wait,
        })
    }

    /// The home is asked where the peer is.
    pub fn is_resolving(&self, peer: PeerId) -> bool {
        self.contacts.get(&peer).is_some_and(|c| c.link == Link::Resolving)
    }

    /// All of whom the home is asked.
    pub fn resolving(&self) -> Vec<PeerId> {
        self.contacts.iter().filter(|(_, c)| c.link == Link::Resolving).map(|(p, _)| *p).collect()
    }

    /// The home told where the peer is, and it is called there.
    pub fn dialling(&mut self, peer: PeerId) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.link = Link::Dialling;
        }
    }

    /// A connection is ready; the pings that waited for it.
    pub fn up(&mut self, peer: PeerId, link: LinkId) -> Vec<Correlator> {
        if !self.contacts.contains_key(&peer) && self.contacts.len() >= CONTACTS_MAX {
            return Vec::new();
        }
        let contact = self.contacts.entry(peer).or_default();
        contact.link = Link::Up(link);
        contact.why = None;
        std::mem::take(&mut contact.held)
    }

    /// A connection ended; `false` if it was not the present one.
    pub fn down(&mut self, peer: PeerId, link: LinkId, why: Why) -> bool {
        let Some(contact) = self.contacts.get_mut(&peer).filter(|c| c.link == Link::Up(link)) else { return false };
        contact.link = Link::Down;
        contact.why = Some(why);
        self.tidy(peer);
        true
    }

    /// No connection came about; the pings that waited for it.
    pub fn failed(&mut self, peer: PeerId, why: Why) -> Vec<Correlator> {
        let Some(contact) = self.contacts.get_mut(&peer) else { return Vec::new() };
        if matches!(contact.link, Link::Up(_)) {
            return Vec::new(); // it called us meanwhile
        }
        contact.link = Link::Down;
        contact.why = Some(why);
        std::mem::take(&mut contact.held)
    }

    /// A ping no longer waits.
    pub fn release(&mut self, peer: PeerId, correlator: Correlator) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.held.retain(|c| *c != correlator);
        }
        self.tidy(peer);
    }

    /// Puts pings back to wait for the next connection.
    pub fn hold(&mut self, peer: PeerId, held: Vec<Correlator>) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.held.splice(0..0, held);
        }
    }

    /// A stranger without a connection and without pings is forgotten.
    pub fn tidy(&mut self, peer: PeerId) {
        if self.contacts.get(&peer).is_some_and(|c| !c.buddy && c.link == Link::Down && c.held.is_empty()) {
            self.contacts.remove(&peer);
        }
    }
}
