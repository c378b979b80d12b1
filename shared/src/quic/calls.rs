//! The few ways in which one side talks to the other: dial, one address or whichever of several answers ([`race`]), ask and
//! get one answer, tell. None ends a wait by itself: callers set the time that they have.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use quinn::{ClientConfig, Connection, Endpoint};
use tokio::time::sleep;

use super::{StreamError, read_frame, why, why_not_dialled, write_frame};
use crate::{
    frame::{Frame, FrameError},
    lookup::Resolver,
    record::{Reason, Why},
    socket::Socket,
};

/// Addresses tried in one race.
const RACE_MAX: usize = 16;
/// Head start of an address over the next one (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);

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

/// As [`connect`], but gives up as soon as somebody says that packets to `address` do not arrive: nothing listens there,
/// there is no route. `socket` is the one under `endpoint`.
pub async fn call(
    endpoint: &Endpoint,
    socket: &Socket,
    client: ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<Connection, Why> {
    tokio::select! {
        biased;
        connected = connect(endpoint, client, address, name) => connected,
        unreachable = socket.unreachable(address) => Err(unreachable.why()),
    }
}

/// Tries the addresses of all `names` (`host:port`, or services, in the order of their records), each a little after the one
/// before, or at once when that failed, as a dead address just keeps silent; the first attempt that succeeds wins, and the
/// others are dropped. No more than 16 addresses are tried, none of them twice. The error is the last one; an attempt's, if
/// there was any.
pub async fn race<T, F>(resolver: &Resolver, names: &[String], attempt: impl Fn(SocketAddr) -> F) -> Result<T, Why>
where
    F: Future<Output = Result<T, Why>>,
{
    let mut lookups: Vec<_> = names.iter().take(RACE_MAX).map(|name| Box::pin(resolver.resolve(name))).collect();
    let (mut seen, mut queue, mut running) = (Vec::new(), VecDeque::new(), Vec::new());
    let (mut unknown, mut failed) = (Why::new(Reason::NotSent, "there is no address to call"), None);
    let mut pause = pin!(sleep(Duration::ZERO));
    loop {
        tokio::select! {
            biased;
            ended = first(&mut running), if !running.is_empty() => match ended {
                Ok(won) => return Ok(won),
                Err(why) => {
                    failed = Some(why);
                    pause.set(sleep(Duration::ZERO));
                }
            },
            found = first(&mut lookups), if !lookups.is_empty() => match found {
                Ok(found) => for address in found {
                    if seen.len() < RACE_MAX && !seen.contains(&address) {
                        seen.push(address);
                        queue.push_back(address);
                    }
                },
                Err(why) => unknown = why,
            },
            () = &mut pause, if !queue.is_empty() => {
                running.extend(queue.pop_front().map(|address| Box::pin(attempt(address))));
                pause.set(sleep(HEAD_START));
            }
            else => return Err(failed.unwrap_or(unknown)),
        }
    }
}

/// The first of these to end; it is taken out.
async fn first<F: Future>(futures: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for (n, future) in futures.iter_mut().enumerate() {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                drop(futures.remove(n));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use super::*;

    /// Races for addresses told apart by their ports; gives the result and what was tried when, in ms.
    async fn run(names: &[&str], within_ms: u64) -> (Option<Result<u16, Why>>, Vec<(u16, u64)>) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let (tried, start) = (RefCell::new(Vec::new()), tokio::time::Instant::now());
        let attempt = async |port| {
            match port {
                1 => pending().await, // a dead address keeps silent
                2 => return Err(Why::new(Reason::Refused, "two")),
                3 => sleep(Duration::from_millis(400)).await,
                _ => {}
            }
            Ok(port)
        };
        let resolver = Resolver::default();
        let racing = race(&resolver, &names, |at| {
            tried.borrow_mut().push((at.port(), start.elapsed().as_millis() as u64));
            async move { attempt(at.port()).await }
        });
        let result = tokio::time::timeout(Duration::from_millis(within_ms), racing).await.ok();
        (result, tried.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_costs_a_quarter_of_a_second() {
        let (won, tried) = run(&["127.0.0.1:1", "127.0.0.1:4", "127.0.0.1:5"], 1_000).await;
        assert_eq!((won, tried), (Some(Ok(4)), vec![(1, 0), (4, 250)]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_makes_room_at_once_and_a_slow_one_may_still_win() {
        let (won, tried) = run(&["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1", "127.0.0.1:3"], 1_000).await;
        assert_eq!((won, tried), (Some(Ok(3)), vec![(2, 0), (3, 0), (1, 250)]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_looked_up_keeps_nobody_from_the_rest() {
        let (won, _) = run(&["no port", "127.0.0.1:4"], 1_000).await;
        assert_eq!(won, Some(Ok(4)));
        let (lost, _) = run(&["127.0.0.1:2", "no port"], 1_000).await;
        assert_eq!(lost, Some(Err(Why::new(Reason::Refused, "two"))));
        let (lost, _) = run(&["no port"], 1_000).await;
        assert_eq!(lost.unwrap().unwrap_err().reason, Reason::NotSent);
        let (lost, _) = run(&[], 1_000).await;
        assert!(lost.unwrap().is_err());
    }
}
