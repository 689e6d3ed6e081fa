//! The simulated disk is as bad as it says: whatever it may find, some seed does.

use std::io::ErrorKind;

use peerstore::storage::sim::{Cut, Lasting, Operation, Refusal, SimDir, SimDisk};
use peerstore::storage::{Storage, StoredFile};

const SECTOR: usize = 512;

/// Files as 200 seeds find them.
fn images(disk: &SimDisk, name: &str) -> Vec<Option<Vec<u8>>> {
    (0..200).map(|seed| disk.after_crash(seed).contents("d", name)).collect()
}

fn started() -> (SimDisk, SimDir) {
    let disk = SimDisk::new(7);
    let dir = disk.dir("d");
    (disk, dir)
}

/// Whether a sector is as written, as before, or something between.
fn sector(image: &[u8], number: usize) -> Option<&[u8]> {
    image.get(number * SECTOR..(number + 1) * SECTOR)
}

#[test]
fn unsynced_bytes_are_there_or_absent_or_torn_in_any_order() {
    let (disk, dir) = started();
    let mut file = dir.create("a").unwrap();
    dir.sync().unwrap();
    file.append(&[1; 4 * SECTOR]).unwrap();
    let found: Vec<_> = images(&disk, "a").into_iter().flatten().collect();
    assert_eq!(found.len(), 200, "its name was synced");
    let any = |check: &dyn Fn(&[u8]) -> bool| found.iter().any(|image| check(image));
    let (whole, zeros) = ([1; SECTOR], [0; SECTOR]);
    assert!(any(&|image| image.is_empty()), "nothing");
    assert!(any(&|image| *image == [1; 4 * SECTOR]), "everything");
    let is = |image: &[u8], number, bytes: &[u8]| sector(image, number) == Some(bytes);
    assert!(any(&|image| is(image, 0, &zeros) && is(image, 3, &whole)), "the end first");
    assert!(any(&|image| is(image, 0, &whole) && is(image, 1, &zeros) && is(image, 2, &whole)));
    let torn = |image: &[u8]| {
        let ones = image.iter().take_while(|byte| **byte == 1).count();
        !ones.is_multiple_of(SECTOR) && image[ones..].iter().all(|byte| *byte == 0)
    };
    assert!(any(&torn), "torn inside a sector");
    assert!(any(&|image| !image.len().is_multiple_of(SECTOR)), "any length");
}

#[test]
fn a_synced_beginning_of_a_sector_is_never_torn() {
    let (disk, dir) = started();
    let mut file = dir.create("a").unwrap();
    file.append(&[1; 100]).unwrap();
    file.sync().unwrap();
    dir.sync().unwrap();
    file.append(&[2; 100]).unwrap();
    for image in images(&disk, "a").into_iter().flatten() {
        assert_eq!(image[..100], [1; 100]);
        assert!(image[100..].iter().all(|byte| matches!(byte, 0 | 2)));
    }
}

#[test]
fn a_reserved_tail_is_zeros_or_garbage_or_what_lay_there() {
    let (disk, dir) = started();
    let mut file = dir.create("a").unwrap();
    file.append(&[1; 10]).unwrap();
    file.reserve(1 << 16).unwrap();
    file.sync().unwrap();
    dir.sync().unwrap();
    disk.leave_behind(&[0xAB; 3 * SECTOR]);
    let found: Vec<_> = images(&disk, "a").into_iter().flatten().collect();
    assert!(found.iter().all(|image| image.len() == 1 << 16 && image[..10] == [1; 10]));
    assert!(found.iter().all(|image| image[10..SECTOR].iter().all(|byte| *byte == 0)));
    let tails = || found.iter().map(|image| &image[SECTOR..]);
    assert!(tails().any(|tail| tail.iter().all(|byte| *byte == 0)));
    assert!(tails().any(|tail| tail.windows(SECTOR).any(|bytes| bytes == [0xAB; SECTOR])));
    assert!(tails().any(|tail| tail.iter().any(|byte| !matches!(byte, 0 | 0xAB))));
    file.trim().unwrap();
    let lens: Vec<_> = images(&disk, "a").into_iter().flatten().map(|image| image.len()).collect();
    assert!(lens.contains(&10) && lens.contains(&(1 << 16)), "given back, or not yet");
    file.sync().unwrap();
    assert!(images(&disk, "a").into_iter().flatten().all(|image| image == [1; 10]));
}

/// The lesson of the fsync gate: pages of a failed sync count as written, and are not.
#[test]
fn syncing_again_does_not_bring_back_what_a_failed_sync_lost() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let dir = disk.dir("d");
        let mut file = dir.create("a").unwrap();
        dir.sync().unwrap();
        file.append(&[1; 2 * SECTOR]).unwrap();
        disk.refuse_next(Operation::Sync, Refusal::Io, Lasting::Once);
        assert!(file.sync().is_err());
        file.append(&[2; SECTOR]).unwrap();
        file.sync().unwrap();
        assert_eq!(
            disk.contents("d", "a").unwrap()[..SECTOR],
            [1; SECTOR],
            "until it is read anew"
        );
        let image = disk.after_crash(0).contents("d", "a").unwrap();
        assert_eq!(image[2 * SECTOR..], [2; SECTOR], "what came later was written");
        assert_eq!(image, disk.after_crash(1).contents("d", "a").unwrap(), "nothing is open");
        lost += u32::from(image[..2 * SECTOR] != [1; 2 * SECTOR]);
    }
    assert!((20..100).contains(&lost), "{lost}");
}

/// The same of names.
#[test]
fn syncing_again_does_not_bring_back_a_name_that_a_failed_sync_lost() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let dir = disk.dir("d");
        dir.create("a").unwrap();
        disk.refuse_next(Operation::SyncNames, Refusal::Io, Lasting::Once);
        assert!(dir.sync().is_err());
        dir.create("b").unwrap();
        dir.sync().unwrap();
        assert_eq!(dir.list().unwrap(), ["a", "b"]);
        let after = disk.after_crash(0);
        assert_eq!(after.files(), disk.after_crash(1).files(), "nothing is open");
        assert!(after.contents("d", "b").is_some());
        lost += u32::from(after.contents("d", "a").is_none());
    }
    assert!((20..80).contains(&lost), "{lost}");
}

#[test]
fn a_cut_is_before_during_or_after_and_nobody_hears_of_it() {
    let mut synced = Vec::new();
    for cut in Cut::ALL {
        let (disk, dir) = started();
        let mut file = dir.create("a").unwrap();
        dir.sync().unwrap();
        file.append(&[1; 100]).unwrap();
        assert_eq!(disk.operations(), 3);
        disk.cut_at(3, cut);
        assert!(!disk.is_off());
        assert!(file.sync().is_err());
        assert!(disk.is_off());
        assert!(file.append(&[1]).is_err() && dir.list().is_err() && dir.read("a").is_err());
        assert_eq!(disk.operations(), 4, "the dead do not count");
        let all = images(&disk, "a").into_iter().all(|image| image == Some(vec![1; 100]));
        synced.push(all);
    }
    assert_eq!(synced, [false, false, true]);
}

fn every(dir: &SimDir) -> [Result<(), ErrorKind>; 8] {
    let kind = |error: std::io::Error| error.kind();
    let mut file = dir.create("old").expect("the disk is still well");
    dir.create("older").expect("the disk is still well");
    [
        file.append(b"long enough").map_err(kind),
        file.reserve(100).map_err(kind),
        file.sync().map_err(kind),
        dir.create("new").map(drop).map_err(kind),
        file.trim().map_err(kind),
        dir.rename("old", "renamed").map_err(kind),
        dir.remove("older").map_err(kind),
        dir.sync().map_err(kind),
    ]
}

#[test]
fn a_disk_in_a_bad_state_refuses_what_such_a_disk_does() {
    for refusal in Refusal::ALL {
        let kind = match refusal {
            Refusal::NoSpace | Refusal::Short => ErrorKind::StorageFull,
            Refusal::Quota => ErrorKind::QuotaExceeded,
            Refusal::ReadOnly => ErrorKind::ReadOnlyFilesystem,
            Refusal::Io => std::io::Error::from(rustix::io::Errno::IO).kind(),
        };
        let everything = matches!(refusal, Refusal::ReadOnly | Refusal::Io);
        let (disk, dir) = started();
        disk.refuse_at(2, refusal, Lasting::UntilHealed);
        let found = every(&dir);
        assert_eq!(found[..4], [Err(kind); 4], "{refusal:?}");
        let rest = if everything { Err(kind) } else { Ok(()) };
        assert_eq!(found[4..], [rest; 4], "{refusal:?}");
        disk.heal();
        dir.create("new").unwrap().append(b"again").unwrap();

        let (disk, dir) = started();
        disk.refuse_at(2, refusal, Lasting::Once);
        let found = every(&dir);
        assert_eq!((found[0], &found[1..]), (Err(kind), &[Ok(()); 7][..]), "{refusal:?}");
        assert!(disk.contents("d", "renamed").unwrap().len() < 100);
    }
}

#[test]
fn a_short_append_leaves_a_beginning() {
    let mut lens = Vec::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let mut file = disk.dir("d").create("a").unwrap();
        disk.refuse_next(Operation::Append, Refusal::Short, Lasting::Once);
        assert_eq!(file.append(&[1; 50]).unwrap_err().kind(), ErrorKind::StorageFull);
        file.append(&[2; 5]).unwrap();
        let found = disk.contents("d", "a").unwrap();
        let ones = found.len() - 5;
        assert_eq!(found, [vec![1; ones], vec![2; 5]].concat());
        lens.push(ones);
    }
    assert!(lens.contains(&0) && lens.iter().any(|len| (1..50).contains(len)));
}

#[test]
fn tests_can_spoil_files_at_rest() {
    let (disk, dir) = started();
    disk.put("d", "a", b"abc");
    disk.flip_bit("d", "a", 8);
    assert_eq!(dir.read("a").unwrap(), b"acc");
    disk.overwrite("d", "a", 2, b"xyz");
    disk.truncate("d", "a", 4);
    assert_eq!(disk.after_crash(1).contents("d", "a").unwrap(), b"acxy");
    assert_eq!(disk.files(), [("d".into(), "a".into(), 4)]);
    disk.make_unreadable("d", "a");
    assert!(dir.read("a").is_err() && disk.after_crash(1).dir("d").read("a").is_err());
    assert_eq!(dir.read("b").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.operations(), 0);
}
