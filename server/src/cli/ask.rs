//! The clients of a running server: ask over the admin socket, and write the answer to `out`. JSON is passed on as it
//! came.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use pams_shared::{
    config::{Changes, exit},
    control::{Control, ControlError, target},
    id::PeerId,
    identity::{GrantError, IdentityError},
    terminal,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Form, args::Ask, read, show};
use crate::{config::Config, core::view::PAGE_MAX};

/// What an answer over the admin socket may take beside what it is told to take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("no pams-server listens on {}: is it running? --data-dir names the directory of another", .0.display())]
    Nobody(PathBuf),
    #[error(transparent)]
    Control(ControlError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Files that we write would be ours.
    #[error("{} is of user {user}: run this as that user, or the server could not read its tokens any more", dir.display())]
    Owner { dir: PathBuf, user: String },
    #[error("the server does not run, and its port is chosen when it does: give --advertise host:port")]
    NoAddress,
    #[error("there is no token {0:?}; `pams-server token list` shows those there are")]
    NoToken(String),
    /// What was asked for is told; for scripts.
    #[error("the peer was not reached: {0}")]
    NotReached(String),
    /// What was typed cannot be done.
    #[error("{0}")]
    Usage(String),
    #[error(
        "the server's answer cannot be shown as a table ({0}): are server and client of one version? --output json shows it as it is"
    )]
    Unreadable(#[from] serde_json::Error),
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Self {
        match error {
            // Its advice is of a flag that the agent has.
            ControlError::Nobody { path, .. } => Self::Nobody(path),
            error => Self::Control(error),
        }
    }
}

impl Fault {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Nobody(_) => exit::UNAVAILABLE,
            Self::Control(error) => error.exit_code(),
            Self::Identity(IdentityError::Io { source, .. })
            | Self::Grant(GrantError::Store(IdentityError::Io { source, .. })) => match source.kind() {
                io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
                _ => exit::IO,
            },
            Self::Owner { .. } => exit::NO_PERMISSION,
            Self::NoAddress | Self::Usage(_) => exit::USAGE,
            Self::Identity(_) | Self::Grant(_) | Self::NoToken(_) | Self::NotReached(_) => 1,
            Self::Unreadable(_) => exit::INTERNAL,
            // Whoever read has read enough, as `head` does.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => exit::IO,
        }
    }
}

/// Does what is asked and answers on stdout.
pub async fn ask(config: Config, ask: Ask) -> Result<(), Fault> {
    let colour = terminal::colour(&io::stdout());
    let control = Control::new(config.admin_socket(), "pams-server");
    let form = ask.client().output;
    Asking { control, config, form, colour }.answer(ask, &mut io::stdout(), &mut io::stderr()).await
}

/// One client with its way to answer.
pub(super) struct Asking {
    pub control: Control,
    pub config: Config,
    pub form: Form,
    pub colour: bool,
}

impl Asking {
    /// `out` gets what was asked for, `aside` what is not part of it.
    pub async fn answer(&self, ask: Ask, out: &mut dyn Write, aside: &mut dyn Write) -> Result<(), Fault> {
        let colour = self.colour;
        match ask {
            Ask::Token(ask) => self.token(ask, out, aside).await,
            Ask::Peers { liveness, status, overlay, name, limit, after, .. } => {
                let mut filters = Vec::new();
                filters.extend(liveness.map(|l| ("liveness", l.as_str().to_owned())));
                filters.extend(status.map(|s| ("status", s.as_str().to_owned())));
                filters.extend(overlay.map(|o| ("overlay", o)));
                filters.extend(name.map(|n| ("name", n)));
                let page = self.peers(&filters, limit, after).await?;
                self.write(page, out, |p: read::Page| show::peers(&p, colour))
            }
            Ask::Peer { peer, .. } => {
                let peer = self.resolve(&peer).await?;
                let detail = self.control.get(&target(&["api", "v1", "peers", &peer.to_string()], &[])).await?;
                self.write(detail, out, |p: read::Detail| show::peer(&p, colour))
            }
            Ask::Probe { peer, within, .. } => {
                let peer = self.resolve(&peer).await?;
                let within_text = humantime::format_duration(within).to_string().replace(' ', "");
                let path = target(&["api", "v1", "peers", &peer.to_string(), "probe"], &[("within", &within_text)]);
                let control = self.control.clone().within(within + ANSWER_PATIENCE);
                let answer: Value = control.post(&path, &json!({})).await?;
                let verdict = answer["verdict"].as_str().unwrap_or_default().to_owned();
                self.write(answer, out, |p: read::Probed| show::probed(&p, colour))?;
                match verdict.as_str() {
                    "reachable" | "partly" => Ok(()),
                    _ => Err(Fault::NotReached(verdict.replace('_', " "))),
                }
            }
            Ask::Members { .. } => {
                let cluster = self.control.get("/api/v1/cluster").await?;
                self.write(cluster, out, |c: read::Cluster| show::members(&c, colour))
            }
            Ask::Drain { .. } => {
                let answer = self.control.post("/admin/v1/drain", &json!({})).await?;
                self.write(answer, out, |d: read::Draining| show::draining(&d))
            }
            Ask::Reload { .. } => {
                let answer = self.control.post("/admin/v1/reload", &json!({})).await?;
                self.write(answer, out, |c: Changes| terminal::changes(&c))
            }
            Ask::Forget { peer, force, .. } => {
                let query: &[_] = if force { &[("force", "true")] } else { &[] };
                let path = target(&["admin", "v1", "peers", &peer.to_string()], query);
                let answer = self.control.delete(&path).await?;
                self.write(answer, out, |f: read::Forgotten| show::forgotten(&f))
            }
        }
    }

    /// As many pages as it takes, as if they were one.
    async fn peers(&self, filters: &[(&str, String)], limit: u64, after: Option<PeerId>) -> Result<Value, Fault> {
        let mut peers = Vec::new();
        let mut next = after.map(|id| id.to_string());
        loop {
            let left = limit - peers.len() as u64;
            let piece = left.min(PAGE_MAX as u64).to_string();
            let mut query: Vec<(&str, &str)> = filters.iter().map(|(key, value)| (*key, value.as_str())).collect();
            query.push(("limit", &piece));
            query.extend(next.as_deref().map(|id| ("after", id)));
            let page: PageJson = self.control.get(&target(&["api", "v1", "peers"], &query)).await?;
            let came = page.peers.len();
            peers.extend(page.peers);
            next = page.next;
            if next.is_none() || came == 0 || peers.len() as u64 >= limit {
                break;
            }
        }
        Ok(match next {
            Some(next) => json!({ "peers": peers, "next": next }),
            None => json!({ "peers": peers }),
        })
    }

    /// A peer by its id, or by a name that only it has.
    async fn resolve(&self, text: &str) -> Result<PeerId, Fault> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let page = self.peers(&[("name", text.to_owned())], PAGE_MAX as u64, None).await?;
        let page: read::Page = serde_json::from_value(page)?;
        let mut same = page.peers.iter().filter(|p| p.name == text);
        match (same.next(), same.count()) {
            (Some(one), 0) if page.next.is_none() => Ok(one.id),
            (None, _) => Err(Fault::Usage(format!("no peer is called {text:?}; `pams-server peers` lists all"))),
            _ => Err(Fault::Usage(format!("more than one peer may be called {text:?}; give an id"))),
        }
    }

    /// JSON as it is, or the table that `shown` makes of it.
    pub(super) fn write<T: DeserializeOwned>(
        &self,
        answer: Value,
        out: &mut dyn Write,
        shown: impl FnOnce(T) -> String,
    ) -> Result<(), Fault> {
        match self.form {
            Form::Json => self.json(&answer, out),
            Form::Table => Ok(out.write_all(shown(serde_json::from_value(answer)?).as_bytes())?),
        }
    }

    pub(super) fn json(&self, answer: &impl Serialize, out: &mut dyn Write) -> Result<(), Fault> {
        Ok(writeln!(out, "{}", serde_json::to_string_pretty(answer)?)?)
    }
}

/// A page as it came.
#[derive(serde::Deserialize)]
struct PageJson {
    peers: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
}
