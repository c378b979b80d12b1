//! Hello and its answer between two servers.

use pams_shared::{
    clock::Clock,
    frame::{Frame, Hello, HelloAck, Member, Rejected, Rejection, Role, capability},
    id::ServerId,
    identity::Subject,
    quic,
    record::{Reason, Why},
};
use quinn::{Connection, RecvStream, SendStream};

use super::super::door::{Door, End};

/// What we can, as we tell siblings.
const OURS: u64 = capability::SIBLINGS | capability::SHORT_GOSSIP;

/// Who is at the other end, and what it can, by its Hello.
#[derive(Debug)]
pub(super) struct Greeted {
    pub member: Member,
    pub capabilities: u64,
}

/// Which server is at the other end, by its certificate; TLS has checked that it is of our root.
pub(super) fn identify(door: &Door, connection: &Connection) -> Result<Subject, Rejected> {
    let reject = |detail: String| Rejected { code: Rejection::Role, detail };
    let identity = connection.peer_identity().ok_or_else(|| reject("a server needs a certificate".to_owned()))?;
    let subject = Subject::of_peer(&*identity).map_err(|e| reject(e.to_string()))?;
    match subject.role {
        Role::Server if subject.domain != door.domain => {
            Err(reject(format!("this is a server of {}, the certificate is of {}", door.domain, subject.domain)))
        }
        Role::Server => Ok(subject),
        Role::Agent => Err(reject("this certificate is of an agent".to_owned())),
    }
}

/// Answers Hello; who it is, or that it was turned away.
pub(super) async fn answer(
    door: &Door,
    connection: &Connection,
    hello: Hello,
    send: &mut SendStream,
) -> Result<Greeted, End> {
    let Hello { member, capabilities, .. } = hello;
    let verdict = welcome(door, connection, member).await;
    let ack = HelloAck {
        software: door.software.to_owned(),
        epoch: door.generation,
        capabilities: OURS,
        wall_ms: Clock.now().wall_ms(),
        observed: Some(connection.remote_address()),
        verdict: verdict.as_ref().map(|_| ()).map_err(Clone::clone),
        terms: None,
        member: Some(door.neighbours.me.clone()),
    };
    let written = quic::write_frame(send, &Frame::HelloAck(ack)).await;
    match verdict {
        Ok(member) if written.is_ok() => Ok(Greeted { member, capabilities }),
        Ok(_) => Err(End::DONE),
        Err(rejected) => {
            let from = connection.remote_address();
            door.metrics.frame_rejected("hello");
            tracing::info!(%from, rejection = ?rejected.code, why = rejected.detail, "server turned away");
            let _ = send.finish();
            let _ = send.stopped().await;
            Err(End::new(pams_shared::frame::close::REJECTED, "the reason stands in HelloAck"))
        }
    }
}

async fn welcome(door: &Door, connection: &Connection, member: Option<Member>) -> Result<Member, Rejected> {
    let subject = identify(door, connection)?;
    let id = ServerId(subject.id);
    let reject = |code, detail: &str| Err(Rejected { code, detail: detail.to_owned() });
    if id != door.neighbours.me.id && !door.registrar.is_welcome(&subject).await {
        return reject(
            Rejection::Key,
            "this server was forgotten here; let it join again with a new token of role server",
        );
    }
    match member {
        _ if id == door.neighbours.me.id => reject(Rejection::Oneself, "you are me"),
        Some(member) if member.id == id => Ok(member),
        Some(_) => reject(Rejection::Role, "hello names another server than the certificate"),
        None => reject(Rejection::Protocol, "hello between servers must say who calls; update that server"),
    }
}

/// Says Hello; who answered.
pub(super) async fn greet(door: &Door, connection: &Connection) -> Result<(Greeted, SendStream, RecvStream), Why> {
    let refused = |text: String| Why::new(Reason::Refused, text);
    let subject = identify(door, connection).map_err(|rejected| refused(rejected.detail))?;
    let id = ServerId(subject.id);
    if !door.registrar.is_welcome(&subject).await {
        return Err(refused(format!("server {id} was forgotten here")));
    }
    let hello = Hello {
        software: door.software.to_owned(),
        epoch: door.generation,
        capabilities: OURS,
        wall_ms: Clock.now().wall_ms(),
        attach: 0,
        profile: None,
        member: Some(door.neighbours.me.clone()),
    };
    let (mut send, mut receive) = connection.open_bi().await.map_err(|e| quic::why(&e))?;
    quic::write_frame(&mut send, &Frame::Hello(hello)).await.map_err(|e| e.why())?;
    match quic::read_frame(&mut receive).await.map_err(|e| e.why())? {
        Some(Frame::HelloAck(HelloAck { verdict: Err(rejected), .. })) => Err(refused(rejected.detail)),
        Some(Frame::HelloAck(HelloAck { member: Some(member), capabilities, .. })) if member.id == id => {
            Ok((Greeted { member, capabilities }, send, receive))
        }
        Some(Frame::HelloAck(HelloAck { member: None, .. })) => {
            Err(refused("the other server is of a version that talks to no other: update it".to_owned()))
        }
        _ => Err(refused("the other server answered Hello with something else".to_owned())),
    }
}
