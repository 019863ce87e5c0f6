//! The whole way on files of the system, into the durable engine.

use kiva_engine::tree::{Options, TreeEngine};

use super::*;
use crate::disk::FileDisk;

/// Covers 2C-snap-file, OPT-snap-ingest on files: a small one as a batch, a large one as an
/// ingestion with a damaged attempt before it; both are there after a restart.
#[test]
fn a_snapshot_arrives_on_real_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || Options { threads: 1, ..Options::default() };
    let store = |name: &str| TreeEngine::open(folder.path().join(name), options()).expect("opens");
    let source = store("source");
    fill(&source, &sample());
    let incompressible = |i: u32| {
        let next = |seed: &mut u32| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*seed >> 24) as u8)
        };
        std::iter::repeat_n((), 10_000).scan(i, |seed, ()| next(seed)).collect::<Bytes>()
    };
    let large: Vec<Row> =
        (0..600_u32).map(|i| (Cf::Write, format!("w{i:04}").into(), incompressible(i))).collect();
    fill(&source, &large);

    let target = store("target");
    let old = rows(&["default c old", "write w0300x old", "write y stays", "local r old"]);
    fill(&target, &old);
    let disk = FileDisk::open(&folder.path().join("snapshots")).expect("opens");
    let received = |index, range: KeyRange| {
        let folder = Folder::open(Arc::new(disk.clone()), at(0)).expect("opens");
        let chunks = chunks(&source, meta(id(7, 3, index), range), 1024 * 1024);
        receive(&folder, &chunks).expect("arrives")
    };
    let local = |value: &str| [(b"r".to_vec(), value.as_bytes().to_vec())];

    let small = received(17, range("b", "e"));
    let wrote = install(&target, &small, &[], &local("small")).expect("installs");
    assert_eq!(wrote, Wrote::Batch);
    target.flush().expect("flushes");

    // In the middle of an ingestion the file turns out to be damaged.
    let before = contents(&target);
    let damaged = received(18, range("w", "x"));
    let path = folder.path().join("snapshots/7-3-18.snapshot");
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[4_000_000] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    let error = install(&target, &damaged, &[], &local("damaged")).expect_err("damaged");
    assert!(error.to_string().contains("7-3-18.snapshot is damaged"), "{error}");
    assert_eq!(contents(&target), before);

    let whole = received(19, range("w", "x"));
    let wrote = install(&target, &whole, &[], &local("large")).expect("installs");
    assert_eq!(wrote, Wrote::Ingestion);
    let mut expected = rows(&["local r large", "write y stays"]);
    expected.extend(sample_pairs());
    expected.extend(large);
    expected.sort();
    assert_eq!(contents(&target), expected);
    drop(target);
    assert_eq!(contents(&store("target")), expected);
}
