//! As a service: what the manager hears of a loop that turns, and of one that hangs; another configuration while it runs.

use std::{
    os::unix::net::UnixDatagram,
    sync::{Arc, Mutex, mpsc::sync_channel},
    time::Duration,
};

use pams_server::{
    config::Config,
    shell::{Options, start},
};
use pams_shared::{config::ConfigError, reload::Read, supervisor::Supervisor};

use crate::harness::{LOOPBACK, config};

const LONG: Duration = Duration::from_secs(20);

fn next(manager: &UnixDatagram) -> Option<String> {
    let mut bytes = [0; 1_024];
    let length = manager.recv(&mut bytes).ok()?;
    Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
}

fn hears(manager: &UnixDatagram, what: &str) {
    while !next(manager).unwrap_or_else(|| panic!("no {what}")).starts_with(what) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_loop_that_hangs_sends_no_heartbeat() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let every = Duration::from_millis(100);
    let supervisor = Arc::new(Supervisor::new(path.as_os_str(), Some(every * 2)).unwrap());
    let running = start(config(&dir, LOOPBACK), Options { supervisor, ..Options::default() }).await.unwrap();
    hears(&manager, "READY=1");
    hears(&manager, "STATUS=0 peers live, 0 connected");
    hears(&manager, "WATCHDOG=1");

    // A question that does not come back.
    let ((stuck, is_stuck), (release, released)) = (sync_channel(1), sync_channel::<()>(1));
    let handle = running.handle.clone();
    let hang = tokio::task::spawn(async move {
        let hung = handle.look(move |_, _| {
            stuck.send(()).unwrap();
            let _ = released.recv();
        });
        hung.await
    });
    is_stuck.recv_timeout(LONG).unwrap();
    manager.set_nonblocking(true).unwrap();
    while next(&manager).is_some() {}
    manager.set_nonblocking(false).unwrap();
    manager.set_read_timeout(Some(every * 6)).unwrap();
    assert_eq!(next(&manager), None, "the loop hangs, and nobody else may say that it turns");

    manager.set_read_timeout(Some(LONG)).unwrap();
    release.send(()).unwrap();
    hang.await.unwrap().unwrap();
    hears(&manager, "WATCHDOG=1");
    running.stop().await;
    hears(&manager, "STOPPING=1");
}

#[tokio::test]
async fn a_running_server_takes_another_configuration_and_keeps_the_old_where_that_is_not_good() {
    let dir = tempfile::tempdir().unwrap();
    let first = config(&dir, LOOPBACK);
    let file: Arc<Mutex<Option<Config>>> = Arc::new(Mutex::new(None));
    let read = {
        let file = file.clone();
        Read::new(move || file.lock().unwrap().clone().ok_or_else(|| ConfigError::Whole("no good".to_owned())))
    };
    let options = Options { read: Some(read), ..Options::default() };
    let running = start(first.clone(), options).await.unwrap();
    assert_eq!(running.reload().await.unwrap_err().to_string(), "configuration: no good");

    let mut second = first.clone();
    second.metrics.per_peer_max = 7;
    second.limits.kinds = 9;
    second.listen = "127.0.0.1:1".parse().unwrap();
    *file.lock().unwrap() = Some(second);
    let changes = running.reload().await.unwrap();
    assert_eq!(changes.keys(), ("metrics.per_peer_max".into(), "listen, limits.kinds".into()));
    assert_eq!(running.metrics.per_peer_max(), 7);
    running.stop().await;
}
