//! What leaves is what the protocol says, in the generated types' opinion.

use molia_router::limits::{FIND_NODE_PEERS_MAX, PLAINTEXT_BASE, PLAINTEXT_MIN};
use molia_router::time::Moment;
use molia_router::wire::{self, Header, Kind, body, proto};
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
    let chunked = matches!(kind, Kind::FindNodeResp | Kind::FindValueResp);
    bad(chunked || header.stream == 0, "a stream of one frame")?;
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
        same::<proto::FindNodeResp>(body).is_some_and(|found| {
            found.peers.len() <= FIND_NODE_PEERS_MAX
                && entries_are_whole(&found.peers)
                && chunk_fits(header, found.chunk_index, found.total_chunks)
        })
    } else if kind == Kind::FindValueResp {
        same::<proto::FindValueResp>(body).is_some_and(|found| {
            entries_are_whole(&found.closer_peers)
                && chunk_fits(header, found.chunk_index, found.total_chunks)
        })
    } else if kind == Kind::StoreResp {
        same::<proto::StoreResp>(body).is_some_and(|stored| stored.reason.len() <= 128)
    } else if kind == Kind::AnnounceProviderResp {
        same::<proto::AnnounceProviderResp>(body).is_some_and(|kept| kept.reason.len() <= 128)
    } else if kind == Kind::RendezvousNotify {
        body::RendezvousNotify::read(body).is_ok_and(|it| rewrites(body, |out| it.write(out)))
    } else if kind == Kind::RendezvousResp {
        body::RendezvousResp::read(body).is_ok_and(|it| rewrites(body, |out| it.write(out)))
    } else if kind == Kind::RelayAllocResp || kind == Kind::RelayOffer {
        body::RelayAllocResp::read(body).is_ok_and(|it| rewrites(body, |out| it.write(out)))
    } else if kind == Kind::RelayClose || kind == Kind::RelayClosed {
        same::<proto::RelayClose>(body).is_some_and(|closed| closed.reason > 0)
    } else if kind == Kind::RelayStatus {
        same::<proto::RelayStatus>(body).is_some()
    } else if kind == Kind::ReflectResp {
        same::<proto::ReflectResp>(body).is_some()
    } else if kind == Kind::Error {
        same::<proto::Error>(body).is_some_and(|error| error.reason.len() <= 128)
    } else {
        false
    }
}

fn rewrites(
    body: &[u8],
    write: impl FnOnce(&mut body::Writer<'_>) -> Result<(), body::Overflow>,
) -> bool {
    let mut bytes = [0; 2048];
    let mut out = body::Writer::new(&mut bytes);
    write(&mut out).is_ok() && {
        let len = out.len();
        bytes[..len] == *body
    }
}

fn same<M: Message + Default>(body: &[u8]) -> Option<M> {
    M::decode(body).ok().filter(|message| message.encode_to_vec() == body)
}

fn chunk_fits(header: &Header, index: u32, total: u32) -> bool {
    let chunked = header.stream != 0
        && (2..=16).contains(&total)
        && index < total
        && header.flags.more_chunks() == (index + 1 != total);
    let single = header.stream == 0 && total == 0 && !header.flags.more_chunks();
    single || chunked
}

fn entries_are_whole(peers: &[proto::Peer]) -> bool {
    let whole = |peer: &proto::Peer| {
        peer.peer_id.len() == 32
            && peer.wg_public.len() == 32
            && (1..=4).contains(&peer.addrs.len())
    };
    peers.iter().all(whole)
}
