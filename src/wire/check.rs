//! What a header says is to be done with its frame, before the body is looked at.
//!
//! The response bit is looked at first: a frame that carries it is never
//! answered. Then version, type, flags, session, size, the first that fails
//! answers. What follows (parse, maxima, stamp, meaning) is the handler's; that
//! there is none shows only then, so that a type that is defined but not served
//! fails every earlier check as it will once it is.

use super::code::Code;
use super::header::{Header, VERSION};
use super::kind::{Class, Kind, KindSet, Needs, Role};
use crate::drops::Drop;
use crate::limits::SHIM_BYTES;

/// What this side takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Requests, notices and hints that have a handler; every other is UNSUPPORTED,
    /// what only routers send before anything but the version is looked at.
    pub handled: KindSet,
    /// Largest plaintext, shim included.
    pub plaintext_max: usize,
}

impl Rules {
    /// A router's, with handlers for these types.
    ///
    /// # Panics
    /// If one is among them that only routers send.
    pub const fn of_router(handled: &[Kind], plaintext_max: usize) -> Self {
        let mut i = 0;
        while i < handled.len() {
            assert!(!handled[i].from_router_only(), "no peer may send it");
            i += 1;
        }
        Self { handled: KindSet::of(handled), plaintext_max }
    }
}

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Parse the body and answer, or (notices and hints) act on it.
    Request(Kind, Class),
    /// Find who waits for the correlation; never answer.
    Response(Kind),
    /// Answer with ERROR.
    Refuse(Refusal),
    /// Count it.
    Ignore(Drop),
}

/// An ERROR to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its code.
    pub code: Code,
    /// Its detail: the offending type.
    pub detail: u32,
    /// Class it travels in: that of the request.
    pub class: Class,
}

/// Judges a frame of `frame_bytes` (header and body) from a session that has or
/// has not shown an identity.
#[inline]
pub fn check(
    rules: &Rules,
    version: u8,
    header: &Header,
    frame_bytes: usize,
    identified: bool,
) -> Verdict {
    let kind = Kind::try_from(header.kind).ok();
    let faults = Faults { rules, version, header, plaintext_bytes: SHIM_BYTES + frame_bytes };
    match (kind, header.flags.is_response()) {
        (Some(kind), false) if kind.is_response() => Verdict::Ignore(Drop::ResponseWithoutBit),
        (Some(kind), true) if !kind.is_response() => Verdict::Ignore(Drop::RequestWithResponseBit),
        (Some(kind), true) => match faults.of_frame(kind, identified) {
            None => Verdict::Response(kind),
            Some(_) => Verdict::Ignore(Drop::BadResponse),
        },
        (None, true) => Verdict::Ignore(Drop::BadResponse),
        (Some(kind), false) => faults.judge_request(kind, identified),
        (None, false) => refuse(Code::Unsupported, header, Class::Coordination),
    }
}

/// Everything a check looks at.
struct Faults<'a> {
    rules: &'a Rules,
    version: u8,
    header: &'a Header,
    plaintext_bytes: usize,
}

impl Faults<'_> {
    fn judge_request(&self, kind: Kind, identified: bool) -> Verdict {
        let handled = self.rules.handled.contains(kind);
        let fault = if kind.from_router_only() && !handled {
            // Version and type refuse with the same code: their order does not show.
            Some(Code::Unsupported)
        } else {
            let unserved = if handled { None } else { Some(Code::Unsupported) };
            self.of_frame(kind, identified).or(unserved)
        };
        match (fault, kind.role()) {
            (None, _) => Verdict::Request(kind, kind.class().declared(self.header.qos)),
            (Some(_), Role::Hint) => Verdict::Ignore(Drop::Unanswerable),
            (Some(code), Role::Request | Role::Response | Role::Notice) => {
                refuse(code, self.header, kind.class())
            }
        }
    }

    /// The first fault of a frame of known type.
    fn of_frame(&self, kind: Kind, identified: bool) -> Option<Code> {
        let flags = self.header.flags;
        let chunk = flags.more_chunks() || self.header.stream != 0;
        let unnamed_stream = flags.more_chunks() && self.header.stream == 0;
        if self.version != VERSION {
            Some(Code::Unsupported)
        } else if flags.reserved() || chunk && !kind.chunked() || unnamed_stream {
            Some(Code::Invalid)
        } else if kind.needs() == Needs::Identity && !identified {
            Some(Code::Unauthorized)
        } else if self.plaintext_bytes > self.rules.plaintext_max {
            Some(Code::TooLarge)
        } else {
            None
        }
    }
}

/// ERROR in the request's class. An unknown type has none: it passes for
/// coordination, so that made-up types never compete with control.
fn refuse(code: Code, header: &Header, class: Class) -> Verdict {
    let class = class.declared(header.qos);
    Verdict::Refuse(Refusal { code, detail: u32::from(header.kind), class })
}
