//! A home that does as it is told, on a real endpoint: takes Hello, acknowledges reports or keeps silent, and pushes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use pams_shared::{
    clock::Clock,
    frame::{
        Checked, Frame, Hello, HelloAck, HomeLost, Member, Rejected, Rejection, Report, ReportAck, Server, Terms,
        capability, close,
    },
    id::ServerId,
    identity::{Authority, client_tls, server_tls, system_time},
    quic,
    socket::Socket,
};
use quinn::{Connection, Endpoint, SendStream};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

const PACE_MS: u64 = 100;
const LOOPBACK: &str = "127.0.0.1:0";

/// What a home has seen.
#[derive(Debug)]
pub enum Seen {
    Hello(Box<Hello>),
    Report(Report),
    Checked(Checked),
    Goodbye,
    /// A question, and it was answered.
    Question,
}

pub struct Home {
    pub id: ServerId,
    pub at: SocketAddr,
    pub seen: mpsc::UnboundedReceiver<Seen>,
    manner: Arc<Manner>,
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    _tasks: JoinSet<()>,
}

/// How it behaves, for all its connections.
struct Manner {
    /// Reads and answers nothing.
    mute: AtomicBool,
    /// Talks on, and is as one that does not hear what is said to it.
    deaf: AtomicBool,
    /// Turns everybody away.
    busy: AtomicBool,
    tell: mpsc::UnboundedSender<Seen>,
    /// Of the last agent that it took.
    push: Mutex<Option<SendStream>>,
}

impl Home {
    pub fn start(authority: &Authority) -> Self {
        let tls = server_tls(authority.own(), authority.root(), system_time()).unwrap();
        let config = quic::server_config(tls.into(), quic::home_transport()).unwrap();
        let client = client_tls(authority.own(), authority.root(), system_time()).unwrap();
        let client = quic::client_config(client.into(), quic::peer_transport()).unwrap();
        let (socket, _) = Socket::bind(LOOPBACK.parse().unwrap(), 64).unwrap();
        let at = socket.address().unwrap();
        let endpoint = quic::endpoint(socket, authority.reset_key(), Some(config)).unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        let manner =
            Manner { mute: false.into(), deaf: false.into(), busy: false.into(), tell, push: Mutex::new(None) };
        let manner = Arc::new(manner);
        let mut tasks = JoinSet::new();
        let (accept, of_all) = (endpoint.clone(), manner.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(incoming) = accept.accept().await {
                let manner = of_all.clone();
                connections.spawn(async move {
                    if let Ok(connection) = incoming.await {
                        // It ends when the agent does, and whoever only measures says nothing.
                        let _ = manner.serve(connection).await;
                    }
                });
            }
        });
        Self { id: authority.server_id(), at, seen, manner, endpoint, client, _tasks: tasks }
    }

    pub fn keep_silent(&self) {
        self.manner.mute.store(true, Relaxed);
    }

    pub fn talk_on(&self) {
        self.manner.deaf.store(true, Relaxed);
    }

    pub fn turn_away(&self) {
        self.manner.busy.store(true, Relaxed);
    }

    pub fn stop(&self) {
        self.endpoint.close(close::GOODBYE.into(), b"");
    }

    /// Says this to the agent that came last.
    pub async fn push(&self, frame: &Frame) {
        let mut push = self.manner.push.lock().await;
        quic::write_frame(push.as_mut().expect("an agent"), frame).await.unwrap();
    }

    /// Calls an agent and tells it that a home of it is lost; whether the agent asks that home.
    pub async fn tells(&self, agent: SocketAddr, name: &str, lost: HomeLost) -> bool {
        let connection = quic::connect(&self.endpoint, self.client.clone(), agent, name).await.unwrap();
        let hello = Hello {
            software: "scripted".into(),
            epoch: 1,
            capabilities: capability::SIBLINGS,
            wall_ms: 0,
            attach: 0,
            profile: None,
            member: None,
        };
        let Frame::HelloAck(ack) = quic::request(&connection, &Frame::Hello(hello)).await.unwrap() else { panic!() };
        assert_eq!(ack.verdict, Ok(()));
        let Frame::HomeLostAck(asks) = quic::request(&connection, &Frame::HomeLost(lost)).await.unwrap() else {
            panic!()
        };
        asks
    }

    /// That it is lost, as another would say.
    pub fn lost(&self) -> HomeLost {
        HomeLost { server: self.id, generation: 1, for_ms: 700 }
    }

    /// As others know it.
    pub fn known(&self, load: u32) -> Server {
        let member = Member {
            id: self.id,
            generation: 1,
            name: "scripted".into(),
            addresses: vec![self.at],
            http: None,
            region: String::new(),
            software: String::new(),
        };
        Server { member, load }
    }

    /// The next Hello; reports before it do not matter.
    pub async fn hello(&mut self) -> Hello {
        loop {
            if let Seen::Hello(hello) = self.seen.recv().await.expect("it runs") {
                return *hello;
            }
        }
    }

    pub async fn report(&mut self) -> Report {
        loop {
            if let Seen::Report(report) = self.seen.recv().await.expect("it runs") {
                return report;
            }
        }
    }

    pub async fn question(&mut self) {
        while !matches!(self.seen.recv().await.expect("it runs"), Seen::Question) {}
    }

    pub async fn checked(&mut self) -> Checked {
        loop {
            if let Seen::Checked(checked) = self.seen.recv().await.expect("it runs") {
                return checked;
            }
        }
    }
}

impl Manner {
    async fn serve(self: Arc<Self>, connection: Connection) -> Option<()> {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let Ok(Some(Frame::Hello(hello))) = quic::read_frame(&mut receive).await else { return None };
        let busy = Rejected { code: Rejection::Busy, detail: "as the script says".into() };
        let busy = self.busy.load(Relaxed).then_some(busy);
        let ack = HelloAck {
            software: "scripted".into(),
            epoch: 1,
            capabilities: capability::ROSTERS,
            wall_ms: Clock.now().wall_ms(),
            observed: None,
            terms: busy.is_none().then_some(Terms { pace_ms: PACE_MS, gone_after_ms: 4_500, applied_batch: 0 }),
            verdict: busy.map_or(Ok(()), Err),
            member: None,
        };
        quic::write_frame(&mut send, &Frame::HelloAck(ack)).await.ok()?;
        let (mut push, mut answers) = connection.open_bi().await.ok()?;
        quic::write_frame(&mut push, &Frame::Roster(Default::default())).await.ok()?;
        *self.push.lock().await = Some(push);
        self.tell.send(Seen::Hello(Box::new(hello))).ok()?;
        let of_answers = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok(Some(frame)) = quic::read_frame(&mut answers).await {
                if let Frame::Checked(checked) = frame {
                    let _ = of_answers.tell.send(Seen::Checked(checked));
                }
            }
        });
        let (of_questions, asked) = (self.clone(), connection.clone());
        tasks.spawn(async move {
            while let Ok((mut send, mut receive)) = asked.accept_bi().await {
                let question = quic::read_frame(&mut receive).await;
                let hears = !of_questions.mute.load(Relaxed) && !of_questions.deaf.load(Relaxed);
                if matches!(question, Ok(Some(Frame::Fetch(_)))) && hears {
                    let _ = quic::write_frame(&mut send, &Frame::FetchAck(None)).await;
                    let _ = of_questions.tell.send(Seen::Question);
                }
            }
        });
        let mut came = 0;
        loop {
            match quic::read_frame(&mut receive).await.ok()?? {
                Frame::Report(report) if self.deaf.load(Relaxed) => {
                    let ack = ReportAck { batch: 0, pace_ms: PACE_MS, came };
                    quic::write_frame(&mut send, &Frame::ReportAck(ack)).await.ok()?;
                    let mut push = self.push.lock().await;
                    quic::write_frame(push.as_mut()?, &Frame::Roster(Default::default())).await.ok()?;
                    self.tell.send(Seen::Report(report)).ok()?;
                }
                Frame::Report(report) if !self.mute.load(Relaxed) => {
                    came += 1;
                    let ack = ReportAck { batch: report.batch, pace_ms: PACE_MS, came };
                    quic::write_frame(&mut send, &Frame::ReportAck(ack)).await.ok()?;
                    self.tell.send(Seen::Report(report)).ok()?;
                }
                Frame::Report(report) => self.tell.send(Seen::Report(report)).ok()?,
                Frame::Goodbye => self.tell.send(Seen::Goodbye).ok()?,
                other => panic!("{other:?}"),
            }
        }
    }
}
