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
    /// A label, of a buddy: from where it is on the roster.
    pub name: Option<String>,
    /// On the roster by our own configuration.
    pub configured: bool,
    /// On the roster by the home's word.
    pub given: bool,
    /// Its presence is wanted.
    pub wanted: bool,
    /// Of a buddy, from where it is on the roster; those of the configuration may hold host names.
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

impl Contact {
    /// Kept whether reachable or not.
    pub fn is_buddy(&self) -> bool {
        self.configured || self.given || self.wanted
    }
}

impl Roster {
    /// A buddy of the configuration. What it says comes before what the home says.
    pub fn configure(&mut self, peer: PeerId, name: Option<String>, addresses: Vec<String>) {
        let contact = self.contacts.entry(peer).or_default();
        contact.configured = true;
        contact.name = name;
        contact.addresses = addresses;
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

    /// A buddy by the home's word, or what that says of it anew.
    pub fn give(&mut self, peer: PeerId, name: Option<String>, addresses: Vec<String>) {
        let contact = self.contacts.entry(peer).or_default();
        contact.given = true;
        if !contact.configured {
            contact.name = name;
            contact.addresses = addresses;
        }
    }

    /// All that are buddies by the home's word.
    pub fn given(&self) -> Vec<PeerId> {
        self.contacts.iter().filter(|(_, c)| c.given).map(|(p, _)| *p).collect()
    }

    /// All that are buddies by the configuration.
    pub fn configured(&self) -> Vec<PeerId> {
        self.contacts.iter().filter(|(_, c)| c.configured).map(|(p, _)| *p).collect()
    }

    /// The home does not name it any more. Whether it is no buddy any more.
    pub fn take(&mut self, peer: PeerId) -> bool {
        self.strike(peer, |contact| std::mem::take(&mut contact.given))
    }

    /// The configuration does not name it any more. Whether it is no buddy any more.
    pub fn unconfigure(&mut self, peer: PeerId) -> bool {
        self.strike(peer, |contact| std::mem::take(&mut contact.configured))
    }

    /// A buddy because its presence is wanted.
    pub fn want(&mut self, peer: PeerId) {
        self.contacts.entry(peer).or_default().wanted = true;
    }

    /// Its presence is not wanted any more. Whether it is no buddy any more.
    pub fn unwant(&mut self, peer: PeerId) -> bool {
        self.strike(peer, |contact| std::mem::take(&mut contact.wanted))
    }

    /// Who is no buddy any more is a stranger, whose contact goes with its connection and its pings.
    fn strike(&mut self, peer: PeerId, strike: impl FnOnce(&mut Contact) -> bool) -> bool {
        let Some(contact) = self.contacts.get_mut(&peer) else { return false };
        if !strike(contact) || contact.is_buddy() {
            return false;
        }
        (contact.name, contact.addresses) = (None, Vec::new());
        true
    }

    /// The pings that wait for a connection; none does afterwards.
    pub fn unhold(&mut self, peer: PeerId) -> Vec<Correlator> {
        self.contacts.get_mut(&peer).map_or_else(Vec::new, |contact| std::mem::take(&mut contact.held))
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
        if self.contacts.get(&peer).is_some_and(|c| !c.is_buddy() && c.link == Link::Down && c.held.is_empty()) {
            self.contacts.remove(&peer);
        }
    }
}
