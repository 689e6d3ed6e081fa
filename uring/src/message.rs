//! One message to the kernel: header, name, control data and pieces.

use std::net::IpAddr;

use crate::addr::{Family, Name};
use crate::cmsg::Control;
use crate::datagram::{Path, Transmit};
use crate::plan::BYTES_MAX;
use crate::socket::Socket;

/// How this socket's messages are addressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addressing {
    family: Family,
    /// Our address when there is only one: then it is not said each time.
    only: Option<IpAddr>,
    /// Mark that the socket gives what says nothing of it.
    dscp: u8,
}

impl Addressing {
    pub(crate) fn of(socket: &Socket) -> Self {
        Self { family: socket.family, only: socket.only_address(), dscp: socket.dscp }
    }

    /// Writes name and control data for a message on `path`, marked with `dscp`
    /// unless the socket does that and cut into `segment` bytes unless that is 0. Returns the
    /// control length without the cut.
    #[inline]
    pub(crate) fn write(
        &self,
        name: &mut Name,
        control: &mut Control,
        path: &Path,
        dscp: u8,
        segment: u16,
    ) -> usize {
        name.set(self.family, path.peer);
        control.clear();
        if path.local.ip != self.only {
            control.source(&path.local);
        }
        if dscp != self.dscp {
            control.dscp(path.peer.is_ipv4(), dscp);
        }
        let plain = control.len;
        if segment > 0 {
            control.segment(segment);
        }
        plain
    }
}

/// Points `header` at the rest of its message. The pointers are read by the
/// kernel at the next send, so they must stay valid until then.
#[inline]
pub(crate) fn point(
    header: &mut libc::msghdr,
    name: &mut Name,
    control: &mut Control,
    pieces: &mut [libc::iovec],
) {
    header.msg_name = name.bytes.as_mut_ptr().cast();
    header.msg_namelen = name.len;
    header.msg_iov = pieces.as_mut_ptr();
    header.msg_iovlen = pieces.len() as _;
    // An empty control buffer is a null pointer: some kernels look at the length alone.
    header.msg_control = match control.len {
        0 => std::ptr::null_mut(),
        _ => control.bytes.as_mut_ptr().cast(),
    };
    header.msg_controllen = control.len as _;
    header.msg_flags = 0;
}

/// Bytes of `transmit` that fit one message of at most `segments` datagrams: whole
/// ones, within the limit of coalescing, and always one.
#[inline]
pub(crate) fn bytes_per_message(transmit: &Transmit, segments: usize) -> usize {
    let segment = transmit.segment.clamp(1, transmit.buf.len().max(1));
    segment * (BYTES_MAX / segment).clamp(1, segments)
}

/// The bytes as the kernel wants to be told of them. It only reads them.
#[inline]
pub(crate) fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// What was in a message, for the counters and for sending it once more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    pub(crate) datagrams: u32,
    pub(crate) bytes: u32,
    /// Size of the cut; 0 if there is none.
    pub(crate) segment: u16,
    /// Length of the control data without the cut.
    pub(crate) plain: usize,
}
