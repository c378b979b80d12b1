//! How everything beside the loop talks to it: HTTP, and a program that carries the server as a library. A bounded queue
//! of requests, each with the place for its answer.
//!
//! The loop owns the engine, so a question is a closure that it runs between two inputs. It must be short and copy plain
//! data; whatever takes long (writing JSON, waiting for a client) happens where the answer arrives.

use std::{fmt, time::Duration};

use pams_shared::{id::PeerId, identity::IdentityError, moment::Moment};
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Config,
    core::{
        Forgot, Pams,
        probe::{Caller, ProbeAnswer, ProbeRefused},
    },
};

/// Requests that may wait for the loop; beyond, callers wait in turn.
const REQUESTS_MAX: usize = 256;

/// A running server. Clones are cheap; when the server has ended every call gives [`Ended`].
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

/// The server has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has ended")]
pub struct Ended;

/// How a peer is, or why it was not asked.
pub type Probed = Result<Box<ProbeAnswer>, ProbeRefused>;

/// What came of the wish to forget a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    pub entry: Forgot,
    /// Whether its id was bound to a key and is no more. It can be without an entry: the directory is in memory, the
    /// bindings are on disk.
    pub unbound: bool,
}

pub(crate) type Look = Box<dyn FnOnce(&Pams, Moment) + Send>;

pub(crate) enum Request {
    /// To be run on the engine with the present moment. It changes nothing.
    Look(Look),
    /// [`Input::Forget`](crate::core::Input::Forget), and the id banned in the authority unless the peer is
    /// [`Forgot::StillHere`]. An error is that of the banning; a peer that is here then stays.
    Forget { peer: PeerId, force: bool, answer: oneshot::Sender<Result<Forgotten, IdentityError>> },
    /// [`Input::Probe`](crate::core::Input::Probe).
    Probe { peer: PeerId, within: Duration, caller: Caller, answer: oneshot::Sender<Probed> },
    /// Send all agents to other servers, then end.
    Drain { answer: oneshot::Sender<()> },
    /// Go on with another configuration.
    Reconfigure { config: Box<Config>, answer: oneshot::Sender<()> },
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Look(_) => f.write_str("Look"),
            Request::Probe { peer, .. } => f.debug_struct("Probe").field("peer", peer).finish_non_exhaustive(),
            Request::Drain { .. } => f.write_str("Drain"),
            Request::Reconfigure { .. } => f.write_str("Reconfigure"),
            Request::Forget { peer, .. } => f.debug_struct("Forget").field("peer", peer).finish_non_exhaustive(),
        }
    }
}

impl Handle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (tx, rx) = mpsc::channel(REQUESTS_MAX);
        (Self(tx), rx)
    }

    /// Asks the engine; `question` runs on the loop.
    pub async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Pams, Moment) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        self.ask(|answer| {
            Request::Look(Box::new(move |pams, now| {
                // Whoever asked may be gone.
                let _ = answer.send(question(pams, now));
            }))
        })
        .await
    }

    /// Removes the entry of a peer that is gone or left, and frees its id for another key. `force`: also of one that is
    /// here; its certificate is refused from then on, and its connection closed.
    pub async fn forget(&self, peer: PeerId, force: bool) -> Result<Result<Forgotten, IdentityError>, Ended> {
        self.ask(|answer| Request::Forget { peer, force, answer }).await
    }

    /// Goes on with another configuration, as far as a running server can: it does not listen elsewhere, nor move its data.
    pub async fn reconfigure(&self, config: Config) -> Result<(), Ended> {
        self.ask(|answer| Request::Reconfigure { config: Box::new(config), answer }).await
    }

    /// How a peer is right now; the answer comes in `within`, 10 s at the longest.
    pub async fn probe(&self, peer: PeerId, within: Duration, caller: Caller) -> Result<Probed, Ended> {
        self.ask(|answer| Request::Probe { peer, within, caller, answer }).await
    }

    /// Begins to send all agents to other servers; when they have gone the server ends.
    pub async fn drain(&self) -> Result<(), Ended> {
        self.ask(|answer| Request::Drain { answer }).await
    }

    /// Waits until the server has ended.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Ended> {
        let (tx, rx) = oneshot::channel();
        self.0.send(request(tx)).await.map_err(|_| Ended)?;
        rx.await.map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::clock::Clock;

    use super::*;
    use crate::core::PamsConfig;

    #[tokio::test]
    async fn a_look_sees_the_engine_and_an_ended_server_says_so() {
        let (handle, mut requests) = Handle::new();
        let now = Clock.now();
        let pams = Pams::new(PamsConfig::default(), now);
        let serve_one = async {
            let Some(Request::Look(look)) = requests.recv().await else { panic!("no look") };
            look(&pams, now);
        };
        let (answer, ()) = tokio::join!(handle.look(|pams, now| (pams.ready(now), now)), serve_one);
        assert_eq!(answer, Ok((false, now)));
        drop(requests);
        handle.ended().await;
        assert_eq!(handle.look(|_, _| ()).await, Err(Ended));
        assert_eq!(handle.forget(PeerId::from_bytes([1; 16]), false).await.unwrap_err(), Ended);
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_unanswered_is_an_end() {
        let (handle, mut requests) = Handle::new();
        let drop_one = async { drop(requests.recv().await) };
        assert_eq!(tokio::join!(handle.look(|_, _| ()), drop_one).0, Err(Ended));
    }
}
