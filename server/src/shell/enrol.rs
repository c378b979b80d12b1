//! Joining and renewing: the authority behind a lock, which does its work off the runtime's threads because it signs and
//! syncs files, and the conversation with an agent or a server that joins.
//!
//! Who may have a certificate is the authority's to decide. Whoever asks, each first certificate, given or not, is a line
//! in the log.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{Frame, Issued, Join, Refusal, Refused},
    id::PeerId,
    identity::{Authority, IdentityError, Renewal, Subject},
    quic,
};
use quinn::Connection;
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, timeout},
};

use super::{
    door::{Door, End},
    newcomers::Newcomer,
    siblings::renew,
};

/// How often the age of the server's own certificates is looked at.
const OWN_LOOK: Duration = Duration::from_secs(5 * 60);

const INTERMEDIATE_DUE: &str = "the certificate that this server signs others' with has to be renewed by the server that made \
                                the cluster; should that one not come back, join again with a new token of role server";

/// The authority as the tasks of the shell share it.
#[derive(Clone, Debug)]
pub struct Registrar(Arc<Mutex<Authority>>);

impl Registrar {
    pub fn new(authority: Authority) -> Self {
        Self(Arc::new(Mutex::new(authority)))
    }

    /// A first certificate for the holder of a token.
    pub async fn enrol(&self, join: Join) -> Result<Issued, Refused> {
        self.with(move |authority, now| authority.enrol(&join, now)).await.unwrap_or_else(|| Err(broken()))
    }

    /// A new certificate for the agent that has proven to be `subject`.
    pub async fn renew(&self, subject: Subject, csr: Vec<u8>) -> Result<Issued, Refused> {
        self.with(move |authority, now| authority.renew(&subject, &csr, now)).await.unwrap_or_else(|| Err(broken()))
    }

    /// Whether who has shown this leaf may work here.
    pub async fn is_welcome(&self, subject: &Subject) -> bool {
        self.0.lock().await.is_welcome(subject)
    }

    /// Turns an id away, and frees it for another key; says whether it was bound.
    pub async fn ban(&self, peer: PeerId) -> Result<bool, IdentityError> {
        let bound = self.with(move |authority, now| authority.ban(peer.0, now)).await;
        bound.unwrap_or_else(|| Err(IdentityError::Crypto("banning the id went wrong".into())))
    }

    /// The id has joined anew somewhere in the cluster.
    pub async fn unban(&self, peer: PeerId) -> Result<bool, IdentityError> {
        let banned = self.with(move |authority, now| authority.unban(peer.0, now)).await;
        banned.unwrap_or_else(|| Err(IdentityError::Crypto("letting the id in again went wrong".into())))
    }

    /// Asks for another certificate to sign others' with.
    pub async fn ca_request(&self) -> Result<Vec<u8>, IdentityError> {
        self.0.lock().await.ca_request()
    }

    /// Puts it in place.
    pub async fn install_ca(&self, issued: Issued) -> Result<(), IdentityError> {
        let installed = self.with(move |authority, now| authority.install_ca(&issued, now)).await;
        installed.unwrap_or_else(|| Err(IdentityError::Crypto("installing the certificate went wrong".into())))
    }

    /// Keeps the server's own certificates fresh, for ever; of a server without the root's key, by those of its siblings that
    /// have it.
    pub async fn keep_fresh(self, door: Arc<Door>) {
        let metrics = door.metrics.clone();
        let mut look = tokio::time::interval(OWN_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            match self.with(|authority, now| Ok((authority.renew_due(now)?, authority.expiry()?))).await {
                Some(Ok((Renewal { renewed, intermediate_due }, expiry))) => {
                    metrics.certificates(expiry);
                    if renewed {
                        tracing::info!("the server's certificate was renewed");
                    }
                    // Four months are left from the first time on.
                    if intermediate_due && !renew::renew(&door.neighbours, &self).await && renewed {
                        tracing::warn!(expires = expiry.intermediate, "{INTERMEDIATE_DUE}");
                    }
                }
                Some(Err::<_, IdentityError>(error)) => {
                    tracing::error!(%error, "the server's certificate cannot be renewed");
                }
                None => tracing::error!("renewing the server's certificate went wrong"),
            }
        }
    }

    /// Waits until nothing is written any more.
    pub async fn settle(&self) {
        drop(self.0.lock().await);
    }

    /// `None` if it panicked.
    async fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Authority, u64) -> T + Send + 'static) -> Option<T> {
        let mut authority = self.0.clone().lock_owned().await;
        let now = Clock.now().wall_ms() / 1_000;
        tokio::task::spawn_blocking(move || act(&mut authority, now)).await.ok()
    }
}

/// One agent or server joins; then it closes.
pub async fn converse(door: &Door, connection: &Connection, deadline: Instant, _newcomer: Newcomer) -> End {
    let (mut send, _receive, frame) = match door.first_frame(connection, deadline).await {
        Ok(first) => first,
        Err(end) => return end,
    };
    let Frame::Join(join) = frame else {
        return door.misplaced("on a connection for joining, the first frame must be Join");
    };
    let answer = match enrol(door, join, connection.remote_address()).await {
        Ok(issued) => Frame::Issued(issued),
        Err(refused) => Frame::Refused(refused),
    };
    let rest = async {
        if quic::write_frame(&mut send, &answer).await.is_ok() && send.finish().is_ok() {
            connection.closed().await;
        }
    };
    let _ = timeout(door.limits.patience, rest).await;
    End::DONE
}

async fn enrol(door: &Door, join: Join, from: SocketAddr) -> Result<Issued, Refused> {
    let Join { token_id: token, id, role, name, .. } = &join;
    let (token, id, role, name) = (token.clone(), *id, role.as_str(), name.clone());
    let result = door.registrar.enrol(join).await;
    door.metrics.joined(result.as_ref().map(|_| ()).map_err(|refused| refused.code));
    match &result {
        Ok(_) => tracing::info!(token, %id, role, name, %from, "joined"),
        Err(Refused { code, detail }) => {
            tracing::info!(token, %id, role, name, %from, refusal = ?code, why = detail, "may not join");
        }
    }
    result
}

fn broken() -> Refused {
    Refused { code: Refusal::Busy, detail: "an error of the server, whose log tells more; try again".into() }
}
