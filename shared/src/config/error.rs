//! What can be wrong with a configuration, told so that it can be mended; and the exit codes of both binaries.

use std::{fmt, io, path::PathBuf};

use crate::frame::wire::steers;

/// Codes with which the binaries end (sysexits.h).
pub mod exit {
    /// Bad configuration or usage (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// What it needs does not answer (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// A bug (EX_SOFTWARE).
    pub const INTERNAL: u8 = 70;
    /// A file or socket failed (EX_IOERR).
    pub const IO: u8 = 74;
    /// Not allowed (EX_NOPERM).
    pub const NO_PERMISSION: u8 = 77;
}

/// Nothing was started or changed; the operator must change the configuration. The binary ends with [`exit::USAGE`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}: {problem}", file.display())]
    NotText { file: PathBuf, problem: String },
    /// Line and column from 1, the column in characters.
    #[error("{}:{line}:{column}: {problem}", file.display())]
    File { file: PathBuf, line: usize, column: usize, problem: String },
    #[error("environment variable {name}: {problem}")]
    Variable { name: String, problem: String },
    #[error("{flag}: {problem}")]
    Flag { flag: String, problem: String },
    /// Of no single place: a default, or values that do not go together.
    #[error("configuration: {0}")]
    Whole(String),
}

impl ConfigError {
    /// The same where a file or a variable holds what would steer a terminal or a log: such characters as their escapes.
    pub(super) fn in_one_line(self) -> Self {
        match self {
            Self::Read { .. } => self,
            Self::NotText { file, problem } => Self::NotText { file, problem: plain(&problem) },
            Self::File { file, line, column, problem } => Self::File { file, line, column, problem: plain(&problem) },
            Self::Variable { name, problem } => Self::Variable { name: plain(&name), problem: plain(&problem) },
            Self::Flag { flag, problem } => Self::Flag { flag: plain(&flag), problem: plain(&problem) },
            Self::Whole(problem) => Self::Whole(plain(&problem)),
        }
    }
}

fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// What [`Daemon::check`](super::Daemon::check) finds wrong with a key, by its dotted path, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub key: &'static str,
    pub problem: String,
    pub advice: String,
}

impl Flaw {
    pub fn new(key: &'static str, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { key, problem: problem.into(), advice: advice.into() }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.advice)
    }
}

/// The candidate most like `word`, if one is like it: at most a third of its letters differ, two that changed places
/// counting as one.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.len() / 3).max(1);
    candidates.into_iter().map(|c| (distance(word, c), c)).filter(|(d, _)| *d <= allowed).min().map(|(_, c)| c)
}

/// Optimal string alignment distance, in bytes. Keys are short; longer words are like nothing.
fn distance(a: &str, b: &str) -> usize {
    const LENGTH_MAX: usize = 64;
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().max(b.len()) > LENGTH_MAX {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_recognized_and_another_word_is_not() {
        let keys = ["listen", "interval", "http"];
        for (word, expected) in [
            ("lsiten", Some("listen")),
            ("intervall", Some("interval")),
            ("htp", Some("http")),
            ("deadline", None),
            ("x", None),
            (&"x".repeat(100), None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }
}
