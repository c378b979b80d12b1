//! Recording rules: how many pings are lost or late, where the time goes, and how far servers lag behind each other. Named level:metric:operations, as
//! Prometheus' own documentation has it.

use pams_server::metrics::catalogue as s;
use pams_shared::record::{Kind, Outcome, Reason};

use super::Timing;
use crate::query::{Expr, of};

pub const LOST: &str = "job:pams_server_pings_lost:ratio_rate";
pub const LATE: &str = "job:pams_server_pings_late:ratio_rate";
pub const UNREACHED: &str = "job:pams_server_pings_unreached:ratio_rate";
pub const STAGE_MEAN: &str = "job_stage:pams_server_ping_stage_seconds:mean_rate";
pub const TOTAL_P95: &str = "job:pams_server_ping_seconds:p95_rate";

pub const REPLICATION_P99: &str = "job_instance:pams_server_replication_seconds:p99_rate";

/// A recording rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    pub expr: Expr,
}

/// Reasons for which a ping was sent into nothing or not sent at all, or was turned away.
pub const UNREACHED_REASONS: [Reason; 4] = [Reason::NotSent, Reason::Refused, Reason::Certificate, Reason::Clock];

/// `a|b`, for a matcher.
pub fn any_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join("|")
}

/// All recording rules.
pub fn rules(timing: Timing) -> Vec<Rule> {
    let w = timing.rate;
    let ping = Kind::Ping;
    let job: &[&str] = &["job"];
    let reason = |reasons: &[Reason]| {
        let select = of(&s::REASONS).is("kind", &ping).matches("reason", any_of(reasons.iter().map(|r| r.as_str())));
        select.rate(w).sum(job)
    };
    let good = of(&s::CLOSED).is("kind", &ping).is("status", Outcome::Good.as_str()).rate(w).sum(job);
    let closed = of(&s::CLOSED).is("kind", &ping).rate(w).sum(job);
    let unanswered = reason(&[Reason::NoAnswer]);
    let late = of(&s::LATE).is("kind", &ping).rate(w).sum(job);
    let stage = |part: fn(crate::query::Select) -> crate::query::Select| {
        part(of(&s::STAGE).is("kind", &ping)).rate(w).sum(&["job", "stage"])
    };
    vec![
        Rule {
            name: LOST,
            about: "Of the pings that were sent, those to which no answer ever came. One that came late is not lost.",
            expr: unanswered.minus(&late).positive().over_positive(&good.plus(&unanswered)),
        },
        Rule {
            name: LATE,
            about: "Of the pings that were sent, those whose answer came after the deadline.",
            expr: late.over_positive(&good.plus(&unanswered)),
        },
        Rule {
            name: UNREACHED,
            about: "Of all pings, those that found no way to their peer: not sent, or turned away.",
            expr: reason(&UNREACHED_REASONS).over_positive(&closed),
        },
        Rule {
            name: STAGE_MEAN,
            about: "Mean time of an answered ping by stage; the stages add up to the round trip.",
            expr: stage(crate::query::Select::total).over_positive(&stage(crate::query::Select::count)),
        },
        Rule {
            name: TOTAL_P95,
            about: "19 of 20 answered pings took no longer.",
            expr: of(&s::TOTAL).is("kind", &ping).bucket().rate(w).quantile(0.95, job),
        },
        Rule {
            name: REPLICATION_P99,
            about: "99 of 100 reports to this server were held by another within this time.",
            expr: of(&s::REPLICATION).bucket().rate(w).quantile(0.99, &["job", "instance"]),
        },
    ]
}
