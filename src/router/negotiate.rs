//! NEGOTIATE: capabilities, and who the peer is.

use crate::bucket::{Rate, TokenBucket};
use crate::identity;
use crate::ids::SessionRef;
use crate::limits;
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::body::{Capabilities, IdentityBinding, NegotiateReq, NegotiateResp, feature};
use crate::wire::{Code, Kind, multiaddr};

use super::journal::Note;
use super::peers::Bound;
use super::{Request, Router};

/// Version of the capabilities message.
const CAPABILITIES_VERSION: u32 = 1;

/// Signature checks of one session: 40 us of ours for 200 bytes of theirs.
const VERIFICATIONS: Rate = Rate::new(4, 16);

impl<T: Tunnel> Router<T> {
    pub(super) fn negotiate(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = NegotiateReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        if let Some(binding) = &asked.binding
            && let Err(code) = self.bind(now, request.from.session, binding)
        {
            return self.refuse(now, request, code, 0);
        }
        let agreed = self.agree(request.from.session, asked.want);
        let observed = multiaddr::encode(request.from.path.peer);
        let own = self.own_binding(now);
        let answer = NegotiateResp {
            agreed: Some(agreed),
            binding: Some(own),
            admission: &[],
            observed: observed.as_ref(),
            puzzle: None,
            stamp_bits: self.config.records.stamp_bits,
        };
        self.answer(now, request, Kind::NegotiateResp, |body| answer.write(body));
    }

    fn agree(&mut self, session: SessionRef, want: Option<Capabilities>) -> Capabilities {
        let want = want.unwrap_or_default();
        let reflect = if self.config.reflect { feature::REFLECT } else { 0 };
        let boot_only = if self.config.role.stores() { 0 } else { feature::BOOT_ONLY };
        let own_max = self.config.plaintext_bytes_max;
        let wanted_max = usize::try_from(want.max_msg_bytes).unwrap_or(usize::MAX);
        let max_msg_bytes = wanted_max.min(own_max).max(limits::PLAINTEXT_BASE);
        let relay = if self.config.role.relays() { feature::RELAY } else { 0 };
        let always = feature::STREAMING_CHUNKS | feature::RENDEZVOUS;
        let bitmap = want.bitmap & (always | reflect | boot_only | relay);
        let peer = self.peers.at(session);
        (peer.capabilities, peer.max_msg_bytes) = (bitmap, max_msg_bytes);
        Capabilities {
            version: CAPABILITIES_VERSION,
            bitmap,
            max_msg_bytes: u32::try_from(max_msg_bytes).unwrap_or(u32::MAX),
        }
    }
}

impl<T: Tunnel> Router<T> {
    /// Checks a binding and makes its peer known; the same binding again costs no signature check.
    fn bind(
        &mut self,
        now: Now,
        session: SessionRef,
        binding: &IdentityBinding,
    ) -> Result<(), Code> {
        let Some(key) = self.sessions.session(session).map(|session| *session.key()) else {
            return Err(Code::Internal);
        };
        let peer = self.peers.at(session);
        let known = peer.identity.is_some_and(|bound| bound.binding == *binding);
        let verifications =
            peer.verifications.get_or_insert_with(|| TokenBucket::full(&VERIFICATIONS, now.at));
        let may = verifications.take(now.at, &VERIFICATIONS, 1);
        if known {
            // Who lost its place asks for it so; but each time may be a letter to another shard.
            if may && self.network_may_ask(now, session) {
                self.list(now, session);
            }
            return Ok(());
        }
        if !may {
            return Err(Code::RateLimited);
        }
        let check = if self.known.has(binding) { identity::applies } else { identity::verify };
        let peer_id = check(binding, &key, now.unix_s()).map_err(|refused| {
            self.outbox.counters.binding_refused(refused);
            Code::Unauthorized
        })?;
        if self.known.remember(*binding) {
            self.journal.note(Note::Binding(*binding));
        }
        let before = self.peers.at(session).identity;
        match before.filter(|bound| bound.peer_id == peer_id) {
            // An older one that comes late, a repeat of an earlier agreement, takes nothing away.
            Some(bound) if bound.binding.not_after_unix_s > binding.not_after_unix_s => {
                return Ok(());
            }
            Some(_) => {}
            None => self.identity_ended(now, session),
        }
        self.peers.at(session).identity = Some(Bound { peer_id, binding: *binding });
        self.await_end(now, session.slot, binding.not_after_unix_s);
        self.recall_nat(session);
        self.list(now, session);
        Ok(())
    }
}

/// Validity of our own binding, and how long before its end a new one is signed.
const OWN_BINDING_S: u64 = 30 * 86_400;
const RENEWAL_S: u64 = OWN_BINDING_S / 2;
/// Clocks of peers may be behind ours by this much.
const CLOCK_SKEW_S: u64 = 3600;

impl<T: Tunnel> Router<T> {
    /// Our binding, signed anew now and then.
    fn own_binding(&mut self, now: Now) -> IdentityBinding {
        let unix_s = now.unix_s();
        match self.own_binding {
            Some(binding)
                if (binding.not_before_unix_s..binding.not_after_unix_s - RENEWAL_S)
                    .contains(&unix_s) =>
            {
                binding
            }
            Some(_) | None => {
                let from = unix_s.saturating_sub(CLOCK_SKEW_S);
                let binding = self.identity.binding(from, unix_s.saturating_add(OWN_BINDING_S));
                self.own_binding = Some(binding);
                binding
            }
        }
    }
}
