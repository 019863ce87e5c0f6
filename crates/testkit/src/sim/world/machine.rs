//! A machine with a store on it: what survives its process, and how that ends.

use std::sync::Arc;
use std::time::Duration;

use kiva_base::{Clock, Moment, StoreId};
use kiva_engine::memory::MemoryEngine;
use kiva_engine::{Engine, WriteBatch};
use kiva_raftstore::disk::{Disk, DiskFile, FileName, MemoryDisk, OpenMode, Operation};
use kiva_raftstore::log::{self, Log};
use kiva_raftstore::meta;
use kiva_raftstore::options::Options;
use kiva_raftstore::snapshot::Folder;

use super::Setup;
use super::check::Check;
use super::process::{Ground, Process};
use crate::sim::{DiskTrouble, Host, LocalClock, Rng, Stop};

/// What a sync takes.
const SYNC: std::ops::Range<Duration> = Duration::from_micros(100)..Duration::from_millis(5);
/// From one round of work behind the scenes to the next.
const TIDY: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(1500);
/// When a disk that stalls would be done.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// A machine.
pub(super) struct Machine {
    pub(super) id: StoreId,
    pub(super) host: Host,
    pub(super) clock: LocalClock,
    /// Of the log.
    pub(super) disk: MemoryDisk,
    /// Of snapshots that were received.
    pub(super) folder: MemoryDisk,
    pub(super) engine: MemoryEngine,
    pub(super) process: Option<Process>,
    pub(super) is_paused: bool,
    /// Why the process ended by itself, if it did.
    pub(super) failed: Option<String>,
    rng: Rng,
    slower: Duration,
    is_stalled: bool,
    fails_sync: bool,
    /// Peers below are those of an earlier disk.
    lost_below: u64,
}

impl Machine {
    pub(super) fn new(id: StoreId, clock: LocalClock, rng: Rng) -> Self {
        Self {
            id,
            host: Host::Store(id),
            clock,
            disk: MemoryDisk::new(),
            folder: MemoryDisk::new(),
            engine: MemoryEngine::new(),
            process: None,
            is_paused: false,
            failed: None,
            rng,
            slower: Duration::ZERO,
            is_stalled: false,
            fails_sync: false,
            lost_below: 0,
        }
    }

    /// The first region is born here.
    pub(super) fn bootstrap(&self, region: kiva_base::Region) {
        let mut born = WriteBatch::new();
        meta::save_born(region, &mut born);
        self.engine.write(&born).expect("it is in memory");
        self.engine.flush().expect("it is in memory");
    }

    pub(super) fn running(&self) -> Option<&Process> {
        self.process.as_ref().filter(|_| !self.is_paused)
    }

    /// Starts the process on what is there. Does nothing while it runs.
    pub(super) fn start(&mut self, setup: &Setup, now: Moment, check: &mut Check) {
        if self.process.is_some() {
            return;
        }
        self.failed = None;
        self.is_paused = false;
        match self.open(setup, now) {
            Ok(process) => {
                check.on_start(self.id, process.store.statuses());
                self.process = Some(process);
            }
            Err(error) => self.failed = Some(error),
        }
    }

    fn open(&mut self, setup: &Setup, now: Moment) -> Result<Process, String> {
        let local = self.clock.now();
        let options =
            log::Options { segment_size: setup.segment_size, cache_bytes: setup.log_cache_bytes };
        let opened = Log::open(Arc::new(self.disk.clone()), options)
            .map_err(|error| format!("{error:?}"))?;
        if !opened.damage.is_empty() || !opened.lost.is_empty() {
            return Err("a log is damaged that nobody has damaged".into());
        }
        let folder = Folder::open(Arc::new(self.folder.clone()), local)
            .map_err(|error| error.to_string())?;
        let ground = Ground {
            id: self.id,
            options: Options { seed: self.rng.next_u64(), ..setup.options.clone() },
            engine: Arc::new(self.engine.clone()),
            opened,
            folder,
            clock: Arc::new(self.clock.clone()),
            lost_below: self.lost_below,
            applies_apart: setup.applies_apart,
            tidy_at: now + self.rng.duration(&TIDY),
        };
        Process::start(ground).map_err(|error| error.to_string())
    }

    /// The process ends.
    pub(super) fn stop(&mut self, stop: Stop, check: &mut Check) {
        self.is_paused = false;
        if stop == Stop::DiskLost {
            self.process = None;
            self.disk = MemoryDisk::new();
            self.folder = MemoryDisk::new();
            self.engine = MemoryEngine::new();
        }
        let Some(mut process) = self.process.take() else { return };
        match stop {
            Stop::Orderly => {
                if let Err(error) = process.finish(check) {
                    self.failed = Some(error);
                }
                drop(process);
                self.lose_tail();
            }
            Stop::Killed => {
                drop(process);
                self.lose_tail();
            }
            Stop::PowerLost => {
                drop(process);
                self.lose_tail();
                let rng = &mut self.rng;
                self.disk = self.disk.crash(&mut |count| rng.position(count));
                self.folder = self.folder.crash(&mut |count| rng.position(count));
            }
            Stop::DiskLost => unreachable!("nothing is left of it"),
        }
    }

    /// The engine has no journal: what was not flushed may be gone, however the process ends.
    fn lose_tail(&mut self) {
        let survivors = self.rng.position(self.engine.unsynced() + 1);
        self.engine = self.engine.crash(survivors);
    }

    /// The disk is another one now: peers that were made before live here no more.
    pub(super) fn forget_below(&mut self, id: u64) {
        self.lost_below = id;
    }

    /// The log or the engine failed: the process ends, and what it wrote is there.
    pub(super) fn fail(&mut self, error: String, check: &mut Check) {
        self.stop(Stop::Killed, check);
        self.failed = Some(error);
    }

    /// When a sync that begins now will be done.
    pub(super) fn sync_due(&mut self, now: Moment) -> Moment {
        let takes = self.rng.duration(&SYNC) + self.slower;
        if self.is_stalled { now + NEVER } else { now + takes }
    }

    /// Before a sync: whether it is to fail.
    pub(super) fn arm(&mut self) {
        if std::mem::take(&mut self.fails_sync) {
            self.disk.fail_next(Operation::Sync);
        }
    }

    pub(super) fn next_tidy(&mut self, now: Moment) -> Moment {
        now + self.rng.duration(&TIDY)
    }

    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The disk goes wrong.
    pub(super) fn trouble(&mut self, trouble: DiskTrouble, now: Moment) {
        match trouble {
            DiskTrouble::Slow(by) => self.slower = by,
            DiskTrouble::Stalled => {
                self.is_stalled = true;
                if let Some(process) = &mut self.process {
                    process.set_sync_due(now + NEVER);
                }
            }
            DiskTrouble::SyncFails => self.fails_sync = true,
            DiskTrouble::Full => self.disk.set_capacity(0),
            DiskTrouble::BitFlips => self.flip_a_bit(),
        }
    }

    /// The disk is well again.
    pub(super) fn recover(&mut self, now: Moment) {
        self.slower = Duration::ZERO;
        self.fails_sync = false;
        self.disk.set_capacity(u64::MAX);
        if std::mem::take(&mut self.is_stalled)
            && let Some(process) = &mut self.process
        {
            process.set_sync_due(now);
        }
    }

    /// Of a received snapshot: the log's are for tests that expect them.
    fn flip_a_bit(&mut self) {
        let names = self.folder.list().unwrap_or_default();
        let Some(name) = self.rng.pick(&names).cloned() else { return };
        let size = size_of(&self.folder, &name);
        if size > 0 {
            self.folder.flip_bit(&name, self.rng.number(0..size), self.rng.number(0..8) as u8);
        }
    }
}

fn size_of(disk: &MemoryDisk, name: &FileName) -> u64 {
    let file: Option<Arc<dyn DiskFile>> = disk.open(name, OpenMode::Existing).ok();
    file.and_then(|file| file.size().ok()).unwrap_or(0)
}
