//! Waiting for what must come, and small readers of what was told.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pams_shared::record::{Ledger, Outcome, Record, Stage};
use serde_json::Value;
use tokio::process::Child;

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// What a test may wait for one thing; longer, and it has failed.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until there is an answer.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// The same for what takes longer.
pub async fn within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK);
    let found = async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(patience, found).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// The same for a condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(())).await;
}

/// A port of loopback that is free for UDP and for TCP, and not among those that the system gives to outgoing connections,
/// so that it stays free until it is taken.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let tried = std::iter::repeat_with(|| {
        // Suites that run beside each other begin far apart.
        let n = std::process::id().wrapping_mul(499).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        SocketAddr::new(LOOPBACK.ip(), 15_000 + (n % 15_000) as u16)
    });
    let is_free = |at: &SocketAddr| UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok();
    tried.take(15_000).find(is_free).expect("a free port")
}

/// A process that does not run; it goes on when this is dropped.
pub struct Stopped(Pid);

impl Stopped {
    /// This process, of a child that was not waited for.
    pub fn of(child: &Child) -> Self {
        let process = Pid::from_raw(child.id().expect("a process that was not waited for").cast_signed());
        kill(process, Signal::SIGSTOP).unwrap();
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be killed already.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

pub fn ledger_of(value: &Value) -> Ledger {
    let of = |key: &str| value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"));
    Ledger {
        opened: of("opened"),
        good: of("good"),
        aborted: of("aborted"),
        failed: of("failed"),
        unknown: of("unknown"),
        in_flight: of("in_flight"),
        late: of("late"),
        duplicate: of("duplicate"),
    }
}

/// What finished transactions add up to.
pub fn sum<'a>(records: impl IntoIterator<Item = &'a Record>) -> Ledger {
    let mut ledger = Ledger::default();
    for record in records {
        ledger.opened += 1;
        ledger.count(record.outcome);
    }
    ledger
}

/// How they ended; answers that came late or twice make no record.
pub fn outcomes(ledger: &Ledger) -> [u64; 5] {
    let [good, aborted, failed, unknown] = Outcome::ALL.map(|o| ledger.closed(o));
    [ledger.opened, good, aborted, failed, unknown]
}

/// The median in ms of a stage, over the records in which it was measured: at least half of them.
pub fn median_ms(records: &[Record], stage: Stage) -> f64 {
    let mut ns: Vec<u64> = records.iter().filter_map(|r| r.stages.get(stage)).collect();
    assert!(ns.len() * 2 >= records.len(), "{} was measured {} of {} times", stage.as_str(), ns.len(), records.len());
    ns.sort_unstable();
    ns[ns.len() / 2] as f64 / 1e6
}
