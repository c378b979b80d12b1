//! Asking nameservers: by UDP, and by TCP where the answer does not fit; one after the other, and all of them twice.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use domain::base::{Message, iana::Rcode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long each nameserver is waited for, the first and the second time. Shorter than resolv.conf's 5 s: whoever calls a
/// server has 2 to 5 s for all of it. One that had to ask others has the answer at the second time.
const TRIES: [Duration; 2] = [Duration::from_millis(600), Duration::from_millis(1_200)];
/// For all of it, so that the caller has time left and is told why.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer by UDP. Without EDNS nobody sends more than 512 bytes.
const UDP_BYTES_MAX: usize = 1_472;
/// Longest answer by TCP: some 250 servers.
const TCP_BYTES_MAX: usize = 16 * 1024;

/// What the first of `nameservers` answers that knows; the error says what became of the last one.
pub(super) async fn ask(nameservers: &[SocketAddr], question: &Message<Vec<u8>>) -> Result<Message<Vec<u8>>, String> {
    let mut problem = String::new();
    let asked = async {
        for patience in TRIES {
            for at in nameservers {
                match once(*at, question, patience).await {
                    Ok(answer) if matches!(answer.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) => {
                        return Some(answer);
                    }
                    Ok(answer) => problem = format!("nameserver {at} answers {}", answer.header().rcode()),
                    Err(error) => problem = format!("nameserver {at}: {error}"),
                }
            }
        }
        None
    };
    timeout(PATIENCE, asked).await.ok().flatten().ok_or(problem)
}

async fn once(at: SocketAddr, question: &Message<Vec<u8>>, patience: Duration) -> io::Result<Message<Vec<u8>>> {
    let silent = |_| io::Error::new(ErrorKind::TimedOut, "no answer");
    let answer = timeout(patience, by_udp(at, question)).await.map_err(silent)??;
    if !answer.header().tc() {
        return Ok(answer);
    }
    let told = |error: io::Error| io::Error::new(error.kind(), format!("its answer needs TCP: {error}"));
    timeout(patience, by_tcp(at, question)).await.map_err(silent).flatten().map_err(told)
}

/// From a port of its own, chosen by chance as the id is, so that nobody else can answer blindly. What is no answer to this
/// question is passed over.
async fn by_udp(at: SocketAddr, question: &Message<Vec<u8>>) -> io::Result<Message<Vec<u8>>> {
    let any = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(at).await?;
    socket.send(question.as_slice()).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let n = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer(buffer[..n].to_vec(), question) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(at: SocketAddr, question: &Message<Vec<u8>>) -> io::Result<Message<Vec<u8>>> {
    let mut stream = TcpStream::connect(at).await?;
    let length = u16::try_from(question.as_slice().len()).map_err(|_| ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > TCP_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it has {length} bytes, {TCP_BYTES_MAX} are read")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    answer(bytes, question).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "what comes is no answer"))
}

fn answer(bytes: Vec<u8>, question: &Message<Vec<u8>>) -> Option<Message<Vec<u8>>> {
    Message::from_octets(bytes).ok().filter(|message| message.is_answer(question))
}
