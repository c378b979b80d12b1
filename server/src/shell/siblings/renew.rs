//! The certificate that this server signs others' with, renewed over a connection with a server that has the root's key.

use std::time::Duration;

use pams_shared::{frame::Frame, quic};
use tokio::time::timeout;

use super::{super::enrol::Registrar, Neighbours};

/// How long one server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks one sibling after the other; whether one of them renewed it.
pub async fn renew(neighbours: &Neighbours, registrar: &Registrar) -> bool {
    for connection in neighbours.connections() {
        let csr = match registrar.ca_request().await {
            Ok(csr) => csr,
            Err(error) => {
                tracing::error!(%error, "no request for the intermediate certificate");
                return false;
            }
        };
        match timeout(PATIENCE, quic::request(&connection, &Frame::Renew(csr))).await {
            Ok(Ok(Frame::Issued(issued))) => match registrar.install_ca(issued).await {
                Ok(()) => return true,
                Err(error) => tracing::error!(%error, "the renewed intermediate certificate cannot be used"),
            },
            Ok(Ok(Frame::Refused(refused))) => tracing::debug!(why = refused.detail, "not renewed by this server"),
            _ => tracing::debug!(at = %connection.remote_address(), "no answer about the intermediate certificate"),
        }
    }
    false
}
