//! PAMS: the peer activity management server. Agents report to it; it knows who is here, how each is doing and what their
//! transactions add up to, and says so over HTTP.
//!
//! - [`core`]: all state and every decision, in virtual time: sessions, directory, ledgers.

pub mod core;
