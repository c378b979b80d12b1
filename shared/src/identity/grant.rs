//! What a join token allows, and how it is listed. Making, using and keeping tokens is `store`'s.

use serde::Serialize;

use super::IdentityError;
use crate::frame::Role;

/// Most tokens that are kept: some 3 MB of file, which is read as a whole.
pub const TOKENS_MAX: usize = 10_000;
pub const NOTE_BYTES_MAX: usize = 128;

/// What a new token allows.
#[derive(Clone, Debug)]
pub struct Grant {
    pub role: Role,
    /// `None`: any number.
    pub uses: Option<u32>,
    /// Unix seconds.
    pub expires_at: u64,
    /// For people; at most [`NOTE_BYTES_MAX`].
    pub note: String,
}

/// Why a token was not made; nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    #[error("{TOKENS_MAX} tokens are open: revoke some with `pams-server token revoke`")]
    Full,
    #[error(
        "only a server with the root's key can let servers join, and this one has joined the cluster itself: make the token \
         on the server that made the cluster; this one joined at {0}"
    )]
    NoRootKey(String),
    #[error("a token with no uses or in the past lets nobody join: give it at least one use and a later expiry")]
    Useless,
    #[error("the token's note is over {NOTE_BYTES_MAX} bytes: shorten it")]
    Note,
    #[error(transparent)]
    Store(#[from] IdentityError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    Open,
    UsedUp,
    Expired,
    Revoked,
}

impl TokenState {
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenState::Open => "open",
            TokenState::UsedUp => "used_up",
            TokenState::Expired => "expired",
            TokenState::Revoked => "revoked",
        }
    }
}

/// A token as it is listed: all but its secret. Times are unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    pub id: String,
    pub role: Role,
    pub state: TokenState,
    /// `None`: any number.
    pub uses_left: Option<u32>,
    pub used: u64,
    pub created_at: u64,
    pub expires_at: u64,
    pub note: String,
}
