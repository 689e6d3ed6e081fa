//! Who a client said it is, to say it again by itself.
//!
//! A router that restarted, or whose shard did, has forgotten it: the session comes back with the
//! next handshake, what was negotiated does not, and nobody says so. So it follows every handshake. To
//! a router that remembers, the same binding costs no signature check.

use super::requests::{Answer, Correlation};
use crate::wire;
use crate::wire::kind::Kind;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    /// The caller's last NEGOTIATE and its body.
    asked: Option<(Correlation, Vec<u8>)>,
    /// The body that the router agreed to.
    agreed: Option<Vec<u8>>,
    /// The repetition under way, which the caller does not know of.
    again: Option<Correlation>,
}

impl Introduction {
    /// The caller starts a NEGOTIATE with this plaintext.
    pub(super) fn asked(&mut self, correlation: Correlation, plaintext: &[u8]) {
        // The plaintext is ours, and so it opens.
        if let Ok(frame) = wire::open(plaintext) {
            self.asked = Some((correlation, wire::split(frame).2.to_vec()));
        }
    }

    /// A request was answered; whether the caller has to hear of it.
    pub(super) fn answered(&mut self, answer: &Answer) -> bool {
        if self.asked.as_ref().is_some_and(|(asked, _)| *asked == answer.correlation)
            && let Some((_, body)) = self.asked.take()
            && answer.kind == Kind::NegotiateResp
        {
            self.agreed = Some(body);
        }
        self.ended(answer.correlation)
    }

    /// A request came to its end; whether the caller has to hear of it.
    pub(super) fn ended(&mut self, correlation: Correlation) -> bool {
        self.again.take_if(|again| *again == correlation).is_none()
    }

    /// What to say after a handshake, unless it is being said already.
    pub(super) fn due(&self) -> Option<Vec<u8>> {
        if self.again.is_none() { self.agreed.clone() } else { None }
    }

    /// It is being said.
    pub(super) fn repeated(&mut self, correlation: Correlation) {
        self.again = Some(correlation);
    }
}
