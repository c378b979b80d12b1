//! The one list of a binary's metrics: what each is called, means, and how many series it can have. From it come the
//! recorder's buckets and help texts, handles, `--list-metrics`, the README's table and the tests of what is scraped.
//!
//! Two sources feed a scrape. [`Source::Held`] metrics have a handle made once, for label sets that are fixed: about
//! 15 ns per count and 70 ns per observation. [`Source::Scrape`] families are written by [`expo`](crate::expo) from a
//! snapshot, so that the series of what is gone are gone. A metric has one source, so the two texts can be joined.
//!
//! A recorder belongs to its instance; none is ever made the process's global one. The exporter changes no name: what
//! the catalogue says is what is scraped (no suffix is added, as `with_recommended_naming` is off). Observations pile
//! up until `PrometheusHandle::run_upkeep` or a scrape: call it every few seconds.

pub mod define;

use std::fmt::{self, Write};

use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::expo::Exposition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A handle, counted as things happen.
    Held,
    /// Written from a snapshot when scraped.
    Scrape,
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As scraped, prefix, unit and `_total` included.
    pub name: &'static str,
    pub kind: Kind,
    /// `seconds`, `bytes`, `ratio`; empty for a plain number.
    pub unit: &'static str,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// Why the number of series is bounded, such as "7 kinds x 4 statuses".
    pub bound: &'static str,
    /// One or more sentences.
    pub help: &'static str,
    /// Upper bounds of a histogram, rising, without +Inf; empty for the other kinds.
    pub buckets: &'static [f64],
    pub source: Source,
}

/// An instance's recorder, with help and buckets of the held metrics. Fails on a histogram without buckets, which
/// would come out as a summary.
pub fn recorder(catalogue: &[Metric]) -> Result<PrometheusRecorder, BuildError> {
    let held = || catalogue.iter().filter(|m| m.source == Source::Held);
    let mut builder = PrometheusBuilder::new();
    for metric in held().filter(|m| m.kind == Kind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)?;
    }
    let recorder = builder.build_recorder();
    for metric in held() {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }
    Ok(recorder)
}

/// The series of `metric` with these label values, in the order of its labels; it shows 0 from now on.
pub fn counter(recorder: &PrometheusRecorder, metric: &'static Metric, values: &[&str]) -> Counter {
    recorder.register_counter(&key(metric, Kind::Counter, values), &METADATA)
}

/// See [`counter()`].
pub fn gauge(recorder: &PrometheusRecorder, metric: &'static Metric, values: &[&str]) -> Gauge {
    recorder.register_gauge(&key(metric, Kind::Gauge, values), &METADATA)
}

/// See [`counter()`].
pub fn histogram(recorder: &PrometheusRecorder, metric: &'static Metric, values: &[&str]) -> Histogram {
    recorder.register_histogram(&key(metric, Kind::Histogram, values), &METADATA)
}

const METADATA: Metadata<'static> = Metadata::new("pams", metrics::Level::INFO, None);

fn key(metric: &'static Metric, kind: Kind, values: &[&str]) -> Key {
    debug_assert_eq!((metric.kind, metric.source), (kind, Source::Held), "{}", metric.name);
    debug_assert_eq!(metric.labels.len(), values.len(), "{}: one value for each of {:?}", metric.name, metric.labels);
    let labels = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.to_string()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// For `--list-metrics`: a line for each family, then what it means and its bound.
pub fn print(catalogue: &[Metric]) -> String {
    let width = catalogue.iter().map(|m| m.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Metric { name, kind, labels, bound, help, buckets, .. } in catalogue {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(", ")) };
        let line = format!("{name:width$}  {kind:9}  {labels}");
        let _ = writeln!(text, "{}\n    {help}\n    series: {bound}", line.trim_end());
        if !buckets.is_empty() {
            let _ = writeln!(text, "    buckets: {}", buckets.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        }
    }
    text
}

/// The same as a Markdown table, for the README.
pub fn markdown(catalogue: &[Metric]) -> String {
    let mut text = String::from("| Metric | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n");
    for Metric { name, kind, labels, help, .. } in catalogue {
        let labels = labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", help.replace('|', "\\|").replace('\n', " "));
    }
    text
}

/// What in the catalogue is against the conventions of Prometheus or of this project, for a test of each binary;
/// `prefix` is such as `pams_agent_`.
pub fn lint(catalogue: &[Metric], prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, m) in catalogue.iter().enumerate() {
        let mut wrong = |what: &str| found.push(format!("{}: {what}", m.name));
        let total = m.name.ends_with("_total");
        let stem = m.name.strip_suffix("_total").unwrap_or(m.name);
        let histogram = m.kind == Kind::Histogram;
        let rules = [
            (catalogue[..i].iter().any(|other| other.name == m.name), "the name is used twice"),
            (!m.name.starts_with(prefix), "the name lacks the prefix"),
            (!is_snake(m.name), "the name is not snake case"),
            (total != (m.kind == Kind::Counter), "counters, and only they, end in _total"),
            (!["", "seconds", "bytes", "ratio", "info"].contains(&m.unit), "the unit is no base unit"),
            (!m.unit.is_empty() && !stem.ends_with(&format!("_{}", m.unit)), "the name does not end in the unit"),
            (
                m.unit.is_empty() && UNITS.iter().any(|u| stem.ends_with(u)),
                "the name has a unit that is not told or no base unit",
            ),
            (
                ["_bucket", "_sum", "_count"].iter().any(|end| stem.ends_with(end)),
                "the name ends as a histogram's series do",
            ),
            (m.help.trim().is_empty() || !m.help.ends_with('.'), "the help is no sentence with a period"),
            (m.bound.trim().is_empty(), "nothing says why the series are bounded"),
            (!m.labels.iter().all(|l| is_snake(l)), "a label is not snake case"),
            (m.labels.iter().any(|l| RESERVED.contains(l) || l.starts_with("__")), "a label is reserved"),
            (m.labels.iter().enumerate().any(|(i, l)| m.labels[..i].contains(l)), "a label is used twice"),
            (histogram == m.buckets.is_empty(), "histograms, and only they, have buckets"),
            (!m.buckets.is_sorted_by(|a, b| a < b), "the buckets do not rise"),
            (m.buckets.iter().any(|b| !b.is_finite()), "a bucket is not finite"),
            (histogram && m.source == Source::Scrape, "a histogram must be held"),
        ];
        rules.iter().filter(|(broken, _)| *broken).for_each(|(_, what)| wrong(what));
    }
    found
}

/// What was scraped against the catalogue, for tests: each family that it lacks or tells otherwise, each label set
/// that is not its own, and each family that is missing in the scrape.
pub fn compare(catalogue: &[Metric], scraped: &Exposition) -> Vec<String> {
    let mut found = Vec::new();
    for (name, family) in &scraped.families {
        match catalogue.iter().find(|m| m.name == name) {
            None => found.push(format!("{name}: not in the catalogue")),
            Some(m) if family.kind != m.kind.to_string() => {
                found.push(format!("{name}: a {}, not a {}", family.kind, m.kind));
            }
            Some(m) if family.help != m.help => found.push(format!("{name}: another help, {:?}", family.help)),
            Some(_) => {}
        }
    }
    for sample in &scraped.samples {
        let Some(m) = catalogue.iter().find(|m| m.name == sample.family) else { continue };
        let mut labels: Vec<&str> = sample.labels.keys().map(String::as_str).filter(|l| *l != "le").collect();
        let mut own = m.labels.to_vec();
        labels.sort_unstable();
        own.sort_unstable();
        if labels != own {
            found.push(format!("{}: labels {labels:?}, not {own:?}", m.name));
        }
    }
    let missing = catalogue.iter().filter(|m| !scraped.families.contains_key(m.name));
    found.extend(missing.map(|m| format!("{}: not scraped", m.name)));
    found
}

/// Endings that name a unit, base or not.
const UNITS: [&str; 12] = [
    "_seconds",
    "_bytes",
    "_ratio",
    "_info",
    "_ms",
    "_milliseconds",
    "_us",
    "_microseconds",
    "_ns",
    "_nanoseconds",
    "_percent",
    "_minutes",
];

/// Labels that Prometheus sets itself.
const RESERVED: [&str; 4] = ["le", "quantile", "job", "instance"];

fn is_snake(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('_')
        && !name.contains("__")
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expo::{Expo, parse};

    const PLAIN: Metric = Metric {
        name: "pams_test_pings_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["kind", "status"],
        bound: "2 kinds x 4 statuses",
        help: "Pings, by \"kind\".",
        buckets: &[],
        source: Source::Held,
    };
    static CATALOGUE: [Metric; 4] = [
        PLAIN,
        Metric { name: "pams_test_open", kind: Kind::Gauge, labels: &[], ..PLAIN },
        Metric {
            name: "pams_test_stage_seconds",
            kind: Kind::Histogram,
            unit: "seconds",
            labels: &["stage"],
            buckets: &[0.001, 0.1],
            ..PLAIN
        },
        Metric { name: "pams_test_peers", kind: Kind::Gauge, labels: &["peer"], source: Source::Scrape, ..PLAIN },
    ];

    #[test]
    fn names_help_and_buckets_come_out_as_the_catalogue_says() {
        let recorder = recorder(&CATALOGUE).unwrap();
        let pings = counter(&recorder, &CATALOGUE[0], &["ping", "good"]);
        let _at_zero = counter(&recorder, &CATALOGUE[0], &["ping", "failed"]);
        let open = gauge(&recorder, &CATALOGUE[1], &[]);
        let stage = histogram(&recorder, &CATALOGUE[2], &["network"]);
        pings.increment(3);
        open.set(2.0);
        stage.record(0.05);
        stage.record(7.0);
        recorder.handle().run_upkeep();

        let mut text = recorder.handle().render();
        let mut expo = Expo::new();
        expo.family(&CATALOGUE[3]).sample(&["a"], 1_u64);
        text.push_str(expo.text());
        let scraped = parse(&text).unwrap();
        assert_eq!(compare(&CATALOGUE, &scraped), Vec::<String>::new());
        for (name, labels, value) in [
            ("pams_test_pings_total", &[("kind", "ping"), ("status", "good")][..], 3.0),
            ("pams_test_pings_total", &[("kind", "ping"), ("status", "failed")], 0.0),
            ("pams_test_open", &[], 2.0),
            ("pams_test_stage_seconds_bucket", &[("stage", "network"), ("le", "0.001")], 0.0),
            ("pams_test_stage_seconds_bucket", &[("stage", "network"), ("le", "0.1")], 1.0),
            ("pams_test_stage_seconds_bucket", &[("stage", "network"), ("le", "+Inf")], 2.0),
            ("pams_test_stage_seconds_count", &[("stage", "network")], 2.0),
        ] {
            assert_eq!(scraped.value(name, labels), Some(value), "{name} {labels:?}\n{text}");
        }
    }

    #[test]
    fn what_is_scraped_beside_the_catalogue_is_found() {
        let scraped = parse(
            "# HELP x X.\n# TYPE x gauge\nx 1\n# HELP pams_test_open Other.\n# TYPE pams_test_open gauge\n\
                             pams_test_open{a=\"b\"} 1\n",
        )
        .unwrap();
        let found = compare(&CATALOGUE[..2], &scraped);
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn a_clean_catalogue_has_no_findings_and_prints() {
        assert_eq!(lint(&CATALOGUE, "pams_test_"), Vec::<String>::new());
        assert_eq!(
            print(&CATALOGUE[2..3]),
            "pams_test_stage_seconds  histogram  {stage}\n    Pings, by \"kind\".\n    series: 2 kinds x 4 statuses\n    \
             buckets: 0.001 0.1\n"
        );
        assert!(
            markdown(&CATALOGUE[..1])
                .ends_with("| `pams_test_pings_total` | counter | `kind`, `status` | Pings, by \"kind\". |\n")
        );
    }

    #[test]
    fn each_breach_of_the_conventions_is_found() {
        for (metric, expected) in [
            (Metric { name: "pams_pings_total", ..PLAIN }, "prefix"),
            (Metric { name: "pams_test_Pings_total", ..PLAIN }, "snake"),
            (Metric { name: "pams_test_pings", ..PLAIN }, "_total"),
            (Metric { kind: Kind::Gauge, ..PLAIN }, "_total"),
            (Metric { unit: "ms", name: "pams_test_wait_ms_total", ..PLAIN }, "base unit"),
            (Metric { name: "pams_test_wait_ms_total", ..PLAIN }, "unit"),
            (Metric { unit: "seconds", ..PLAIN }, "end in the unit"),
            (Metric { kind: Kind::Gauge, name: "pams_test_peers_count", ..PLAIN }, "histogram's series"),
            (Metric { help: "Pings", ..PLAIN }, "period"),
            (Metric { bound: " ", ..PLAIN }, "bounded"),
            (Metric { labels: &["Kind"], ..PLAIN }, "label is not snake"),
            (Metric { labels: &["job"], ..PLAIN }, "reserved"),
            (Metric { labels: &["a", "a"], ..PLAIN }, "label is used twice"),
            (Metric { buckets: &[1.0], ..PLAIN }, "have buckets"),
            (Metric { kind: Kind::Histogram, name: "pams_test_a", buckets: &[2.0, 1.0], ..PLAIN }, "rise"),
            (Metric { kind: Kind::Histogram, name: "pams_test_a", buckets: &[f64::INFINITY], ..PLAIN }, "finite"),
            (
                Metric { kind: Kind::Histogram, name: "pams_test_a", buckets: &[1.0], source: Source::Scrape, ..PLAIN },
                "must be held",
            ),
        ] {
            let found = lint(&[metric], "pams_test_");
            assert!(found.iter().any(|f| f.contains(expected)), "{metric:?}: {found:?}");
        }
        assert_eq!(lint(&[PLAIN, PLAIN], "pams_test_").len(), 1);
    }

    #[test]
    fn a_held_histogram_without_buckets_is_refused() {
        assert!(recorder(&[Metric { kind: Kind::Histogram, ..PLAIN }]).is_err());
    }
}
