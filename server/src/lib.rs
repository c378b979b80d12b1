//! PAMS: the peer activity management server. Agents report to it; it knows who is here, how each is doing and what their
//! transactions add up to, and says so over HTTP.
//!
//! - [`core`]: all state and every decision, in virtual time: sessions, directory, ledgers.
//! - [`shell`]: clocks, sockets and tasks around it; HTTP.
//! - [`config`], [`metrics`], [`cli`]: what an operator sets, sees and types.

pub mod cli;
pub mod config;
pub mod core;
pub mod metrics;
pub mod shell;

#[cfg(test)]
mod sample;
