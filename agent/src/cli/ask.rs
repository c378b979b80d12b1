//! The clients: ask the agent, and write the answer to `out`. JSON is passed on as it came.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use pams_shared::{
    config::{Changes, exit},
    control::{Control, ControlError, target},
    id::PeerId,
    terminal,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Form, args::Ask, control, ping, read, show, subscribe};

/// Why an answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No peer is meant by what was given.
    #[error("{0}")]
    Peer(String),
    #[error(
        "the agent's answer cannot be shown as a table ({0}): are agent and client of one version? --output json shows it as it is"
    )]
    Unreadable(#[from] serde_json::Error),
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl Fault {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Control(error) => error.exit_code(),
            Self::Peer(_) => exit::USAGE,
            Self::Unreadable(_) => exit::INTERNAL,
            // Whoever read has read enough, as `head` does.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => exit::IO,
        }
    }
}

/// Asks and answers on stdout; gives the exit code.
pub async fn ask(socket: PathBuf, form: Form, ask: Ask) -> Result<u8, Fault> {
    let colour = terminal::colour(&io::stdout());
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Client { control: control(socket), form, colour }.answer(ask, interrupted, &mut io::stdout()).await
}

/// One client with its way to answer.
pub(super) struct Client {
    pub control: Control,
    pub form: Form,
    pub colour: bool,
}

impl Client {
    pub async fn answer(
        &self,
        ask: Ask,
        interrupted: impl Future<Output = ()>,
        out: &mut dyn Write,
    ) -> Result<u8, Fault> {
        let colour = self.colour;
        match ask {
            Ask::Status { status: None, .. } => {
                let answer = self.control.get("/v1/status").await?;
                self.write(answer, out, |s: read::Status| show::status(&s, colour))?;
            }
            Ask::Status { status: Some(status), note, .. } => {
                let answer = self.control.put("/v1/presence", &json!({ "status": status, "note": note })).await?;
                self.write(answer, out, |p| show::published(&p))?;
            }
            Ask::Buddies { .. } => {
                let answer = self.control.get("/v1/buddies").await?;
                self.write(answer, out, |b: read::Buddies| show::buddies(&b.buddies, colour))?;
            }
            Ask::Reload { .. } => {
                let answer = self.control.post("/v1/reload", &json!({})).await?;
                self.write(answer, out, |c: Changes| terminal::changes(&c))?;
            }
            Ask::Fetch { peer, .. } => {
                let id = self.resolve(&peer).await?.to_string();
                let answer = self.control.get(&target(&["v1", "peers", &id], &[])).await?;
                self.write(answer, out, |f: read::Fetched| show::fetched(&f, colour))?;
            }
            Ask::Subscriptions { .. } => {
                let answer = self.control.get("/v1/subscriptions").await?;
                self.write(answer, out, |s: read::Subscriptions| show::subscriptions(&s.subscriptions, colour))?;
            }
            Ask::Subscribers { .. } => {
                let answer = self.control.get("/v1/subscribers").await?;
                self.write(answer, out, |s: read::Subscribers| show::subscribers(&s.subscribers, colour))?;
            }
            Ask::Subscribe { peer, .. } => {
                let id = self.resolve(&peer).await?;
                let subscription = subscribe::Subscription { peer: id, name: peer };
                return subscription.run(&self.control, self.form, interrupted, out).await;
            }
            Ask::Ping { peer, count, interval, .. } => {
                let id = self.resolve(&peer).await?;
                let pings = ping::Pings { peer: id, name: peer, count, interval };
                return pings.run(&self.control, self.form, interrupted, out).await;
            }
        }
        Ok(0)
    }

    fn write<T: DeserializeOwned>(
        &self,
        answer: Value,
        out: &mut dyn Write,
        table: impl FnOnce(T) -> String,
    ) -> Result<(), Fault> {
        match self.form {
            Form::Json => out.write_all(format!("{answer:#}\n").as_bytes())?,
            Form::Table => out.write_all(table(serde_json::from_value(answer)?).as_bytes())?,
        }
        Ok(out.flush()?)
    }

    /// A peer id as it is, else the one buddy of that name.
    async fn resolve(&self, peer: &str) -> Result<PeerId, Fault> {
        if let Ok(id) = peer.parse() {
            return Ok(id);
        }
        let answer: Value = self.control.get("/v1/buddies").await?;
        let buddies = serde_json::from_value::<read::Buddies>(answer)?.buddies;
        let named: Vec<PeerId> = buddies.iter().filter(|b| b.name.as_deref() == Some(peer)).map(|b| b.peer).collect();
        match named[..] {
            [id] => Ok(id),
            [] => {
                let names: Vec<String> =
                    buddies.iter().filter_map(|b| b.name.as_deref()).map(terminal::clean).collect();
                let names = if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") };
                Err(Fault::Peer(format!("{peer:?} is neither a peer id nor the name of a buddy; buddies: {names}")))
            }
            _ => {
                let ids: Vec<String> = named.iter().map(PeerId::to_string).collect();
                Err(Fault::Peer(format!("several buddies are called {peer:?}; give one's id: {}", ids.join(", "))))
            }
        }
    }
}
