//! One data directory copied to two hosts: two agents with one id and one key.

use std::{fs, path::Path};

use pams_shared::status::Status;

use crate::{
    harness::{LOOPBACK, eventually, until},
    pams::Pams,
    peer::Seat,
};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file(), "{entry:?}");
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn the_home_keeps_one_session_and_everybody_is_told() {
    let pams = Pams::start().await;
    let first = Seat::new(pams.dir.path(), "first");
    let alone = first.start(Some(pams.token())).await;
    pams.until_liveness(first.peer, "live").await;
    drop(alone.stop().await);
    copy(&first.config.data_dir, &pams.folder("second"));
    let second = first.clone().with(|c| {
        (c.listen, c.data_dir, c.socket) = (LOOPBACK, pams.folder("second"), Some(pams.folder("second.sock")));
    });
    let epoch = pams.epoch_of(first.peer).await;
    let (one, two) = (first.start(None).await, second.start(None).await);
    assert_eq!(one.view().await.peer, two.view().await.peer);

    until("the home tells", async || {
        pams.metric("pams_server_notices_total", &[("notice", "superseded")]).await >= 2.0
    })
    .await;
    assert!(pams.metric("pams_server_sessions", &[]).await <= 1.0);
    assert!(pams.events().await.iter().any(|(_, what)| what == "superseded"));
    for agent in [&one, &two] {
        // Of a home that it has not reached yet it says something else.
        until("the agent tells", async || {
            agent.view().await.home.why.is_some_and(|why| why.text.contains("another agent with this peer's id"))
        })
        .await;
    }
    // The next start of either is a newer life; the other is then of an older one.
    drop(two.stop().await);
    let two = second.start(None).await;
    let why = eventually("the elder is told", async || {
        one.view().await.home.why.filter(|why| why.text.contains("is older than"))
    })
    .await;
    assert!(why.text.contains("epoch"), "{why}");
    two.running.handle.publish(Status::Busy, None).await.unwrap();
    let kept = pams.until("the newer one's word", first.peer, |p| p["presence"]["status"] == "busy").await;
    assert_eq!((&kept["order"]["epoch"], &kept["liveness"]), (&(epoch + 2).into(), &"live".into()), "{kept}");
    crate::http::assert_conserved(&pams.scrape().await, "pams_server");
}
