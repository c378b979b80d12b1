//! Serves a router on a listener: a bounded number of connections, none of which can be silent for long, all owned here
//! and ended in good order. (`axum::serve` bounds none of this, and spawns tasks that nobody joins.)
//!
//! How long an answer may take, and how large a body may be, is the router's matter.

use std::{future::pending, net::IpAddr, time::Duration};

use axum::{
    Json, Router,
    http::{
        HeaderValue, Request, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    serve::Listener,
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, unix::UCred},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::control::{PROBLEM_TYPE, Problem};

/// What a connection reads ahead, so also its longest request head.
const BUFFER_BYTES: usize = 16 << 10;

/// What one listener's connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long a connection may be without a whole request head: between requests, too.
    pub silent: Duration,
    /// How long it may last in all, if there is a bound; a client that is still there makes a new one.
    pub life: Option<Duration>,
    /// What an answer under way gets to be finished when its connection has to end.
    pub grace: Duration,
}

/// Serves until `stop`, then lets answers under way finish. `panicked` is called for each request that panics, which costs
/// its connection only.
pub async fn serve<L>(
    mut listener: L,
    router: Router,
    bounds: Bounds,
    panicked: impl Fn(),
    stop: impl Future<Output = ()>,
) where
    L: Listener<Io: Calling>,
{
    let reap = |ended: Result<(), JoinError>| {
        if ended.is_err_and(|e| e.is_panic()) {
            panicked();
            tracing::error!("a bug ended an HTTP connection; all else goes on");
        }
    };
    let (leave, leaving) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => reap(ended),
            (io, _) = listener.accept(), if connections.len() < bounds.connections => {
                connections.spawn(connection(io, router.clone(), bounds, leaving.clone()));
            }
        }
    }
    drop(listener);
    leave.send_replace(true);
    while let Some(ended) = connections.join_next().await {
        reap(ended);
    }
}

async fn connection<I>(io: I, router: Router, bounds: Bounds, mut leaving: watch::Receiver<bool>)
where
    I: Calling + AsyncRead + AsyncWrite + Unpin,
{
    let caller = io.caller();
    let router = TowerToHyperService::new(router);
    let answer = hyper::service::service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        router.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.silent).max_buf_size(BUFFER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(io), answer);
    tokio::pin!(connection);
    let outlived = async {
        match bounds.life {
            Some(life) => sleep(life).await,
            None => pending().await,
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = leaving.wait_for(|leaving| *leaving) => None,
        () = outlived => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(bounds.grace, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        // The client's: it went away, or does not speak HTTP.
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}

/// Who is on the other end of a connection, as far as the kernel knows; each request has it as an extension.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    cred: Option<UCred>,
    from: Option<IpAddr>,
}

/// A stream that can tell who called.
pub trait Calling {
    fn caller(&self) -> Caller;
}

impl Calling for UnixStream {
    fn caller(&self) -> Caller {
        Caller { cred: self.peer_cred().ok(), from: None }
    }
}

impl Calling for TcpStream {
    /// Nobody can be known by an address, but told from others.
    fn caller(&self) -> Caller {
        Caller { cred: None, from: self.peer_addr().ok().map(|at| at.ip().to_canonical()) }
    }
}

impl Caller {
    /// Of a TCP connection.
    pub fn address(self) -> Option<IpAddr> {
        self.from
    }

    /// Leaves a trace of who asked for a change.
    pub fn log(self, asked: &str) {
        match self.cred {
            Some(cred) => tracing::debug!(uid = cred.uid(), gid = cred.gid(), pid = cred.pid(), "asked for {asked}"),
            None => tracing::debug!("asked for {asked}, by nobody known"),
        }
    }
}

/// An answer that says no: always JSON, with what was wrong and, where there is something, what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub problem: Problem,
    /// When to try again; told by the second, rounded up.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, problem: Problem::new(error), retry_after: None }
    }

    /// 400: the client's mistake.
    pub fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 503: ours, and perhaps not for long.
    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { problem: self.problem.hint(hint), ..self }
    }

    /// A word for programs: see [`Problem::reason`].
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { problem: self.problem.reason(reason), ..self }
    }

    pub fn after(self, time: Duration) -> Self {
        Self { retry_after: Some(time), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem {
            status: self.status.as_u16(),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            ..self.problem
        };
        let mut response = (self.status, Json(problem)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::oneshot,
    };

    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections: 2,
        silent: Duration::from_secs(60),
        life: Some(Duration::from_secs(30)),
        grace: Duration::from_secs(2),
    };

    /// A listener that serves `router` while `client` asks it; gives what the client gives, and how many panics there were.
    async fn served<T>(router: Router, client: impl AsyncFnOnce(TcpStream, oneshot::Sender<()>) -> T) -> (T, usize) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let panics = AtomicUsize::new(0);
        let panicked = || _ = panics.fetch_add(1, Relaxed);
        let ((), told) = tokio::join!(
            serve(listener, router, BOUNDS, panicked, async { drop(stopped.await) }),
            client(stream, stop)
        );
        (told, panics.load(Relaxed))
    }

    async fn ask(stream: &mut TcpStream, path: &str) {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    }

    /// All that still comes, until the other side ends.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_under_way_is_finished_at_the_end_and_a_slow_one_is_cut_off() {
        for (takes, expected) in [(1, "HTTP/1.1 200 OK\r\n"), (3, "")] {
            let (asked, was_asked) = oneshot::channel::<()>();
            let asked = std::sync::Arc::new(std::sync::Mutex::new(Some(asked)));
            let answer = move || async move {
                drop(asked.lock().unwrap().take());
                sleep(Duration::from_secs(takes)).await;
            };
            let (told, _) = served(Router::new().route("/", get(answer)), async |mut stream, stop| {
                ask(&mut stream, "/").await;
                let _ = was_asked.await;
                drop(stop);
                rest(stream).await
            })
            .await;
            assert_eq!(
                told.lines().next().map(|line| format!("{line}\r\n")).unwrap_or_default(),
                expected,
                "{takes} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_its_life() {
        served(Router::new(), async |mut stream, _stop| {
            let mut byte = [0];
            let early = timeout(Duration::from_secs(29), stream.read(&mut byte)).await;
            assert!(early.is_err(), "{early:?}");
            assert_eq!(timeout(Duration::from_secs(4), stream.read(&mut byte)).await.unwrap().unwrap(), 0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_panic_is_counted() {
        let bug = || async {
            if BOUNDS.connections > 0 {
                panic!("a bug, on purpose");
            }
        };
        let (told, panics) = served(Router::new().route("/", get(bug)), async |mut stream, _stop| {
            ask(&mut stream, "/").await;
            rest(stream).await
        })
        .await;
        assert_eq!((told.as_str(), panics), ("", 1));
    }

    #[test]
    fn a_refusal_says_by_the_second_when_to_try_again() {
        for (after, told) in [(0, "1"), (1_000, "1"), (1_001, "2")] {
            let response = Refusal::unavailable("x").after(Duration::from_millis(after)).into_response();
            assert_eq!(
                (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
                (503, &HeaderValue::from_static(told))
            );
        }
        assert!(!Refusal::bad("x").into_response().headers().contains_key(RETRY_AFTER));
    }
}
