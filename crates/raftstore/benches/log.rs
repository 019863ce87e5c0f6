//! What does an entry of 256 bytes cost in the log of a store, and how often is it synced?
//!
//! ```sh
//! cargo bench -p kiva-raftstore --bench log
//! ```
//!
//! Times are by criterion, on a disk that forgets everything. `-- fixed JOB COUNT` does a job so
//! often and prints what the log counted: given to callgrind with a count and with twice that, the
//! difference is what the job costs without the start.
//!
//! | job | one of it is |
//! |---|---|
//! | `encode` | 64 entries added to a batch |
//! | `append` | a batch of 64 entries of one region written, synced and shown to readers |
//! | `spread` | a batch of one entry and a hard state for each of 64 regions, likewise |
//! | `lone` | a batch of one entry and a hard state, likewise |
//! | `read` | 64 entries read from memory |
//! | `open` | a MiB in a log of 10,000 regions that nobody compacts, in files, which is opened |

#![expect(clippy::print_stdout, reason = "a count is printed")]
#![expect(clippy::disallowed_methods, reason = "how long opening takes is what is asked")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use kiva_base::RegionId;
use kiva_raft::{Entries, Entry, HardState, Index, Payload, Term};
use kiva_raftstore::disk::{Disk, DiskFile, FileDisk, FileName, OpenMode, Space};
use kiva_raftstore::log::{Log, LogBatch, Options};

/// Entries of a batch.
const BATCH: u64 = 64;

/// A disk that forgets everything.
struct Nowhere;

/// A file of it.
#[derive(Default)]
struct NoFile {
    size: AtomicU64,
}

impl Disk for Nowhere {
    fn open(&self, _name: &FileName, _mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoFile::default()))
    }

    fn rename(&self, _from: &FileName, _to: &FileName) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &FileName) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<FileName>> {
        Ok(Vec::new())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { total: u64::MAX, free: u64::MAX })
    }
}

impl DiskFile for NoFile {
    fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size.load(Ordering::Relaxed))
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }
}

/// A log, and how far it is.
struct Subject {
    log: Log,
    payload: Bytes,
    next: Index,
}

impl Subject {
    fn new() -> Self {
        let opened = Log::open(Arc::new(Nowhere), Options::default()).expect("nothing is there");
        let (payload, next) = (Bytes::from(vec![7; 256]), Index(1));
        Self { log: opened.log, payload, next }
    }

    fn entries(&mut self, count: u64) -> Entries {
        let first = self.next;
        self.next = first.plus(count as usize);
        let entry = |index| Entry {
            index: Index(index),
            term: Term(1),
            payload: Payload::Command(self.payload.clone()),
        };
        (first.0..self.next.0).map(entry).collect()
    }

    fn write(&self, batch: &LogBatch) {
        let written = self.log.write(batch).expect("nothing fails");
        self.log.sync(&written).expect("nothing fails");
    }

    /// What a region writes in a round.
    fn hard_state(&self) -> HardState {
        HardState { term: Term(1), vote: None, commit: self.next.previous() }
    }

    fn run(&mut self, job: &str) {
        let mut batch = LogBatch::new();
        match job {
            "encode" => {
                let entries = self.entries(BATCH);
                batch.entries(region(1), &entries);
                std::hint::black_box(&batch);
            }
            "append" => {
                let entries = self.entries(BATCH);
                batch.entries(region(1), &entries);
                self.write(&batch);
                self.log.compact(region(1), self.next.previous());
            }
            "lone" => {
                let entries = self.entries(1);
                batch.entries(region(1), &entries);
                batch.hard_state(region(1), self.hard_state());
                self.write(&batch);
                self.log.compact(region(1), self.next.previous());
            }
            "spread" => {
                let entries = self.entries(1);
                for of in 1..=BATCH {
                    batch.entries(region(of), &entries);
                    batch.hard_state(region(of), self.hard_state());
                }
                self.write(&batch);
                for of in 1..=BATCH {
                    self.log.compact(region(of), self.next.previous());
                }
            }
            "read" => {
                if self.next == Index(1) {
                    let entries = self.entries(BATCH);
                    batch.entries(region(1), &entries);
                    self.write(&batch);
                }
                let read = self.log.region(region(1)).entries(Index(1), self.next, usize::MAX);
                std::hint::black_box(read.expect("it is in memory"));
            }
            _ => panic!("no job is called {job}"),
        }
    }
}

/// Fills a log in files with so many MiB, and opens it.
fn open(mebibytes: u64) {
    const REGIONS: u64 = 10_000;
    let folder = tempfile::tempdir().expect("there is room");
    let disk = || Arc::new(FileDisk::open(folder.path()).expect("a folder that nobody has"));
    let log = Log::open(disk(), Options::default()).expect("nothing is there").log;
    let payload = Bytes::from(vec![7; 256]);
    for index in 1.. {
        for first in (1..=REGIONS).step_by(100) {
            let mut batch = LogBatch::new();
            for of in first..first + 100 {
                let payload = Payload::Command(payload.clone());
                let entry = Entry { index: Index(index), term: Term(1), payload };
                batch.entries(region(of), &vec![entry].into());
            }
            let _ = log.write(&batch).expect("there is room");
        }
        let written = log.write(&LogBatch::new()).expect("there is room");
        log.sync(&written).expect("nothing fails");
        if written.end().0 >> 20 >= mebibytes {
            break;
        }
    }
    println!("{:?}", log.status());
    drop(log);
    let start = Instant::now();
    let opened = Log::open(disk(), Options::default()).expect("it is there");
    println!("{} regions in {:?}", opened.regions.len(), start.elapsed());
}

fn region(id: u64) -> RegionId {
    RegionId::new(id).expect("not zero")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["fixed", job, count, ..] = arguments[..] {
        let count: u64 = count.parse().expect("a count is a number");
        if job == "open" {
            return open(count);
        }
        let mut subject = Subject::new();
        (0..count).for_each(|_| subject.run(job));
        println!("{:?}", subject.log.status());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut figures = criterion.benchmark_group("entries of 256 bytes");
    for (job, entries) in
        [("encode", 64), ("append", 64), ("spread", 64), ("lone", 1), ("read", 64)]
    {
        let mut subject = Subject::new();
        figures.throughput(Throughput::Elements(entries));
        figures.bench_function(job, |bencher| bencher.iter(|| subject.run(job)));
    }
    figures.finish();
    criterion.final_summary();
}
