//! The emulated network inside the socket: packets to some addresses are lost, delayed, doubled or overtaken, after their
//! Sent stamp was taken and before the kernel gets them.
//!
//! A thread of its own carries them, one per socket and only if anything is emulated: tokio's timers are good to a
//! millisecond only, and an emulated network must not be slowed down by what the agents under test are busy with. It sleeps
//! until the next packet is due (the kernel wakes it within some 60 us of that) and never spins.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use quinn::udp::{EcnCodepoint, Transmit};

use super::{Io, lock};
use crate::{
    clock::Clock,
    moment::Moment,
    sim::{Link, Network},
};

/// Packets under way in one emulated network; more are lost, and counted.
pub const UNDER_WAY_MAX: usize = 4_096;

#[derive(Debug)]
pub struct Emulation {
    network: Mutex<Network<SocketAddr>>,
    way: Arc<Way>,
    carrier: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Way {
    queue: Mutex<Queue>,
    changed: Condvar,
    lost: AtomicU64,
    shed: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    packets: BinaryHeap<Reverse<Packet>>,
    carried: u64,
    closed: bool,
}

#[derive(Debug)]
struct Packet {
    due: Moment,
    /// Keeps packets that are due together in order.
    number: u64,
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    contents: Box<[u8]>,
}

impl Emulation {
    pub fn new(io: Arc<Io>, seed: [u8; 32]) -> io::Result<Self> {
        let way = Arc::new(Way::default());
        let carrier = {
            let way = way.clone();
            std::thread::Builder::new().name("network".into()).spawn(move || way.carry(&io))?
        };
        Ok(Self { network: Mutex::new(Network::new(seed)), way, carrier: Some(carrier) })
    }

    pub fn set(&self, to: SocketAddr, link: Link) {
        lock(&self.network).set(to, link);
    }

    /// Packets lost as the links say; packets lost because too many were under way or the kernel would not take them.
    pub fn lost_and_shed(&self) -> (u64, u64) {
        (self.way.lost.load(Relaxed), self.way.shed.load(Relaxed))
    }

    /// Takes the packets if their way is emulated, and says whether it did. `to` is canonical.
    pub fn take(&self, to: SocketAddr, transmit: &Transmit<'_>, now: Moment) -> bool {
        let mut network = lock(&self.network);
        if network.link(&to).is_perfect() {
            return false;
        }
        let mut queue = lock(&self.way.queue);
        for contents in super::segments(transmit) {
            let fates = network.fate(&to, now);
            if fates.is_empty() {
                self.way.lost.fetch_add(1, Relaxed);
            }
            for &due in fates.iter() {
                if queue.packets.len() >= UNDER_WAY_MAX {
                    self.way.shed.fetch_add(1, Relaxed);
                    continue;
                }
                queue.push(due, transmit, contents);
            }
        }
        drop(queue);
        self.way.changed.notify_one();
        true
    }
}

/// What is under way is lost. The thread holds the socket; once this returns, it does no more.
impl Drop for Emulation {
    fn drop(&mut self) {
        lock(&self.way.queue).closed = true;
        self.way.changed.notify_one();
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

impl Queue {
    fn push(&mut self, due: Moment, transmit: &Transmit<'_>, contents: &[u8]) {
        self.carried += 1;
        self.packets.push(Reverse(Packet {
            due,
            number: self.carried,
            to: transmit.destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
            contents: contents.into(),
        }));
    }
}

impl Way {
    fn carry(&self, io: &Io) {
        // Linux lets a thread oversleep by 50 us to save wake-ups; this one is here to be punctual.
        #[cfg(target_os = "linux")]
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut queue = lock(&self.queue);
        while !queue.closed {
            let now = Clock.now();
            queue = match queue.packets.peek().map(|Reverse(packet)| packet.due) {
                Some(due) if due <= now => {
                    let packet = queue.packets.pop();
                    drop(queue);
                    if let Some(Reverse(packet)) = packet {
                        self.deliver(io, &packet);
                    }
                    lock(&self.queue)
                }
                Some(due) => match self.changed.wait_timeout(queue, due.since(now)) {
                    Ok((queue, _)) => queue,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self.wait(queue),
            };
        }
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn deliver(&self, io: &Io, packet: &Packet) {
        let transmit = Transmit {
            destination: packet.to,
            ecn: packet.ecn,
            contents: &packet.contents,
            segment_size: None,
            src_ip: packet.src_ip,
        };
        if io.state.try_send(io.udp.get_ref().into(), &transmit).is_err() {
            self.shed.fetch_add(1, Relaxed);
        }
    }
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
