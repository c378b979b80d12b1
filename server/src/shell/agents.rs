//! The conversation with an agent that works here: Hello, then reports and their acknowledgements on the same stream, and
//! questions on streams of their own. What the agent did not ask for is pushed on a stream that we open.
//!
//! One task per connection, which reads and writes frames and asks the loop; what is decided is the core's. A report is
//! read when the loop has room for it, so that a busy loop slows the agents down; one that does not read its
//! acknowledgements is turned away. A connection at rest is two waiting reads and holds no buffer.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use pams_shared::{
    clock::Clock,
    frame::{
        Checked, Entry, Frame, Hello, HelloAck, NotifyAck, Probe, ProbeAck, Rejected, Rejection, Report, Role,
        SubscribeAck, Terms, capability, close,
    },
    id::PeerId,
    identity::Subject,
    quic,
    socket::stamps::canonical,
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    door::{Door, End, Unread},
    newcomers::Newcomer,
    outbox::Outbox,
    siblings::Feed,
};
use crate::{
    core::{
        SessionId,
        cluster::io::{LinkId, SiblingInput},
        share::FollowerId,
    },
    metrics::Handshake,
};

/// Events that wait for the loop; beyond, connections wait. A report takes 64 KiB at most.
pub const EVENTS_MAX: usize = 256;

/// What a connection tells the loop. Where there is an answer, none comes if the session is over.
#[derive(Debug)]
pub enum Event {
    Opened {
        session: SessionId,
        peer: PeerId,
        hello: Box<Hello>,
        observed: SocketAddr,
        same_host: bool,
        /// For the loop to close it.
        connection: Connection,
        /// For the loop to tell the agent what it did not ask for.
        outbox: Arc<Outbox>,
        answer: oneshot::Sender<Result<Terms, Rejected>>,
    },
    /// Acknowledged in the outbox, some time later.
    Report {
        session: SessionId,
        report: Report,
    },
    Fetch {
        session: SessionId,
        peer: PeerId,
        answer: oneshot::Sender<Option<Box<Entry>>>,
    },
    Subscribe {
        session: SessionId,
        peer: PeerId,
        answer: oneshot::Sender<SubscribeAck>,
    },
    Unsubscribe {
        session: SessionId,
        peer: PeerId,
    },
    NotifyAck {
        session: SessionId,
        ack: NotifyAck,
    },
    Heard {
        session: SessionId,
    },
    Checked {
        session: SessionId,
        checked: Box<Checked>,
    },
    Goodbye {
        session: SessionId,
    },
    Closed {
        session: SessionId,
    },
    /// Between us and another server.
    Sibling(SiblingInput),
    /// A connection with another server stands.
    Linked {
        input: SiblingInput,
        link: LinkId,
        connection: Connection,
    },
    /// Another server follows.
    Followed {
        input: SiblingInput,
        stream: FollowerId,
        feed: Feed,
    },
    /// Another server wants to know how a peer is.
    Probe {
        link: LinkId,
        what: Probe,
        answer: oneshot::Sender<ProbeAck>,
    },
    /// A program that measures has made these.
    #[cfg(feature = "feed")]
    Fed {
        inputs: Vec<crate::core::Input>,
        answer: oneshot::Sender<()>,
    },
    /// Some connection's task panicked; its connection is closed.
    Panicked,
}

/// From the first frame to the end of the connection.
pub async fn converse(
    door: &Door,
    connection: &Connection,
    deadline: Instant,
    newcomer: Newcomer,
    session: SessionId,
) -> End {
    let caller = identify(door, connection);
    door.metrics.handshake(if caller.is_ok() { Handshake::Ok } else { Handshake::Certificate });
    let outbox = Arc::default();
    let (send, receive) = match greet(door, connection, deadline, session, caller, &outbox).await {
        Ok(streams) => streams,
        Err(end) => return end,
    };
    drop(newcomer);
    let end = tokio::select! {
        biased; // what came before the connection was lost is read to its end
        end = reports(door, connection, session, &outbox, receive) => end,
        end = acknowledgements(door, send, &outbox) => end,
        end = questions(door, connection, session) => end,
        end = pushes(door, connection, session, &outbox) => end,
    };
    tell(door, Event::Closed { session }).await.err().unwrap_or(end)
}

/// Hello and its answer. An error: the agent was turned away, and the core knows of no session.
async fn greet(
    door: &Door,
    connection: &Connection,
    deadline: Instant,
    session: SessionId,
    caller: Result<Subject, Rejected>,
    outbox: &Arc<Outbox>,
) -> Result<(SendStream, RecvStream), End> {
    let (mut send, receive, frame) = door.first_frame(connection, deadline).await?;
    let verdict = match (frame, caller) {
        (Frame::Hello(hello), Ok(subject)) => {
            welcome(door, connection, session, subject, hello, outbox.clone()).await?
        }
        (Frame::Hello(_), Err(rejected)) => Err(rejected),
        _ => Err(reject(Rejection::Protocol, "the first frame must be Hello")),
    };
    let ack = Frame::HelloAck(HelloAck {
        software: door.software.to_owned(),
        epoch: door.generation,
        capabilities: capability::SUBSCRIPTIONS | capability::ROSTERS,
        wall_ms: Clock.now().wall_ms(),
        observed: Some(observed(connection)),
        verdict: verdict.as_ref().map(|_| ()).map_err(Clone::clone),
        terms: verdict.as_ref().ok().copied(),
        member: None,
    });
    let written = timeout(door.limits.patience, quic::write_frame(&mut send, &ack)).await;
    let Err(rejected) = verdict else {
        if matches!(written, Ok(Ok(()))) {
            return Ok((send, receive));
        }
        tell(door, Event::Closed { session }).await?;
        return Err(End::DONE);
    };
    let from = connection.remote_address();
    door.metrics.frame_rejected("hello");
    tracing::info!(%from, rejection = ?rejected.code, why = rejected.detail, "agent turned away");
    let _ = send.finish();
    let _ = timeout(door.limits.patience, send.stopped()).await;
    Err(End::new(close::REJECTED, "the reason stands in HelloAck"))
}

/// Whether the agent is welcome: the authority knows its key or trusts the server that does, and the core says so.
async fn welcome(
    door: &Door,
    connection: &Connection,
    session: SessionId,
    subject: Subject,
    hello: Hello,
    outbox: Arc<Outbox>,
) -> Result<Result<Terms, Rejected>, End> {
    let unknown = || {
        let detail = format!(
            "this server does not, or no longer, know the key of peer {0}: it was forgotten, or the server's data is \
             from before it joined; join again with a new token from `pams-server token create`",
            subject.id
        );
        Rejected { code: Rejection::Key, detail }
    };
    if !door.registrar.is_welcome(&subject).await {
        return Ok(Err(unknown()));
    }
    let (answer, verdict) = oneshot::channel();
    let (peer, hello) = (PeerId(subject.id), Box::new(hello));
    let (observed, connection) = (observed(connection), connection.clone());
    let same_host = is_ours(observed.ip());
    tell(door, Event::Opened { session, peer, hello, observed, same_host, connection, outbox, answer }).await?;
    let verdict = verdict.await.map_err(|_| End::DONE)?;
    // Asked again: it may have been forgotten after the first look and before the core heard of the session.
    if verdict.is_ok() && !door.registrar.is_welcome(&subject).await {
        tell(door, Event::Closed { session }).await?;
        return Ok(Err(unknown()));
    }
    Ok(verdict)
}

/// Who calls: an agent of this trust domain. TLS has checked that the certificate, if there is one, is of our root.
fn identify(door: &Door, connection: &Connection) -> Result<Subject, Rejected> {
    let identity = connection.peer_identity().ok_or_else(|| {
        reject(Rejection::Role, "an agent without a certificate has to join first: start it with --join <token>")
    })?;
    let subject = Subject::of_peer(&*identity).map_err(|e| reject(Rejection::Role, &e.to_string()))?;
    if subject.role != Role::Agent {
        return Err(reject(Rejection::Role, "only agents report to a server: this certificate is of a server"));
    }
    if subject.domain != door.domain {
        let detail =
            format!("this is a server of {}, the certificate is of {}: join here", door.domain, subject.domain);
        return Err(reject(Rejection::Role, &detail));
    }
    Ok(subject)
}

/// Reads reports one by one, as fast as the loop takes them and the agent reads its acknowledgements.
async fn reports(
    door: &Door,
    connection: &Connection,
    session: SessionId,
    outbox: &Outbox,
    mut receive: RecvStream,
) -> End {
    let mut left = false;
    loop {
        let step = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::Report(report))) => {
                let told = tell(door, Event::Report { session, report }).await;
                outbox.taken().await;
                told
            }
            Ok(Some(Frame::Goodbye)) => {
                left = true;
                tell(door, Event::Goodbye { session }).await
            }
            Ok(Some(_)) => Err(door.misplaced("only Report and Goodbye may follow Hello on its stream")),
            Ok(None) => {
                if left {
                    // Its connection is its own to close.
                    let _ = timeout(door.limits.patience, connection.closed()).await;
                }
                Err(End::DONE)
            }
            Err(error) => match door.unread(&error) {
                Unread::Skipped => tell(door, Event::Heard { session }).await,
                Unread::Broken(end) => Err(end),
                Unread::Lost => Err(End::DONE),
            },
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// Writes how far reports are acknowledged, the newest only. The end of the connection is for [`reports`] to see.
async fn acknowledgements(door: &Door, mut send: SendStream, outbox: &Outbox) -> End {
    loop {
        let ack = Frame::ReportAck(outbox.next_ack().await);
        match timeout(door.limits.patience, quic::write_frame(&mut send, &ack)).await {
            Ok(Ok(())) => outbox.written(),
            Ok(Err(_)) => return pending().await,
            Err(_) => return End::new(close::PROTOCOL, "acknowledgements are not read"),
        }
    }
}

/// Tells the agent what it did not ask for, on a stream of our own, opened with the first of it. A slow reader keeps nobody
/// waiting but this; one that does not read at all is turned away. The end of the connection is for [`reports`] to see.
async fn pushes(door: &Door, connection: &Connection, session: SessionId, outbox: &Outbox) -> End {
    const UNREAD: End = End::new(close::PROTOCOL, "what is pushed is not read");
    let mut frame = outbox.next().await;
    let (mut send, receive) = match timeout(door.limits.patience, connection.open_bi()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(_)) => return pending().await,
        Err(_) => return UNREAD,
    };
    let write = async {
        loop {
            match timeout(door.limits.patience, quic::write_frame(&mut send, &frame)).await {
                Ok(Ok(())) => frame = outbox.next().await,
                Ok(Err(_)) if connection.close_reason().is_some() => return pending().await,
                Ok(Err(_)) | Err(_) => return UNREAD,
            }
        }
    };
    tokio::select! {
        end = write => end,
        end = answers(door, session, receive) => end,
    }
}

/// Reads what comes back on the push stream: that the agent has told its side, or what it has found out.
async fn answers(door: &Door, session: SessionId, mut receive: RecvStream) -> End {
    loop {
        let step = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::NotifyAck(ack))) => tell(door, Event::NotifyAck { session, ack }).await,
            Ok(Some(Frame::Checked(checked))) => {
                tell(door, Event::Checked { session, checked: Box::new(checked) }).await
            }
            Ok(Some(_)) => Err(door.misplaced("only NotifyAck and Checked answer what is pushed")),
            Ok(None) => return pending().await,
            Err(error) => match door.unread(&error) {
                Unread::Skipped => tell(door, Event::Heard { session }).await,
                Unread::Broken(end) => Err(end),
                Unread::Lost => return pending().await,
            },
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// Answers questions one by one. The end of the connection is for [`reports`] to see.
async fn questions(door: &Door, connection: &Connection, session: SessionId) -> End {
    loop {
        let Ok((send, receive)) = connection.accept_bi().await else { return pending().await };
        if let Err(end) = question(door, connection, session, send, receive).await {
            return end;
        }
    }
}

/// One question; if it is of no kind known here, the stream ends without an answer.
async fn question(
    door: &Door,
    connection: &Connection,
    session: SessionId,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), End> {
    let Ok(read) = timeout(door.limits.patience, quic::read_frame(&mut receive)).await else {
        door.metrics.frame_rejected("silent");
        return Ok(());
    };
    let answer = match read {
        Ok(Some(Frame::Fetch(peer))) => {
            let (answer, entry) = oneshot::channel();
            tell(door, Event::Fetch { session, peer, answer }).await?;
            Frame::FetchAck(entry.await.map_err(|_| End::DONE)?)
        }
        Ok(Some(Frame::Subscribe(peer))) => {
            let (answer, ack) = oneshot::channel();
            tell(door, Event::Subscribe { session, peer, answer }).await?;
            Frame::SubscribeAck(ack.await.map_err(|_| End::DONE)?)
        }
        Ok(Some(Frame::Unsubscribe(peer))) => return tell(door, Event::Unsubscribe { session, peer }).await,
        Ok(Some(Frame::Renew(csr))) => {
            tell(door, Event::Heard { session }).await?;
            renew(door, connection, csr).await?
        }
        Ok(Some(_)) => {
            return Err(
                door.misplaced("only Fetch, Renew, Subscribe and Unsubscribe may be asked on a stream of their own")
            );
        }
        Ok(None) => return Ok(()),
        Err(error) => {
            return match door.unread(&error) {
                Unread::Skipped => tell(door, Event::Heard { session }).await,
                Unread::Broken(end) => Err(end),
                Unread::Lost => Ok(()),
            };
        }
    };
    // Whoever does not read its answer gets none.
    let written = timeout(door.limits.patience, quic::write_frame(&mut send, &answer)).await;
    if !matches!(written, Ok(Ok(()))) {
        let _ = send.reset(close::DONE.into());
    }
    Ok(())
}

async fn renew(door: &Door, connection: &Connection, csr: Vec<u8>) -> Result<Frame, End> {
    // Looked up anew, so that a connection at rest need not keep it.
    let subject = identify(door, connection).map_err(|_| End::DONE)?;
    Ok(renewed(door, subject, csr).await)
}

/// The answer to whoever has proven to be `subject` and wants its certificate renewed.
pub async fn renewed(door: &Door, subject: Subject, csr: Vec<u8>) -> Frame {
    let peer = subject.id;
    let result = door.registrar.renew(subject, csr).await;
    door.metrics.renewed(result.as_ref().map(|_| ()).map_err(|refused| refused.code));
    match result {
        Ok(issued) => {
            tracing::debug!(%peer, "certificate renewed");
            Frame::Issued(issued)
        }
        Err(refused) => {
            tracing::warn!(%peer, why = refused.detail, "certificate not renewed");
            Frame::Refused(refused)
        }
    }
}

/// An error when the loop has ended.
async fn tell(door: &Door, event: Event) -> Result<(), End> {
    door.events.send(event).await.map_err(|_| End::new(close::GOODBYE, "the server stops"))
}

/// Where the agent is seen.
fn observed(connection: &Connection) -> SocketAddr {
    canonical(connection.remote_address())
}

/// Whether an address is one of this host: the kernel lets nobody else bind it.
pub fn is_ours(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn reject(code: Rejection, detail: &str) -> Rejected {
    Rejected { code, detail: detail.to_owned() }
}
