//! Writes metric families from a snapshot when they are scraped: Prometheus' text format 0.0.4, deterministic, in one
//! buffer. What is not in the snapshot has no series, which the recorder of `metrics` cannot do.
//!
//! Families are those of [`Source::Scrape`](crate::catalogue::Source) in a catalogue, so none can collide with a held
//! one in the other half of the text; and a family is written once. What breaks this is left out and counted in
//! [`Expo::refused`], as one wrong family must not cost the whole scrape. [`parse`] reads the format strictly, for
//! tests.

use std::{fmt::Write, time::Duration};

use crate::catalogue::{Metric, Source};

mod read;

pub use read::{Exposition, Family, Malformed, Sample, parse};

/// What `Content-Type` says of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text so far.
#[derive(Debug, Default)]
pub struct Expo {
    text: String,
    written: Vec<&'static str>,
    refused: u64,
}

impl Expo {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family; its samples follow at once.
    pub fn family(&mut self, metric: &'static Metric) -> Samples<'_> {
        let open = metric.source == Source::Scrape && !self.written.contains(&metric.name);
        if open {
            self.written.push(metric.name);
            let _ = write!(self.text, "# HELP {} ", metric.name);
            escape(&mut self.text, metric.help, false);
            let _ = writeln!(self.text, "\n# TYPE {} {}", metric.name, metric.kind);
        } else {
            self.refused += 1;
        }
        Samples { expo: self, metric, open }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn into_text(self) -> String {
        self.text
    }

    /// Families that were left out because they were held or written already, and samples with a wrong number of
    /// labels: bugs, so tests assert 0.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    expo: &'a mut Expo,
    metric: &'static Metric,
    open: bool,
}

impl Samples<'_> {
    /// One series: label values in the order of the metric's labels. Each set of values is given once at most.
    pub fn sample(&mut self, values: &[&str], value: impl Number) -> &mut Self {
        if !self.open {
            return self;
        }
        if values.len() != self.metric.labels.len() {
            self.expo.refused += 1;
            return self;
        }
        let text = &mut self.expo.text;
        text.push_str(self.metric.name);
        for (i, (label, value)) in self.metric.labels.iter().zip(values).enumerate() {
            text.push(if i == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value, true);
            text.push('"');
        }
        text.push_str(if values.is_empty() { " " } else { "} " });
        value.write(text);
        text.push('\n');
        self
    }
}

/// What can be a sample's value.
pub trait Number {
    fn write(self, text: &mut String);
}

impl Number for f64 {
    /// Without an exponent for integers up to 2^53 and whatever else reads well so.
    fn write(self, text: &mut String) {
        const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
        let _ = match self {
            v if v.is_nan() => write!(text, "NaN"),
            v if v.is_infinite() => write!(text, "{}Inf", if v > 0.0 { '+' } else { '-' }),
            v if v == 0.0 || (1e-6..=INTEGER_MAX).contains(&v.abs()) => write!(text, "{v}"),
            v => write!(text, "{v:e}"),
        };
    }
}

impl Number for u64 {
    fn write(self, text: &mut String) {
        let _ = write!(text, "{self}");
    }
}

impl Number for usize {
    fn write(self, text: &mut String) {
        let _ = write!(text, "{self}");
    }
}

impl Number for bool {
    fn write(self, text: &mut String) {
        text.push(if self { '1' } else { '0' });
    }
}

impl Number for Duration {
    /// In seconds.
    fn write(self, text: &mut String) {
        self.as_secs_f64().write(text);
    }
}

/// Backslash and line feed, in a label's value also the double quote.
fn escape(text: &mut String, raw: &str, in_label: bool) {
    for c in raw.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if in_label => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Kind;

    static PEERS: Metric = Metric {
        name: "pams_test_peers",
        kind: Kind::Gauge,
        unit: "",
        labels: &["name", "state"],
        bound: "a test",
        help: "Peers, \"by\"\nname \\ state.",
        buckets: &[],
        source: Source::Scrape,
    };
    static UP: Metric = Metric { name: "pams_test_up_seconds", labels: &[], help: "Since start.", ..PEERS };
    static HELD: Metric = Metric { name: "pams_test_held", source: Source::Held, ..UP };

    #[test]
    fn families_are_written_to_the_letter() {
        let mut expo = Expo::new();
        expo.family(&PEERS).sample(&["a\"b\\c\nd", "live"], 1_u64).sample(&["é", ""], true);
        expo.family(&UP).sample(&[], Duration::from_millis(1500));
        assert_eq!(
            expo.text(),
            "# HELP pams_test_peers Peers, \"by\"\\nname \\\\ state.\n# TYPE pams_test_peers gauge\n\
             pams_test_peers{name=\"a\\\"b\\\\c\\nd\",state=\"live\"} 1\npams_test_peers{name=\"é\",state=\"\"} 1\n\
             # HELP pams_test_up_seconds Since start.\n# TYPE pams_test_up_seconds gauge\npams_test_up_seconds 1.5\n"
        );
        assert_eq!(expo.refused(), 0);
    }

    #[test]
    fn a_second_use_a_held_family_and_wrong_labels_are_left_out_and_counted() {
        let mut expo = Expo::new();
        expo.family(&UP).sample(&[], 1_u64);
        let once = expo.text().to_owned();
        expo.family(&UP).sample(&[], 2_u64);
        expo.family(&HELD).sample(&[], 2_u64);
        assert_eq!((expo.text(), expo.refused()), (once.as_str(), 2));
        expo.family(&PEERS).sample(&["a"], 2_u64);
        assert_eq!(expo.refused(), 3);
        assert!(!expo.into_text().contains("pams_test_peers{"));
    }

    #[test]
    fn numbers_read_as_prometheus_wants_them() {
        for (number, expected) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.0, "0"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e21, "1e21"),
            (-0.25, "-0.25"),
            (0.000_001, "0.000001"),
            (1.5e-9, "1.5e-9"),
        ] {
            let mut text = String::new();
            number.write(&mut text);
            assert_eq!(text, expected);
        }
    }

    /// Pieces of the format, put together wrongly for the most part.
    const PIECES: &str = concat!(
        "((# (HELP|TYPE) |)[ab](_sum|_bucket|)",
        "([{]le=\"[1n\\\\\"é]{0,3}\",?[}]?|)[ ]?(counter|histogram|1|)\n){0,8}.{0,4}",
    );

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_reads_back(name in any::<String>(), value in any::<f64>()) {
            let mut expo = Expo::new();
            expo.family(&PEERS).sample(&[&name, "x"], value);
            let read = parse(expo.text()).unwrap();
            prop_assert_eq!(read.value("pams_test_peers", &[("name", &name), ("state", "x")]), Some(value));
            prop_assert_eq!(&read.families["pams_test_peers"].help, PEERS.help);
        }

        #[test]
        fn nothing_that_is_read_panics(text in PIECES) {
            let _ = parse(&text);
        }
    }
}
