//! Three servers share one directory: each answers for all, and one that dies, hangs or goes takes nothing with it.

use std::{collections::BTreeMap, time::Duration};

use pams_agent::{
    config::Config,
    core::{Origin, Teller, choice::Because},
    shell::handle::Source,
};
use pams_shared::{
    id::PeerId,
    record::Ledger,
    sim::Link,
    status::{Liveness, Status},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    harness::{PATIENCE, eventually, outcomes, sum, until, within},
    http,
    joining::token,
    pams::Pams,
    peer::{Peer, Seat},
    subscribe::{next, publish, subscription, version},
};

/// What a home and its siblings say alike of a peer. Its records, the views of its watchers and its session stay at home; and
/// an agent's reports are no news, so that their own ledger is old elsewhere.
const ALIKE: [&str; 14] = [
    "/id",
    "/name",
    "/overlays",
    "/addresses",
    "/software",
    "/order",
    "/presence",
    "/liveness",
    "/liveness_since_ms",
    "/observed",
    "/server",
    "/stale",
    "/metrics",
    "/ledger/presence.ping",
];
/// Long enough for an agent to move once more, if it were to.
const QUIET: Duration = Duration::from_secs(3);

/// Servers of one cluster; the first made it.
struct Cluster(Vec<Pams>);

impl Cluster {
    async fn of_three() -> Self {
        // Nobody here dies but servers: a peer that is starved of its processor must not look as if.
        Self::with(&["PAMS_SERVER_PACE_GRACE=1s", "PAMS_SERVER_PACE_GONE_AFTER=10s"]).await
    }

    async fn with(pace: &[&str]) -> Self {
        let first = Pams::with(pace).await;
        let mut servers = Self(vec![first]);
        for _ in 0..2 {
            let (_, pasted) = token(&servers.0[0], &["--role", "server"]).await;
            servers.0.push(Pams::with(&[pace, &["--join", &pasted]].concat()).await);
        }
        servers.until_all_are_alive().await;
        servers
    }

    async fn until_all_are_alive(&self) {
        for at in &self.0 {
            until("all servers are alive", async || {
                let members = at.members().await;
                let here = |m: &&Value| m["connected"] == true && ["me", "alive"].contains(&word(m, "state"));
                members.iter().filter(here).count() == 3
            })
            .await;
        }
    }

    /// An agent that joins at one of them, and is known at all.
    async fn enter(&self, at: usize, name: &str, change: impl FnOnce(&mut Config)) -> Peer {
        let seat = Seat::new(self.0[at].dir.path(), name).with(change);
        let peer = seat.start(Some(self.0[at].token())).await;
        for server in &self.0 {
            server.until_liveness(peer.peer, "live").await;
        }
        peer
    }

    /// Nobody is gone in the eyes of those that are alive, nor was.
    async fn assert_nobody_gone(&self, alive: &[usize]) {
        for at in alive.iter().map(|n| &self.0[*n]) {
            let peers = http::json(at.http, "/api/v1/peers").await;
            assert!(peers["peers"].as_array().unwrap().iter().all(|p| p["liveness"] != "gone"), "{peers}");
            let events = at.events().await;
            assert!(events.iter().all(|(_, what)| what != "gone"), "{events:?}");
        }
    }

    /// Waits until each of these has a home other than the server `id`, in the order of its move.
    async fn until_moved(&self, id: &str, alive: &[usize], moving: &[&Peer], before: &BTreeMap<PeerId, u64>) {
        until("all have another home", async || {
            self.assert_nobody_gone(alive).await;
            let mut moved = true;
            for agent in moving {
                let home = agent.view().await.home;
                moved &= home.connected && home.server.is_some_and(|s| s.to_string() != *id);
            }
            moved
        })
        .await;
        for agent in moving {
            // One change of home, or more where the next one was starved of its processor.
            let attach = agent.view().await.home.attach;
            assert!(attach > before[&agent.peer], "{attach} {before:?}");
        }
        self.assert_nobody_gone(alive).await;
    }

    /// Waits until these servers say the same of each of these peers.
    async fn until_alike(&self, alive: &[usize], agents: &[&Peer]) {
        for agent in agents {
            let mut differ = Vec::new();
            let alike = async || {
                let mut details = Vec::new();
                for at in alive {
                    details.push(self.0[*at].peer(agent.peer).await.unwrap_or_default());
                }
                let same = |key: &str| details.iter().all(|said| said.pointer(key) == details[0].pointer(key));
                let unlike = ALIKE.into_iter().filter(|key| !same(key));
                differ = unlike
                    .map(|key| json!({ key: details.iter().map(|d| d.pointer(key)).collect::<Vec<_>>() }))
                    .collect();
                // Alike, but not as it should be.
                differ.extend((details[0]["liveness"] != "live").then(|| details[0].clone()));
                differ.is_empty().then_some(())
            };
            let found = timeout(PATIENCE, within(2 * PATIENCE, "all servers know a peer", alike)).await;
            assert!(found.is_ok(), "of {}: {differ:?}", agent.peer);
        }
    }

    /// Agents leave in good order: what each closed itself is what these servers have counted, of each and of all.
    async fn assert_counted(&self, alive: &[usize], agents: Vec<Peer>) {
        let mut own: BTreeMap<PeerId, Ledger> = BTreeMap::new();
        for agent in agents {
            let peer = agent.peer;
            own.insert(peer, sum(&agent.stop().await));
        }
        let mut all = Ledger::default();
        own.values().for_each(|ledger| all.add(ledger));
        assert!(all.good > 20, "{all:?}");
        for at in alive.iter().map(|n| &self.0[*n]) {
            for (peer, own) in &own {
                at.until_liveness(*peer, "left").await;
                let counted = async || (outcomes(&at.pings_of(*peer).await) == outcomes(own)).then_some(());
                eventually(&format!("{peer} has {own:?} at {}", at.http), counted).await;
            }
            assert_eq!(outcomes(&at.cluster_pings().await), outcomes(&all));
        }
    }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

async fn attaches(agents: &[&Peer]) -> BTreeMap<PeerId, u64> {
    let mut attaches = BTreeMap::new();
    for agent in agents {
        attaches.insert(agent.peer, agent.view().await.home.attach);
    }
    attaches
}

/// Each watches all others.
fn watches(others: &[&Peer]) -> impl FnOnce(&mut Config) {
    let lines: Vec<_> = others.iter().map(|peer| buddy(peer)).collect();
    move |config| config.buddy.extend(lines)
}

fn buddy(peer: &Peer) -> pams_agent::config::Buddy {
    pams_agent::config::Buddy { id: peer.peer, name: None, addresses: vec![peer.at.into()], subscribe: false }
}

#[tokio::test]
async fn a_home_is_killed_and_comes_back_and_nothing_is_lost() {
    let mut cluster = Cluster::of_three().await;
    let a = cluster.enter(0, "a", |_| ()).await;
    let b = cluster.enter(0, "b", watches(&[&a])).await;
    let c = cluster.enter(0, "c", watches(&[&a, &b])).await;
    let d = cluster.enter(0, "d", watches(&[&c])).await;
    let e = cluster.enter(1, "e", watches(&[&a, &d])).await;
    let f = cluster.enter(2, "f", watches(&[&a, &e])).await;
    let (orphans, all) = ([&a, &b, &c, &d], [&a, &b, &c, &d, &e, &f]);

    // All answer for all.
    cluster.until_alike(&[0, 1, 2], &all).await;
    let mut generation = 0;
    for at in &cluster.0 {
        let sd = eventually("agents have had time to come back", async || {
            http::try_get(at.http, "/api/v1/sd/prometheus").await.filter(|(status, _)| *status == 200)
        })
        .await;
        let listed: Vec<Value> = serde_json::from_str(&sd.1).unwrap();
        let metrics = |peer: &Peer| json!([peer.running.ready.http.unwrap().to_string()]);
        assert!(
            listed.len() == 6 && all.iter().all(|p| listed.iter().any(|t| t["targets"] == metrics(p))),
            "{listed:?}"
        );
        let listed = http::json(at.http, "/api/v1/sd/servers").await;
        let listed: Vec<&Value> = listed.as_array().unwrap().iter().map(|t| &t["targets"][0]).collect();
        assert!(
            listed.len() == 3 && cluster.0.iter().all(|s| listed.contains(&&json!(s.http.to_string()))),
            "{listed:?}"
        );
        generation = at.member(&cluster.0[0].id().await).await["generation"].as_u64().unwrap();
    }

    // It is killed: its agents move, by themselves.
    let killed = cluster.0[0].id().await;
    let before = attaches(&orphans).await;
    cluster.0[0].kill().await;
    cluster.until_moved(&killed, &[1, 2], &orphans, &before).await;
    cluster.until_alike(&[1, 2], &all).await;
    until("it is down", async || cluster.0[1].member(&killed).await["state"] == "down").await;

    // It starts again, and knows all; they stay where they are.
    let homes = attaches(&all).await;
    let first = cluster.0.remove(0).start_again().await;
    cluster.0.insert(0, first);
    cluster.until_all_are_alive().await;
    for at in &cluster.0 {
        assert_eq!(at.member(&killed).await["generation"], generation + 1);
    }
    sleep(QUIET).await;
    for agent in all {
        let home = agent.view().await.home;
        // Where the processor is short, a home may fall silent.
        let forced = matches!(home.because, Some(Because::Silent | Because::Lost));
        assert!(forced || home.attach == homes[&agent.peer], "{home:?}");
    }
    cluster.until_alike(&[0, 1, 2], &all).await;
    cluster.assert_nobody_gone(&[0, 1, 2]).await;
    cluster.assert_counted(&[0, 1, 2], vec![a, b, c, d, e, f]).await;
}

#[tokio::test]
async fn a_server_that_is_drained_sends_its_agents_away_and_ends() {
    let mut cluster = Cluster::of_three().await;
    let a = cluster.enter(0, "a", |_| ()).await;
    let b = cluster.enter(1, "b", watches(&[&a])).await;
    let c = cluster.enter(1, "c", watches(&[&a, &b])).await;
    let d = cluster.enter(1, "d", watches(&[&c])).await;
    let (drained, before) = (cluster.0[1].id().await, attaches(&[&b, &c, &d]).await);
    cluster.0[1].cli(&["drain"]).await;
    cluster.until_moved(&drained, &[0, 2], &[&b, &c, &d], &before).await;
    assert_eq!(cluster.0[1].ended().await.code(), Some(0));
    until("it has left", async || cluster.0[0].member(&drained).await["state"] == "left").await;
    cluster.until_alike(&[0, 2], &[&a, &b, &c, &d]).await;
    sleep(QUIET).await;
    cluster.assert_nobody_gone(&[0, 2]).await;
    cluster.assert_counted(&[0, 2], vec![a, b, c, d]).await;
}

#[tokio::test]
async fn a_home_that_hangs_is_left_and_lets_go_when_it_is_back() {
    /// A fraction of what makes the others take it for dead for good.
    const HANGS: Duration = Duration::from_secs(8);
    let cluster = Cluster::of_three().await;
    let a = cluster.enter(2, "a", |_| ()).await;
    let b = cluster.enter(2, "b", watches(&[&a])).await;
    let c = cluster.enter(0, "c", watches(&[&a, &b])).await;
    let (hangs, before) = (cluster.0[2].id().await, attaches(&[&a, &b]).await);
    let stopped = cluster.0[2].stopped();
    let moving = [&a, &b];
    tokio::join!(cluster.until_moved(&hangs, &[0, 1], &moving, &before), sleep(HANGS));
    drop(stopped);
    cluster.until_all_are_alive().await;
    until("it lets go", async || {
        let view = http::json(cluster.0[2].http, "/api/v1/cluster").await;
        view["counts"]["let_go"].as_u64() >= Some(2)
    })
    .await;
    cluster.until_alike(&[0, 1, 2], &[&a, &b, &c]).await;
    sleep(QUIET).await;
    cluster.assert_nobody_gone(&[0, 1, 2]).await;
    cluster.assert_counted(&[0, 1, 2], vec![a, b, c]).await;
}

#[tokio::test]
async fn an_agent_that_has_nothing_to_report_is_told_by_the_others_that_its_home_is_lost() {
    let cluster = Cluster::with(&["PAMS_SERVER_PACE_REPORT=10s", "PAMS_SERVER_PACE_GONE_AFTER=60s"]).await;
    let a = cluster.enter(2, "a", |_| ()).await;
    until("it knows of the others", async || a.view().await.home.servers == 3).await;
    let (hangs, before) = (cluster.0[2].id().await, attaches(&[&a]).await);
    // The next report is ten seconds away once this is known, and its silence two more.
    publish(&a, Status::Away, "and quiet").await;
    cluster.0[0].until("it is away", a.peer, |peer| peer["presence"]["status"] == "away").await;
    let _stopped = cluster.0[2].stopped();
    cluster.until_moved(&hangs, &[0, 1], &[&a], &before).await;
    until("one of them told it", async || {
        let asks = [("result", "asks")];
        let [one, other] = [&cluster.0[0], &cluster.0[1]];
        one.metric("pams_server_home_lost_total", &asks).await
            + other.metric("pams_server_home_lost_total", &asks).await
            == 1.0
    })
    .await;
}

#[tokio::test]
async fn agents_of_different_servers_watch_fetch_and_subscribe_to_each_other() {
    let mut cluster = Cluster::of_three().await;
    let rostered = |config: &mut Config| config.limits.roster = 256;
    let beta = cluster.enter(0, "b", rostered).await;
    let alpha = cluster.enter(1, "a", rostered).await;
    for (agent, other) in [(&alpha, &beta), (&beta, &alpha)] {
        let live = async || {
            let buddies = agent.view().await.buddies;
            buddies.iter().any(|b| b.peer == other.peer && b.liveness == Some(Liveness::Live))
        };
        until("they watch each other", live).await;
        assert_eq!(agent.buddy(other.peer).await.origin, Origin::Roster);
    }
    let handle = &alpha.running.handle;
    let mut events = handle.listen(Some(beta.peer)).await.unwrap().unwrap();
    handle.subscribe(beta.peer).await.unwrap().unwrap();
    until("the home is to tell", async || subscription(alpha.view().await, beta.peer).by_home.state == "active").await;
    // The direct way is cut: only the servers can tell.
    alpha.emulate(beta.at, Link::PARTITION);
    beta.emulate(alpha.at, Link::PARTITION);
    let published = publish(&beta, Status::Away, "through two servers").await;
    let told = next(&mut events, "a change at another server", |t| version(t) == published).await;
    assert_eq!((told.by, told.presence.unwrap().status), (Teller::Home, Status::Away));
    let fetched = handle.fetch(beta.peer).await.unwrap().expect("a peer of another server");
    assert_eq!((fetched.source, fetched.entry.presence.status), (Source::Home, Status::Away));

    // Its server is killed; it goes to another, and is told of on.
    let killed = cluster.0[0].id().await;
    let before = attaches(&[&beta]).await;
    cluster.0[0].kill().await;
    cluster.until_moved(&killed, &[1, 2], &[&beta], &before).await;
    let published = publish(&beta, Status::Busy, "from another home").await;
    let told = next(&mut events, "a change at the next home", |t| version(t) == published).await;
    assert_eq!((told.by, told.liveness), (Teller::Home, Some(Liveness::Live)));

    // It leaves, and another server than its home is told to forget it: all do.
    let home = cluster.0[1].peer(beta.peer).await.unwrap()["server"].clone();
    let (gone, other) = (beta.peer, if home == cluster.0[1].id().await.as_str() { 2 } else { 1 });
    beta.stop().await;
    cluster.0[other].until_liveness(gone, "left").await;
    cluster.0[other].cli(&["forget", &gone.to_string()]).await;
    for n in [1, 2] {
        until("it is forgotten", async || cluster.0[n].peer(gone).await.is_none()).await;
    }
}

#[tokio::test]
async fn an_agent_finds_a_home_though_that_of_its_token_is_dead() {
    let mut cluster = Cluster::of_three().await;
    let seat = Seat::new(cluster.0[0].dir.path(), "a");
    let agent = seat.start(Some(cluster.0[0].token())).await;
    until("it knows three servers", async || agent.view().await.home.servers == 3).await;
    agent.stop().await;
    cluster.0[0].kill().await;
    let agent = seat.start(None).await;
    until("it has a home", async || agent.view().await.home.connected).await;
    let id = agent.view().await.home.server.unwrap().to_string();
    assert!(id == cluster.0[1].id().await || id == cluster.0[2].id().await);
    for n in [1, 2] {
        cluster.0[n].until_liveness(seat.peer, "live").await;
        assert_eq!(cluster.0[n].epoch_of(seat.peer).await, agent.view().await.epoch);
    }
}
