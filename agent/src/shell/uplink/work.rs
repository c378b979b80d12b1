//! What is done while a home is there: reports go up, questions are asked, what it orders is done, and others are measured. It
//! ends when the home does, when it falls silent, or when another one has answered our call.

use std::{future::pending, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{Frame, Report},
    id::ServerId,
    quic,
    record::{Reason, Why},
    socket::refusals::Unreachable,
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    End, REQUEST_PATIENCE, Uplink, UplinkEvent, UplinkRequest,
    dial::server_of,
    push::{Ears, ORDERS_MAX, Order, acknowledgements, pushes},
    requests::{Asked, fetch},
};
use crate::core::{
    Doubter,
    choice::{Advice, Because, Call, Doubt, Heard, Place, Silence},
};

/// How often the certificate's age is looked at.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);
/// Reports that wait to be written; with so many the loop's requests wait too.
const REPORTS_MAX: usize = 4;
/// Nothing is to be done before something happens.
const NOTHING: Duration = Duration::from_secs(86_400);

/// Calls to other servers, and the question to the home, that are under way.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<Called>,
    /// One of them is to become the home.
    moving: bool,
    /// Of the home, by the word of others.
    doubt: Doubt,
}

/// What came of them.
enum Called {
    Measured {
        server: ServerId,
        rtt: Option<Duration>,
    },
    Answered(Call, Result<Connection, Why>),
    /// The home has answered a question that was asked in doubt.
    There,
    /// Nothing listens where the home is, its host says.
    Refused,
}

impl Uplink {
    /// `generation`: the home's starts.
    pub(super) async fn work(
        &mut self,
        connection: &Connection,
        (send, receive): (SendStream, RecvStream),
        generation: u64,
        asked: &mut Asked,
    ) -> End {
        let (orders, mut ordered) = mpsc::channel(ORDERS_MAX);
        let ears = Ears::new(self.events.clone(), orders);
        let mut acks = std::pin::pin!(acknowledgements(receive, &ears));
        let mut pushes = std::pin::pin!(pushes(connection, &ears));
        let (reports, queue) = mpsc::channel(REPORTS_MAX);
        let mut writes = std::pin::pin!(write(send, queue, self.events.clone()));
        let (mut silence, mut calls) = (Silence::default(), Calls::default());
        self.listen(connection, &mut calls);
        let mut renewal = interval(RENEWAL_LOOK);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            silence.heard(ears.heard());
            let others = self.choice.others() > 0;
            let due =
                [silence.deadline(others), calls.doubt.deadline(), self.choice.deadline()].into_iter().flatten().min();
            let wake = Clock.instant(due.unwrap_or(Clock.now() + NOTHING));
            tokio::select! {
                biased;
                end = &mut acks => return end,
                end = &mut pushes => return end,
                end = &mut writes => return end,
                Some(done) = asked.tasks.join_next() => if let Some(event) = asked.ended(done)
                    && self.events.send(event).await.is_err() { return End::Done },
                Some(order) = ordered.recv() => if let Err(end) = self.obey(order, &mut calls).await { return end },
                Some(Ok(called)) = calls.tasks.join_next() => {
                    if let Err(end) = self.called(called, connection, &mut calls).await { return end }
                }
                request = self.requests.recv(), if reports.capacity() > 0 => match request {
                    None => return End::Done,
                    Some(UplinkRequest::Report(report)) => {
                        ears.wrote(silence.wrote(Clock.now(), report.records.len()));
                        let _ = reports.try_send(report); // there is room
                    }
                    Some(UplinkRequest::Goodbye) => {
                        drop(reports);
                        let _ = timeout(REQUEST_PATIENCE, writes).await;
                        return End::Done;
                    }
                    Some(UplinkRequest::HomeLost { by, lost, answer }) => {
                        let ours = server_of(connection) == Some(lost.server) && generation == lost.generation;
                        let asks = ours && self.doubt(connection, &mut calls);
                        let _ = answer.send(asks);
                        if let Err(end) = self.tell(UplinkEvent::Doubted { by: Doubter::Server(by), asks }).await {
                            return end;
                        }
                    }
                    Some(request) => if let Err(end) = self.ask(request, connection, asked) { return end },
                },
                _ = renewal.tick() => if self.credentials.is_due(Clock.now()) {
                    asked.renew(connection, &self.credentials);
                },
                () = sleep_until(wake) => {
                    silence.heard(ears.heard());
                    if silence.is_over(Clock.now(), others) {
                        return End::Silent(Why::new(Reason::NoAnswer, "the home does not answer reports any more"));
                    }
                    if calls.doubt.is_over(Clock.now()) {
                        let text = "the home is said to be lost, and did not answer when asked";
                        return End::Silent(Why::new(Reason::NoAnswer, text));
                    }
                    self.advised(&mut calls);
                }
            }
        }
    }

    /// What needs no more than the connection.
    fn ask(&mut self, request: UplinkRequest, connection: &Connection, asked: &mut Asked) -> Result<(), End> {
        match request {
            UplinkRequest::Fetch { peer, answer } => asked.fetch(connection, peer, answer),
            UplinkRequest::Resolve { peer } => asked.resolve(connection, peer),
            UplinkRequest::Subscribe(ask) => asked.subscribe(connection, ask),
            UplinkRequest::Unsubscribe { peer } => asked.unsubscribe(connection, peer),
            UplinkRequest::Rejoin(why) => return Err(End::Again(why)),
            UplinkRequest::Homes(homes) => {
                if self.choice.names(homes) {
                    let text = "it is no home any more: the configuration names others";
                    return Err(End::Again(Why::new(Reason::Cancelled, text)));
                }
            }
            UplinkRequest::Greet { .. }
            | UplinkRequest::Report(_)
            | UplinkRequest::HomeLost { .. }
            | UplinkRequest::Goodbye => {}
        }
        Ok(())
    }

    /// Waits until the home's host says that nothing listens there.
    fn listen(&self, connection: &Connection, calls: &mut Calls) {
        let (socket, at) = (self.dialler.socket.clone(), connection.remote_address());
        calls.tasks.spawn(async move {
            while socket.unreachable(at).await != Unreachable::Refused {}
            Called::Refused
        });
    }

    /// Somebody says that the home is lost: asks it, if there is another one to go to. Whether it is asked now.
    fn doubt(&self, connection: &Connection, calls: &mut Calls) -> bool {
        let asks = self.choice.others() > 0 && calls.doubt.raise(Clock.now(), connection.rtt());
        if asks {
            let (connection, me) = (connection.clone(), self.me.peer);
            calls.tasks.spawn(async move {
                // Homes of all versions answer this. If the connection ends that is for others to see.
                match fetch(&connection, me).await {
                    Ok(_) => Called::There,
                    Err(_) => pending().await,
                }
            });
        }
        asks
    }

    async fn obey(&mut self, order: Order, calls: &mut Calls) -> Result<(), End> {
        match order {
            Order::Servers(servers) => {
                self.choice.handle(Clock.now(), Heard::Servers(servers));
                self.tell_servers().await?;
            }
            Order::Move(_) if calls.moving => {}
            Order::Move(order) => {
                tracing::info!(why = order.detail, "the home sends this agent to another one");
                let next = self.choice.told(Clock.now(), order.server);
                self.go(next, calls);
            }
        }
        Ok(())
    }

    /// Does what the choice advises now.
    fn advised(&mut self, calls: &mut Calls) {
        while let Some(advice) = self.choice.poll(Clock.now()) {
            match advice {
                Advice::Move(call) if !calls.moving => self.go(Some(call), calls),
                Advice::Move(_) => {}
                Advice::Measure(servers) => {
                    for call in servers {
                        let Place::Server(server) = call.place else { continue };
                        let dialler = self.dialler.clone();
                        let measure =
                            async move { Called::Measured { server, rtt: dialler.measure(&call, server).await } };
                        calls.tasks.spawn(measure);
                    }
                }
            }
        }
    }

    /// Calls another home, while this one stays; `None`: nobody is left to call.
    fn go(&mut self, call: Option<Call>, calls: &mut Calls) {
        calls.moving = call.is_some();
        let Some(call) = call else { return self.choice.stay() };
        let dialler = self.dialler.clone();
        calls.tasks.spawn(async move {
            let answered = dialler.dial(&call).await;
            Called::Answered(call, answered)
        });
    }

    async fn called(&mut self, called: Called, home: &Connection, calls: &mut Calls) -> Result<(), End> {
        let (call, answered) = match called {
            Called::Measured { server, rtt } => {
                self.choice.handle(Clock.now(), Heard::Measured { server, rtt, home: home.rtt() });
                return self.tell_servers().await;
            }
            Called::There => {
                calls.doubt.answered();
                return Ok(());
            }
            Called::Refused => {
                let asks = self.doubt(home, calls);
                self.listen(home, calls);
                return self.tell(UplinkEvent::Doubted { by: Doubter::Network, asks }).await;
            }
            Called::Answered(call, answered) => (call, answered),
        };
        let failed = match answered {
            Ok(connection) if server_of(&connection) != server_of(home) => {
                let text =
                    format!("this agent goes to the home at {}: {}", call.names.join(", "), call.because.as_str());
                return Err(End::Moved(Box::new((call, connection)), Why::new(Reason::Cancelled, text)));
            }
            Ok(_) => "the call leads back to the present home".to_owned(),
            Err(why) => why.text,
        };
        tracing::info!(why = failed, "the other home was not reached");
        self.choice.handle(Clock.now(), Heard::Failed { place: call.place });
        let next = if call.because == Because::Told { self.choice.next(Clock.now()) } else { None };
        self.go(next, calls);
        Ok(())
    }
}

/// Writes reports in order, and, when there will be no more, goodbye.
async fn write(mut send: SendStream, mut reports: mpsc::Receiver<Report>, events: mpsc::Sender<UplinkEvent>) -> End {
    while let Some(report) = reports.recv().await {
        let batch = report.batch;
        if let Err(error) = quic::write_frame(&mut send, &Frame::Report(report)).await {
            return End::Lost(error.why());
        }
        if events.send(UplinkEvent::Written { batch }).await.is_err() {
            return End::Done;
        }
    }
    if quic::write_frame(&mut send, &Frame::Goodbye).await.is_ok() && send.finish().is_ok() {
        let _ = send.stopped().await;
    }
    End::Done
}
