//! Answers as text for people. What others wrote (names, notes) cannot move the cursor or paint: it is cleaned first.

use std::time::Duration;

use pams_shared::{
    reload::Standing,
    status::{Liveness, Presence},
    terminal::{
        NONE, clean, finish, list, liveness, ms, paint, pairs, plain, presence, time, transactions, words, yes,
    },
};

use super::read::{
    Buddy, Csv, Event, Fetched, Home, Leg, Record, Sleep, Status, Subscribed, Subscriber, Subscription, Tally, Told,
    Trying, Why,
};

/// Clocks that differ by less are not worth a word.
const CLOCK_TOLD_MS: u64 = 1_000;

pub fn status(s: &Status, colour: bool) -> String {
    let version = clean(&s.version);
    let up = span(s.uptime_s);
    let mut text = format!("{} is {}, pams-agent {version}, epoch {}, up {up}\n\n", clean(&s.name), s.peer, s.epoch);
    let mut rows = vec![
        ("Presence", presence(&s.presence)),
        ("Home", home(&s.home)),
        ("Reports", format!("{} records wait for the home, {} were dropped", s.home.backlog, s.home.shed)),
        ("Buddies", tally(&s.buddies)),
        ("Connections", s.connections.to_string()),
    ];
    rows.splice(2..2, servers(&s.home).map(|told| ("Servers", told)));
    rows.extend((!s.addresses.is_empty()).then(|| ("Addresses", addresses(s))));
    rows.extend(s.csv.as_ref().map(|csv| ("CSV files", csv_files(csv))));
    rows.extend(s.slept.as_ref().map(|slept| ("Slept", slept_for(slept))));
    rows.extend(s.configuration.as_ref().and_then(configuration).map(|told| ("Configuration", told)));
    text += &pairs(rows);
    text.push('\n');
    text += &transactions(s.ledgers.iter().map(|l| (l.kind.as_str(), l.ledger)));
    paint(&text, colour)
}

fn addresses(s: &Status) -> String {
    let told = list(&s.addresses);
    s.moved.as_ref().map_or_else(|| told.clone(), |m| format!("{told}, since {}", time(m.at_ms / 1_000)))
}

fn slept_for(s: &Sleep) -> String {
    let why = if s.suspended { "its host was suspended" } else { "its process was stopped, or the host too busy" };
    format!("for {} at {}: {why}; nothing was concluded from that silence", span(s.for_s), time(s.from_ms / 1_000))
}

fn csv_files(csv: &Csv) -> String {
    let trouble = if csv.failing { "; the disk does not take them now, the log says why" } else { "" };
    format!("{} records written{trouble}", csv.written)
}

/// Nothing where all is as it should be.
fn configuration(s: &Standing) -> Option<String> {
    let error = s
        .error
        .as_deref()
        .map(|e| format!("not read again, that of {} is in force: {}", time(s.success_ms / 1_000), clean(e)));
    let waits =
        (!s.restart.is_empty()).then(|| format!("{} take effect at the next start", clean(&s.restart.join(", "))));
    error.or(waits)
}

pub fn published(p: &Presence) -> String {
    format!("published: {}\n", presence(p))
}

pub fn buddies(list: &[Buddy], colour: bool) -> String {
    if list.is_empty() {
        return "no buddies; name them in the configuration or with --buddy, or put peers into a common overlay\n"
            .to_owned();
    }
    let header = [
        "Name", "Peer", "From", "Status", "Liveness", "For", "RTT ms", "Queued", "Network", "Hold", "Wait", "Hears",
        "Is heard", "Why",
    ];
    let mut table = plain(&header, 6..11);
    for b in list {
        // Nobody who does not answer has a latency.
        let last = b.last.as_ref().filter(|_| b.is_heard);
        let stage = |of: fn(&Record) -> Option<u64>| last.and_then(of).map_or_else(|| NONE.to_owned(), ms);
        table.add_row([
            b.name.as_deref().map_or_else(|| NONE.to_owned(), clean),
            b.peer.to_string(),
            b.origin.as_deref().map_or_else(|| NONE.to_owned(), clean),
            b.status.map_or(NONE, |s| s.as_str()).to_owned(),
            b.liveness.map_or_else(|| NONE.to_owned(), liveness),
            b.liveness.map_or_else(|| NONE.to_owned(), |_| span(b.liveness_s)),
            stage(|r| r.total_ns),
            stage(|r| r.stages_ns.queued),
            stage(|r| r.stages_ns.network),
            stage(|r| r.stages_ns.remote_hold),
            stage(|r| r.stages_ns.local_wait),
            yes(b.hears),
            yes(b.is_heard),
            b.why.as_ref().map_or_else(|| NONE.to_owned(), why),
        ]);
    }
    paint(&finish(&table), colour)
}

pub fn fetched(f: &Fetched, colour: bool) -> String {
    let source = match (&f.why, f.source.as_str()) {
        (_, "peer") => "the peer itself, just now".to_owned(),
        (Some(w), _) => format!("its home, {} old; the peer itself: {}", span(f.age_s), why(w)),
        (None, _) => format!("its home, {} old", span(f.age_s)),
    };
    let text = pairs(vec![
        ("Peer", f.peer.to_string()),
        ("Name", clean(&f.name)),
        ("Told by", source),
        ("Presence", presence(&f.presence)),
        ("Liveness", liveness(f.liveness)),
        ("Addresses", list(&f.addresses)),
        ("Seen at", f.observed.as_deref().map_or_else(|| NONE.to_owned(), clean)),
        ("Overlays", list(&f.overlays)),
        ("Applications", list(&f.applications)),
        ("Software", clean(&f.software)),
    ]);
    paint(&text, colour)
}

/// A line of `ping`.
pub fn pong(name: &str, seq: u64, record: &Record) -> String {
    let known = |stage: Option<u64>| stage.map_or_else(|| NONE.to_owned(), ms);
    let s = &record.stages_ns;
    let split = format!(
        "queued {}, network {}, hold {}, wait {}",
        known(s.queued),
        known(s.network),
        known(s.remote_hold),
        known(s.local_wait)
    );
    let status = record.target_status.as_deref().map_or_else(|| NONE.to_owned(), clean);
    format!("pong from {}: seq={seq} total={} ms ({split}) status={status}\n", clean(name), known(record.total_ns))
}

pub fn no_pong(name: &str, seq: u64, reason: &str, text: &str) -> String {
    format!("no pong from {}: seq={seq} {}: {}\n", clean(name), words(reason), clean(text))
}

/// The first lines of `subscribe`.
pub fn subscribed(name: &str, s: &Subscribed) -> String {
    let leg = |leg: &Leg| match (&leg.why, leg.state.as_str()) {
        (Some(w), _) => format!("no ({})", why(w)),
        (None, "active") => "yes".to_owned(),
        (None, _) => "once there is contact".to_owned(),
    };
    let known = &s.subscription;
    let mut text = format!("SUBSCRIBE {}: told by the peer: {}; ", clean(name), leg(&known.by_peer));
    text += &format!("by the home: {}\n", leg(&known.by_home));
    if !s.new {
        let state = known.presence.as_ref().map_or_else(|| "nothing is known yet".to_owned(), presence);
        let judged = known.liveness.map_or_else(String::new, |l| format!("; {} to its home", l.as_str()));
        text += &format!("known before: {state}{judged}\n");
    }
    text
}

/// A line of `subscribe`.
pub fn event(name: &str, event: &Event) -> String {
    let told = match event {
        Event::Told(told) => told,
        Event::Missed(n) => return format!("{n} more were told and not shown: this client was too slow\n"),
    };
    let Told { at_ms, by, presence: said, liveness: judged, age_ms, skipped } = told;
    let status = said.as_ref().map(|p| {
        let note = p.note.as_deref().map_or_else(String::new, |n| format!(" ({})", clean(n)));
        format!("{}{note}", p.status.as_str())
    });
    let parts: Vec<String> = status.into_iter().chain(judged.map(|l| l.as_str().to_owned())).collect();
    let who = match by.as_str() {
        "peer" => "the peer itself".to_owned(),
        "agent" => "our own pings".to_owned(),
        _ => age_ms.filter(|ms| *ms >= 1_000).map_or_else(
            || "the home".to_owned(),
            |ms| format!("the home, which heard it {} ago", span(Duration::from_millis(ms).as_secs_f64())),
        ),
    };
    let gap = if *skipped > 0 { format!("; {skipped} changes before it were not told") } else { String::new() };
    format!("{} {}: {}; told by {who}{gap}\n", time(at_ms / 1_000), clean(name), parts.join(", "))
}

pub fn subscriptions(list: &[Subscription], colour: bool) -> String {
    if list.is_empty() {
        return "no subscriptions; `pams-agent subscribe` begins one, and subscribe = true of a buddy\n".to_owned();
    }
    let header = ["Name", "Peer", "From", "Status", "Liveness", "Told by", "By peer", "By home"];
    let mut table = plain(&header, 0..0);
    let leg = |leg: &Leg| {
        leg.why.as_ref().map_or_else(|| clean(&leg.state), |w| format!("{} ({})", clean(&leg.state), why(w)))
    };
    for s in list {
        let told = s.told_by.as_deref().zip(s.told_s).map(|(by, ago)| format!("{} {} ago", clean(by), span(ago)));
        table.add_row([
            s.name.as_deref().map_or_else(|| NONE.to_owned(), clean),
            s.peer.to_string(),
            if s.configured { "configuration" } else { "request" }.to_owned(),
            s.presence.as_ref().map_or(NONE, |p| p.status.as_str()).to_owned(),
            s.liveness.map_or_else(|| NONE.to_owned(), liveness),
            told.unwrap_or_else(|| NONE.to_owned()),
            leg(&s.by_peer),
            leg(&s.by_home),
        ]);
    }
    paint(&finish(&table), colour)
}

pub fn subscribers(list: &[Subscriber], colour: bool) -> String {
    if list.is_empty() {
        return "nobody subscribes to this peer directly; the home may tell others\n".to_owned();
    }
    let header = ["Name", "Peer", "State", "Since", "Acknowledged", "Told, ms", "Total, ms"];
    let mut table = plain(&header, 5..7);
    for s in list {
        table.add_row([
            s.name.as_deref().map_or_else(|| NONE.to_owned(), clean),
            s.peer.to_string(),
            clean(&s.state),
            format!("{} ago", span(s.since_s)),
            s.acked_s.map_or_else(|| NONE.to_owned(), |a| format!("{} ago", span(a))),
            s.told.as_ref().map_or_else(|| NONE.to_owned(), |t| format!("{} to {}", ms(t.least_ns), ms(t.most_ns))),
            s.last.as_ref().and_then(|r| r.total_ns).map_or_else(|| NONE.to_owned(), ms),
        ]);
    }
    paint(&finish(&table), colour)
}

fn home(h: &Home) -> String {
    if !h.connected {
        let why = h.why.as_ref().map_or_else(|| "none was reached yet".to_owned(), why);
        return match &h.trying {
            Some(t) => format!("not connected; {why}; {}", trying(t)),
            None => format!("not connected; {why}"),
        };
    }
    let mut text = format!("connected with {}", h.server.as_deref().map_or_else(|| NONE.to_owned(), clean));
    if let Some(observed) = &h.observed {
        text += &format!(", which sees this agent at {}", clean(observed));
    }
    if let Some(ms) = h.clock_offset_ms.filter(|ms| ms.unsigned_abs() >= CLOCK_TOLD_MS) {
        let side = if ms > 0 { "ahead of" } else { "behind" };
        text += &format!("; its clock is {:.1} s {side} ours", ms.unsigned_abs() as f64 / 1e3);
    }
    text
}

/// How many servers are known, and why this one is the home; nothing where there was no choice.
fn servers(h: &Home) -> Option<String> {
    let because = h.because.as_deref().filter(|because| h.servers > 1 || *because != "start")?;
    let why = match because {
        "start" => "the home was chosen at the start".to_owned(),
        "lost" => "the home was chosen as the one before was lost".to_owned(),
        "silent" => "the home was chosen as the one before fell silent".to_owned(),
        "told" => "the home was chosen as the one before sent us away".to_owned(),
        "nearer" => "the home was chosen as it is nearer".to_owned(),
        "less_loaded" => "the home was chosen as the one before was full".to_owned(),
        other => format!("the home was chosen: {}", words(other)),
    };
    Some(format!("{} known; {why}", h.servers))
}

/// What was tried, what the name stands for, what TCP says, and when it goes on.
fn trying(t: &Trying) -> String {
    let (home, since) = (clean(&t.home), time(t.since_ms / 1_000));
    let times = if t.tries == 1 { "once".to_owned() } else { format!("{} times", t.tries) };
    let mut text = format!("tried {times} since {since}, {home} last");
    match t.resolved[..] {
        [] => text += "; that name does not resolve: check it, and DNS on this host",
        _ => text += &format!("; it resolves to {}", list(&t.resolved)),
    }
    if let Some(tcp) = &t.tcp {
        text += &format!("; {}", clean(tcp));
    }
    text + &format!("; next try at {}", time(t.next_ms / 1_000))
}

fn tally(t: &Tally) -> String {
    let parts = [
        (t.live, liveness(Liveness::Live)),
        (t.overdue, liveness(Liveness::Overdue)),
        (t.gone, liveness(Liveness::Gone)),
        (t.left, liveness(Liveness::Left)),
        (t.unknown, "not judged yet".to_owned()),
    ];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{}: {}", t.total, parts.join(", ")) }
}

fn why(w: &Why) -> String {
    format!("{}: {}", words(&w.reason), clean(&w.text))
}

/// Whole seconds, such as "1h 2m 5s".
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_secs();
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}
