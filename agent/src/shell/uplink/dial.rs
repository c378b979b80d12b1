//! Calls to servers: for a home, and to measure how far they are. The certificate says who answered.

use std::{sync::Arc, time::Duration};

use pams_shared::{
    frame::{Role, close},
    id::ServerId,
    identity::Subject,
    lookup::Resolver,
    quic,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::{Connection, Endpoint};
use tokio::time::timeout;

use crate::core::choice::Call;

/// How long a server may take to answer a call, or Hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where somebody else can be called: QUIC has sent its first packet three times by then.
const PATIENCE_OTHERS: Duration = Duration::from_secs(2);

/// All that it takes to call servers.
#[derive(Clone)]
pub(super) struct Dialler {
    pub endpoint: Endpoint,
    /// The one under the endpoint.
    pub socket: Arc<Socket>,
    pub client: quinn::ClientConfig,
    /// What stands in each server's certificate.
    pub name: String,
    pub resolver: Resolver,
}

impl Dialler {
    /// Calls a place at all its addresses; the first that answers has won.
    pub async fn dial(&self, call: &Call) -> Result<Connection, Why> {
        let home = call.names.join(", ");
        let attempt = |at| quic::call(&self.endpoint, &self.socket, self.client.clone(), at, &self.name);
        match timeout(patience(call), quic::race(&self.resolver, &call.names, attempt)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(why)) => Err(Why::new(why.reason, format!("home {home}: {}", why.text))),
            Err(_) => {
                let text =
                    format!("no answer over UDP from home {home}: it is down, or a firewall drops UDP on the way");
                Err(Why::new(Reason::NoAnswer, text))
            }
        }
    }

    /// The round trip to this server, as QUIC's handshake with it shows it; `None`: it was not reached.
    pub async fn measure(&self, call: &Call, server: ServerId) -> Option<Duration> {
        let connection = self.dial(call).await.ok()?;
        let rtt = connection.rtt();
        connection.close(close::DONE.into(), b"");
        (server_of(&connection) == Some(server)).then_some(rtt)
    }
}

/// How long this one may take to answer.
pub(super) const fn patience(call: &Call) -> Duration {
    if call.others { PATIENCE_OTHERS } else { PATIENCE }
}

/// The server at the other end; `None`: it is none.
pub(super) fn server_of(connection: &Connection) -> Option<ServerId> {
    let subject = connection.peer_identity().and_then(|id| Subject::of_peer(&*id).ok())?;
    (subject.role == Role::Server).then_some(ServerId(subject.id))
}
