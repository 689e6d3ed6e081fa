//! Splitting records and providers over frames.

use std::ops::Range;

use molia_router::ids::{Key, PeerId};
use molia_router::limits::PROVIDER_BYTES_MAX;
use molia_router::wire::body::chunks::{Chunks, fitting, fitting_providers};
use molia_router::wire::body::find_value::{FindValueReq, FindValueResp, Found, RespWriter};
use molia_router::wire::body::{Overflow, Provider, Stamp, StoreReq, Writer};
use molia_router::wire::proto;
use proptest::collection::vec;
use proptest::prelude::*;

use super::oracle::{Twin, written};
use super::values::Values;

/// Encoded messages within the maxima.
fn entries<T: Twin + Values>(max: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let allowed = T::values().prop_filter("allowed", Twin::allowed);
    vec(allowed.prop_map(|message| written(&message)), 0..=max)
}

fn slices(entries: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> + Clone {
    entries.iter().map(Vec::as_slice)
}

/// What one frame carries.
struct Part<'a> {
    record: Option<&'a [u8]>,
    providers: &'a [Vec<u8>],
    peers: &'a [Vec<u8>],
    chunk: Option<(u32, u32)>,
}

const NOTHING: Part<'_> = Part { record: None, providers: &[], peers: &[], chunk: None };

/// Its body, or why it does not fit.
fn body(part: &Part<'_>, room: usize) -> Result<Vec<u8>, Overflow> {
    let mut room = vec![0; room];
    let mut out = Writer::new(&mut room);
    let mut response = RespWriter::new(&mut out);
    if let Some(slice) = part.record {
        response.record(slice)?;
    }
    if !part.providers.is_empty() {
        response.providers(slices(part.providers))?;
    }
    slices(part.peers).try_for_each(|entry| response.closer_peer(entry))?;
    match part.chunk {
        None => response.finish(),
        Some((index, total)) => response.finish_chunk(index, total)?,
    }
    Ok(out.written().to_vec())
}

/// Every frame's part of a plan with its chunk fields, in order.
fn frames(plan: &Chunks) -> impl Iterator<Item = (Range<usize>, Option<(u32, u32)>)> {
    let total = u32::try_from(plan.len()).unwrap();
    let chunk = move |index| (total > 1).then_some((index, total));
    let parts: Vec<_> = plan.iter().collect();
    (0..total).zip(parts).map(move |(index, range)| (range, chunk(index)))
}

proptest! {
    #[test]
    fn a_record_comes_back_from_its_slices(
        record in vec(any::<u8>(), 0..9000), peers in entries::<proto::Peer>(8), room in 700_usize..1500,
    ) {
        let plan = Chunks::of_record(record.len(), 0, room).unwrap();
        let mut read = Vec::new();
        for (at, (range, chunk)) in frames(&plan).enumerate() {
            let slice = Some(&record[range.clone()]);
            let whole = Part { record: slice, chunk, ..NOTHING };
            let last = at + 1 == plan.len();
            let named = if last { fitting(slices(&peers), plan.left()) } else { 0 };
            let ours = body(&Part { peers: &peers[..named], ..whole }, room).unwrap();
            if let Some(one_more) = peers.get(..=named).filter(|_| last) {
                let chunk = chunk.map(|_| (15, 16));
                let more = Part { peers: one_more, record: slice, chunk, ..NOTHING };
                prop_assert_eq!(body(&more, room), Err(Overflow));
            }
            let answer = FindValueResp::read(&ours).unwrap();
            let Some(Found::Record(slice)) = answer.value else { panic!("{answer:?}") };
            prop_assert_eq!(answer.closer_peers.len(), named);
            prop_assert_eq!((answer.chunk_index, answer.total_chunks), chunk.unwrap_or_default());
            read.extend_from_slice(slice);
            if let Some(one_more) = record.get(range.start..=range.end) {
                // Reserved for the largest chunk fields, which are four bytes.
                let more = Part { record: Some(one_more), chunk: Some((15, 16)), ..NOTHING };
                prop_assert_eq!(body(&more, room), Err(Overflow));
            }
        }
        prop_assert_eq!(read, record);
    }

    #[test]
    fn providers_keep_order_fit_and_waste_nothing(
        providers in entries::<proto::Provider>(80), room in 300_usize..1500,
    ) {
        let Ok(plan) = Chunks::of_providers(slices(&providers), room) else {
            // Sixteen chunks have to be too few: none had room for one more of the largest.
            let bytes: usize = providers.iter().map(|provider| 3 + provider.len()).sum();
            prop_assert!(bytes > 16 * room.saturating_sub(300));
            return Ok(());
        };
        let mut next = 0;
        for (range, chunk) in frames(&plan) {
            prop_assert_eq!(range.start, next);
            next = range.end;
            let part = Part { providers: &providers[range.clone()], chunk, ..NOTHING };
            let ours = body(&part, room).unwrap();
            let found = match FindValueResp::read(&ours).unwrap().value {
                Some(Found::Providers(found)) => found.len(),
                Some(Found::Record(_)) | None => 0,
            };
            prop_assert_eq!(found, range.len());
            if let Some(one_more) = providers.get(range.start..=range.end) {
                let part = Part { providers: one_more, chunk: Some((15, 16)), ..NOTHING };
                prop_assert!(one_more.len() > 32 || body(&part, room).is_err());
            }
            if range.end == providers.len() {
                let reserved = chunk.map_or(0, |_| 4);
                let written = body(&Part { chunk: None, ..part }, room).unwrap().len();
                prop_assert_eq!(plan.left() + written + reserved, room);
            }
        }
        prop_assert_eq!(next, providers.len());
    }

    #[test]
    fn as_many_providers_as_fit(providers in entries::<proto::Provider>(40), room in 0_usize..1500) {
        let count = fitting_providers(slices(&providers), room);
        let fitting = body(&Part { providers: &providers[..count], ..NOTHING }, room);
        prop_assert!(fitting.is_ok());
        if let Some(one_more) = providers.get(..=count) {
            let more = body(&Part { providers: one_more, ..NOTHING }, room);
            prop_assert!(count == 32 || more == Err(Overflow));
        }
    }

    /// What pays rides on the first chunk, and every chunk fits.
    #[test]
    fn a_stored_record_comes_back_from_its_slices(
        request in proto::StoreReq::values().prop_filter("allowed", Twin::allowed),
        record in vec(any::<u8>(), 1..9000), room in 700_usize..1500,
    ) {
        let stamp = request.stamp.map(|stamp| Stamp { epoch: stamp.epoch, nonce: stamp.nonce });
        let whole =
            StoreReq { record: &record, stamp, admission: &request.admission, ..Default::default() };
        let chunks: Vec<_> = whole.chunks(room).unwrap().collect();
        let mut read = Vec::new();
        for (index, chunk) in (0..).zip(&chunks) {
            let mut buffer = vec![0; room];
            let mut out = Writer::new(&mut buffer);
            chunk.write(&mut out).unwrap();
            prop_assert_eq!(StoreReq::read(out.written()), Ok(*chunk));
            let last = index + 1 == chunks.len();
            prop_assert!(last || out.room() < 3, "{} bytes are left", out.room());
            read.extend_from_slice(chunk.record);
            let payment = if index == 0 { (stamp, whole.admission) } else { (None, &[][..]) };
            prop_assert_eq!((chunk.stamp, chunk.admission), payment);
            let fields = if chunks.len() > 1 { (index, chunks.len()) } else { (0, 0) };
            let fields = (u32::try_from(fields.0).unwrap(), u32::try_from(fields.1).unwrap());
            prop_assert_eq!((chunk.chunk_index, chunk.total_chunks), fields);
        }
        prop_assert_eq!(read, record);
    }
}

/// Ends of the slices.
fn ends(record_bytes: usize, beside_bytes: usize, room: usize) -> Result<Vec<usize>, Overflow> {
    let plan = Chunks::of_record(record_bytes, beside_bytes, room)?;
    Ok(plan.iter().map(|range| range.end).collect())
}

#[test]
fn slices_fill_their_frames() {
    assert_eq!(ends(0, 0, 1184), Ok(vec![0]));
    // Key and a length of two bytes; in a chunk its fields, too.
    assert_eq!(ends(1181, 0, 1184), Ok(vec![1181]));
    assert_eq!(ends(1182, 0, 1184), Ok(vec![1177, 1182]));
    assert_eq!(ends(8192, 0, 1184).map(|ends| ends.len()), Ok(7));
    assert_eq!(ends(1182, 85, 1184), Ok(vec![1092, 1182]));
    // A length of one byte leaves one for the slice, where one of two would have none.
    assert_eq!(ends(254, 0, 133), Ok(vec![127, 254]));
    assert_eq!(ends(254, 0, 134), Ok(vec![127, 254]));
    assert_eq!(ends(254, 0, 135), Ok(vec![128, 254]));
}

#[test]
fn no_plan_for_a_record_that_never_fits() {
    assert_eq!(ends(16 * 1177, 0, 1184).map(|ends| ends.len()), Ok(16));
    assert_eq!(ends(16 * 1177 + 1, 0, 1184), Err(Overflow));
    assert_eq!(ends(100, 0, 7).map(|ends| ends.len()), Err(Overflow));
    for room in 0..7 {
        assert_eq!(ends(10, 0, room), Err(Overflow), "{room}");
    }
    assert_eq!(ends(10, 100, 100), Err(Overflow), "no room beside the stamp");
    assert!(ends(10, 93, 100).is_ok());
    let long = StoreReq { admission: &[0; 90], ..StoreReq::default() };
    assert_eq!(long.chunks(1184).map(|chunks| chunks.count()), Err(Overflow));
}

#[test]
fn the_largest_provider_fills_its_room() {
    let largest = Provider {
        peer_id: PeerId([1; 32]),
        meta: &[2; 128],
        expires_unix_s: u64::MAX,
        sequence: u64::MAX,
        owner_pubkey: Some(&[3; 32]),
        signature: Some(&[4; 64]),
    };
    let mut room = [0; PROVIDER_BYTES_MAX];
    let mut out = Writer::new(&mut room);
    largest.write(&mut out).unwrap();
    assert_eq!(out.room(), 0);
    let four = std::iter::repeat_n(out.written(), 4);
    assert_eq!(Chunks::of_providers(four, 1184).map(|plan| plan.len()), Ok(1));
}

#[test]
fn a_frame_has_thirty_two_providers_at_most() {
    let provider = [0; 34];
    let lens = |count, room| -> Result<Vec<usize>, Overflow> {
        let plan = Chunks::of_providers(std::iter::repeat_n(&provider[..], count), room)?;
        Ok(plan.iter().map(|range| range.len()).collect())
    };
    assert_eq!(lens(0, 0), Ok(vec![0]));
    assert_eq!(lens(32, 1184), Ok(vec![32]), "1152 bytes and 3");
    assert_eq!(lens(33, 10_000), Ok(vec![32, 1]));
    assert_eq!(lens(512, 1184), Ok(vec![32; 16]));
    assert_eq!(lens(513, 1184), Err(Overflow));
    assert_eq!(lens(2, 41), Err(Overflow));
    assert_eq!(lens(2, 42), Ok(vec![1, 1]));
    assert_eq!(fitting_providers(std::iter::repeat_n(&provider[..], 40), 10_000), 32);
}

#[test]
fn wanted_providers() {
    let wanted = |provider_limit| FindValueReq { key: Key([0; 32]), provider_limit }.wanted();
    assert_eq!([0, 1, 32, 33, 512, 513, u32::MAX].map(wanted), [32, 1, 32, 33, 512, 512, 512]);
}
