//! The address book: which servers were known last, so that the next start finds one even if all that were configured are gone.

use std::net::SocketAddr;

use pams_shared::{frame::Member, id::ServerId};
use serde::{Deserialize, Serialize};

/// Servers that are kept.
const SERVERS_MAX: usize = 64;

/// Those that were known last come first. As JSON it is the list of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Book(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    id: ServerId,
    name: String,
    addresses: Vec<SocketAddr>,
}

impl Book {
    /// These servers are known now ([`super::io::SiblingOutput::Members`]). Those of before stay behind them: a start that has
    /// not met them yet must not be what forgets them.
    pub fn note(&mut self, members: Vec<Member>) {
        let mut lines: Vec<_> =
            members.into_iter().map(|m| Line { id: m.id, name: m.name, addresses: m.addresses }).collect();
        let is_apart = |line: &Line| lines.iter().all(|l| l.id != line.id);
        let before: Vec<_> = std::mem::take(&mut self.0).into_iter().filter(is_apart).collect();
        lines.extend(before);
        lines.truncate(SERVERS_MAX);
        self.0 = lines;
    }

    /// Where to look for servers, each as `ip:port`.
    pub fn seeds(&self) -> impl Iterator<Item = String> {
        self.0.iter().take(SERVERS_MAX).flat_map(|line| &line.addresses).map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u8) -> Member {
        let addresses = vec![SocketAddr::from(([192, 0, 2, n], 7420))];
        let (id, name) = (ServerId::from_bytes([n; 16]), format!("s{n}"));
        Member { id, generation: 1, name, addresses, http: None, region: String::new(), software: String::new() }
    }

    #[test]
    fn whoever_is_not_met_again_stays_behind_those_that_are_until_there_are_too_many() {
        let mut book = Book::default();
        book.note(vec![member(1), member(2)]);
        book.note(vec![member(2), member(3)]);
        book.note(Vec::new());
        let seeds: Vec<_> = book.seeds().collect();
        assert_eq!(seeds, ["192.0.2.2:7420", "192.0.2.3:7420", "192.0.2.1:7420"]);
        book.note((10..10 + SERVERS_MAX as u8).map(member).collect());
        assert_eq!(book.seeds().count(), SERVERS_MAX);
        assert_eq!(book.seeds().next().as_deref(), Some("192.0.2.10:7420"));
    }
}
