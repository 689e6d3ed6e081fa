//! Every system call of the data path: UDP sockets with offloads, the io_uring
//! engine and the recvmmsg/sendmmsg engine with the same face.

mod datagram;

pub use datagram::{Datagram, Local, Path, Transmit};
