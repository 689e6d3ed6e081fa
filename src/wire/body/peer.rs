//! A peer as a router lists it, and lists of peers and of addresses.

use std::net::SocketAddr;

use super::reader::{Fields, Value};
use super::{BodyError, Overflow, Writer, exactly};
use crate::ids::{PeerId, WgKey};
use crate::limits::{MULTIADDR_BYTES_MAX, PEER_ADDRS_MAX, PEER_ENTRY_BYTES_MAX};
use crate::wire::multiaddr::{self, Multiaddr};

/// Bits of [`Peer::flags`].
pub mod flag {
    /// Answers strangers.
    pub const REACHABLE: u32 = 1;
    /// Reached by an introduction.
    pub const VIA_RENDEZVOUS: u32 = 2;
    /// Relays for others.
    pub const RELAY: u32 = 4;
}

/// Multiaddrs, in wire form or to be written.
#[derive(Clone, Copy)]
pub struct Addrs<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// The fields with this tag of a body that was read to its end.
    Wire {
        body: &'a [u8],
        tag: u32,
    },
    List(&'a [Multiaddr]),
}

impl<'a> Addrs<'a> {
    /// No address.
    pub const NONE: Self = Self(Source::List(&[]));

    /// These addresses.
    pub const fn of(list: &'a [Multiaddr]) -> Self {
        Self(Source::List(list))
    }

    /// The addresses that a [`Tally`] will count in `body`.
    pub(super) const fn read(body: &'a [u8], tag: u32) -> Self {
        Self(Source::Wire { body, tag })
    }

    /// The multiaddrs in order, not looked into.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (body, tag, list) = match self.0 {
            Source::Wire { body, tag } => (body, tag, &[][..]),
            Source::List(list) => (&[][..], 0, list),
        };
        let mut fields = Fields::of(body);
        let read = std::iter::from_fn(move || {
            // The body was read to its end before: no error is left to come.
            while let Ok(Some((found, value))) = fields.next() {
                if let (true, Value::Bytes(addr)) = (found == tag, value) {
                    return multiaddr_of(addr).ok();
                }
            }
            None
        });
        read.chain(list.iter().map(AsRef::as_ref))
    }

    /// The socket addresses in order; what is no address of ours is left out.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> + use<'a> {
        self.iter().filter_map(|addr| multiaddr::decode(addr).ok())
    }

    pub(super) fn write(&self, out: &mut Writer<'_>, tag: u32) -> Result<(), Overflow> {
        self.iter().try_for_each(|addr| out.message(tag, |out| out.bytes(1, addr)))
    }
}

impl Default for Addrs<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl PartialEq for Addrs<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Addrs<'_> {}

impl std::fmt::Debug for Addrs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The multiaddr of an `Addr` message.
fn multiaddr_of(body: &[u8]) -> Result<&[u8], BodyError> {
    let mut multiaddr = &[][..];
    let mut fields = Fields::of(body);
    while let Some((tag, value)) = fields.next()? {
        if tag == 1 {
            multiaddr = value.bytes()?;
        }
    }
    Ok(multiaddr)
}

/// Parses addresses as they come, holds them against the maxima at the end.
#[derive(Default)]
pub(super) struct Tally {
    count: usize,
    longest: usize,
}

impl Tally {
    pub(super) fn add(&mut self, addr: &[u8]) -> Result<(), BodyError> {
        self.count += 1;
        self.longest = self.longest.max(multiaddr_of(addr)?.len());
        Ok(())
    }

    pub(super) const fn at_most(&self, max: usize) -> Result<(), BodyError> {
        if self.count > max || self.longest > MULTIADDR_BYTES_MAX {
            return Err(BodyError::AboveMaximum);
        }
        Ok(())
    }
}

/// A peer as a router lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    /// Who.
    pub peer_id: PeerId,
    /// Observed address first, then declared ones that were proven.
    pub addrs: Addrs<'a>,
    /// From the router.
    pub rtt_ms: u32,
    /// Its WireGuard key.
    pub wg_public: WgKey,
    /// See [`flag`].
    pub flags: u32,
}

impl<'a> Peer<'a> {
    /// Tag of `addrs`.
    const ADDRS: u32 = 2;

    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut peer_id, mut wg_public) = (&[][..], &[][..]);
        let (mut rtt_ms, mut flags) = (0, 0);
        let mut addrs = Tally::default();
        let mut fields = Fields::of(body);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => peer_id = value.bytes()?,
                Self::ADDRS => addrs.add(value.bytes()?)?,
                3 => rtt_ms = value.uint32()?,
                4 => wg_public = value.bytes()?,
                5 => flags = value.uint32()?,
                _ => {}
            }
        }
        addrs.at_most(PEER_ADDRS_MAX)?;
        let (peer_id, wg_public) = (PeerId(*exactly(peer_id)?), WgKey(*exactly(wg_public)?));
        Ok(Self { peer_id, addrs: Addrs::read(body, Self::ADDRS), rtt_ms, wg_public, flags })
    }

    /// Writes the body.
    pub fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        out.bytes(1, &self.peer_id.0)?;
        self.addrs.write(out, Self::ADDRS)?;
        out.uint32(3, self.rtt_ms)?;
        out.bytes(4, &self.wg_public.0)?;
        out.uint32(5, self.flags)
    }
}

/// The peers of an answer.
#[derive(Clone, Copy, Default)]
pub struct Peers<'a> {
    /// The fields with this tag of a body that was read to its end.
    body: &'a [u8],
    tag: u32,
    count: usize,
}

impl<'a> Peers<'a> {
    /// Those that were found in `body`, which was read to its end.
    pub(super) const fn read(body: &'a [u8], tag: u32, count: usize) -> Self {
        Self { body, tag, count }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In the order of the answer.
    pub fn iter(&self) -> impl Iterator<Item = Peer<'a>> + use<'a> {
        let (mut fields, peers) = (Fields::of(self.body), self.tag);
        std::iter::from_fn(move || {
            // The body was read to its end before: no error is left to come.
            while let Ok(Some((tag, value))) = fields.next() {
                if let (true, Value::Bytes(peer)) = (tag == peers, value) {
                    return Peer::read(peer).ok();
                }
            }
            None
        })
    }
}

impl PartialEq for Peers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Peers<'_> {}

impl std::fmt::Debug for Peers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A [`Peer`] in wire form, kept to be copied into answers.
#[derive(Clone, Copy)]
pub struct Entry {
    len: u8,
    bytes: [u8; PEER_ENTRY_BYTES_MAX],
}

const _: () = assert!(PEER_ENTRY_BYTES_MAX <= u8::MAX as usize);

impl Entry {
    /// The wire form of `peer`. Four socket addresses always fit; certificate
    /// hashes may not.
    pub fn encode(peer: &Peer<'_>) -> Result<Self, Overflow> {
        let mut bytes = [0; PEER_ENTRY_BYTES_MAX];
        let mut out = Writer::new(&mut bytes);
        peer.write(&mut out)?;
        let len = u8::try_from(out.len()).map_err(|_| Overflow)?;
        Ok(Self { len, bytes })
    }
}

impl AsRef<[u8]> for Entry {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Entry {}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", Peer::read(self.as_ref()))
    }
}
