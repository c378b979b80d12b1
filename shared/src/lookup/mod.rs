//! What stands for servers, as addresses: `host:port` is looked up by the system, as all programs do; a service
//! (`_pams._udp.example.org`) by asking its nameservers for SRV records (RFC 2782).
//!
//! Nothing is kept: whoever calls looks up anew each time, and how long an answer holds is between DNS and the nameserver. What a
//! nameserver says decides whom we call, not whom we believe: that is the certificate's.
//!
//! `ask` is the conversation with nameservers, `srv` what is asked and what stands in the answer.
#![allow(clippy::disallowed_methods)] // The nameserver of the tests has tasks of its own.

mod ask;
mod srv;
#[cfg(any(test, feature = "sim"))]
pub mod zone;

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use nix::net::if_::if_nametoindex;
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use self::srv::Target;
use crate::{
    id::Minter,
    identity,
    record::{Reason, Why},
};

/// Addresses of one host.
const ADDRESSES_MAX: usize = 8;
/// Targets of a service that are looked up: the first in the order of their records.
const TARGETS_MAX: usize = 16;
/// All targets are looked up at once; whoever is not found by then is left out. Most come with the SRV records.
const TARGETS_PATIENCE: Duration = Duration::from_secs(1);

const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;
/// As many as the system's resolver asks.
const NAMESERVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;

/// Whom to ask for the records of services.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// None: those of `/etc/resolv.conf`, as it stands at each lookup; this host, if it names none.
    nameservers: Vec<SocketAddr>,
}

impl Resolver {
    /// Asks these, the first three of them.
    pub fn of(nameservers: Vec<SocketAddr>) -> Self {
        Self { nameservers }
    }

    /// The addresses of `host:port`, or of a service's targets in the order in which they are to be tried. Eight for each
    /// host, of 16 targets at most; one at least. The error says who was asked, and what is wrong.
    pub async fn resolve(&self, address: &str) -> Result<Vec<SocketAddr>, Why> {
        let is_service = address.starts_with('_') && !address.contains(':');
        let found = if is_service { self.service(address).await } else { host(address).await };
        found.map_err(|text| Why::new(Reason::NotSent, text))
    }

    async fn service(&self, service: &str) -> Result<Vec<SocketAddr>, String> {
        let mut minter = Minter::new(identity::seed().map_err(|e| e.to_string())?);
        let question = srv::question(service, minter.below(1 << 16) as u16)?;
        let nameservers = if self.nameservers.is_empty() { system() } else { self.nameservers.clone() };
        let asked = &nameservers[..nameservers.len().min(NAMESERVERS_MAX)];
        let answer = ask::ask(asked, &question).await.map_err(|e| format!("{service} can't be looked up: {e}"))?;
        let mut targets = srv::order(srv::read(service, &answer)?, |n| minter.below(n));
        targets.truncate(TARGETS_MAX);
        let names: Vec<String> = targets.iter().map(|target| target.host.clone()).collect();
        let found = addresses(targets).await;
        if found.is_empty() {
            return Err(format!(
                "none of the servers that the SRV records of {service} name has an address: {}",
                names.join(", ")
            ));
        }
        Ok(found)
    }
}

async fn host(address: &str) -> Result<Vec<SocketAddr>, String> {
    let found =
        lookup_host(address).await.map_err(|e| format!("{address} is no address that can be looked up: {e}"))?;
    let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(format!("{address} has no address")) } else { Ok(found) }
}

/// Those of all targets, in their order; whoever came without any is looked up.
async fn addresses(targets: Vec<Target>) -> Vec<SocketAddr> {
    let (mut found, mut lookups) = (Vec::new(), JoinSet::new());
    for (n, target) in targets.into_iter().enumerate() {
        let port = target.port;
        found.push(target.addresses.iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(*ip, port)).collect());
        if target.addresses.is_empty() {
            lookups.spawn(async move { (n, host(&format!("{}:{port}", target.host)).await.unwrap_or_default()) });
        }
    }
    let all = async {
        while let Some(looked_up) = lookups.join_next().await {
            if let Ok((n, addresses)) = looked_up {
                found[n] = addresses;
            }
        }
    };
    let _ = timeout(TARGETS_PATIENCE, all).await; // the others are enough
    found.concat()
}

/// The system's nameservers.
fn system() -> Vec<SocketAddr> {
    let mut text = Vec::new();
    // Where it can't be read, the system's resolver asks this host too.
    let _ = File::open(RESOLV_CONF).and_then(|file| file.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut text));
    let named = nameservers(&String::from_utf8_lossy(&text));
    if named.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT)] } else { named }
}

/// Those that a `resolv.conf` names. As with the system's resolver, what is not understood is passed over.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten().and_then(nameserver)
    });
    named.take(NAMESERVERS_MAX).collect()
}

/// An address; a link-local one with its interface, as in `fe80::1%eth0`.
fn nameserver(word: &str) -> Option<SocketAddr> {
    let Some((ip, scope)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, DNS_PORT));
    };
    let scope = scope.parse().ok().or_else(|| if_nametoindex(scope).ok())?;
    Some(SocketAddrV6::new(ip.parse::<Ipv6Addr>().ok()?, DNS_PORT, 0, scope).into())
}

#[cfg(test)]
mod tests;
