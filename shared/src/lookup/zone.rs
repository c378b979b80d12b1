//! For tests: a nameserver on loopback that answers from a table, by UDP and TCP on one port; or badly.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use domain::{
    base::{Message, MessageBuilder, Name, Record, Rtype, Ttl, iana::Class, iana::Rcode},
    rdata::{A, Aaaa, Cname, Srv},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

/// What stands in the zone.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// Service, priority, weight, port, target.
    pub srv: Vec<(&'static str, u16, u16, u16, &'static str)>,
    /// Sent along with the records that name these hosts.
    pub hosts: Vec<(&'static str, IpAddr)>,
    /// Alias and what it stands for.
    pub aliases: Vec<(&'static str, &'static str)>,
    /// Names without records of the kind that is asked for.
    pub bare: Vec<&'static str>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Well,
    /// By UDP only that TCP is needed.
    Truncated,
    /// Says so by UDP, and hangs up on TCP.
    TruncatedOnly,
    /// Says so by UDP, and by TCP that more comes than anybody wants.
    Huge,
    /// With bytes that are no answer, first; then well.
    GarbageFirst,
    /// A well-formed head, and then what stands for nothing.
    Damaged,
    /// It can't.
    Failing,
    Silent,
}

#[derive(Debug)]
pub struct Nameserver {
    pub at: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    /// Questions that came by UDP, and by TCP.
    asked: Arc<[AtomicUsize; 2]>,
    _tasks: JoinSet<()>,
}

impl Nameserver {
    pub async fn start(zone: Zone, manner: Manner) -> Self {
        let (udp, tcp) = bind().await;
        let at = udp.local_addr().expect("bound");
        let asked: Arc<[AtomicUsize; 2]> = Arc::default();
        let mut tasks = JoinSet::new();
        let (count, zone) = (asked.clone(), Arc::new(Mutex::new(zone)));
        tasks.spawn(by_tcp(tcp, zone.clone(), manner, count.clone()));
        tasks.spawn(by_udp(udp, zone.clone(), manner, count));
        Self { at, zone, asked, _tasks: tasks }
    }

    /// From now on this is the zone.
    pub fn tell(&self, zone: Zone) {
        *self.zone.lock().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// Questions that came by UDP, and by TCP.
    pub fn asked(&self) -> [usize; 2] {
        [self.asked[0].load(Relaxed), self.asked[1].load(Relaxed)]
    }
}

/// One port for both.
async fn bind() -> (UdpSocket, TcpListener) {
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    loop {
        let udp = UdpSocket::bind(any).await.expect("loopback");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")).await {
            return (udp, tcp);
        }
    }
}

async fn by_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>, manner: Manner, asked: Arc<[AtomicUsize; 2]>) {
    let mut buffer = [0; 1_500];
    while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
        asked[0].fetch_add(1, Relaxed);
        let question = &buffer[..n];
        let mut whole = answer(&zone, question, manner == Manner::Failing);
        match manner {
            Manner::Silent => continue,
            Manner::Truncated | Manner::TruncatedOnly | Manner::Huge => {
                whole.truncate(n); // the head and the question
                whole[2] |= 0x02;
                whole[6..12].fill(0);
            }
            Manner::GarbageFirst => {
                let mut other = whole.clone();
                other[0] ^= 0xff; // the id of another question
                for bytes in [&b"?"[..], &[0xff; 600], question, &other] {
                    let _ = socket.send_to(bytes, from).await;
                }
            }
            Manner::Damaged => whole[n..].fill(0xff),
            Manner::Well | Manner::Failing => {}
        }
        let _ = socket.send_to(&whole, from).await;
    }
}

async fn by_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>, manner: Manner, asked: Arc<[AtomicUsize; 2]>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        asked[1].fetch_add(1, Relaxed);
        let Ok(n) = stream.read_u16().await else { continue };
        let mut question = vec![0; usize::from(n)];
        if stream.read_exact(&mut question).await.is_ok() && manner != Manner::TruncatedOnly {
            let answer = answer(&zone, &question, false);
            let length = if manner == Manner::Huge { 60_000 } else { answer.len() as u16 };
            let _ = stream.write_u16(length).await;
            let _ = stream.write_all(&answer).await;
        }
    }
}

fn answer(zone: &Mutex<Zone>, question: &[u8], failing: bool) -> Vec<u8> {
    zone.lock().unwrap_or_else(PoisonError::into_inner).answer(question, failing)
}

impl Zone {
    fn answer(&self, question: &[u8], failing: bool) -> Vec<u8> {
        let question = Message::from_octets(question).expect("a question");
        let asked = question.first_question().expect("a question");
        assert_eq!(asked.qtype(), Rtype::SRV);
        let asked = asked.qname().to_string();
        let alias = self.aliases.iter().find(|(alias, _)| asked.eq_ignore_ascii_case(alias));
        let service = alias.map_or(asked.as_str(), |(_, target)| target);
        let srv: Vec<_> = self.srv.iter().filter(|(name, ..)| service.eq_ignore_ascii_case(name)).collect();
        let known = alias.is_some() || !srv.is_empty() || self.bare.contains(&service);
        let rcode = match known {
            _ if failing => Rcode::SERVFAIL,
            true => Rcode::NOERROR,
            false => Rcode::NXDOMAIN,
        };
        let mut answer = MessageBuilder::new_vec().start_answer(&question, rcode).expect("room");
        if let Some((alias, target)) = alias {
            answer.push(record(alias, Cname::new(name(target)))).expect("room");
        }
        for (service, priority, weight, port, target) in srv.iter().filter(|_| !failing) {
            answer.push(record(service, Srv::new(*priority, *weight, *port, name(target)))).expect("room");
        }
        let mut additional = answer.additional();
        for (host, ip) in self.hosts.iter().filter(|(host, _)| srv.iter().any(|(.., target)| target == host)) {
            match ip {
                IpAddr::V4(ip) => additional.push(record(host, A::new(*ip))).expect("room"),
                IpAddr::V6(ip) => additional.push(record(host, Aaaa::new(*ip))).expect("room"),
            }
        }
        additional.finish()
    }
}

fn name(text: &str) -> Name<Vec<u8>> {
    Name::vec_from_str(text).expect("a name")
}

fn record<D>(owner: &str, data: D) -> Record<Name<Vec<u8>>, D> {
    Record::new(name(owner), Class::IN, Ttl::from_secs(5), data)
}
