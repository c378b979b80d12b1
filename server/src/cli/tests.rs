//! What people see, from arguments to text: against an engine behind a real admin socket, and a real token store.

use clap::Parser;
use pams_shared::{
    config::exit,
    control::Control,
    identity::{Authority, Token},
};
use serde_json::Value;

use super::{ask::Asking, *};
use crate::{
    sample,
    shell::http::front::{Served, serve, usual},
};

fn args(line: &str) -> Args {
    Args::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{e}"))
}

/// What a command says: on stdout, and beside it.
async fn run(served: &Served, line: &str) -> Result<(String, String), Fault> {
    let line = format!("{line} --data-dir {}", served.dir.path().display());
    let Ok(Plan::Ask { config, ask }) = args(&line).plan() else { panic!("{line} asks nothing") };
    let form = ask.client().output;
    let control = Control::new(config.admin_socket(), "pams-server");
    let (mut out, mut aside) = (Vec::new(), Vec::new());
    Asking { control, config: *config, form, colour: false }.answer(ask, &mut out, &mut aside).await?;
    Ok((String::from_utf8(out).unwrap(), String::from_utf8(aside).unwrap()))
}

async fn text(served: &Served, line: &str) -> String {
    run(served, line).await.unwrap_or_else(|e| panic!("{line}: {e}")).0
}

async fn json(served: &Served, line: &str) -> Value {
    serde_json::from_str(&text(served, &format!("{line} --output json")).await).unwrap()
}

async fn fault(served: &Served, line: &str) -> (u8, String) {
    let fault = run(served, line).await.unwrap_err();
    (fault.exit_code(), fault.to_string())
}

/// With keys in its data directory, as a server that has started once.
async fn with_keys() -> Served {
    let served = usual().await;
    drop(Authority::open(served.dir.path(), "pams.internal", 1_700_000_000).unwrap());
    served
}

#[tokio::test]
async fn peers_are_listed_and_their_names_do_no_harm() {
    let served = usual().await;
    let shown = text(&served, "pams-server peers").await;
    let expected = "\
Name            Peer                                  Status  Liveness  Heard ago  Seen at             Overlays      Software
alpha           a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1  busy    live           0.0s  192.0.2.161:7421    games/chess   pams-agent/0.1.0
beta            b2b2b2b2-b2b2-b2b2-b2b2-b2b2b2b2b2b2  -       live           0.5s  192.0.2.178:7421    games/go, eu  pams-agent/0.1.0
gamma           c3c3c3c3-c3c3-c3c3-c3c3-c3c3c3c3c3c3  -       left           0.3s  192.0.2.195:7421    games         pams-agent/0.1.0
del\"ta\\\u{fffd}\u{fffd}[31m  d4d4d4d4-d4d4-d4d4-d4d4-d4d4d4d4d4d4  -       gone          10.0s  192.0.2.212:7421    -             pams-agent/0.1.0
";
    let squeezed = |s: &str| s.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&shown), squeezed(expected), "\n{shown}");
    assert!(!shown.contains('\u{1b}'));
    let two = text(&served, "pams-server peers --limit 2").await;
    assert!(two.ends_with(&format!("there are more: --after {}\n", sample::BETA)), "{two}");
    let filtered = text(&served, "pams-server peers --liveness live --status busy --overlay games --name lph").await;
    assert!(filtered.contains("alpha") && !filtered.contains("beta"), "{filtered}");
    assert_eq!(text(&served, "pams-server peers --name nobody").await, "no such peers\n");
}

#[tokio::test]
async fn many_peers_come_as_one_list() {
    let served = serve(sample::crowd(1_001), sample::now()).await;
    let all = json(&served, "pams-server peers --limit 5000").await;
    assert_eq!((all["peers"].as_array().unwrap().len(), &all["next"]), (1_001, &Value::Null));
    let most = json(&served, "pams-server peers").await;
    assert_eq!(most["peers"].as_array().unwrap().len(), 1_000);
    let next = most["next"].as_str().unwrap();
    assert_eq!(json(&served, &format!("pams-server peers --after {next}")).await["peers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn one_peer_is_shown_whole() {
    let served = usual().await;
    let shown = text(&served, "pams-server peer alpha").await;
    for part in [
        "Presence      busy (at lunch), since 2027-01-15T08:00:00Z",
        "Liveness      live since 2027-01-15T08:00:09Z: it reports in time",
        "Session       open since 2027-01-15T08:00:09Z",
        "Clock         as ours",
        "Records shed  3",
        "presence.ping       5     3        1       0        0          1     2          0",
        "aborted: no answer         -       -        -      -      -",
        "good                    85.1   0.200     84.0  0.800  0.100",
        "2027-01-15T08:00:09Z  came      1",
    ] {
        assert!(shown.contains(part), "{part}\nis missing in\n{shown}");
    }
    let beta = text(&served, &format!("pams-server peer {}", sample::BETA)).await;
    let row =
        "alpha       a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1  overdue   online       1  yes    no        0.4s      live";
    assert!(beta.contains(row), "{beta}");
    assert_eq!(json(&served, "pams-server peer alpha").await["ledger"]["presence.ping"]["late"], 2);
    let (code, told) = fault(&served, "pams-server peer alph").await;
    assert_eq!((code, told.as_str()), (exit::USAGE, "no peer is called \"alph\"; `pams-server peers` lists all"));
}

#[tokio::test]
async fn a_probe_tells_how_a_peer_is_and_ends_well_if_anybody_reached_it() {
    let served = usual().await;
    let shown = text(&served, "pams-server probe alpha --within 500ms").await;
    for part in [
        "Verdict   reachable",
        "Because   it is reachable from server",
        "Status    busy",
        "Liveness  live since 2027-01-15T08:00:09Z, known 0.0s ago",
        "Took      0 ms",
        "Asked by  Name  Id                                    Outcome  Status  Total ms  Queued  Network  Hold  Wait",
        "server    -     00000000-0000-0000-0000-000000000000  good     -              -       -        -     -     -",
    ] {
        assert!(shown.contains(part), "{part}\nis missing in\n{shown}");
    }
    let beta = json(&served, &format!("pams-server probe {}", sample::BETA)).await;
    assert_eq!((&beta["verdict"], &beta["findings"][0]["by_role"]), (&"reachable".into(), &"server".into()));
    let (code, told) = fault(&served, "pams-server probe gamma").await;
    assert_eq!((code, told.as_str()), (1, "the peer was not reached: offline"));
    let (code, told) = fault(&served, "pams-server probe alph").await;
    assert_eq!((code, told.as_str()), (exit::USAGE, "no peer is called \"alph\"; `pams-server peers` lists all"));
}

#[tokio::test]
async fn a_peer_that_is_gone_is_forgotten() {
    let served = usual().await;
    let (code, told) = fault(&served, &format!("pams-server forget {}", sample::ALPHA)).await;
    assert_eq!(code, 1);
    assert!(told.starts_with(&format!("peer {} is here; stop its agent", sample::ALPHA)), "{told}");
    let told = text(&served, &format!("pams-server forget {}", sample::GAMMA)).await;
    let expected = "its entry is removed, and its id is free for another key";
    assert_eq!(told, format!("peer {} is forgotten: {expected}\n", sample::GAMMA));
    assert_eq!(json(&served, &format!("pams-server forget {}", sample::DELTA)).await["binding"], false);
    let told = text(&served, &format!("pams-server forget {} --force", sample::ALPHA)).await;
    assert!(told.starts_with(&format!("peer {} is forgotten: its entry is removed", sample::ALPHA)), "{told}");
}

#[tokio::test]
async fn a_token_is_made_listed_and_revoked_beside_the_server() {
    let served = with_keys().await;
    let (line, aside) = run(&served, "pams-server token create").await.unwrap();
    let token = line.strip_prefix("pams-agent --join '").and_then(|l| l.strip_suffix("'\n")).unwrap();
    let token: Token = token.parse().unwrap();
    assert_eq!(token.addresses[0].to_string(), "home.example.org:7420", "what the running server says");
    assert!(aside.starts_with(&format!("token {}: 1 use, until 2", token.id)), "{aside}");

    let made =
        json(&served, "pams-server token create --uses unlimited --ttl 90s --note lab --advertise a:1,[::1]:2").await;
    assert_eq!((&made["uses"], &made["note"]), (&Value::Null, &"lab".into()));
    assert!(made["token"].as_str().unwrap().ends_with("@a:1,[::1]:2"));
    let listed = json(&served, "pams-server token list").await;
    assert_eq!((&listed["tokens"][1]["note"], &listed["tokens"][1]["state"]), (&"lab".into(), &"open".into()));
    assert!(!listed.to_string().contains("secret"));

    let told = text(&served, &format!("pams-server token revoke {}", token.id)).await;
    assert_eq!(told, format!("token {} is revoked; who has joined with it stays\n", token.id));
    let shown = text(&served, "pams-server token list").await;
    assert!(shown.starts_with("Id          Role   State    Uses left  Used  Created"), "{shown}");
    assert!(shown.contains(&format!("{}  agent  revoked          1     0  2", token.id)), "{shown}");
    assert_eq!(fault(&served, "pams-server token revoke none").await.0, 1);
}

#[tokio::test]
async fn a_token_for_servers_is_good_for_one_and_an_hour() {
    let served = with_keys().await;
    let made = json(&served, "pams-server token create --role server").await;
    let (token, command) = (made["token"].as_str().unwrap(), made["command"].as_str().unwrap());
    assert_eq!(command, format!("pams-server --join '{token}'"));
    let listed = json(&served, "pams-server token list").await;
    let row = &listed["tokens"][0];
    let seconds = row["expires_at"].as_u64().unwrap() - row["created_at"].as_u64().unwrap();
    assert_eq!((&row["role"], &row["uses_left"], seconds), (&"server".into(), &1.into(), 3_600));
    let (_, aside) = run(&served, "pams-server token create --role server --ttl 2h --uses 2").await.unwrap();
    assert!(aside.contains(": 2 uses, until 2") && aside.ends_with("as a server, and let agents in\n"), "{aside}");
    let shown = text(&served, "pams-server token list").await;
    assert_eq!(shown.matches("  server  open  ").count(), 2, "{shown}");
    let (agent, day) = (json(&served, "pams-server token create").await, 24 * 3_600);
    let listed = json(&served, "pams-server token list").await;
    assert_eq!(agent["expires_at"].as_u64().unwrap() - listed["tokens"][2]["created_at"].as_u64().unwrap(), day);
    let joining = format!("pams-server --join {token} --data-dir /d");
    let Ok(Plan::Run { join: Some(join), .. }) = args(&joining).plan() else { panic!("{joining}") };
    assert_eq!(join.to_string(), token);
}

#[tokio::test]
async fn a_token_gives_what_is_configured_when_no_server_runs() {
    let mut served = with_keys().await;
    served.answering.abort();
    while served.tasks.join_next().await.is_some() {}
    let file = served.dir.path().join("pams-server.toml");
    let create = format!("pams-server token create --config {}", file.display());
    std::fs::write(&file, "advertise = [\"home:99\"]\n").unwrap();
    assert!(text(&served, &create).await.ends_with("@home:99'\n"));
    std::fs::write(&file, "listen = \"192.0.2.1:98\"\n").unwrap();
    assert!(text(&served, &create).await.ends_with("@192.0.2.1:98'\n"));
    std::fs::write(&file, "listen = \"192.0.2.1:0\"\n").unwrap();
    let (code, told) = fault(&served, &create).await;
    assert_eq!((code, told.ends_with("give --advertise host:port")), (exit::USAGE, true), "{told}");
    let (code, told) = fault(&served, "pams-server peers").await;
    assert_eq!(code, exit::UNAVAILABLE);
    assert!(told.ends_with("is it running? --data-dir names the directory of another"), "{told}");
}

#[tokio::test]
async fn a_directory_that_no_server_made_has_no_tokens() {
    let served = usual().await;
    for command in ["create", "list", "revoke x"] {
        let (code, told) = fault(&served, &format!("pams-server token {command}")).await;
        assert_eq!(code, 1);
        assert!(told.contains("root.pem") && told.contains("start pams-server once"), "{told}");
    }
}

#[test]
fn mistakes_in_flags_are_told() {
    for (line, expected) in [
        ("pams-server token create --uses 0", "give 1 to 4294967295, or unlimited"),
        ("pams-server token create --ttl 24", "give a time with its unit"),
        ("pams-server token create --ttl 0s", "give a time with its unit"),
        ("pams-server token create --role admin", "[possible values: agent, server]"),
        ("pams-server token create --advertise home", "expected host:port"),
        ("pams-server peers --liveness dead", "[possible values: live, overdue, gone, left]"),
        ("pams-server peers --limit 0", "0 is not in 1.."),
        ("pams-server probe alpha --within 20s", "100ms to 10s"),
        ("pams-server forget alpha", "invalid value 'alpha'"),
    ] {
        let told = Args::try_parse_from(line.split(' ')).unwrap_err().to_string();
        assert!(told.contains(expected), "{line}: {told}");
    }
    let misuse = |line: &str| args(line).plan().unwrap_err().to_string();
    assert!(misuse("pams-server --http off peers").starts_with("flags of the daemon do not go with this subcommand"));
    assert!(misuse("pams-server check-config --ready-json").starts_with("flags of the daemon"));
    assert!(misuse("pams-server --advertise home").starts_with("--advertise"));
    assert!(misuse("pams-server --domain a_b").starts_with("--domain: "));
    assert!(misuse("pams-server --join x").starts_with("--join: not a join token"));
}

#[test]
fn flags_set_their_keys_before_and_after_the_subcommand() {
    let line =
        "pams-server --name n --domain example.org --advertise a:1,b:2 --listen 127.0.0.1:0 --http off --data-dir /d";
    let Ok(Plan::Run { config, join: None, ready_json: false, read: _ }) = args(line).plan() else { panic!("{line}") };
    assert_eq!((config.label().as_str(), config.domain.as_deref()), ("n", Some("example.org")));
    assert_eq!(config.advertise.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:2"]);
    assert_eq!((config.listen.port(), config.http), (0, crate::config::Http::Off));
    for line in [
        "pams-server --data-dir /d peers",
        "pams-server peers --data-dir /d",
        "pams-server --data-dir /x peers --data-dir /d",
    ] {
        let Ok(Plan::Ask { config, .. }) = args(line).plan() else { panic!("{line}") };
        assert_eq!(config.admin_socket(), std::path::Path::new("/d/admin.sock"), "{line}");
    }
}
