//! Another configuration for a running server: read again by whoever asks (SIGHUP, the admin socket), taken by the loop.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use pams_shared::{
    config::Changes,
    identity::Address,
    logs,
    reload::{ReloadError, Reloader, Standing},
};

use super::{
    handle::{Ended, Handle},
    http::About,
};
use crate::config::Config;

/// The way to another configuration, and what of it others ask for.
#[derive(Debug)]
pub struct Reloading {
    reloader: Reloader<Config>,
    handle: Handle,
    logs: Option<logs::Switch>,
    quic: SocketAddr,
    /// Name and addresses, once they were read again.
    told: Mutex<Option<(String, Vec<Address>)>>,
}

impl Reloading {
    /// `quic` is where it listens.
    pub fn new(reloader: Reloader<Config>, handle: Handle, logs: Option<logs::Switch>, quic: SocketAddr) -> Self {
        Self { reloader, handle, logs, quic, told: Mutex::default() }
    }

    /// Reads the configuration again, and goes on with what of it can take effect now.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        self.reloader.reload(|config| self.apply(config)).await
    }

    pub fn standing(&self) -> Standing {
        self.reloader.standing()
    }

    /// The server as the configuration in force has it.
    pub fn amended(&self, about: &About) -> About {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, advertise) = told.unwrap_or_else(|| (about.name.clone(), about.advertise.clone()));
        About { name, advertise, configuration: Some(self.standing()), ..about.clone() }
    }

    async fn apply(&self, config: Config) -> Result<(), Ended> {
        if let Some(logs) = &self.logs {
            logs.set(&config.log, config.log_format);
        }
        let told = (config.label(), config.advertised(self.quic));
        self.handle.reconfigure(config).await?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        Ok(())
    }
}
