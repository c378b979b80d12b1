//! Reads Prometheus' text format 0.0.4, more strictly than Prometheus does, for tests and the demo: what passes here
//! passes there. It knows counter, gauge, histogram and summary.

use std::collections::{BTreeMap, BTreeSet};

/// A whole scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// By name, without the `_bucket`, `_sum`, `_count` of a histogram.
    pub families: BTreeMap<String, Family>,
    /// In the order of the text.
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` or `summary`.
    pub kind: String,
    pub help: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub family: String,
    /// The family's name, or with `_bucket`, `_sum` or `_count`.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Where and why a text is not the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    pub problem: String,
}

impl Exposition {
    /// The value of the series with exactly these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let same = |s: &&Sample| s.labels.len() == labels.len() && s.has(labels);
        self.samples.iter().filter(|s| s.name == name).find(same).map(|s| s.value)
    }

    /// The sum over all series with these labels among theirs; `None` if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.samples.iter().filter(|s| s.name == name && s.has(labels)).map(|s| s.value).peekable();
        found.peek().is_some().then(|| found.sum())
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|v| v == value))
    }
}

/// Reads `text`. Refused, beside bad syntax: a family without help or type or in two pieces, a series twice, a
/// counter or bucket that is negative or NaN, buckets that fall or lack `+Inf` or differ from the count, a time
/// stamp, a last line without its end.
pub fn parse(text: &str) -> Result<Exposition, Malformed> {
    let mut reader = Reader::default();
    let mut line = 0;
    let wrong = |line, problem| Malformed { line, problem };
    for raw in text.lines() {
        line += 1;
        match raw.strip_prefix('#') {
            _ if raw.is_empty() => Ok(()),
            Some(comment) => reader.comment(comment),
            None => reader.sample(raw),
        }
        .map_err(|problem| wrong(line, problem))?;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(wrong(line, "the last line has no line feed".to_owned()));
    }
    histograms(&reader.found).map_err(|problem| wrong(line, problem))?;
    if let Some((name, _)) = reader.found.families.iter().find(|(_, f)| f.kind.is_empty() || f.help.is_empty()) {
        return Err(wrong(line, format!("{name} has no type or no help")));
    }
    Ok(reader.found)
}

#[derive(Default)]
struct Reader {
    found: Exposition,
    current: String,
    series: BTreeSet<(String, BTreeMap<String, String>)>,
}

impl Reader {
    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut parts = comment.splitn(4, ' ').skip(1);
        let (word, name, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match word {
            Some("HELP") => {
                self.open(name)?;
                let help = unescape(rest, false)?;
                let family = self.found.families.entry(name.to_owned()).or_default();
                if !family.help.is_empty() {
                    return Err(format!("{name} has two helps"));
                }
                family.help = help;
                Ok(())
            }
            Some("TYPE") => {
                self.open(name)?;
                if !["counter", "gauge", "histogram", "summary"].contains(&rest) {
                    return Err(format!("{name} has the unknown type `{rest}`"));
                }
                let family = self.found.families.entry(name.to_owned()).or_default();
                if !family.kind.is_empty() || self.found.samples.iter().any(|s| s.family == name) {
                    return Err(format!("the type of {name} comes twice or after its samples"));
                }
                family.kind = rest.to_owned();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `name` becomes the current family, which it can only once.
    fn open(&mut self, name: &str) -> Result<(), String> {
        if !is_name(name, true) {
            return Err(format!("`{name}` is no name of a metric"));
        }
        if self.current != name {
            if self.found.families.contains_key(name) {
                return Err(format!("{name} is in two pieces"));
            }
            self.current = name.to_owned();
        }
        Ok(())
    }

    fn sample(&mut self, raw: &str) -> Result<(), String> {
        let end = raw.find(['{', ' ']).ok_or("a sample without a value")?;
        let (name, rest) = raw.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (BTreeMap::new(), rest),
        };
        let value = number(rest.strip_prefix(' ').ok_or("no space before the value")?)?;
        let family = self.family_of(name)?;
        let kind = self.found.families[&family].kind.as_str();
        let cumulative = kind == "counter" || name.ends_with("_bucket") || name.ends_with("_count");
        if cumulative && kind != "gauge" && (value.is_nan() || value < 0.0) {
            return Err(format!("{name} counts and is {value}"));
        }
        if !self.series.insert((name.to_owned(), labels.clone())) {
            return Err(format!("{name}{labels:?} comes twice"));
        }
        self.found.samples.push(Sample { family, name: name.to_owned(), labels, value });
        Ok(())
    }

    /// The current family, if `name` is one of its series.
    fn family_of(&self, name: &str) -> Result<String, String> {
        let family = self.found.families.get(&self.current).filter(|f| !f.help.is_empty() && !f.kind.is_empty());
        let suffixes: &[&str] = match family.map(|f| f.kind.as_str()) {
            None => return Err(format!("{name} stands under no family with help and type")),
            Some("histogram") => &["_bucket", "_sum", "_count"],
            Some("summary") => &["", "_sum", "_count"],
            Some(_) => &[""],
        };
        match name.strip_prefix(self.current.as_str()) {
            Some(rest) if suffixes.contains(&rest) => Ok(self.current.clone()),
            _ => Err(format!("{name} is no series of {}", self.current)),
        }
    }
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").ok_or("labels that do not end")?;
        if !is_name(name, false) {
            return Err(format!("`{name}` is no name of a label"));
        }
        let mut escaped = false;
        let end = after.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let (raw, after) = after.split_at(end.ok_or("a label's value that does not end")?);
        if labels.insert(name.to_owned(), unescape(raw, true)?).is_some() {
            return Err(format!("label {name} comes twice"));
        }
        rest = &after[1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.starts_with('}') => {}
            None => return Err("no comma between labels".to_owned()),
        }
    }
}

fn unescape(raw: &str, in_label: bool) -> Result<String, String> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if in_label => '"',
                other => return Err(format!("unknown escape {other:?}")),
            },
            c => c,
        });
    }
    Ok(text)
}

/// As Go reads it; `f64::from_str` knows the same words in any case.
fn number(raw: &str) -> Result<f64, String> {
    raw.parse().map_err(|_| format!("`{raw}` is no number (time stamps are not for us)"))
}

fn is_name(name: &str, colons: bool) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    name.starts_with(starts) && name.chars().all(|c| starts(c) || c.is_ascii_digit())
}

/// A histogram's name and labels but for `le`.
type Series<'a> = (&'a str, BTreeMap<&'a str, &'a str>);

fn histograms(found: &Exposition) -> Result<(), String> {
    let of = |sample: &&Sample| found.families[&sample.family].kind == "histogram";
    let mut series: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in found.samples.iter().filter(of) {
        let others = sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| *k != "le").collect();
        let buckets = series.entry((&sample.family, others)).or_default();
        if sample.name.ends_with("_bucket") {
            let le = sample.labels.get("le").ok_or_else(|| format!("{} without le", sample.name))?;
            buckets.push((number(le)?, sample.value));
        }
    }
    for ((family, labels), buckets) in series {
        let labels: Vec<_> = labels.into_iter().collect();
        let count = found.value(&format!("{family}_count"), &labels);
        let rise = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let last = buckets.last().copied();
        if !rise || count.is_none() || last != count.map(|count| (f64::INFINITY, count)) {
            return Err(format!("the buckets of {family}{labels:?} do not rise to +Inf with the count"));
        }
        if found.value(&format!("{family}_sum"), &labels).is_none() {
            return Err(format!("{family}{labels:?} has no sum"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# HELP a A.\n# TYPE a counter\n";

    #[test]
    fn values_are_found_by_name_and_labels() {
        let read = parse(&format!("{HEAD}a{{x=\"1\",y=\"2\"}} 3\na{{x=\"1\",y=\"3\",}} 4e0\n\n# a comment\n")).unwrap();
        assert_eq!(read.value("a", &[("x", "1"), ("y", "2")]), Some(3.0));
        assert_eq!(
            (read.value("a", &[("x", "1")]), read.sum("a", &[("x", "1")]), read.sum("b", &[])),
            (None, Some(7.0), None)
        );
        assert_eq!(parse(""), Ok(Exposition::default()));
    }

    #[test]
    fn each_malformed_text_is_refused() {
        let histogram = |body: &str| format!("# HELP h H.\n# TYPE h histogram\n{body}");
        for (text, expected) in [
            ("a 1\n".to_owned(), "line 1: a stands under no family"),
            (format!("{HEAD}a 1"), "line 3: the last line"),
            (format!("{HEAD}a\n"), "without a value"),
            (format!("{HEAD}a one\n"), "no number"),
            (format!("{HEAD}a 1 1700000000\n"), "no number"),
            (format!("{HEAD}a -1\n"), "counts"),
            (format!("{HEAD}a NaN\n"), "counts"),
            (format!("{HEAD}a 1\na 1\n"), "comes twice"),
            (format!("{HEAD}a{{x=\"1\",x=\"2\"}} 1\n"), "label x comes twice"),
            (format!("{HEAD}a{{x=\"\\q\"}} 1\n"), "escape"),
            (format!("{HEAD}a{{x=\"1\" 1\n"), "comma"),
            (format!("{HEAD}a{{x=\"1\n"), "does not end"),
            (format!("{HEAD}a{{1=\"1\"}} 1\n"), "no name of a label"),
            (format!("{HEAD}b 1\n"), "no series of a"),
            (format!("{HEAD}# HELP b B.\n# TYPE b gauge\n# HELP a A.\n"), "two pieces"),
            (format!("{HEAD}# TYPE a gauge\n"), "comes twice"),
            ("# HELP a A.\n".to_owned(), "no type"),
            ("# TYPE a gauge\n".to_owned(), "no help"),
            ("# HELP a A.\n# TYPE a dial\n".to_owned(), "unknown type"),
            (histogram("h_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n"), "+Inf"),
            (histogram("h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"), "rise"),
            (histogram("h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n"), "with the count"),
            (histogram("h_bucket{le=\"+Inf\"} 1\nh_count 1\n"), "no sum"),
            (histogram("h_bucket 1\nh_sum 1\nh_count 1\n"), "without le"),
        ] {
            let told = parse(&text).unwrap_err().to_string();
            assert!(told.contains(expected), "{text}\n  told: {told}");
        }
    }
}
