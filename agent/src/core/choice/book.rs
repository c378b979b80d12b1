//! What is known of the servers: those that homes told of, and the homes of the configuration, which may be names of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use pams_shared::{
    frame::{ADDRESSES_MAX, SERVERS_MAX, Server},
    id::{Minter, ServerId},
    moment::Moment,
};
use serde::{Deserialize, Serialize};

use super::Place;

/// A server that was never met counts as so far when one is chosen; nothing shows it.
const RTT_GUESSED: Duration = Duration::from_millis(300);
/// All that are nearer than about this are as good as each other, so that the agents of a server that is lost spread.
const RTT_SLACK: Duration = Duration::from_millis(10);

/// What is kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// The first [`SERVERS_MAX`] count.
    pub servers: Vec<Known>,
    /// Which server answered at which home of the configuration.
    #[serde(default)]
    pub names: BTreeMap<String, ServerId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub id: ServerId,
    pub name: String,
    pub addresses: Vec<SocketAddr>,
    /// The last round trip that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
}

#[derive(Debug)]
struct Mark {
    name: String,
    addresses: Vec<SocketAddr>,
    /// Thousandths; `None`: not told.
    load: Option<u32>,
    /// The last home that told of servers told of this one. Others may be there and cut off from that home: they are called
    /// when nobody else answers.
    listed: bool,
    rtt: Option<Duration>,
    /// When the round trip was measured in this run.
    at: Option<Moment>,
}

#[derive(Debug)]
pub(super) struct Book {
    /// In the order of the configuration.
    named: Vec<String>,
    /// Which server answered at these.
    led: BTreeMap<String, ServerId>,
    servers: BTreeMap<ServerId, Mark>,
}

impl Book {
    pub fn new(named: Vec<String>, Servers { servers, names }: Servers) -> Self {
        let mark = |k: Known| {
            let rtt = k.rtt_us.map(Duration::from_micros);
            let addresses = k.addresses.into_iter().take(ADDRESSES_MAX).collect();
            (k.id, Mark { name: k.name, addresses, load: None, listed: true, rtt, at: None })
        };
        let servers = servers.into_iter().filter(|k| !k.addresses.is_empty()).take(SERVERS_MAX).map(mark).collect();
        let led = names.into_iter().filter(|(name, _)| named.contains(name)).collect();
        Self { named, led, servers }
    }

    /// All servers, as the home knows them.
    pub fn list(&mut self, servers: Vec<Server>) {
        self.servers.values_mut().for_each(|mark| (mark.listed, mark.load) = (false, None));
        for Server { member, load } in servers.into_iter().filter(|s| !s.member.addresses.is_empty()).take(SERVERS_MAX)
        {
            let old = self.servers.get(&member.id);
            let (rtt, at) = old.map_or((None, None), |m| (m.rtt, m.at));
            let mark = Mark { name: member.name, addresses: member.addresses, load: Some(load), listed: true, rtt, at };
            self.servers.insert(member.id, mark);
        }
        while self.servers.len() > SERVERS_MAX {
            let Some(id) = self.servers.iter().find(|(_, m)| !m.listed).map(|(id, _)| *id) else { return };
            self.servers.remove(&id);
        }
    }

    /// Homes of the configuration from now on.
    pub fn name(&mut self, named: Vec<String>) {
        self.led.retain(|name, _| named.contains(name));
        self.named = named;
    }

    /// The server that answered there.
    pub fn leads(&mut self, place: &Place, server: ServerId) {
        if let Place::Named(name) = place
            && self.named.contains(name)
        {
            self.led.insert(name.clone(), server);
        }
    }

    pub fn measured(&mut self, now: Moment, server: ServerId, rtt: Duration) {
        if let Some(mark) = self.servers.get_mut(&server) {
            (mark.rtt, mark.at) = (Some(rtt), Some(now));
        }
    }

    /// All that can be called, each server once: a name that leads to one that is known is another address of that one.
    pub fn places(&self) -> Vec<Place> {
        let led = |name: &&String| self.led.get(*name).is_none_or(|server| !self.servers.contains_key(server));
        let named = self.named.iter().filter(led).cloned().map(Place::Named);
        self.servers.keys().copied().map(Place::Server).chain(named).collect()
    }

    pub fn has(&self, place: &Place) -> bool {
        match place {
            Place::Server(server) => self.servers.contains_key(server),
            Place::Named(name) => self.named.contains(name),
        }
    }

    /// As it stands in [`places`](Self::places), if `server` or whoever answered there last is the one.
    pub fn settled(&self, place: Place, server: Option<ServerId>) -> Place {
        match server.or_else(|| self.server_of(&place)).filter(|server| self.servers.contains_key(server)) {
            Some(server) => Place::Server(server),
            None => place,
        }
    }

    /// Who is there, as far as that is known.
    pub fn server_of(&self, place: &Place) -> Option<ServerId> {
        match place {
            Place::Server(server) => Some(*server),
            Place::Named(name) => self.led.get(name).copied(),
        }
    }

    /// Whether the configuration names this place, or a name in it leads to this server.
    pub fn is_named(&self, place: &Place, server: ServerId) -> bool {
        let is_place = |name: &String| matches!(place, Place::Named(n) if n == name);
        self.named.iter().any(|name| is_place(name) || self.led.get(name) == Some(&server))
    }

    /// Where a place can be called. Names come first only while there is one server, as they may lead to another one of several.
    pub fn addresses(&self, place: &Place) -> Vec<String> {
        let server = match place {
            Place::Named(name) => return vec![name.clone()],
            Place::Server(server) => server,
        };
        let told = self.servers.get(server).into_iter().flat_map(|m| m.addresses.iter().map(ToString::to_string));
        let names = self.named.iter().filter(|name| self.led.get(*name) == Some(server)).cloned();
        let all: Vec<String> =
            if self.listed().count() > 1 { told.chain(names).collect() } else { names.chain(told).collect() };
        let mut seen = BTreeSet::new();
        all.into_iter().filter(|address| seen.insert(address.clone())).collect()
    }

    /// The less, the sooner it is called. `jitter` of 0 to 399 spreads those that are about equal.
    pub fn order(&self, place: &Place, jitter: u64) -> (u8, u128, usize) {
        match place {
            Place::Server(server) => {
                let mark = self.servers.get(server);
                let away = mark.and_then(|m| m.rtt).unwrap_or(RTT_GUESSED) + RTT_SLACK;
                let load = mark.and_then(|m| m.load).unwrap_or_default();
                let listed = mark.is_some_and(|m| m.listed);
                (u8::from(!listed), away.as_micros() * (1_000 + u128::from(load)) * u128::from(800 + jitter), 0)
            }
            Place::Named(name) => (2, 0, self.named.iter().position(|n| n == name).unwrap_or(usize::MAX)),
        }
    }

    /// Thousandths; `None`: the home has told of no such server.
    pub fn load(&self, server: ServerId) -> Option<u32> {
        self.servers.get(&server)?.load
    }

    /// Those that the home told of last.
    pub fn listed(&self) -> impl Iterator<Item = ServerId> {
        self.servers.iter().filter(|(_, mark)| mark.listed).map(|(id, _)| *id)
    }

    /// Of the others that the home told of, so many whose measurements are oldest or none.
    pub fn stalest(&self, home: ServerId, max: usize, minter: &mut Minter) -> Vec<ServerId> {
        let mut others: Vec<_> = self
            .servers
            .iter()
            .filter(|(id, mark)| mark.listed && **id != home)
            .map(|(id, mark)| (mark.at.map(Moment::ns), minter.below(u64::MAX), *id))
            .collect();
        others.sort_unstable();
        others.into_iter().take(max).map(|(.., id)| id).collect()
    }

    pub fn kept(&self) -> Servers {
        let known = |(id, m): (&ServerId, &Mark)| Known {
            id: *id,
            name: m.name.clone(),
            addresses: m.addresses.clone(),
            rtt_us: m.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        };
        Servers { servers: self.servers.iter().map(known).collect(), names: self.led.clone() }
    }
}
