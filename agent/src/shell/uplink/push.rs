//! What the home sends: acknowledgements on the stream of the reports, and on streams of its own what it tells and asks unasked.

use std::{
    future::pending,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use pams_shared::{
    clock::Clock,
    frame::{Frame, FrameError, Move, ReportAck, Server},
    quic::{self, StreamError},
    record::Reason,
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, oneshot};

use super::{End, UplinkEvent, lost};
use crate::core::CHECKS_MAX;

/// Answers that wait for their stream: those of the checks under way, and of as many that are refused.
const ANSWERS_MAX: usize = 2 * CHECKS_MAX;
/// Orders that wait; beyond, the home is not read.
pub(super) const ORDERS_MAX: usize = 8;

/// What the home says to the uplink itself.
#[derive(Debug)]
pub(super) enum Order {
    Servers(Vec<Server>),
    Move(Move),
}

/// Where what was read goes.
pub(super) struct Ears {
    events: mpsc::Sender<UplinkEvent>,
    orders: mpsc::Sender<Order>,
    /// Reports that were written.
    written: AtomicU64,
    /// Of them, how many the home has heard, by its word.
    heard: AtomicU64,
}

impl Ears {
    pub fn new(events: mpsc::Sender<UplinkEvent>, orders: mpsc::Sender<Order>) -> Self {
        Self { events, orders, written: AtomicU64::new(0), heard: AtomicU64::new(0) }
    }

    /// So many reports have been written by now.
    pub fn wrote(&self, written: u64) {
        self.written.store(written, Relaxed);
    }

    /// How many of the reports the home has heard.
    pub fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// An acknowledgement says how many came; that of an older home may mean all that were written.
    fn acknowledged(&self, ack: &ReportAck) {
        let came = if ack.came == 0 { self.written.load(Relaxed) } else { ack.came };
        self.heard.fetch_max(came, Relaxed);
    }

    /// Never ends if the loop is gone, whose end ends the uplink.
    async fn tell(&self, event: UplinkEvent) {
        if self.events.send(event).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Reads what the home sends until the connection ends.
pub(super) async fn acknowledgements(mut receive: RecvStream, ears: &Ears) -> End {
    loop {
        let event = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::ReportAck(ack))) => {
                ears.acknowledged(&ack);
                UplinkEvent::Acked(ack)
            }
            Ok(Some(_)) => UplinkEvent::Rejected { label: "misplaced" },
            Err(StreamError::Frame(error @ FrameError::UnknownKind { .. })) => {
                UplinkEvent::Rejected { label: error.label() }
            }
            Ok(None) => return lost(Reason::Refused, "the home ended the conversation"),
            Err(error) => return End::Lost(error.why()),
        };
        ears.tell(event).await;
    }
}

/// Reads what the home tells unasked, on the stream that it opens for that. Of several such streams the next is read when the
/// one before has ended. The end of the connection is for [`acknowledgements`] to see.
pub(super) async fn pushes(connection: &Connection, ears: &Ears) -> End {
    loop {
        // Our half stays open as long as theirs.
        let Ok((send, receive)) = connection.accept_bi().await else { return pending().await };
        let (answers, waiting) = mpsc::channel(ANSWERS_MAX);
        let end = tokio::select! {
            biased;
            end = hear(receive, answers, ears) => end,
            () = answer(send, waiting) => None,
        };
        if let Some(end) = end {
            return end;
        }
    }
}

/// Reads one stream; `None`: it has ended and nothing is wrong.
async fn hear(mut receive: RecvStream, answers: mpsc::Sender<Frame>, ears: &Ears) -> Option<End> {
    loop {
        let event = match quic::read_frame(&mut receive).await {
            Ok(Some(Frame::Roster(roster))) => UplinkEvent::Roster(roster),
            Ok(Some(Frame::Notify(notify))) => {
                let (answer, ack) = oneshot::channel();
                ears.tell(UplinkEvent::Notify { notify, arrived: Clock.now(), answer }).await;
                if let Ok(ack) = ack.await {
                    answers.send(Frame::NotifyAck(ack)).await.ok()?;
                }
                continue;
            }
            Ok(Some(Frame::Check(check))) => {
                let came = Clock.now();
                let answer = answers.clone().reserve_owned().await.ok()?;
                UplinkEvent::Check { check, came, answer }
            }
            Ok(Some(Frame::Servers(servers))) => {
                ears.orders.send(Order::Servers(servers)).await.ok()?;
                continue;
            }
            Ok(Some(Frame::Move(order))) => {
                ears.orders.send(Order::Move(order)).await.ok()?;
                continue;
            }
            Ok(Some(_)) => UplinkEvent::Rejected { label: "misplaced" },
            Err(StreamError::Frame(error @ FrameError::UnknownKind { .. })) => {
                UplinkEvent::Rejected { label: error.label() }
            }
            Ok(None) | Err(StreamError::Connection(_) | StreamError::Read(_)) => return None,
            Err(error) => return Some(End::Lost(error.why())),
        };
        ears.tell(event).await;
    }
}

/// Writes the answers in the order in which they come; ends when the home does not read them any more.
async fn answer(mut send: SendStream, mut waiting: mpsc::Receiver<Frame>) {
    while let Some(frame) = waiting.recv().await {
        if quic::write_frame(&mut send, &frame).await.is_err() {
            return;
        }
    }
    pending::<()>().await;
}
