//! The agent's shell.
#![allow(dead_code)] // until the loop is there
pub mod handle;
