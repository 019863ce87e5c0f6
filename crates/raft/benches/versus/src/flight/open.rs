//! Crate `openraft` with a log in memory, a state machine that counts, and calls for a network.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::{InlineBatch, OneshotResponder, TokioRuntime};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::type_config::alias::{
    DefaultEntryOf, EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::{
    AnyError, Config, EntryPayload, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2,
    RaftTypeConfig, SnapshotPolicy, Vote,
};

/// An election timeout that never ends within a measurement, in milliseconds: a runtime that
/// stands still while the other one is measured is no reason to elect anybody.
const CALM_MS: u64 = 3_600_000;

/// A command, which openraft wants to be able to print.
#[derive(Clone, Debug)]
pub(super) struct Command(Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = ();
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, ()>;
    type Entry = DefaultEntryOf<Self>;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type AsyncRuntime = TokioRuntime;
    type ErrorSource = AnyError;
}

type Member = Raft<Types, Counter>;

#[derive(Clone)]
pub(super) struct Cluster {
    leader: Member,
}

impl Cluster {
    /// Starts three nodes and waits for the first to lead.
    pub(super) async fn start() -> Self {
        let config = Config {
            election_timeout_min: CALM_MS,
            election_timeout_max: 2 * CALM_MS,
            heartbeat_interval: 1000,
            max_payload_entries: 1024,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("the settings agree"));
        let table = Table::default();
        let ids: BTreeSet<u64> = (0..3).collect();
        for &id in &ids {
            let (log, counter) = (Log::default(), Counter::default());
            let member = Raft::new(id, Arc::clone(&config), table.clone(), log, counter)
                .await
                .expect("an empty log can be read");
            table.members().push(member);
        }
        let leader = table.members()[0].clone();
        leader.initialize(ids).await.expect("a new group can be made");
        let patience = Some(Duration::from_secs(10));
        leader.wait(patience).current_leader(0, "the first leads").await.expect("it is elected");
        Self { leader }
    }

    /// Returns when the command is applied.
    pub(super) async fn propose(&self, command: Bytes) {
        self.leader.client_write(Command(command)).await.expect("the first node leads");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who there is, by number.
#[derive(Clone, Default)]
struct Table {
    members: Arc<Mutex<Vec<Member>>>,
}

impl Table {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        lock(&self.members)
    }
}

impl RaftNetworkFactory<Types> for Table {
    type Network = Line;

    async fn new_client(&mut self, target: u64, _: &()) -> Line {
        Line { target: self.members()[target as usize].clone() }
    }
}

/// The way to one member: a call.
struct Line {
    target: Member,
}

impl RaftNetworkV2<Types> for Line {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.target.append_entries(request).await.map_err(|error| Unreachable::new(&error).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.target.vote(request).await.map_err(|error| Unreachable::new(&error).into())
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types>,
        _: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        unreachable!("the whole log is kept")
    }
}

/// A log in memory: entry 0 is the first.
#[derive(Clone, Default)]
struct Log {
    shared: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    vote: Option<VoteOf<Types>>,
    entries: Vec<EntryOf<Types>>,
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<EntryOf<Types>>, io::Error> {
        let kept = lock(&self.shared);
        let length = kept.entries.len();
        let start = match range.start_bound() {
            Bound::Included(&first) => first as usize,
            Bound::Excluded(&before) => before as usize + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last as usize + 1,
            Bound::Excluded(&end) => end as usize,
            Bound::Unbounded => length,
        };
        Ok(kept.entries[start.min(length)..end.min(length)].to_vec())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        Ok(lock(&self.shared).vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let last_log_id = lock(&self.shared).entries.last().map(RaftEntry::log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        lock(&self.shared).vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        lock(&self.shared).entries.extend(entries);
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        let kept = last.map_or(0, |last| last.index() as usize + 1);
        lock(&self.shared).entries.truncate(kept);
        Ok(())
    }

    async fn purge(&mut self, _: LogIdOf<Types>) -> Result<(), io::Error> {
        unreachable!("the whole log is kept")
    }
}

/// A state machine that knows how far it is.
#[derive(Clone, Default)]
struct Counter {
    shared: Arc<Mutex<Applied>>,
}

#[derive(Clone, Default)]
struct Applied {
    last: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
}

impl RaftStateMachine<Types> for Counter {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>), io::Error> {
        let applied = lock(&self.shared).clone();
        Ok((applied.last, applied.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            {
                let mut applied = lock(&self.shared);
                applied.last = Some(entry.log_id);
                if let EntryPayload::Membership(members) = entry.payload {
                    applied.membership = StoredMembershipOf::<Types>::new(applied.last, members);
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMetaOf<Types>,
        (): (),
    ) -> Result<(), io::Error> {
        unreachable!("the whole log is kept")
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, ()>>, io::Error> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for Counter {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, ()>, io::Error> {
        unreachable!("the whole log is kept")
    }
}
