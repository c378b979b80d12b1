//! Questions to the home, each on a stream and in a task of its own. Whoever asks is always answered: if the connection ends
//! first, with why it did.

use std::{collections::BTreeSet, time::Duration};

use pams_shared::{
    frame::{Entry, Frame, capability},
    id::PeerId,
    presence::Ask,
    quic,
    record::{Reason, Why},
};
use quinn::Connection;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{REQUEST_PATIENCE, Uplink, UplinkEvent, UplinkRequest};
use crate::{
    core::Doubter,
    shell::{credentials::Credentials, link::subscribe},
};

/// How long the questions under way may take to end once their connection has.
const END_PATIENCE: Duration = Duration::from_millis(100);

/// With so many questions under way, ends of subscriptions are left out.
const ENDS_MAX: usize = 64;

/// Questions to the home that are under way.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) tasks: JoinSet<Option<UplinkEvent>>,
    /// Those whose addresses are asked for.
    peers: BTreeSet<PeerId>,
    /// The home is of a version that knows subscriptions.
    knows_subscriptions: bool,
}

impl Asked {
    pub(super) fn of(capabilities: u64) -> Self {
        Self { knows_subscriptions: capabilities & capability::SUBSCRIPTIONS != 0, ..Self::default() }
    }

    pub(super) fn fetch(
        &mut self,
        connection: &Connection,
        peer: PeerId,
        answer: oneshot::Sender<Result<Option<Entry>, Why>>,
    ) {
        let connection = connection.clone();
        self.tasks.spawn(async move {
            let _ = answer.send(fetch(&connection, peer).await);
            None
        });
    }

    pub(super) fn resolve(&mut self, connection: &Connection, peer: PeerId) {
        let connection = connection.clone();
        self.peers.insert(peer);
        self.tasks.spawn(async move { Some(resolve(&connection, peer).await) });
    }

    pub(super) fn subscribe(&mut self, connection: &Connection, ask: Ask) {
        let (connection, knows) = (connection.clone(), self.knows_subscriptions);
        self.tasks.spawn(async move {
            let answer = if knows { subscribe(&connection, ask.peer).await } else { Err(too_old()) };
            Some(UplinkEvent::Subscribed { ask, answer })
        });
    }

    pub(super) fn unsubscribe(&mut self, connection: &Connection, peer: PeerId) {
        let connection = connection.clone();
        // A home that tells on and on of whom nobody wants costs no more; the next notify has it asked again.
        if self.tasks.len() >= ENDS_MAX {
            return;
        }
        self.tasks.spawn(async move {
            // It ends without an answer.
            let _ = timeout(REQUEST_PATIENCE, quic::request(&connection, &Frame::Unsubscribe(peer))).await;
            None
        });
    }

    pub(super) fn renew(&mut self, connection: &Connection, credentials: &Credentials) {
        let (connection, credentials) = (connection.clone(), credentials.clone());
        self.tasks.spawn(async move { renew(&connection, &credentials).await });
    }

    /// What a task that ended has to tell.
    pub(super) fn ended(&mut self, done: Result<Option<UplinkEvent>, JoinError>) -> Option<UplinkEvent> {
        let event = done.ok()??;
        if let UplinkEvent::Resolved { peer, .. } = &event {
            self.peers.remove(peer);
        }
        Some(event)
    }
}

impl Uplink {
    /// The connection has ended: passes on what was answered, and answers the rest.
    pub(super) async fn unanswered(&self, mut asked: Asked, why: &Why) {
        let answered = async {
            while let Some(done) = asked.tasks.join_next().await {
                if let Some(event) = asked.ended(done) {
                    let _ = self.events.send(event).await;
                }
            }
        };
        let _ = timeout(END_PATIENCE, answered).await;
        for peer in asked.peers {
            let _ = self.events.send(UplinkEvent::Resolved { peer, found: Err(why.clone()) }).await;
        }
    }

    /// Tells whoever waits that there is no home now. Reports are kept by the core and come again.
    pub(super) async fn refuse(&mut self, request: UplinkRequest, why: &Why) {
        match request {
            UplinkRequest::Fetch { answer, .. } => {
                let _ = answer.send(Err(why.clone()));
            }
            UplinkRequest::Resolve { peer } => {
                let _ = self.events.send(UplinkEvent::Resolved { peer, found: Err(why.clone()) }).await;
            }
            UplinkRequest::Homes(homes) => {
                self.choice.names(homes);
            }
            UplinkRequest::HomeLost { by, answer, .. } => {
                let _ = answer.send(false);
                let _ = self.events.send(UplinkEvent::Doubted { by: Doubter::Server(by), asks: false }).await;
            }
            // Subscriptions begin anew with the next connection.
            UplinkRequest::Subscribe(_)
            | UplinkRequest::Unsubscribe { .. }
            | UplinkRequest::Greet { .. }
            | UplinkRequest::Report(_)
            | UplinkRequest::Rejoin(_)
            | UplinkRequest::Goodbye => {}
        }
    }
}

pub(super) async fn fetch(connection: &Connection, peer: PeerId) -> Result<Option<Entry>, Why> {
    match timeout(REQUEST_PATIENCE, quic::request(connection, &Frame::Fetch(peer))).await {
        Ok(Ok(Frame::FetchAck(entry))) => Ok(entry.map(|e| *e)),
        Ok(Ok(_)) => Err(Why::new(Reason::Refused, "the home gave something else than an entry")),
        Ok(Err(error)) => Err(error.why()),
        Err(_) => Err(Why::new(Reason::NoAnswer, "the home did not answer in time")),
    }
}

/// Where the peer can be called: the addresses it named, then the one its home sees it at.
async fn resolve(connection: &Connection, peer: PeerId) -> UplinkEvent {
    let found = fetch(connection, peer).await.map(|entry| {
        let mut addresses = Vec::new();
        for address in entry.into_iter().flat_map(|e| e.profile.addresses.into_iter().chain(e.observed)) {
            let address = address.to_string();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    });
    UplinkEvent::Resolved { peer, found }
}

/// Fetches a new certificate; a failure is tried again at the next look, long before the old one runs out.
async fn renew(connection: &Connection, credentials: &Credentials) -> Option<UplinkEvent> {
    let csr = credentials.csr().inspect_err(|error| tracing::warn!(%error, "no certificate request")).ok()?;
    match timeout(REQUEST_PATIENCE, quic::request(connection, &Frame::Renew(csr))).await {
        Ok(Ok(Frame::Issued(issued))) => match credentials.renew(issued).await {
            Ok(()) => return Some(UplinkEvent::Renewed),
            Err(error) => tracing::warn!(%error, "the renewed certificate can not be used"),
        },
        Ok(Ok(Frame::Refused(refused))) => {
            tracing::warn!(detail = refused.detail, "the home refuses to renew the certificate");
        }
        Ok(Ok(_)) => tracing::warn!("the home answered the renewal with something else"),
        Ok(Err(error)) => tracing::warn!(%error, "renewing the certificate went wrong"),
        Err(_) => tracing::warn!("the home did not answer the renewal in time"),
    }
    None
}

fn too_old() -> Why {
    Why::new(Reason::Refused, "the home is of a version that knows no subscriptions: update it")
}
