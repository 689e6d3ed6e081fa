//! Repeated sub-messages, counted while the body is parsed.

use super::BodyError;

/// How many there were, and what was wrong with one of them: a fault waits here
/// until the whole body has been parsed, for a malformed body is that first.
#[derive(Default)]
pub(super) struct Entries {
    count: usize,
    fault: Option<BodyError>,
}

impl Entries {
    /// One more, as its reader found it.
    pub(super) fn add<T>(&mut self, read: Result<T, BodyError>) -> Result<(), BodyError> {
        self.count += 1;
        match read {
            Ok(_) => Ok(()),
            Err(BodyError::Malformed) => Err(BodyError::Malformed),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                Ok(())
            }
        }
    }

    /// How many, if there are not more than `max` and nothing is wrong with any.
    pub(super) fn at_most(&self, max: usize) -> Result<usize, BodyError> {
        if self.count > max {
            return Err(BodyError::AboveMaximum);
        }
        self.fault.map_or(Ok(self.count), Err)
    }
}
