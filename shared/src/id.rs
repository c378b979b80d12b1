//! Who and which: ids of peers and servers, the correlator that ties a transaction's ends together, and the order of
//! entries.

use std::{fmt, str::FromStr};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::moment::Moment;

/// One instance of a P2P application; a UUIDv4 made at its agent's first start and bound to the agent's key by the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct PeerId(pub Uuid);

/// One PAMS; a UUIDv4 made at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct ServerId(pub Uuid);

macro_rules! id {
    ($name:ident) => {
        impl $name {
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

id!(PeerId);
id!(ServerId);

/// What a transaction's two ends, and its children, have in common: a W3C trace id and span id. Built-in kinds use one
/// UUIDv7 as the trace and its low half as the span, so 16 bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Correlator {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

impl Correlator {
    /// The correlator of a built-in kind.
    pub fn of_uuid(trace: [u8; 16]) -> Self {
        let mut span = [0; 8];
        span.copy_from_slice(&trace[8..]);
        Self { trace, span }
    }

    /// Whether the span is the trace's low half, so that 16 bytes say it all.
    pub fn is_short(&self) -> bool {
        self.span == self.trace[8..]
    }
}

impl fmt::Display for Correlator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        if !self.is_short() {
            f.write_str("-")?;
            self.span.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Correlator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Correlator({self})")
    }
}

/// A source of UUIDv7s (RFC 9562, 5.7) and of jitter, from a seed: the cores have no randomness of their own.
#[derive(Debug)]
pub struct Minter(ChaCha12Rng);

impl Minter {
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    pub fn correlator(&mut self, now: Moment) -> Correlator {
        let mut random = [0; 10];
        self.0.fill_bytes(&mut random);
        Correlator::of_uuid(*uuid::Builder::from_unix_timestamp_millis(now.wall_ms(), &random).as_uuid().as_bytes())
    }

    /// A number in `0..below`, evenly enough for jitter; 0 if `below` is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.0.next_u64() % below }
    }
}

/// How entries of one peer are ordered; the greater is the newer. `epoch` counts the agent's starts and `attach` its
/// changes of home, both minted by the agent; `version` counts changes within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Order {
    pub epoch: u64,
    pub attach: u64,
    pub version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_of_version_7_uuids() {
        let (mut a, mut b) = (Minter::new([7; 32]), Minter::new([7; 32]));
        let now = Moment::new(0, 1_700_000_000_000);
        let c = a.correlator(now);
        assert_eq!(c, b.correlator(now));
        assert_ne!(a.correlator(now), c);
        assert_eq!(Uuid::from_bytes(c.trace).get_version_num(), 7);
        assert!(c.is_short());
    }

    #[test]
    fn a_newer_epoch_beats_any_attach_and_version() {
        let old = Order { epoch: 1, attach: 9, version: 9 };
        assert!(Order { epoch: 2, attach: 0, version: 0 } > old);
    }
}
