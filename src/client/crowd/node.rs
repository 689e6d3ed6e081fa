//! One node of a crowd: a session, whether it proved who it is, and what was asked of it.

use std::fmt;

use crate::client::calls::sole;
use crate::client::error::Refusal;
use crate::client::lookup::Contact;
use crate::client::peer::{Event, Peer};
use crate::client::requests::{Answer, Correlation};
use crate::client::session::Initiator;
use crate::identity;
use crate::time::{Moment, Now};
use crate::wire::body::{NegotiateReq, NegotiateResp, Overflow, Writer};
use crate::wire::kind::Kind;

/// Why a node is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No handshake, or no answer.
    Silent,
    /// It does not prove to be the peer that it is said to be.
    Impostor,
    /// It asks for more work than we do.
    Price,
    /// It answered with ERROR.
    Refused(Refusal),
    /// It answered with what is no answer.
    Malformed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Impostor => f.write_str("it does not prove its peer id"),
            Self::Price => f.write_str("it asks for more work than this client does"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Malformed => f.write_str("its answer does not parse"),
        }
    }
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Lookup(super::LookupId),
    Caller(super::Ticket),
}

/// What came of a request.
pub(super) type Said = (Asker, Result<Answer, Failure>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Wanted,
    Asked(Correlation),
    Proven,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Node<I> {
    pub(super) contact: Contact,
    peer: Peer<I>,
    proof: Proof,
    /// Price of a write, in bits, as NEGOTIATE told.
    pub(super) stamp_bits: u32,
    asked: Vec<(Correlation, Asker)>,
    /// Answers that wait for the proof.
    held: Vec<Said>,
    /// When it is to be looked at.
    pub(super) due: Moment,
    /// When it was asked last, and when it answered last.
    pub(super) used_at: Moment,
    pub(super) answered_at: Option<Moment>,
}

impl<I: Initiator> Node<I> {
    pub(super) fn new(now: Moment, contact: Contact, peer: Peer<I>) -> Self {
        Self {
            contact,
            peer,
            proof: Proof::Wanted,
            stamp_bits: 0,
            asked: Vec::new(),
            held: Vec::new(),
            due: now,
            used_at: now,
            answered_at: None,
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proof == Proof::Proven
    }

    /// Whether nobody waits for an answer of it.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.held.is_empty()
    }

    pub(super) fn is_established(&self, now: Moment) -> bool {
        self.peer.session().is_established(now)
    }

    /// Asks who it is, telling who we are, unless that is known or asked already. It goes out in
    /// front of the first request, so that the proof costs no round trip.
    pub(super) fn introduce(&mut self, greeting: &NegotiateReq<'_>) -> Result<(), Overflow> {
        if self.proof == Proof::Wanted {
            let asked = self.peer.request(Kind::NegotiateReq, |out| greeting.write(out))?;
            self.proof = Proof::Asked(asked);
        }
        Ok(())
    }

    /// Starts a request.
    pub(super) fn ask(
        &mut self,
        now: Moment,
        asker: Asker,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        let correlation = self.peer.request(kind, body)?;
        self.asked_at(now, correlation, asker);
        Ok(())
    }

    /// Starts a request of one chunk or more.
    pub(super) fn ask_chunked(
        &mut self,
        now: Moment,
        asker: Asker,
        kind: Kind,
        bodies: &[Vec<u8>],
    ) -> Result<(), Overflow> {
        let correlation = self.peer.request_chunked(kind, bodies)?;
        self.asked_at(now, correlation, asker);
        Ok(())
    }

    fn asked_at(&mut self, now: Moment, correlation: Correlation, asker: Asker) {
        self.asked.push((correlation, asker));
        (self.due, self.used_at) = (now, now);
    }

    pub(super) fn receive(&mut self, now: Now, datagram: &[u8]) {
        self.peer.receive(now, datagram);
        self.due = now.at;
    }

    pub(super) fn transmit(&mut self, now: Moment) -> Option<Vec<u8>> {
        let datagram = self.peer.poll_transmit(now);
        if datagram.is_none() {
            self.due = self.peer.next_deadline(now);
        }
        datagram
    }

    /// What came of requests since the last call. After an error it is to be forgotten.
    pub(super) fn said(&mut self, now: Now, said: &mut Vec<Said>) -> Result<(), Failure> {
        while let Some(event) = self.peer.poll_event() {
            match event {
                Event::Answer(answer) if self.proof == Proof::Asked(answer.correlation) => {
                    self.prove(now, &answer)?;
                    said.append(&mut self.held);
                }
                Event::Answer(answer) => self.hear(now.at, answer, said),
                Event::TimedOut(_) => return Err(Failure::Silent),
                Event::Price(_) => return Err(Failure::Price),
                Event::Unanswered(_) | Event::Established | Event::Pinged => {}
                Event::Goaway { .. } | Event::Asked { .. } | Event::Dropped(_) => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self, now: Moment, answer: Answer, said: &mut Vec<Said>) {
        let at = self.asked.iter().position(|(asked, _)| *asked == answer.correlation);
        let Some(at) = at else { return };
        let (_, asker) = self.asked.remove(at);
        self.answered_at = Some(now);
        let answer = match answer.refusal() {
            None => Ok(answer),
            Some(Ok(refusal)) => Err(Failure::Refused(refusal)),
            Some(Err(_)) => Err(Failure::Malformed),
        };
        if self.is_proven() {
            said.push((asker, answer));
        } else {
            self.held.push((asker, answer));
        }
    }

    fn prove(&mut self, now: Now, answer: &Answer) -> Result<(), Failure> {
        match answer.refusal() {
            None => {}
            Some(Ok(refusal)) => return Err(Failure::Refused(refusal)),
            Some(Err(_)) => return Err(Failure::Malformed),
        }
        let told = NegotiateResp::read(sole(answer)).map_err(|_| Failure::Malformed)?;
        let binding = told.binding.ok_or(Failure::Impostor)?;
        let who = identity::verify(&binding, &self.contact.key, now.unix_s());
        if who != Ok(self.contact.peer) {
            return Err(Failure::Impostor);
        }
        self.proof = Proof::Proven;
        self.stamp_bits = told.stamp_bits;
        self.answered_at = Some(now.at);
        Ok(())
    }

    /// Everybody who waits still, for a node that is forgotten.
    pub(super) fn waiting(self) -> impl Iterator<Item = Asker> {
        let held = self.held.into_iter().map(|(asker, _)| asker);
        self.asked.into_iter().map(|(_, asker)| asker).chain(held)
    }
}
