//! What befalls a cluster of three servers and sixty agents: the cases of `pams-proof cluster`, after all else, for each of them
//! keeps the machine busy.

use std::path::Path;

use pams_proof::cluster::{Case, Finding, chosen, play};

/// More at once would disturb each other's times.
const AT_ONCE: usize = 2;

pub fn cases(words: &[String]) -> Vec<Case> {
    chosen(words)
}

/// Gives what they found, and how many of them failed.
pub async fn all(cases: &[Case]) -> (Vec<Finding>, usize) {
    play(Path::new(env!("CARGO_BIN_EXE_pams-proof")), cases, AT_ONCE, None).await
}
