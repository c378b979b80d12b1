//! Where HTTP is served: an address, or "off".

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// Where HTTP is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Http {
    Off,
    At(SocketAddr),
}

impl Default for Http {
    fn default() -> Self {
        Self::At(SocketAddr::from(([127, 0, 0, 1], 7481)))
    }
}

impl TryFrom<String> for Http {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            at => at
                .parse()
                .map(Self::At)
                .map_err(|_| format!("{at:?} is no address; give ip:port, as in \"127.0.0.1:7481\", or \"off\"")),
        }
    }
}

impl From<Http> for String {
    fn from(http: Http) -> Self {
        http.to_string()
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}
