//! A connection with a sibling from Hello to its end: gossip, the streams on which it follows, its questions.

use std::{future::pending, sync::Arc};

use pams_shared::{
    frame::{DATAGRAM_BYTES_MAX, Frame, wire},
    identity::Subject,
    quic,
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    super::{
        agents::{self, Event, is_ours},
        door::{Door, End, Unread},
        newcomers::Newcomer,
    },
    follow,
    greet::{self, Greeted},
    probe, tell,
};
use crate::core::cluster::io::{LinkId, SiblingInput};

/// Streams of one sibling that are open at once; the transport allows no more either.
const STREAMS_MAX: usize = quic::SIBLING_STREAMS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialled,
    Answered,
}

/// A server has called.
pub async fn answer(door: &Arc<Door>, connection: &Connection, deadline: Instant, newcomer: Newcomer) -> End {
    let (mut send, receive, frame) = match door.first_frame(connection, deadline).await {
        Ok(first) => first,
        Err(end) => return end,
    };
    let Frame::Hello(hello) = frame else { return door.misplaced("the first frame must be Hello") };
    let greeted = timeout(door.limits.patience, greet::answer(door, connection, hello, &mut send)).await;
    let greeted = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(end)) => return end,
        Err(_) => return End::DONE,
    };
    drop(newcomer);
    let Some(link) = link(door, connection, greeted, Side::Answered).await else { return End::DONE };
    serve(door, connection, link).await;
    drop((send, receive));
    End::DONE
}

/// Both have said Hello; `None` when the loop has ended.
pub(super) async fn link(door: &Arc<Door>, connection: &Connection, greeted: Greeted, side: Side) -> Option<LinkId> {
    let link = door.neighbours.next_link();
    let same_host = is_ours(connection.remote_address().ip().to_canonical());
    let (dialled, connection) = (side == Side::Dialled, connection.clone());
    let Greeted { member, capabilities } = greeted;
    let input = SiblingInput::Linked { link, member: Box::new(member), capabilities, dialled, same_host };
    door.events.send(Event::Linked { input, link, connection }).await.ok()?;
    Some(link)
}

/// Until the end of the connection.
pub(super) async fn serve(door: &Arc<Door>, connection: &Connection, link: LinkId) {
    tokio::select! {
        _ = connection.closed() => {}
        () = gossip(door, connection, link) => {}
        () = streams(door, connection, link) => {}
    }
    tell(door, SiblingInput::Unlinked { link }).await;
}

async fn gossip(door: &Arc<Door>, connection: &Connection, link: LinkId) {
    while let Ok(bytes) = connection.read_datagram().await {
        match wire::decode(&bytes, DATAGRAM_BYTES_MAX) {
            Ok(Frame::Gossip(bytes)) => {
                if !tell(door, SiblingInput::Gossip { link, bytes }).await {
                    return;
                }
            }
            Ok(_) => door.metrics.frame_rejected("misplaced"),
            Err(error) => door.metrics.frame_rejected(error.label()),
        }
    }
}

/// Takes the streams that the sibling opens, each in a task of its own; all end with this one.
async fn streams(door: &Arc<Door>, connection: &Connection, link: LinkId) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = open.join_next() => {
                if ended.is_err_and(|error: tokio::task::JoinError| error.is_panic()) {
                    door.metrics.panicked();
                }
            }
            accepted = connection.accept_bi(), if open.len() < STREAMS_MAX => {
                let Ok((send, receive)) = accepted else { return pending().await };
                let Ok(subject) = greet::identify(door, connection) else { return };
                let (door, connection) = (door.clone(), connection.clone());
                open.spawn(async move {
                    if let Err(end) = stream(&door, subject, link, send, receive).await {
                        connection.close(end.code.into(), end.text.as_bytes());
                    }
                });
            }
        }
    }
}

async fn stream(
    door: &Arc<Door>,
    subject: Subject,
    link: LinkId,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), End> {
    let Ok(read) = timeout(door.limits.patience, quic::read_frame(&mut receive)).await else {
        door.metrics.frame_rejected("silent");
        return Ok(());
    };
    match read {
        Ok(Some(Frame::Follow(follow))) => follow::feed(door, link, follow, send, receive).await,
        Ok(Some(Frame::Renew(csr))) => {
            let answer = agents::renewed(door, subject, csr).await;
            let _ = timeout(door.limits.patience, quic::write_frame(&mut send, &answer)).await;
            Ok(())
        }
        Ok(Some(Frame::Probe(what))) => probe::answer(door, link, what, send).await,
        Ok(Some(_)) => Err(door.misplaced("only Follow, Renew and Probe may be asked between servers")),
        Ok(None) => Ok(()),
        Err(error) => match door.unread(&error) {
            Unread::Skipped | Unread::Lost => Ok(()),
            Unread::Broken(end) => Err(end),
        },
    }
}
