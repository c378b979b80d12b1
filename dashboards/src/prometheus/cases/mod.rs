//! Tests of the alerts, as `promtool test rules` takes them: for each one when it fires, and when it must not although
//! something similar happens. Series are named by the catalogues' constants, so these tests follow a renamed metric.

mod cluster;

use pams_agent::metrics::catalogue as a;
use pams_server::metrics::catalogue as s;

use super::{AGENT_JOB, SERVER_JOB};
use crate::query::{Select, UP, of};

/// A timeline, one sample a minute, and whether an alert fires in it.
#[derive(Clone, Debug)]
pub struct Case {
    pub alert: &'static str,
    pub about: &'static str,
    /// Series and values, in promtool's notation: `1+2x3` is 1 3 5 7.
    pub series: Vec<(String, String)>,
    /// When it is looked at.
    pub at: &'static str,
    pub fires: bool,
}

fn fires<const N: usize>(
    alert: &'static str,
    at: &'static str,
    about: &'static str,
    series: [(Select, &str); N],
) -> Case {
    let series = series.into_iter().map(|(select, values)| (select.to_string(), values.to_owned())).collect();
    Case { alert, about, series, at, fires: true }
}

fn silent<const N: usize>(
    alert: &'static str,
    at: &'static str,
    about: &'static str,
    series: [(Select, &str); N],
) -> Case {
    Case { fires: false, ..fires(alert, at, about, series) }
}

fn server(metric: &'static pams_shared::catalogue::Metric) -> Select {
    of(metric).is("job", SERVER_JOB).is("instance", "pams.example.org:7480")
}

fn agent(metric: &'static pams_shared::catalogue::Metric) -> Select {
    of(metric).is("job", AGENT_JOB).is("instance", "192.0.2.7:7481").is(super::PEER_NAME, "alpha")
}

/// An agent by its number.
fn up(n: u8) -> Select {
    of(&UP).is("job", AGENT_JOB).is("instance", format!("192.0.2.{n}:7481"))
}

/// All tests, in the order of the alerts.
pub fn cases() -> Vec<Case> {
    let mut all = presence();
    all.extend(scraped());
    all.extend(pings());
    all.extend(stages());
    all.extend(keeping());
    all.extend(certificates());
    all.extend(cluster::cases());
    all.extend(never());
    all
}

fn presence() -> Vec<Case> {
    let peers = |liveness| server(&s::PEERS_BY_LIVENESS).is("liveness", liveness);
    let event = |event| server(&s::EVENTS).is("event", event);
    vec![
        fires("PamsServerDown", "8m", "it is down for three minutes", [(server(&UP), "1+0x4 0+0x20")]),
        fires("PamsServerDown", "8m", "none was found", [(up(1), "0+0x20")]),
        silent("PamsServerDown", "5m", "one scrape was missed", [(server(&UP), "1+0x4 0 1+0x20")]),
        silent("PamsServerDown", "8m", "an agent is down", [(up(1), "0+0x20"), (server(&UP), "1+0x20")]),
        fires(
            "PamsManyPeersGone",
            "14m",
            "four of ten go silent",
            [(peers("live"), "10+0x9 6+0x20"), (peers("overdue"), "0+0x30"), (event("gone"), "0+0x9 4+0x20")],
        ),
        silent(
            "PamsManyPeersGone",
            "14m",
            "four of ten say goodbye",
            [(peers("live"), "10+0x9 6+0x20"), (event("gone"), "0+0x30"), (event("left"), "0+0x9 4+0x20")],
        ),
        silent(
            "PamsManyPeersGone",
            "14m",
            "one of two goes silent",
            [(peers("live"), "2+0x9 1+0x20"), (event("gone"), "0+0x9 1+0x20")],
        ),
        silent(
            "PamsManyPeersGone",
            "14m",
            "four of a hundred go silent",
            [(peers("live"), "100+0x9 96+0x20"), (event("gone"), "0+0x9 4+0x20")],
        ),
    ]
}

fn scraped() -> Vec<Case> {
    let home = || agent(&a::HOME_CONNECTED);
    vec![
        fires("PamsAgentWithoutHome", "20m", "it has none for a quarter of an hour", [(home(), "1+0x4 0+0x30")]),
        silent("PamsAgentWithoutHome", "10m", "it has none for five minutes", [(home(), "1+0x4 0+0x4 1+0x30")]),
        fires(
            "PamsAgentsNotScraped",
            "15m",
            "three of four do not answer",
            [(up(1), "1+0x30"), (up(2), "0+0x30"), (up(3), "0+0x30"), (up(4), "0+0x30")],
        ),
        silent(
            "PamsAgentsNotScraped",
            "15m",
            "one of four does not answer",
            [(up(1), "1+0x30"), (up(2), "1+0x30"), (up(3), "1+0x30"), (up(4), "0+0x30")],
        ),
    ]
}

fn pings() -> Vec<Case> {
    let good = || server(&s::CLOSED).is("kind", "presence.ping").is("status", "good");
    let unanswered = || server(&s::REASONS).is("kind", "presence.ping").is("reason", "no_answer");
    let late = || server(&s::LATE).is("kind", "presence.ping");
    let steady = "0+100x40";
    let some = "0+10x40";
    vec![
        fires(
            "PamsPingLossHigh",
            "20m",
            "one of eleven is never answered",
            [(good(), steady), (unanswered(), some), (late(), "0+0x40")],
        ),
        silent(
            "PamsPingLossHigh",
            "20m",
            "as many are answered late",
            [(good(), steady), (unanswered(), some), (late(), some)],
        ),
        silent(
            "PamsPingLossHigh",
            "20m",
            "one in a hundred is lost",
            [(good(), steady), (unanswered(), "0+1x40"), (late(), "0+0x40")],
        ),
        silent(
            "PamsPingLossHigh",
            "12m",
            "a burst of two minutes",
            [(good(), steady), (unanswered(), "0+0x5 50 100+0x30"), (late(), "0+0x40")],
        ),
        fires(
            "PamsAnswersLate",
            "20m",
            "one of eleven comes late",
            [(good(), steady), (unanswered(), some), (late(), some)],
        ),
        silent(
            "PamsAnswersLate",
            "20m",
            "as many never come",
            [(good(), steady), (unanswered(), some), (late(), "0+0x40")],
        ),
    ]
}

fn stages() -> Vec<Case> {
    let of_stage = |stage| server(&s::STAGE).is("kind", "presence.ping").is("stage", stage);
    let time = |stage| of_stage(stage).total();
    let count = |stage| (of_stage(stage).count(), "0+60x240");
    vec![
        fires(
            "PamsStageShift",
            "200m",
            "the network takes 100 ms in place of 20 ms",
            [
                (time("network"), "0+1.2x180 222+6x60"),
                count("network"),
                (time("remote_hold"), "0+0.06x240"),
                count("remote_hold"),
            ],
        ),
        fires(
            "PamsStageShift",
            "200m",
            "peers take 60 ms to answer in place of 1 ms",
            [(time("remote_hold"), "0+0.06x180 14.4+3.6x60"), count("remote_hold")],
        ),
        silent(
            "PamsStageShift",
            "200m",
            "the network takes twice the time",
            [(time("network"), "0+1.2x180 218.4+2.4x60"), count("network")],
        ),
        silent(
            "PamsStageShift",
            "200m",
            "ten times the time, but below 10 ms more",
            [(time("queued"), "0+0.006x180 1.14+0.06x60"), count("queued")],
        ),
    ]
}

fn keeping() -> Vec<Case> {
    let shed = || server(&s::RECORDS_SHED);
    let dropped = || agent(&a::DROPPED).is("consumer", "tap");
    vec![
        fires("PamsRecordsShed", "12m", "five were dropped", [(shed(), "0+0x9 5+0x20")]),
        silent("PamsRecordsShed", "30m", "some were dropped long ago", [(shed(), "5+0x40")]),
        fires("PamsRecordsDropped", "12m", "the consumer falls behind", [(dropped(), "0+0x9 0+3x20")]),
        silent("PamsRecordsDropped", "30m", "it keeps up", [(dropped(), "0+0x40")]),
        fires("PamsConfigurationNotTaken", "10m", "the server's file is bad", [(server(&s::RELOADED), "1+0x2 0+0x20")]),
        fires("PamsConfigurationNotTaken", "10m", "an agent's file is bad", [(agent(&a::RELOADED), "1+0x2 0+0x20")]),
        silent(
            "PamsConfigurationNotTaken",
            "10m",
            "it was bad for two minutes",
            [(server(&s::RELOADED), "1+0x2 0 0 1+0x20"), (agent(&a::RELOADED), "1+0x30")],
        ),
    ]
}

fn certificates() -> Vec<Case> {
    let own = |certificate| server(&s::CERTIFICATE_EXPIRY).is("certificate", certificate);
    let of_agent = || agent(&a::CERTIFICATE_EXPIRY);
    vec![
        // Times are unix times, and these tests begin at 0.
        fires("PamsCertificateExpiring", "20m", "an agent's has 3 hours left", [(of_agent(), "12000+0x30")]),
        fires("PamsCertificateExpiring", "20m", "the server's has 3 hours left", [(own("leaf"), "12000+0x30")]),
        silent(
            "PamsCertificateExpiring",
            "20m",
            "renewal is due",
            [(of_agent(), "28000+0x30"), (own("leaf"), "28000+0x30")],
        ),
        fires("PamsAuthorityExpiring", "2h", "ten days are left", [(own("intermediate"), "864000+0x200")]),
        silent(
            "PamsAuthorityExpiring",
            "2h",
            "years are left, and the leaf's day is none of its business",
            [(own("root"), "315000000+0x200"), (own("intermediate"), "31000000+0x200"), (own("leaf"), "86400+0x200")],
        ),
    ]
}

fn never() -> Vec<Case> {
    let ping = |metric| server(metric).is("kind", "presence.ping");
    let closed = |status| ping(&s::CLOSED).is("status", status);
    let of_agent = |metric| agent(metric).is("kind", "pams.report");
    vec![
        fires(
            "PamsLedgerNotConserved",
            "5m",
            "one ping too few is closed",
            [
                (ping(&s::OPENED), "10+10x20"),
                (closed("good"), "8+10x20"),
                (closed("aborted"), "0+0x20"),
                (ping(&s::IN_FLIGHT), "1+0x20"),
            ],
        ),
        fires(
            "PamsLedgerNotConserved",
            "5m",
            "an agent counts a report twice",
            [
                (of_agent(&a::OPENED), "3+0x20"),
                (of_agent(&a::CLOSED).is("status", "good"), "4+0x20"),
                (of_agent(&a::IN_FLIGHT), "0+0x20"),
            ],
        ),
        silent(
            "PamsLedgerNotConserved",
            "5m",
            "what is in flight is no loss",
            [
                (ping(&s::OPENED), "10+10x20"),
                (closed("good"), "8+10x20"),
                (closed("aborted"), "0+0x20"),
                (ping(&s::IN_FLIGHT), "2+0x20"),
            ],
        ),
        fires("PamsTaskPanicked", "12m", "one of the server", [(server(&s::PANICS), "0+0x9 1+0x20")]),
        fires("PamsTaskPanicked", "12m", "one of an agent", [(agent(&a::PANICS), "0+0x9 1+0x20")]),
        silent("PamsTaskPanicked", "30m", "none", [(agent(&a::PANICS), "0+0x40"), (server(&s::PANICS), "0+0x40")]),
    ]
}
