//! Counter files as their readers find them, and METRICS.md.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use molia_router::counters::layout::Id;
use molia_router::counters::{Counters, CountersView, OpenError, docs, file_name};
use molia_router::identity::Identity;
use molia_router::time::{Moment, Now};
use molia_router::wire::body::NegotiateReq;
use molia_router::wire::{Header, Kind};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use support::Bench;

fn path(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("molia-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a scratch directory");
    directory.join(file_name(3))
}

/// Writes one of the header's cells.
fn write_cell(path: &Path, index: u64, value: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the counter file");
    file.write_all_at(&value.to_ne_bytes(), index * 8).expect("room in the header");
}

#[test]
fn a_reader_sees_what_is_counted_and_what_was() {
    let path = path("seen");
    let counters = Counters::create(&path, 3).unwrap();
    counters.evicted();
    let view = CountersView::open(&path).unwrap();
    counters.evicted();
    let snapshot = view.snapshot();
    assert_eq!((snapshot.shard(), snapshot.total(Id::Evictions)), (3, 2));
    assert_eq!(snapshot, counters.snapshot());
    // After the writer is gone, and after another took its place.
    drop(counters);
    assert_eq!(CountersView::open(&path).unwrap().snapshot(), snapshot);
    let restarted = Counters::create(&path, 3).unwrap();
    assert_eq!(restarted.snapshot().total(Id::Evictions), 0);
    assert_eq!(view.snapshot(), snapshot, "an open view stays with the file it opened");
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn readers_refuse_what_they_do_not_know() {
    let path = path("refused");
    drop(Counters::create(&path, 3).unwrap());
    write_cell(&path, 1, 1);
    assert!(matches!(CountersView::open(&path), Err(OpenError::OtherVersion)));
    write_cell(&path, 0, 1);
    assert!(matches!(CountersView::open(&path), Err(OpenError::NotCounters)));
    for content in [&b""[..], b"short", &[0x5A; 8192]] {
        fs::write(&path, content).unwrap();
        assert!(matches!(
            CountersView::open(&path),
            Err(OpenError::NotCounters | OpenError::Io(_))
        ));
    }
    // The right beginning of a file that was cut short.
    drop(Counters::create(&path, 3).unwrap());
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(matches!(CountersView::open(&path), Err(OpenError::OtherVersion)));
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert!(matches!(CountersView::open(&path), Err(OpenError::Io(_))));
}

#[test]
fn a_router_tells_why_it_refuses_a_binding() {
    let mut bench = Bench::new();
    let mut peer = bench.peer("192.0.2.1:1000");
    bench.connect(&mut peer);
    // Signed rightly, for the key of another session.
    let stranger = Identity::generate(&mut ChaCha20Rng::seed_from_u64(5));
    let binding = Some(stranger.binding(0, u64::from(u32::MAX)));
    let request = NegotiateReq { binding, ..NegotiateReq::default() };
    let header = Header::request(Kind::NegotiateReq, 1);
    let sealed = peer.seal(header, |body| request.write(body));
    let sent = bench.deliver(peer.path(), &sealed);
    assert_eq!(peer.open(&sent[0].1), Kind::Error.id());
    let snapshot = bench.router.counters().snapshot();
    assert_eq!(snapshot.value(Id::BindingRefused, &["wrong_key"]), Some(1));
    assert_eq!(snapshot.total(Id::BindingRefused), 1);
}

#[test]
fn metrics_md_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, docs::markdown()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == docs::markdown(),
        "METRICS.md is out of date: UPDATE_DOCS=1 cargo test --test counters rewrites it"
    );
}

#[test]
fn readers_never_miss_a_writer_that_takes_over() {
    let path = path("taken-over");
    let first = Counters::create(&path, 3).unwrap();
    let now = |unix_ms| Now { at: Moment::START, unix_ms };
    first.started(now(1000));
    first.turn(now(2000), Duration::ZERO);
    first.forwarded_datagram();
    drop(first);
    let view = CountersView::open(&path).unwrap();
    let look = || {
        let snapshot = CountersView::open(&path).unwrap().snapshot();
        assert_eq!((snapshot.shard(), view.snapshot().shard()), (3, 3));
    };
    std::thread::scope(|scope| {
        let takes_over = scope.spawn(|| {
            for _ in 0..500 {
                Counters::take_over(&path, 3).unwrap();
            }
        });
        while !takes_over.is_finished() {
            look();
        }
    });
    let is = |id| view.snapshot().value(id, &[]).unwrap();
    assert_eq!((is(Id::Turns), is(Id::Forwarded)), (0, 0));
    // Until the next one turns, nobody shall think that the shard stood still since 1970.
    assert_eq!((is(Id::Started), is(Id::Heartbeat)), (1000, 2000));
    fs::remove_file(&path).unwrap();
}
