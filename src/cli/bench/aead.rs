//! What the cipher alone costs: ChaCha20-Poly1305 open and seal, in place.
//!
//! The same implementation that BoringTun calls (ring), without its copies,
//! replay window and counters: the least that any WireGuard server pays for a
//! request of one size and an answer of another.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::clock::thread_cpu_ns;
use crate::limits::WG_OVERHEAD;

/// Datagrams per sample: as many as a burst, so that they are as warm.
const DATAGRAMS: usize = 256;
const TAG_BYTES: usize = 16;

/// Buffers of one pair of sizes.
pub(super) struct Aead {
    key: LessSafeKey,
    requests: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

impl Aead {
    /// For UDP payloads of `request_bytes` and `answer_bytes`.
    pub(super) fn new(request_bytes: usize, answer_bytes: usize) -> Result<Self, String> {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).map_err(|error| error.to_string())?;
        let buffer = |bytes: usize| vec![0x5A; bytes - WG_OVERHEAD + TAG_BYTES];
        Ok(Self {
            key: LessSafeKey::new(key),
            requests: vec![buffer(request_bytes); DATAGRAMS],
            answers: vec![buffer(answer_bytes); DATAGRAMS],
        })
    }

    /// CPU ns of one open and one seal, the mean of a burst.
    pub(super) fn sample(&mut self) -> f64 {
        let Self { key, requests, answers } = self;
        requests.iter_mut().for_each(|request| seal(key, request));
        let before = thread_cpu_ns();
        let mut opened = 0;
        for request in requests.iter_mut() {
            opened += usize::from(open(key, request));
        }
        answers.iter_mut().for_each(|answer| seal(key, answer));
        let spent = thread_cpu_ns() - before;
        assert!(opened == DATAGRAMS, "what was sealed with a key opens with it");
        spent as f64 / DATAGRAMS as f64
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn seal(key: &LessSafeKey, buffer: &mut [u8]) {
    let (text, tag) = buffer.split_at_mut(buffer.len() - TAG_BYTES);
    if let Ok(made) = key.seal_in_place_separate_tag(nonce(), Aad::empty(), text) {
        tag.copy_from_slice(made.as_ref());
    }
}

fn open(key: &LessSafeKey, buffer: &mut [u8]) -> bool {
    key.open_in_place(nonce(), Aad::empty(), buffer).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_opens_what_it_sealed() {
        let mut aead = Aead::new(100, 86).unwrap();
        assert!(aead.sample() > 0.0);
        assert!(aead.sample() > 0.0);
    }
}
