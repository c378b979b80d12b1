//! Rosters that are wrong: why a buddy is not reached is always said.

use pams_agent::config::Buddy;
use pams_shared::{id::PeerId, record::Reason, status::Liveness};

use crate::{harness::free_port, pams::Pams, peer::Seat};

#[tokio::test]
async fn each_line_that_leads_nowhere_says_why_and_the_good_ones_work() {
    let (pams, elsewhere) = (Pams::start().await, Pams::start().await);
    let token = pams.open_token().await;
    let good = Seat::new(pams.dir.path(), "good");
    let foreign = Seat::new(elsewhere.dir.path(), "foreign");
    let _good = good.start(Some(&token)).await;
    let _foreign = foreign.start(Some(elsewhere.token())).await;
    pams.until_liveness(good.peer, "live").await;

    let line = |id: u8| Buddy { id: PeerId::from_bytes([id; 16]), name: None, addresses: Vec::new() };
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
        (nobody.id, Reason::NoAnswer, "did not answer"),
        (foreign.peer, Reason::Certificate, "another cluster"),
    ] {
        let wanted = |b: &pams_agent::core::BuddyView| b.why.as_ref().is_some_and(|w| w.reason == reason);
        let buddy = agent.until(says, peer, wanted).await;
        assert!(buddy.why.as_ref().unwrap().text.contains(says), "{buddy:?}");
        assert_ne!(buddy.liveness, Some(Liveness::Live));
    }
    assert!(agent.view().await.buddies.iter().all(|b| b.peer != seat.peer), "nobody watches himself");
    assert_eq!(agent.metric("pams_agent_notices_total", &[("notice", "roster_names_self")]).await, 1.0);
    let mine = agent.pings().await;
    assert!(mine.is_conserved() && mine.failed > 0, "{mine:?}");
}
