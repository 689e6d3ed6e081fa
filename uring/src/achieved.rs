//! What an engine achieved, and what is missing with the reason.

use std::fmt;

macro_rules! features {
    ($($variant:ident $label:literal,)*) => {
        /// Something an engine would like to use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Feature {
            $(#[doc = concat!("`", $label, "`")] $variant,)*
        }

        impl Feature {
            /// Every feature.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Value of the `feature` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

features! {
    IoUring "io_uring",
    DeferTaskrun "defer_taskrun",
    SingleIssuer "single_issuer",
    CoopTaskrun "coop_taskrun",
    RegisteredFile "registered_file",
    RegisteredBuffers "registered_buffers",
    BusyPoll "busy_poll",
    ZeroCopy "zero_copy",
    Gro "gro",
    Gso "gso",
    Ipv6 "ipv6",
    PathMtuProbe "pmtu_probe",
    DropCounter "drop_counter",
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident $(($detail:ty))? $label:literal,)*) => {
        /// Why something is missing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant $(($detail))?,)*
        }

        impl Reason {
            /// Every value of the `reason` label.
            pub const LABELS: &[&'static str] = &[$($label),*];

            /// Value of the `reason` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant { .. } => $label,)* }
            }
        }
    };
}

reasons! {
    /// Switched off by configuration.
    Disabled "disabled",
    /// The kernel has no such thing yet; it came with the version named.
    Kernel(&'static str) "kernel",
    /// `kernel.io_uring_disabled` is 2.
    Sysctl "sysctl",
    /// `kernel.io_uring_disabled` is 1 and we are not in its group.
    SysctlGroup "sysctl_group",
    /// Refused without a sysctl saying so: a seccomp filter (containers) or a security module.
    Seccomp "seccomp",
    /// `RLIMIT_MEMLOCK` is too small.
    Memlock "memlock",
    /// The engine in use has no such thing.
    Engine "engine",
    /// Receive slots are smaller than a coalesced run.
    SlotSize "slot_size",
    /// The kernel copies all the same.
    Copied "copied",
    /// The device or path refused it at run time, with this error number.
    Refused(i32) "refused",
    /// It worked and then broke, with this error number.
    Broke(i32) "broke",
    /// Any other error number.
    Errno(i32) "errno",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let os = std::io::Error::from_raw_os_error;
        match *self {
            Self::Disabled => f.write_str("switched off by configuration"),
            Self::Kernel(since) => write!(f, "needs Linux {since}"),
            Self::Sysctl => f.write_str("forbidden by sysctl kernel.io_uring_disabled=2"),
            Self::SysctlGroup => {
                f.write_str("sysctl kernel.io_uring_disabled=1 and not in kernel.io_uring_group")
            }
            Self::Seccomp => {
                f.write_str("refused by a seccomp filter or security module (usual in containers)")
            }
            Self::Memlock => f.write_str("RLIMIT_MEMLOCK too small (raise LimitMEMLOCK=)"),
            Self::Engine => f.write_str("not with this engine"),
            Self::SlotSize => f.write_str("receive slots smaller than a coalesced run"),
            Self::Copied => f.write_str("the kernel copies all the same"),
            Self::Refused(errno) => write!(f, "refused by the device: {}", os(errno)),
            Self::Broke(errno) => write!(f, "broke while running: {}", os(errno)),
            Self::Errno(errno) => write!(f, "{}", os(errno)),
        }
    }
}

/// A feature that is not in use, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Missing {
    /// What.
    pub feature: Feature,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.feature.label(), self.reason)
    }
}

/// The engine in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Multishot receive on an io_uring.
    IoUring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

impl Engine {
    /// Value of the `engine` label, and of `io/engine`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// How datagrams leave (`io/tx`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TxMode {
    /// What measured best: `sendmmsg`.
    #[default]
    Auto,
    /// One `sendmmsg` per batch.
    Sendmmsg,
    /// `SENDMSG` entries on the ring, submitted with the next wait.
    Uring,
}

impl TxMode {
    /// Value of `io/tx`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sendmmsg => "sendmmsg",
            Self::Uring => "uring",
        }
    }
}

/// What is in use right now. Changes at run time only when a device refuses
/// `UDP_SEGMENT` or the ring breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Achieved {
    /// The engine.
    pub engine: Engine,
    /// How datagrams leave; never `Auto`.
    pub tx: TxMode,
    /// Whether received runs are coalesced (`UDP_GRO`).
    pub gro: bool,
    /// Whether sent runs are coalesced (`UDP_SEGMENT`).
    pub gso: bool,
    /// Whether the socket is a registered file of the ring.
    pub registered_file: bool,
    /// Whether the receive arena is registered with the ring, for sends without a copy.
    pub registered_buffers: bool,
    /// Whether a wait polls the network card before it sleeps.
    pub busy_poll: bool,
    /// What is not in use, and why.
    pub missing: Vec<Missing>,
}

impl Achieved {
    /// Why `feature` is not in use, if it is not.
    pub fn reason(&self, feature: Feature) -> Option<Reason> {
        self.missing.iter().find(|missing| missing.feature == feature).map(|missing| missing.reason)
    }

    /// Records that `feature` is not in use; a later reason replaces an earlier one.
    pub fn miss(&mut self, feature: Feature, reason: Reason) {
        match self.missing.iter_mut().find(|missing| missing.feature == feature) {
            Some(missing) => missing.reason = reason,
            None => self.missing.push(Missing { feature, reason }),
        }
    }
}

impl fmt::Display for Achieved {
    /// One line: `io_uring, tx sendmmsg, gro, gso, registered file`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, tx {}", self.engine.label(), self.tx.label())?;
        let parts = [
            (self.gro, "gro"),
            (self.gso, "gso"),
            (self.registered_file, "registered file"),
            (self.registered_buffers, "registered buffers"),
            (self.busy_poll, "busy poll"),
        ];
        parts.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_reason_stands_and_people_can_read_it() {
        let mut achieved = Achieved {
            engine: Engine::Mmsg,
            tx: TxMode::Sendmmsg,
            gro: true,
            gso: false,
            registered_file: false,
            registered_buffers: false,
            busy_poll: false,
            missing: Vec::new(),
        };
        achieved.miss(Feature::Gso, Reason::Disabled);
        achieved.miss(Feature::Gso, Reason::Refused(libc::EIO));
        achieved.miss(Feature::IoUring, Reason::Sysctl);
        assert_eq!(achieved.reason(Feature::Gso), Some(Reason::Refused(libc::EIO)));
        assert_eq!(achieved.reason(Feature::Gro), None);
        assert_eq!(achieved.missing.len(), 2);
        assert_eq!(achieved.to_string(), "mmsg, tx sendmmsg, gro");
        let text = achieved.missing[1].to_string();
        assert_eq!(text, "io_uring: forbidden by sysctl kernel.io_uring_disabled=2");
    }
}
