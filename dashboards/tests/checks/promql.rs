//! Reads PromQL, as much of it as our queries use, and holds it against the catalogues: each metric is there, has the
//! labels that are asked for, and is used as its kind allows. Stricter than Prometheus, which answers a misspelt name with
//! silence. What it does not read is no query of ours.

use std::collections::{BTreeMap, BTreeSet};

use pams_dashboards::{
    prometheus::{PEER_ID, PEER_NAME},
    query::UP,
};
use pams_shared::catalogue::{Kind, Metric};

pub type Labels = BTreeSet<String>;

/// Recorded series, and their labels.
pub type Recorded = BTreeMap<&'static str, Labels>;

/// What a query asks for.
#[derive(Debug, Default)]
pub struct Checked {
    /// Of its answer.
    pub labels: Labels,
    pub selectors: Vec<Selector>,
}

#[derive(Debug)]
pub struct Selector {
    pub name: String,
    /// As written, such as `job=~"$job"`.
    pub matchers: Vec<String>,
    pub window: Option<String>,
    /// A counter whose value itself is asked for.
    pub raw_counter: bool,
    pub recorded: bool,
}

/// The metric of a series' name, and which of a histogram's series it is.
pub fn metric_of(name: &str) -> Option<(&'static Metric, &str)> {
    let catalogues = [pams_agent::metrics::CATALOGUE, pams_server::metrics::CATALOGUE];
    let mut all = catalogues.into_iter().flatten().chain([&UP]);
    all.find_map(|m| {
        name.strip_prefix(m.name).filter(|s| ["", "_bucket", "_sum", "_count"].contains(s)).map(|s| (m, s))
    })
}

/// Checks a query; `Err` says what is wrong with it.
pub fn check(query: &str, recorded: &Recorded) -> Result<Checked, String> {
    let mut reader = Reader { tokens: tokens(query)?, at: 0, recorded, selectors: Vec::new() };
    let value = reader.binary(0).map_err(|e| format!("{e}, in {query}"))?;
    if reader.at < reader.tokens.len() {
        return Err(format!("{:?} is too much, in {query}", reader.tokens[reader.at]));
    }
    match value {
        Value::Vector(labels) => Ok(Checked { labels, selectors: reader.selectors }),
        _ => Err(format!("no vector: {query}")),
    }
}

fn tokens(query: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || "_:.$".contains(c);
        let end = if first == '"' {
            rest[1..].find('"').ok_or("a text without end")? + 2
        } else if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else {
            let two = ["=~", "!=", "!~", "==", ">=", "<="].iter().any(|o| rest.starts_with(o));
            if two { 2 } else { first.len_utf8() }
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

#[derive(Debug)]
enum Value {
    Scalar,
    Vector(Labels),
    /// Of counters, or not.
    Range(Labels, bool),
}

struct Reader<'a> {
    tokens: Vec<String>,
    at: usize,
    recorded: &'a Recorded,
    selectors: Vec<Selector>,
}

const LEVELS: [&[&str]; 5] =
    [&["or"], &["and", "unless"], &["==", "!=", ">", "<", ">=", "<="], &["+", "-"], &["*", "/"]];

impl Reader<'_> {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned().unwrap_or_default()
    }

    fn take(&mut self, token: &str) -> bool {
        let is = self.peek() == token;
        self.at += usize::from(is);
        is
    }

    fn want(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("{:?} where {token:?} belongs", self.peek())) }
    }

    fn binary(&mut self, level: usize) -> Result<Value, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while operators.contains(&self.peek()) {
            let operator = self.next();
            self.take("bool");
            let on = if self.take("on") { Some(self.names()?) } else { None };
            let right = self.binary(level + 1)?;
            left = joined(&operator, on, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Value, String> {
        if self.take("(") {
            let value = self.binary(0)?;
            self.want(")")?;
            return Ok(value);
        }
        let word = self.next();
        if word.parse::<f64>().is_ok() {
            return Ok(Value::Scalar);
        }
        match word.as_str() {
            "time" => self.want("(").and_then(|()| self.want(")")).map(|()| Value::Scalar),
            "sum" | "max" | "min" | "avg" | "count" | "group" => self.aggregate(),
            _ if self.peek() == "(" => self.call(&word),
            _ => self.selector(word),
        }
    }

    fn aggregate(&mut self) -> Result<Value, String> {
        let by = if self.take("by") { self.names()? } else { Labels::new() };
        self.want("(")?;
        let inner = vector(self.binary(0)?)?;
        self.want(")")?;
        let unknown: Vec<_> = by.difference(&inner).collect();
        if unknown.is_empty() { Ok(Value::Vector(by)) } else { Err(format!("by {unknown:?}, of {inner:?}")) }
    }

    fn call(&mut self, function: &str) -> Result<Value, String> {
        self.want("(")?;
        let mut arguments = Vec::new();
        let mut texts = Vec::new();
        while !self.take(")") {
            if self.peek().starts_with('"') {
                texts.push(self.next().trim_matches('"').to_owned());
            } else {
                arguments.push(self.binary(0)?);
            }
            self.take(",");
        }
        let mut arguments = arguments.into_iter();
        let mut argument = || arguments.next().ok_or(format!("{function} of nothing"));
        match function {
            "rate" | "increase" => match argument()? {
                Value::Range(labels, true) => Ok(Value::Vector(labels)),
                other => Err(format!("{function} of {other:?}, which is no range of a counter")),
            },
            "last_over_time" | "avg_over_time" => match argument()? {
                Value::Range(labels, false) => Ok(Value::Vector(labels)),
                other => Err(format!("{function} of {other:?}, which is no range of a gauge")),
            },
            "histogram_quantile" => {
                argument()?;
                let mut labels = vector(argument()?)?;
                if labels.remove("le") { Ok(Value::Vector(labels)) } else { Err("a quantile without le".into()) }
            }
            // The labels that all missing series would have.
            "absent" => {
                vector(argument()?)?;
                let asked = self.selectors.last().into_iter().flat_map(|s| &s.matchers);
                let sure = asked.filter_map(|m| m.split_once("=\"").map(|(label, _)| label.to_owned()));
                Ok(Value::Vector(sure.collect()))
            }
            "topk" => argument().and_then(|_| vector(argument()?)).map(Value::Vector),
            "abs" | "clamp_min" => vector(argument()?).map(Value::Vector),
            "label_replace" => {
                let mut labels = vector(argument()?)?;
                if !labels.contains(&texts[2]) {
                    return Err(format!("no label {} to take from", texts[2]));
                }
                labels.insert(texts[0].clone());
                Ok(Value::Vector(labels))
            }
            _ => Err(format!("{function} is not known here")),
        }
    }

    fn names(&mut self) -> Result<Labels, String> {
        self.want("(")?;
        let mut names = Labels::new();
        while !self.take(")") {
            names.insert(self.next());
            self.take(",");
        }
        Ok(names)
    }

    fn selector(&mut self, name: String) -> Result<Value, String> {
        let recorded = self.recorded.get(name.as_str());
        let (labels, counter) = match recorded {
            Some(labels) => (labels.clone(), false),
            None => series(&name)?,
        };
        let mut matchers = Vec::new();
        if self.take("{") {
            while !self.take("}") {
                let (label, operator, value) = (self.next(), self.next(), self.next());
                if !labels.contains(&label) {
                    return Err(format!("{name} has no label {label}, but {labels:?}"));
                }
                matchers.push(format!("{label}{operator}{value}"));
                self.take(",");
            }
        }
        let window = if self.take("[") { Some(self.next()) } else { None };
        if window.is_some() {
            self.want("]")?;
            if self.take("offset") {
                self.next();
            }
        }
        let raw_counter = counter && window.is_none();
        let ranged = window.is_some();
        self.selectors.push(Selector { name, matchers, window, raw_counter, recorded: recorded.is_some() });
        Ok(if ranged { Value::Range(labels, counter) } else { Value::Vector(labels) })
    }
}

/// The labels of a series, those of its target included, and whether it only grows.
fn series(name: &str) -> Result<(Labels, bool), String> {
    let (metric, suffix) = metric_of(name).ok_or(format!("{name} is in no catalogue"))?;
    if (metric.kind == Kind::Histogram) == suffix.is_empty() {
        return Err(format!("{name}: {} is a {}", metric.name, metric.kind));
    }
    let of_target = ["job", "instance", PEER_ID, PEER_NAME];
    // A server's series have no peer of their own.
    let count = if metric.name.starts_with("pams_server_") { 2 } else { 4 };
    let bucket = (suffix == "_bucket").then_some("le");
    let labels = metric.labels.iter().copied().chain(of_target[..count].iter().copied()).chain(bucket);
    Ok((labels.map(str::to_owned).collect(), metric.kind != Kind::Gauge))
}

fn vector(value: Value) -> Result<Labels, String> {
    match value {
        Value::Vector(labels) => Ok(labels),
        other => Err(format!("{other:?} is no vector")),
    }
}

/// Of two by an operator. Two vectors must have the same labels, or say on which they meet; else Prometheus finds no pair
/// and answers nothing.
fn joined(operator: &str, on: Option<Labels>, left: Value, right: Value) -> Result<Value, String> {
    match (left, right) {
        (Value::Scalar, Value::Scalar) => Ok(Value::Scalar),
        (Value::Vector(labels), Value::Scalar) | (Value::Scalar, Value::Vector(labels)) => Ok(Value::Vector(labels)),
        (Value::Vector(left), Value::Vector(right)) => match on {
            Some(on) if !on.is_subset(&left) || !on.is_subset(&right) => Err(format!("on {on:?}: {left:?}, {right:?}")),
            None if left != right && operator != "or" => Err(format!("{left:?} {operator} {right:?}")),
            _ => Ok(Value::Vector(if operator == "or" { &left | &right } else { left })),
        },
        (left, right) => Err(format!("{left:?} {operator} {right:?}")),
    }
}

#[test]
fn mistakes_are_found() {
    let none = Recorded::new();
    for (query, wrong) in [
        ("pams_agent_transaction_opened_total", "in no catalogue"),
        ("sum(pams_agent_stage_seconds)", "is a histogram"),
        ("rate(pams_agent_buddies[5m])", "no range of a counter"),
        ("sum(rate(pams_agent_transactions_opened_total{status=\"good\"}[5m]))", "no label status"),
        ("sum by (reason) (rate(pams_agent_transactions_opened_total[5m]))", "by [\"reason\"]"),
        ("histogram_quantile(0.9, sum by (stage) (rate(pams_agent_stage_seconds_bucket[5m])))", "without le"),
        ("pams_agent_buddies_bucket", "is a gauge"),
        ("pams_agent_buddies / pams_agent_connections", "/"),
        ("sum(pams_agent_buddies", "belongs"),
        ("pams_agent_buddies pams_agent_buddies", "too much"),
        ("pams_server_peers{peer_name=\"alpha\"}", "no label peer_name"),
    ] {
        let found = check(query, &none).unwrap_err();
        assert!(found.contains(wrong), "{query}: {found}");
    }
    let fine =
        check("topk(3, sum by (kind) (rate(pams_agent_late_seconds_count{kind=\"a\"}[1m])) > 0)", &none).unwrap();
    assert_eq!(fine.labels, Labels::from(["kind".to_owned()]));
}
