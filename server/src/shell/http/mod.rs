//! What the server says over HTTP/1.1: metrics, health, the API, service discovery; and, on the admin socket only, what an
//! operator can change. Read-only routes stand on both.
//!
//! Nothing here asks who is there. The TCP port shows to everybody who can reach it, so it is on loopback by default; the
//! admin socket is a file that only its owner can open. What makes others work (a probe) knows by which of the two it was asked. No route reads a body. Each request has its time, each connection
//! its life, each listener its number of connections (`BOUNDS`). All ends when the loop has ended.

mod api;
#[cfg(test)]
mod described;
#[cfg(test)]
pub(crate) mod front;
mod index;
mod pages;
mod probe;
mod problem;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::Request,
    http::{Method, Uri},
    middleware::{Next, from_fn, map_response},
    response::{IntoResponse, Response},
};
use pams_shared::{
    control::{self, SocketFile},
    id::ServerId,
    identity::Address,
    landing,
    openapi::{self, Routes},
    reload::Standing,
    routes,
    serve::{Bounds, serve},
    socket::Socket,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
    time::timeout,
};

pub use self::api::{Draining, ForgetAnswer};
use super::{handle::Handle, reload::Reloading};
use crate::{config::Http, core::probe::WITHIN_MAX, metrics::Metrics};

/// Of each listener's connections. They may be silent for longer than the usual time between two scrapes, so that Prometheus
/// keeps its.
const BOUNDS: Bounds = Bounds {
    connections: 128,
    silent: Duration::from_secs(75),
    life: Some(Duration::from_secs(10 * 60)),
    grace: Duration::from_secs(2),
};
/// How long an answer may take to begin.
const PATIENCE: Duration = Duration::from_secs(12);
const _: () = assert!(PATIENCE.as_secs() > WITHIN_MAX.as_secs());

/// What every route may answer beside its own.
#[cfg(test)]
const COMMON: &[openapi::Common] =
    &[(503, "The server is starting, stopping or stuck; `Retry-After` says when to ask again, where that is known")];

/// What stands at the head of the description of the routes.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "pams-server",
        description = "Who is here, and how they are doing. All of it can be asked on the TCP port (`http`) and on the admin socket, but \
                       for `/admin`, which stands on the socket only. Times that end in `_ms` are milliseconds, those in `_ns` \
                       nanoseconds; `since_ms` and `at_ms` are wall clocks, in ms since 1970. What is not known is absent or null, never 0. Each error is a \
                       problem of RFC 9457, with a `hint` at what to do. A query that is not known is refused."
    ),
    tags(
        (name = "about", description = "What is where"),
        (name = "api", description = "Peers, overlays, events, servers"),
        (name = "operation", description = "For Prometheus and supervisors"),
        (name = "admin", description = "What changes something: on the admin socket only"),
    )
)]
struct Description;

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Sources {
    pub handle: Handle,
    pub metrics: Arc<Metrics>,
    pub udp: Arc<Socket>,
    pub about: About,
    pub reloading: Arc<Reloading>,
}

/// This server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct About {
    pub id: ServerId,
    pub name: String,
    pub domain: String,
    pub software: String,
    /// The count of starts.
    pub generation: u64,
    /// Our wall clock at the start, ms since 1970.
    pub started_ms: u64,
    /// Where agents find it.
    #[schema(value_type = String, example = "192.0.2.1:7420")]
    pub quic: SocketAddr,
    /// Where HTTP is served on TCP. Absent: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "127.0.0.1:7480")]
    pub http: Option<SocketAddr>,
    /// What join tokens give.
    #[schema(value_type = Vec<String>, example = json!(["home.example.org:7420"]))]
    pub advertise: Vec<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Standing>,
}

/// Bound, and not answering yet.
#[derive(Debug)]
pub struct Listeners {
    tcp: Option<(TcpListener, SocketAddr)>,
    admin: UnixListener,
    socket_file: SocketFile,
}

/// Why HTTP cannot be served; nothing is left bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    #[error("cannot listen on TCP {address} for HTTP: {source}; --http names another address, or off")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Admin(io::Error),
}

/// Binds the TCP port, unless it is off, and the admin socket.
pub async fn bind(http: Http, admin: &Path) -> Result<Listeners, ListenError> {
    let tcp = match http {
        Http::Off => None,
        Http::At(address) => {
            let told = |source| ListenError::Tcp { address, source };
            let listener = TcpListener::bind(address).await.map_err(told)?;
            let bound = listener.local_addr().map_err(told)?;
            Some((listener, bound))
        }
    };
    let (admin, socket_file) = control::listen(admin, 0o600).await.map_err(ListenError::Admin)?;
    Ok(Listeners { tcp, admin, socket_file })
}

impl Listeners {
    /// The TCP port, unless it is off.
    pub fn http(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address)| *address)
    }

    /// Serves in `tasks` until the loop has ended.
    pub fn serve(self, sources: Sources, tasks: &mut JoinSet<()>) {
        if let Some(open) = self.http().filter(|address| !address.ip().is_loopback()) {
            tracing::info!(http = %open, "other hosts can ask over HTTP, which tells who talks to whom");
        }
        let (handle, metrics) = (sources.handle.clone(), sources.metrics.clone());
        let sources = Arc::new(sources);
        if let Some((tcp, _)) = self.tcp {
            let router = finish(read_only(), sources.clone(), Entrance::Tcp);
            let (handle, metrics) = (handle.clone(), metrics.clone());
            tasks.spawn(async move { serve(tcp, router, BOUNDS, || metrics.panicked(), handle.ended()).await });
        }
        let (admin, router, socket_file) =
            (self.admin, finish(everything(), sources, Entrance::Admin), self.socket_file);
        tasks.spawn(async move {
            serve(admin, router, BOUNDS, || metrics.panicked(), handle.ended()).await;
            drop(socket_file);
        });
    }
}

/// Where a request came in; an extension of each.
#[derive(Clone, Copy, Debug)]
enum Entrance {
    /// Whoever can open that socket is an operator.
    Admin,
    Tcp,
}

/// The description of all routes; each listener serves its own part.
const DESCRIPTION: &str = include_str!("../../../openapi.json");

routes! {
    /// What every listener serves: it changes nothing here.
    read_only of Arc<Sources>, described by ReadOnly:
    index::index, api::metrics, api::healthz, api::readyz, api::server, api::peers, api::peer, api::overlays, api::events,
    api::cluster, api::ledger, pages::sd, pages::sd_servers, probe::probe,
}

routes! {
    /// What the admin socket serves beside.
    admin_only of Arc<Sources>, described by AdminOnly: api::forget, api::reload, api::drain,
}

/// What the admin socket serves.
fn everything() -> Routes<Arc<Sources>> {
    read_only().and(admin_only())
}

fn finish(routes: Routes<Arc<Sources>>, sources: Arc<Sources>, entrance: Entrance) -> Router {
    let not_allowed = async |method: Method, uri: Uri| problem::method(&method, uri.path());
    let not_found = async |uri: Uri| problem::path(uri.path());
    openapi::served(routes, DESCRIPTION)
        .method_not_allowed_fallback(not_allowed)
        .fallback(not_found)
        .layer(Extension(entrance))
        .layer(from_fn(in_time))
        .layer(map_response(landing::guard))
        .with_state(sources)
}

async fn in_time(request: Request, next: Next) -> Response {
    timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| problem::slow(PATIENCE).into_response())
}

#[cfg(test)]
mod tests;
