//! Message types and traffic classes.

/// Traffic class: which send queue a message waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Keeps sessions and channels alive; never dropped while hints are served.
    Control = 0,
    /// Requests and answers of the overlay.
    Coordination = 1,
    /// Useful if they arrive.
    Hints = 2,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Coordination, Self::Hints];

    /// Value of the `class` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Coordination => "coordination",
            Self::Hints => "hints",
        }
    }
}
