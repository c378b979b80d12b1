//! For tests: both routers on real sockets, with a loop that answers from a script.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use hyper::Method;
use pams_shared::{
    control::{Control, ControlError, Problem, listen},
    record::{Reason, Why},
    reload::{Read, Reloader},
    serve::serve,
    status::{Liveness, Presence},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{BOUNDS, Local};
use crate::{
    config::Config,
    core::{Teller, Told},
    metrics::{Extras, Metrics},
    sample,
    shell::{
        events::Listeners,
        handle::{Handle, Request},
        reload::Reloading,
    },
};

/// An agent that knows peers 1 to 9, is reached by none but peer 2, and hangs when asked for 9. It subscribes to peer 2 by
/// configuration, and is told twice of whomever else it subscribes to; of peer 4 nothing. Its home knows neither 4, which is a buddy, nor 8.
async fn answer(mut requests: mpsc::Receiver<Request>) {
    let mut view = sample::view();
    let mut hanging = Vec::new();
    let mut listeners = Listeners::default();
    while let Some(request) = requests.recv().await {
        match request {
            Request::View(answer) => drop(answer.send(view.clone())),
            Request::Publish { status, note, answer } => {
                let version = view.presence.version + 1;
                view.presence = Presence { status, note, version, ..view.presence };
                drop(answer.send(view.presence.clone()));
            }
            Request::Ping { peer, answer } if peer == sample::peer(9) => hanging.push(answer),
            Request::Ping { peer, answer } if peer == sample::peer(2) => drop(answer.send(Ok(sample::record(peer)))),
            Request::Ping { peer, answer } => {
                let reason = [Reason::NotSent, Reason::NoAnswer, Reason::Certificate, Reason::Shutdown]
                    [peer.as_bytes()[0] as usize % 4];
                drop(answer.send(Err(Why::new(reason, "told why"))));
            }
            Request::Reconfigure { config, answer } => {
                view.name = config.label();
                let _ = answer.send(());
            }
            Request::FetchDirect { peer, answer } => {
                drop(answer.send((peer == sample::peer(2)).then(|| Ok(sample::entry(2)))));
            }
            Request::Subscribe { peer, answer } if peer == sample::ME => {
                drop(answer.send(Err(Why::new(Reason::Refused, "this is the agent's own peer"))));
            }
            Request::Subscribe { peer, answer } => {
                let new = !view.subscriptions.iter().any(|s| s.peer == peer);
                let n = peer.as_bytes()[0];
                if new {
                    view.subscriptions.push(sample::subscription(n));
                    let home = Told {
                        by: Teller::Home,
                        liveness: Some(Liveness::Gone),
                        age_ms: Some(2_500),
                        ..sample::told(n)
                    };
                    let told = [sample::told(n), Told { skipped: 3, ..home }];
                    told.iter().filter(|_| n != 4).for_each(|t| assert_eq!(listeners.tell(t), 0));
                }
                drop(answer.send(Ok(new)));
            }
            Request::Unsubscribe { peer, answer } => {
                let before = view.subscriptions.len();
                view.subscriptions.retain(|s| s.peer != peer);
                let _ = answer.send(view.subscriptions.len() < before);
            }
            Request::Listen { peer, answer } => drop(answer.send(listeners.add(peer))),
            Request::FetchFromHome { peer, answer } if [4, 8].map(sample::peer).contains(&peer) => {
                drop(answer.send(Ok(None)));
            }
            Request::FetchFromHome { answer, .. } => drop(answer.send(Ok(Some(sample::entry(3))))),
        }
    }
}

/// One that reads a good configuration with another name.
pub fn reloading(handle: Handle) -> Arc<Reloading> {
    let read = || Ok(Config { name: Some("beta".into()), ..Config::default() });
    let running = Config { name: Some("alpha".into()), ..Config::default() };
    Arc::new(Reloading::new(Reloader::new(running, Some(Read::new(read)), Default::default()), handle, None))
}

/// A running agent's front. Everything ends with it.
pub struct Front {
    folder: tempfile::TempDir,
    http: std::net::SocketAddr,
    pub stop: Vec<oneshot::Sender<()>>,
    pub tasks: JoinSet<()>,
}

impl Front {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (socket, file) = listen(&folder.path().join("agent.sock"), 0o660).await.unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (handle, requests) = Handle::new();
        let metrics = Arc::new(Metrics::new(64));
        let local = Local::new(handle.clone(), metrics.clone(), reloading(handle), Extras::default);
        let mut front = Self { folder, http: tcp.local_addr().unwrap(), stop: Vec::new(), tasks: JoinSet::new() };
        front.tasks.spawn(answer(requests));
        let (control, http) = (local.clone().control(), local.http());
        let (stop_control, stop_http) = (front.stop(), front.stop());
        let (for_control, for_http) = (metrics.clone(), metrics);
        front.tasks.spawn(async move {
            serve(socket, control, BOUNDS, || for_control.panicked(), stop_control).await;
            drop(file);
        });
        front.tasks.spawn(serve(tcp, http, BOUNDS, move || for_http.panicked(), stop_http));
        front
    }

    fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        let (stop, stopped) = oneshot::channel();
        self.stop.push(stop);
        async { drop(stopped.await) }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub fn control(&self) -> Control {
        Control::new(self.socket(), "pams-agent")
    }

    pub async fn get(&self, path: &str) -> Value {
        self.control().get(path).await.unwrap()
    }

    /// Status and problem of a request that must not succeed.
    pub async fn refused(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Problem) {
        match self.control().request::<Value>(method, path, body).await {
            Err(ControlError::Refused { status, problem }) => (status, problem),
            other => panic!("{path}: {other:?}"),
        }
    }

    /// The answer to a request written by hand. The agent may hang up before it has read all of it.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    pub async fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
