//! The text that lets an agent, or another server, join: `pams-join-1.<hash of the root's key>.<id>.<secret>@<address>[,<address>...]`.
//!
//! One line to paste: where the server is, how to know it, and the right to join. It is made and checked here; whether
//! it is still good is known to the server's `TokenStore` only.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::text;
use crate::frame::ADDRESSES_MAX;

const PREFIX: &str = "pams-join-1.";
/// Start of every version's tokens.
const PREFIX_ANY: &str = "pams-join-";
/// Longer than any token: eight addresses with the longest DNS names fit.
const TOKEN_BYTES_MAX: usize = 4_096;
/// Longest token id.
pub const TOKEN_ID_BYTES_MAX: usize = 16;
/// Random bytes of a token's secret.
pub const SECRET_BYTES: usize = 16;
const HOST_BYTES_MAX: usize = 253;

/// Every one is a mistake in copying, or a token of another version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    #[error("the join token is empty: `pams-server token create` prints one")]
    Empty,
    #[error("the join token is over {TOKEN_BYTES_MAX} bytes long: copy one token only")]
    TooLong,
    #[error(
        "not a join token: it must begin with {PREFIX:?}; copy the whole line that `pams-server token create` prints"
    )]
    Prefix,
    #[error("this join token is of another version than {PREFIX:?}: use programs of the version that made it")]
    Version,
    #[error("the join token is cut off: its {0} is missing or too short; copy all of it")]
    Truncated(&'static str),
    #[error("the join token's {0} is damaged: copy the token again, or make a new one with `pams-server token create`")]
    Damaged(&'static str),
    #[error("the join token names no server: it must end in @host:port or @_service._udp.name; was its end cut off?")]
    NoAddress,
    #[error("in the join token, {0}")]
    Address(#[from] AddressError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address: {problem}")]
pub struct AddressError {
    pub text: String,
    pub problem: &'static str,
}

/// Where servers are: `host:port`, a host name or an IP address and a UDP port; or a service, `_pams._udp.example.org`, whose SRV
/// records name hosts and ports (RFC 2782). Names are resolved by whoever dials.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: String,
    /// `None`: `host` is a service.
    port: Option<u16>,
}

impl Address {
    /// Without brackets, also for IPv6; or the service.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// It stands for all the servers that DNS names for a service.
    pub fn is_service(&self) -> bool {
        self.port.is_none()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl From<Address> for String {
    fn from(a: Address) -> String {
        a.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(s: String) -> Result<Self, AddressError> {
        s.parse()
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(a: std::net::SocketAddr) -> Self {
        Self { host: a.ip().to_string(), port: Some(a.port()) }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(s: &str) -> Result<Self, AddressError> {
        let bad = |problem| AddressError { text: s.chars().take(300).collect(), problem };
        let Some((host, port)) = s.rsplit_once(':') else {
            return match s.starts_with('_') {
                true if is_service(s) => Ok(Self { host: s.into(), port: None }),
                true => Err(bad("a service is written _service._udp.name, as in _pams._udp.example.org")),
                false => Err(bad("expected host:port, or a service such as _pams._udp.example.org")),
            };
        };
        // `u16::from_str` takes a leading plus; we do not.
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|p| digits && *p != 0).ok_or_else(|| bad("the port must be 1 to 65535"))?;
        let port = Some(port);
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| bad("expected [IPv6]:port"))?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| bad("no IPv6 address stands in the brackets"))?;
            return Ok(Self { host: ip.to_string(), port });
        }
        if host.contains(':') {
            return Err(bad("an IPv6 address must stand in brackets, as in [::1]:4840"));
        }
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_of_a_name) {
            return Err(bad("the host must be a DNS name or an IP address"));
        }
        Ok(Self { host: host.into(), port })
    }
}

fn is_of_a_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

/// `_service._proto.name`: two labels with an underscore, and a name.
fn is_service(s: &str) -> bool {
    let labels: Vec<&str> = s.strip_suffix('.').unwrap_or(s).split('.').collect();
    let fits = |label: &&str| (1..=63).contains(&label.len()) && label.bytes().all(is_of_a_name);
    let underscored = |label: &&str| label.len() > 1 && label.starts_with('_');
    s.len() <= HOST_BYTES_MAX && labels.len() > 2 && labels.iter().all(fits) && labels.iter().take(2).all(underscored)
}

/// A join token. Whoever has it can join: it shows its secret only in `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the root's subject public key info: what makes a server the right one.
    pub pin: [u8; 32],
    pub id: String,
    pub secret: [u8; SECRET_BYTES],
    /// One to [`ADDRESSES_MAX`].
    pub addresses: Vec<Address>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}.{}@", text::encode(&self.pin), self.id, text::encode(&self.secret))?;
        for (i, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(s: &str) -> Result<Self, TokenError> {
        let s = s.trim();
        if s.is_empty() {
            return Err(TokenError::Empty);
        }
        if s.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let Some(rest) = s.strip_prefix(PREFIX) else {
            let other = s.starts_with(PREFIX_ANY) && s.contains('.');
            return Err(if other { TokenError::Version } else { TokenError::Prefix });
        };
        let (head, addresses) = match rest.split_once('@') {
            Some((head, addresses)) => (head, Some(addresses)),
            None => (rest, None),
        };
        let mut parts = head.splitn(3, '.');
        let pin = bytes(parts.next(), "key hash")?;
        let id = parts.next().filter(|id| !id.is_empty()).ok_or(TokenError::Truncated("id"))?;
        if !is_token_id(id) {
            return Err(TokenError::Damaged("id"));
        }
        let secret = bytes(parts.next(), "secret")?;
        let addresses = addresses.filter(|a| !a.is_empty()).ok_or(TokenError::NoAddress)?;
        if addresses.contains('@') {
            // A second token glued to the first: an error about an address would show its secret.
            return Err(TokenError::Damaged("list of addresses"));
        }
        let addresses = addresses.split(',').map(str::parse).collect::<Result<Vec<Address>, _>>()?;
        if addresses.len() > ADDRESSES_MAX {
            return Err(TokenError::Damaged("list of addresses"));
        }
        Ok(Self { pin, id: id.into(), secret, addresses })
    }
}

pub(super) fn is_token_id(id: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !id.is_empty() && id.len() <= TOKEN_ID_BYTES_MAX && id.bytes().all(ok)
}

fn bytes<const N: usize>(part: Option<&str>, what: &'static str) -> Result<[u8; N], TokenError> {
    let part = part.unwrap_or_default();
    if part.len() < (N * 8).div_ceil(6) {
        return Err(TokenError::Truncated(what));
    }
    text::decode(part).ok_or(TokenError::Damaged(what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        let addresses = ["[2001:db8::1]:4840", "home.example:4840"].map(|a| a.parse().unwrap()).to_vec();
        Token { pin: [7; 32], id: "a1b2c3".into(), secret: [9; SECRET_BYTES], addresses }
    }

    #[test]
    fn a_token_reads_back_also_with_white_space_around_it() {
        let text = token().to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        assert!(text.ends_with("@[2001:db8::1]:4840,home.example:4840"), "{text}");
        let debug = format!("{:?}", token());
        assert!(!debug.contains(&text::encode(&[9; SECRET_BYTES])) && debug.contains("a1b2c3"), "{debug}");
    }

    #[test]
    fn each_mistake_has_its_error() {
        let good = token().to_string();
        let check = |text: &str, expected: TokenError| assert_eq!(text.parse::<Token>(), Err(expected), "{text}");
        check("", TokenError::Empty);
        check(&good.repeat(40), TokenError::TooLong);
        check(&good.repeat(2), TokenError::Damaged("list of addresses"));
        check(&good[1..], TokenError::Prefix);
        check(&good.replace("join-1", "join-2"), TokenError::Version);
        check(&good[..30], TokenError::Truncated("key hash"));
        check(&good[..55], TokenError::Truncated("id"));
        check(&good[..56], TokenError::Truncated("id"));
        check(&good[..66], TokenError::Truncated("secret"));
        check(good.split('@').next().unwrap(), TokenError::NoAddress);
        check(&good[..good.find('@').unwrap() + 1], TokenError::NoAddress);
        check(&good.replacen("Bw", "B!", 1), TokenError::Damaged("key hash"));
        check(&good.replace("a1b2c3", "A1b2c3"), TokenError::Damaged("id"));
        check(&good.replace('@', "x@"), TokenError::Damaged("secret"));
        check(&format!("{good}{}", ",h:1".repeat(ADDRESSES_MAX)), TokenError::Damaged("list of addresses"));
        let message = good.replace(":4840,", ":99999,").parse::<Token>().unwrap_err().to_string();
        assert!(message.contains("[2001:db8::1]:99999") && message.contains("1 to 65535"), "{message}");
    }

    #[test]
    fn addresses_are_strict() {
        for good in ["a:1", "10.0.0.1:65535", "[::1]:4840", "_a:1"] {
            let address = good.parse::<Address>().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_service()), (good, false));
        }
        for bad in ["", "a", "a:", ":1", "a:0", "a:+1", "::1:4840", "[::1:4840", "[a]:1", "a b:1", "a/b:1", "@:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_has_two_labels_with_an_underscore_and_a_name() {
        for good in ["_pams._udp.example.org", "_p._udp.x", "_pams._udp.example.org.", "_Pams-2._tcp.a_b.c"] {
            let address = good.parse::<Address>().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_service()), (good, true));
        }
        let long = format!("_pams._udp.{}", "a".repeat(64));
        let longer = format!("_pams._udp{}", ".abcdefg".repeat(31));
        for bad in
            ["_", "_pams", "_pams._udp", "_pams._udp.", "_pams.udp.x", "_._udp.x", "_pams._udp..x", &long, &longer]
        {
            let told = bad.parse::<Address>().unwrap_err().to_string();
            assert!(told.contains("as in _pams._udp.example.org"), "{bad}: {told}");
        }
        assert!("example.org".parse::<Address>().unwrap_err().to_string().contains("or a service such as"));
        assert!("_pams._udp.example.org:7420".parse::<Address>().is_ok_and(|a| !a.is_service()), "a host's name");
        let with = Token { addresses: vec!["_pams._udp.example.org".parse().unwrap()], ..token() };
        assert_eq!(with.to_string().parse(), Ok(with));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_mutated_token_never_panics(at in 0usize..120, cut in 0usize..130, with in any::<char>()) {
            let mut chars: Vec<char> = token().to_string().chars().collect();
            let n = chars.len();
            chars[at % n] = with;
            chars.truncate(cut);
            let text: String = chars.into_iter().collect();
            if let Ok(t) = text.parse::<Token>() {
                prop_assert_eq!(t.to_string().parse(), Ok(t));
            }
        }
    }
}
