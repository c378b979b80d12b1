//! Those about the servers among themselves.

use pams_server::metrics::catalogue as s;
use pams_shared::catalogue::Metric;

use super::{Case, SERVER_JOB, fires, silent};
use crate::query::{Select, of};

/// What one of several servers tells.
fn at(name: &str, metric: &'static Metric) -> Select {
    of(metric).is("job", SERVER_JOB).is("instance", format!("{name}.example.org:7480"))
}

fn members(name: &str, state: &str) -> Select {
    at(name, &s::MEMBERS).is("state", state)
}

fn alive(name: &str) -> Select {
    members(name, "alive")
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = split();
    all.extend(lonely());
    all.extend(down());
    all.extend(lag());
    all.extend(stale());
    all.extend(mismatch());
    all.extend(alone());
    all.extend(storm());
    all
}

fn split() -> Vec<Case> {
    const ALERT: &str = "PamsClusterSplitView";
    vec![
        fires(
            ALERT,
            "8m",
            "one of three is cut off from the others",
            [(alive("s1"), "2+0x4 1+0x20"), (alive("s2"), "2+0x4 1+0x20"), (alive("s3"), "2+0x4 0+0x20")],
        ),
        fires(
            ALERT,
            "8m",
            "two of three do not see each other",
            [(alive("s1"), "2+0x4 1+0x20"), (alive("s2"), "2+0x4 1+0x20"), (alive("s3"), "2+0x30")],
        ),
        silent(
            ALERT,
            "8m",
            "one of three is down, and the others agree",
            [(alive("s1"), "2+0x4 1+0x20"), (alive("s2"), "2+0x4 1+0x20"), (alive("s3"), "2+0x3 stale")],
        ),
        silent(
            ALERT,
            "6m",
            "one was told a minute later",
            [(alive("s1"), "2+0x4 1+0x20"), (alive("s2"), "2+0x5 1+0x20")],
        ),
        silent(ALERT, "8m", "there is but one", [(alive("s1"), "0+0x20")]),
    ]
}

fn lonely() -> Vec<Case> {
    const ALERT: &str = "PamsServerLonely";
    let down = |name| members(name, "down");
    vec![
        fires(
            ALERT,
            "8m",
            "it takes the only other one for down",
            [(alive("s1"), "1+0x4 0+0x20"), (down("s1"), "0+0x4 1+0x20")],
        ),
        fires(
            ALERT,
            "8m",
            "it starts anew, does not find the others, and they see each other",
            [(alive("s1"), "0+0x20"), (down("s1"), "0+0x20"), (alive("s2"), "1+0x20"), (alive("s3"), "1+0x20")],
        ),
        silent(ALERT, "8m", "it has always been alone", [(alive("s1"), "0+0x20"), (down("s1"), "0+0x20")]),
        silent(
            ALERT,
            "8m",
            "the other has left in good order",
            [(alive("s1"), "1+0x4 0+0x20"), (down("s1"), "0+0x30"), (members("s1", "left"), "0+0x4 1+0x20")],
        ),
        silent(
            ALERT,
            "8m",
            "one of three is down",
            [(alive("s1"), "2+0x4 1+0x20"), (down("s1"), "0+0x4 1+0x20"), (alive("s2"), "2+0x4 1+0x20")],
        ),
    ]
}

fn down() -> Vec<Case> {
    const ALERT: &str = "PamsMemberDown";
    let down = |name| members(name, "down");
    vec![
        fires(
            ALERT,
            "8m",
            "both that are left take the third for down",
            [(down("s1"), "0+0x4 1+0x20"), (down("s2"), "0+0x4 1+0x20")],
        ),
        silent(ALERT, "8m", "it was started again within a minute", [(down("s1"), "0+0x4 1 0+0x20")]),
        silent(
            ALERT,
            "8m",
            "it is suspected, or has left",
            [(down("s1"), "0+0x30"), (members("s1", "suspect"), "1+0x30"), (members("s1", "left"), "0+0x4 1+0x20")],
        ),
    ]
}

fn lag() -> Vec<Case> {
    const ALERT: &str = "PamsReplicationLag";
    let held = |le| at("s1", &s::REPLICATION).bucket().is("le", le);
    vec![
        fires(
            ALERT,
            "20m",
            "one report in twenty takes more than 250 ms",
            [
                (held("0.1"), "0+95x40"),
                (held("0.25"), "0+95x40"),
                (held("0.5"), "0+100x40"),
                (held("+Inf"), "0+100x40"),
            ],
        ),
        silent(
            ALERT,
            "20m",
            "one in a thousand does",
            [
                (held("0.1"), "0+999x40"),
                (held("0.25"), "0+999x40"),
                (held("0.5"), "0+1000x40"),
                (held("+Inf"), "0+1000x40"),
            ],
        ),
        silent(
            ALERT,
            "9m",
            "it began a few minutes ago",
            [
                (held("0.1"), "0+100x5 500+0x20"),
                (held("0.25"), "0+100x5 500+0x20"),
                (held("0.5"), "0+100x40"),
                (held("+Inf"), "0+100x40"),
            ],
        ),
        silent(
            ALERT,
            "20m",
            "nothing is reported, so nothing lags",
            [(held("0.25"), "7+0x40"), (held("0.5"), "9+0x40"), (held("+Inf"), "9+0x40")],
        ),
    ]
}

fn stale() -> Vec<Case> {
    const ALERT: &str = "PamsDirectoryStale";
    let entries = || at("s1", &s::ENTRIES).is("home", "stale");
    let age = || at("s1", &s::ENTRY_AGE);
    let left = || members("s1", "left");
    vec![
        fires(ALERT, "10m", "five entries are", [(entries(), "0+0x4 5+0x20"), (age(), "0.3+0x30"), (left(), "0+0x30")]),
        fires(
            ALERT,
            "10m",
            "one that is alive is not heard, and owns nothing",
            [(entries(), "0+0x30"), (age(), "0.3+0x4 0.3+60x20"), (left(), "0+0x30")],
        ),
        fires(
            ALERT,
            "10m",
            "one has left long ago, and another is down",
            [
                (entries(), "2+0x4 5+0x20"),
                (age(), "0.3+0x30"),
                (left(), "1+0x30"),
                (members("s1", "down"), "0+0x4 1+0x20"),
            ],
        ),
        silent(
            ALERT,
            "10m",
            "those of one that has left in good order",
            [(entries(), "0+0x4 5+0x20"), (age(), "0.3+0x30"), (left(), "0+0x4 1+0x20")],
        ),
        silent(
            ALERT,
            "10m",
            "for a minute, until its agents had another home",
            [(entries(), "0+0x4 5 0+0x20"), (age(), "0.3+0x4 4 0.3+0x20"), (left(), "0+0x30")],
        ),
    ]
}

fn mismatch() -> Vec<Case> {
    const ALERT: &str = "PamsDigestMismatch";
    vec![
        fires(ALERT, "12m", "once", [(at("s1", &s::MISMATCHES), "0+0x9 1+0x20")]),
        silent(ALERT, "90m", "it was long ago", [(at("s1", &s::MISMATCHES), "0+0x9 1+0x100")]),
    ]
}

fn alone() -> Vec<Case> {
    const ALERT: &str = "PamsAcksAlone";
    let acks = |by| at("s1", &s::ACKS).is("by", by);
    vec![
        fires(
            ALERT,
            "15m",
            "half of them, although another is alive",
            [(acks("alone"), "0+30x30"), (acks("held"), "0+30x30"), (alive("s1"), "1+0x30")],
        ),
        silent(
            ALERT,
            "15m",
            "all of them, as there is no other",
            [(acks("alone"), "0+60x30"), (acks("held"), "0+0x30"), (alive("s1"), "0+0x30")],
        ),
        silent(
            ALERT,
            "15m",
            "until another came, and not since",
            [(acks("alone"), "0+60x5 300+0x20"), (acks("held"), "0+0x5 0+60x20"), (alive("s1"), "0+0x4 1+0x30")],
        ),
    ]
}

fn storm() -> Vec<Case> {
    const ALERT: &str = "PamsReconnectStorm";
    let moved = |name| at(name, &s::MOVED).is("direction", "in");
    let busy = |name| at(name, &s::HANDSHAKES).is("result", "busy");
    let sessions = |name| at(name, &s::SESSIONS);
    vec![
        fires(
            ALERT,
            "12m",
            "of two servers one goes with its thousand, and the other takes them",
            [
                (moved("s1"), "0+0x7 200 600 1000+0x20"),
                (busy("s1"), "0+0x7 400 500 500+0x20"),
                (sessions("s1"), "1000+0x7 1200 1600 2000+0x20"),
            ],
        ),
        silent(
            ALERT,
            "12m",
            "one of six is stopped",
            [(moved("s1"), "0+0x7 100+0x20"), (busy("s1"), "0+0x30"), (sessions("s1"), "500+0x7 600+0x20")],
        ),
        silent(
            ALERT,
            "12m",
            "three of four agents move",
            [(moved("s1"), "0+0x7 3+0x20"), (busy("s1"), "0+0x30"), (sessions("s1"), "1+0x7 4+0x20")],
        ),
    ]
}
