//! The agent's identity as the tasks of the shell share it. Files are written off the loop: a slow disk delays no ping.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pams_shared::{
    frame::Issued,
    identity::{AgentIdentity, IdentityError},
    moment::Moment,
};

#[derive(Clone, Debug)]
pub struct Credentials(Arc<Mutex<AgentIdentity>>);

impl Credentials {
    pub fn new(identity: AgentIdentity) -> Self {
        Self(Arc::new(Mutex::new(identity)))
    }

    /// Whether the certificate is past two thirds of its life.
    pub fn is_due(&self, now: Moment) -> bool {
        self.lock().needs_renewal(now.wall_ms() / 1_000)
    }

    /// When the certificate runs out, in seconds since 1970; `None` before joining.
    pub fn expires(&self) -> Option<u64> {
        self.lock().subject().map(|s| s.not_after)
    }

    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> {
        self.lock().csr()
    }

    /// Takes a renewed certificate; connections made from now on show it.
    pub async fn renew(&self, issued: Issued) -> Result<(), IdentityError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.lock().renew(&issued))
            .await
            .unwrap_or_else(|e| Err(IdentityError::Issued(format!("taking it went wrong: {e}"))))
    }

    fn lock(&self) -> MutexGuard<'_, AgentIdentity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
