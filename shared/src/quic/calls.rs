//! The few ways in which one side talks to the other: dial, ask and get one answer, tell. None waits by itself: callers set
//! the time that they have.

use std::net::SocketAddr;

use quinn::{ClientConfig, Connection, Endpoint};

use super::{StreamError, read_frame, why, why_not_dialled, write_frame};
use crate::{
    frame::{Frame, FrameError},
    record::{Reason, Why},
};

/// Addresses tried for one name.
const ADDRESSES_MAX: usize = 8;

/// Dials `address`, where `name` must be in the certificate.
pub async fn connect(
    endpoint: &Endpoint,
    client: ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<Connection, Why> {
    let connecting = endpoint.connect_with(client, address, name).map_err(|e| why_not_dialled(&e))?;
    connecting.await.map_err(|e| why(&e))
}

/// The addresses of `host:port`.
pub async fn resolve(address: &str) -> Result<Vec<SocketAddr>, Why> {
    let not_found = |text: String| Why::new(Reason::NotSent, text);
    let found = tokio::net::lookup_host(address).await;
    let found = found.map_err(|e| not_found(format!("{address} is no address that can be looked up: {e}")))?;
    let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(not_found(format!("{address} has no address"))) } else { Ok(found) }
}

/// Asks on a stream of its own and gives the one answer.
pub async fn request(connection: &Connection, question: &Frame) -> Result<Frame, StreamError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    write_frame(&mut send, question).await?;
    let _ = send.finish(); // fails only where the answer will too
    read_frame(&mut receive).await?.ok_or(StreamError::Truncated)
}

/// Tells on a stream of its own and waits until it was received.
pub async fn tell(connection: &Connection, news: &Frame) -> Result<(), StreamError> {
    let mut send = connection.open_uni().await?;
    write_frame(&mut send, news).await?;
    let _ = send.finish();
    let _ = send.stopped().await; // whoever stopped reading has read what it wanted
    Ok(())
}

impl StreamError {
    /// The same for people and records.
    pub fn why(&self) -> Why {
        match self {
            StreamError::Connection(error)
            | StreamError::Read(quinn::ReadError::ConnectionLost(error))
            | StreamError::Write(quinn::WriteError::ConnectionLost(error)) => why(error),
            StreamError::Frame(FrameError::UnknownKind { .. }) => {
                Why::new(Reason::Refused, format!("{self}: the other side is of a newer version; update this one"))
            }
            error => Why::new(Reason::Refused, error.to_string()),
        }
    }
}
