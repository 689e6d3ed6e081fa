//! Of everything that was written, what still counts.
//!
//! Records come in order. Of each subject the newest counts: the one of the highest sequence, and of
//! several with the same the last; but one that has expired gives way to whatever came behind it,
//! as it does in a router. A tombstone takes out what it stands on, and if it lasts, keeps it out.
//!
//! Invariant: applied in their order to nothing, the records that are left give the same again.

use std::collections::HashMap;

use peerstore::record::{Host, Subject, Target, Tombstone};
use peerstore::{Key, Kind, PeerId, Record, WgKey};

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum About {
    Binding(WgKey),
    Peer(PeerId),
    Score(PeerId, WgKey),
    PathFacts(PeerId, WgKey),
    Value(Key),
    Provider(Key, PeerId),
    Ban(Target),
    Allocation(PeerId, PeerId),
}

fn pair(one: PeerId, other: PeerId) -> About {
    About::Allocation(one.min(other), one.max(other))
}

/// One that counts so far.
struct Entry {
    /// When it was said.
    number: u64,
    sequence: u64,
    /// It counts while this is above the clock.
    until_unix_s: u64,
    kind: Kind,
    payload: Box<[u8]>,
}

/// All that count.
pub(super) struct Live {
    unix_s: u64,
    said: u64,
    entries: HashMap<About, Entry>,
    /// Tombstones that last.
    gone: HashMap<About, Entry>,
}

impl Live {
    /// Nothing yet, at this second.
    pub(super) fn new(unix_s: u64) -> Self {
        Self { unix_s, said: 0, entries: HashMap::new(), gone: HashMap::new() }
    }

    /// Records that were applied.
    pub(super) const fn said(&self) -> u64 {
        self.said
    }

    /// Takes the next one.
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        self.said += 1;
        let (about, sequence, until_unix_s) = match record {
            Record::Binding(it) => {
                (About::Binding(it.host.wireguard), 0, it.not_after_unix_s.saturating_add(1))
            }
            Record::Peer(it) => (About::Peer(it.host.peer_id), 0, u64::MAX),
            Record::Score(it) => (About::Score(it.host.peer_id, it.host.wireguard), 0, u64::MAX),
            Record::PathFacts(it) => {
                (About::PathFacts(it.host.peer_id, it.host.wireguard), 0, u64::MAX)
            }
            Record::Value(it) => (About::Value(it.key), it.sequence, it.expires_unix_s),
            Record::Provider(it) => {
                (About::Provider(it.key, it.peer_id), it.sequence, it.expires_unix_s)
            }
            Record::Ban(it) => (About::Ban(it.target), 0, it.expires_unix_s),
            Record::Allocation(it) => {
                let [one, other] = it.legs.map(|leg| leg.host.peer_id);
                (pair(one, other), 0, it.expires_unix_s)
            }
            Record::Tombstone(it) => return self.bury(record, it),
            Record::Seal(_) => return,
        };
        let later = |held: &Entry| held.sequence > sequence && held.until_unix_s > self.unix_s;
        let kept_out = self.gone.get(&about).is_some_and(|gone| gone.sequence >= sequence);
        if !kept_out && !self.entries.get(&about).is_some_and(later) {
            let entry = self.entry(record, sequence, until_unix_s);
            self.entries.insert(about, entry);
        }
    }

    fn bury(&mut self, record: &Record<'_>, tombstone: &Tombstone) {
        let (about, sequence) = match tombstone.subject {
            Subject::Host(Host { peer_id, wireguard }) => {
                // A binding is nobody's place here, but a signature that was checked.
                self.entries.remove(&About::Score(peer_id, wireguard));
                self.entries.remove(&About::PathFacts(peer_id, wireguard));
                (About::Peer(peer_id), u64::MAX)
            }
            Subject::Value { key, sequence } => (About::Value(key), sequence),
            Subject::Provider { key, peer_id, sequence } => {
                (About::Provider(key, peer_id), sequence)
            }
            Subject::Ban(target) => (About::Ban(target), u64::MAX),
            Subject::Allocation(one, other) => (pair(one, other), u64::MAX),
        };
        if self.entries.get(&about).is_some_and(|held| held.sequence <= sequence) {
            self.entries.remove(&about);
        }
        if tombstone.expires_unix_s > self.unix_s {
            let entry = self.entry(record, sequence, tombstone.expires_unix_s);
            self.gone.insert(about, entry);
        }
    }

    fn entry(&self, record: &Record<'_>, sequence: u64, until_unix_s: u64) -> Entry {
        let (kind, payload) = (record.kind(), record.payload().into());
        Entry { number: self.said, sequence, until_unix_s, kind, payload }
    }

    /// Those that count, kind and payload of each, in the order in which they were said.
    #[expect(clippy::disallowed_methods, reason = "they are put into order")]
    pub(super) fn records(&self) -> Vec<(Kind, &[u8])> {
        let all = self.entries.values().chain(self.gone.values());
        let mut left: Vec<&Entry> = all.filter(|it| it.until_unix_s > self.unix_s).collect();
        left.sort_unstable_by_key(|entry| entry.number);
        left.into_iter().map(|entry| (entry.kind, &*entry.payload)).collect()
    }

    /// How many of each kind.
    pub(super) fn counts(&self) -> [u64; Kind::ALL.len()] {
        let mut counts = [0; Kind::ALL.len()];
        self.records().iter().for_each(|(kind, _)| counts[*kind as usize - 1] += 1);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerstore::record::{Ban, Binding, Peer, Provider, Score, Value};
    use peerstore::{Message, SigningKey};

    const NOW: u64 = 1_000;
    const KEY: Key = Key([1; 32]);
    const HOST: Host = Host { peer_id: PeerId([2; 32]), wireguard: WgKey([3; 32]) };

    fn value(sequence: u64, expires_unix_s: u64) -> Record<'static> {
        let message = Message::new(b"v").unwrap();
        Record::Value(Value { key: KEY, sequence, expires_unix_s, message })
    }

    fn gone(subject: Subject, expires_unix_s: u64) -> Record<'static> {
        Record::Tombstone(Tombstone { expires_unix_s, subject })
    }

    /// What is left of `records`; and of that, applied again, the same.
    fn left(records: &[Record<'_>]) -> Vec<Vec<u8>> {
        let mut live = Live::new(NOW);
        records.iter().for_each(|record| live.apply(record));
        let mut again = Live::new(NOW);
        for (kind, payload) in live.records() {
            again.apply(&Record::decode(kind, payload).unwrap());
        }
        assert_eq!(live.records(), again.records());
        live.records().into_iter().map(|(_, payload)| payload.to_vec()).collect()
    }

    fn of(records: &[Record<'_>]) -> Vec<Vec<u8>> {
        records.iter().map(Record::payload).collect()
    }

    #[test]
    fn the_newest_of_a_subject_counts() {
        let (one, two, other) = (value(1, 2_000), value(2, 2_000), value(2, 3_000));
        assert_eq!(left(&[one, two]), of(&[two]));
        assert_eq!(left(&[two, one]), of(&[two]), "a log may say again what was before");
        assert_eq!(left(&[two, other]), of(&[other]), "the last of the same sequence");
        assert_eq!(left(&[one, value(2, NOW)]), of(&[]), "what was replaced does not come back");
        assert_eq!(left(&[value(2, NOW), one]), of(&[one]), "what is expired is in nobody's way");
    }

    #[test]
    fn tombstones_take_out_what_they_stand_on() {
        let subject = Subject::Value { key: KEY, sequence: 2 };
        let (two, three) = (value(2, 2_000), value(3, 2_000));
        let (once, lasting) = (gone(subject, 0), gone(subject, 2_000));
        assert_eq!(left(&[two, once]), of(&[]));
        assert_eq!(left(&[three, once]), of(&[three]));
        assert_eq!(left(&[once, two]), of(&[two]), "an eviction is over at once");
        assert_eq!(left(&[two, lasting, two]), of(&[lasting]));
        assert_eq!(left(&[lasting, three]), of(&[lasting, three]));
        assert_eq!(left(&[two, gone(subject, NOW)]), of(&[]));
    }

    #[test]
    fn a_host_that_is_gone_leaves_its_binding() {
        let message = Message::new(b"").unwrap();
        let (first_seen_unix_s, last_seen_unix_s) = (1, 2);
        let peer = Record::Peer(Peer { host: HOST, first_seen_unix_s, last_seen_unix_s, message });
        let score = Record::Score(Score { host: HOST, last_seen_unix_s, score: 1 });
        let binding = |not_after_unix_s| {
            let (signing, signature) = (SigningKey([4; 32]), [5; 64]);
            let not_before_unix_s = 0;
            let host = HOST;
            Record::Binding(Binding {
                host,
                signing,
                not_before_unix_s,
                not_after_unix_s,
                signature,
            })
        };
        let evicted = gone(Subject::Host(HOST), 0);
        assert_eq!(left(&[peer, binding(NOW), score, evicted]), of(&[binding(NOW)]));
        assert_eq!(left(&[peer, evicted, peer]), of(&[peer]));
        assert_eq!(left(&[binding(NOW - 1)]), of(&[]));
    }

    #[test]
    fn bans_and_providers_end() {
        let target = Target::Peer(HOST.peer_id);
        let ban = |expires_unix_s| Record::Ban(Ban { expires_unix_s, cause: 1, target });
        assert_eq!(left(&[ban(u64::MAX)]), of(&[ban(u64::MAX)]));
        assert_eq!(left(&[ban(NOW)]), of(&[]));
        assert_eq!(left(&[ban(u64::MAX), gone(Subject::Ban(target), 0)]), of(&[]));
        let (key, peer_id, expires_unix_s) = (KEY, HOST.peer_id, 2_000);
        let message = Message::new(b"").unwrap();
        let provider = Provider { key, peer_id, sequence: 9, expires_unix_s, message };
        let provider = Record::Provider(provider);
        let subject = Subject::Provider { key, peer_id, sequence: u64::MAX };
        assert_eq!(left(&[provider, gone(subject, 0)]), of(&[]));
        assert_eq!(left(&[gone(subject, 0), provider]), of(&[provider]));
    }
}
