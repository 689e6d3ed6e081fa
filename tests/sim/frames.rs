//! What leaves is what the protocol says, in the generated types' opinion.

use molia_router::limits::{FIND_NODE_PEERS_MAX, PLAINTEXT_BASE, PLAINTEXT_MIN};
use molia_router::time::Moment;
use molia_router::wire::{self, Header, Kind, proto};
use prost::Message;

use super::verdict::{Oracle, Violation, ensure};

/// Checks a plaintext of the router's and takes it apart.
pub(crate) fn check(at: Moment, plaintext: &[u8]) -> Result<(Header, &[u8]), Violation> {
    let bad = |holds: bool, what: &str| {
        ensure(holds, Oracle::Frames, at, || format!("{what}: {plaintext:02x?}"))
    };
    let sized = (PLAINTEXT_MIN..=PLAINTEXT_BASE).contains(&plaintext.len());
    bad(sized, "a plaintext of a size that no path may get")?;
    let Ok(frame) = wire::open(plaintext) else {
        return Err(bad(false, "no shim").expect_err("it is bad"));
    };
    let padding = &plaintext[4 + frame.len()..];
    let padded = padding.is_empty() || plaintext.len() == PLAINTEXT_MIN;
    bad(padded && padding.iter().all(|byte| *byte == 0), "padding where none belongs")?;
    let (version, header, body) = wire::split(frame);
    bad(version == wire::VERSION, "another version")?;
    bad(!header.flags.reserved() && header.qos <= 2, "a reserved value")?;
    let Ok(kind) = Kind::try_from(header.kind) else {
        return Err(bad(false, "an unknown type").expect_err("it is bad"));
    };
    bad(kind.is_response() == header.flags.is_response(), "the response bit is wrong")?;
    bad(kind == Kind::FindNodeResp || header.stream == 0, "a stream of one frame")?;
    bad(body_is_canonical(kind, &header, body), "a body that does not decode to itself")?;
    Ok((header, body))
}

/// Whether the generated type reads the body and would have written it so.
fn body_is_canonical(kind: Kind, header: &Header, body: &[u8]) -> bool {
    // The guard arms name what a router of this world has reason to say.
    if kind == Kind::Ping {
        same::<proto::Ping>(body).is_some()
    } else if kind == Kind::Pong {
        same::<proto::Pong>(body).is_some_and(|pong| pong.observed.len() <= 64)
    } else if kind == Kind::NegotiateResp {
        same::<proto::NegotiateResp>(body)
            .is_some_and(|agreed| agreed.agreed.is_some_and(|agreed| agreed.max_msg_bytes >= 1200))
    } else if kind == Kind::FindNodeResp {
        same::<proto::FindNodeResp>(body).is_some_and(|found| chunk_fits(header, &found))
    } else if kind == Kind::ReflectResp {
        same::<proto::ReflectResp>(body).is_some()
    } else if kind == Kind::Error {
        same::<proto::Error>(body).is_some_and(|error| error.reason.len() <= 128)
    } else {
        false
    }
}

fn same<M: Message + Default>(body: &[u8]) -> Option<M> {
    M::decode(body).ok().filter(|message| message.encode_to_vec() == body)
}

fn chunk_fits(header: &Header, found: &proto::FindNodeResp) -> bool {
    let last = found.chunk_index + 1 == found.total_chunks;
    let chunked = header.stream != 0
        && (2..=16).contains(&found.total_chunks)
        && found.chunk_index < found.total_chunks
        && header.flags.more_chunks() != last;
    let single = header.stream == 0 && found.total_chunks == 0 && !header.flags.more_chunks();
    let entries = found.peers.iter().all(|peer| {
        peer.peer_id.len() == 32
            && peer.wg_public.len() == 32
            && (1..=4).contains(&peer.addrs.len())
    });
    found.peers.len() <= FIND_NODE_PEERS_MAX && entries && (single || chunked)
}
