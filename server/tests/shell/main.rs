//! The server as agents meet it: real QUIC on loopback, a real authority in a directory of its own, and scripted agents
//! that also do what no agent should. What the core decides is tested in virtual time beside it; here it is told over the
//! wire. Nothing sleeps: what takes time is awaited.
#![allow(clippy::disallowed_methods)] // Tests end with their runtime.

mod harness;
mod joining;
mod limits;
mod previous;
mod probes;
mod pushes;
mod servers;
mod service;
mod services;
mod starting;
mod strangers;
mod v0_1;
mod working;
