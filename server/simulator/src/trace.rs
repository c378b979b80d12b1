//! What happened, line by line, in virtual time. Nothing is written, and no text made, unless somebody wants it.

use std::fmt::Write as _;

use crate::{SECOND, US};

#[derive(Debug)]
pub struct Trace {
    /// What a node is called, by its place.
    name: fn(usize) -> char,
    on: bool,
    echo: bool,
    text: String,
}

impl Trace {
    pub fn new(on: bool, name: fn(usize) -> char) -> Self {
        Self { name, on, echo: false, text: String::new() }
    }

    /// Each line is printed as well.
    pub fn echo(&mut self) {
        self.echo = true;
    }

    /// One line: when (ns), who, what.
    pub fn line(&mut self, now: u64, who: usize, what: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        let (start, who) = (self.text.len(), (self.name)(who));
        let (s, us) = (now / SECOND, now / US % 1_000_000);
        writeln!(self.text, "{s:4}.{us:06} {who} {}", what()).expect("a string takes all");
        if self.echo {
            print!("{}", &self.text[start..]);
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<&str> = self.text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
