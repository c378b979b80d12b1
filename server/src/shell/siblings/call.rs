//! Calling a server, and the connection that comes of it.

use std::{sync::Arc, time::Duration};

use pams_shared::{
    frame::{Role, close},
    identity::{dns_name, home_name},
    quic,
    record::Why,
};
use quinn::{Connection, Endpoint};
use tokio::time::timeout;

use super::{
    super::door::Door,
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
    quic::race(addresses, |address| quic::call(endpoint, &neighbours.socket, neighbours.client.clone(), address, &name))
        .await
}
