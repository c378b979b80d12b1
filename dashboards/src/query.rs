//! PromQL, put together from the constants of the catalogues: a metric that is renamed renames its queries, one that is
//! removed breaks the build. What the compiler does not see, such as labels and suffixes, the tests of this crate hold
//! against the catalogues.

use std::fmt::{self, Display};

use pams_shared::catalogue::{Kind, Metric};

/// Grafana's range for rates: at least four scrapes, and no gap between two points of a panel.
pub const RATE: &str = "$__rate_interval";
/// The whole time that is shown.
pub const SHOWN: &str = "$__range";

/// Prometheus' own: 1 while a target can be scraped, else 0.
pub static UP: Metric = Metric {
    name: "up",
    kind: Kind::Gauge,
    unit: "",
    labels: &[],
    bound: "targets",
    help: "1 while Prometheus can scrape the target, else 0.",
    buckets: &[],
    source: pams_shared::catalogue::Source::Scrape,
};

/// Series of one metric.
#[derive(Clone, Debug)]
pub struct Select {
    metric: &'static Metric,
    suffix: &'static str,
    matchers: Vec<String>,
}

/// All series of a metric, for rules.
pub fn of(metric: &'static Metric) -> Select {
    Select { metric, suffix: "", matchers: Vec::new() }
}

/// Those of the job and the instances that are chosen on a dashboard.
pub fn chosen(metric: &'static Metric) -> Select {
    of(metric).matches("job", "$job").matches("instance", "$instance")
}

impl Select {
    #[must_use]
    pub fn is(self, label: &str, value: impl Display) -> Self {
        self.matcher(label, "=", value)
    }

    #[must_use]
    pub fn is_not(self, label: &str, value: impl Display) -> Self {
        self.matcher(label, "!=", value)
    }

    /// By a regular expression that must match the whole value.
    #[must_use]
    pub fn matches(self, label: &str, regex: impl Display) -> Self {
        self.matcher(label, "=~", regex)
    }

    fn matcher(mut self, label: &str, operator: &str, value: impl Display) -> Self {
        self.matchers.push(format!("{label}{operator}\"{value}\""));
        self
    }

    /// The buckets of a histogram.
    #[must_use]
    pub fn bucket(self) -> Self {
        Self { suffix: "_bucket", ..self }
    }

    /// The time that the observations of a histogram add up to.
    #[must_use]
    pub fn total(self) -> Self {
        Self { suffix: "_sum", ..self }
    }

    /// The number of a histogram's observations.
    #[must_use]
    pub fn count(self) -> Self {
        Self { suffix: "_count", ..self }
    }

    /// The newest values.
    pub fn now(&self) -> Expr {
        Expr::unary(self.to_string())
    }

    pub fn rate(&self, window: &str) -> Expr {
        Expr::unary(format!("rate({self}[{window}])"))
    }

    pub fn increase(&self, window: &str) -> Expr {
        Expr::unary(format!("increase({self}[{window}])"))
    }

    /// 1 where there is no such series at all, else nothing.
    pub fn absent(&self) -> Expr {
        Expr::unary(format!("absent({self})"))
    }

    /// The last value in the window, of series that have ended as well.
    pub fn last_in(&self, window: &str) -> Expr {
        Expr::unary(format!("last_over_time({self}[{window}])"))
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.metric.name, self.suffix)?;
        if self.matchers.is_empty() { Ok(()) } else { write!(f, "{{{}}}", self.matchers.join(",")) }
    }
}

/// A query, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    text: String,
    /// Made of two by an operator, so that it needs brackets in another.
    binary: bool,
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a recording rule of this crate recorded.
pub fn recorded(rule: &str) -> Expr {
    Expr::unary(rule.to_owned())
}

/// The moment of the query, as a unix time.
pub fn time() -> Expr {
    Expr::unary("time()".to_owned())
}

impl Expr {
    fn unary(text: String) -> Self {
        Self { text, binary: false }
    }

    fn operand(&self) -> String {
        if self.binary { format!("({})", self.text) } else { self.text.clone() }
    }

    fn with(&self, operator: &str, other: &Self) -> Self {
        Self { text: format!("{} {operator} {}", self.operand(), other.operand()), binary: true }
    }

    fn aggregate(&self, function: &str, labels: &[&str]) -> Self {
        let by = if labels.is_empty() { String::new() } else { format!(" by ({})", labels.join(", ")) };
        let gap = if labels.is_empty() { "" } else { " " };
        Self::unary(format!("{function}{by}{gap}({})", self.text))
    }

    pub fn sum(&self, by: &[&str]) -> Self {
        self.aggregate("sum", by)
    }

    pub fn max(&self, by: &[&str]) -> Self {
        self.aggregate("max", by)
    }

    pub fn min(&self, by: &[&str]) -> Self {
        self.aggregate("min", by)
    }

    pub fn avg(&self, by: &[&str]) -> Self {
        self.aggregate("avg", by)
    }

    pub fn counted(&self, by: &[&str]) -> Self {
        self.aggregate("count", by)
    }

    /// One series for each set of these labels, all of value 1.
    pub fn group(&self, by: &[&str]) -> Self {
        self.aggregate("group", by)
    }

    pub fn top(&self, n: usize) -> Self {
        Self::unary(format!("topk({n}, {})", self.text))
    }

    /// The quantile of buckets; `by` beside their own label `le`.
    pub fn quantile(&self, q: f64, by: &[&str]) -> Self {
        let labels: Vec<&str> = by.iter().copied().chain(["le"]).collect();
        Self::unary(format!("histogram_quantile({q}, {})", self.sum(&labels)))
    }

    pub fn abs(&self) -> Self {
        Self::unary(format!("abs({})", self.text))
    }

    /// Negative values become 0: where two counters that grow one after the other are set off.
    pub fn positive(&self) -> Self {
        Self::unary(format!("clamp_min({}, 0)", self.text))
    }

    /// The mean over an earlier window of a recorded series.
    pub fn mean_in(&self, window: &str, ago: &str) -> Self {
        Self::unary(format!("avg_over_time({}[{window}] offset {ago})", self.text))
    }

    /// A label by another name.
    pub fn relabel(&self, from: &str, to: &str) -> Self {
        Self::unary(format!("label_replace({}, \"{to}\", \"$1\", \"{from}\", \"(.*)\")", self.text))
    }

    pub fn plus(&self, other: &Self) -> Self {
        self.with("+", other)
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.with("-", other)
    }

    pub fn over(&self, other: &Self) -> Self {
        self.with("/", other)
    }

    /// Divided by another where that is known and more than 0: nothing at all rather than NaN.
    pub fn over_positive(&self, other: &Self) -> Self {
        self.over(&other.where_(">", 0))
    }

    /// This, and the other where this is not there.
    pub fn or(&self, other: &Self) -> Self {
        self.with("or", other)
    }

    /// The same, where the two are one if these labels are.
    pub fn or_on(&self, labels: &[&str], other: &Self) -> Self {
        self.with(&format!("or on ({})", labels.join(", ")), other)
    }

    /// This where the other is there too.
    pub fn and_on(&self, labels: &[&str], other: &Self) -> Self {
        self.with(&format!("and on ({})", labels.join(", ")), other)
    }

    pub fn and(&self, other: &Self) -> Self {
        self.with("and", other)
    }

    /// Only the series that compare so.
    pub fn where_(&self, comparison: &str, value: impl Display) -> Self {
        Self { text: format!("{} {comparison} {value}", self.operand()), binary: true }
    }

    /// 1 where it compares so, else 0.
    pub fn whether(&self, comparison: &str, value: impl Display) -> Self {
        self.where_(&format!("{comparison} bool"), value)
    }
}

#[cfg(test)]
mod tests {
    use pams_agent::metrics::catalogue as a;

    use super::*;

    #[test]
    fn brackets_stand_where_they_are_needed_and_nowhere_else() {
        let good = of(&a::CLOSED).is("status", "good").rate("5m").sum(&["job"]);
        let all = of(&a::CLOSED).rate("5m").sum(&["job"]);
        assert_eq!(
            all.minus(&good).over_positive(&all).to_string(),
            "(sum by (job) (rate(pams_agent_transactions_closed_total[5m])) - sum by (job) \
             (rate(pams_agent_transactions_closed_total{status=\"good\"}[5m]))) / (sum by (job) \
             (rate(pams_agent_transactions_closed_total[5m])) > 0)"
        );
        assert_eq!(
            chosen(&a::STAGE).bucket().rate(RATE).quantile(0.95, &["stage"]).to_string(),
            "histogram_quantile(0.95, sum by (stage, le) (rate(pams_agent_stage_seconds_bucket{job=~\"$job\",\
             instance=~\"$instance\"}[$__rate_interval])))"
        );
        assert_eq!(of(&UP).now().whether("==", 0).sum(&[]).to_string(), "sum(up == bool 0)");
    }
}
