//! The roster of the file and the command line: whom this agent watches.

use std::str::FromStr;

use pams_shared::{
    id::PeerId,
    identity::{Address, AddressError},
};
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// One line of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buddy {
    #[serde(deserialize_with = "peer_id")]
    pub id: PeerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// None: the home is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Whether to be told of each change of its presence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subscribe: bool,
}

impl Buddy {
    pub(super) fn example() -> Self {
        Self {
            id: PeerId(Uuid::from_u128(0x1b4e28ba_2fa1_41d2_883f_0016d3cca427)),
            name: Some("beta".to_owned()),
            addresses: "beta.example.org:7421".parse().into_iter().collect(),
            subscribe: true,
        }
    }
}

/// `ID` or `ID@host:port[,host:port..]`, as `--buddy` takes it.
impl FromStr for Buddy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, addresses) = text.split_once('@').map_or((text, None), |(id, rest)| (id, Some(rest)));
        let id = id.parse().map_err(|_| no_peer_id(id))?;
        let addresses = addresses.into_iter().flat_map(|list| list.split(','));
        let addresses = addresses.map(str::parse).collect::<Result<_, _>>();
        Ok(Self { id, name: None, addresses: addresses.map_err(|e: AddressError| e.to_string())?, subscribe: false })
    }
}

fn peer_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(no_peer_id(&text)))
}

fn no_peer_id(text: &str) -> String {
    format!("{text:?} is no peer id; `pams-agent status` on that host shows it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buddy_of_the_command_line_has_an_id_and_perhaps_addresses() {
        let id = Buddy::example().id;
        let buddy: Buddy = format!("{id}@beta:1,[::1]:2").parse().unwrap();
        assert_eq!(buddy.addresses.iter().map(Address::to_string).collect::<Vec<_>>(), ["beta:1", "[::1]:2"]);
        assert_eq!(
            id.to_string().parse::<Buddy>().unwrap(),
            Buddy { id, name: None, addresses: vec![], subscribe: false }
        );
        for (text, expected) in [
            ("beta", "\"beta\" is no peer id"),
            ("", "\"\" is no peer id"),
            (
                &format!("{id}@beta"),
                "\"beta\" is no address: expected host:port, or a service such as _pams._udp.example.org",
            ),
            (&format!("{id}@"), "\"\" is no address"),
        ] {
            assert!(text.parse::<Buddy>().unwrap_err().starts_with(expected), "{text}");
        }
    }
}
