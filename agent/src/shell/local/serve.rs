//! Serves a router on a listener: a bounded number of connections, none of which can be silent for long, all owned here
//! and ended in good order. (`axum::serve` bounds none of this, and spawns tasks that nobody joins.)

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Request, Response, StatusCode},
    response::IntoResponse,
    serve::Listener,
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use pams_shared::control::Problem;
use tokio::{
    net::{TcpStream, UnixStream, unix::UCred},
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{REQUEST_WITHIN, Refusal};
use crate::metrics::Metrics;

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be without a whole request head: between requests, too.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// What a connection reads ahead, so also its longest request head.
const BUFFER_BYTES: usize = 16 << 10;
/// How long answers under way may take at the end.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Who is on the other end of a connection, as far as the kernel knows; each request has it as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Caller(Option<UCred>);

/// A stream that can tell who called.
pub trait Calling {
    fn caller(&self) -> Caller;
}

impl Calling for UnixStream {
    fn caller(&self) -> Caller {
        Caller(self.peer_cred().ok())
    }
}

impl Calling for TcpStream {
    /// Nobody can be known by an address.
    fn caller(&self) -> Caller {
        Caller(None)
    }
}

impl Caller {
    /// Leaves a trace of who asked for a change.
    pub fn log(self, asked: &str) {
        match self.0 {
            Some(cred) => tracing::debug!(uid = cred.uid(), gid = cred.gid(), pid = cred.pid(), "asked for {asked}"),
            None => tracing::debug!("asked for {asked}, by nobody known"),
        }
    }
}

/// Serves until `stop`, then lets answers under way finish within a second. Panics of requests are counted; they cost
/// their connection only.
pub async fn serve<L>(mut listener: L, router: Router, metrics: Arc<Metrics>, stop: impl Future<Output = ()>)
where
    L: Listener<Io: Calling>,
{
    let (leave, leaving) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => reap(ended, &metrics),
            (io, _) = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(connection(io, router.clone(), leaving.clone()));
            }
        }
    }
    drop(listener);
    leave.send_replace(true);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            reap(ended, &metrics);
        }
    };
    // What is not done by then is aborted as the set is dropped.
    let _ = timeout(LEAVE_WITHIN, rest).await;
}

fn reap(ended: Result<(), JoinError>, metrics: &Metrics) {
    if ended.is_err_and(|e| e.is_panic()) {
        metrics.panicked();
        tracing::error!("a request's task panicked; its connection is lost, the agent goes on");
    }
}

async fn connection<I>(io: I, router: Router, mut leaving: watch::Receiver<bool>)
where
    I: Calling + tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let caller = io.caller();
    let router = TowerToHyperService::new(router);
    let answer = hyper::service::service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        let answer = timeout(REQUEST_WITHIN, router.call(request));
        async { Ok::<_, Infallible>(answer.await.map_or_else(|_| too_slow(), |Ok(answer)| answer)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(SILENT_MAX).max_buf_size(BUFFER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(io), answer);
    tokio::pin!(connection);
    let left = async { drop(leaving.wait_for(|leaving| *leaving).await) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = left => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}

/// The body was not sent in time, or the loop hangs.
fn too_slow() -> Response<axum::body::Body> {
    Refusal(StatusCode::REQUEST_TIMEOUT, Problem::new("the request took too long")).into_response()
}
