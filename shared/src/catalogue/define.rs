//! Words in which a binary's catalogue is written; [`catalogue!`](crate::catalogue!) makes a static of each row and the list
//! of all.

use super::{Kind, Metric, Source};

/// Upper bounds in seconds, from a host's own loopback to a path that is as good as dead: about three per decade.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The bound of a family without labels.
pub const ONE: &str = "1";

const fn scraped(kind: Kind, name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, unit, labels: &[], bound: ONE, help, buckets: &[], source: Source::Scrape }
}

/// With labels, and why the number of their series is bounded.
pub const fn by(labels: &'static [&'static str], bound: &'static str, metric: Metric) -> Metric {
    Metric { labels, bound, ..metric }
}

/// Counted as things happen: see [`Source::Held`].
pub const fn held(metric: Metric) -> Metric {
    Metric { source: Source::Held, ..metric }
}

/// Of seconds, held.
pub const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { buckets: SECONDS, ..held(scraped(Kind::Histogram, name, "seconds", help)) }
}

/// Written when scraped, as the rest is.
pub const fn counter(name: &'static str, help: &'static str) -> Metric {
    scraped(Kind::Counter, name, "", help)
}

pub const fn gauge(name: &'static str, help: &'static str) -> Metric {
    scraped(Kind::Gauge, name, "", help)
}

/// A gauge of seconds.
pub const fn seconds(name: &'static str, help: &'static str) -> Metric {
    scraped(Kind::Gauge, name, "seconds", help)
}

/// Declares a catalogue: `NAME = metric;` by row, as a public static, so that dashboards and rules name metrics in a way that
/// the compiler checks; `CATALOGUE` lists all.
#[macro_export]
macro_rules! catalogue {
    ($($name:ident = $metric:expr;)*) => {
        $(pub static $name: $crate::catalogue::Metric = $metric;)*
        /// All metrics of this program.
        pub static CATALOGUE: &[$crate::catalogue::Metric] = &[$($metric),*];
    };
}
