use axum::routing::get;
use hyper::Method;
use pams_shared::{control::ControlError, serve::serve};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::{
    front::{Front, reloading},
    *,
};
use crate::{sample, shell::handle::Request};

#[tokio::test]
async fn status_and_buddies_show_the_view() {
    let front = Front::new().await;
    let status = front.get("/v1/status").await;
    assert_eq!((&status["name"], &status["epoch"]), (&json!("alpha"), &json!(3)));
    assert_eq!(status["presence"]["status"], "away");
    assert_eq!(status["home"]["connected"], true);
    assert_eq!(status["buddies"], json!({ "total": 4, "live": 1, "overdue": 0, "gone": 1, "left": 1, "unknown": 1 }));
    assert_eq!(status["ledgers"][0]["kind"], "presence.ping");
    assert_eq!(status["ledgers"][0]["opened"], 10);

    let buddies = front.get("/v1/buddies").await;
    assert_eq!(buddies["buddies"][0]["last"]["stages_ns"]["network"], 84_000_000);
    assert_eq!(buddies["buddies"][3]["liveness"], Value::Null);
}

#[tokio::test]
async fn the_configuration_is_read_again_on_request_and_status_tells_of_it() {
    let front = Front::new().await;
    assert_eq!(front.get("/v1/status").await["configuration"]["successful"], true);
    let told: Value = front.control().post("/v1/reload", &json!({})).await.unwrap();
    let name = json!({ "key": "name", "from": "\"alpha\"", "to": "\"beta\"" });
    assert_eq!(told, json!({ "changed": [name], "restart": [] }));
    assert_eq!(front.get("/v1/status").await["name"], "beta");
    assert!(front.http("/metrics").await.contains("\npams_agent_config_last_reload_successful 1\n"));
}

#[tokio::test]
async fn a_presence_is_published_and_read_back() {
    let front = Front::new().await;
    let told: Value = front.control().put("/v1/presence", &json!({ "status": "busy", "note": "lunch" })).await.unwrap();
    assert_eq!((&told["status"], &told["note"], &told["version"]), (&json!("busy"), &json!("lunch"), &json!(5)));
    let told: Value = front.control().put("/v1/presence", &json!({ "status": "online", "note": "" })).await.unwrap();
    assert_eq!(told.get("note"), None);
    assert_eq!(front.get("/v1/presence").await["status"], "online");
}

#[tokio::test]
async fn a_ping_answers_with_its_split_or_says_why_not() {
    let front = Front::new().await;
    let id = |n| sample::peer(n).to_string();
    let record: Value = front.control().post(&format!("/v1/ping/{}", id(2)), &json!({})).await.unwrap();
    assert_eq!(record["total_ns"], 85_100_000);
    assert_eq!(record["stages_ns"].as_object().unwrap().len(), 4);
    for (n, expected) in
        [(4, (504, "not_sent")), (5, (504, "no_answer")), (6, (502, "certificate")), (7, (503, "shutdown"))]
    {
        let (status, problem) = front.refused(Method::POST, &format!("/v1/ping/{}", id(n)), None).await;
        assert_eq!((status, problem.reason.as_deref()), (expected.0, Some(expected.1)));
        assert_eq!(problem.error, "told why");
    }
}

#[tokio::test]
async fn a_fetch_tells_its_source_and_why_it_was_not_the_peer() {
    let front = Front::new().await;
    let direct = front.get(&format!("/v1/peers/{}", sample::peer(2))).await;
    assert_eq!((&direct["source"], direct.get("why")), (&json!("peer"), None));
    for (n, expected) in [(4, 504), (8, 404)] {
        let (status, problem) = front.refused(Method::GET, &format!("/v1/peers/{}", sample::peer(n)), None).await;
        assert_eq!((status, problem.reason.as_deref()), (expected, Some("not_sent")), "{problem:?}");
        assert!(problem.error.ends_with("; and the home does not know it"), "{problem:?}");
    }
    let from_home = front.get(&format!("/v1/peers/{}", sample::peer(5))).await;
    assert_eq!((&from_home["source"], &from_home["age_s"]), (&json!("home"), &json!(2.5)));
    assert_eq!(from_home["why"]["reason"], "no_answer");
}

#[tokio::test]
async fn each_bad_request_gets_a_problem() {
    let front = Front::new().await;
    let long = json!({ "status": "busy", "note": "x".repeat(257) });
    let huge = json!({ "status": "busy", "note": "x".repeat(BODY_BYTES_MAX) });
    let (put, ping) = (Method::PUT, format!("/v1/ping/{}", sample::peer(2)));
    for (method, path, body, status, told) in [
        (Method::GET, "/v1/nothing", None, 404, "there is no /v1/nothing"),
        (Method::GET, "/", None, 404, "there is no /"),
        (Method::POST, "/v1/status", None, 405, "/v1/status does not take POST"),
        (Method::DELETE, "/v1/presence", None, 405, "/v1/presence does not take DELETE"),
        (Method::GET, "/v1/peers/beta", None, 400, "\"beta\" is no peer id"),
        (Method::GET, "/v1/peers/%ff", None, 400, "Invalid UTF-8"),
        (Method::POST, "/v1/ping/1", None, 400, "\"1\" is no peer id"),
        (Method::POST, &ping, Some(json!({ "count": 3 })), 400, "unknown field `count`"),
        (put.clone(), "/v1/presence", None, 400, "EOF while parsing"),
        (put.clone(), "/v1/presence", Some(json!({ "status": "asleep" })), 400, "unknown variant `asleep`"),
        (put.clone(), "/v1/presence", Some(json!({ "status": "busy", "ttl": 1 })), 400, "unknown field `ttl`"),
        (put.clone(), "/v1/presence", Some(json!({ "note": "x" })), 400, "missing field `status`"),
        (put.clone(), "/v1/presence", Some(json!({ "status": "busy", "note": "a\nb" })), 400, "the note is too long"),
        (put.clone(), "/v1/presence", Some(long), 400, "the note is too long"),
        (put, "/v1/presence", Some(huge), 413, "length limit exceeded"),
    ] {
        let (code, problem) = front.refused(method, path, body.as_ref()).await;
        assert_eq!(code, status, "{path}: {problem:?}");
        assert!(problem.error.contains(told), "{path}: {problem:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_turned_away_and_a_wrong_method_learns_the_right_ones() {
    let front = Front::new().await;
    assert!(front.raw("nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let head = format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    let answer = front.raw(&head).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = front.raw("POST /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.to_lowercase();
    assert!(answer.contains("\r\nallow: get,head\r\n"), "{answer}");
}

#[tokio::test]
async fn prometheus_finds_metrics_health_and_readiness() {
    let front = Front::new().await;
    let metrics = front.http("/metrics").await;
    assert!(metrics.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    let (_, body) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(expo::parse(body).unwrap().families.len() > 30);
    assert!(front.http("/healthz").await.ends_with("ok\n"));
    assert!(front.http("/readyz").await.ends_with("ready\n"));
    assert!(front.http("/v1/status").await.starts_with("HTTP/1.1 404"), "control is not served over TCP");
}

#[tokio::test]
async fn an_agent_that_has_ended_is_neither_healthy_nor_ready() {
    let (handle, requests) = Handle::new();
    drop(requests);
    let local = Local::new(handle.clone(), Arc::new(Metrics::new(0)), reloading(handle), Extras::default);
    assert_eq!(healthz(State(local.clone())).await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readyz(State(local)).await.unwrap_err().problem.error, "the agent has ended");
}

#[tokio::test]
async fn without_home_and_peers_an_agent_is_not_ready_and_says_why() {
    let (handle, mut requests) = Handle::new();
    let mut view = sample::view();
    view.home.connected = false;
    view.home.why = Some(Why::new(Reason::Refused, "nobody listens at 192.0.2.1:7420"));
    view.links = 0;
    let local = Local::new(handle.clone(), Arc::new(Metrics::new(0)), reloading(handle), Extras::default);
    let script = async {
        let Some(Request::View(answer)) = requests.recv().await else { panic!("another request") };
        answer.send(view).unwrap();
    };
    let (answer, ()) = tokio::join!(readyz(State(local)), script);
    let Refusal { status, problem, .. } = answer.unwrap_err();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem.error, "neither home nor peer is connected; no home: nobody listens at 192.0.2.1:7420");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_is_ended() {
    let front = Front::new().await;
    let patient = front.control().within(REQUEST_WITHIN * 2);
    let hanging = patient.post::<Value>(&format!("/v1/ping/{}", sample::peer(9)), &json!({})).await;
    assert!(matches!(hanging, Err(ControlError::Refused { status: 408, .. })), "{hanging:?}");
}

#[tokio::test]
async fn at_the_end_the_socket_is_gone_and_all_tasks_are_joined() {
    let mut front = Front::new().await;
    front.get("/v1/status").await;
    let idle = UnixStream::connect(front.socket()).await.unwrap();
    front.stop.clear();
    while let Some(ended) = front.tasks.join_next().await {
        ended.unwrap();
    }
    assert!(!front.socket().exists());
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn silent_connections_cannot_keep_others_out_for_long() {
    let front = Front::new().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(UnixStream::connect(front.socket()).await.unwrap());
    }
    let patient = front.control().within(Duration::from_secs(600));
    let answer: Value = patient.get("/v1/status").await.unwrap();
    assert_eq!(answer["name"], "alpha");
}

#[tokio::test]
async fn a_panic_costs_its_connection_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (listener, _file) = pams_shared::control::listen(&path, 0o600).await.unwrap();
    let bug = || async {
        if BODY_BYTES_MAX > 0 {
            panic!("a bug, on purpose");
        }
    };
    let router = Router::new().route("/bug", get(bug)).route("/ok", get(|| async { Json(1) }));
    let metrics = Arc::new(Metrics::new(0));
    let client = async {
        let control = pams_shared::control::Control::new(&path, "pams-agent");
        let broken = control.get::<Value>("/bug").await;
        assert!(matches!(broken, Err(ControlError::Broken { .. })), "{broken:?}");
        assert_eq!(control.get::<Value>("/ok").await.unwrap(), json!(1));
    };
    serve(listener, router, BOUNDS, || metrics.panicked(), client).await;
    let scraped = metrics.render(&sample::view(), &Extras::default());
    assert!(scraped.contains("\npams_agent_task_panics_total 1\n"), "{scraped}");
}

#[tokio::test]
async fn subscriptions_begin_end_and_are_listed_from_both_sides() {
    let front = Front::new().await;
    let path = |n| format!("/v1/subscriptions/{}", sample::peer(n));
    let begun: Value = front.control().put(&path(3), &json!({})).await.unwrap();
    assert_eq!((&begun["new"], &begun["subscription"]["by_home"]["why"]["text"]), (&json!(true), &json!("too many")));
    let again: Value = front.control().put(&path(3), &json!({})).await.unwrap();
    assert_eq!(again["new"], false);
    let listed = front.get("/v1/subscriptions").await;
    assert_eq!(listed["subscriptions"].as_array().unwrap().len(), 2);
    for ended in [true, false] {
        assert_eq!(front.control().delete::<Value>(&path(3)).await.unwrap(), json!({ "ended": ended }));
    }
    let subscribers = front.get("/v1/subscribers").await;
    let told = &subscribers["subscribers"][0]["told"];
    assert_eq!(told, &json!({ "least_ns": 5_000_000, "most_ns": 48_000_000 }));

    let (status, problem) = front.refused(Method::PUT, &format!("/v1/subscriptions/{}", sample::ME), None).await;
    assert_eq!((status, problem.reason.as_deref()), (409, Some("refused")));
    for (path, expected) in [("/v1/subscriptions/me", 400), ("/v1/events?peer=me", 400), ("/v1/events?pear=1", 400)] {
        let method = if path.starts_with("/v1/e") { Method::GET } else { Method::DELETE };
        assert_eq!(front.refused(method, path, None).await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn what_is_told_comes_as_lines_and_only_of_whom_was_asked() {
    let front = Front::new().await;
    let subscribe =
        async |n| front.control().put::<Value>(&format!("/v1/subscriptions/{}", sample::peer(n)), &json!({})).await;
    let mut all = front.control().lines("/v1/events").await.unwrap();
    let mut one = front.control().lines(&format!("/v1/events?peer={}", sample::peer(5))).await.unwrap();
    subscribe(3).await.unwrap();
    subscribe(5).await.unwrap();
    let mut line = async || all.next::<Value>().await.unwrap().unwrap();
    let (first, second) = (line().await, line().await);
    assert_eq!((&first["told"]["presence"]["status"], &first["told"]["by"]), (&json!("busy"), &json!("peer")));
    assert_eq!((&second["told"]["skipped"], &second["told"]["liveness"]), (&json!(3), &json!("gone")));
    assert_eq!(one.next::<Value>().await.unwrap().unwrap()["told"]["peer"], json!(sample::peer(5)));

    let mut kept = Vec::new();
    let refused = loop {
        match front.control().lines("/v1/events").await {
            Ok(lines) => kept.push(lines),
            Err(error) => break error,
        }
    };
    assert_eq!(kept.len(), crate::shell::events::LISTENERS_MAX - 2);
    assert!(refused.to_string().contains("listen already; end one of them"), "{refused}");
}
