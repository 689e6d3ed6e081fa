//! Every system call of the data path: UDP sockets with offloads, the io_uring
//! engine and the recvmmsg/sendmmsg engine with the same face.

mod achieved;
mod addr;
mod batch;
mod bufring;
mod cmsg;
mod config;
mod datagram;
mod errors;
mod group;
mod interfaces;
mod kernel;
mod marks;
mod message;
mod mmsg;
mod plan;
mod posted;
mod ring;
mod rx;
mod sched;
mod side;
mod socket;
mod stats;
mod steer;
mod sys;
mod table;
mod uring;
mod waker;
mod zerocopy;

pub use achieved::{Achieved, Engine, Feature, Missing, Reason, TxMode};
pub use config::{EngineConfig, TURN_BYTES, TX_RESERVE};
pub use datagram::{Datagram, Local, Path, Transmit};
pub use errors::{ErrorKind, Errors};
pub use group::Group;
pub use interfaces::own_addresses;
pub use mmsg::MmsgEngine;
pub use sched::prefer_batches;
pub use side::{SideSockets, Watch};
pub use socket::{BufferSize, Socket, SocketConfig};
pub use stats::Stats;
pub use steer::Steering;
pub use uring::{Refused, Remains, UringEngine};
pub use waker::Waker;
