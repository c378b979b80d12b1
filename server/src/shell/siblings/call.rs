//! Calling a server, and the connection that comes of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pams_shared::{
    frame::{Role, close},
    identity::{Subject, dns_name, home_name},
    quic,
    record::{Reason, Why},
};
use quinn::{Connection, Endpoint};
use tokio::time::timeout;

use super::{
    super::door::Door,
    Neighbours,
    greet::greet,
    serve::{self, Side},
    tell,
};
use crate::core::cluster::io::{SiblingInput, Target};

/// Calls whoever is meant, and stays with the connection until its end.
pub(super) async fn call(
    door: &Arc<Door>,
    endpoint: &Endpoint,
    target: Target,
    addresses: &[String],
    patience: Duration,
) {
    let reached = async {
        let connection = connect(door, endpoint, target, addresses).await?;
        let greeted = greet(door, &connection).await;
        // The streams are kept: while they stand the other side knows that we do.
        greeted.map(|(greeted, send, receive)| (connection, greeted, (send, receive)))
    };
    let (connection, greeted, streams) = match timeout(patience, reached).await {
        Ok(Ok(reached)) => reached,
        Ok(Err(why)) => {
            tracing::debug!(?target, ?addresses, reason = why.reason.as_str(), why = why.text, "server not reached");
            tell(door, SiblingInput::Called { target, server: None }).await;
            return;
        }
        Err(_) => {
            tell(door, SiblingInput::Called { target, server: None }).await;
            return;
        }
    };
    let server = greeted.member.id;
    let linked = serve::link(door, &connection, greeted, Side::Dialled).await;
    if !tell(door, SiblingInput::Called { target, server: Some(server) }).await {
        return;
    }
    if let Some(link) = linked {
        serve::serve(door, &connection, link).await;
    }
    drop(streams);
    connection.close(close::DONE.into(), b"");
}

async fn connect(
    door: &Arc<Door>,
    endpoint: &Endpoint,
    target: Target,
    addresses: &[String],
) -> Result<Connection, Why> {
    let name = match target {
        Target::Server(id) => dns_name(Role::Server, id.0, &door.domain),
        Target::Seed(_) => home_name(&door.domain),
    };
    let neighbours = &door.neighbours;
    let (name, is_seed) = (name.as_str(), matches!(target, Target::Seed(_)));
    let attempt = |address| async move {
        if is_seed && neighbours.is_connected_at(address) {
            return Err(met(address));
        }
        let connection = quic::call(endpoint, &neighbours.socket, neighbours.client.clone(), address, name).await?;
        if is_seed && neighbours.is_connected_with(&connection) {
            connection.close(close::DONE.into(), b"");
            return Err(met(address));
        }
        Ok(connection)
    };
    quic::race(&neighbours.resolver, addresses, attempt).await
}

/// What a seed stands for may be several servers, this one among them: those that are met already must not hide the others.
fn met(address: SocketAddr) -> Why {
    Why::new(Reason::Cancelled, format!("the server at {address} is this one, or connected with it"))
}

impl Neighbours {
    /// Who listens there is this server, or one that it has a connection with.
    fn is_connected_at(&self, address: SocketAddr) -> bool {
        let same = |other: &SocketAddr| (other.ip().to_canonical(), other.port()) == (address.ip(), address.port());
        // A server calls from where it listens.
        self.me.addresses.iter().any(same) || self.connections().iter().any(|c| same(&c.remote_address()))
    }

    /// The same, of who answered.
    fn is_connected_with(&self, connection: &Connection) -> bool {
        let id_of = |connection: &Connection| Some(Subject::of_peer(&*connection.peer_identity()?).ok()?.id);
        let id = id_of(connection);
        id == Some(self.me.id.0) || self.connections().iter().any(|other| id_of(other) == id)
    }
}
