//! Reading the configuration again while a daemon runs, by the path that the start took: file, environment, flags, checks.
//! A configuration that is not good changes nothing. What the new values mean to a running daemon is the daemon's matter;
//! which keys need a restart is told by [`Daemon::FIXED`].
#![allow(clippy::disallowed_methods)] // Files are read on a blocking thread, whose end is awaited here.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    config::{Changes, ConfigError, Daemon, reconcile},
    serve::Refusal,
    supervisor::Supervisor,
};

/// Reads the whole configuration as the start did.
#[derive(Clone)]
pub struct Read<C>(Arc<dyn Fn() -> Result<C, ConfigError> + Send + Sync>);

impl<C> Read<C> {
    pub fn new(read: impl Fn() -> Result<C, ConfigError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl<C> std::fmt::Debug for Read<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read")
    }
}

/// Why the configuration in force was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The very message that the start, or `check-config`, would end with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("this daemon was given its configuration by a program that carries it, and reads none again")]
    Unreadable,
    #[error("it has ended")]
    Ended,
}

/// How it stands with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Standing {
    /// The last time that it was read, at the start or since, it was good.
    pub successful: bool,
    /// When it was read well for the last time, ms since 1970.
    pub success_ms: u64,
    /// What was wrong with it the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys whose values wait for a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
}

/// The service manager waits until it is told that the reloading is over, however it ends.
struct Told<'a>(&'a Supervisor);

impl<'a> Told<'a> {
    fn reloading(supervisor: &'a Supervisor) -> Self {
        supervisor.reloading();
        Self(supervisor)
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.ready();
    }
}

/// The configuration in force, and the way to another one.
pub struct Reloader<C> {
    read: Option<Read<C>>,
    /// Held while one is read and taken: two that ask at once get their answers one after the other.
    running: tokio::sync::Mutex<C>,
    standing: Mutex<Standing>,
    supervisor: Arc<Supervisor>,
}

impl<C: Daemon + Clone + Send + 'static> Reloader<C> {
    /// A daemon has started with `running`. Without `read` there is nothing to read again.
    pub fn new(running: C, read: Option<Read<C>>, supervisor: Arc<Supervisor>) -> Self {
        let standing =
            Standing { successful: true, success_ms: Clock.now().wall_ms(), error: None, restart: Vec::new() };
        Self { read, running: tokio::sync::Mutex::new(running), standing: Mutex::new(standing), supervisor }
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again; if it is good, gives `apply` what can take effect now, and tells what that changed. `apply` fails
    /// only where the daemon has ended. The outcome is logged, and kept as the standing. Who asked may give up waiting:
    /// then nothing changed, or what changed is told by the next reload as well.
    pub async fn reload<F, E>(&self, apply: impl FnOnce(C) -> F) -> Result<Changes, ReloadError>
    where
        F: Future<Output = Result<(), E>>,
    {
        let mut running = self.running.lock().await;
        let told = Told::reloading(&self.supervisor);
        let outcome = self.take(&mut running, apply).await;
        drop(told);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(changes) => {
                let (changed, restart) = changes.keys();
                tracing::info!(changed, "configuration read again");
                if !restart.is_empty() {
                    tracing::warn!(keys = restart, "these take effect at the next start");
                }
                *standing = Standing {
                    successful: true,
                    success_ms: Clock.now().wall_ms(),
                    error: None,
                    restart: changes.restart.iter().map(|c| c.key.clone()).collect(),
                };
            }
            Err(error) => {
                tracing::error!(%error, "the configuration in force is kept: the new one is not good");
                standing.successful = false;
                standing.error = Some(error.to_string());
            }
        }
        outcome
    }

    async fn take<F, E>(&self, running: &mut C, apply: impl FnOnce(C) -> F) -> Result<Changes, ReloadError>
    where
        F: Future<Output = Result<(), E>>,
    {
        let read = self.read.clone().ok_or(ReloadError::Unreadable)?;
        let wanted = tokio::task::spawn_blocking(move || (read.0)()).await.map_err(|_| ReloadError::Ended)??;
        let (config, changes) = reconcile(running, &wanted)?;
        apply(config.clone()).await.map_err(|_| ReloadError::Ended)?;
        *running = config;
        Ok(changes)
    }
}

impl<C> std::fmt::Debug for Reloader<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl From<ReloadError> for Refusal {
    /// 422: the new configuration is not good, and the one in force goes on.
    fn from(error: ReloadError) -> Self {
        let status = match error {
            ReloadError::Config(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadError::Unreadable => StatusCode::NOT_IMPLEMENTED,
            ReloadError::Ended => StatusCode::SERVICE_UNAVAILABLE,
        };
        let refusal = Self::new(status, error.to_string());
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            return refusal.hint("the configuration in force is kept; `check-config` tells when the new one is good");
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, os::unix::net::UnixDatagram};

    use tokio::sync::Notify;

    use super::*;
    use crate::config::Flaw;

    crate::config! {
        /// For tests.
        struct Sample {
            /// A key.
            key: u8 = 1,
        }
    }

    impl Daemon for Sample {
        const ENV_PREFIX: &'static str = "PAMS_TEST";

        fn check(&self) -> Result<(), Flaw> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_manager_is_told_the_end_of_a_reload_that_was_given_up_and_the_next_one_tells_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let hears = || {
            let mut bytes = [0; 64];
            manager
                .recv(&mut bytes)
                .map(|n| String::from_utf8_lossy(&bytes[..n.min(5)]).into_owned())
                .unwrap_or_default()
        };
        let supervisor = Supervisor::new(path.as_os_str(), None).unwrap();
        let reloader = Reloader::new(Sample::default(), Some(Read::new(|| Ok(Sample { key: 2 }))), supervisor.into());
        let begun = Notify::new();
        tokio::select! {
            _ = reloader.reload(|_| async { begun.notify_one(); pending::<Result<(), ()>>().await }) => {}
            () = begun.notified() => {}
        }
        assert_eq!([hears(), hears(), hears()], ["RELOA", "READY", ""]);
        let changes = reloader.reload(|_| async { Ok::<_, ()>(()) }).await.unwrap();
        assert_eq!(changes.keys().0, "key");
        assert!(reloader.reload(|_| async { Ok::<_, ()>(()) }).await.unwrap().is_empty());
    }
}
