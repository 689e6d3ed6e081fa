//! What a system may withhold: io_uring itself, locked memory, room to send.
//! Each test takes it from its own thread only.

mod common;
#[cfg(test)]
#[path = "withheld/room.rs"]
mod room;

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use rustix::process::{Resource, Rlimit, setrlimit};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use uring::{
        EngineConfig, Feature, MmsgEngine, Path, Reason, Refused, Remains, Socket, SocketConfig,
        Steering, TxMode, UringEngine,
    };

    use crate::common::*;

    fn check(result: i32) -> io::Result<()> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
        libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k }
    }

    /// Lets the three system calls of io_uring fail in this thread, as container runtimes do.
    fn deny_io_uring() {
        deny(&mut [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 425, 0, 2),
            step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 427, 1, 0),
            step(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(), 0, 0),
            step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
        ]);
    }

    /// Lets `setsockopt` fail in this thread for one option (of any level).
    fn deny_option(option: i32) {
        let number = u32::try_from(libc::SYS_setsockopt).unwrap();
        // The low half of the third argument.
        let at = 16 + 2 * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
        deny(&mut [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 3),
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, option.unsigned_abs(), 0, 1),
            step(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(), 0, 0),
            step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
        ]);
    }

    /// Puts this thread behind a filter of system calls.
    fn deny(steps: &mut [libc::sock_filter]) {
        let len = u16::try_from(steps.len()).unwrap();
        let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
        // SAFETY: no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).unwrap();
        let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
        // SAFETY: `program` points to `len` steps, which the kernel copies.
        check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) }).unwrap();
    }

    fn local() -> Socket {
        Socket::bind(&SocketConfig::new(addr("127.0.0.1:0"))).unwrap()
    }

    /// The socket and the pool that came back with a refusal work.
    fn goes_on_without(refused: Refused) {
        let Refused { socket, pool, .. } = refused;
        assert_eq!(pool.free(), pool.slots());
        let here = socket.local_addr();
        let mut engine = MmsgEngine::new(socket, EngineConfig::default(), pool);
        let peer = peer("127.0.0.1:0");
        peer.send_to(b"still", here).unwrap();
        assert_eq!(&collect(&mut engine, 1)[0].buf[..], b"still");
    }

    #[test]
    fn a_filter_on_system_calls_is_named() {
        apart(|| {
            deny_io_uring();
            let slots = pool(RX_SLOT_BYTES, 96);
            let refused = UringEngine::new(local(), EngineConfig::default(), slots).unwrap_err();
            // Unless the whole system forbids it anyway.
            let system = matches!(refused.reason, Reason::Sysctl | Reason::SysctlGroup);
            assert!(system || refused.reason == Reason::Seccomp, "{}", refused.reason);
            goes_on_without(*refused);
        });
    }

    /// Newer kernels charge the ring itself, older ones only registered buffers.
    #[test]
    fn without_its_program_a_group_is_a_group_all_the_same() {
        apart(|| {
            deny_option(libc::SO_ATTACH_REUSEPORT_CBPF);
            let config = SocketConfig::new(addr("127.0.0.1:0"));
            let group = Socket::bind_group(&config, 3, 2, true).unwrap();
            assert_eq!((group.steering, group.sockets.len()), (Steering::Hash(Reason::Seccomp), 3));
            let text = group.steering.to_string();
            assert!(text.starts_with("by address hash (refused by a seccomp filter"), "{text}");
        });
    }

    #[test]
    fn a_lack_of_locked_memory_is_named() {
        apart(|| {
            let Ok(before) = capabilities(None) else { return };
            let mut less = before;
            less.effective.remove(CapabilitySet::IPC_LOCK);
            set_capabilities(None, less).unwrap();
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            setrlimit(Resource::Memlock, none).unwrap();
            let config = EngineConfig {
                tx: TxMode::Uring,
                zero_copy_min_bytes: Some(16 << 10),
                ..EngineConfig::default()
            };
            match UringEngine::new(local(), config, pool(RX_SLOT_BYTES, 96)) {
                Ok(engine) => {
                    let reason = engine.achieved().reason(Feature::RegisteredBuffers);
                    assert_eq!(reason, Some(Reason::Memlock));
                }
                Err(refused) => {
                    let others = [Reason::Memlock, Reason::Sysctl, Reason::SysctlGroup];
                    assert!(others.contains(&refused.reason), "{}", refused.reason);
                    goes_on_without(*refused);
                }
            }
        });
    }

    /// An engine taken apart in the middle of everything gives back all it had.
    #[test]
    fn what_a_ring_leaves_behind_is_complete() {
        let small = pool(2048, 64);
        let socket = local();
        let (here, peer) = (socket.local_addr(), peer("127.0.0.1:0"));
        let config = EngineConfig { tx: TxMode::Uring, rx_batch: 3, ..EngineConfig::default() };
        let Ok(mut engine) = UringEngine::new(socket, config, pool(RX_SLOT_BYTES, 96)) else {
            return;
        };
        let path = Path { peer: peer.local_addr().unwrap(), local: Default::default() };
        for n in 0..10u8 {
            peer.send_to(&[n], here).unwrap();
            engine.send(single(&small, path, &[n]));
        }
        let mut sink = Vec::new();
        engine.turn(Duration::from_secs(5), &mut sink).unwrap();
        assert_eq!(sink.len(), 3, "a turn brings no more than its batch");
        engine.send(single(&small, path, b"queued"));
        let Remains { pool, stats, received, queued, .. } = engine.into_remains();
        assert_eq!(queued.len(), 1);
        assert_eq!((stats.tx_packets, stats.tx_errors.total()), (10, 0));
        assert_eq!(small.free(), small.slots() - 1);
        assert_eq!(pool.free(), pool.slots() - sink.len() - received.len());
    }

    /// A turn goes on in rounds of what is posted until its batch is full.
    #[test]
    fn a_turn_brings_a_batch_larger_than_what_is_posted() {
        for kind in [Kind::Mmsg, Kind::Uring, Kind::UringTx] {
            let config = EngineConfig { rx_post: 8, rx_batch: 20, ..EngineConfig::default() };
            let socket = SocketConfig::new(addr("127.0.0.1:0"));
            let slots = pool(RX_SLOT_BYTES, 64);
            let mut engine = some!(open_with(kind, &socket, config, slots));
            let peer = peer("127.0.0.1:0");
            for n in 0..50u8 {
                peer.send_to(&[n], engine.socket().local_addr()).unwrap();
            }
            let mut came = Vec::new();
            for want in [20, 20, 10] {
                let mut sink = Vec::new();
                engine.turn(Duration::from_secs(5), &mut sink).unwrap();
                assert_eq!(sink.len(), want, "{kind:?}");
                came.extend(sink.iter().map(|one| one.buf[0]));
            }
            assert_eq!(came, (0..50).collect::<Vec<u8>>());
        }
    }
}
