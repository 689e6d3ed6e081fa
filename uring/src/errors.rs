//! What the kernel refused, by kind: each kind is a counter.

use std::io;

macro_rules! kinds {
    ($($variant:ident $label:literal $help:literal [$($errno:ident)*],)*) => {
        /// Kind of a failed send or receive.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ErrorKind {
            $(#[doc = $help] $variant,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Value of the `error` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// One line for people.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// The kind of an error number.
            pub const fn of_errno(errno: i32) -> Self {
                match errno {
                    $($(libc::$errno => Self::$variant,)*)*
                    _ => Self::Other,
                }
            }
        }
    };
}

kinds! {
    Full "full" "the socket's send buffer is full, and so is the place to wait for room" [EAGAIN],
    NoBuffers "no_buffers" "the kernel or the device's queue is out of buffers" [ENOBUFS ENOMEM],
    Denied "denied" "a firewall or policy forbids it" [EPERM EACCES],
    Unreachable "unreachable" "no route, or the interface is down"
        [ENETUNREACH EHOSTUNREACH ENETDOWN EHOSTDOWN ENODEV],
    TooLarge "too_large" "larger than the interface carries" [EMSGSIZE],
    Refused "refused" "the peer's host said that nobody listens" [ECONNREFUSED ECONNRESET],
    NoAddress "no_address" "our address of that path is gone" [EADDRNOTAVAIL],
    Invalid "invalid" "an address or option the kernel does not accept" [EINVAL EAFNOSUPPORT],
    Device "device" "the device failed" [EIO],
    Other "other" "any other error" [],
}

impl ErrorKind {
    /// The kind of an error.
    pub fn of(error: &io::Error) -> Self {
        Self::of_errno(error.raw_os_error().unwrap_or(0))
    }
}

/// One count per kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([u64; ErrorKind::ALL.len()]);

impl Errors {
    /// Counts `n` of `kind`.
    #[inline]
    pub fn add(&mut self, kind: ErrorKind, n: u64) {
        self.0[kind as usize] += n;
    }

    /// How many of `kind` there were.
    #[inline]
    pub fn count(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many there were of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.iter().copied().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_count_apart_and_labels_are_unique() {
        let mut errors = Errors::default();
        errors.add(ErrorKind::of_errno(libc::ENOMEM), 2);
        errors.add(ErrorKind::of(&io::Error::from_raw_os_error(libc::EMSGSIZE)), 1);
        errors.add(ErrorKind::of(&io::Error::other("no number")), 4);
        assert_eq!(errors.count(ErrorKind::NoBuffers), 2);
        assert_eq!(errors.count(ErrorKind::TooLarge), 1);
        assert_eq!((errors.count(ErrorKind::Other), errors.total()), (4, 7));
        for (position, (kind, _)) in errors.iter().enumerate() {
            assert_eq!(position, kind as usize);
            let same = ErrorKind::ALL.iter().filter(|other| other.label() == kind.label());
            assert_eq!(same.count(), 1, "{}", kind.help());
        }
    }
}
