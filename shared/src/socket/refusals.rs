//! What routers and hosts say of packets that did not arrive (ICMP), and the kernel of those it could not send: nothing
//! listens there, no route, forbidden. A socket that is not connected hears of it only through its error queue (ip(7),
//! IP_RECVERR), which tells for each error whereto the packet was.
//!
//! Anybody who knows our address and port can forge such a message, so it ends nothing that works: it is told to those who
//! are calling an address ([`Refusals::wait`]), whose call would otherwise just fail later. Systems other than Linux tell
//! nothing; there a call fails when its time is over.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use tokio::sync::oneshot;

use super::stamps::canonical;
use crate::record::{Reason, Why};

/// Calls under way to one address that are told; those beyond just wait.
const CALLS_MAX: usize = 64;

/// Calls under way, by the address called.
#[derive(Debug, Default)]
pub struct Refusals {
    calls: Mutex<HashMap<SocketAddr, Vec<oneshot::Sender<Unreachable>>>>,
}

/// Why packets to an address do not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The host is there and says that nothing listens on the port.
    Refused,
    /// A router, or the host before it, says that the host does not answer.
    Host,
    /// No route: here, or at a router.
    Network,
    /// A firewall says so, here or on the way.
    Forbidden,
}

impl Unreachable {
    /// `None`: the error is not of this kind (a packet too long for the path, say).
    pub fn of(error: i32) -> Option<Self> {
        use nix::libc::{
            EACCES, EADDRNOTAVAIL, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, EPERM,
        };
        match error {
            ECONNREFUSED => Some(Self::Refused),
            EHOSTUNREACH | EHOSTDOWN => Some(Self::Host),
            // The last two: the address that the socket is bound to has no way there.
            ENETUNREACH | ENETDOWN | EADDRNOTAVAIL | EINVAL => Some(Self::Network),
            EACCES | EPERM => Some(Self::Forbidden),
            _ => None,
        }
    }

    /// For people and records. Only the first is the other side's word; the others keep a packet from leaving or arriving.
    pub fn why(self) -> Why {
        match self {
            Self::Refused => Why::new(
                Reason::Refused,
                "nothing listens there: is it running, and is the port right? (a firewall may also say so)",
            ),
            Self::Host => Why::new(Reason::NotSent, "the host does not answer: it is down, or the address is wrong"),
            Self::Network => Why::new(
                Reason::NotSent,
                "there is no route to it from the address we listen on: check this host's network, routes and `listen`",
            ),
            Self::Forbidden => {
                Why::new(Reason::NotSent, "a firewall here or on the way forbids it: let UDP through to that port")
            }
        }
    }
}

impl Refusals {
    /// Waits until packets to `address` are said not to arrive; for ever, if nobody says so.
    pub async fn wait(&self, address: SocketAddr) -> Unreachable {
        let address = canonical(address);
        let mut call = Call { refusals: self, address, told: None };
        {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = calls.entry(address).or_default();
            if waiting.len() < CALLS_MAX {
                let (tell, told) = oneshot::channel();
                waiting.push(tell);
                call.told = Some(told);
            }
        }
        match &mut call.told {
            Some(told) => match told.await {
                Ok(why) => why,
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Tells those who call `address`.
    pub fn tell(&self, address: SocketAddr, why: Unreachable) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for call in calls.remove(&canonical(address)).into_iter().flatten() {
            let _ = call.send(why); // given up meanwhile
        }
    }

    /// Nobody calls anybody: nothing is remembered.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A call under way, which is remembered no longer than it lasts.
struct Call<'a> {
    refusals: &'a Refusals,
    address: SocketAddr,
    told: Option<oneshot::Receiver<Unreachable>>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        drop(self.told.take());
        let mut calls = self.refusals.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = calls.get_mut(&self.address) {
            waiting.retain(|call| !call.is_closed());
            if waiting.is_empty() {
                calls.remove(&self.address);
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{net::IpAddr, os::fd::AsRawFd};

    use nix::{
        errno::Errno,
        sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
    };

    use super::*;

    /// Errors read in one go; a flood of forged ones must not keep us.
    const READ_MAX: usize = 64;

    /// Room for the error, who told of it, and the stamps and packet info that come along.
    #[repr(align(16))]
    struct Control([u8; 512]);

    /// Asks for the error queue.
    pub fn options(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true).or_else(|e| if address.is_ipv6() { Ok(()) } else { Err(e) })?;
        if address.is_ipv6() {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        Ok(())
    }

    /// Reads the error queue, and gives each address with what is said of it. `Ok(true)`: nothing more is there.
    pub fn read(socket: &std::net::UdpSocket, mut tell: impl FnMut(SocketAddr, Unreachable)) -> io::Result<bool> {
        let (mut start, mut control) = ([0; 64], Control([0; 512]));
        for _ in 0..READ_MAX {
            let mut parts = [io::IoSliceMut::new(&mut start)];
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let message = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control.0), flags)
            {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(true),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // On the error queue, the name is whereto the packet was.
            let to = message.address.as_ref().and_then(|to| match (to.as_sockaddr_in(), to.as_sockaddr_in6()) {
                (Some(v4), _) => Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port())),
                (_, Some(v6)) => Some(SocketAddr::new(IpAddr::V6(v6.ip()), v6.port())),
                _ => None,
            });
            for control in message.cmsgs().into_iter().flatten() {
                use ControlMessageOwned::{Ipv4RecvErr, Ipv6RecvErr};
                let (Ipv4RecvErr(error, _) | Ipv6RecvErr(error, _)) = control else { continue };
                if let (Some(to), Some(why)) = (to, Unreachable::of(error.ee_errno.cast_signed())) {
                    tell(to, why);
                }
            }
        }
        Ok(false)
    }

    /// An error that was pending on the socket, of any packet before; the call at hand did nothing, and may be made again.
    pub fn is_pending_error(error: i32) -> bool {
        use nix::libc::{EHOSTDOWN, EMSGSIZE, ENOPROTOOPT, EOPNOTSUPP, EPROTO};
        Unreachable::of(error).is_some()
            || matches!(error, EHOSTDOWN | EMSGSIZE | ENOPROTOOPT | EPROTO | EOPNOTSUPP | nix::libc::ENONET)
    }
}
#[cfg(target_os = "linux")]
pub use linux::{is_pending_error, options, read};
#[cfg(not(target_os = "linux"))]
pub use other::{is_pending_error, options, read};

#[cfg(not(target_os = "linux"))]
mod other {
    use super::*;

    pub fn options(_: &socket2::Socket, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    pub fn read(_: &std::net::UdpSocket, _: impl FnMut(SocketAddr, Unreachable)) -> io::Result<bool> {
        Ok(true)
    }

    pub fn is_pending_error(_: i32) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_call_is_told_and_one_that_is_over_is_forgotten_told_or_not() {
        let (refusals, at) = (Refusals::default(), "192.0.2.1:7".parse().unwrap());
        tokio::select! {
            biased;
            _ = refusals.wait(at) => panic!("nobody said anything"),
            () = ready(()) => {}
        }
        assert!(refusals.is_idle());
        let tell = async {
            assert!(!refusals.is_idle());
            refusals.tell(at, Unreachable::Refused);
        };
        let (why, ()) = tokio::join!(refusals.wait(at), tell);
        assert_eq!(why, Unreachable::Refused);
        assert!(refusals.is_idle());
    }
}
