//! What the socket tests share: an engine of each kind behind one face, and peers.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses its share")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use bufpool::{Buf, Hugepages, Pool, PoolConfig};
use uring::{
    Achieved, Datagram, EngineConfig, MmsgEngine, Path, Socket, SocketConfig, Stats, Transmit,
    TxMode, UringEngine, Waker, Watch,
};

/// Every engine under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mmsg,
    Uring,
    UringTx,
}

/// The face both engines have.
pub(crate) trait Face {
    fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()>;
    fn send(&mut self, transmit: Transmit);
    fn flush(&mut self);
    fn room(&self) -> usize;
    fn stats(&self) -> &Stats;
    fn achieved(&self) -> &Achieved;
    fn waker(&self) -> Waker;
    fn socket(&self) -> &Socket;
    fn pool(&self) -> &Pool;
    fn watch(&mut self, beside: Option<Watch>);
    fn watched(&mut self) -> Option<bool>;
    fn pool_and_stats(&mut self) -> (&Pool, &mut Stats);
}

macro_rules! face {
    ($engine:ty) => {
        impl Face for $engine {
            fn turn(&mut self, timeout: Duration, sink: &mut Vec<Datagram>) -> io::Result<()> {
                self.turn(timeout, sink)
            }
            fn send(&mut self, transmit: Transmit) {
                self.send(transmit);
            }
            fn flush(&mut self) {
                self.flush();
            }
            fn room(&self) -> usize {
                self.room()
            }
            fn stats(&self) -> &Stats {
                self.stats()
            }
            fn achieved(&self) -> &Achieved {
                self.achieved()
            }
            fn waker(&self) -> Waker {
                self.waker()
            }
            fn socket(&self) -> &Socket {
                self.socket()
            }
            fn pool(&self) -> &Pool {
                self.pool()
            }
            fn watch(&mut self, beside: Option<Watch>) {
                self.watch(beside);
            }
            fn watched(&mut self) -> Option<bool> {
                self.watched()
            }
            fn pool_and_stats(&mut self) -> (&Pool, &mut Stats) {
                self.pool_and_stats()
            }
        }
    };
}
face!(MmsgEngine);
face!(UringEngine);

pub(crate) const RX_SLOT_BYTES: usize = 68 * 1024;

pub(crate) fn pool(slot_bytes: usize, slots: usize) -> Pool {
    let hugepages = Hugepages::Off;
    let config = PoolConfig { slot_bytes, slots, headroom: 32, hugepages, prefault: false };
    Pool::new(config).expect("memory for a test")
}

/// An engine of `kind`; `None`, said on stderr, where the system forbids io_uring.
pub(crate) fn open_with(
    kind: Kind,
    socket: &SocketConfig,
    config: EngineConfig,
    pool: Pool,
) -> Option<Box<dyn Face>> {
    let socket = Socket::bind(socket).expect("a free port");
    engine(kind, socket, config, pool)
}

/// An engine of `kind` on a socket that is bound, with the sizes of production.
pub(crate) fn open_on(kind: Kind, socket: Socket) -> Option<Box<dyn Face>> {
    engine(kind, socket, EngineConfig::default(), pool(RX_SLOT_BYTES, 96))
}

fn engine(kind: Kind, socket: Socket, config: EngineConfig, pool: Pool) -> Option<Box<dyn Face>> {
    let tx = match kind {
        Kind::Mmsg => return Some(Box::new(MmsgEngine::new(socket, config, pool))),
        Kind::Uring => TxMode::Auto,
        Kind::UringTx => TxMode::Uring,
    };
    match UringEngine::new(socket, EngineConfig { tx, ..config }, pool) {
        Ok(engine) => Some(Box::new(engine)),
        Err(refused) => {
            assert!(std::env::var_os("MOLIA_REQUIRE_URING").is_none(), "{}", refused.reason);
            eprintln!("skipped: no io_uring here: {}", refused.reason);
            None
        }
    }
}

/// An engine on `listen` with the sizes of production.
pub(crate) fn open(kind: Kind, listen: &str) -> Option<Box<dyn Face>> {
    let config = EngineConfig::default();
    open_with(kind, &SocketConfig::new(addr(listen)), config, pool(RX_SLOT_BYTES, 96))
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A plain peer that gives up after five seconds.
pub(crate) fn peer(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

/// The engine's port at another of its addresses.
pub(crate) fn at(engine: &dyn Face, ip: &str) -> SocketAddr {
    (ip.parse::<std::net::IpAddr>().expect("an address"), engine.socket().local_addr().port())
        .into()
}

/// Turns until `count` datagrams came (segments counted) or nothing comes for two seconds.
pub(crate) fn collect(engine: &mut dyn Face, count: usize) -> Vec<Datagram> {
    let mut sink = Vec::new();
    let total = |sink: &[Datagram]| sink.iter().map(|d| d.segments().count().max(1)).sum::<usize>();
    while total(&sink) < count {
        let before = sink.len();
        engine.turn(Duration::from_secs(2), &mut sink).expect("a turn");
        if sink.len() == before {
            break;
        }
    }
    sink
}

pub(crate) fn filled(pool: &Pool, bytes: &[u8]) -> Buf {
    let mut buf = pool.take().expect("a free slot");
    assert!(buf.extend(bytes), "a test's datagram fits");
    buf
}

pub(crate) fn single(pool: &Pool, path: Path, bytes: &[u8]) -> Transmit {
    Transmit { path, buf: filled(pool, bytes), segment: bytes.len(), dscp: 0 }
}

/// Runs `body` in a thread of its own, whose sandbox ends with it.
pub(crate) fn apart<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(body).join().expect("the thread's own message says why")
}

/// Sets an integer option of an engine's socket.
pub(crate) fn set_option(engine: &dyn Face, level: i32, option: i32, value: i32) {
    use std::os::fd::AsRawFd;
    let fd = engine.socket().as_fd().as_raw_fd();
    let (value, len) = (&raw const value, u32::try_from(size_of::<i32>()).expect("four"));
    // SAFETY: `value` points to `len` bytes on our stack.
    let result = unsafe { libc::setsockopt(fd, level, option, value.cast(), len) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// The next datagram, and its traffic class if the socket asks for that.
pub(crate) fn receive_marked(socket: &UdpSocket) -> (Vec<u8>, u8) {
    use std::os::fd::AsRawFd;
    let (mut bytes, mut control) = ([0u8; 2048], [0usize; 16]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is a message header: null pointers with lengths of zero.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut piece, 1);
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `header` points to our own arrays of the lengths beside them.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let len = usize::try_from(len).expect("a datagram before the timeout");
    // The one thing asked for is the first: length, level and type, data.
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let kind = i32::from_ne_bytes(*control[size_of::<usize>() + 4..].first_chunk().expect("four"));
    let data = &control[size_of::<libc::cmsghdr>()..];
    let class = match kind {
        libc::IP_TOS => data[0],
        libc::IPV6_TCLASS => {
            let class = i32::from_ne_bytes(*data.first_chunk().expect("four"));
            u8::try_from(class).expect("a byte")
        }
        _ => panic!("no class but {kind}"),
    };
    (bytes[..len].to_vec(), class)
}

/// Opens an engine or ends the test where there is none.
macro_rules! some {
    ($open:expr) => {
        match $open {
            Some(engine) => engine,
            None => return,
        }
    };
}
pub(crate) use some;

/// `count` bytes that say where they belong.
pub(crate) fn pattern(seed: usize, count: usize) -> Vec<u8> {
    (0..count).map(|at| (seed.wrapping_mul(31) + at).to_le_bytes()[0]).collect()
}
