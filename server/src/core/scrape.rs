//! Where Prometheus finds an agent's `/metrics`: what the agent announced, against the address that we see it at.
//!
//! The rule: no agent chooses the host that is scraped. So a target has the address that we see the agent at, and of what
//! the agent announced only the port counts; an address of its that is another one is listed for those alone who ask for
//! it. A loopback address names the host of whoever uses it, so it is a target only if the agent shares ours.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// Where an agent's `/metrics` listens, and what service discovery makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Scrape {
    /// As the agent bound it.
    #[schema(value_type = String, example = "0.0.0.0:7481")]
    pub announced: SocketAddr,
    /// What service discovery lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.0.2.7:7481")]
    pub target: Option<SocketAddr>,
    /// Why it lists nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<Unlisted>,
    /// For people: what to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub hint: Option<&'static str>,
}

/// Why an agent that announced a metrics address is not among the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// Its HTTP listens on loopback, and it runs on another host.
    LoopbackOnly,
    /// Its HTTP listens on IPv4 only, and we see the agent at an IPv6 address.
    OtherFamily,
    /// Its HTTP listens on an address other than the one that we see the agent at.
    Elsewhere,
}

impl Unlisted {
    const fn hint(self) -> &'static str {
        match self {
            Self::LoopbackOnly => "it listens on loopback only: let the agent's http listen on [::]",
            Self::OtherFamily => {
                "it listens on IPv4 only, and the agent is seen at an IPv6 address: let its http listen on [::]"
            }
            Self::Elsewhere => "it is not where the agent is seen: listed for those who ask with ?elsewhere=true",
        }
    }
}

impl Scrape {
    pub(super) fn new(announced: SocketAddr, observed: IpAddr, same_host: bool) -> Self {
        let (ip, port) = (announced.ip().to_canonical(), announced.port());
        let seen = Ok(SocketAddr::new(observed, port));
        let place = match ip {
            IpAddr::V4(any) if any.is_unspecified() && observed.is_ipv6() => Err(Unlisted::OtherFamily),
            _ if ip.is_unspecified() || ip == observed => seen,
            _ if ip.is_loopback() && same_host => Ok(SocketAddr::new(ip, port)),
            _ if ip.is_loopback() => Err(Unlisted::LoopbackOnly),
            _ => Err(Unlisted::Elsewhere),
        };
        Self { announced, target: place.ok(), unlisted: place.err(), hint: place.err().map(Unlisted::hint) }
    }

    /// What is listed for those who ask for addresses elsewhere as well.
    pub(super) fn target(self, elsewhere: bool) -> Option<SocketAddr> {
        let trusted = elsewhere && self.unlisted == Some(Unlisted::Elsewhere);
        self.target.or_else(|| trusted.then_some(self.announced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_where_the_agent_is_seen_with_the_port_that_it_announced() {
        use Unlisted::*;
        for (announced, observed, same_host, expected) in [
            ("0.0.0.0:9", "192.0.2.1", false, Ok("192.0.2.1:9")),
            ("[::]:9", "192.0.2.1", false, Ok("192.0.2.1:9")),
            ("[::]:9", "2001:db8::1", false, Ok("[2001:db8::1]:9")),
            ("0.0.0.0:9", "2001:db8::1", false, Err(OtherFamily)),
            ("192.0.2.1:9", "192.0.2.1", false, Ok("192.0.2.1:9")),
            ("[::ffff:192.0.2.1]:9", "192.0.2.1", false, Ok("192.0.2.1:9")),
            ("127.0.0.1:9", "192.0.2.1", false, Err(LoopbackOnly)),
            ("[::ffff:127.0.0.1]:9", "192.0.2.1", false, Err(LoopbackOnly)),
            ("[::1]:9", "192.0.2.1", true, Ok("[::1]:9")),
            ("127.0.0.2:9", "127.0.0.1", true, Ok("127.0.0.2:9")),
            ("169.254.169.254:80", "192.0.2.1", true, Err(Elsewhere)),
        ] {
            let scrape = Scrape::new(announced.parse().unwrap(), observed.parse().unwrap(), same_host);
            let target = scrape.target.ok_or(scrape.unlisted.unwrap_or(Elsewhere));
            assert_eq!(target, expected.map(|t| t.parse().unwrap()), "{announced} seen at {observed}");
            let asked = scrape.target(true).is_some();
            assert_eq!(asked, !matches!(expected, Err(LoopbackOnly | OtherFamily)), "{announced}");
        }
    }
}
