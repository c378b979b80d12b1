//! The wire as plain data: Rust made from `proto/pams/v1` by `tests/proto.rs` and checked in, so that a build needs no
//! generator. Nothing here is checked beyond protobuf itself; [`crate::frame::wire`] is the only reader and writer.

#![allow(clippy::all, clippy::pedantic)]

include!("pams.v1.rs");

/// Without the secret.
impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}
