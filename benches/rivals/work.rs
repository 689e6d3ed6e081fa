//! The work: updates of peers, the same bytes for everyone.

/// Bytes of a peer's update, as the store's `Peer` record lays it out: id and WireGuard key, two
/// times, and a message with two addresses.
pub const UPDATE_BYTES: usize = 172;
/// Bytes of the id in front of it, which stores with keys have for a key.
pub const ID_BYTES: usize = 32;

/// One update.
pub type Update = [u8; UPDATE_BYTES];

/// Update number `number`, of one of `peers` peers; where there are as many updates, each is of
/// another peer. Keys and signatures make most of a real one, so its bytes do not compress.
pub fn update(number: u64, updates: u64, peers: u64) -> Update {
    let peer = if updates == peers { number } else { Mixer(number).next() % peers };
    let mut bytes = [0; UPDATE_BYTES];
    let (host, rest) = bytes.split_at_mut(2 * ID_BYTES);
    Mixer(peer ^ 0x5EED_0000_0000_0000).fill(host);
    Mixer(number.rotate_left(32)).fill(rest);
    bytes
}

/// What came out of a store: how much, and a sum that does not depend on the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    pub sum: u64,
}

impl Tally {
    /// Reads all of a record, as whoever applies it does.
    pub fn add(&mut self, id: &[u8], rest: &[u8]) {
        let mut sum = 0_u64;
        for bytes in [id, rest] {
            let (words, tail) = bytes.as_chunks::<8>();
            for word in words {
                sum = sum.rotate_left(5) ^ u64::from_le_bytes(*word);
            }
            for byte in tail {
                sum = sum.rotate_left(5) ^ u64::from(*byte);
            }
        }
        self.records += 1;
        self.sum = self.sum.wrapping_add(sum);
    }
}

/// SplitMix64.
struct Mixer(u64);

impl Mixer {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn fill(mut self, out: &mut [u8]) {
        let (words, tail) = out.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = self.next().to_le_bytes());
        let last = self.next().to_le_bytes();
        tail.iter_mut().zip(last).for_each(|(to, from)| *to = from);
    }
}
