//! The command line: what `pams-agent` takes, and what it is to do then. Without a subcommand it is the daemon; the
//! subcommands are clients of a running daemon's control socket, but for `check-config`.
//!
//! This module starts nothing: `main` carries out the [`Plan`].

mod args;
mod ask;
mod ping;
mod read;
mod show;
mod subscribe;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use pams_shared::{
    catalogue,
    config::{self, ConfigError, Daemon, exit},
    control::Control,
    identity::{Token, TokenError},
    reload::Read,
};

pub use args::{Args, Ask, Client, Command, DaemonArgs};
pub use ask::{Fault, ask};
pub use pams_shared::terminal::Form;

use crate::{
    config::{Config, client_socket},
    consumer::csv::columns,
    metrics::CATALOGUE,
};

/// What is to be done.
#[derive(Debug)]
pub enum Plan {
    /// Print this, and end.
    Print(String),
    /// Ask the agent at this socket.
    Ask { socket: PathBuf, form: Form, ask: Ask },
    /// Be the daemon. The token is well formed; `read` reads the configuration again, from the same sources.
    Run { config: Box<Config>, read: Read<Config>, join: Option<String>, ready_json: bool },
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
                if !top.is_only_socket() {
                    return Err(Misuse::DaemonFlags);
                }
                let Client { socket, output } = ask.client();
                let from_environment =
                    || std::env::var_os("PAMS_AGENT_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
                let socket = socket.clone().or(top.socket.map(PathBuf::from)).or_else(from_environment);
                Ok(Plan::Ask { socket: socket.unwrap_or_else(client_socket), form: *output, ask })
            }
        }
    }
}

impl DaemonArgs {
    fn plan(self) -> Result<Plan, Misuse> {
        if self.common.list_metrics {
            return Ok(Plan::Print(catalogue::print(CATALOGUE)));
        }
        if self.list_columns {
            return Ok(Plan::Print(columns::print()));
        }
        let config = self.config()?;
        if self.common.print_config {
            return Ok(Plan::Print(config::print(&config)?));
        }
        let (join, ready_json) = (self.token()?, self.common.ready_json);
        let read = Read::new(move || self.config());
        Ok(Plan::Run { config: Box::new(config), read, join, ready_json })
    }

    fn check(self) -> Result<Plan, Misuse> {
        if self.common.asks_of_daemon() || self.list_columns {
            return Err(Misuse::DaemonFlags);
        }
        let config = self.config()?;
        self.token()?;
        Ok(Plan::Print(format!(
            "the configuration is good; the control socket is {}\n",
            config.socket_path().display()
        )))
    }

    fn token(&self) -> Result<Option<String>, Misuse> {
        let join = self.join.clone().filter(|join| !join.is_empty());
        join.as_deref().map(str::parse::<Token>).transpose()?;
        Ok(join)
    }

    /// Defaults under file under environment under flags; buddies and overlays of flags are added.
    fn config(&self) -> Result<Config, ConfigError> {
        let mut flags = self.common.overrides();
        for (key, value) in [("name", &self.name), ("socket", &self.socket)] {
            if let Some(value) = value {
                config::set(&mut flags, key, value.as_str());
            }
        }
        let mut config: Config = self.common.load(flags)?;
        config.buddy.extend(self.buddy.iter().cloned());
        config.overlays.extend(self.overlay.iter().cloned());
        config.check().map_err(|flaw| {
            let flag = if flaw.key == "overlays" { "--overlay" } else { "--buddy" };
            ConfigError::Flag { flag: flag.to_owned(), problem: format!("{}; {}", flaw.problem, flaw.advice) }
        })?;
        Ok(config)
    }
}

/// A client of the socket at `path`.
pub fn control(path: PathBuf) -> Control {
    Control::new(path, "pams-agent").within(crate::shell::local::REQUEST_WITHIN)
}
