//! What clients and the scheduler ask of a peer.

use bytes::Bytes;
use kiva_base::{Region, RegionError, RegionId};
use kiva_raft::{
    EntryId, Index, MembershipChange, ProposeError as RaftError, Proposed, ReadError, TransferError,
};

use super::{Peer, ReadWaiter, Reads};
use crate::command::{ChangePeers, Command, PeerChange, WriteEntry};
use crate::flaw::Flaw;
use crate::limits::MERGED_WRITES_MAX;
use crate::meta::node_id;
use crate::options::Options;
use crate::proposal::{Promise, ProposeError, Write};
use crate::store::{Admin, AdminCommand, Read};

impl Peer {
    /// Takes a write into this round.
    pub(crate) fn gather(&mut self, write: Write) {
        match self.check_write(&write) {
            Ok(()) if self.flaws.has(Flaw::GuardReleasedEarly) => {
                self.gathered.push(Write { guard: Box::new(()), ..write });
            }
            Ok(()) => self.gathered.push(write),
            Err(refusal) => Promise::new(write.waiter, write.guard).resolve(Err(refusal.into())),
        }
    }

    fn check_write(&self, write: &Write) -> Result<(), RegionError> {
        if self.is_follower() {
            return Err(self.not_leader());
        }
        if write.term.0 != self.node.term().0 && !self.flaws.has(Flaw::TermUnchecked) {
            return Err(RegionError::StaleCommand);
        }
        let record = self.record.as_ref().expect("a leader has data");
        if write.version != record.region.epoch.version {
            return Err(RegionError::EpochNotMatch {
                current: vec![Region::clone(&record.region)],
            });
        }
        Ok(())
    }

    /// Merges the writes of this round into entries.
    pub(super) fn propose_gathered(&mut self, _options: &Options) {
        let mut writes = std::mem::take(&mut self.gathered).into_iter().peekable();
        while let Some(first) = writes.next() {
            let version = first.version;
            let mut size = first.batch.size();
            let mut entry = WriteEntry::new(version, size);
            entry.push(first.batch.as_bytes());
            let mut promises = vec![Promise::new(first.waiter, first.guard)];
            while let Some(next) =
                writes.next_if(|next| size + next.batch.size() <= MERGED_WRITES_MAX)
            {
                size += next.batch.size();
                entry.push(next.batch.as_bytes());
                promises.push(Promise::new(next.waiter, next.guard));
            }
            let proposed = self.node.propose(entry.finish());
            self.keep(proposed, promises);
        }
    }

    fn keep(&mut self, proposed: Result<Proposed, RaftError>, promises: Vec<Promise>) {
        match proposed {
            Ok(Proposed::Appended(entry)) => {
                self.proposals.push(entry, self.clock.count, promises);
            }
            Ok(Proposed::Forwarded { .. }) => unreachable!("forwarding is off"),
            Err(error) => {
                let refusal = self.refusal(error);
                promises.into_iter().for_each(|promise| {
                    promise.resolve(Err(refusal.clone().into()));
                });
            }
        }
    }

    fn refusal(&self, error: RaftError) -> RegionError {
        match error {
            RaftError::NotLeader { .. } => self.not_leader(),
            RaftError::TransferInProgress { .. } => {
                RegionError::ServerIsBusy { reason: "leadership is being handed over".into() }
            }
            RaftError::TooLarge { size, max } => RegionError::EntryTooLarge {
                region: self.region,
                size: size as u64,
                limit: max as u64,
            },
            RaftError::TooManyUncommitted { bytes, .. } => RegionError::ServerIsBusy {
                reason: format!("{bytes} bytes wait for the other replicas"),
            },
            RaftError::ChangePending { .. } | RaftError::Membership(_) => {
                RegionError::Other(error.to_string())
            }
        }
    }

    /// What is said to somebody who took this peer for the leader.
    pub(super) fn not_leader(&self) -> RegionError {
        let leader = self.node.leader().filter(|id| *id != self.node.id());
        RegionError::NotLeader {
            region: self.region,
            leader: leader.and_then(|id| self.peer_of(id)),
        }
    }

    pub(super) fn refuse_gathered(&mut self, refusal: &RegionError) {
        for write in self.gathered.drain(..) {
            Promise::new(write.waiter, write.guard).resolve(Err(refusal.clone().into()));
        }
    }

    /// Changes the group, or says why not.
    pub(crate) fn admin(&mut self, admin: Admin) {
        let Admin { epoch, command, waiter } = admin;
        let promise = Promise::new(waiter, Box::new(()));
        if self.is_follower() {
            promise.resolve(Err(self.not_leader().into()));
            return;
        }
        let record = self.record.clone().expect("a leader has data");
        let region = &record.region;
        if epoch != region.epoch {
            let current = vec![Region::clone(region)];
            promise.resolve(Err(RegionError::EpochNotMatch { current }.into()));
            return;
        }
        match command {
            AdminCommand::TransferLeader(to) => promise.resolve(self.transfer(to)),
            AdminCommand::ChangePeers(changes) => {
                if self.removes_itself(&changes) {
                    promise.resolve(Err(self.hand_over_first().into()));
                    return;
                }
                let asked = ChangePeers { conf_ver: epoch.conf_ver, changes };
                let change = MembershipChange::new(asked.to_raft(), asked.encode());
                let proposed = self.node.propose_membership(change);
                self.keep(proposed, vec![promise]);
                self.node.announce_commit();
            }
        }
    }

    fn transfer(&mut self, to: kiva_base::Peer) -> Result<(), ProposeError> {
        let refuse = |reason: String| Err(RegionError::Other(reason).into());
        let progress = self.node.status().progress;
        let target = progress.iter().find(|progress| progress.id == node_id(to.id));
        if let Some(target) = target
            && target.matched < self.state.truncated.index
        {
            return refuse(format!("peer {} is still being sent a snapshot", to.id));
        }
        match self.node.transfer_leadership(node_id(to.id)) {
            Ok(()) => Ok(()),
            Err(TransferError::NoLeader) => Err(self.not_leader().into()),
            Err(TransferError::NotVoter { .. }) => {
                refuse(format!("peer {} is no voter of region {}", to.id, self.region))
            }
        }
    }

    fn removes_itself(&self, changes: &[PeerChange]) -> bool {
        changes.iter().any(|change| match change {
            PeerChange::Remove(peer) => peer.id == self.name.id,
            PeerChange::Add(peer) => {
                peer.id == self.name.id && peer.role != kiva_base::PeerRole::Voter
            }
        })
    }

    /// A leader does not remove itself: of a group of two the other one might never hear that it
    /// is alone now. It hands over, and whoever asked repeats it there.
    fn hand_over_first(&mut self) -> RegionError {
        let progress = self.node.status().progress;
        let target = progress
            .iter()
            .filter(|progress| progress.id != self.node.id())
            .filter(|progress| !progress.is_learner && progress.is_active)
            .max_by_key(|progress| progress.matched);
        if let Some(target) = target
            && self.node.transfer_leadership(target.id).is_ok()
        {
            let leader = self.peer_of(target.id);
            return RegionError::NotLeader { region: self.region, leader };
        }
        RegionError::Other("the leader cannot be removed while nobody else can lead".into())
    }

    /// Lets the log go up to where everybody is, or where it has become too long for those who
    /// are behind: a snapshot serves them better.
    pub(super) fn maybe_compact_log(&mut self, options: &Options) {
        let (truncated, applied) = (self.state.truncated, self.state.applied);
        let status = self.node.status();
        let slowest = status
            .progress
            .iter()
            .filter(|progress| progress.is_active || progress.id == status.id)
            .map(|progress| progress.matched)
            .min()
            .unwrap_or(applied.index);
        let bound = Index(applied.index.0.saturating_sub(options.log_entries_max));
        let upto = slowest.max(bound).min(applied.index);
        if upto.since(truncated.index) < options.log_entries_max.min(LOG_ENTRIES_WORTH) {
            return;
        }
        let Some(term) = self.node.term_at(upto) else { return };
        // Refused when it cannot be appended now; the next time will do.
        let _ = self.node.propose(Command::compact_log(EntryId::new(term, upto)));
    }

    /// Asks whether this peer, or its leader, still leads.
    pub(crate) fn read(&mut self, read: Read) {
        if self.is_follower() && !read.by_any_replica {
            let _ = read.waiter.send(Err(self.not_leader()));
            return;
        }
        self.reads.asked.push(read.waiter);
    }

    /// One question for all reads of this round.
    pub(super) fn ask_reads(&mut self) {
        if self.reads.asked.is_empty() {
            return;
        }
        let asked = std::mem::take(&mut self.reads.asked);
        if self.flaws.has(Flaw::ReadUnconfirmed) && self.node.is_leader() {
            let index = self.node.status().hard_state.commit;
            self.reads.confirmed.extend(asked.into_iter().map(|waiter| (index, waiter)));
            return;
        }
        self.reads.next += 1;
        let number = self.reads.next;
        let context = Bytes::copy_from_slice(&number.to_be_bytes());
        match self.node.read_index(context) {
            Ok(()) => {
                self.reads.open.insert(number, (self.clock.count, asked));
            }
            Err(ReadError::NoLeader) => refuse(asked, &self.not_leader()),
            Err(error @ ReadError::TooManyWaiting { .. }) => {
                refuse(asked, &RegionError::ServerIsBusy { reason: error.to_string() });
            }
        }
    }

    /// Lets those read whose index is applied.
    pub(super) fn serve_reads(&mut self) {
        let applied = match self.flaws.has(Flaw::ReadBeforeApplied) {
            true => Index::MAX,
            false => self.state.applied.index,
        };
        for (_, waiter) in self.reads.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            let _ = waiter.send(Ok(()));
        }
    }
}

/// Entries that make truncating worth an entry of its own.
const LOG_ENTRIES_WORTH: u64 = 50;

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.open.is_empty() && self.confirmed.is_empty()
    }

    pub(super) fn on_answer(
        &mut self,
        context: &[u8],
        index: Option<Index>,
        refusal: &RegionError,
    ) {
        let number = <[u8; 8]>::try_from(context).map(u64::from_be_bytes);
        let Some((_, waiters)) = number.ok().and_then(|number| self.open.remove(&number)) else {
            return;
        };
        match index {
            Some(index) => {
                self.confirmed.extend(waiters.into_iter().map(|waiter| (index, waiter)));
            }
            None => refuse(waiters, refusal),
        }
    }

    /// Questions of followers may be lost on the way, and their answers too.
    pub(super) fn give_up(&mut self, born: u64, region: RegionId) {
        while let Some(first) = self.open.first_entry()
            && first.get().0 < born
        {
            let (_, waiters) = first.remove();
            refuse(waiters, &RegionError::NotLeader { region, leader: None });
        }
    }

    pub(super) fn refuse_all(&mut self, refusal: &RegionError) {
        refuse(self.asked.drain(..), refusal);
        refuse(self.confirmed.drain(..).map(|(_, waiter)| waiter), refusal);
        while let Some((_, (_, waiters))) = self.open.pop_first() {
            refuse(waiters, refusal);
        }
    }
}

fn refuse(waiters: impl IntoIterator<Item = ReadWaiter>, refusal: &RegionError) {
    waiters.into_iter().for_each(|waiter| {
        let _ = waiter.send(Err(refusal.clone()));
    });
}
