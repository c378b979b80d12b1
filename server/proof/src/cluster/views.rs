//! What servers answer, as far as it is compared.

use std::collections::BTreeMap;

use pams_shared::{
    control::{Control, ControlError},
    id::{PeerId, ServerId},
};
use serde::Deserialize;
use serde_json::Value;

/// `/api/v1/cluster`.
#[derive(Debug, Deserialize)]
pub struct ClusterSeen {
    pub me: ServerId,
    members: Vec<MemberSeen>,
}

#[derive(Debug, Deserialize)]
struct MemberSeen {
    id: ServerId,
    state: String,
}

impl ClusterSeen {
    pub async fn ask(control: &Control) -> Result<Self, ControlError> {
        control.get("/api/v1/cluster").await
    }

    /// What is concluded of a server.
    pub fn state(&self, id: ServerId) -> String {
        self.members.iter().find(|m| m.id == id).map_or_else(|| "unknown".to_owned(), |m| m.state.clone())
    }
}

/// `/api/v1/peers`: what all servers must say alike of each peer.
#[derive(Debug, PartialEq)]
pub struct Directory(BTreeMap<PeerId, Entry>);

#[derive(Debug, PartialEq, Deserialize)]
struct Entry {
    id: PeerId,
    order: Value,
    #[serde(default)]
    presence: Option<Value>,
    pub liveness: String,
    pub server: ServerId,
    stale: bool,
}

#[derive(Deserialize)]
struct Page {
    peers: Vec<Entry>,
}

impl Directory {
    pub async fn ask(control: &Control) -> Result<Self, ControlError> {
        let page: Page = control.get("/api/v1/peers?limit=1000").await?;
        Ok(Self(page.peers.into_iter().map(|e| (e.id, e)).collect()))
    }

    /// Why this is not a directory of so many live peers.
    pub fn flaw(&self, peers: usize) -> Option<String> {
        if self.0.len() != peers {
            return Some(format!("{} peers, not {peers}", self.0.len()));
        }
        let wrong = self.0.values().find(|e| e.liveness != "live" || e.stale)?;
        Some(format!("{wrong:?}"))
    }

    /// Where two directories of the same peers differ first.
    pub fn differs(&self, other: &Self) -> Option<String> {
        let (one, two) = self.0.values().zip(other.0.values()).find(|(one, two)| one != two)?;
        Some(format!("{one:?}, {two:?}"))
    }
}
