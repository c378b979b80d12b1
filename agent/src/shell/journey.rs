//! What a person should know of the search for a home while there is none: since when, how often and where it was tried, what
//! the name stands for, and, where UDP met silence, whether TCP gets through to the same place, which tells a host that is
//! down from a firewall that drops UDP.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use pams_shared::{
    clock::Clock,
    lookup::Resolver,
    moment::Moment,
    record::{Reason, Why},
};
use tokio::{net::TcpStream, time::timeout};

use crate::core::Trying;

/// How long the name's lookup, and TCP's answer, are waited for; both beside the pause between two tries.
const PATIENCE: Duration = Duration::from_secs(1);
/// TCP is asked at the second look of one search, and then this seldom.
const TCP_EVERY: u32 = 16;

/// One search for a home.
#[derive(Debug, Default)]
pub struct Journey {
    tries: u32,
    since_ms: Option<u64>,
    /// How often it was looked into.
    looks: u32,
    tcp: Option<(SocketAddr, String)>,
}

impl Journey {
    /// A try came to nothing.
    pub fn missed(&mut self) {
        self.tries = self.tries.saturating_add(1);
        self.since_ms.get_or_insert_with(|| Clock.now().wall_ms());
    }

    /// All tries up to that of `home` came to nothing; the next one is at `next`.
    pub async fn tried(&mut self, resolver: &Resolver, home: &str, why: &Why, next: Moment) -> Trying {
        self.looks = self.looks.saturating_add(1);
        let since_ms = *self.since_ms.get_or_insert_with(|| Clock.now().wall_ms());
        let resolved = timeout(PATIENCE, resolver.resolve(home)).await;
        let resolved = resolved.ok().and_then(Result::ok).unwrap_or_default();
        if why.reason != Reason::NoAnswer {
            self.tcp = None; // something spoke
        } else if let Some(at) = resolved.first()
            && (self.looks % TCP_EVERY == 2 || self.tcp.as_ref().is_some_and(|(asked, _)| asked != at))
        {
            self.tcp = Some((*at, tcp(*at).await));
        }
        Trying {
            home: home.to_owned(),
            resolved,
            tries: self.tries,
            since_ms,
            next_ms: next.wall_ms(),
            tcp: self.tcp.as_ref().map(|(_, text)| text.clone()),
        }
    }
}

/// What TCP says of the address. No server of ours listens there, so a refusal is the good answer: the host is there.
async fn tcp(at: SocketAddr) -> String {
    let port = at.port();
    let there = format!(
        "TCP gets through to {at}, so the host is up: check that pams-server runs and that UDP {port} is open (firewalls often block it)"
    );
    match timeout(PATIENCE, TcpStream::connect(at)).await {
        Ok(Ok(_)) => there,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => there,
        Ok(Err(error)) => format!("TCP to {at} fails too ({error}): check the address and this host's network"),
        Err(_) => format!(
            "TCP to {at} meets silence too: the host is down, the address is wrong, or a firewall drops both; check that UDP {port} is open"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_is_looked_into_and_a_word_from_the_other_side_is_enough() {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let resolver = Resolver::default();
        let (mut journey, next) = (Journey::default(), Clock.now() + PATIENCE);
        let silence = Why::new(Reason::NoAnswer, "no answer");
        journey.missed();
        let first = journey.tried(&resolver, &dead.to_string(), &silence, next).await;
        assert_eq!((first.tries, &first.resolved[..], first.tcp), (1, &[dead][..], None));
        journey.missed();
        let second = journey.tried(&resolver, &dead.to_string(), &silence, next).await;
        let tcp = second.tcp.unwrap();
        assert!(tcp.contains("the host is up") && tcp.contains(&format!("UDP {} is open", dead.port())), "{tcp}");
        assert_eq!((second.tries, second.since_ms, second.next_ms), (2, first.since_ms, next.wall_ms()));
        let third = journey.tried(&resolver, &dead.to_string(), &Why::new(Reason::Refused, "no"), next).await;
        assert_eq!(third.tcp, None);
        let unknown = journey.tried(&resolver, "no port", &Why::new(Reason::NotSent, "no"), next).await;
        assert!(unknown.resolved.is_empty());
    }
}
