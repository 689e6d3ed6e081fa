//! The shard writes records between two packets: neither that nor reading touches the heap.

use std::hint::black_box;

use peerstore::frame::{self, END};
use peerstore::{Epoch, FileHeader, FileKind, Frames, Shard};

use crate::samples::every_shape;

#[test]
fn neither_writing_nor_reading_allocates() {
    let records = every_shape(300);
    let epoch = Epoch::new(4);
    let mut file = vec![0; 16 * 1024];
    let memory = allocation_counter::measure(|| {
        let shard = Shard::new(0, 1).unwrap();
        let file_kind = FileKind::Log;
        let header =
            FileHeader { file: file_kind, shard, epoch, partition_hash: 1, created_unix_s: 2 };
        assert_eq!(FileHeader::decode(black_box(&header.encode())), Ok(header));
        let mut end = 0;
        for record in &records {
            end += frame::encode(&mut file[end..], epoch, record).unwrap();
        }
        file[end..end + END.len()].copy_from_slice(&END);
        let mut frames = Frames::new(black_box(&file), epoch);
        assert_eq!(frames.by_ref().count(), records.len());
        assert_eq!(frames.stop().map(|stop| stop.offset), Some(end));
    });
    assert_eq!(memory.count_total, 0);
}
