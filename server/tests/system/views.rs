//! What a person, a script and Prometheus see of two agents: lists, single peers, overlays, discovery, fetches.

use pams_shared::{
    control::{Control, target},
    record::{Outcome, Stage},
    sim::Link,
    status::{Liveness, Status},
};
use serde_json::Value;

use crate::{
    harness::{eventually, ledger_of, until},
    http::{get, json},
    pams::Pams,
    peer::{Peer, Seat},
};

#[tokio::test]
async fn peers_views_records_overlays_and_discovery() {
    let pams = Pams::with(&["PAMS_SERVER_PACE_GRACE=4s"]).await;
    let (status, told) = get(pams.http, "/api/v1/sd/prometheus").await;
    assert!(status == 503 && told.contains("just started"), "{status} {told}");
    assert_eq!(get(pams.http, "/readyz").await.0, 503);

    let token = pams.open_token().await;
    let (a, b) = (Seat::new(pams.dir.path(), "alpha"), Seat::new(pams.dir.path(), "beta"));
    let a = a.with(|c| c.overlays = vec!["games/chess".into(), "cdn".into()]);
    let (alpha, beta) =
        (a.clone().watches(&[&b]).start(Some(&token)).await, b.clone().watches(&[&a]).start(Some(&token)).await);
    alpha.running.handle.publish(Status::Busy, Some("until noon".into())).await.unwrap();
    beta.until("A's status", a.peer, |buddy| buddy.status == Some(Status::Busy)).await;

    let live = eventually("both are live", async || {
        let page = json(pams.http, "/api/v1/peers?liveness=live").await;
        (page["peers"].as_array().unwrap().len() == 2).then_some(page)
    })
    .await;
    let mut names: Vec<_> = live["peers"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!((names, live["next"].is_null()), (vec!["alpha", "beta"], true));
    let busy = json(pams.http, "/api/v1/peers?status=busy&limit=1").await;
    assert_eq!(busy["peers"][0]["id"], a.peer.to_string(), "{busy}");
    let (status, told) = get(pams.http, "/api/v1/peers?stauts=busy").await;
    assert!(status == 400 && told.contains("stauts"), "{status} {told}");

    let detail = pams
        .until("B's view and A's records", a.peer, |p| {
            p["watchers"][0]["status"] == "busy" && split(&p["records"]) >= 3
        })
        .await;
    assert_eq!((&detail["presence"]["status"], &detail["presence"]["note"]), (&"busy".into(), &"until noon".into()));
    assert_eq!((&detail["home"]["liveness"], &detail["home"]["because"]), (&"live".into(), &"heard".into()));
    let view = &detail["watchers"][0];
    assert_eq!(
        (&view["watcher"], &view["liveness"], &view["stale"]),
        (&b.peer.to_string().into(), &"live".into(), &false.into())
    );
    assert_eq!((&view["hears"], &view["is_heard"], &view["name"]), (&true.into(), &true.into(), &"beta".into()));
    assert!(ledger_of(&detail["ledger"]["presence.ping"]).is_conserved(), "{detail}");

    let told = json(pams.http, "/api/v1/overlays").await;
    let count = |name: &str| {
        let found = told["overlays"].as_array().unwrap().iter().find(|o| o["name"] == name);
        found.and_then(|o| o["live"].as_u64()).unwrap_or_else(|| panic!("no {name} in {told}"))
    };
    assert_eq!((count("games"), count("games/chess"), count("cdn")), (2, 2, 1));

    let targets = eventually("discovery", async || {
        let (status, body) = get(pams.http, "/api/v1/sd/prometheus").await;
        (status == 200).then(|| serde_json::from_str::<Value>(&body).unwrap())
    })
    .await;
    let targets = targets.as_array().unwrap();
    assert_eq!(targets.len(), 2);
    let http = alpha.running.ready.http.unwrap();
    let alphas = targets.iter().find(|t| t["labels"]["__meta_pams_name"] == "alpha").unwrap();
    assert_eq!(
        (&alphas["targets"][0], &alphas["labels"]["__meta_pams_status"]),
        (&http.to_string().into(), &"busy".into())
    );
    assert_eq!(get(pams.http, "/readyz").await.0, 200);
}

/// What was answered and measured in all its stages adds up to its total; how many were so.
fn split(records: &Value) -> usize {
    let mut whole = 0;
    for record in records.as_array().into_iter().flatten() {
        let stages = record["stages_ns"].as_object().unwrap();
        assert_eq!(record["total_ns"].is_u64(), record["status"] == Outcome::Good.as_str(), "{record}");
        if Stage::EXCHANGE.iter().all(|s| stages.contains_key(s.as_str())) {
            assert_eq!(stages.values().map(|ns| ns.as_u64().unwrap()).sum::<u64>(), record["total_ns"], "{record}");
            whole += 1;
        }
    }
    whole
}

async fn fetch(agent: &Peer, seat: &Seat) -> Value {
    let control = Control::new(&agent.running.ready.socket, "pams-agent");
    control.get(&target(&["v1", "peers", &seat.peer.to_string()], &[])).await.unwrap()
}

#[tokio::test]
async fn a_peer_that_is_no_buddy_is_fetched_from_itself_else_from_home() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let (a, b) = (Seat::new(pams.dir.path(), "a"), Seat::new(pams.dir.path(), "b"));
    let (alpha, beta) = (a.start(Some(&token)).await, b.start(Some(&token)).await);
    beta.running.handle.publish(Status::Away, Some("back soon".into())).await.unwrap();
    pams.until("its status", b.peer, |p| p["presence"]["status"] == "away").await;

    let direct = fetch(&alpha, &b).await;
    assert_eq!((&direct["source"], &direct["presence"]["note"]), (&"peer".into(), &"back soon".into()), "{direct}");
    assert!(alpha.view().await.buddies.is_empty());

    // A's way to B is cut, not the home's.
    alpha.emulate(b.at, Link::PARTITION);
    let told = fetch(&alpha, &b).await;
    assert_eq!(
        (&told["source"], &told["presence"]["note"], &told["liveness"]),
        (&"home".into(), &"back soon".into(), &"live".into()),
        "{told}"
    );
    assert!(told["why"]["reason"].is_string(), "{told}");
    assert!(told["age_s"].as_f64().unwrap() < 5.0, "{told}");

    let c = Seat::new(pams.dir.path(), "c");
    let nobody = alpha.running.handle.fetch(c.peer).await.unwrap().unwrap_err();
    assert!(!nobody.known && nobody.why.text.contains("home"), "{nobody:?}");
    drop(beta.stop().await);
    until("left", async || fetch(&alpha, &b).await["liveness"] == Liveness::Left.as_str()).await;
}
