//! The wire as 0.1 spoke it, frozen, so that what is proven is the talk with what was shipped and not with today's types:
//! `pams.v1.rs` is 0.1's own file, the golden frames are those that 0.1 wrote, and [`swim`] is the one form of gossip that it
//! knew. Never to be brought up to date.

pub mod server;
pub mod swim;

use prost::Message;
use quinn::{Connection, ReadExactError, RecvStream, SendStream};

pub use self::proto::{frame::Body, *};
use crate::harness::soon;

#[allow(clippy::all, clippy::pedantic)]
mod proto {
    include!("pams.v1.rs");

    impl std::fmt::Debug for Join {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Join").finish_non_exhaustive()
        }
    }
}

/// A frame as 0.1 wrote it.
pub fn golden(name: &str) -> Body {
    let path = format!("{}/../shared/tests/golden/0.1/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes: Vec<_> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    read(&bytes)
}

/// A message of which 0.1 knows every field: read and written again it is the same.
pub fn known<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> M {
    let message = M::decode(bytes).expect("protobuf");
    assert_eq!(message.encode_to_vec(), bytes, "it has what 0.1 does not know: {message:?}");
    message
}

/// A frame of a kind that 0.1 knows, and with no other fields.
pub fn read(bytes: &[u8]) -> Body {
    let body = Frame::decode(bytes).expect("protobuf").body.expect("a kind of 0.1");
    // The only kind with a field, `came`, that is sent to whoever may know it or not: 0.1 skips it.
    if !matches!(body, Body::ReportAck(_)) {
        known::<Frame>(bytes);
    }
    if let Body::Deltas(deltas) = &body {
        deltas.entries.iter().filter(|e| !e.lot.is_empty()).for_each(|e| drop(known::<Lot>(&e.lot)));
    }
    body
}

pub fn written(body: Body) -> Vec<u8> {
    Frame { body: Some(body) }.encode_to_vec()
}

pub async fn write_frame(stream: &mut SendStream, body: Body) {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(written(body.clone()).len() as u64, &mut bytes);
    bytes.extend(written(body));
    stream.write_all(&bytes).await.unwrap();
}

/// `None`: the stream or its connection has ended.
pub async fn read_frame(stream: &mut RecvStream) -> Option<Body> {
    let mut length = 0;
    for at in 0.. {
        let mut byte = [0];
        match stream.read_exact(&mut byte).await {
            Ok(()) => length |= usize::from(byte[0] & 0x7f) << (7 * at),
            Err(ReadExactError::FinishedEarly(0) | ReadExactError::ReadError(_)) if at == 0 => return None,
            Err(error) => panic!("{error}"),
        }
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(read(&bytes))
}

/// One question on a stream of its own.
pub async fn ask(connection: &Connection, question: Body) -> Body {
    let (mut send, mut receive) = soon(connection.open_bi()).await.unwrap();
    write_frame(&mut send, question).await;
    send.finish().unwrap();
    soon(read_frame(&mut receive)).await.expect("an answer")
}

/// Begins the conversation on a connection; the streams are to be kept.
pub async fn hello(connection: &Connection, hello: Hello) -> (HelloAck, SendStream, RecvStream) {
    let (mut send, mut receive) = soon(connection.open_bi()).await.unwrap();
    write_frame(&mut send, Body::Hello(hello)).await;
    let Some(Body::HelloAck(ack)) = soon(read_frame(&mut receive)).await else { panic!("no HelloAck") };
    (ack, send, receive)
}
