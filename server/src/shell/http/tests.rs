//! Over real connections, TCP and the admin socket.

use axum::http::StatusCode;
use pams_shared::{catalogue::compare, control::ControlError, id::PeerId};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{
    front::{STRANGER, serve, usual},
    *,
};
use crate::{
    core::{Input, PamsConfig},
    metrics::CATALOGUE,
    sample,
};

#[tokio::test]
async fn metrics_are_those_of_the_catalogue() {
    let served = usual().await;
    let got = served.get("/metrics").await;
    assert_eq!((got.status, got.headers["content-type"].as_str()), (StatusCode::OK, pams_shared::expo::CONTENT_TYPE));
    let scraped = pams_shared::expo::parse(&got.text).unwrap();
    assert_eq!(compare(CATALOGUE, &scraped), Vec::<String>::new());
    assert_eq!(scraped.value("pams_server_peers", &[("liveness", "live")]), Some(2.0));
}

#[tokio::test]
async fn peers_come_by_page_and_by_filter() {
    let served = usual().await;
    let names = async |query: &str| {
        let page = served.get(&format!("/api/v1/peers{query}")).await.json();
        let names: Vec<_> =
            page["peers"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), page["next"].as_str().map(str::to_owned))
    };
    let (first, next) = names("?limit=2").await;
    assert_eq!((first.as_str(), next.as_deref()), ("alpha beta", Some(sample::BETA.to_string().as_str())));
    let (rest, end) = names(&format!("?limit=2&after={}", next.unwrap())).await;
    assert_eq!((rest, end), (format!("gamma {}", sample::DELTA_NAME), None));
    for (query, expected) in [
        ("?liveness=live", "alpha beta"),
        ("?status=busy", "alpha"),
        ("?overlay=games", "alpha beta gamma"),
        ("?overlay=games%2Fgo", "beta"),
        ("?name=AL", "alpha"),
        ("?name=a&liveness=left", "gamma"),
        ("?name=nobody", ""),
    ] {
        assert_eq!(names(query).await.0, expected, "{query}");
    }
}

#[tokio::test]
async fn a_peer_is_told_with_all_that_is_known() {
    let served = usual().await;
    let alpha = served.get(&format!("/api/v1/peers/{}", sample::ALPHA)).await.json();
    assert_eq!((&alpha["name"], &alpha["presence"]["note"]), (&json!("alpha"), &json!("at lunch")));
    assert_eq!(alpha["ledger"]["presence.ping"]["opened"], 5);
    assert_eq!(alpha["records"].as_array().unwrap().len(), 2);
    assert_eq!(alpha["records"][0]["stages_ns"]["network"], 84_000_000);
    let beta = served.get(&format!("/api/v1/peers/{}", sample::BETA)).await.json();
    assert_eq!((&beta["home"]["liveness"], &beta["home"]["because"]), (&json!("live"), &json!("heard")));
    assert_eq!(beta["watchers"][0]["liveness"], "overdue", "its watcher sees it otherwise");

    let overlays = served.get("/api/v1/overlays").await.json();
    let games = json!({"name": "games", "live": 2, "overdue": 0, "gone": 0, "left": 1, "watched": 2, "watching": 0});
    assert_eq!((&overlays["overlays"][1], &overlays["watchers"]), (&games, &json!(10)));
    let events = served.get("/api/v1/events?limit=2").await.json();
    let what: Vec<_> = events["events"].as_array().unwrap().iter().map(|e| (&e["name"], &e["what"])).collect();
    assert_eq!(what, [(&json!("gamma"), &json!("came")), (&json!("gamma"), &json!("left"))]);
    let about: About = served.admin.get("/api/v1/server").await.unwrap();
    assert_eq!((about.generation, about.http), (3, Some(served.address)));
}

#[tokio::test]
async fn prometheus_is_told_of_everybody_who_has_not_left() {
    let served = usual().await;
    let got = served.get("/api/v1/sd/prometheus").await;
    assert_eq!((got.status, got.headers["content-type"].as_str()), (StatusCode::OK, "application/json"));
    let groups = got.json();
    let names: Vec<_> =
        groups.as_array().unwrap().iter().map(|g| g["labels"]["__meta_pams_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alpha", "beta", sample::DELTA_NAME]);
    let alpha = &groups[0];
    assert_eq!(alpha["targets"], json!(["192.0.2.161:7481"]), "the address that we see, the port of its metrics");
    assert_eq!(alpha["labels"]["__meta_pams_overlays"], ",games/chess,");
    assert_eq!(alpha["labels"]["__meta_pams_status"], "busy");
    assert_eq!(alpha["labels"]["__meta_pams_peer_id"], sample::ALPHA.to_string());
}

#[tokio::test]
async fn long_lists_come_in_pieces_and_whole() {
    for n in [0, 1, 249, 250, 251, 1_000] {
        let served = serve(sample::crowd(n), sample::now()).await;
        let got = served.get("/api/v1/sd/prometheus").await.json();
        let ids: std::collections::BTreeSet<_> =
            got.as_array().unwrap().iter().map(|g| g["labels"]["__meta_pams_peer_id"].as_str().unwrap()).collect();
        assert_eq!((ids.len() as u64, got.as_array().unwrap().len() as u64), (n, n));
    }
}

#[tokio::test]
async fn a_partial_list_is_refused_after_the_start_and_at_the_end() {
    let served = serve(sample::pams(), sample::at(7_250)).await;
    for path in ["/readyz", "/api/v1/sd/prometheus"] {
        let got = served.get(path).await;
        assert_eq!((got.status, got.headers["retry-after"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, "2"), "{path}");
        assert_eq!(got.problem().error, "just started: agents have 1s 800ms more to come back");
    }
    assert_eq!(served.get("/healthz").await.text, "ok\n", "healthy, though not ready");
    let mut pams = sample::pams();
    pams.handle(sample::now(), Input::Drain);
    let served = serve(pams, sample::now()).await;
    assert_eq!(served.get("/readyz").await.problem().error, "the server is stopping");
    assert_eq!(usual().await.get("/readyz").await.text, "ready\n");
}

#[tokio::test]
async fn each_mistake_is_told_with_what_to_do() {
    let served = usual().await;
    let unknown = format!("/api/v1/peers/{STRANGER}");
    for (path, status, error) in [
        ("/api/v1/peers?limit=0", 400, "limit 0 is out of bounds"),
        ("/api/v1/peers?limit=1001", 400, "limit 1001 is out of bounds"),
        ("/api/v1/peers?limit=x", 400, "the query cannot be used: limit: invalid digit found in string"),
        (
            "/api/v1/peers?livenes=live",
            400,
            "the query cannot be used: livenes: unknown field `livenes`, expected one of",
        ),
        (
            "/api/v1/peers?liveness=dead",
            400,
            "the query cannot be used: liveness: unknown variant `dead`, expected one of",
        ),
        ("/api/v1/peers?after=b2", 400, "the query cannot be used: after:"),
        ("/api/v1/overlays?x=1", 400, "the query cannot be used: x: unknown field `x`"),
        ("/api/v1/sd/prometheus?x=1", 400, "the query cannot be used: x: unknown field `x`"),
        ("/api/v1/peers/beta", 400, "\"beta\" is no peer id"),
        (&unknown, 404, &format!("peer {STRANGER} is not known here")),
        ("/api/v2/peers", 404, "nothing is at /api/v2/peers"),
    ] {
        let got = served.get(path).await;
        let problem = got.problem();
        assert_eq!(got.status.as_u16(), status, "{path}: {problem:?}");
        assert!(problem.error.starts_with(error) && problem.hint.is_some(), "{path}: {problem:?}");
    }
    let got = served.ask(Method::POST, "/api/v1/peers").await;
    assert_eq!(
        (got.status, got.problem().error.as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "POST cannot be done with /api/v1/peers")
    );
    assert!(served.get("/").await.text.contains("/api/v1/sd/prometheus"));
}

#[tokio::test]
async fn only_the_admin_socket_forgets() {
    let served = usual().await;
    let path = |peer: PeerId| format!("/admin/v1/peers/{peer}");
    let over_tcp = served.ask(Method::DELETE, &path(sample::GAMMA)).await;
    assert_eq!(over_tcp.status, StatusCode::NOT_FOUND);
    let forget = async |peer| served.admin.delete::<ForgetAnswer>(&path(peer)).await;
    let refused = async |peer| match forget(peer).await {
        Err(ControlError::Refused { status, problem }) => (status, problem.error),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(sample::ALPHA).await, (409, format!("peer {} is here", sample::ALPHA)));
    let (peer, entry, binding) = (sample::GAMMA, true, true);
    assert_eq!(forget(peer).await.unwrap(), ForgetAnswer { peer, entry, binding });
    assert_eq!(refused(peer).await.0, 404);
    let (peer, entry) = (STRANGER, false);
    assert_eq!(forget(peer).await.unwrap(), ForgetAnswer { peer, entry, binding }, "known by its key only");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(served.dir.path().join("admin.sock")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_probe_is_for_the_operator_unless_everybody_may() {
    let served = usual().await;
    let path = |peer: PeerId, query: &str| format!("/api/v1/peers/{peer}/probe{query}");
    let over_tcp = served.ask(Method::POST, &path(sample::ALPHA, "")).await;
    let problem = over_tcp.problem();
    assert_eq!((over_tcp.status.as_u16(), problem.reason.as_deref()), (403, Some("forbidden")));
    assert!(problem.hint.unwrap().contains("probe.http = true"));
    let probe = async |peer, query: &str| served.admin.post::<Value>(&path(peer, query), &Value::Null).await;
    let alpha = probe(sample::ALPHA, "?within=300ms").await.unwrap();
    let (server, by) = (&alpha["findings"][0]["by_role"], &alpha["findings"][0]["outcome"]);
    assert_eq!((&alpha["verdict"], server, by), (&json!("reachable"), &json!("server"), &json!("good")));
    assert_eq!((&alpha["status"], &alpha["liveness"], &alpha["took_ms"]), (&json!("busy"), &json!("live"), &json!(0)));
    assert_eq!(probe(sample::GAMMA, "").await.unwrap()["text"], "it left 300ms ago; its agent said goodbye");
    let unknown = probe(STRANGER, "").await.unwrap();
    assert_eq!((&unknown["verdict"], unknown.get("liveness")), (&json!("unknown"), None));
    for within in ["99ms", "11s", "2", ""] {
        match probe(sample::ALPHA, &format!("?within={within}")).await {
            Err(ControlError::Refused { status: 400, problem }) => {
                assert!(problem.hint.unwrap().contains("100ms to 10s"));
            }
            other => panic!("{within}: {other:?}"),
        }
    }
    for _ in 0..4 {
        probe(sample::ALPHA, "").await.unwrap();
    }
    match probe(sample::ALPHA, "").await {
        Err(ControlError::Refused { status, problem }) => {
            assert_eq!((status, problem.reason.as_deref()), (429, Some("target")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn everybody_may_probe_where_that_is_configured_and_is_told_when_to_ask_again() {
    let mut pams = sample::pams();
    let config = PamsConfig { probe_http: true, ..PamsConfig::default() };
    pams.handle(sample::now(), Input::Reconfigured(Box::new(config)));
    let served = serve(pams, sample::now()).await;
    let path = format!("/api/v1/peers/{}/probe", sample::BETA);
    for _ in 0..5 {
        assert_eq!(served.ask(Method::POST, &path).await.json()["verdict"], "reachable");
    }
    let refused = served.ask(Method::POST, &path).await;
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].as_str()), (429, "1"));
}

#[tokio::test]
async fn one_address_that_asks_too_much_takes_nothing_from_another() {
    let mut pams = sample::pams();
    let config = PamsConfig { probe_http: true, ..PamsConfig::default() };
    pams.handle(sample::now(), Input::Reconfigured(Box::new(config)));
    let served = serve(pams, sample::now()).await;
    let path = format!("/api/v1/peers/{STRANGER}/probe");
    let ask = async |last: u8| served.ask_from([127, 0, 0, last].into(), Method::POST, &path).await;
    for _ in 0..20 {
        assert_eq!(ask(1).await.json()["verdict"], "unknown");
    }
    let refused = ask(1).await;
    assert_eq!((refused.status.as_u16(), refused.problem().reason.as_deref()), (429, Some("caller")));
    assert!(refused.problem().hint.unwrap().contains("by each address"));
    assert_eq!(ask(2).await.json()["verdict"], "unknown");
}

/// A client that says nothing does not hinder others; and all of it ends with the loop.
#[tokio::test]
async fn it_ends_with_the_loop() {
    let mut served = usual().await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(served.get("/healthz").await.status, StatusCode::OK);
    served.answering.abort();
    while served.tasks.join_next().await.is_some() {}
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(served.address).await.is_err());
    assert!(!served.dir.path().join("admin.sock").exists());
}

#[tokio::test]
async fn the_configuration_is_read_again_on_the_admin_socket_only_and_shows() {
    let served = usual().await;
    assert_eq!(served.ask(Method::POST, "/admin/v1/reload").await.status, 404);
    let told: Value = served.admin.post("/admin/v1/reload", &Value::Null).await.unwrap();
    assert_eq!(told["changed"][0]["key"], "name");
    assert_eq!(told["restart"][0]["key"], "domain");
    let about: About = served.admin.get("/api/v1/server").await.unwrap();
    let standing = about.configuration.unwrap();
    assert_eq!((about.name.as_str(), about.domain.as_str()), ("new", "pams.internal"));
    assert_eq!((standing.successful, standing.restart), (true, vec!["domain".to_owned()]));
    let metrics = served.get("/metrics").await.text;
    assert!(metrics.contains("\npams_server_config_last_reload_successful 1\n"), "{metrics}");
}
