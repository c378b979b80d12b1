//! A whole agent among several homes, on real sockets.

use std::{future::Future, net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{Check, Frame, HomeLost, Move, Role},
    id::{Correlator, PeerId},
    identity::dns_name,
    lookup::{
        Resolver,
        zone::{Manner, Nameserver, Zone},
    },
    record::{Outcome, Reason},
    status::Status,
};

use super::home::Home;
use crate::{
    config::{Config, Http},
    core::choice::Because,
    shell::{Options, Running, cluster::Cluster, start},
};

const SERVICE: &str = "_pams._udp.example.org";

/// Whatever is awaited comes within seconds; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Two homes that know each other, and the data directory of an agent.
struct Stage {
    cluster: Cluster,
    a: Home,
    b: Home,
}

impl Stage {
    fn new() -> Self {
        let mut cluster = Cluster::new();
        drop(cluster.join("alpha"));
        let (a, b) = (Home::start(&cluster.server("a")), Home::start(&cluster.server("b")));
        Self { cluster, a, b }
    }

    /// An agent with this home in its configuration.
    async fn agent(&self, home: SocketAddr) -> Running {
        start(self.config(&home.to_string()), Options::default()).await.unwrap()
    }

    fn config(&self, home: &str) -> Config {
        let folder = self.cluster.folder.path();
        Config {
            data_dir: folder.join("alpha"),
            listen: "127.0.0.1:0".parse().unwrap(),
            http: Http::Off,
            socket: Some(folder.join("s")),
            homes: vec![home.parse().unwrap()],
            ..Config::default()
        }
    }

    /// An agent that finds its home by a service.
    async fn by_service(&self, nameserver: &Nameserver) -> Running {
        let options = Options { resolver: Resolver::of(vec![nameserver.at]), ..Options::default() };
        start(self.config(SERVICE), options).await.unwrap()
    }

    /// An agent at A that knows B.
    async fn at_home(&mut self) -> Running {
        let agent = self.agent(self.a.at).await;
        assert_eq!(soon(self.a.hello()).await.attach, 1);
        self.a.push(&Frame::Servers(vec![self.a.known(0), self.b.known(0)])).await;
        soon(async {
            while agent.handle.view().await.unwrap().home.servers < 2 {
                soon(self.a.report()).await;
            }
        })
        .await;
        agent
    }
}

#[tokio::test]
async fn a_home_that_falls_silent_is_left_for_another_and_no_batch_is_lost() {
    let mut stage = Stage::new();
    let agent = stage.at_home().await;
    stage.a.keep_silent();
    // Those before it were acknowledged, or were not; this one is not.
    let unheard = agent.handle.publish(Status::Busy, Some("unheard".into())).await.unwrap();
    let hello = soon(stage.b.hello()).await;
    assert_eq!(hello.attach, 2);
    let mut told = Vec::new();
    while !told.contains(&unheard) {
        told.extend(soon(stage.b.report()).await.changes);
    }
    let home = agent.handle.view().await.unwrap().home;
    assert_eq!((home.server, home.because), (Some(stage.b.id), Some(Because::Silent)));
    soon(agent.stop()).await;
}

#[tokio::test]
async fn homes_are_found_by_a_service_and_one_that_is_lost_leads_to_the_next() {
    let mut stage = Stage::new();
    let record = |priority: u16, home: &Home| (SERVICE, priority, 0, home.at.port(), "homes.example.org");
    let hosts = vec![("homes.example.org", stage.a.at.ip())];
    let zone = Zone { srv: vec![record(2, &stage.b), record(1, &stage.a)], hosts, ..Zone::default() };
    let nameserver = Nameserver::start(Zone::default(), Manner::Well).await;
    let agent = stage.by_service(&nameserver).await;
    let told = soon(async {
        loop {
            let trying = agent.handle.view().await.unwrap().home;
            if let Some(why) = trying.why {
                return why.text;
            }
        }
    })
    .await;
    assert!(told.contains("home _pams._udp.example.org: no SRV record for _pams._udp.example.org"), "{told}");
    nameserver.tell(zone);
    assert_eq!(soon(stage.a.hello()).await.attach, 1, "the first by priority");
    soon(stage.a.report()).await;
    // Nobody has told it of B but DNS.
    stage.a.stop();
    soon(stage.b.hello()).await;
    soon(stage.b.report()).await;
    assert_eq!(agent.handle.view().await.unwrap().home.server, Some(stage.b.id));
    soon(agent.stop()).await;
}

#[tokio::test]
async fn a_home_that_is_deaf_and_talks_on_is_left() {
    let mut stage = Stage::new();
    let agent = stage.at_home().await;
    stage.a.talk_on();
    assert_eq!(soon(stage.b.hello()).await.attach, 2);
    soon(stage.b.report()).await;
    assert_eq!(agent.handle.view().await.unwrap().home.because, Some(Because::Silent));
    soon(agent.stop()).await;
}

#[tokio::test]
async fn a_home_that_is_said_to_be_lost_is_asked_and_left_only_if_it_does_not_answer() {
    let mut stage = Stage::new();
    let agent = stage.at_home().await;
    let name = dns_name(Role::Agent, agent.ready.peer.0, "test.example");
    // Another server, or an earlier start of ours: what is said of them is nothing to us.
    for lost in [stage.b.lost(), HomeLost { generation: 7, ..stage.a.lost() }] {
        assert!(!soon(stage.b.tells(agent.ready.quic, &name, lost)).await);
    }
    assert!(soon(stage.b.tells(agent.ready.quic, &name, stage.a.lost())).await);
    soon(stage.a.question()).await;
    assert!(!soon(stage.b.tells(agent.ready.quic, &name, stage.a.lost())).await, "it was asked a moment ago");
    soon(stage.a.report()).await;
    assert_eq!(agent.handle.view().await.unwrap().home.server, Some(stage.a.id), "it answers, so it stays");

    stage.a.keep_silent();
    soon(async { while !stage.b.tells(agent.ready.quic, &name, stage.a.lost()).await {} }).await;
    assert_eq!(soon(stage.b.hello()).await.attach, 2);
    soon(agent.stop()).await;
}

#[tokio::test]
async fn an_agent_goes_where_its_home_sends_it() {
    let mut stage = Stage::new();
    let agent = stage.at_home().await;
    stage.a.push(&Frame::Move(Move { server: Some(stage.b.id), detail: "upgrade".into() })).await;
    assert_eq!(soon(stage.b.hello()).await.attach, 2);
    soon(stage.b.report()).await;
    let home = agent.handle.view().await.unwrap().home;
    assert_eq!((home.server, home.because), (Some(stage.b.id), Some(Because::Told)));

    // B sends it away too, and nobody would have it: it stays with B.
    stage.a.turn_away();
    stage.b.push(&Frame::Servers(vec![stage.a.known(0), stage.b.known(0)])).await;
    stage.b.push(&Frame::Move(Move { server: None, detail: String::new() })).await;
    assert_eq!(soon(stage.a.hello()).await.attach, 3);
    assert_eq!(soon(stage.b.hello()).await.attach, 4);
    soon(stage.b.report()).await;
    assert_eq!(agent.handle.view().await.unwrap().home.server, Some(stage.b.id));
    soon(agent.stop()).await;
}

#[tokio::test]
async fn an_agent_that_knew_all_servers_needs_none_of_its_configuration() {
    let mut stage = Stage::new();
    let agent = stage.at_home().await;
    let dead = stage.a.at;
    soon(agent.stop()).await;
    stage.a.stop();
    let agent = stage.agent(dead).await;
    soon(stage.b.hello()).await;
    soon(stage.b.report()).await;
    assert_eq!(agent.handle.view().await.unwrap().home.servers, 2);
    soon(agent.stop()).await;
}

#[tokio::test]
async fn a_home_checks_its_agent_and_others_by_it() {
    let mut stage = Stage::new();
    let agent = stage.at_home().await;
    let stranger = PeerId::from_bytes([7; 16]);
    for (n, peer) in [(1, agent.ready.peer), (2, stranger)] {
        let check = Check { correlator: Correlator::of_uuid([n; 16]), peer, within_ms: 200 };
        stage.a.push(&Frame::Check(check)).await;
    }
    let (own, other) = (soon(stage.a.checked()).await, soon(stage.a.checked()).await);
    assert_eq!((own.correlator, own.finding.status), (Correlator::of_uuid([1; 16]), Some(Status::Online)));
    assert_eq!((own.finding.outcome, own.finding.by), (Outcome::Good, agent.ready.peer.0));
    assert_eq!((other.correlator, other.finding.reason), (Correlator::of_uuid([2; 16]), Some(Reason::NotSent)));
    soon(agent.stop()).await;
}
