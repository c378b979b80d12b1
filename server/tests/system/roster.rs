//! Rosters: those of the home say who watches whom, and where one of the configuration leads nowhere, that is said.

use std::{collections::BTreeSet, time::Duration};

use pams_agent::config::Buddy;
use pams_shared::{id::PeerId, record::Reason, status::Liveness};
use serde_json::Value;

use crate::{
    harness::{eventually, free_port, until},
    http::json,
    pams::Pams,
    peer::{Process, Seat},
};

/// Watchers of each.
const K: usize = 2;

fn ids(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Whom an agent watches, each by the home's word.
async fn watched(agent: &Process) -> BTreeSet<String> {
    let answer: Value = agent.control.get("/v1/buddies").await.unwrap();
    let buddies = answer["buddies"].as_array().unwrap();
    assert!(buddies.iter().all(|b| b["origin"] == "roster" && b["name"] != Value::Null), "{answer}");
    buddies.iter().map(|b| b["peer"].as_str().unwrap().to_owned()).collect()
}

/// Waits until each of these is watched by just [`K`] others, which say so.
async fn until_all_are_watched(pams: &Pams, here: &[&Seat]) {
    for seat in here {
        let wanted = |p: &Value| {
            let by = ids(&p["watched_by"]);
            let told =
                p["watchers"].as_array().unwrap().iter().filter(|w| w["liveness"] == "live" && w["stale"] == false);
            let told: BTreeSet<_> = told.map(|w| w["watcher"].as_str().unwrap().to_owned()).collect();
            by.len() == K && told == by && by.iter().all(|id| here.iter().any(|s| s.peer.to_string() == *id))
        };
        pams.until("watched by two", seat.peer, wanted).await;
    }
}

#[tokio::test]
async fn the_home_chooses_who_watches_whom_in_an_overlay() {
    let pams = Pams::with(&["PAMS_SERVER_ROSTER_WATCHERS=2", "PAMS_SERVER_PACE_GRACE=1s"]).await;
    let token = pams.open_token().await;
    let seat = |n: usize| {
        Seat::new(pams.dir.path(), &format!("peer-{n}")).with(|c| {
            c.limits.roster = 256;
            c.ping.deadline = Duration::from_millis(500);
            c.ping.retry = Duration::from_millis(200);
        })
    };
    let seats: Vec<_> = (0..6).map(seat).collect();
    let mut agents = Vec::new();
    for seat in &seats {
        agents.push(seat.spawn(Some(&token)).await);
    }
    until_all_are_watched(&pams, &seats.iter().collect::<Vec<_>>()).await;
    for (seat, agent) in seats.iter().zip(&agents) {
        let wanted = ids(&pams.peer(seat.peer).await.unwrap()["watches"]);
        assert_eq!(watched(agent).await, wanted);
    }
    assert_eq!(pams.metric("pams_server_roster_edges", &[]).await, 12.0);
    assert_eq!(pams.metric("pams_server_roster_short_peers", &[]).await, 0.0);
    let overlays = json(pams.http, "/api/v1/overlays").await;
    assert_eq!((&overlays["watchers"], &overlays["overlays"][1]["watching"]), (&2.into(), &6.into()), "{overlays}");

    // One is killed: its buddies say so, are its witnesses on, and those that it watched get another.
    let dead = &seats[0];
    agents.remove(0).kill().await;
    pams.until_liveness(dead.peer, "gone").await;
    until_all_are_watched(&pams, &seats[1..].iter().collect::<Vec<_>>()).await;
    let gone = |p: &Value| {
        let says =
            |w: &&Value| w["liveness"] == "gone" && ids(&p["watched_by"]).contains(w["watcher"].as_str().unwrap());
        p["watchers"].as_array().unwrap().iter().filter(says).count() == K
    };
    pams.until("gone to its watchers too", dead.peer, gone).await;

    // The home is away: all watch on. It is back: all is as it was, but for the dead, whom it does not know any more.
    let mut before = Vec::new();
    for agent in &agents {
        before.push(watched(agent).await);
    }
    let mut pams = pams;
    pams.kill().await;
    for (agent, before) in agents.iter().zip(&before) {
        // Some watch nobody, or the dead alone.
        if before.iter().any(|id| *id != dead.peer.to_string()) {
            let pings = agent.pings().await.good;
            until("it watches on", async || agent.pings().await.good > pings + 5).await;
        }
        assert_eq!(watched(agent).await, *before);
    }
    let pams = pams.start_again().await;
    until_all_are_watched(&pams, &seats[1..].iter().collect::<Vec<_>>()).await;
    for (agent, before) in agents.iter().zip(&mut before) {
        before.remove(&dead.peer.to_string());
        eventually("the same buddies", async || (watched(agent).await == *before).then_some(())).await;
    }
}

#[tokio::test]
async fn each_line_that_leads_nowhere_says_why_and_the_good_ones_work() {
    let (pams, elsewhere) = (Pams::start().await, Pams::start().await);
    let token = pams.open_token().await;
    let good = Seat::new(pams.dir.path(), "good");
    let foreign = Seat::new(elsewhere.dir.path(), "foreign");
    let _good = good.start(Some(&token)).await;
    let _foreign = foreign.start(Some(elsewhere.token())).await;
    pams.until_liveness(good.peer, "live").await;

    let line = |id: u8| Buddy { id: PeerId::from_bytes([id; 16]), name: None, addresses: Vec::new(), subscribe: false };
    let unknown = line(1);
    let misdirected = Buddy { addresses: good.buddy().addresses, ..line(2) };
    let nobody = Buddy { addresses: vec![free_port().into()], ..line(3) };
    let found = Buddy { addresses: Vec::new(), ..good.buddy() };
    let seat = Seat::new(pams.dir.path(), "a").watches(&[&foreign]);
    let own = seat.buddy();
    let seat = seat.with(|c| {
        c.buddy.extend([own, unknown.clone(), misdirected.clone(), nobody.clone(), found.clone()]);
    });
    let agent = seat.start(Some(&token)).await;

    agent.until("found through the home", found.id, |b| b.liveness == Some(Liveness::Live)).await;
    for (peer, reason, says) in [
        (unknown.id, Reason::NotSent, "the home knows no address of this peer"),
        (misdirected.id, Reason::Certificate, "another peer"),
        (nobody.id, Reason::Refused, "nothing listens there"),
        (foreign.peer, Reason::Certificate, "another cluster"),
    ] {
        // While there was no home yet, it said that.
        let wanted = |b: &pams_agent::core::BuddyView| {
            b.why.as_ref().is_some_and(|w| w.reason == reason && w.text.contains(says))
        };
        let buddy = agent.until(says, peer, wanted).await;
        assert_ne!(buddy.liveness, Some(Liveness::Live));
    }
    assert!(agent.view().await.buddies.iter().all(|b| b.peer != seat.peer), "nobody watches himself");
    assert_eq!(agent.metric("pams_agent_notices_total", &[("notice", "roster_names_self")]).await, 1.0);
    let mine = agent.pings().await;
    assert!(mine.is_conserved() && mine.failed > 0, "{mine:?}");
}
