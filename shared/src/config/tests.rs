//! One bad file, variable and flag per mistake, with the message that the operator reads.

use std::{fs, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use toml::Table;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Buddy {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

config! {
    /// A daemon for tests.
    struct Sample {
        /// Where it listens.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 4433)),
        /// What it is called, such as "café \ 2".
        ///
        /// A label only.
        name: String = "a \"b\" \\ é".to_owned(),
        /// Where it reports.
        home: Option<String> = None => "pams.example.org:4433".to_owned(),
        /// Life of a thing.
        life: Option<Duration> = None => Duration::from_secs(86_400),
        /// Share, from 0 to 1.
        share: f64 = 0.5,
        /// Overlays.
        overlays: Vec<String> = vec!["a/b".to_owned()],
        /// Whom it watches.
        [[buddy]]: Vec<Buddy> => vec![Buddy { id: "b1".to_owned(), name: Some("x".to_owned()) }],
        /// How it pings.
        [ping]: Ping,
    }
}

config! {
    /// Pings.
    struct Ping {
        /// Time between two pings.
        interval: Duration = Duration::from_secs(10),
        /// In flight at most.
        pool: u16 = 64,
    }
}

impl Daemon for Sample {
    const ENV_PREFIX: &'static str = "PAMS_TEST";
    const OTHER_VARIABLES: &'static [&'static str] = &["SOCKET"];
    const FIXED: &'static [&'static str] = &["listen", "home"];

    fn check(&self) -> Result<(), Flaw> {
        if self.ping.interval < Duration::from_millis(100) {
            return Err(Flaw::new("ping.interval", "is too short", "give 100ms or more"));
        }
        Ok(())
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Loads `file` and tells the error with the folder's name taken out.
fn load_text(file: &str, pairs: &[(&str, &str)], overrides: &str) -> Result<Sample, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pams.toml");
    fs::write(&path, file).unwrap();
    let overrides: Table = overrides.parse().unwrap();
    load(Some(&path), env(pairs), overrides)
        .map_err(|e: ConfigError| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn the_printed_file_is_complete_commented_and_reads_as_the_default() {
    let text = round_trip::<Sample>().unwrap();
    for part in [
        "# A daemon for tests.\n",
        "PAMS_TEST_PING_INTERVAL",
        "# Where it listens.\nlisten = \"127.0.0.1:4433\"\n",
        "#home = \"pams.example.org:4433\"\n",
        "#life = \"1day\"\n",
        "# How it pings.\n[ping]\n",
        "interval = \"10s\"\n",
        "# Whom it watches.\n#[[buddy]]\n#id = \"b1\"\n",
        "# What it is called, such as \"café \\ 2\".\n#\n# A label only.\n",
    ] {
        assert!(text.contains(part), "{part}\nis missing in\n{text}");
    }
}

#[test]
fn what_is_in_force_prints_as_itself() {
    let given = load_text("home = \"h\"\n[[buddy]]\nid = \"b\"\n[ping]\ninterval = \"90s\"\n", &[], "").unwrap();
    let text = print(&given).unwrap();
    assert!(text.contains("\nhome = \"h\"\n") && text.contains("\n[[buddy]]\nid = \"b\"\n"), "{text}");
    assert_eq!(load_text(&text, &[], "").unwrap(), given);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let file = "name = \"file\"\nhome = \"file\"\n[ping]\ninterval = \"1s\"\npool = 1\n";
    let pairs = [("PAMS_TEST_NAME", "env"), ("PAMS_TEST_PING_INTERVAL", "2s"), ("PAMS_TEST_OVERLAYS", "[\"x\"]")];
    let config = load_text(file, &pairs, "ping.interval = \"3s\"").unwrap();
    assert_eq!((config.name.as_str(), config.home.as_deref()), ("env", Some("file")));
    assert_eq!((config.ping.interval, config.ping.pool), (Duration::from_secs(3), 1));
    assert_eq!(config.overlays, ["x"]);
    assert_eq!(load::<Sample>(None, env(&[]), Table::new()).unwrap(), Sample::default());
}

#[test]
fn a_variable_is_read_as_toml_and_else_as_a_string() {
    let config = load_text(
        "",
        &[
            ("PAMS_TEST_NAME", "123"),
            ("PAMS_TEST_HOME", "true"),
            ("PAMS_TEST_PING_POOL", "7"),
            ("PAMS_TEST_LISTEN", "[::1]:9"),
            ("PAMS_TEST_BUDDY", "[{ id = \"b\" }]"),
        ],
        "",
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.home.as_deref(), config.ping.pool), ("123", Some("true"), 7));
    assert_eq!(config.listen, "[::1]:9".parse().unwrap());
    assert_eq!(config.buddy, [Buddy { id: "b".to_owned(), name: None }]);
}

#[test]
fn variables_of_clients_of_service_links_and_empty_ones_are_left_alone() {
    let pairs = [
        ("PAMS_TEST_SOCKET", "/s"),
        ("PAMS_TEST_CONFIG", "/c"),
        ("PAMS_TEST_PORT", "tcp://10.0.0.1:9"),
        ("PAMS_TEST_PORT_9_TCP_ADDR", "10.0.0.1"),
        ("PAMS_TEST_SERVICE_HOST", "10.0.0.1"),
        ("PAMS_TEST_SERVICE_PORT_QUIC", "9"),
        ("PAMS_TEST_LISTEN", ""),
        ("PAMS_TESTING", "1"),
    ];
    assert_eq!(load_text("", &pairs, "").unwrap(), Sample::default());
}

#[test]
fn each_mistake_in_a_file_has_its_message() {
    for (file, expected) in [
        ("listen = \n", "pams.toml:1:10: "),
        ("\nname = unquoted\n", "pams.toml:2:8: string values must be quoted, expected literal string"),
        ("name = \"a\"\nname = \"b\"\n", "pams.toml:2:1: duplicate key"),
        ("lsiten = \"[::]:1\"\n", "pams.toml:1:1: unknown key `lsiten`; did you mean `listen`?"),
        ("interval = \"1s\"\n", "pams.toml:1:1: unknown key `interval`; did you mean `ping.interval`?"),
        (
            "[ping]\n  intervall = \"1s\"\n",
            "pams.toml:2:3: unknown key `ping.intervall`; did you mean `ping.interval`?",
        ),
        ("[ping]\ndeadline = \"1s\"\n", "pams.toml:2:1: unknown key `ping.deadline`; known here: interval, pool"),
        (
            "[[buddy]]\nid = \"b\"\nnmae = 1\n",
            "pams.toml:3:1: unknown key `buddy[0].nmae`; did you mean `buddy[0].name`?",
        ),
        ("[[buddy]]\nname = \"b\"\n", "pams.toml:1:1: buddy[0]: missing field `id`"),
        ("[pings]\n", "pams.toml:1:2: unknown key `pings`; did you mean `ping`?"),
        ("listen = \"localhost\"\n", "pams.toml:1:10: listen: invalid socket address syntax"),
        ("[ping]\npool = 70000\n", "pams.toml:2:8: ping.pool: invalid value: integer `70000`, expected u16"),
        (
            "[ping]\ninterval = 10\n",
            "pams.toml:2:12: ping.interval: invalid type: integer `10`, expected a duration with its unit, such as \"10s\" or \"500ms\"",
        ),
        (
            "life = \"10\"\n",
            "pams.toml:1:8: life: invalid value: string \"10\", expected a duration with its unit, such as \"10s\" or \"500ms\"",
        ),
        (
            "name = \"é\"\n[ping]\ninterval = \"1ms\"\n",
            "pams.toml:3:12: ping.interval: is too short; give 100ms or more",
        ),
    ] {
        let told = load_text(file, &[], "").unwrap_err();
        assert!(told.starts_with(expected), "{file}\n  told:     {told}\n  expected: {expected}");
        assert!(!told.contains('\n'), "{told}");
    }
}

#[test]
fn a_mistake_in_a_variable_or_flag_names_it() {
    for (pairs, overrides, expected) in [
        (
            &[("PAMS_TEST_LISTN", "1")][..],
            "",
            "environment variable PAMS_TEST_LISTN: sets no known key; did you mean PAMS_TEST_LISTEN?",
        ),
        (&[("PAMS_TEST_QQ", "1")], "", "environment variable PAMS_TEST_QQ: sets no known key"),
        (
            &[("PAMS_TEST_PING_POOL", "many")],
            "",
            "environment variable PAMS_TEST_PING_POOL: invalid type: string \"many\", expected u16",
        ),
        (
            &[("PAMS_TEST_BUDDY", "[{ nam = 1 }]")],
            "",
            "environment variable PAMS_TEST_BUDDY: unknown key `buddy[0].nam`; did you mean `buddy[0].name`?",
        ),
        (
            &[("PAMS_TEST_PING_INTERVAL", "0s")],
            "",
            "environment variable PAMS_TEST_PING_INTERVAL: is too short; give 100ms or more",
        ),
        (
            &[],
            "listen = \"x\"",
            "--listen: invalid socket address syntax; give an IP address and a port, as in \"[::]:7421\" or \"127.0.0.1:0\"",
        ),
        (
            &[("PAMS_TEST_PING_INTERVAL", "9s")],
            "ping.interval = \"1ms\"",
            "--ping-interval: is too short; give 100ms or more",
        ),
    ] {
        assert_eq!(load_text("", pairs, overrides).unwrap_err(), expected);
    }
}

#[test]
fn a_file_that_is_not_there_too_large_or_not_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let told =
        |name: &str| load::<Sample>(Some(&folder.path().join(name)), env(&[]), Table::new()).unwrap_err().to_string();
    fs::write(folder.path().join("large"), vec![b'\n'; FILE_BYTES_MAX as usize + 1]).unwrap();
    fs::write(folder.path().join("binary"), [b'a', 0xff]).unwrap();
    assert!(told("none").contains("cannot read"));
    assert!(told("large").ends_with("larger than 1048576 bytes; is it a configuration file?"));
    assert!(told("binary").ends_with("byte 1 is not utf-8; save the file as utf-8"));
}

#[test]
fn flags_become_keys() {
    #[derive(clap::Parser)]
    struct Args {
        #[command(flatten)]
        common: CommonArgs,
    }
    let args = <Args as clap::Parser>::try_parse_from(["x", "--listen", "[::1]:0", "--log-format=json"]).unwrap();
    let mut overrides = args.common.overrides();
    set(&mut overrides, "ping.interval", "5s");
    assert_eq!(
        overrides,
        "listen = \"[::1]:0\"\nlog_format = \"json\"\nping.interval = \"5s\"".parse::<Table>().unwrap()
    );
}

#[test]
fn what_is_read_again_takes_effect_but_for_what_is_fixed() {
    let running = Sample::default();
    let wanted = load_text(
        "listen = \"127.0.0.1:1\"\nhome = \"h:1\"\n[ping]\ninterval = \"3s\"\n[[buddy]]\nid = \"b\"\n",
        &[],
        "name = \"new\"",
    )
    .unwrap();
    let (now, changes) = reconcile(&running, &wanted).unwrap();
    let expected = Sample { listen: running.listen, home: None, ..wanted.clone() };
    assert_eq!(now, expected);
    assert_eq!(changes.keys(), ("name, buddy, ping.interval".into(), "listen, home".into()));
    let change = |key: &str| {
        let all = changes.changed.iter().chain(&changes.restart);
        let change = all.clone().find(|c| c.key == key).unwrap();
        (change.from.as_deref(), change.to.as_deref())
    };
    assert_eq!(change("ping.interval"), (Some("\"10s\""), Some("\"3s\"")));
    assert_eq!(change("buddy"), (Some("[]"), Some("1 entries")));
    assert_eq!(change("home"), (None, Some("\"h:1\"")));
    // What waits for a restart is told each time, what is in force once.
    let (again, changes) = reconcile(&now, &wanted).unwrap();
    assert_eq!((again, changes.keys()), (expected, (String::new(), "listen, home".into())));
    assert!(reconcile(&now, &now).unwrap().1.is_empty());
}
