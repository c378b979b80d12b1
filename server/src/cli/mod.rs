//! The command line: what `pams-server` takes, and what it is to do then. Without a subcommand it is the daemon; the
//! subcommands work beside it, but for `check-config`.
//!
//! This module starts nothing: `main` carries out the [`Plan`].

mod args;
mod ask;
mod read;
mod show;
#[cfg(test)]
mod tests;
mod token;

use pams_shared::{
    catalogue,
    config::{self, CommonArgs, ConfigError, exit},
    identity::{Token, TokenError},
    reload::Read,
};

pub use args::{Args, Ask, Client, Command, DaemonArgs, TokenAsk, Uses};
pub use ask::{Fault, ask};
pub use pams_shared::terminal::Form;
pub use token::join_line;

use crate::{config::Config, metrics::CATALOGUE};

/// What is to be done.
#[derive(Debug)]
pub enum Plan {
    /// Print this, and end.
    Print(String),
    /// Work beside the server with this configuration.
    Ask { config: Box<Config>, ask: Ask },
    /// Be the daemon, and join with the token first; `read` reads the configuration again, from the same sources.
    Run { config: Box<Config>, read: Read<Config>, join: Option<Token>, ready_json: bool },
}

/// A mistake of whoever typed it. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Misuse {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--join: {0}")]
    Token(#[from] TokenError),
    #[error("flags of the daemon do not go with this subcommand; --help shows what does")]
    DaemonFlags,
}

impl Misuse {
    pub const EXIT: u8 = exit::USAGE;
}

impl Args {
    pub fn plan(self) -> Result<Plan, Misuse> {
        let top = self.daemon;
        match self.command {
            None => top.plan(),
            Some(Command::CheckConfig(own)) => own.over(top).check(),
            Some(Command::Ask(ask)) => {
                if !top.is_only_place() {
                    return Err(Misuse::DaemonFlags);
                }
                let Client { config, data_dir, .. } = ask.client().clone();
                let own =
                    DaemonArgs { common: CommonArgs { config, data_dir, ..Default::default() }, ..Default::default() };
                Ok(Plan::Ask { config: Box::new(own.over(top).config()?), ask })
            }
        }
    }
}

impl DaemonArgs {
    fn plan(self) -> Result<Plan, Misuse> {
        if self.common.list_metrics {
            return Ok(Plan::Print(catalogue::print(CATALOGUE)));
        }
        let config = self.config()?;
        if self.common.print_config {
            return Ok(Plan::Print(config::print(&config)?));
        }
        let (join, ready_json) = (self.token()?, self.common.ready_json);
        Ok(Plan::Run { config: Box::new(config), read: Read::new(move || self.config()), join, ready_json })
    }

    fn check(self) -> Result<Plan, Misuse> {
        if self.common.asks_of_daemon() {
            return Err(Misuse::DaemonFlags);
        }
        let config = self.config()?;
        self.token()?;
        Ok(Plan::Print(format!("the configuration is good; the data directory is {}\n", config.data_dir.display())))
    }

    fn token(&self) -> Result<Option<Token>, Misuse> {
        let join = self.join.as_deref().filter(|join| !join.is_empty());
        Ok(join.map(str::parse).transpose()?)
    }

    /// Defaults under file under environment under flags.
    fn config(&self) -> Result<Config, ConfigError> {
        let mut flags = self.common.overrides();
        for (key, value) in [("domain", &self.domain), ("name", &self.name)] {
            if let Some(value) = value {
                config::set(&mut flags, key, value.as_str());
            }
        }
        if !self.advertise.is_empty() {
            config::set(&mut flags, "advertise", self.advertise.clone());
        }
        self.common.load(flags)
    }
}
