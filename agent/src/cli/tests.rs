//! What people see, from arguments to text: against a scripted agent on a real socket.

use clap::Parser;
use pams_shared::config::exit;
use serde_json::Value;

use super::{ask::Client as Asking, *};
use crate::{sample, shell::local::front::Front};

fn args(line: &str) -> Args {
    Args::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{e}"))
}

fn plan(line: &str) -> Result<Plan, Misuse> {
    args(line).plan()
}

/// Exit code and text of a command that is carried out.
async fn run(front: &Front, line: &str) -> Result<(u8, String), Fault> {
    let Ok(Plan::Ask { form, ask, .. }) = plan(line) else { panic!("{line} asks nothing") };
    let mut out = Vec::new();
    let client = Asking { control: front.control(), form, colour: false };
    let code = client.answer(ask, std::future::pending(), &mut out).await?;
    Ok((code, String::from_utf8(out).unwrap()))
}

async fn text(front: &Front, line: &str) -> String {
    let (code, text) = run(front, line).await.unwrap();
    assert_eq!(code, 0, "{text}");
    text
}

async fn json(front: &Front, line: &str) -> Value {
    serde_json::from_str(&text(front, &format!("{line} --output json")).await).unwrap()
}

#[tokio::test]
async fn status_shows_the_agent_and_its_ledger() {
    let front = Front::new().await;
    let shown = text(&front, "pams-agent status").await;
    let expected = "\
alpha is a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1, pams-agent 0.2.0, epoch 3, up 0s

Presence     away (lunch), since 2023-11-14T22:13:20Z
Home         connected with 51515151-5151-5151-5151-515151515151, which sees this agent at 198.51.100.7:7421
Servers      3 known; the home was chosen as the one before fell silent
Reports      5 records wait for the home, 0 were dropped
Buddies      4: 1 live, 1 gone, 1 left, 1 not judged yet
Connections  1

Transactions   Opened  Good  Aborted  Failed  Unknown  In flight  Late  Duplicate
presence.ping      10     6        2       1        0          1     1          0
pams.report         2     2        0       0        0          0     0          0
";
    assert_eq!(shown, expected, "\n{shown}");
    assert_eq!(json(&front, "pams-agent status").await["ledgers"][0]["in_flight"], 1);
}

#[tokio::test]
async fn status_tells_of_the_files_where_there_are_any() {
    let front = Front::new().await;
    let mut status = json(&front, "pams-agent status").await;
    for (failing, expected) in [
        (false, "\nCSV files    7 records written\n"),
        (true, "\nCSV files    7 records written; the disk does not take them now, the log says why\n"),
    ] {
        let progress = crate::consumer::csv::Progress { written: 7, failing };
        status["csv"] = serde_json::to_value(progress).unwrap();
        let shown = show::status(&serde_json::from_value(status.clone()).unwrap(), false);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[tokio::test]
async fn a_status_is_published() {
    let front = Front::new().await;
    let shown = text(&front, "pams-agent status busy --note lunch").await;
    assert_eq!(shown, "published: busy (lunch), since 2023-11-14T22:13:20Z\n");
    let told = json(&front, "pams-agent status offline").await;
    assert_eq!((&told["status"], told.get("note")), (&"offline".into(), None));
}

#[tokio::test]
async fn buddies_are_aligned_and_only_those_that_answer_have_times() {
    let front = Front::new().await;
    let shown = text(&front, "pams-agent buddies").await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 5, "{shown}");
    assert!(lines[1].contains("  live      1h 2m 5s    85.1   0.200     84.0  0.800  0.100  yes    yes"), "{shown}");
    assert!(lines[2].contains("  gone      1h 2m 5s       -       -        -      -      -  no     no"), "{shown}");
    assert!(lines[2].ends_with("no answer: sent, and no answer came in time"), "{shown}");
    assert!(lines[4].contains("  -       -         -              -"), "{shown}");
    assert_eq!(json(&front, "pams-agent buddies").await["buddies"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_peer_is_fetched_by_id_or_name() {
    let front = Front::new().await;
    let direct = text(&front, "pams-agent fetch b2").await;
    assert!(direct.contains("\nTold by       the peer itself, just now\n"), "{direct}");
    assert!(direct.contains("\nPresence      busy (in a call), since 2023-11-14T22:13:20Z\n"), "{direct}");
    let from_home = text(&front, &format!("pams-agent fetch {}", sample::peer(5))).await;
    assert!(
        from_home.contains("Told by       its home, 2s old; the peer itself: no answer: told why\n"),
        "{from_home}"
    );
    let fault = run(&front, "pams-agent fetch nobody").await.unwrap_err();
    assert_eq!(fault.to_string(), "\"nobody\" is neither a peer id nor the name of a buddy; buddies: b2, b3, b4, b5");
    assert_eq!(fault.exit_code(), exit::USAGE);
}

#[tokio::test(start_paused = true)]
async fn ping_prints_each_split_and_statistics() {
    let front = Front::new().await;
    let shown = text(&front, "pams-agent ping b2 -c 2").await;
    let expected = "\
PING b2 (02020202-0202-0202-0202-020202020202)
pong from b2: seq=1 total=85.1 ms (queued 0.200, network 84.0, hold 0.800, wait 0.100) status=busy
pong from b2: seq=2 total=85.1 ms (queued 0.200, network 84.0, hold 0.800, wait 0.100) status=busy

--- b2 ping statistics ---
2 sent, 2 answered, 0.0 % lost
total   min/p50/p99/max = 85.1/85.1/85.1/85.1 ms
network min/p50/p99/max = 84.0/84.0/84.0/84.0 ms
";
    assert_eq!(shown, expected, "\n{shown}");
}

#[tokio::test(start_paused = true)]
async fn ping_says_why_there_is_no_answer() {
    let front = Front::new().await;
    let (code, shown) = run(&front, &format!("pams-agent ping {} -c 1", sample::peer(6))).await.unwrap();
    assert_eq!(code, 1);
    assert!(shown.contains(": seq=1 certificate: told why\n"), "{shown}");
    assert!(shown.ends_with("1 sent, 0 answered, 100.0 % lost\nlost: 1 for certificate\n"), "{shown}");

    let (code, shown) = run(&front, "pams-agent ping b4 -c 2 -i 0.01 -o json").await.unwrap();
    let lines: Vec<Value> = shown.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((code, &lines[0]["reason"], &lines[1]["seq"]), (1, &"not_sent".into(), &2.into()));
    assert_eq!(lines[2]["statistics"]["unanswered"]["not_sent"], 2);
    assert_eq!(lines[2]["statistics"]["total_ms"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_ping_gives_its_statistics_and_books_no_loss() {
    let front = Front::new().await;
    let line = format!("pams-agent ping {}", sample::peer(9));
    let Ok(Plan::Ask { form, ask, .. }) = plan(&line) else { panic!("asks nothing") };
    let mut out = Vec::new();
    let client = Asking { control: front.control(), form, colour: false };
    let interrupted = tokio::time::sleep(std::time::Duration::from_millis(2_500));
    let code = client.answer(ask, interrupted, &mut out).await.unwrap();
    let shown = String::from_utf8(out).unwrap();
    assert!(shown.ends_with("3 sent, 0 answered, 3 in flight\n"), "{shown}");
    assert_eq!(code, 1);
}

#[tokio::test]
async fn without_an_agent_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let fault = ask(path, Form::Table, Ask::Buddies { client: Client { socket: None, output: Form::Table } }).await;
    let fault = fault.unwrap_err();
    assert!(fault.to_string().starts_with("no pams-agent listens on "), "{fault}");
    assert_eq!(fault.exit_code(), exit::UNAVAILABLE);
}

#[test]
fn colour_widens_no_column_and_strangers_cannot_paint() {
    let buddy = |name: &str, liveness: &str| {
        let text = format!(
            r#"{{"peer":"{}","name":{},"liveness":"{liveness}","liveness_s":1,"status":null,"hears":false,"is_heard":false}}"#,
            sample::peer(1),
            Value::from(name)
        );
        serde_json::from_str::<read::Buddy>(&text).unwrap()
    };
    let list = [buddy("a\u{1b}[31m\u{2063}b\u{202e}", "gone"), buddy("c", "left")];
    let painted = show::buddies(&list, true);
    assert!(painted.contains("\x1b[31mgone\x1b[0m"), "{painted:?}");
    assert_eq!(painted.matches('\x1b').count(), 2, "{painted:?}");
    let plain = show::buddies(&list, false);
    assert_eq!(plain, painted.replace("\x1b[31m", "").replace("\x1b[0m", ""));
    let column = |line: &str| line.chars().collect::<Vec<_>>().windows(4).position(|w| w == ['-', ' ', ' ', ' ']);
    let lines: Vec<&str> = plain.lines().collect();
    assert_eq!(column(lines[1]), column(lines[2]), "{plain}");
}

#[test]
fn flags_set_keys_and_add_to_lists() {
    let id = sample::peer(2);
    let line = format!(
        "pams-agent --name x --http off --buddy {id}@beta:1 --buddy {} --overlay a/b --socket /tmp/s --ready-json",
        sample::peer(3)
    );
    let Ok(Plan::Run { config, read: _, join, ready_json }) = plan(&line) else { panic!("{:?}", plan(&line)) };
    assert_eq!((config.label().as_str(), config.http, ready_json, join), ("x", crate::config::Http::Off, true, None));
    assert_eq!(config.buddy.iter().map(|b| b.id).collect::<Vec<_>>(), [id, sample::peer(3)]);
    assert_eq!((config.overlays.as_slice(), config.socket_path()), (&["a/b".to_owned()][..], PathBuf::from("/tmp/s")));
}

#[test]
fn each_misuse_has_its_message() {
    let id = sample::peer(2);
    for (line, expected) in [
        ("pams-agent --name  --http off".to_owned(), "--name: \"\" is no name; give 1 to 128 bytes"),
        (
            format!("pams-agent --buddy {id} --buddy {id}"),
            "--buddy: 02020202-0202-0202-0202-020202020202 is there twice",
        ),
        ("pams-agent --overlay a//b".to_owned(), "--overlay: \"a//b\" has an empty part"),
        ("pams-agent --http localhost".to_owned(), "--http: \"localhost\" is no address; give ip:port"),
        ("pams-agent --join pams-join-2.x".to_owned(), "--join: this join token is of another version"),
        ("pams-agent --name x check-config --listen 1".to_owned(), "--listen: invalid socket address syntax"),
        ("pams-agent --name x buddies".to_owned(), "flags of the daemon do not go with this subcommand"),
        ("pams-agent check-config --ready-json".to_owned(), "flags of the daemon do not go with this subcommand"),
    ] {
        let told = plan(&line).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{line}\n  told: {told}");
    }
    for line in
        ["pams-agent status asleep", "pams-agent status --note x", "pams-agent ping b -c 0", "pams-agent ping b -i 0"]
    {
        assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

#[test]
fn the_socket_is_that_of_the_subcommand_else_of_the_top() {
    for (line, expected) in [
        ("pams-agent status --socket /a", "/a"),
        ("pams-agent --socket /b status", "/b"),
        ("pams-agent --socket /b status --socket /a", "/a"),
    ] {
        let Ok(Plan::Ask { socket, .. }) = plan(line) else { panic!("{line}") };
        assert_eq!(socket, PathBuf::from(expected));
    }
}

#[test]
fn what_is_printed_is_whole() {
    let Ok(Plan::Print(text)) = plan("pams-agent --list-metrics") else { panic!() };
    assert!(text.contains("pams_agent_stage_seconds ") && text.contains("{kind, stage}"), "{text}");
    let Ok(Plan::Print(text)) = plan("pams-agent --print-config --name x") else { panic!() };
    assert!(text.contains("\nname = \"x\"\n"), "{text}");
    let Ok(Plan::Print(text)) = plan("pams-agent check-config --socket /tmp/s") else { panic!() };
    assert_eq!(text, "the configuration is good; the control socket is /tmp/s\n");
}

#[test]
fn the_arguments_are_consistent() {
    <Args as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn the_columns_of_the_files_are_listed_by_the_daemon_only() {
    let Ok(Plan::Print(text)) = plan("pams-agent --list-columns") else { panic!() };
    assert!(text.starts_with("opened_ms ") && text.contains("\nremote_hold_ns  Of it: "), "{text}");
    assert!(matches!(plan("pams-agent --list-columns status"), Err(Misuse::DaemonFlags)));
    assert!(matches!(plan("pams-agent check-config --list-columns"), Err(Misuse::DaemonFlags)));
}

#[tokio::test]
async fn subscribe_prints_each_change_and_ends_what_it_began() {
    let front = Front::new().await;
    let Ok(Plan::Ask { form, ask, .. }) = plan(&format!("pams-agent subscribe {}", sample::peer(5))) else { panic!() };
    let client = Asking { control: front.control(), form, colour: false };
    // Ctrl-C, once both changes are there.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut out = Until { text: Vec::new(), lines: 3, stop: Some(stop) };
    let code = client.answer(ask, async { drop(stopped.await) }, &mut out).await.unwrap();
    let shown = String::from_utf8(out.text).unwrap();
    let name = sample::peer(5);
    let expected = format!(
        "\
SUBSCRIBE {name}: told by the peer: yes; by the home: no (refused: too many)
2023-11-14T22:13:20Z {name}: busy (in a call); told by the peer itself
2023-11-14T22:13:20Z {name}: busy (in a call), gone; told by the home, which heard it 2s ago; 3 changes before it were not told
"
    );
    assert_eq!((code, shown.as_str()), (0, expected.as_str()), "\n{shown}");
    assert_eq!(front.get("/v1/subscriptions").await["subscriptions"].as_array().unwrap().len(), 1);
}

/// Output that ends the program after so many lines.
struct Until {
    text: Vec<u8>,
    lines: usize,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl std::io::Write for Until {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if self.text.iter().filter(|b| **b == b'\n').count() >= self.lines {
            drop(self.stop.take());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn subscriptions_are_shown_with_who_tells() {
    let front = Front::new().await;
    let shown = text(&front, "pams-agent subscriptions").await;
    let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    let told = ["configuration", "busy", "-", "peer", "2s", "ago", "active", "refused", "(refused:", "too", "many)"];
    assert_eq!((row[0], &row[2..]), ("b2", &told[..]), "{shown}");
    assert_eq!(show::subscriptions(&[], false).lines().count(), 1);
}

#[tokio::test]
async fn subscribers_are_shown_with_the_bounds_of_when_they_were_told() {
    let front = Front::new().await;
    let shown = text(&front, "pams-agent subscribers").await;
    assert!(
        shown.lines().nth(1).unwrap().ends_with("active  1h 2m 5s ago  2s ago        5.00 to 48.0       50.0"),
        "{shown}"
    );
}
