//! `pams-server token`: works on the token store in the data directory, beside a running server or without one. The server
//! looks at the file before each answer, so what is done here holds at once.

use std::{fs, io::Write, os::unix::fs::MetadataExt, time::Duration};

use nix::unistd::{Uid, User, geteuid};
use pams_shared::{
    clock::Clock,
    control::ControlError,
    frame::{ADDRESSES_MAX, Role},
    identity::{Address, Grant, IdentityError, Token, TokenInfo, TokenStore, pin_of},
    terminal::{clean, time},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Form,
    args::{TokenAsk, Uses},
    ask::{Asking, Fault},
    show,
};
use crate::shell::http::About;

/// How long a token is good if nobody says so: one for servers is worth more to a thief.
const AGENT_TTL: Duration = Duration::from_secs(24 * 3_600);
const SERVER_TTL: Duration = Duration::from_secs(3_600);

/// The line to paste on the host of who joins.
pub fn join_line(role: Role, token: &impl std::fmt::Display) -> String {
    format!("pams-{} --join '{token}'", role.as_str())
}

/// What is told of a new token. Whoever sees it may join.
#[derive(Serialize)]
struct Created {
    id: String,
    token: String,
    command: String,
    role: Role,
    /// Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    /// Unix seconds.
    expires_at: u64,
    note: String,
    addresses: Vec<Address>,
}

impl Asking {
    pub(super) async fn token(&self, ask: TokenAsk, out: &mut dyn Write, aside: &mut dyn Write) -> Result<(), Fault> {
        let now = Clock.now().wall_ms() / 1_000;
        match ask {
            TokenAsk::Create { uses: Uses(uses), ttl, note, role, advertise, .. } => {
                let ttl = ttl.unwrap_or(if role == Role::Server { SERVER_TTL } else { AGENT_TTL });
                let grant = Grant { role, uses, expires_at: now + ttl.as_secs(), note };
                let created = self.create(grant, advertise, now).await?;
                match self.form {
                    Form::Json => self.json(&created, out),
                    Form::Table => {
                        writeln!(out, "{}", created.command)?;
                        let (id, uses, until) = (&created.id, show::uses(uses), time(created.expires_at));
                        let role = match role {
                            Role::Agent => "",
                            Role::Server => " as a server, and let agents in",
                        };
                        Ok(writeln!(aside, "token {id}: {uses}, until {until}; whoever has it can join{role}")?)
                    }
                }
            }
            TokenAsk::List { .. } => {
                // Else a misspelt directory would look like one without tokens.
                pin_of(&self.config.data_dir)?;
                let tokens = TokenStore::open(&self.config.data_dir)?.list(now)?;
                match self.form {
                    Form::Json => self.json(&json!({ "tokens": tokens }), out),
                    Form::Table => Ok(out.write_all(show::tokens(&tokens).as_bytes())?),
                }
            }
            TokenAsk::Revoke { id, .. } => {
                pin_of(&self.config.data_dir)?;
                self.is_owner()?;
                if !TokenStore::open(&self.config.data_dir)?.revoke(&id, now)? {
                    return Err(Fault::NoToken(id));
                }
                match self.form {
                    Form::Json => self.json(&json!({ "id": id, "revoked": true }), out),
                    Form::Table => Ok(writeln!(out, "token {id} is revoked; who has joined with it stays")?),
                }
            }
        }
    }

    async fn create(&self, grant: Grant, advertise: Vec<Address>, now: u64) -> Result<Created, Fault> {
        let dir = &self.config.data_dir;
        let pin = pin_of(dir)?;
        self.is_owner()?;
        let addresses = self.addresses(advertise).await?;
        let (id, secret) = TokenStore::open(dir)?.create(&grant, now)?;
        let Grant { role, uses, expires_at, note } = grant;
        let token = Token { pin, id: id.clone(), secret, addresses: addresses.clone() };
        let command = join_line(role, &token);
        Ok(Created { id, token: token.to_string(), command, role, uses, expires_at, note, addresses })
    }

    /// What the token gives as the server's addresses: what was typed, else what the running server says, else what its
    /// configuration says.
    async fn addresses(&self, typed: Vec<Address>) -> Result<Vec<Address>, Fault> {
        if typed.len() > ADDRESSES_MAX {
            return Err(Fault::Usage(format!("--advertise: a token has room for {ADDRESSES_MAX} addresses")));
        }
        if !typed.is_empty() {
            return Ok(typed);
        }
        match self.control.get::<About>("/api/v1/server").await {
            Ok(about) => Ok(about.advertise),
            Err(ControlError::Nobody { .. }) if self.config.advertise.is_empty() && self.config.listen.port() == 0 => {
                Err(Fault::NoAddress)
            }
            Err(ControlError::Nobody { .. }) => Ok(self.config.advertised(self.config.listen)),
            Err(error) => Err(error.into()),
        }
    }

    /// A file written by another user, root too, is one that the server cannot read.
    fn is_owner(&self) -> Result<(), Fault> {
        let dir = &self.config.data_dir;
        let told = |source| IdentityError::Io { action: "look at", path: dir.clone(), source };
        let owner = Uid::from_raw(fs::metadata(dir).map_err(told)?.uid());
        if owner == geteuid() {
            return Ok(());
        }
        let user = User::from_uid(owner).ok().flatten().map_or_else(|| owner.to_string(), |user| user.name);
        Err(Fault::Owner { dir: dir.clone(), user })
    }
}

/// For the table.
pub(super) fn row(token: &TokenInfo) -> [String; 8] {
    [
        token.id.clone(),
        token.role.as_str().to_owned(),
        token.state.as_str().replace('_', " "),
        token.uses_left.map_or_else(|| "any".to_owned(), |n| n.to_string()),
        token.used.to_string(),
        time(token.created_at),
        time(token.expires_at),
        clean(&token.note),
    ]
}
