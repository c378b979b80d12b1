//! Frames on streams: each behind its length, a protobuf varint. The length is checked before room is made for the frame.

use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};

use crate::frame::{Frame, FrameError, STREAM_BYTES_MAX, wire};

/// A varint of STREAM_BYTES_MAX has three bytes; more of them can only be padding or too long.
const LENGTH_BYTES_MAX: usize = 3;

/// Why a stream gives no more frames. Only after [`Frame`](StreamError::Frame) can it be read on: the bytes of that frame
/// are consumed, its meaning is not known here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The frame was read, but is none; the next one can be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The length is over the bound; where the next frame starts is not known. The other side's fault.
    #[error("frame on a stream is longer than {STREAM_BYTES_MAX} bytes")]
    Oversized,
    /// The stream ended inside a frame. The other side's fault, or it was cut short.
    #[error("stream ended inside a frame")]
    Truncated,
    /// The connection ended before there was a stream.
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error("stream can not be read: {0}")]
    Read(ReadError),
    #[error("stream can not be written: {0}")]
    Write(#[from] WriteError),
}

/// Reads one frame; `None` where the stream ended between frames.
///
/// Not cancel safe: dropped while it waits, it may have eaten a part of a frame. Give each stream a task.
pub async fn read_frame(stream: &mut RecvStream) -> Result<Option<Frame>, StreamError> {
    let Some(length) = read_length(stream).await? else { return Ok(None) };
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(|e| match e {
        ReadExactError::FinishedEarly(_) => StreamError::Truncated,
        ReadExactError::ReadError(e) => StreamError::Read(e),
    })?;
    Ok(Some(wire::decode(&bytes, STREAM_BYTES_MAX)?))
}

/// Writes one frame, waiting for the other side's window. Not cancel safe either. A frame over the bound is not sent.
pub async fn write_frame(stream: &mut SendStream, frame: &Frame) -> Result<(), StreamError> {
    let bytes = wire::encode_delimited(frame);
    // A body of that length has one of LENGTH_BYTES_MAX before it.
    if bytes.len() > LENGTH_BYTES_MAX + STREAM_BYTES_MAX {
        return Err(StreamError::Oversized);
    }
    Ok(stream.write_chunk(bytes.into()).await?)
}

async fn read_length(stream: &mut RecvStream) -> Result<Option<usize>, StreamError> {
    let mut length = 0;
    for at in 0..LENGTH_BYTES_MAX {
        let mut byte = [0];
        match stream.read_exact(&mut byte).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(_)) if at == 0 => return Ok(None),
            Err(ReadExactError::FinishedEarly(_)) => return Err(StreamError::Truncated),
            Err(ReadExactError::ReadError(e)) => return Err(StreamError::Read(e)),
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * at);
        if byte[0] & 0x80 == 0 {
            return if length > STREAM_BYTES_MAX { Err(StreamError::Oversized) } else { Ok(Some(length)) };
        }
    }
    Err(StreamError::Oversized)
}
