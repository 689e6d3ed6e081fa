//! A session with the fake router that has WireGuard's shapes and no cryptography: thousands of
//! nodes are made in a second.

use crate::client::session::{Initiator, Received, Refused};
use crate::ids::WgKey;

const HEAD: usize = 16;
const TAG: usize = 16;

/// The client's side.
#[derive(Debug)]
pub(in crate::client::pair) struct Open {
    pub(in crate::client::pair) key: WgKey,
    index: u32,
}

impl Open {
    pub(in crate::client::pair) const fn new(key: WgKey) -> Self {
        Self { key, index: 0 }
    }
}

impl Initiator for Open {
    fn initiate(&mut self, index: u32, out: &mut [u8]) -> Result<usize, Refused> {
        out[..148].fill(0);
        out[0] = 1;
        out[4..8].copy_from_slice(&index.to_le_bytes());
        out[8..40].copy_from_slice(&self.key.0);
        Ok(148)
    }

    fn receive<'o>(&mut self, datagram: &[u8], out: &'o mut [u8]) -> Result<Received<'o>, Refused> {
        if datagram[0] == 2 {
            self.index = index_of(datagram);
            let len = self.seal(&[], out).unwrap();
            return Ok(Received::Established(&out[..len]));
        }
        let plaintext = opened(datagram);
        out[..plaintext.len()].copy_from_slice(plaintext);
        if plaintext.is_empty() {
            Ok(Received::Keepalive)
        } else {
            Ok(Received::Plaintext(&out[..plaintext.len()]))
        }
    }

    fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        let sealed = sealed(self.index, plaintext);
        out[..sealed.len()].copy_from_slice(&sealed);
        Some(sealed.len())
    }

    fn abandon(&mut self) {}

    fn expire(&mut self) {}
}

/// The answer to an initiation, and whose it is.
pub(in crate::client::pair) fn respond(initiation: &[u8], index: u32) -> (WgKey, Vec<u8>) {
    let mut response = vec![0; 92];
    response[0] = 2;
    response[4..8].copy_from_slice(&index.to_le_bytes());
    (WgKey(initiation[8..40].try_into().unwrap()), response)
}

pub(in crate::client::pair) fn index_of(datagram: &[u8]) -> u32 {
    u32::from_le_bytes(datagram[4..8].try_into().unwrap())
}

pub(in crate::client::pair) fn sealed(index: u32, plaintext: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; HEAD];
    datagram[0] = 4;
    datagram[4..8].copy_from_slice(&index.to_le_bytes());
    datagram.extend_from_slice(plaintext);
    datagram.resize(datagram.len() + TAG, 0);
    datagram
}

pub(in crate::client::pair) fn opened(datagram: &[u8]) -> &[u8] {
    &datagram[HEAD..datagram.len() - TAG]
}
