//! The two roles of RFC 2778: a [`Watcher`] that polls its roster and concludes a Liveness for each buddy, and a
//! [`Presentity`] that says a Status and answers. No sockets, no clock; a lost buddy is noticed without its goodbye
//! (RFC 2779, 3.2.4).

mod presentity;
mod watcher;

pub use presentity::{Answering, Due as AnswerDue, Presentity};
pub use watcher::{Buddy, Change, Watcher, WatcherConfig};
