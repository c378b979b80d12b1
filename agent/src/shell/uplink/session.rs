//! One connection to a home: the call, Hello, and the work until it ends.

use std::time::Duration;

use pams_shared::{
    clock::Clock,
    frame::{Frame, Hello, Role, close},
    id::ServerId,
    identity::{self, Subject},
    quic::{self, StreamError},
    record::{Reason, Why},
};
use quinn::{Connection, ConnectionError};
use tokio::time::timeout;

use super::{
    End, REQUEST_PATIENCE, Uplink, UplinkEvent, UplinkRequest, lost,
    push::{acknowledgements, pushes},
    requests::Asked,
    retry::RETRY_FIRST,
};
use crate::shell::link::{GOODBYE, offset};

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the certificate's age is looked at.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);
const SUPERSEDED: &str = "another agent with this peer's id took our place at the home: if its data directory was copied, \
                          stop one of the two, remove its copy and join it again";

impl Uplink {
    pub(super) async fn session(&mut self, address: &str, pause: &mut Duration) -> End {
        let connection = match timeout(HANDSHAKE_PATIENCE, self.connect(address)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return End::Lost(Why::new(why.reason, format!("home {address}: {}", why.text))),
            Err(_) => {
                let text =
                    format!("no answer over UDP from home {address}: it is down, or a firewall drops UDP on the way");
                return End::Lost(Why::new(Reason::NoAnswer, text));
            }
        };
        match self.greet(&connection).await {
            Ok((streams, capabilities)) => {
                self.met = true;
                let end = self.session_on(address, &connection, streams, capabilities).await;
                // Two that take each other's place again and again do so less and less often.
                if is_superseded(&connection) {
                    return lost(Reason::Refused, SUPERSEDED);
                }
                *pause = RETRY_FIRST;
                end
            }
            Err(end) => {
                connection.close(close::DONE.into(), b"");
                end
            }
        }
    }

    /// From the answer to Hello until the connection ends.
    pub(super) async fn session_on(
        &mut self,
        address: &str,
        connection: &Connection,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
        capabilities: u64,
    ) -> End {
        let mut asked = Asked::of(capabilities);
        let end = self.work(address, connection, send, receive, &mut asked).await;
        match &end {
            End::Done => connection.close(close::GOODBYE.into(), GOODBYE),
            End::Lost(why) | End::Again(why) => {
                // What ended it is still to be read from it, so it is closed only if it lives.
                if connection.close_reason().is_none() {
                    connection.close(close::DONE.into(), b"");
                }
                self.unanswered(asked, why).await;
            }
        }
        end
    }

    async fn connect(&self, address: &str) -> Result<Connection, Why> {
        let name = identity::home_name(&self.me.domain);
        let attempt = |at| quic::call(&self.endpoint, &self.socket, self.client.clone(), at, &name);
        quic::race(&[address.to_owned()], attempt).await
    }

    /// Hello and its answer: the stream that it came on, which the reports will use, and what the home can do.
    async fn greet(&mut self, connection: &Connection) -> Result<((quinn::SendStream, quinn::RecvStream), u64), End> {
        let subject = connection.peer_identity().and_then(|id| Subject::of_peer(&*id).ok());
        let Some(subject) = subject.filter(|s| s.role == Role::Server) else {
            return Err(lost(Reason::Certificate, "what answers there is not a pams-server of this trust domain"));
        };
        self.tell(UplinkEvent::Reached { server: ServerId(subject.id) }).await?;
        let (attach, profile) = loop {
            match self.requests.recv().await {
                Some(UplinkRequest::Greet { attach, profile }) => break (attach, profile),
                None | Some(UplinkRequest::Goodbye) => return Err(End::Done),
                Some(request) => {
                    self.refuse(request, &Why::new(Reason::NotSent, "the home is being called; try again")).await;
                }
            }
        };
        let hello = Hello { attach, profile: Some(profile), ..self.me.hello() };
        let exchange = async {
            let (mut send, mut receive) = connection.open_bi().await.map_err(StreamError::from)?;
            quic::write_frame(&mut send, &Frame::Hello(hello)).await?;
            let answer = quic::read_frame(&mut receive).await?;
            Ok::<_, StreamError>((send, receive, answer))
        };
        let (send, receive, answer) = match timeout(HANDSHAKE_PATIENCE, exchange).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(error)) => return Err(End::Lost(error.why())),
            Err(_) => return Err(lost(Reason::NoAnswer, "the home did not answer Hello")),
        };
        let Some(Frame::HelloAck(ack)) = answer else {
            return Err(lost(Reason::Refused, "the home answered Hello with something else"));
        };
        if let Err(rejected) = ack.verdict {
            return Err(lost(Reason::Refused, &rejected.detail));
        }
        let Some(terms) = ack.terms else { return Err(lost(Reason::Refused, "the home named no terms")) };
        let observed = ack.observed.map(|a| a.to_string());
        self.tell(UplinkEvent::Up { terms, observed, clock_offset_ms: offset(ack.wall_ms) }).await?;
        Ok(((send, receive), ack.capabilities))
    }

    async fn work(
        &mut self,
        address: &str,
        connection: &Connection,
        mut send: quinn::SendStream,
        receive: quinn::RecvStream,
        asked: &mut Asked,
    ) -> End {
        let mut acks = std::pin::pin!(acknowledgements(receive, self.events.clone()));
        let mut pushes = std::pin::pin!(pushes(connection, self.events.clone()));
        let mut renewal = tokio::time::interval(RENEWAL_LOOK);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                end = &mut acks => return end,
                end = &mut pushes => return end,
                Some(done) = asked.tasks.join_next() => if let Some(event) = asked.ended(done)
                    && self.events.send(event).await.is_err() { return End::Done },
                request = self.requests.recv() => match request {
                    None => return End::Done,
                    Some(UplinkRequest::Report(report)) => {
                        let batch = report.batch;
                        if let Err(error) = quic::write_frame(&mut send, &Frame::Report(report)).await {
                            return End::Lost(error.why());
                        }
                        if self.events.send(UplinkEvent::Written { batch }).await.is_err() { return End::Done }
                    }
                    Some(UplinkRequest::Fetch { peer, answer }) => asked.fetch(connection, peer, answer),
                    Some(UplinkRequest::Resolve { peer }) => asked.resolve(connection, peer),
                    Some(UplinkRequest::Subscribe(ask)) => asked.subscribe(connection, ask),
                    Some(UplinkRequest::Unsubscribe { peer }) => asked.unsubscribe(connection, peer),
                    Some(UplinkRequest::Greet { .. }) => {}
                    Some(UplinkRequest::Rejoin(why)) => return End::Again(why),
                    Some(UplinkRequest::Homes(homes)) => {
                        let stays = homes.iter().any(|h| h == address);
                        self.homes = homes;
                        if !stays {
                            let text = format!("{address} is no home any more: the configuration names others");
                            return End::Again(Why::new(Reason::Cancelled, text));
                        }
                    }
                    Some(UplinkRequest::Goodbye) => {
                        let said = async {
                            quic::write_frame(&mut send, &Frame::Goodbye).await.ok()?;
                            send.finish().ok()?;
                            send.stopped().await.ok()
                        };
                        let _ = timeout(REQUEST_PATIENCE, said).await;
                        return End::Done;
                    }
                },
                _ = renewal.tick() => if self.credentials.is_due(Clock.now()) {
                    asked.renew(connection, &self.credentials);
                },
            }
        }
    }
}

/// Whether the home ended the connection because there is another one with our id.
fn is_superseded(connection: &Connection) -> bool {
    matches!(connection.close_reason(), Some(ConnectionError::ApplicationClosed(closed))
        if closed.error_code == close::SUPERSEDED.into())
}
