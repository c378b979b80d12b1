//! Probes over the wire: scripted agents that are asked, and a server that asks another.

use std::time::Duration;

use pams_server::{core::probe::Caller, shell::handle::Probed};
use pams_shared::{
    frame::{Check, Checked, Finding, Frame, Role, capability, close},
    id::{Correlator, PeerId},
    quic,
    record::{Outcome, Reason, Stage, Stages},
    status::Status,
};
use quinn::{RecvStream, SendStream};

use crate::harness::*;

const WITHIN: Duration = Duration::from_secs(10);

/// An agent that answers checks.
struct Asked {
    agent: Agent,
    session: Session,
    push: Option<(SendStream, RecvStream)>,
}

impl Asked {
    async fn of(home: &Home) -> Self {
        let (mut agent, token) = (Agent::new(), home.token(None, 0));
        let issued = agent.enrol(home, &token).await.unwrap();
        agent.identity.join(&token, &issued).unwrap();
        let mut hello = agent.hello(1, 0);
        hello.capabilities = capability::CHECKS;
        let session = loop {
            let session = Session::open(agent.call(home).await, hello.clone()).await;
            match &session.ack.verdict {
                Ok(()) => break session,
                // It has just started among others.
                Err(_) => drop(session),
            }
        };
        Self { agent, session, push: None }
    }

    fn peer(&self) -> PeerId {
        self.agent.peer()
    }

    async fn push(&mut self) -> &mut (SendStream, RecvStream) {
        if self.push.is_none() {
            self.push = Some(soon(self.session.connection.accept_bi()).await.unwrap());
        }
        self.push.as_mut().unwrap()
    }

    /// What it is asked; of servers it is told nothing.
    async fn check(&mut self) -> Check {
        match soon(quic::read_frame(&mut self.push().await.1)).await.unwrap() {
            Some(Frame::Check(check)) => check,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, correlator: Correlator, reason: Option<Reason>) {
        let finding = Finding {
            by: self.peer().0,
            by_role: Role::Agent,
            outcome: reason.map_or(Outcome::Good, Reason::outcome),
            reason,
            total_ns: reason.is_none().then_some(9_000_000),
            stages: Stages::default().with(Stage::RemoteHold, Duration::from_micros(7)),
            status: Some(Status::Away),
        };
        let frame = Frame::Checked(Checked { correlator, finding });
        quic::write_frame(&mut self.push().await.0, &frame).await.unwrap();
    }
}

async fn probe(home: &Home, peer: PeerId) -> Probed {
    soon(home.running.handle.probe(peer, WITHIN, Caller::Operator)).await.unwrap()
}

async fn probes(home: &Home, verdict: &str, by: &str) -> f64 {
    home.metric("pams_server_probes_total", &[("verdict", verdict), ("by", by)]).await
}

#[tokio::test]
async fn a_peer_is_asked_on_its_session_and_pinged_by_another_agent() {
    let home = Home::start().await;
    let (mut a, mut b) = (Asked::of(&home).await, Asked::of(&home).await);
    let peer = a.peer();
    let answer = async {
        let (of_itself, of_a) = (a.check().await, b.check().await);
        assert_eq!((of_itself.peer, of_a.peer, of_itself.correlator), (peer, peer, of_a.correlator));
        assert_eq!(of_a.within_ms, 8_000);
        a.say(of_itself.correlator, None).await;
        a.say(of_itself.correlator, None).await;
        b.say(Correlator::of_uuid([1; 16]), None).await;
        b.say(of_a.correlator, Some(Reason::NoAnswer)).await;
    };
    let (probed, ()) = tokio::join!(probe(&home, peer), answer);
    let probed = probed.unwrap();
    let found: Vec<_> = probed.findings.iter().map(|f| (f.by, f.by_role, f.reason)).collect();
    let me = home.look(|pams, now| pams.cluster(now).me).await;
    assert_eq!(found, [(me.0, Role::Server, None), (b.peer().0, Role::Agent, Some(Reason::NoAnswer))]);
    assert_eq!((probed.verdict.as_str(), probed.status), ("partly", Some(Status::Away)));
    assert_eq!(probed.findings[0].stages_ns.iter().collect::<Vec<_>>(), [(Stage::RemoteHold, 7_000)]);
    assert!(probed.findings[0].total_ns.is_some_and(|ns| ns > 7_000 && ns < 10_000_000_000), "{probed:?}");
    assert_eq!(probes(&home, "partly", "operator").await, 1.0);
    assert_eq!(home.metric("pams_server_probe_seconds_count", &[]).await, 1.0);
    soon(async {
        while home.notices("late_checked").await < 2.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let open = probe(&home, PeerId::from_bytes([9; 16])).await.unwrap();
    assert_eq!((open.verdict.as_str(), open.home), ("unknown", None));
    let refused =
        soon(home.running.handle.probe(peer, WITHIN, Caller::Http { from: LOOPBACK.ip() })).await.unwrap().unwrap_err();
    assert_eq!(refused.why.as_str(), "forbidden");
    assert_eq!(home.metric("pams_server_probes_refused_total", &[("reason", "forbidden")]).await, 1.0);
    // Out of place.
    quic::write_frame(&mut a.push().await.0, &Frame::Goodbye).await.unwrap();
    assert_eq!(closed(&a.session.connection).await, Some(close::PROTOCOL));
}

#[tokio::test]
async fn a_server_asks_the_home_and_its_own_agents_when_that_is_gone() {
    let first = Home::start().await;
    let second = Home::joining(first.token_of(Role::Server, Some(1), 0)).await.unwrap();
    let (mut a, mut b) = (Asked::of(&first).await, Asked::of(&second).await);
    let peer = a.peer();
    second.until(move |pams, now| pams.peer(now, peer).is_some()).await;
    let answer = async {
        let check = a.check().await;
        a.say(check.correlator, None).await;
    };
    let (probed, ()) = tokio::join!(probe(&second, peer), answer);
    let probed = probed.unwrap();
    let me = first.look(|pams, now| pams.cluster(now).me).await;
    assert_eq!((probed.verdict.as_str(), probed.home), ("reachable", Some(me)));
    assert_eq!(probed.findings.iter().map(|f| (f.by, f.by_role)).collect::<Vec<_>>(), [(me.0, Role::Server)]);
    assert_eq!(
        (probes(&second, "reachable", "operator").await, probes(&first, "reachable", "server").await),
        (1.0, 1.0)
    );

    soon(first.running.stop()).await;
    let answer = async {
        let check = b.check().await;
        assert_eq!(check.peer, peer);
        b.say(check.correlator, None).await;
    };
    let (probed, ()) = tokio::join!(probe(&second, peer), answer);
    let probed = probed.unwrap();
    assert_eq!(probed.verdict.as_str(), "home_unreachable");
    assert_eq!(probed.findings.iter().map(|f| (f.by, f.reason)).collect::<Vec<_>>(), [(b.peer().0, None)]);
    assert!(probed.text.contains("it is reachable from agent edge-7"), "{}", probed.text);
}
