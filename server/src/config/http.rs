//! Where HTTP is served: an address, or nowhere.

use std::{fmt, net::SocketAddr, str::FromStr};

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
        Self::At(SocketAddr::from(([127, 0, 0, 1], 7480)))
    }
}

impl FromStr for Http {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        match text {
            "off" => Ok(Self::Off),
            at => at.parse().map(Self::At).map_err(|_| HttpError(at.to_owned())),
        }
    }
}

/// Text that names no place to serve HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address; give ip:port, as in \"127.0.0.1:7480\", or \"off\"")]
pub struct HttpError(String);

impl TryFrom<String> for Http {
    type Error = HttpError;

    fn try_from(text: String) -> Result<Self, HttpError> {
        text.parse()
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
