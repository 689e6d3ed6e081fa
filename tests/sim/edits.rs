//! Changes to what leaves, for who wants to see them noticed.

use std::collections::BTreeMap;

use molia_router::wire::{self, Code, Header, Kind, proto};
use prost::Message;

use super::plain;
use super::tap::Tap;

/// A data message with its frame's body changed, sealed as it was.
pub(super) fn edited(tap: &Tap, bytes: Vec<u8>, edit: impl FnOnce(Kind, &mut Vec<u8>)) -> Vec<u8> {
    retyped(tap, bytes, |header, body| {
        if let Ok(kind) = Kind::try_from(header.kind) {
            edit(kind, body);
        }
    })
}

/// The same, with the header.
pub(super) fn retyped(
    tap: &Tap,
    bytes: Vec<u8>,
    edit: impl FnOnce(&mut Header, &mut Vec<u8>),
) -> Vec<u8> {
    let changed = plain::header(&bytes).and_then(|(index, counter)| {
        let lane = tap.lane_to(index)?;
        let frame = wire::open(lane.open(&bytes)?).ok()?;
        let (_, mut header, body) = wire::split(frame);
        let mut body = body.to_vec();
        edit(&mut header, &mut body);
        let total = u16::try_from(16 + body.len()).ok()?.to_be_bytes();
        let mut content = [&[b'M', 0, total[0], total[1]], &header.to_bytes()[..], &body].concat();
        content.resize(content.len().max(20), 0);
        Some(lane.seal_as(counter, &content))
    });
    changed.unwrap_or(bytes)
}

/// BUSY in the place of what was found.
pub(super) fn denial(header: &mut Header, body: &mut Vec<u8>) {
    if header.kind == Kind::FindValueResp.id() && header.stream == 0 {
        let code = Code::Busy.to_wire().cast_signed();
        *body = proto::Error { code, ..Default::default() }.encode_to_vec();
        header.kind = Kind::Error.id();
    }
}

/// Changes the record of an answer of one frame.
fn edit_record(kind: Kind, body: &mut Vec<u8>, edit: impl FnOnce(&mut Vec<u8>)) {
    if kind == Kind::FindValueResp
        && let Ok(mut found) = proto::FindValueResp::decode(&body[..])
        && found.total_chunks == 0
        && let Some(proto::find_value_resp::Value::Record(record)) = &mut found.value
    {
        edit(record);
        *body = found.encode_to_vec();
    }
}

pub(super) fn dig(kind: Kind, body: &mut Vec<u8>, first: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    edit_record(kind, body, |record| {
        if let Ok(decoded) = proto::Record::decode(&record[..]) {
            let first = first.entry(decoded.key).or_insert_with(|| record.clone());
            // It has to fit where the other one did.
            if first.len() <= record.len() {
                record.clone_from(first);
            }
        }
    });
}

pub(super) fn invent(kind: Kind, body: &mut Vec<u8>) {
    edit_record(kind, body, |record| {
        if let Some(last) = record.last_mut() {
            *last ^= 1;
        }
    });
}

pub(super) fn edit_peers(kind: Kind, body: &mut Vec<u8>, edit: impl FnOnce(&mut Vec<proto::Peer>)) {
    if kind == Kind::FindNodeResp
        && let Ok(mut found) = proto::FindNodeResp::decode(&body[..])
        && found.peers.len() > 1
    {
        edit(&mut found.peers);
        *body = found.encode_to_vec();
    }
}

/// Another port in the first candidate.
pub(super) fn expose(kind: Kind, body: &mut Vec<u8>) {
    if kind == Kind::RendezvousNotify
        && let Ok(mut notice) = proto::RendezvousNotify::decode(&body[..])
        && let Some(last) = notice.candidates.first_mut().and_then(|it| it.multiaddr.last_mut())
    {
        *last ^= 1;
        *body = notice.encode_to_vec();
    }
}
