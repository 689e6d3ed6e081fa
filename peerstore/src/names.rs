//! Names of a shard's files. Each is written once, so a name says all there is to know of where a
//! file's place is, even if nothing of it can be read.

use crate::header::Epoch;

/// What a snapshot is called before it is whole.
pub(crate) const COMPACTION: &str = "compaction.tmp";
/// What a copy of a damaged log is called before it is whole.
pub(crate) const COPY: &str = "copy.tmp";

const LOG: (&str, &str) = ("wal-", ".log");
const SNAPSHOT: (&str, &str) = ("snapshot-", ".bin");
const CORRUPT: (&str, &str) = ("wal.corrupt-", "");

/// What a name says of a file; of one epoch, in the order in which they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// The state at the beginning of an epoch.
    Snapshot(Epoch),
    /// Its changes.
    Log(Epoch),
    /// A copy of a damaged log, for whoever wants to know.
    Corrupt(Epoch),
    /// Half of a snapshot or of a copy.
    Unfinished,
}

impl Name {
    /// What `name` is of; `None` if it is nothing of a store's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if name == COMPACTION || name == COPY {
            return Some(Self::Unfinished);
        }
        let number = |(before, behind)| {
            let digits: &str = name.strip_prefix(before)?.strip_suffix(behind)?;
            let number: u32 = digits.parse().ok()?;
            // One name per number: neither "007" nor "+7".
            (number.to_string() == digits).then(|| Epoch::new(number))
        };
        let log = number(LOG).map(Self::Log);
        log.or_else(|| number(SNAPSHOT).map(Self::Snapshot))
            .or_else(|| number(CORRUPT).map(Self::Corrupt))
    }

    /// The epoch in it.
    pub(crate) fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Log(epoch) | Self::Snapshot(epoch) | Self::Corrupt(epoch) => Some(epoch),
            Self::Unfinished => None,
        }
    }
}

/// The log of this epoch.
pub(crate) fn log(epoch: Epoch) -> String {
    named(LOG, epoch)
}

/// The snapshot of this epoch.
pub(crate) fn snapshot(epoch: Epoch) -> String {
    named(SNAPSHOT, epoch)
}

/// The copy of the damaged log of this epoch.
pub(crate) fn corrupt(epoch: Epoch) -> String {
    named(CORRUPT, epoch)
}

fn named((before, behind): (&str, &str), epoch: Epoch) -> String {
    format!("{before}{}{behind}", epoch.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are_of() {
        for number in [0, 7, u32::MAX] {
            let epoch = Epoch::new(number);
            assert_eq!(Name::parse(&log(epoch)), Some(Name::Log(epoch)));
            assert_eq!(Name::parse(&snapshot(epoch)), Some(Name::Snapshot(epoch)));
            assert_eq!(Name::parse(&corrupt(epoch)), Some(Name::Corrupt(epoch)));
        }
        assert_eq!(log(Epoch::new(7)), "wal-7.log");
        assert_eq!(Name::parse("compaction.tmp"), Some(Name::Unfinished));
        for other in ["", "wal-.log", "wal-07.log", "wal-+7.log", "wal-4294967296.log", "lock"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
