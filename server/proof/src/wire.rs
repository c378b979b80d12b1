//! The link: TUN devices, one for each host, and threads that carry packets between them as the seeded network of
//! `pams_shared::sim` says. Each ordered pair of hosts is a path of its own, which can be changed while packets fly. The
//! kernel needs no netem for it.
//!
//! Each device has a thread that reads and one that writes, so that no direction waits for another; the writer sleeps until
//! the next packet is due with a timer slack of 1 ns, and says how late it was ([`Lateness`]). It models no bandwidth.
#![allow(clippy::disallowed_methods)] // A shell: it reads clocks and has threads, which it joins.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeSet, BinaryHeap},
    io,
    net::Ipv4Addr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use pams_shared::{
    clock::Clock,
    moment::{Moment, nanos},
    sim::{Link, Network},
};
use tokio::sync::watch;
use tun_rs::{DeviceBuilder, InterruptEvent, SyncDevice};

/// Hosts that a wire can join.
pub const HOSTS_MAX: usize = 16;
/// Packets under way to one host; more are shed, and counted.
const UNDER_WAY_MAX: usize = 4_096;
const PACKET_BYTES_MAX: usize = 65_536;

/// Number of a host on its wire; the third octet of its addresses.
pub type Port = u8;

/// The addresses of a host: 10.77.PORT.1 to 10.77.PORT.254, all on one link with those of the others.
pub fn address(port: Port, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, port, last)
}

/// What has passed on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets that the sender's kernel gave us.
    pub taken: u64,
    /// Of them, lost as the link says, or to a firewall.
    pub lost: u64,
    /// Packets, doubled ones twice, that the receiver's kernel was given.
    pub delivered: u64,
    /// Lost because too many were under way, or because the kernel took no more.
    pub shed: u64,
}

/// How much later than they were due packets were delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    pub packets: u64,
    pub mean: Duration,
    pub most: Duration,
}

/// Joins the devices; they vanish when it is dropped.
pub struct Wire {
    net: Arc<Net>,
    threads: Vec<JoinHandle<()>>,
}

struct Net {
    ports: Vec<Device>,
    chances: Mutex<Network<(Port, Port)>>,
    /// Paths that a firewall guards, which drops UDP.
    no_udp: Mutex<BTreeSet<(Port, Port)>>,
    /// By sender, then receiver.
    passed: Vec<Vec<watch::Sender<Passed>>>,
    stop: InterruptEvent,
    late: Mutex<(Lateness, u128)>,
}

struct Device {
    tun: SyncDevice,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    packets: BinaryHeap<Reverse<Packet>>,
    carried: u64,
    closed: bool,
}

struct Packet {
    due: Moment,
    /// Keeps packets that are due together in order.
    number: u64,
    from: Port,
    bytes: Box<[u8]>,
}

impl Wire {
    /// Makes a device of each name, in the namespace of this process, and joins them. What they are to be beside that
    /// (namespace, address, up) is for `ip`: a device keeps its reader wherever it is moved.
    pub fn join(names: &[String], seed: [u8; 32]) -> io::Result<Self> {
        assert!(names.len() <= HOSTS_MAX, "a wire joins {HOSTS_MAX} hosts");
        let ports = names.iter().map(|name| Device::open(name)).collect::<io::Result<Vec<_>>>()?;
        let paths = || names.iter().map(|_| watch::Sender::new(Passed::default())).collect();
        let net = Arc::new(Net {
            passed: names.iter().map(|_| paths()).collect(),
            chances: Mutex::new(Network::new(seed)),
            no_udp: Mutex::default(),
            stop: InterruptEvent::new()?,
            late: Mutex::default(),
            ports,
        });
        let mut wire = Self { net, threads: Vec::new() };
        for port in 0..names.len() {
            let port = port as Port;
            wire.thread(format!("from-{port}"), move |net| net.read(port))?;
            wire.thread(format!("to-{port}"), move |net| net.write(port))?;
        }
        Ok(wire)
    }

    fn thread(&mut self, name: String, run: impl FnOnce(&Net) + Send + 'static) -> io::Result<()> {
        let net = self.net.clone();
        self.threads.push(std::thread::Builder::new().name(name).spawn(move || run(&net))?);
        Ok(())
    }

    /// From now on the path is like this; what is under way stays so.
    pub fn set(&self, from: Port, to: Port, link: Link) {
        lock(&self.net.chances).set((from, to), link);
    }

    /// The same for both directions between two hosts.
    pub fn set_both(&self, one: Port, other: Port, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// From now on UDP does not pass on the path, or does again, as at a firewall that drops it; all else does.
    pub fn block_udp(&self, from: Port, to: Port, blocked: bool) {
        let mut paths = lock(&self.net.no_udp);
        if blocked {
            paths.insert((from, to))
        } else {
            paths.remove(&(from, to))
        };
    }

    /// What passes on a path, to wait for.
    pub fn passed(&self, from: Port, to: Port) -> watch::Receiver<Passed> {
        self.net.passed[usize::from(from)][usize::from(to)].subscribe()
    }

    /// Of all packets so far.
    pub fn lateness(&self) -> Lateness {
        lock(&self.net.late).0
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.net.stop.trigger();
        for device in &self.net.ports {
            lock(&device.queue).closed = true;
            device.changed.notify_all();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Device {
    fn open(name: &str) -> io::Result<Self> {
        let tun = DeviceBuilder::new().name(name).enable(false).build_sync()?;
        tun.set_nonblocking(true)?;
        Ok(Self { tun, queue: Mutex::default(), changed: Condvar::new() })
    }
}

impl Net {
    /// Takes what a host sends, until the wire is dropped or its device is gone.
    fn read(&self, from: Port) {
        punctual();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let bytes = match self.ports[usize::from(from)].tun.recv_intr(&mut buffer, &self.stop) {
                Ok(bytes) => bytes,
                // A signal to this process, as when a child ends; or it is to stop.
                Err(error) if error.kind() == io::ErrorKind::Interrupted && !self.stop.is_trigger() => continue,
                Err(_) => return,
            };
            let now = Clock.now();
            let packet = &buffer[..bytes];
            if let Some(to) = self.receiver(packet).filter(|to| *to != from) {
                self.take(now, from, to, packet);
            }
        }
    }

    /// Whom an IPv4 packet is for; `None`: nobody here, as with the IPv6 that a kernel says on each new device.
    fn receiver(&self, packet: &[u8]) -> Option<Port> {
        let [a, b, port, _] = *packet.get(16..20)? else { return None };
        let here = packet[0] >> 4 == 4 && [a, b] == address(0, 0).octets()[..2] && usize::from(port) < self.ports.len();
        here.then_some(port)
    }

    fn take(&self, now: Moment, from: Port, to: Port, packet: &[u8]) {
        if is_udp(packet) && lock(&self.no_udp).contains(&(from, to)) {
            return self.count(from, to, |passed| {
                passed.taken += 1;
                passed.lost += 1;
            });
        }
        let fates = lock(&self.chances).fate(&(from, to), now);
        let device = &self.ports[usize::from(to)];
        let mut shed = 0;
        let mut queue = lock(&device.queue);
        for &due in fates.iter() {
            if queue.packets.len() >= UNDER_WAY_MAX {
                shed += 1;
                continue;
            }
            queue.carried += 1;
            let number = queue.carried;
            queue.packets.push(Reverse(Packet { due, number, from, bytes: packet.into() }));
        }
        drop(queue);
        device.changed.notify_one();
        self.count(from, to, |passed| {
            passed.taken += 1;
            passed.lost += u64::from(fates.is_empty());
            passed.shed += shed;
        });
    }

    fn count(&self, from: Port, to: Port, what: impl FnOnce(&mut Passed)) {
        self.passed[usize::from(from)][usize::from(to)].send_modify(what);
    }

    /// Gives a host what is due, until the wire is dropped.
    fn write(&self, to: Port) {
        punctual();
        let device = &self.ports[usize::from(to)];
        let mut queue = lock(&device.queue);
        while !queue.closed {
            let now = Clock.now();
            queue = match queue.packets.peek().map(|Reverse(packet)| packet.due) {
                Some(due) if due <= now => {
                    let packet = queue.packets.pop();
                    drop(queue);
                    if let Some(Reverse(packet)) = packet {
                        self.deliver(device, to, &packet);
                    }
                    lock(&device.queue)
                }
                Some(due) => match device.changed.wait_timeout(queue, due.since(now)) {
                    Ok((queue, _)) => queue,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => device.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn deliver(&self, device: &Device, to: Port, packet: &Packet) {
        let late = Clock.now().since(packet.due);
        let sent = device.tun.send(&packet.bytes).is_ok();
        self.count(packet.from, to, |passed| {
            passed.delivered += u64::from(sent);
            passed.shed += u64::from(!sent);
        });
        let (lateness, sum) = &mut *lock(&self.late);
        *sum += u128::from(nanos(late));
        lateness.packets += 1;
        lateness.mean = Duration::from_nanos((*sum / u128::from(lateness.packets)) as u64);
        lateness.most = lateness.most.max(late);
    }
}

/// Of an IPv4 packet.
fn is_udp(packet: &[u8]) -> bool {
    packet.get(9) == Some(&17)
}

/// Linux lets a thread oversleep by 50 us to save wake-ups; these are here to be punctual.
fn punctual() {
    let _ = nix::sys::prctl::set_timerslack(1);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
