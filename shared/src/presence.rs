//! The roles of RFC 2778: a [`Presentity`] that says a Status and answers; a [`Watcher`] that polls its roster and concludes a
//! Liveness for each buddy; and subscriptions, whose one side is the [`Publisher`], which pushes changes, and whose other the
//! [`Subscriber`], which is told. No sockets, no clock; a lost buddy, and a lost subscriber, is noticed without its goodbye
//! (RFC 2779, 3.2.4 and 3.2.5).

mod presentity;
mod publisher;
mod subscriber;
mod watcher;

#[cfg(test)]
mod tests;

pub use presentity::{Answering, Due as AnswerDue, Presentity};
pub use publisher::{Acked, Ended, Expired, NoRoom, Publisher, PublisherConfig, Standing, Subscription, Tell};
pub use subscriber::{Ask, Full, Heard, Known, Leg, Path, REFUSED_RETRY, Subscriber, UNANSWERED_RETRY, Wanted};
pub use watcher::{Buddy, Change, Watcher, WatcherConfig};
