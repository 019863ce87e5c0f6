//! A store's process: the loops of the product, and who carries out what they ask for.
//!
//! It does what the product's threads do, one thing at a time, so that a crash, a pause or anybody
//! else's step can come between any two of them:
//!
//! | step | is |
//! |---|---|
//! | round | the store loop takes its mailbox, and its outbox is carried out |
//! | write | the log writer takes all that waits and writes it |
//! | sync | it is durable, and the loop is told |
//! | apply | entries that are committed are applied |
//! | task | a snapshot is installed, a removed peer is cleared away |
//! | tidy | `data` is flushed, the log is cut, snapshots nobody needs are removed |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiva_base::api::ApiVersion;
use kiva_base::{Clock, Moment, StoreId};
use kiva_engine::Engine;
use kiva_kv::{Executor, Pool};
use kiva_raftstore::apply::{Apply, ApplyMsg};
use kiva_raftstore::log::{Log, LogBatch, Opened, Written};
use kiva_raftstore::open::{self, Assembly};
use kiva_raftstore::options::Options;
use kiva_raftstore::placement::RegionReport;
use kiva_raftstore::router::Router;
use kiva_raftstore::snapshot::{Begun, Builder, Folder, Id, Meta, Receiver};
use kiva_raftstore::store::{AfterSync, Mailbox, Outbox, Store, StoreMsg};
use kiva_raftstore::task::Task;
use kiva_raftstore::transport::{Content, Envelope, Feedback, Inbox, OutgoingSnapshot};
use kiva_raftstore::{durable, meta, wire};

use super::check::Check;
use super::message::{Piece, PieceContent};
use crate::sim::Rng;

/// Bytes of a frame, at most.
const FRAME_MAX: usize = 1024 * 1024;
/// How long a snapshot may stand still on its way: its connection is broken by then.
const STREAM_PATIENCE: Duration = Duration::from_secs(2);

/// What a crash takes away.
pub(super) struct Process {
    pub(super) store: Store,
    pub(super) apply: Apply,
    pub(super) mailbox: Mailbox,
    pub(super) router: Router,
    pub(super) executor: Executor,
    pub(super) inbox: Inbox,
    pub(super) log: Log,
    pub(super) folder: Folder,
    engine: Arc<dyn Engine>,
    /// Applies in a step of its own, as stores with many cores do.
    applies_apart: bool,
    /// For the next round, before what the mailbox has.
    messages: VecDeque<StoreMsg>,
    /// For the log writer.
    jobs: Vec<Job>,
    /// Written, and not synced.
    writing: Option<Writing>,
    applying: VecDeque<(u64, Vec<ApplyMsg>)>,
    tasks: VecDeque<(u64, Task)>,
    handed_out: u64,
    sending: BTreeMap<u64, Sending>,
    receiving: BTreeMap<u64, Receiving>,
    pub(super) tidy_at: Moment,
}

struct Job {
    batch: LogBatch,
    after_sync: Vec<AfterSync>,
}

struct Writing {
    due: Moment,
    written: Written,
    jobs: Vec<Job>,
}

struct Sending {
    builder: Builder,
    envelope: Envelope,
    until: Moment,
}

struct Receiving {
    receiver: Box<Receiver>,
    envelope: Envelope,
    until: Moment,
}

/// Something that stops a process for good.
pub(super) type Ended = String;

/// What leaves a process in a step.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) frames: Vec<(StoreId, Bytes)>,
    pub(super) pieces: Vec<(StoreId, Piece)>,
    pub(super) reports: Vec<RegionReport>,
    pub(super) doubts: Vec<(Arc<meta::RegionRecord>, kiva_base::Peer)>,
}

/// Reads where it is asked.
struct Inline;

impl Pool for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

/// What a process is started on.
pub(super) struct Ground {
    pub(super) id: StoreId,
    pub(super) options: Options,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) opened: Opened,
    pub(super) folder: Folder,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lost_below: u64,
    pub(super) applies_apart: bool,
    pub(super) tidy_at: Moment,
}

impl Process {
    pub(super) fn start(ground: Ground) -> Result<Self, open::OpenError> {
        let Ground { id, options, engine, opened, folder, clock, .. } = ground;
        let lost_below = ground.lost_below;
        let assembly = open::open(id, &options, &engine, opened, clock.clone(), 1, lost_below)?;
        let Assembly { router, inbox, mut cores, log } = assembly;
        let core = cores.pop().expect("there is one loop");
        let seed = options.seed;
        let executor = Executor::new(ApiVersion::V1, router.clone(), clock, Arc::new(Inline), seed);
        Ok(Self {
            store: core.store,
            apply: core.apply,
            mailbox: core.mailbox,
            router,
            executor,
            inbox,
            log,
            folder,
            engine,
            applies_apart: ground.applies_apart,
            messages: VecDeque::new(),
            jobs: Vec::new(),
            writing: None,
            applying: VecDeque::new(),
            tasks: VecDeque::new(),
            handed_out: 0,
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            tidy_at: ground.tidy_at,
        })
    }

    /// Whether the loop has something to do at this time of its own clock.
    pub(super) fn can_round(&self, local: Moment) -> bool {
        local >= self.store.next_tick() || !self.messages.is_empty() || !self.mailbox.is_empty()
    }

    pub(super) fn can_write(&self) -> bool {
        self.writing.is_none() && !self.jobs.is_empty()
    }

    pub(super) fn sync_due(&self) -> Option<Moment> {
        self.writing.as_ref().map(|writing| writing.due)
    }

    /// Every write that is under way takes until then.
    pub(super) fn set_sync_due(&mut self, due: Moment) {
        self.writing.iter_mut().for_each(|writing| writing.due = due);
    }

    pub(super) fn can_apply(&self) -> bool {
        !self.applying.is_empty()
    }

    pub(super) fn can_run_task(&self) -> bool {
        let Some((after, _)) = self.tasks.front() else { return false };
        self.applying.front().is_none_or(|(number, _)| number > after)
    }

    /// When a snapshot has stood still for too long.
    pub(super) fn stream_due(&self) -> Option<Moment> {
        let sending = self.sending.values().map(|sending| sending.until);
        sending.chain(self.receiving.values().map(|receiving| receiving.until)).min()
    }

    /// Whether nothing is under way inside.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
            && self.writing.is_none()
            && self.applying.is_empty()
            && self.tasks.is_empty()
            && self.sending.is_empty()
            && self.receiving.is_empty()
            && self.mailbox.is_empty()
            && self.messages.is_empty()
            && self.store.is_idle()
    }

    /// One round of the loop.
    pub(super) fn round(
        &mut self,
        local: Moment,
        now: Moment,
        streams_made: &mut u64,
        chunk_size: usize,
        check: &mut Check,
    ) -> Result<Sent, Ended> {
        let mut messages = std::mem::take(&mut self.messages);
        self.mailbox.take(&mut messages);
        self.store.begin(local);
        for message in messages {
            self.store.handle(message, local);
        }
        let out = self.store.end();
        let mut sent = Sent::default();
        let Outbox { log, after_sync, envelopes, snapshots, apply, tasks, reports, doubts } = out;
        if !log.is_empty() {
            self.jobs.push(Job { batch: log, after_sync });
        } else if !after_sync.is_empty() {
            check.fail("a write is waited for that nobody asked for".into());
        }
        let mut by_store: BTreeMap<StoreId, Vec<Envelope>> = BTreeMap::new();
        for (to, envelope) in envelopes {
            check.on_sent(&envelope);
            by_store.entry(to).or_default().push(envelope);
        }
        for (to, envelopes) in by_store {
            let frames = wire::encode_frames(&envelopes, FRAME_MAX);
            sent.frames.extend(frames.into_iter().map(|frame| (to, frame)));
        }
        for (to, snapshot) in snapshots {
            *streams_made += 1;
            let stream = *streams_made;
            self.send_snapshot(to, stream, snapshot, now, chunk_size, &mut sent);
        }
        if !apply.is_empty() {
            self.handed_out += 1;
            self.applying.push_back((self.handed_out, apply));
            if !self.applies_apart {
                self.apply(check)?;
            }
        }
        self.tasks.extend(tasks.into_iter().map(|task| (self.handed_out, task)));
        sent.reports = reports;
        sent.doubts = doubts;
        Ok(sent)
    }

    /// Applies what waits longest.
    pub(super) fn apply(&mut self, check: &mut Check) -> Result<(), Ended> {
        let Some((_, round)) = self.applying.pop_front() else { return Ok(()) };
        let store = self.router.store();
        for message in &round {
            if let ApplyMsg::Entries { region, entries, .. } = message {
                check.on_commit(store, *region, entries);
            }
        }
        let applied = self.apply.handle(round).map_err(|error| error.to_string())?;
        check.on_applied(store, &*self.engine, &self.apply);
        if !applied.is_empty() {
            self.messages.push_back(StoreMsg::Applied(applied));
        }
        Ok(())
    }

    /// Writes all that waits for the log.
    pub(super) fn write_log(&mut self, due: Moment) -> Result<(), Ended> {
        let jobs = std::mem::take(&mut self.jobs);
        let mut last = None;
        for job in &jobs {
            last = Some(self.log.write(&job.batch).map_err(|error| format!("{error:?}"))?);
        }
        self.writing = last.map(|written| Writing { due, written, jobs });
        Ok(())
    }

    /// What was written is durable now.
    pub(super) fn sync_log(&mut self) -> Result<(), Ended> {
        let Some(Writing { written, jobs, .. }) = self.writing.take() else { return Ok(()) };
        self.log.sync(&written).map_err(|error| format!("{error:?}"))?;
        for job in jobs {
            self.mailbox.tell(StoreMsg::Synced(job.after_sync));
        }
        Ok(())
    }

    pub(super) fn run_task(&mut self, check: &mut Check) -> Result<(), Ended> {
        let Some((_, task)) = self.tasks.pop_front() else { return Ok(()) };
        let done = task.run(&*self.engine).map_err(|error| error.to_string())?;
        check.on_task(self.router.store(), &done);
        self.mailbox.tell(StoreMsg::Applied(vec![done]));
        Ok(())
    }

    /// Work behind the scenes.
    pub(super) fn tidy(&mut self, local: Moment, rng: &mut Rng) -> Result<(), Ended> {
        match rng.number(0..4) {
            0 => self.engine.flush().map_err(|error| error.to_string())?,
            1 => drop(self.folder.collect(local).map_err(|error| error.to_string())?),
            _ => durable::advance(&*self.engine, &self.log).map_err(|error| error.to_string())?,
        }
        Ok(())
    }

    /// Finishes what it has begun, as far as that goes without anybody else.
    pub(super) fn finish(&mut self, check: &mut Check) -> Result<(), Ended> {
        while !self.applying.is_empty() {
            self.apply(check)?;
        }
        if !self.jobs.is_empty() {
            self.sync_log()?;
            self.write_log(Moment::default())?;
        }
        self.sync_log()?;
        durable::advance(&*self.engine, &self.log).map_err(|error| error.to_string())
    }

    fn send_snapshot(
        &mut self,
        to: StoreId,
        stream: u64,
        snapshot: OutgoingSnapshot,
        now: Moment,
        chunk_size: usize,
        sent: &mut Sent,
    ) {
        let OutgoingSnapshot { envelope, view } = snapshot;
        let Content::Raft(message) = &envelope.content else { return };
        let kiva_raft::Body::Snapshot(described) = &message.body else { return };
        let record = described.data.clone();
        let region = envelope.region;
        let range = meta::decode_region(region, &record).expect("our own record").region.range;
        let meta = Meta { id: Id { region, last: described.last }, range, record };
        let builder = Builder::with_chunk_size(view, meta, chunk_size);
        let until = now + STREAM_PATIENCE;
        self.sending.insert(stream, Sending { builder, envelope, until });
        self.send_next(to, stream, true, sent);
    }

    fn send_next(&mut self, to: StoreId, stream: u64, is_first: bool, sent: &mut Sent) {
        let Some(sending) = self.sending.get_mut(&stream) else { return };
        match sending.builder.next_chunk() {
            Ok(Some(chunk)) => {
                let bytes = chunk.encoded().clone();
                let content = match is_first {
                    true => {
                        let envelope = std::slice::from_ref(&sending.envelope);
                        let frame = wire::encode_frames(envelope, FRAME_MAX).swap_remove(0);
                        PieceContent::First(frame, bytes)
                    }
                    false => PieceContent::Next(bytes),
                };
                sent.pieces.push((to, Piece { stream, content }));
            }
            // The receiver says when it has all of it.
            Ok(None) => {}
            Err(_) => self.end_sending(stream, false),
        }
    }

    fn end_sending(&mut self, stream: u64, arrived: bool) {
        let Some(Sending { envelope, .. }) = self.sending.remove(&stream) else { return };
        let (region, to) = (envelope.region, envelope.to);
        self.inbox.report(&Feedback::SnapshotSent { region, to, arrived });
    }

    /// A part of a snapshot, or an answer to one.
    pub(super) fn on_piece(
        &mut self,
        from: StoreId,
        piece: Piece,
        local: Moment,
        now: Moment,
    ) -> Sent {
        let mut sent = Sent::default();
        let Piece { stream, content } = piece;
        let until = now + STREAM_PATIENCE;
        let answer = match content {
            PieceContent::First(frame, chunk) => {
                let envelope = wire::decode_frame(frame).expect("our own frame").swap_remove(0);
                match self.folder.begin(chunk, local) {
                    Ok(Begun::Present(received)) => {
                        self.inbox.deliver_snapshot(envelope, received);
                        PieceContent::Whole
                    }
                    Ok(Begun::Receiving(receiver)) => {
                        self.receiving.insert(stream, Receiving { receiver, envelope, until });
                        PieceContent::Taken
                    }
                    Err(_) => PieceContent::Refused,
                }
            }
            PieceContent::Next(chunk) => {
                let Some(mut receiving) = self.receiving.remove(&stream) else { return sent };
                match receiving.receiver.on_chunk(chunk, local) {
                    Ok(Some(received)) => {
                        self.inbox.deliver_snapshot(receiving.envelope, received);
                        PieceContent::Whole
                    }
                    Ok(None) => {
                        receiving.until = until;
                        self.receiving.insert(stream, receiving);
                        PieceContent::Taken
                    }
                    Err(_) => PieceContent::Refused,
                }
            }
            PieceContent::Taken => {
                self.sending.entry(stream).and_modify(|sending| sending.until = until);
                self.send_next(from, stream, false, &mut sent);
                return sent;
            }
            PieceContent::Whole => {
                self.end_sending(stream, true);
                return sent;
            }
            PieceContent::Refused => {
                self.end_sending(stream, false);
                return sent;
            }
        };
        sent.pieces.push((from, Piece { stream, content: answer }));
        sent
    }

    /// Gives up snapshots that stand still.
    pub(super) fn break_streams(&mut self, now: Moment) {
        self.receiving.retain(|_, receiving| receiving.until > now);
        let broken: Vec<_> =
            self.sending.iter().filter(|(_, it)| it.until <= now).map(|(id, _)| *id).collect();
        broken.into_iter().for_each(|stream| self.end_sending(stream, false));
    }
}
