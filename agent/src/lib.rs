//! The PAMS agent: sits beside a P2P application, exchanges pings with its buddies over QUIC, times every exchange by stage
//! and reports to its home.
//!
//! [`core`] decides, in virtual time; [`shell`] owns clocks, sockets and tasks; [`consumer`]s take what is measured; [`cli`], [`config`] and [`metrics`] are what
//! people and Prometheus see.

pub mod cli;
pub mod config;
pub mod consumer;
pub mod core;
pub mod metrics;
pub mod shell;

#[cfg(test)]
mod sample;
