//! Serves connections of one listener: a bounded number at once, each for a bounded time, so that clients that say
//! nothing, or read nothing, cost little and do not stay. (`axum::serve` bounds neither.)

use std::{sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{metrics::Metrics, shell::handle::Handle};

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// A head of a request is never longer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a connection may say nothing. Longer than the usual time between two scrapes, so that Prometheus keeps its.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// How long a connection may live in all; a client that is still there makes a new one.
const LIFE_MAX: Duration = Duration::from_secs(10 * 60);
/// What an answer under way gets to be finished when its connection has to end.
const GRACE: Duration = Duration::from_secs(2);

/// Until the loop has ended; then what is under way is finished.
pub async fn run<L: Listener>(mut listener: L, router: Router, handle: Handle, metrics: Arc<Metrics>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = handle.ended() => break,
            Some(ended) = connections.join_next() => note(ended, &metrics),
            (io, _) = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(connection(io, router.clone(), handle.clone()));
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note(ended, &metrics);
    }
}

async fn connection(io: impl AsyncRead + AsyncWrite + Unpin + Send, router: Router, handle: Handle) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX).max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        // An error is the client's: it went away, or does not speak HTTP.
        _ = &mut connection => return,
        () = handle.ended() => {}
        () = sleep(LIFE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

fn note(ended: Result<(), tokio::task::JoinError>, metrics: &Metrics) {
    if ended.is_err_and(|e| e.is_panic()) {
        metrics.panicked();
        tracing::error!("a bug ended an HTTP connection; the server goes on");
    }
}
