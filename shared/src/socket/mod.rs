//! The UDP socket under QUIC, which stamps: it knows when a datagram was handed to the kernel and when one came out of the
//! network, which is where transactions are timed. With feature `sim` it also carries the emulated network.
//!
//! It gives QUIC packets as they are and keeps none. QUIC encrypts them, so which packet carried which datagram goes by
//! order and length ([`stamps`]). One socket serves all connections of a daemon, both ways.

#[cfg(feature = "sim")]
mod emulate;
mod receive;
pub mod refusals;
pub mod stamps;

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
};

use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use self::{
    refusals::{Refusals, Unreachable, is_pending_error},
    stamps::{Arrivals, Expected, canonical},
};
use crate::{
    clock::{Clock, KernelTime},
    id::Correlator,
    moment::Moment,
};

/// Asked of the kernel for each direction; it gives what its own limits (`net.core.rmem_max`) allow. Room for some
/// thousand pings that come at once.
const KERNEL_BUFFER_BYTES: usize = 1 << 20;

/// A datagram's way out: when it was handed to the kernel.
pub type Sent = (Correlator, Moment);

#[derive(Debug)]
pub struct Socket {
    io: Arc<Io>,
    sent: mpsc::Sender<Sent>,
    expected: Mutex<Expected>,
    arrivals: Mutex<Arrivals>,
    kernel_time: Mutex<KernelTime>,
    /// Whether there is anything to look for, so that the ordinary packet takes no lock.
    expecting: AtomicBool,
    tracking: AtomicBool,
    /// The kernel's buffer was full at the last try.
    full: AtomicBool,
    counters: Counters,
    refusals: Refusals,
    #[cfg(feature = "sim")]
    emulation: std::sync::OnceLock<emulate::Emulation>,
}

#[derive(Debug)]
struct Io {
    /// Waits for packets only, and for room once there is none: the kernel would otherwise wake us for each packet that
    /// has left, just before its answer comes.
    udp: AsyncFd<UdpSocket>,
    state: UdpSocketState,
}

#[derive(Debug, Default)]
struct Counters {
    packets_sent: AtomicU64,
    bytes_sent: AtomicU64,
    packets_received: AtomicU64,
    bytes_received: AtomicU64,
    send_errors: AtomicU64,
    dropped_by_kernel: AtomicU64,
    stamps_shed: AtomicU64,
}

/// Totals since the socket was bound. Bytes are UDP payload; each packet has 28 bytes of headers more on IPv4, 48 on IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub bytes_received: u64,
    /// Sends that the kernel refused (no route, not permitted); such packets count as lost to QUIC.
    pub send_errors: u64,
    /// Packets that came while the kernel's buffer was full; where the kernel says so.
    pub dropped_by_kernel: u64,
    /// Sent stamps that nobody got: too many expected, or the channel full.
    pub stamps_shed: u64,
    /// Packets that the emulated network lost as told.
    pub emulated_lost: u64,
    /// Packets that it lost because too many were under way.
    pub emulated_shed: u64,
}

impl Socket {
    /// Binds `address` (port 0: any; `[::]`: IPv4 as well) inside a tokio runtime. Sent stamps come out of the channel,
    /// which holds `stamps_max`; when it is full, further ones are shed and counted.
    pub fn bind(address: SocketAddr, stamps_max: usize) -> io::Result<(Arc<Self>, mpsc::Receiver<Sent>)> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::DGRAM,
            Some(socket2::Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
        socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
        let state = UdpSocketState::new((&socket).into())?;
        receive::options(&socket)?;
        refusals::options(&socket, address)?;
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        let udp = registered(socket.into(), Interest::READABLE)?;
        let (sent, stamps) = mpsc::channel(stamps_max.max(1));
        let socket = Self {
            io: Arc::new(Io { udp, state }),
            sent,
            expected: Mutex::default(),
            arrivals: Mutex::default(),
            kernel_time: Mutex::default(),
            expecting: AtomicBool::new(false),
            tracking: AtomicBool::new(false),
            full: AtomicBool::new(false),
            counters: Counters::default(),
            refusals: Refusals::default(),
            #[cfg(feature = "sim")]
            emulation: std::sync::OnceLock::new(),
        };
        Ok((Arc::new(socket), stamps))
    }

    /// Where it is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.io.udp.get_ref().local_addr()
    }

    /// To be called just before a datagram of `payload` bytes is given to a connection with `to`: its stamp will come out
    /// of the channel when it leaves. `false` if too many are expected already; then no stamp will come.
    ///
    /// QUIC drops its oldest datagram when its buffer is full: look at `datagram_send_buffer_space` first.
    #[must_use]
    pub fn expect(&self, to: SocketAddr, payload: usize, correlator: Correlator) -> bool {
        let mut expected = lock(&self.expected);
        let taken = expected.push(canonical(to), payload, correlator, Clock.stamp());
        self.expecting.store(!expected.is_empty(), Release);
        if !taken {
            self.counters.stamps_shed.fetch_add(1, Relaxed);
        }
        taken
    }

    /// The datagram was not taken by the connection after all.
    pub fn withdraw(&self, to: SocketAddr, correlator: &Correlator) {
        let mut expected = lock(&self.expected);
        expected.withdraw(canonical(to), correlator);
        self.expecting.store(!expected.is_empty(), Release);
    }

    /// The connection with `to` was lost, and with it all that it had not sent.
    pub fn unexpect(&self, to: SocketAddr) {
        let mut expected = lock(&self.expected);
        expected.forget(canonical(to));
        self.expecting.store(!expected.is_empty(), Release);
    }

    /// Remembers arrivals from `from` for [`arrival`](Self::arrival) from now on. `false` if
    /// [`TRACKED_MAX`](stamps::TRACKED_MAX) addresses are tracked already.
    pub fn track(&self, from: SocketAddr) -> bool {
        let mut arrivals = lock(&self.arrivals);
        let taken = arrivals.track(canonical(from));
        self.tracking.store(!arrivals.is_empty(), Release);
        taken
    }

    pub fn untrack(&self, from: SocketAddr) {
        let mut arrivals = lock(&self.arrivals);
        arrivals.untrack(canonical(from));
        self.tracking.store(!arrivals.is_empty(), Release);
    }

    /// When the packet came out of the network that carried the datagram of `payload` bytes just read from a connection
    /// with `from`, at about `now`. `idle_since` is when the reader last had to wait for one. To be called at once for each
    /// datagram, in the order of reading. `None`: not measured.
    pub fn arrival(&self, from: SocketAddr, payload: usize, idle_since: Moment, now: Moment) -> Option<Moment> {
        lock(&self.arrivals).take(canonical(from), payload, idle_since, now)
    }

    /// Waits until somebody says that packets to `to` do not arrive, and why; for ever, if nobody does. For a call under way:
    /// it can be forged, so a connection that works must not end by it.
    pub async fn unreachable(&self, to: SocketAddr) -> Unreachable {
        self.hear_errors(); // what was said before is of before
        let mut told = std::pin::pin!(self.refusals.wait(to));
        loop {
            tokio::select! {
                biased;
                why = &mut told => return why,
                ready = self.io.udp.ready(Interest::ERROR) => match ready {
                    Ok(_) => self.hear_errors(),
                    Err(_) => return told.await,
                },
            }
        }
    }

    /// Empties the error queue, which takes its room from the packets', and tells who waits for it.
    fn hear_errors(&self) {
        let udp = &self.io.udp;
        let read = || refusals::read(udp.get_ref(), |to, why| self.refusals.tell(to, why));
        let mut looked = false;
        // "Would block" makes tokio wait for the next one.
        let _ = udp.try_io(Interest::ERROR, |_| {
            looked = true;
            if read()? { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if !looked {
            // The kernel has told a send or a read of it before it told tokio.
            let _ = read();
        }
    }

    pub fn traffic(&self) -> Traffic {
        let Counters { packets_sent, bytes_sent, packets_received, bytes_received, .. } = &self.counters;
        #[cfg(feature = "sim")]
        let (emulated_lost, emulated_shed) =
            self.emulation.get().map(emulate::Emulation::lost_and_shed).unwrap_or_default();
        #[cfg(not(feature = "sim"))]
        let (emulated_lost, emulated_shed) = (0, 0);
        Traffic {
            packets_sent: packets_sent.load(Relaxed),
            bytes_sent: bytes_sent.load(Relaxed),
            packets_received: packets_received.load(Relaxed),
            bytes_received: bytes_received.load(Relaxed),
            send_errors: self.counters.send_errors.load(Relaxed),
            dropped_by_kernel: self.counters.dropped_by_kernel.load(Relaxed),
            stamps_shed: self.counters.stamps_shed.load(Relaxed),
            emulated_lost,
            emulated_shed,
        }
    }

    /// From now on packets from here to `to` meet `link`; a perfect one ends the emulation. What is under way stays so.
    /// Chances follow from our own address and from the order in which ways are named.
    #[cfg(feature = "sim")]
    pub fn emulate(&self, to: SocketAddr, link: crate::sim::Link) -> io::Result<()> {
        let emulation = match self.emulation.get() {
            Some(emulation) => emulation,
            None => {
                let mut seed = [0; 32];
                let name = self.address()?.to_string();
                seed.iter_mut().zip(name.bytes().rev()).for_each(|(seed, byte)| *seed = byte);
                let new = emulate::Emulation::new(self.io.clone(), seed)?;
                // Two first calls at once: one thread ends as its value is dropped.
                self.emulation.get_or_init(|| new)
            }
        };
        emulation.set(canonical(to), link);
        Ok(())
    }

    /// The way of these packets is emulated, and they are on it.
    #[cfg(feature = "sim")]
    fn is_taken(&self, transmit: &Transmit<'_>) -> bool {
        self.emulation.get().is_some_and(|e| e.take(canonical(transmit.destination), transmit, Clock.now()))
    }

    #[cfg(not(feature = "sim"))]
    fn is_taken(&self, _: &Transmit<'_>) -> bool {
        false
    }

    /// Tells which datagrams were in packets that left at `at`, or forgets them if the packets did not leave.
    fn left(&self, transmit: &Transmit<'_>, at: Moment, gone: bool) {
        let mut expected = lock(&self.expected);
        expected.sent(canonical(transmit.destination), segments(transmit), at, |correlator| {
            if gone && self.sent.try_send((correlator, at)).is_err() {
                self.counters.stamps_shed.fetch_add(1, Relaxed);
            }
        });
        self.expecting.store(!expected.is_empty(), Release);
    }

    /// Takes note of packets just read.
    fn received(&self, bufs: &[IoSliceMut<'_>], meta: &[RecvMeta], stamps: &[Option<u64>], batch: &receive::Batch) {
        let meta = &meta[..batch.packets];
        self.counters.packets_received.fetch_add(batch.packets as u64, Relaxed);
        self.counters.bytes_received.fetch_add(meta.iter().map(|m| m.len as u64).sum(), Relaxed);
        if let Some(dropped) = batch.dropped {
            self.counters.dropped_by_kernel.store(dropped.into(), Relaxed);
        }
        if !self.tracking.load(Acquire) {
            return;
        }
        let reading = Clock.read();
        let mut kernel_time = lock(&self.kernel_time);
        kernel_time.batch(reading);
        let mut arrivals = lock(&self.arrivals);
        for ((buf, meta), stamp) in bufs.iter().zip(meta).zip(stamps) {
            let arrived = kernel_time.moment(*stamp).unwrap_or(reading.now);
            for packet in buf[..meta.len.min(buf.len())].chunks(meta.stride.max(1)) {
                arrivals.received(canonical(meta.addr), packet, arrived, reading.now);
            }
        }
    }
}

impl quinn::AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn quinn::UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    /// Errors other than "try again" are counted and not returned: to QUIC such packets are lost, as in any network.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let at = self.expecting.load(Acquire).then(|| Clock.now());
        let result = if self.is_taken(transmit) {
            Ok(())
        } else {
            let Io { udp, state } = &*self.io;
            let send = || state.try_send(udp.get_ref().into(), transmit);
            match send() {
                Err(e) if e.raw_os_error().is_some_and(is_pending_error) => {
                    // It may be of another packet, sent before; what fails again is of this one.
                    self.hear_errors();
                    send()
                }
                other => other,
            }
        };
        match &result {
            Ok(()) => {
                let packets = segments(transmit).len() as u64;
                self.counters.packets_sent.fetch_add(packets, Relaxed);
                self.counters.bytes_sent.fetch_add(transmit.contents.len() as u64, Relaxed);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.full.store(true, Release);
                return result;
            }
            Err(e) => {
                self.counters.send_errors.fetch_add(1, Relaxed);
                tracing::debug!(to = %transmit.destination, error = %e, "packet not sent");
                if let Some(why) = e.raw_os_error().and_then(Unreachable::of) {
                    self.refusals.tell(transmit.destination, why);
                }
            }
        }
        if let Some(at) = at {
            self.left(transmit, at, result.is_ok());
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut stamps = [None; BATCH_SIZE];
        let Io { udp, state } = &*self.io;
        loop {
            let _ = ready!(udp.poll_read_ready(cx))?;
            let mut batch = None;
            // Saying "would block" makes tokio wait for the next packet, which saves a look that would find nothing.
            let looked = udp.try_io(Interest::READABLE, |udp| {
                let read = receive::receive(udp, state, bufs, meta, &mut stamps)?;
                let drained = read.drained;
                batch = Some(read);
                if drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            if batch.as_ref().is_some_and(|b| b.errors) {
                self.hear_errors();
            }
            match (batch, looked) {
                (Some(batch), _) if batch.packets > 0 => {
                    self.received(bufs, meta, &stamps, &batch);
                    return Poll::Ready(Ok(batch.packets));
                }
                (_, Err(e)) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
                _ => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address()
    }

    fn max_transmit_segments(&self) -> usize {
        self.io.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        if cfg!(target_os = "linux") { 1 } else { self.io.state.gro_segments() }
    }

    fn may_fragment(&self) -> bool {
        self.io.state.may_fragment()
    }
}

/// One connection's wait for room in the kernel's buffer. QUIC asks before each packet, so the usual answer, yes, is free.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl quinn::UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.waiting.is_none() && !this.socket.full.load(Acquire) {
            return Poll::Ready(Ok(()));
        }
        let io = &this.socket.io;
        let waiting = this.waiting.get_or_insert_with(|| {
            let io = io.clone();
            Box::pin(async move {
                let room = registered(io.udp.get_ref().try_clone()?, Interest::WRITABLE)?;
                room.writable().await.map(|_| ())
            })
        });
        let result = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        this.socket.full.store(false, Release);
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("waiting", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

/// A socket that the runtime watches for `interest` and for errors.
#[allow(
    deprecated,
    reason = "unsound only for what changes its descriptor, as no socket does; its successor is unsafe"
)]
fn registered(udp: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(udp, interest)
}

/// The packets of one send.
fn segments<'a>(transmit: &Transmit<'a>) -> std::slice::Chunks<'a, u8> {
    transmit.contents.chunks(transmit.segment_size.unwrap_or(transmit.contents.len()).max(1))
}

/// A panic elsewhere does not make these values wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where this host can call a socket bound at `bound`: one on all addresses is at loopback as well.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port()) } else { bound }
}

#[cfg(test)]
mod tests;
