//! Splitting a FIND_NODE answer over frames.

use molia_router::ids::{PeerId, WgKey};
use molia_router::limits::PEER_ENTRY_BYTES_MAX;
use molia_router::wire::body::find_node::{Chunks, FindNodeReq, FindNodeResp, RespWriter, fitting};
use molia_router::wire::body::{Addrs, Entry, Overflow, Peer, Writer};
use molia_router::wire::{multiaddr, proto};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::oracle::{Twin, written};
use super::values::{Values, sockets};

/// Encoded peers within the maxima.
fn entries() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let peer = proto::Peer::values().prop_filter("allowed", Twin::allowed);
    vec(peer.prop_map(|peer| written(&peer)), 0..=16)
}

fn slices(entries: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> + Clone {
    entries.iter().map(Vec::as_slice)
}

/// The body of one chunk, or why it does not fit.
fn body(entries: &[Vec<u8>], room: usize, chunk: Option<(u32, u32)>) -> Result<Vec<u8>, Overflow> {
    let mut room = vec![0; room];
    let mut out = Writer::new(&mut room);
    let mut response = RespWriter::new(&mut out);
    slices(entries).try_for_each(|entry| response.push(entry))?;
    match chunk {
        None => response.finish(),
        Some((index, total)) => response.finish_chunk(index, total)?,
    }
    Ok(out.written().to_vec())
}

proptest! {
    #[test]
    fn a_plan_keeps_order_fits_and_wastes_nothing(entries in entries(), room in 200_usize..1500) {
        let plan = Chunks::plan(slices(&entries), room).unwrap();
        let total = u32::try_from(plan.len()).unwrap();
        prop_assert!(!plan.is_empty());
        let mut next = 0;
        for (index, range) in (0..).zip(plan.iter()) {
            prop_assert_eq!(range.start, next);
            next = range.end;
            let chunk = (total > 1).then_some((index, total));
            let ours = body(&entries[range.clone()], room, chunk).unwrap();
            let read = FindNodeResp::read(&ours).unwrap();
            prop_assert_eq!(read.peers.len(), range.len());
            let fields = (read.chunk_index, read.total_chunks);
            prop_assert_eq!(fields, chunk.unwrap_or_default());
            if let Some(one_more) = entries.get(range.start..=range.end) {
                // Reserved for the largest chunk fields, which are four bytes.
                prop_assert_eq!(body(one_more, room, Some((15, 16))), Err(Overflow));
            }
        }
        prop_assert_eq!(next, entries.len());
    }

    #[test]
    fn what_fits_exactly_fits(entries in entries()) {
        let all = body(&entries, 1 << 16, None).unwrap().len();
        prop_assert_eq!(fitting(slices(&entries), all), entries.len());
        prop_assert_eq!(Chunks::plan(slices(&entries), all.max(300)).map(|plan| plan.len()), Ok(1));
    }

    #[test]
    fn as_many_as_fit_are_as_many_as_can_be_pushed(entries in entries(), room in 0_usize..1500) {
        let count = fitting(slices(&entries), room);
        prop_assert!(body(&entries[..count], room, None).is_ok());
        if let Some(one_more) = entries.get(..=count) {
            prop_assert_eq!(body(one_more, room, None), Err(Overflow));
        }
    }

    /// A push that does not fit leaves an answer that still reads.
    #[test]
    fn an_overflow_takes_nothing_away(entries in entries(), room in 0_usize..600) {
        let mut room = vec![0; room];
        let mut out = Writer::new(&mut room);
        let mut response = RespWriter::new(&mut out);
        let pushed = slices(&entries).filter(|entry| response.push(entry).is_ok()).count();
        response.finish();
        let decoded = proto::FindNodeResp::decode(out.written()).unwrap();
        prop_assert_eq!(decoded.peers.len(), pushed);
    }

    #[test]
    fn four_addresses_always_fit_an_entry(
        sockets in vec(sockets(), 4), rtt_ms in any::<u32>(), flags in any::<u32>(),
    ) {
        let addrs: Vec<_> = sockets.iter().map(|&addr| multiaddr::encode(addr)).collect();
        let (peer_id, wg_public) = (PeerId([1; 32]), WgKey([2; 32]));
        let peer = Peer { peer_id, addrs: Addrs::of(&addrs), rtt_ms, wg_public, flags };
        let entry = Entry::encode(&peer).unwrap();
        prop_assert_eq!(Peer::read(entry.as_ref()), Ok(peer));
    }
}

#[test]
fn the_largest_entry_fills_its_room_and_more_is_refused() {
    let addr = multiaddr::encode("[2001:db8::1]:1".parse().unwrap());
    let (peer_id, wg_public) = (PeerId([1; 32]), WgKey([2; 32]));
    let largest = |addrs| Peer { peer_id, addrs, rtt_ms: u32::MAX, wg_public, flags: u32::MAX };
    let (four, five) = ([addr; 4], [addr; 5]);
    let entry = Entry::encode(&largest(Addrs::of(&four))).unwrap();
    assert_eq!(entry.as_ref().len(), PEER_ENTRY_BYTES_MAX);
    assert_eq!(Entry::encode(&largest(Addrs::of(&five))), Err(Overflow));
    assert!(size_of::<Entry>() <= 256);
}

#[test]
fn sixteen_peers_of_one_address_take_two_frames() {
    let addr = [multiaddr::encode("192.0.2.1:7743".parse().unwrap())];
    let peer = Peer {
        peer_id: PeerId([1; 32]),
        addrs: Addrs::of(&addr),
        rtt_ms: 200,
        wg_public: WgKey([2; 32]),
        flags: 3,
    };
    let entry = Entry::encode(&peer).unwrap();
    let ends = |count| -> Vec<usize> {
        let plan = Chunks::plan(std::iter::repeat_n(entry.as_ref(), count), 1184).unwrap();
        plan.iter().map(|range| range.end).collect()
    };
    assert_eq!((ends(0), ends(8), ends(16)), (vec![0], vec![8], vec![13, 16]));
}

#[test]
fn no_plan_for_an_entry_that_never_fits() {
    let entry = [0; 100];
    assert!(Chunks::plan([&entry[..]], 102).is_ok());
    assert_eq!(Chunks::plan([&entry[..]; 2], 105), Err(Overflow));
    assert!(Chunks::plan([&entry[..]; 2], 106).is_ok());
    assert!(Chunks::plan([&entry[..]; 16], 106).is_ok());
    assert_eq!(Chunks::plan([&entry[..]; 17], 106), Err(Overflow));
    assert_eq!(Chunks::plan([&entry[..]], 3), Err(Overflow));
}

#[test]
fn wanted_peers() {
    let wanted = |limit| FindNodeReq { target_id: PeerId([0; 32]), limit }.wanted();
    let limits = [0, 1, 8, 15, 16, 17, u32::MAX];
    assert_eq!(limits.map(wanted), [8, 1, 8, 15, 16, 16, 16]);
}
