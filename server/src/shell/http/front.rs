//! For tests: a server without QUIC. Both listeners on real sockets, with an engine that a small loop owns.

use std::{collections::BTreeMap, net::IpAddr};

use axum::http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use pams_shared::{
    config::ConfigError,
    control::{Control, Problem},
    id::PeerId,
    moment::Moment,
    reload::{Read, Reloader},
};
use serde_json::Value;
use tokio::{
    net::TcpSocket,
    task::{AbortHandle, JoinSet},
};

use super::*;
use crate::{
    config::{Config, SOFTWARE},
    core::{Input, Output, Pams, probe::ProbeId},
    sample,
    shell::handle::{Forgotten, Request as Ask},
};

/// A server without QUIC.
pub struct Served {
    pub address: SocketAddr,
    pub admin: Control,
    pub dir: tempfile::TempDir,
    pub tasks: JoinSet<()>,
    /// Of the loop.
    pub answering: AbortHandle,
}

/// Answers as the loop does; the ids of gamma and of a stranger are bound.
async fn answer(mut pams: Pams, now: Moment, mut requests: tokio::sync::mpsc::Receiver<Ask>) {
    let mut bound = vec![sample::GAMMA, STRANGER];
    while let Some(request) = requests.recv().await {
        match request {
            Ask::Look(look) => look(&pams, now),
            Ask::Probe { peer, within, caller, answer } => {
                pams.handle(now, Input::Probe { probe: ProbeId(1), peer, within, caller });
                let probed = sample::outputs(&mut pams).into_iter().find_map(|o| match o {
                    Output::Probed { answer, .. } => Some(answer),
                    _ => None,
                });
                // Nobody of the sample can be asked, so that it is answered at once.
                let _ = answer.send(probed.unwrap());
            }
            Ask::Drain { answer } => {
                pams.handle(now, Input::Evacuate);
                let _ = answer.send(());
            }
            Ask::Reconfigure { config, answer } => {
                pams.handle(now, Input::Reconfigured(Box::new(config.core())));
                let _ = answer.send(());
            }
            Ask::Forget { peer, force, answer } => {
                pams.handle(now, Input::Forget { peer, force });
                let outputs = sample::outputs(&mut pams);
                let entry = outputs.iter().find_map(|o| match o {
                    Output::Forgot { answer, .. } => Some(*answer),
                    _ => None,
                });
                let before = bound.len();
                bound.retain(|id| *id != peer);
                let _ = answer.send(Ok(Forgotten { entry: entry.unwrap(), unbound: bound.len() < before }));
            }
        }
    }
}

/// No entry, but a key.
pub const STRANGER: PeerId = PeerId::from_bytes([0xee; 16]);

/// What a reload reads.
fn read() -> Result<Config, ConfigError> {
    Ok(Config { name: Some("new".into()), domain: Some("other.example".into()), ..Config::default() })
}

/// Serves `pams`, for which it is always `now`.
pub async fn serve(pams: Pams, now: Moment) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let (handle, requests) = Handle::new();
    let (udp, _) = Socket::bind(([127, 0, 0, 1], 0).into(), 1).unwrap();
    let listeners = bind(Http::At(([127, 0, 0, 1], 0).into()), &dir.path().join("admin.sock")).await.unwrap();
    let address = listeners.http().unwrap();
    let about = About {
        id: ServerId::from_bytes([5; 16]),
        name: "home".into(),
        domain: "pams.internal".into(),
        software: SOFTWARE.into(),
        generation: 3,
        started_ms: sample::STARTED_MS,
        quic: udp.address().unwrap(),
        http: Some(address),
        advertise: vec!["home.example.org:7420".parse().unwrap()],
        configuration: None,
    };
    let metrics = Arc::new(Metrics::new(2).unwrap());
    metrics.certificates(pams_shared::identity::Expiry { leaf: 1, intermediate: 2, root: 3 });
    let mut tasks = JoinSet::new();
    let quic = about.quic;
    let reloader = Reloader::new(Config::default(), Some(Read::new(read)), Default::default());
    let reloading = Arc::new(Reloading::new(reloader, handle.clone(), None, quic));
    listeners.serve(Sources { handle, metrics, udp, about, reloading }, &mut tasks);
    let answering = tasks.spawn(answer(pams, now, requests));
    let admin = Control::new(dir.path().join("admin.sock"), "pams-server");
    Served { address, admin, dir, tasks, answering }
}

/// The four peers of the sample.
pub async fn usual() -> Served {
    serve(sample::pams(), sample::now()).await
}

pub struct Got {
    pub status: StatusCode,
    pub headers: BTreeMap<String, String>,
    pub text: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn problem(&self) -> Problem {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

impl Served {
    pub async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path).await
    }

    pub async fn ask(&self, method: Method, path: &str) -> Got {
        self.ask_from([127, 0, 0, 1].into(), method, path).await
    }

    /// From another address of this host.
    pub async fn ask_from(&self, from: IpAddr, method: Method, path: &str) -> Got {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
        let exchange = async {
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                (name.to_string(), value.to_str().unwrap().to_owned())
            };
            let (status, headers) = (response.status(), response.headers().iter().map(header).collect());
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            Got { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
        };
        tokio::pin!(exchange);
        tokio::select! {
            got = &mut exchange => got,
            _ = connection => exchange.await,
        }
    }
}
