//! Many servers as one: who they are and how they are.

pub mod membership;
