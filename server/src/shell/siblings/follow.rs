//! Streams of what is shared: those on which a sibling follows us, and those on which we follow one.

use pams_shared::{
    frame::{Follow, Frame, Held, close},
    quic,
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};

use super::{
    super::{
        agents::Event,
        door::{Door, End, Unread},
    },
    tell,
};
use crate::core::{
    cluster::io::{FollowId, LinkId, SiblingInput},
    share::FollowerId,
};

/// A sibling follows: writes what the loop feeds, and reads how far it holds it.
pub(super) async fn feed(
    door: &Door,
    link: LinkId,
    follow: Follow,
    send: SendStream,
    receive: RecvStream,
) -> Result<(), End> {
    let stream = door.neighbours.next_stream();
    let (feed, fed) = mpsc::channel(1);
    let input = SiblingInput::Followed { link, stream, follow };
    if door.events.send(Event::Followed { input, stream, feed }).await.is_err() {
        return Ok(());
    }
    let result = tokio::select! {
        () = write(door, stream, send, fed) => Ok(()),
        result = read_held(door, stream, receive) => result,
    };
    tell(door, SiblingInput::Unfollowed { stream }).await;
    result
}

async fn write(
    door: &Door,
    stream: FollowerId,
    mut send: SendStream,
    mut fed: mpsc::Receiver<Box<pams_shared::frame::Deltas>>,
) {
    while let Some(deltas) = fed.recv().await {
        if quic::write_frame(&mut send, &Frame::Deltas(*deltas)).await.is_err() {
            return;
        }
        if !tell(door, SiblingInput::Written { stream }).await {
            return;
        }
    }
}

async fn read_held(door: &Door, stream: FollowerId, mut receive: RecvStream) -> Result<(), End> {
    loop {
        match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::Held(held))) => {
                if !tell(door, SiblingInput::Held { stream, held }).await {
                    return Ok(());
                }
            }
            Ok(Some(_)) => return Err(door.misplaced("only Held answers what is shared")),
            Ok(None) => return Ok(()),
            Err(error) => match door.unread(&error) {
                Unread::Skipped => {}
                Unread::Broken(end) => return Err(end),
                Unread::Lost => return Ok(()),
            },
        }
    }
}

/// Follows a sibling until the loop wants it no more, or the stream ends.
pub(super) async fn follow(
    door: &Door,
    connection: &Connection,
    id: FollowId,
    what: Follow,
    acks: watch::Receiver<Held>,
) {
    let followed = async {
        let (mut send, receive) = connection.open_bi().await.ok()?;
        quic::write_frame(&mut send, &Frame::Follow(what)).await.ok()?;
        tokio::select! {
            () = acknowledge(send, acks.clone()) => {}
            end = read(door, id, receive, acks) => {
                if let Some(end) = end {
                    connection.close(end.code.into(), end.text.as_bytes());
                }
            }
        }
        Some(())
    };
    let _ = followed.await;
    tell(door, SiblingInput::FollowEnded { follow: id }).await;
}

/// Says how far we hold it, the newest only and nothing twice; ends when the loop has dropped its end.
async fn acknowledge(mut send: SendStream, mut acks: watch::Receiver<Held>) {
    let mut said = None;
    while acks.changed().await.is_ok() {
        let held = *acks.borrow_and_update();
        if said.replace(held) == Some(held) {
            continue;
        }
        if quic::write_frame(&mut send, &Frame::Held(held)).await.is_err() {
            return;
        }
    }
    let _ = send.reset(close::DONE.into());
}

/// One frame is with the loop while the next is read and no more, so that what is new does not wait behind all that is old.
async fn read(door: &Door, follow: FollowId, mut receive: RecvStream, mut taken: watch::Receiver<Held>) -> Option<End> {
    let mut first = true;
    loop {
        match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::Deltas(deltas))) => {
                // Dropped: the loop wants no more.
                if !std::mem::take(&mut first) && taken.changed().await.is_err() {
                    return None;
                }
                if !tell(door, SiblingInput::Deltas { follow, deltas: Box::new(deltas) }).await {
                    return None;
                }
            }
            Ok(Some(_)) => return Some(door.misplaced("only Deltas answer Follow")),
            Ok(None) => return None,
            Err(error) => match door.unread(&error) {
                Unread::Skipped => {}
                Unread::Broken(end) => return Some(end),
                Unread::Lost => return None,
            },
        }
    }
}
