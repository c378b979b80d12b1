//! What the frames have in common: a walk over a message's fields that makes no room for them, and the checks of single
//! values. Each refusal names its field.

use std::net::SocketAddr;

use prost::bytes::{Bytes, BytesMut};

use super::FrameError;

pub(super) const fn invalid(field: &'static str, problem: &'static str) -> FrameError {
    FrameError::Invalid { field, problem }
}

fn malformed(problem: &str) -> FrameError {
    FrameError::Malformed(problem.into())
}

/// Ids and the like of one frame that is written: in one buffer, instead of two allocations each.
pub(super) struct Arena(BytesMut);

impl Arena {
    /// With room for all that is put in.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// The parts, one behind the other.
    pub(super) fn put(&mut self, parts: &[&[u8]]) -> Bytes {
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        self.0.split().freeze()
    }
}

/// One field as it stands in the bytes.
pub(super) struct Field<'a> {
    pub(super) tag: u32,
    /// What stands behind its length; `None` if it is a number.
    bytes: Option<&'a [u8]>,
    /// The number, if it is a varint or a fixed64; else 0.
    pub(super) number: u64,
}

impl<'a> Field<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        self.bytes.and_then(|bytes| str::from_utf8(bytes).ok())
    }

    pub(super) fn message(&self) -> Result<&'a [u8], FrameError> {
        self.bytes.ok_or_else(|| malformed("a number where a message belongs"))
    }
}

/// The fields of a message in their order, up to the first that is broken.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, FrameError>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// Takes one field off the front of `rest`.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, FrameError> {
    let key = varint(rest)?;
    let tag =
        u32::try_from(key >> 3).ok().filter(|t| (1..1 << 29).contains(t)).ok_or_else(|| malformed("no such tag"))?;
    let mut number = 0;
    let bytes = match key & 7 {
        0 => {
            number = varint(rest)?;
            None
        }
        1 => {
            number = take(rest, 8)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
            None
        }
        2 => {
            let length = varint(rest)?;
            Some(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| None)?,
        _ => return Err(malformed("a wire type that proto3 does not have")),
    };
    Ok(Field { tag, bytes, number })
}

fn varint(rest: &mut &[u8]) -> Result<u64, FrameError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed("a number of more than 64 bits"))
}

fn take<'a>(rest: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], FrameError> {
    let (front, back) = usize::try_from(bytes)
        .ok()
        .and_then(|n| rest.split_at_checked(n))
        .ok_or_else(|| malformed("ends in the middle of a field"))?;
    *rest = back;
    Ok(front)
}

/// Bounds of a message's lists, as (tag, most elements, name), checked before any element is decoded: an empty one
/// takes two bytes on the wire and a hundred times that in memory.
pub(super) fn count(message: &[u8], bounds: &[(u32, usize, &'static str)]) -> Result<(), FrameError> {
    let mut counts = [0; 8];
    for field in fields(message) {
        let tag = field?.tag;
        if let Some((n, (_, max, name))) = counts.iter_mut().zip(bounds).find(|(_, b)| b.0 == tag) {
            *n += 1;
            at_most(*n, *max, name)?;
        }
    }
    Ok(())
}

/// The bytes of a message inside a message. Given twice, the two would be merged, and no version sends that.
pub(super) fn only<'a>(message: &'a [u8], tag: u32, name: &'static str) -> Result<Option<&'a [u8]>, FrameError> {
    let mut found = None;
    for field in fields(message) {
        let field = field?;
        if field.tag == tag && found.replace(field.message()?).is_some() {
            return Err(invalid(name, "given twice"));
        }
    }
    Ok(found)
}

fn at_most(n: usize, max: usize, field: &'static str) -> Result<(), FrameError> {
    if n > max { Err(invalid(field, "too many")) } else { Ok(()) }
}

/// Text to show: within `max` bytes, without characters that steer a terminal or turn the line around.
pub(super) fn text(mut s: String, max: usize, field: &'static str) -> Result<String, FrameError> {
    if s.len() > max {
        return Err(invalid(field, "too long"));
    }
    s.retain(|c| !steers(c));
    Ok(s)
}

/// Text that names something, so that stripping it would make it another's: 1 to `max` bytes, nothing to strip.
pub(super) fn name(s: String, max: usize, field: &'static str) -> Result<String, FrameError> {
    match s {
        _ if s.is_empty() => Err(invalid(field, "missing")),
        _ if s.len() > max => Err(invalid(field, "too long")),
        _ if s.contains(steers) => Err(invalid(field, "holds a control character")),
        _ => Ok(s),
    }
}

/// Whether a character steers a terminal or turns the line around, so that it does not belong in text of strangers: control
/// characters, line and paragraph separators, and Unicode's marks for the direction of writing.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// As much of our own text as the other side takes.
pub(super) fn clip(s: &str, max: usize) -> String {
    let end = (0..=max.min(s.len())).rev().find(|&i| s.is_char_boundary(i)).unwrap_or(0);
    s[..end].into()
}

/// An id's bytes.
pub(super) fn id(bytes: &[u8], field: &'static str) -> Result<[u8; 16], FrameError> {
    bytes.try_into().map_err(|_| invalid(field, "not 16 bytes"))
}

pub(super) fn address(s: &str, field: &'static str) -> Result<SocketAddr, FrameError> {
    s.parse().map_err(|_| invalid(field, "not ip:port"))
}

/// An address that may be left out.
pub(super) fn observed(s: &str, field: &'static str) -> Result<Option<SocketAddr>, FrameError> {
    if s.is_empty() { Ok(None) } else { address(s, field).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(message: &[u8]) -> Result<Vec<u32>, FrameError> {
        fields(message).map(|f| f.map(|f| f.tag)).collect()
    }

    #[test]
    fn fields_are_walked_and_broken_ones_end_the_walk() {
        assert_eq!(tags(&[]), Ok(vec![]));
        assert_eq!(
            tags(&[0x08, 0x96, 0x01, 0x12, 0x01, 0xff, 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0]),
            Ok(vec![1, 2, 3, 4])
        );
        for broken in [&[0x80][..], &[0x12, 5, 0], &[0x00, 0], &[0x0b], &[0x09, 0], &[0x08; 1], &[0xff; 11]] {
            assert_eq!(tags(broken).map_err(|e| e.label()), Err("malformed"), "{broken:x?}");
        }
        let mut longest = vec![0x08];
        longest.extend([0xff; 9]);
        longest.push(0x01);
        assert_eq!(tags(&longest), Ok(vec![1]));
    }

    #[test]
    fn text_is_stripped_and_names_are_refused() {
        assert_eq!(text("a\u{1b}[31mb\u{202e}\n ü".into(), 64, "f"), Ok("a[31mb ü".into()));
        assert_eq!(text("abc".into(), 2, "f"), Err(invalid("f", "too long")));
        assert_eq!(name("a\u{7}".into(), 64, "f"), Err(invalid("f", "holds a control character")));
        assert_eq!(name(String::new(), 64, "f"), Err(invalid("f", "missing")));
    }

    #[test]
    fn our_own_text_is_clipped_between_characters() {
        assert_eq!(clip("aüb", 2), "a");
        assert_eq!(clip("aüb", 3), "aü");
        assert_eq!(clip("aüb", 9), "aüb");
    }
}
