//! How each peer can be reached: its addresses, the connection if there is one, and the pings that wait for one. It decides
//! when to dial; it does not judge anybody (that is the Watcher's).

use std::collections::{BTreeMap, BTreeSet};

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
    /// On the roster by our own configuration.
    pub configured: Option<Word>,
    /// On the roster by the home.
    pub given: Option<Word>,
    /// By whom its presence is wanted.
    pub wanted_by: BTreeSet<Wanter>,
    pub link: Link,
    /// Pings opened and waiting for a link, oldest first.
    pub held: Vec<Correlator>,
    /// Why it could not be reached last; `None` once it could.
    pub why: Option<Why>,
    pub epoch: u64,
    pub clock_offset_ms: Option<i64>,
}

/// What is said of a buddy by who names it.
#[derive(Debug, Default)]
pub struct Word {
    /// A label.
    pub name: Option<String>,
    /// `host:port` each; those of the configuration may hold host names.
    pub addresses: Vec<String>,
}

/// Who can want a peer's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanter {
    Config,
    /// Somebody at the control socket.
    Command,
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
        self.configured.is_some() || self.given.is_some() || !self.wanted_by.is_empty()
    }

    pub fn name(&self) -> Option<&str> {
        self.words().find_map(|word| word.name.as_deref())
    }

    /// Where it is called; none: the home is asked.
    pub fn addresses(&self) -> &[String] {
        self.words().map(|word| word.addresses.as_slice()).find(|a| !a.is_empty()).unwrap_or_default()
    }

    /// What the configuration says comes before what the home says, which holds where the former says nothing.
    fn words(&self) -> impl Iterator<Item = &Word> {
        self.configured.iter().chain(&self.given)
    }
}

impl Roster {
    /// A buddy of the configuration, or what that says of it anew. Whether it is to be called elsewhere now.
    pub fn configure(&mut self, peer: PeerId, word: Word) -> bool {
        let contact = self.contacts.entry(peer).or_default();
        let before = contact.addresses().to_vec();
        contact.configured = Some(word);
        contact.addresses() != before
    }

    /// The configuration does not name it any more. Whether it is to be called elsewhere now.
    pub fn unconfigure(&mut self, peer: PeerId) -> bool {
        let Some(contact) = self.contacts.get_mut(&peer) else { return false };
        let before = contact.addresses().to_vec();
        contact.configured = None;
        contact.addresses() != before
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
    pub fn give(&mut self, peer: PeerId, word: Word) {
        self.contacts.entry(peer).or_default().given = Some(word);
    }

    /// The home does not name it any more.
    pub fn take(&mut self, peer: PeerId) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.given = None;
        }
    }

    /// All that are buddies by the home's word.
    pub fn given(&self) -> Vec<PeerId> {
        self.contacts.iter().filter(|(_, c)| c.given.is_some()).map(|(p, _)| *p).collect()
    }

    /// All that are buddies by the configuration.
    pub fn configured(&self) -> Vec<PeerId> {
        self.contacts.iter().filter(|(_, c)| c.configured.is_some()).map(|(p, _)| *p).collect()
    }

    /// A buddy because its presence is wanted.
    pub fn want(&mut self, peer: PeerId, by: Wanter) {
        self.contacts.entry(peer).or_default().wanted_by.insert(by);
    }

    /// Its presence is not wanted by this one any more. Whether nobody wants it now.
    pub fn unwant(&mut self, peer: PeerId, by: Wanter) -> bool {
        let contact = self.contacts.get_mut(&peer);
        contact.is_some_and(|contact| contact.wanted_by.remove(&by) && contact.wanted_by.is_empty())
    }

    /// All whose presence is wanted by this one.
    pub fn wanted(&self, by: Wanter) -> Vec<PeerId> {
        self.contacts.iter().filter(|(_, c)| c.wanted_by.contains(&by)).map(|(p, _)| *p).collect()
    }

    pub fn is_buddy(&self, peer: PeerId) -> bool {
        self.contacts.get(&peer).is_some_and(Contact::is_buddy)
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
            Link::Down if contact.addresses().is_empty() => {
                contact.link = Link::Resolving;
                Reach::Resolve
            }
            Link::Down => {
                contact.link = Link::Dialling;
                Reach::Dial(contact.addresses().to_vec())
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

    /// A stranger without a connection and without pings is forgotten, also while the home is asked where it is: nobody would
    /// call it.
    pub fn tidy(&mut self, peer: PeerId) {
        let idle = |c: &Contact| matches!(c.link, Link::Down | Link::Resolving) && c.held.is_empty();
        if self.contacts.get(&peer).is_some_and(|c| !c.is_buddy() && idle(c)) {
            self.contacts.remove(&peer);
        }
    }
}
