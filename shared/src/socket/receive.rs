//! Reading packets together with what the kernel knows of them: when each came, where to, and its ECN mark.
//!
//! quinn-udp reads packets too, but its buffer for control messages has no room for the stamp; so on Linux we read them
//! ourselves. Other systems use quinn-udp and the time of reading.

use std::io::{self, IoSliceMut};

use quinn::udp::{RecvMeta, UdpSocketState};

/// What one look at the socket brought, beside the packets and their `meta`.
#[derive(Debug, Default)]
pub struct Batch {
    pub packets: usize,
    /// Nothing more was there.
    pub drained: bool,
    /// Packets that the kernel has dropped since the socket was bound because its buffer was full, where it says so.
    pub dropped: Option<u32>,
    /// The error queue has something to tell.
    pub errors: bool,
}

#[cfg(target_os = "linux")]
pub use linux::{options, receive};
#[cfg(not(target_os = "linux"))]
pub use other::{options, receive};

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
        os::fd::AsRawFd,
    };

    use nix::{
        errno::Errno,
        sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg, setsockopt, sockopt},
    };
    use quinn::udp::EcnCodepoint;

    use super::{super::refusals::is_pending_error, *};

    /// Pending errors passed over before the next look at the error queue.
    const PENDING_MAX: usize = 16;

    /// Room for the stamp, the packet info of IPv6 and IPv4, the traffic class and the count of drops, four times over.
    #[repr(align(16))]
    struct Control([u8; 512]);

    /// Asks for stamps and for the count of drops, and for packets one by one: receive offload would glue packets of a
    /// burst together and give them the stamp of the first, and it makes quinn keep a buffer of 3 MB instead of 46 KB.
    pub fn options(socket: &socket2::Socket) -> io::Result<()> {
        setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        // Kernels before 4.18 and 2.6.33 know neither; then there is nothing to switch off, and nothing counted.
        let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
        let _ = setsockopt(socket, sockopt::RxqOvfl, &1);
        Ok(())
    }

    /// Fills `bufs` as far as there are packets; `stamps` gets the kernel's time of each, in ns since 1970.
    pub fn receive(
        socket: &std::net::UdpSocket,
        _: &UdpSocketState,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
        stamps: &mut [Option<u64>],
    ) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut control = Control([0; 512]);
        let slots = bufs.iter_mut().zip(meta).zip(stamps);
        for ((buf, meta), stamp) in slots {
            let buf = std::slice::from_mut(buf);
            let mut pending = 0;
            let message = loop {
                let flags = MsgFlags::MSG_DONTWAIT;
                match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), buf, Some(&mut control.0), flags) {
                    Err(Errno::EINTR) => {}
                    // Of some packet that we sent: not of this socket, whose end it must not be.
                    Err(e) if is_pending_error(e as i32) && pending < PENDING_MAX => {
                        batch.errors = true;
                        pending += 1;
                    }
                    other => break other,
                }
            };
            match message {
                Ok(message) => {
                    *stamp = read(&message, meta, &mut batch);
                    batch.packets += 1;
                }
                Err(Errno::EAGAIN) => {
                    batch.drained = true;
                    break;
                }
                Err(e) if batch.packets == 0 && !is_pending_error(e as i32) => return Err(e.into()),
                // What was read comes first; an error that lasts will be met again.
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    fn read(message: &RecvMsg<'_, '_, SockaddrStorage>, meta: &mut RecvMeta, batch: &mut Batch) -> Option<u64> {
        *meta = RecvMeta::default();
        (meta.len, meta.stride) = (message.bytes, message.bytes);
        if let Some(from) = message.address.as_ref().and_then(address) {
            meta.addr = from;
        }
        let mut stamp = None;
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmTimestampns(t) => {
                    stamp = u64::try_from(t.tv_sec())
                        .ok()
                        .and_then(|s| s.checked_mul(1_000_000_000)?.checked_add(u64::try_from(t.tv_nsec()).ok()?));
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    meta.dst_ip = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    meta.dst_ip = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                ControlMessageOwned::Ipv4Tos(tos) => meta.ecn = EcnCodepoint::from_bits(tos),
                ControlMessageOwned::Ipv6TClass(class) => meta.ecn = EcnCodepoint::from_bits(class as u8),
                ControlMessageOwned::RxqOvfl(dropped) => batch.dropped = Some(dropped),
                _ => {}
            }
        }
        stamp
    }

    fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
        if let Some(v4) = from.as_sockaddr_in() {
            return Some(SocketAddrV4::from(*v4).into());
        }
        from.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::*;

    pub fn options(_: &socket2::Socket) -> io::Result<()> {
        Ok(())
    }

    pub fn receive(
        socket: &std::net::UdpSocket,
        state: &UdpSocketState,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
        stamps: &mut [Option<u64>],
    ) -> io::Result<Batch> {
        let packets = state.recv(socket.into(), bufs, meta)?;
        stamps.fill(None);
        Ok(Batch { packets, ..Batch::default() })
    }
}
