//! What PAMS agents and servers share.
//!
//! Without features this crate is pure: no clock, socket, task, randomness, metric or log. Feature `io` adds the one place
//! for each of these; feature `sim` a seeded network for tests and the demo.
//!
//! # Glossary: one word, one meaning
//!
//! | word | meaning |
//! | --- | --- |
//! | Peer, Agent | a peer is one instance of a P2P application; its agent speaks for it |
//! | Overlay | a community of peers that may see each other; nests by `/` in its name |
//! | Presentity, Watcher | who publishes a Status; who looks at it (RFC 2778) |
//! | Status | what a peer says: online, busy, away, offline, with an optional note |
//! | Liveness | what an observer concludes: live, overdue, gone, left |
//! | Buddy, Roster | a watched peer; the list of them |
//! | Transaction | anything timed: `presence.ping`, `pams.report`, later an application's own (ARM) |
//! | Correlator | ties a transaction's ends together: trace id (16 bytes) + span id (8) |
//! | Stage | a part of a transaction's time: queued, network, remote_hold, local_wait, run, blocked |
//! | Record | a finished transaction |
//! | Ledger | all transactions of a kind: opened = good + aborted + failed + unknown + in_flight |
//! | Consumer | takes Records |
//! | PAMS, Home | peer activity management server (X.609); the one that a peer reports to |
//! | Sibling, Member | another server of the cluster; what a server says of itself |
//! | Directory, Entry | all servers' shared view of all peers; one peer's row, written by its home only |
//! | Lot | what an entry says of its peer, as it travels and is kept |
//! | Owner | the server that wrote an entry: the peer's home when it did |
//! | Epoch, Attach, Version | a peer's starts, its changes of home, changes within; entries are ordered by the triple |
//! | Generation | a server's starts |
//! | Notice | an oddity that a core tells of: counted, logged, asserted in tests |

// `config!` names this crate in the code that it makes, here as in the binaries.
#[cfg(feature = "io")]
extern crate self as pams_shared;

pub mod frame;
pub mod id;
pub mod moment;
pub mod presence;
#[rustfmt::skip]
pub mod proto;
pub mod record;
pub mod status;
pub mod transaction;

#[cfg(feature = "sim")]
pub mod sim;

#[cfg(feature = "io")]
pub mod catalogue;
#[cfg(feature = "io")]
pub mod clock;
#[cfg(feature = "io")]
pub mod config;
#[cfg(feature = "io")]
pub mod control;
#[cfg(feature = "io")]
pub mod expo;
#[cfg(feature = "io")]
pub mod identity;
#[cfg(feature = "io")]
pub mod landing;
#[cfg(feature = "io")]
pub mod logs;
#[cfg(feature = "io")]
pub mod lookup;
#[cfg(feature = "io")]
pub mod openapi;
#[cfg(feature = "io")]
pub mod process;
#[cfg(feature = "io")]
pub mod program;
#[cfg(feature = "io")]
pub mod pulse;
#[cfg(feature = "io")]
pub mod quic;
#[cfg(feature = "io")]
pub mod redeem;
#[cfg(feature = "io")]
pub mod reload;
#[cfg(feature = "io")]
pub mod serve;
#[cfg(feature = "io")]
pub mod socket;
#[cfg(feature = "io")]
pub mod supervisor;
#[cfg(feature = "io")]
pub mod terminal;
