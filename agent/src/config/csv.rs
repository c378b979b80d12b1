//! The CSV files: where, how large, how old, how many.

use std::{fmt, path::PathBuf, time::Duration};

use pams_shared::config::Flaw;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::check::{span, within};
use crate::consumer::csv::{Limits, MAX_SIZE_MIN};

const MAX_SIZE_MAX: u64 = 1 << 40;
const AGE_MIN: Duration = Duration::from_secs(60);
const AGE_MAX: Duration = Duration::from_secs(366 * 86_400);
const KEEP_MAX: usize = 10_000;

pams_shared::config! {
    /// Files with a line for each finished transaction (CSV, RFC 4180; --list-columns explains the columns).
    pub struct Csv {
        /// Directory of the files, pams-PEER-TIME.csv; it is made unless it is there. Without it none are written.
        dir: Option<PathBuf> = None => PathBuf::from("/var/log/pams"),
        /// Bytes of a file, 16KiB to 1TiB; then a new one is begun.
        max_size: Size = Size(64 << 20),
        /// Age of a file, 1m to 366days; then a new one is begun. So it is at each start.
        max_age: Duration = Duration::from_secs(86_400),
        /// Old files that are kept beside the present one, 0 to 10000; then the oldest are removed.
        keep: usize = 14,
    }
}

impl Csv {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        if self.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(Flaw::new("csv.dir", "is empty", "name a directory, or leave the key out for no files"));
        }
        if !(MAX_SIZE_MIN..=MAX_SIZE_MAX).contains(&self.max_size.0) {
            let (min, max) = (Size(MAX_SIZE_MIN), Size(MAX_SIZE_MAX));
            let problem = format!("{} is out of bounds", self.max_size);
            return Err(Flaw::new("csv.max_size", problem, format!("give {min} to {max}")));
        }
        span("csv.max_age", self.max_age, AGE_MIN, AGE_MAX)?;
        within("csv.keep", self.keep, 0, KEEP_MAX)
    }

    /// For the consumer.
    pub fn limits(&self) -> Limits {
        Limits { max_size: self.max_size.0, max_age: self.max_age, keep: self.keep }
    }
}

/// Bytes: "64MiB", "10 MB", or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = (text.get(..digits)?, text.get(digits..)?.trim_start());
        let factor = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
        number.parse::<u64>().ok()?.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a size such as \"64MiB\", \"10MB\", or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_and_shown_with_its_unit() {
        for (text, bytes, shown) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("10 MB", 10_000_000, "10MB"),
            ("16384", 16_384, "16KiB"),
            ("1001B", 1_001, "1001B"),
            ("0", 0, "0B"),
        ] {
            let size = Size::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((size.0, size.to_string()), (bytes, shown.to_owned()));
            assert_eq!(Size::parse(shown), Some(size));
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1 mib", "18446744073709551616", "16777216TiB", "5 µB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
