//! The system calls, one function each, with errors as values.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, socklen_t};

use crate::addr::{Family, Name};

/// Turns the kernel's -1 into an error.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn socklen<T>() -> socklen_t {
    const { assert!(size_of::<T>() < 1024) };
    socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// A UDP socket that never blocks.
pub(crate) fn udp_socket(family: Family) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(family.domain(), kind, libc::IPPROTO_UDP) })?;
    Ok(own(fd))
}

/// An event counter that never blocks.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    Ok(own(fd))
}

pub(crate) fn bind(fd: BorrowedFd<'_>, name: &Name) -> io::Result<()> {
    // SAFETY: `name` is a socket address of `len` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), name.bytes.as_ptr().cast(), name.len) }).map(drop)
}

/// Sets an integer option.
pub(crate) fn set(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let (value, len) = (&raw const value, socklen::<c_int>());
    // SAFETY: `value` points to `len` bytes on our stack.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.cast(), len) };
    check(result).map(drop)
}

/// Reads an integer option.
pub(crate) fn option(fd: BorrowedFd<'_>, level: c_int, option: c_int) -> io::Result<c_int> {
    let (mut value, mut len) = (0, socklen::<c_int>());
    let (at, size) = ((&raw mut value).cast(), &raw mut len);
    // SAFETY: `value` has room for the `len` bytes it promises.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, at, size) })?;
    Ok(value)
}

/// Lets a classic BPF program choose among the sockets that share `fd`'s address.
pub(crate) fn steer(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_ptr().cast_mut(),
    };
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    let (at, len) = ((&raw const filter).cast(), socklen::<libc::sock_fprog>());
    // SAFETY: `filter` points to at least as many steps as it says, which the kernel only reads, and
    // copies before it returns.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, at, len) }).map(drop)
}

/// Waits until one of `fds` is ready or `timeout` is over.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> io::Result<usize> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let (count, at) = (fds.len() as libc::nfds_t, fds.as_mut_ptr());
    // SAFETY: `fds` is an exclusive slice of `count` entries; no signal mask is given.
    let ready = check(unsafe { libc::ppoll(at, count, &timeout, ptr::null()) })?;
    Ok(usize::try_from(ready).unwrap_or(0))
}

/// Receives into as many of `messages` as there are datagrams waiting; never blocks.
///
/// # Safety
/// Every pointer in `messages` must be valid for writes of the length beside it
/// and not borrowed by anyone.
pub(crate) unsafe fn recvmmsg(
    fd: BorrowedFd<'_>,
    messages: &mut [libc::mmsghdr],
    flags: c_int,
) -> io::Result<usize> {
    let (at, count) = (messages.as_mut_ptr(), u32::try_from(messages.len()).unwrap_or(u32::MAX));
    let (flags, no_timeout) = (flags | libc::MSG_DONTWAIT, ptr::null_mut());
    // SAFETY: an exclusive slice of `count` messages whose pointers the caller vouches for.
    let got = unsafe { libc::recvmmsg(fd.as_raw_fd(), at, count, flags as _, no_timeout) };
    check(got).map(|got| usize::try_from(got).unwrap_or(0))
}

/// Sends `messages` in order until one fails; never blocks. An error is that of the first.
///
/// # Safety
/// Every pointer in `messages` must be valid for reads of the length beside it.
pub(crate) unsafe fn sendmmsg(
    fd: BorrowedFd<'_>,
    messages: &mut [libc::mmsghdr],
) -> io::Result<usize> {
    let (at, count) = (messages.as_mut_ptr(), u32::try_from(messages.len()).unwrap_or(u32::MAX));
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: an exclusive slice of `count` messages whose pointers the caller vouches for.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), at, count, flags as _) };
    check(sent).map(|sent| usize::try_from(sent).unwrap_or(0))
}

/// A message header without pointers.
pub(crate) fn blank_header() -> libc::msghdr {
    // SAFETY: all zero is a message header: null pointers with lengths of zero.
    unsafe { std::mem::zeroed() }
}

/// Makes the number `fd` mean the file behind `with`.
pub(crate) fn replace(with: BorrowedFd<'_>, fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::dup3(with.as_raw_fd(), fd, libc::O_CLOEXEC) }).map(drop)
}

/// What a set of descriptors says of one of them: a `struct epoll_event`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(libc::epoll_event);

impl Event {
    pub(crate) const EMPTY: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    /// The number that the descriptor was added with.
    pub(crate) fn id(&self) -> u16 {
        u16::try_from(self.0.u64).unwrap_or(0)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({})", self.id())
    }
}

/// A set of descriptors, itself one that polls as readable while any of them is.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    Ok(own(check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?))
}

/// Adds `fd` to `set`, for what can be read from it.
pub(crate) fn epoll_add(set: BorrowedFd<'_>, fd: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    epoll_control(set, libc::EPOLL_CTL_ADD, fd, id)
}

/// Takes `fd` out of `set`.
pub(crate) fn epoll_delete(set: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    epoll_control(set, libc::EPOLL_CTL_DEL, fd, 0)
}

fn epoll_control(
    set: BorrowedFd<'_>,
    operation: c_int,
    fd: BorrowedFd<'_>,
    id: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: id };
    let (set, fd) = (set.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: `event` is on our stack; the kernel only reads it.
    check(unsafe { libc::epoll_ctl(set, operation, fd, &raw mut event) }).map(drop)
}

/// Which of `set` are ready, as many as fit `events`; never waits.
pub(crate) fn epoll_ready(set: BorrowedFd<'_>, events: &mut [Event]) -> io::Result<usize> {
    let count = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
    // SAFETY: an exclusive slice of `count` events, which are laid out as the kernel's.
    let ready =
        check(unsafe { libc::epoll_wait(set.as_raw_fd(), events.as_mut_ptr().cast(), count, 0) })?;
    Ok(usize::try_from(ready).unwrap_or(0))
}

/// The list that `getifaddrs(3)` makes.
pub(crate) struct Interfaces(*mut libc::ifaddrs);

impl Interfaces {
    pub(crate) fn list() -> io::Result<Self> {
        let mut first = ptr::null_mut();
        // SAFETY: `first` is on our stack.
        check(unsafe { libc::getifaddrs(&raw mut first) })?;
        Ok(Self(first))
    }

    /// Calls `each` with every address of IPv4 or IPv6, as the kernel writes it.
    pub(crate) fn for_each_name(&self, mut each: impl FnMut(&[u8])) {
        let mut at = self.0.cast_const();
        // SAFETY: the list's own pointers, which stay valid until it is dropped; the last is null.
        while let Some(entry) = unsafe { at.as_ref() } {
            at = entry.ifa_next;
            // SAFETY: as above; an entry without an address has a null pointer there.
            let family = unsafe { entry.ifa_addr.as_ref() }.map(|addr| i32::from(addr.sa_family));
            let len = match family {
                Some(libc::AF_INET) => size_of::<libc::sockaddr_in>(),
                Some(libc::AF_INET6) => size_of::<libc::sockaddr_in6>(),
                _ => continue,
            };
            // SAFETY: an address of this family has so many bytes.
            each(unsafe { std::slice::from_raw_parts(entry.ifa_addr.cast_const().cast(), len) });
        }
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        // SAFETY: made by `getifaddrs`, and dropped once.
        unsafe { libc::freeifaddrs(self.0) };
    }
}
