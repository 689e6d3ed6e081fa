//! A bound UDP socket with every option the data path wants.
//!
//! One socket serves both families where it can: bound to `[::]` it takes IPv4
//! peers as mapped addresses, which appear as plain IPv4 in every [`Path`] and
//! are mapped again on the way out. A system without IPv6 gets an IPv4 socket
//! instead, with the reason kept.
//!
//! `SO_REUSEADDR` is never set: on a UDP socket it would let another process of
//! the same user take the port. `SO_REUSEPORT` is for a [`Group`](crate::Group) only. ICMP errors are not asked for (`IP_RECVERR`
//! off), so a peer that is gone never fails another peer's datagram.
//!
//! [`Path`]: crate::Path

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::c_int;

use crate::achieved::{Feature, Missing, Reason};
use crate::addr::{Family, Name};
use crate::sys;
use crate::waker::Waker;

/// What to bind, and how.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Address and port; `[::]` serves IPv4 too.
    pub listen: SocketAddr,
    /// Receive buffer to ask for, in bytes; 0 leaves the system's default.
    pub rcvbuf_bytes: usize,
    /// Send buffer to ask for, in bytes; 0 leaves the system's default.
    pub sndbuf_bytes: usize,
    /// Coalesce received runs (`UDP_GRO`).
    pub gro: bool,
    /// Coalesce sent runs (`UDP_SEGMENT`).
    pub gso: bool,
    /// Differentiated services code point of what is sent most at first, 0 to 63: those datagrams say
    /// nothing of it, all others do. An engine changes it when another one is sent most.
    pub dscp: u8,
    /// Have the kernel tell how many datagrams it dropped (`SO_RXQ_OVFL`). Not for sockets that this
    /// host's own kernel may send to by a tunnel: what it sends of its TCP lies in buffers that hardened kernels (6.12)
    /// forbid to be told of in that way, and they stop.
    pub count_drops: bool,
}

impl SocketConfig {
    /// `listen` with offloads on and the system's buffer sizes.
    pub fn new(listen: SocketAddr) -> Self {
        let (gro, gso, count_drops) = (true, true, true);
        Self { listen, rcvbuf_bytes: 0, sndbuf_bytes: 0, gro, gso, dscp: 0, count_drops }
    }
}

impl Default for SocketConfig {
    /// At any port of any address.
    fn default() -> Self {
        Self::new((Ipv6Addr::UNSPECIFIED, 0).into())
    }
}

/// A buffer size that was asked for, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSize {
    /// Asked for, in bytes; 0 if the default was left.
    pub asked_bytes: usize,
    /// In effect, in the same units (the kernel reserves as much again for its own overhead).
    pub effective_bytes: usize,
    /// The sysctl to raise, if less is in effect than was asked for.
    pub clamped_by: Option<&'static str>,
}

/// Whether a socket may be at an address that others of the same user have too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Alone,
    /// With those that allow it as well (`SO_REUSEPORT`).
    Group,
}

/// A bound socket and the waker of whoever waits for it. `Send`: bound by the
/// thread that starts the program, then given to an engine in a shard's thread.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    waker: Waker,
    pub(crate) family: Family,
    local: SocketAddr,
    receive_buffer: BufferSize,
    send_buffer: BufferSize,
    pub(crate) gro: bool,
    pub(crate) gso: bool,
    /// Mark of what says nothing of it. An engine may change it; another handle does not know.
    pub(crate) dscp: u8,
    /// Datagrams that the kernel dropped, as the last engine was told: its count goes on.
    pub(crate) drops: u64,
    pub(crate) missing: Vec<Missing>,
}

impl Socket {
    /// Binds a socket and sets its options. Optional ones the kernel does not
    /// have are noted as [`missing`](Self::missing).
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`, and of options that must hold.
    pub fn bind(config: &SocketConfig) -> io::Result<Self> {
        match Self::bind_to(config, config.listen, Sharing::Alone) {
            Err(error) if config.listen.ip().is_unspecified() && no_ipv6(config, &error) => {
                let v4 = (Ipv4Addr::UNSPECIFIED, config.listen.port()).into();
                let mut socket = Self::bind_to(config, v4, Sharing::Alone)?;
                socket.miss(Feature::Ipv6, &error);
                Ok(socket)
            }
            result => result,
        }
    }

    /// A socket at `listen`, whatever `config` says about the address.
    pub(crate) fn bind_to(
        config: &SocketConfig,
        listen: SocketAddr,
        sharing: Sharing,
    ) -> io::Result<Self> {
        let family = if listen.is_ipv4() { Family::V4 } else { Family::V6 };
        let fd = sys::udp_socket(family)?;
        if sharing == Sharing::Group {
            sys::set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if family == Family::V6 {
            let only = c_int::from(!listen.ip().is_unspecified());
            sys::set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only)?;
        }
        let (receive_buffer, send_buffer) = buffers(fd.as_fd(), config)?;
        let mut name = Name::EMPTY;
        name.set(family, listen);
        let mut socket = Self {
            waker: Waker::new()?,
            family,
            local: listen,
            receive_buffer,
            send_buffer,
            gro: false,
            gso: false,
            dscp: 0,
            drops: 0,
            missing: Vec::new(),
            fd,
        };
        socket.set_options(config)?;
        sys::bind(socket.as_fd(), &name)?;
        socket.local = UdpSocket::from(socket.fd.try_clone()?).local_addr()?;
        Ok(socket)
    }

    /// A second handle of the same socket, and of the same waker.
    ///
    /// Whoever watches over a shard keeps one: the socket stays open, with its
    /// place in a [`Group`](crate::Group) and the datagrams that wait in it, when
    /// the shard's engine is gone, and a new engine can go on with it. **Only one
    /// engine may use the socket at a time:** two would take each other's
    /// datagrams and wakes.
    ///
    /// # Errors
    /// Those of `dup(2)`: the process has no free descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            waker: self.waker.clone(),
            missing: self.missing.clone(),
            ..*self
        })
    }

    /// Everything before `bind`, so that no datagram arrives without it.
    fn set_options(&mut self, config: &SocketConfig) -> io::Result<()> {
        let v6 = self.family == Family::V6;
        if self.local.ip().is_unspecified() {
            let (level, option) = match self.family {
                Family::V4 => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            sys::set(self.as_fd(), level, option, 1)?;
        }
        // Sizes are ours to find: fragment nothing, believe no ICMP. An IPv6 socket has both.
        self.try_set(Feature::PathMtuProbe, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTU_PROBE);
        if v6 {
            let (level, option) = (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
            self.try_set(Feature::PathMtuProbe, level, option, PMTU_PROBE);
        }
        if config.count_drops {
            self.try_set(Feature::DropCounter, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
        }
        self.mark(config.dscp & 63);
        self.gro = self.offload(config.gro, Feature::Gro, libc::UDP_GRO, 1);
        // Setting the default size to zero changes nothing and proves that the option exists.
        self.gso = self.offload(config.gso, Feature::Gso, libc::UDP_SEGMENT, 0);
        Ok(())
    }

    /// Marks what does not say otherwise, for IPv4 peers of a dual-stack socket too.
    pub(crate) fn mark(&mut self, dscp: u8) {
        let class = c_int::from(dscp) << 2;
        let set = |level, option| sys::set(self.as_fd(), level, option, class);
        let v4 = set(libc::IPPROTO_IP, libc::IP_TOS);
        let v6 = match self.family {
            Family::V6 if v4.is_ok() => set(libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            Family::V4 | Family::V6 => Ok(()),
        };
        // Refused, every datagram that has a mark says so itself.
        if v4.is_ok() && v6.is_err() {
            let former = c_int::from(self.dscp) << 2;
            let _ = sys::set(self.as_fd(), libc::IPPROTO_IP, libc::IP_TOS, former);
        } else if v4.is_ok() {
            self.dscp = dscp;
        }
    }

    fn offload(&mut self, wanted: bool, feature: Feature, option: c_int, value: c_int) -> bool {
        if !wanted {
            self.missing.push(Missing { feature, reason: Reason::Disabled });
            return false;
        }
        self.try_set(feature, libc::SOL_UDP, option, value)
    }

    fn try_set(&mut self, feature: Feature, level: c_int, option: c_int, value: c_int) -> bool {
        let result = sys::set(self.as_fd(), level, option, value);
        if let Err(error) = &result {
            self.miss(feature, error);
        }
        result.is_ok()
    }

    fn miss(&mut self, feature: Feature, error: &io::Error) {
        let reason = match (feature, error.raw_os_error()) {
            (Feature::Gro, Some(libc::ENOPROTOOPT)) => Reason::Kernel("5.0"),
            (Feature::Gso, Some(libc::ENOPROTOOPT)) => Reason::Kernel("4.18"),
            (_, errno) => Reason::Errno(errno.unwrap_or(0)),
        };
        self.missing.push(Missing { feature, reason });
    }

    /// Stops coalescing on receive: the slots turned out too small for it.
    pub(crate) fn refuse_gro(&mut self) {
        if self.gro && sys::set(self.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 0).is_ok() {
            self.gro = false;
            self.missing.push(Missing { feature: Feature::Gro, reason: Reason::SlotSize });
        }
    }

    /// The address in effect, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address every datagram is received at and sent from, if it is only one.
    pub(crate) fn only_address(&self) -> Option<IpAddr> {
        Some(self.local.ip()).filter(|ip| !ip.is_unspecified())
    }

    /// The receive buffer in effect.
    pub fn receive_buffer(&self) -> BufferSize {
        self.receive_buffer
    }

    /// The send buffer in effect.
    pub fn send_buffer(&self) -> BufferSize {
        self.send_buffer
    }

    /// What was asked for and is not in effect.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The handle that wakes whoever waits for this socket.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whoever waits for this socket is who waits for that of `waker`.
    pub(crate) fn share_waker(&mut self, waker: &Waker) {
        self.waker = waker.clone();
    }

    pub(crate) fn wake_source(&self) -> &Waker {
        &self.waker
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `IP_PMTUDISC_PROBE`, the same number for both families.
const PMTU_PROBE: c_int = libc::IP_PMTUDISC_PROBE;
const _: () = assert!(libc::IP_PMTUDISC_PROBE == libc::IPV6_PMTUDISC_PROBE);

/// Whether binding failed because the system has no IPv6.
fn no_ipv6(config: &SocketConfig, error: &io::Error) -> bool {
    let without = [Some(libc::EAFNOSUPPORT), Some(libc::EADDRNOTAVAIL)];
    config.listen.is_ipv6() && without.contains(&error.raw_os_error())
}

fn buffers(fd: BorrowedFd<'_>, config: &SocketConfig) -> io::Result<(BufferSize, BufferSize)> {
    let receive = buffer(fd, config.rcvbuf_bytes, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE)?;
    let send = buffer(fd, config.sndbuf_bytes, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE)?;
    let by = |size: BufferSize, sysctl| {
        let clamped_by = (size.effective_bytes < size.asked_bytes).then_some(sysctl);
        BufferSize { clamped_by, ..size }
    };
    Ok((by(receive, "net.core.rmem_max"), by(send, "net.core.wmem_max")))
}

/// Asks beyond the system's maximum first, which `CAP_NET_ADMIN` may.
fn buffer(fd: BorrowedFd<'_>, bytes: usize, option: c_int, force: c_int) -> io::Result<BufferSize> {
    if bytes > 0 {
        // The kernel doubles the number and keeps it in an int.
        let value = c_int::try_from(bytes).unwrap_or(c_int::MAX).min(c_int::MAX / 2);
        let forced = sys::set(fd, libc::SOL_SOCKET, force, value);
        forced.or_else(|_| sys::set(fd, libc::SOL_SOCKET, option, value))?;
    }
    let doubled = sys::option(fd, libc::SOL_SOCKET, option)?;
    let effective_bytes = usize::try_from(doubled / 2).unwrap_or(0);
    Ok(BufferSize { asked_bytes: bytes, effective_bytes, clamped_by: None })
}
