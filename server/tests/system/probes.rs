//! A probe at one server of an agent of another: it lives, it hangs, its home is gone, and nobody has heard of it.

use pams_shared::{id::PeerId, sim::Link};
use serde_json::Value;

use crate::{harness::until, joining::token, pams::Pams, peer::Seat};

/// By whom and with what outcome.
fn findings(answer: &Value) -> Vec<(String, String)> {
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let list = answer["findings"].as_array().unwrap();
    list.iter().map(|f| (word(f, "by"), word(f, "outcome"))).collect()
}

#[tokio::test]
async fn a_peer_of_another_server_is_probed() {
    let mut first = Pams::start().await;
    let (_, pasted) = token(&first, &["--role", "server"]).await;
    let second = Pams::with(&["--join", &pasted]).await;
    let open = first.open_token().await;
    let place = first.dir.path();
    // One that hangs, and one that can go to no other server; who pings them is at the home, or at the other server.
    let (hanging, bound) = (Seat::new(place, "hanging"), Seat::new(place, "bound"));
    let (near, far) = (Seat::new(place, "near"), Seat::new(second.dir.path(), "far"));
    let hangs = hanging.spawn(Some(&open)).await;
    let stays = bound.start(Some(&open)).await;
    stays.emulate(second.quic, Link::PARTITION);
    let _near = near.start(Some(&open)).await;
    let _far = far.start(Some(second.token())).await;
    let home = first.id().await;
    for seat in [&hanging, &bound, &near, &far] {
        let shown = second.until_liveness(seat.peer, "live").await;
        assert_eq!(shown["server"] == home.as_str(), seat.peer != far.peer, "{shown}");
    }

    let answer = second.probe(hanging.peer, "10s").await;
    assert_eq!(
        (&answer["verdict"], &answer["home"], &answer["name"]),
        (&"reachable".into(), &home.as_str().into(), &"hanging".into())
    );
    let found = findings(&answer);
    assert_eq!((found.len(), &found[0]), (2, &(home.clone(), "good".to_owned())), "{answer}");
    assert_eq!(found[1].1, "good", "{answer}");
    let stages = &answer["findings"][1]["stages_ns"];
    assert!(stages["network"].as_u64().is_some() && answer["status"] == "online", "{answer}");
    let counted = [("verdict", "reachable"), ("by", "server")];
    assert_eq!(first.metric("pams_server_probes_total", &counted).await, 1.0);

    let stopped = hangs.stopped();
    let answer = second.probe(hanging.peer, "2s").await;
    assert_eq!(answer["verdict"], "unreachable", "{answer}");
    assert_eq!(findings(&answer)[0], (home.clone(), "aborted".to_owned()), "{answer}");
    drop(stopped);
    hangs.kill().await;

    let nobody = PeerId::from_bytes([7; 16]);
    assert_eq!(second.probe(nobody, "2s").await["verdict"], "unknown");

    first.kill().await;
    let answer = second.probe(bound.peer, "10s").await;
    assert_eq!((&answer["verdict"], &answer["home"]), (&"home_unreachable".into(), &home.as_str().into()), "{answer}");
    let reached = |answer: &Value| findings(answer).iter().any(|(_, outcome)| outcome == "good");
    if !reached(&answer) {
        until("an agent of the second reaches it", async || reached(&second.probe(bound.peer, "5s").await)).await;
    }
}
