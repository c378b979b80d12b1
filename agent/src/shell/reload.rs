//! Another configuration for a running agent: read again by whoever asks (SIGHUP, `POST /v1/reload`), taken by the loop.

use pams_shared::{
    config::Changes,
    logs,
    reload::{ReloadError, Reloader, Standing},
};

use super::handle::{Ended, Handle};
use crate::config::Config;

/// The way to another configuration.
#[derive(Debug)]
pub struct Reloading {
    reloader: Reloader<Config>,
    handle: Handle,
    logs: Option<logs::Switch>,
}

impl Reloading {
    pub fn new(reloader: Reloader<Config>, handle: Handle, logs: Option<logs::Switch>) -> Self {
        Self { reloader, handle, logs }
    }

    /// Reads the configuration again, and goes on with what of it can take effect now.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        self.reloader.reload(|config| self.apply(config)).await
    }

    pub fn standing(&self) -> Standing {
        self.reloader.standing()
    }

    async fn apply(&self, config: Config) -> Result<(), Ended> {
        if let Some(logs) = &self.logs {
            logs.set(&config.log, config.log_format);
        }
        self.handle.reconfigure(config).await
    }
}
