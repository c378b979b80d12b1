//! How everything beside the loop talks to it: the control socket, `/metrics`, an application that carries the agent as a
//! library. A bounded queue of requests, each with the place for its answer.

use pams_shared::{
    frame::Entry,
    id::PeerId,
    record::{Reason, Record, Why},
    status::{Presence, Status},
};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::events::Events;
use crate::{config::Config, core::View};

/// Requests that may wait for the loop; beyond, callers wait in turn.
const REQUESTS_MAX: usize = 256;

/// A running agent. Clones are cheap; when the agent has ended every call gives [`Ended`].
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

/// The agent has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent has ended")]
pub struct Ended;

#[derive(Debug)]
pub(crate) enum Request {
    View(oneshot::Sender<View>),
    Publish {
        status: Status,
        note: Option<String>,
        answer: oneshot::Sender<Presence>,
    },
    Ping {
        peer: PeerId,
        answer: oneshot::Sender<Result<Record, Why>>,
    },
    /// Ask the peer over the connection there is; `None`: there is none.
    FetchDirect {
        peer: PeerId,
        answer: oneshot::Sender<Option<Result<Entry, Why>>>,
    },
    /// Go on with another configuration.
    Reconfigure {
        config: Box<Config>,
        answer: oneshot::Sender<()>,
    },
    /// `Ok(true)`: it was not subscribed to before.
    Subscribe {
        peer: PeerId,
        answer: oneshot::Sender<Result<bool, Why>>,
    },
    /// Whether it was subscribed to.
    Unsubscribe {
        peer: PeerId,
        answer: oneshot::Sender<bool>,
    },
    /// `None`: too many listen.
    Listen {
        peer: Option<PeerId>,
        answer: oneshot::Sender<Option<Events>>,
    },
    FetchFromHome {
        peer: PeerId,
        answer: oneshot::Sender<Result<Option<Entry>, Why>>,
    },
}

/// One peer as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub entry: Entry,
    pub source: Source,
    /// Why the peer itself was not the source.
    pub why: Option<Why>,
}

/// A peer that was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Somebody names it, or the home could not be asked. Else there is no such peer, as far as anybody here knows.
    pub known: bool,
    pub why: Why,
}

/// Who told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The peer itself, just now.
    Peer,
    /// Its home; the age tells how old that is.
    Home,
}

impl Handle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (tx, rx) = mpsc::channel(REQUESTS_MAX);
        (Self(tx), rx)
    }

    pub async fn view(&self) -> Result<View, Ended> {
        self.ask(Request::View).await
    }

    /// Publishes a status; gives the presence information that now stands.
    pub async fn publish(&self, status: Status, note: Option<String>) -> Result<Presence, Ended> {
        self.ask(|answer| Request::Publish { status, note, answer }).await
    }

    /// One ping now; gives its record, or why there was no answer.
    pub async fn ping(&self, peer: PeerId) -> Result<Result<Record, Why>, Ended> {
        self.ask(|answer| Request::Ping { peer, answer }).await
    }

    /// Goes on with another configuration, as far as a running agent can: it does not listen elsewhere, nor move its data.
    pub async fn reconfigure(&self, config: Config) -> Result<(), Ended> {
        self.ask(|answer| Request::Reconfigure { config: Box::new(config), answer }).await
    }

    /// Subscribes to a peer's presence, as a buddy with `subscribe = true`, until the agent ends. `Ok(false)`: it is subscribed to
    /// already. [`listen`](Self::listen) first, and nothing is missed. An error: a bound is reached, or it is our own peer.
    pub async fn subscribe(&self, peer: PeerId) -> Result<Result<bool, Why>, Ended> {
        self.ask(|answer| Request::Subscribe { peer, answer }).await
    }

    /// Ends a subscription; whether there was one.
    pub async fn unsubscribe(&self, peer: PeerId) -> Result<bool, Ended> {
        self.ask(|answer| Request::Unsubscribe { peer, answer }).await
    }

    /// All that subscriptions tell from now on, of one peer or of all. `None`: [`LISTENERS_MAX`](super::events::LISTENERS_MAX)
    /// listen already.
    pub async fn listen(&self, peer: Option<PeerId>) -> Result<Option<Events>, Ended> {
        self.ask(|answer| Request::Listen { peer, answer }).await
    }

    /// Asks the peer itself for its entry, calling it if need be, else the home.
    pub async fn fetch(&self, peer: PeerId) -> Result<Result<Fetched, Missed>, Ended> {
        let direct = match self.fetch_direct(peer).await? {
            Some(direct) => direct,
            // A ping makes the connection, and tells why there is none.
            None => match self.ping(peer).await? {
                Ok(_) => self.fetch_direct(peer).await?.unwrap_or_else(|| Err(lost())),
                Err(why) => Err(why),
            },
        };
        let why = match direct {
            Ok(entry) => return Ok(Ok(Fetched { entry, source: Source::Peer, why: None })),
            Err(why) => why,
        };
        let from_home = self.ask_other(|answer| Request::FetchFromHome { peer, answer }).await?;
        Ok(match from_home.unwrap_or_else(|| Err(lost())) {
            Ok(Some(entry)) => Ok(Fetched { entry, source: Source::Home, why: Some(why) }),
            Ok(None) => {
                let known = self.view().await?.knows(peer);
                Err(Missed { known, why: Why::new(why.reason, format!("{}; and the home does not know it", why.text)) })
            }
            Err(home) => {
                let text = format!("{}; and the home could not be asked: {}", why.text, home.text);
                Err(Missed { known: true, why: Why::new(why.reason, text) })
            }
        })
    }

    async fn fetch_direct(&self, peer: PeerId) -> Result<Option<Result<Entry, Why>>, Ended> {
        let answer = self.ask_other(|answer| Request::FetchDirect { peer, answer }).await?;
        Ok(answer.unwrap_or_else(|| Some(Err(lost()))))
    }

    /// As [`ask`](Self::ask), where somebody else has to answer; `None`: its connection was lost over it.
    async fn ask_other<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<Option<T>, Ended> {
        let (tx, rx) = oneshot::channel();
        self.0.send(request(tx)).await.map_err(|_| Ended)?;
        Ok(rx.await.ok())
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Ended> {
        let (tx, rx) = oneshot::channel();
        self.0.send(request(tx)).await.map_err(|_| Ended)?;
        rx.await.map_err(|_| Ended)
    }
}

fn lost() -> Why {
    Why::new(Reason::NoAnswer, "the connection was lost meanwhile")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_a_connection_took_with_it_does_not_end_the_agent() {
        let (handle, mut requests) = Handle::new();
        let agent = async {
            while let Some(request) = requests.recv().await {
                match request {
                    Request::FetchDirect { .. } => {}
                    Request::FetchFromHome { .. } => return,
                    other => panic!("{other:?}"),
                }
            }
        };
        let (answer, ()) = tokio::join!(handle.fetch(PeerId::from_bytes([1; 16])), agent);
        let Missed { known, why } = answer.unwrap().unwrap_err();
        assert_eq!((known, why.reason), (true, Reason::NoAnswer));
        assert!(why.text.contains("the home could not be asked: the connection was lost"), "{why}");
    }
}
