//! One connection to a home: the call, Hello, and its end.

use std::time::Duration;

use pams_shared::{
    clock::Clock,
    frame::{Frame, Hello, close},
    quic::{self, StreamError},
    record::{Reason, Why},
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::timeout;

use super::{
    End, Uplink, UplinkEvent, UplinkRequest,
    dial::{patience, server_of},
    lost,
    requests::Asked,
    retry::RETRY_FIRST,
};
use crate::{
    core::choice::{Call, Heard},
    shell::link::{GOODBYE, offset},
};

const SUPERSEDED: &str = "another agent with this peer's id took our place at the home: if its data directory was copied, \
                          stop one of the two, remove its copy and join it again";

/// A home that took us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeted {
    pub capabilities: u64,
    /// Its starts.
    pub generation: u64,
}

impl Uplink {
    /// `connection`: the call was answered already.
    pub(super) async fn session(&mut self, call: &Call, connection: Option<Connection>, pause: &mut Duration) -> End {
        let connection = match connection {
            Some(connection) => connection,
            None => match self.dialler.dial(call).await {
                Ok(connection) => connection,
                Err(why) => return End::Lost(why),
            },
        };
        match self.greet(call, &connection).await {
            Ok((streams, home)) => {
                self.met = true;
                let end = self.session_on(&connection, streams, home).await;
                // Two that take each other's place again and again do so less and less often.
                if is_superseded(&connection) {
                    return End::Superseded(Why::new(Reason::Refused, SUPERSEDED));
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
        connection: &Connection,
        streams: (SendStream, RecvStream),
        home: Greeted,
    ) -> End {
        let mut asked = Asked::of(home.capabilities);
        let end = self.work(connection, streams, home.generation, &mut asked).await;
        match end.why() {
            None => connection.close(close::GOODBYE.into(), GOODBYE),
            Some(why) => {
                // What ended it is still to be read from it, so it is closed only if it lives.
                if connection.close_reason().is_none() {
                    connection.close(close::DONE.into(), b"");
                }
                self.unanswered(asked, why).await;
            }
        }
        end
    }

    /// Hello and its answer: the stream that it came on, which the reports will use, and what the home says of itself.
    async fn greet(
        &mut self,
        call: &Call,
        connection: &Connection,
    ) -> Result<((SendStream, RecvStream), Greeted), End> {
        let Some(server) = server_of(connection) else {
            return Err(lost(Reason::Certificate, "what answers there is not a pams-server of this trust domain"));
        };
        self.choice.handle(Clock.now(), Heard::Reached { place: call.place.clone(), server });
        self.tell(UplinkEvent::Reached { server }).await?;
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
        let (send, receive, answer) = match timeout(patience(call), exchange).await {
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
        let up = Heard::Up { place: call.place.clone(), server, rtt: connection.rtt() };
        self.choice.handle(Clock.now(), up);
        let (observed, because) = (ack.observed.map(|a| a.to_string()), call.because);
        self.tell(UplinkEvent::Up { terms, observed, clock_offset_ms: offset(ack.wall_ms), because }).await?;
        self.tell_servers().await?;
        Ok(((send, receive), Greeted { capabilities: ack.capabilities, generation: ack.epoch }))
    }
}

/// Whether the home ended the connection because there is another one with our id.
fn is_superseded(connection: &Connection) -> bool {
    matches!(connection.close_reason(), Some(ConnectionError::ApplicationClosed(closed))
        if closed.error_code == close::SUPERSEDED.into())
}
