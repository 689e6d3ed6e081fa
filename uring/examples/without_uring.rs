//! Runs a program for which io_uring is not to be had:
//!
//! ```sh
//! without_uring --seccomp|--memlock0 PROGRAM [ARGUMENT]...
//! ```
//!
//! `--seccomp` lets the three system calls fail with EPERM, as container runtimes do.
//! `--memlock0` sets RLIMIT_MEMLOCK to 0 and gives up CAP_IPC_LOCK, by which root escapes the
//! limit. Neither can be undone by the program.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`, the same on every architecture.
const FIRST_CALL: u32 = 425;
const LAST_CALL: u32 = 427;
const CAP_IPC_LOCK: libc::c_ulong = 14;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let deny = match arguments.next().as_ref().and_then(|how| how.to_str()) {
        Some("--seccomp") => deny_calls,
        Some("--memlock0") => deny_locked_memory,
        Some(_) | None => return fail("--seccomp or --memlock0 comes first"),
    };
    let Some(program) = arguments.next() else { return fail("no program") };
    match deny() {
        // Returns only if it failed.
        Ok(()) => fail(&Command::new(program).args(arguments).exec().to_string()),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("without_uring: {why}");
    ExitCode::from(64)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn deny_calls() -> io::Result<()> {
    let step = |code: u32, k: u32, jt: u8, jf: u8| {
        let code = u16::try_from(code).expect("operation codes are 16 bits");
        libc::sock_filter { code, jt, jf, k }
    };
    let (load, jump, give) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_K, libc::BPF_RET);
    let mut filter = [
        // The number of the system call is the first word of what a filter sees.
        step(load, 0, 0, 0),
        step(jump | libc::BPF_JGE, FIRST_CALL, 0, 2),
        step(jump | libc::BPF_JGT, LAST_CALL, 1, 0),
        step(give, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(), 0, 0),
        step(give, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let len = u16::try_from(filter.len()).expect("five steps");
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: no pointers. Without it only root may set filters.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
    // SAFETY: `program` points to `len` steps, which the kernel copies.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) })
}

fn deny_locked_memory() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a limit that the kernel reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &none) })?;
    // SAFETY: no pointers. Takes it from what root's programs start with.
    let dropped = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) });
    // Whoever may not drop it does not have it to give.
    dropped.or_else(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Ok(()),
        Some(_) | None => Err(error),
    })
}
