//! What consensus asks for, as work of the round.

use std::sync::PoisonError;

use kiva_base::{KeyRange, Peer as PeerName};
use kiva_raft::{Body, LogWrite, Message, ProgressStatus, ReadOutcome, Ready};

use super::{Followers, Peer, Phase};
use crate::apply::ApplyMsg;
use crate::flaw::Flaw;
use crate::meta;
use crate::options::Options;
use crate::placement::RegionReport;
use crate::store::{AfterSync, Outbox};
use crate::task::Task;
use crate::transport::{Content, Envelope, OutgoingSnapshot};

impl Peer {
    /// Ends the peer's part of a round: what clients asked for goes into the log, and what
    /// consensus wants done into `out`. Calling it again right away does nothing.
    pub(crate) fn end_round(&mut self, options: &Options, out: &mut Outbox) {
        if self.is_doomed() {
            return;
        }
        self.propose_gathered(options);
        self.ask_reads();
        let mut messages = Vec::new();
        while let Some(ready) = self.node.ready() {
            let Ready { messages: free, committed, write, reads, change } = ready;
            messages.extend(free);
            if change.is_some() {
                self.clock.until_report = 0;
            }
            if let Some(write) = write {
                self.write(write, out);
            }
            if !committed.is_empty() {
                let promises = committed.iter().filter_map(|entry| {
                    let promises = self.proposals.take(entry.id());
                    (!promises.is_empty()).then_some((entry.index, promises))
                });
                let promises = promises.collect();
                out.apply.push(ApplyMsg::Entries {
                    region: self.region,
                    entries: committed,
                    promises,
                });
            }
            reads.into_iter().for_each(|outcome| self.on_read(outcome));
        }
        // Readers are told first: a message may end the lease they rest on.
        self.publish();
        self.serve_reads();
        self.send(messages, out);
        self.save_commit(out);
        self.take_leave(options, out);
        if self.node.is_leader() && self.may_dismiss() {
            self.maybe_report(options, out);
        }
    }

    fn write(&mut self, write: LogWrite, out: &mut Outbox) {
        if let Phase::Installing(waiting) = &mut self.phase {
            waiting.push_back(write);
            return;
        }
        let Some(snapshot) = &write.snapshot else {
            self.log(write, out);
            return;
        };
        let (last, file) = self.incoming.take().expect("a snapshot is stepped with its data");
        assert_eq!(last, snapshot.last, "the snapshot of region {} and its data", self.region);
        let record = meta::decode_region(self.region, &snapshot.data)
            .expect("checked when the snapshot arrived");
        let had = self.record.as_ref().map(|record| record.region.range.clone());
        let clear: Vec<KeyRange> = had.into_iter().collect();
        self.phase = Phase::Installing([write].into());
        out.tasks.push(Task::Install {
            record: record.into(),
            last,
            file,
            clear,
            flaws: self.flaws,
        });
    }

    /// One write of this peer into the round's write of the store.
    pub(super) fn log(&mut self, write: LogWrite, out: &mut Outbox) {
        out.log.add(self.region, &write);
        if self.flaws.has(Flaw::AcknowledgeBeforeSync) {
            let opened = self.node.on_synced(write.synced());
            self.send(opened, out);
            return;
        }
        out.after_sync.push(AfterSync::Receipt {
            region: self.region,
            peer: self.name,
            receipt: write.synced(),
        });
    }

    pub(super) fn send(&mut self, messages: Vec<Message>, out: &mut Outbox) {
        let epoch = self.epoch();
        for message in messages {
            let Some(message) = self.hold_back(message) else { continue };
            let Some(to) = self.peer_of(message.to) else {
                tracing::debug!(
                    region_id = self.region.get(),
                    peer_id = self.name.id.get(),
                    to = message.to.get(),
                    "a message to nobody we know"
                );
                continue;
            };
            self.address(to, message, epoch, out);
        }
    }

    fn address(
        &mut self,
        to: PeerName,
        message: Message,
        epoch: kiva_base::Epoch,
        out: &mut Outbox,
    ) {
        let described = match &message.body {
            Body::Snapshot(snapshot) => Some(snapshot.last),
            _ => None,
        };
        let envelope = Envelope {
            region: self.region,
            from: self.name,
            to,
            epoch,
            content: Content::Raft(message),
        };
        let Some(last) = described else {
            out.envelopes.push((to.store, envelope));
            return;
        };
        let view = {
            let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
            common.view.take_if(|(at, _)| *at == last)
        };
        match view {
            Some((_, view)) => {
                out.snapshots.push((to.store, OutgoingSnapshot { envelope, view }));
            }
            // A second follower needed one in the same round, from a newer view.
            None => self.report_snapshot(to, false),
        }
    }

    fn on_read(&mut self, outcome: ReadOutcome) {
        let (context, index) = match outcome {
            ReadOutcome::Confirmed { context, index } => (context, Some(index)),
            ReadOutcome::Refused { context } => (context, None),
        };
        let refusal = self.not_leader();
        self.reads.on_answer(&context, index, &refusal);
    }

    /// Reports the region when it is time, or when somebody fell behind, caught up, fell silent or
    /// came back.
    fn maybe_report(&mut self, options: &Options, out: &mut Outbox) {
        let is_due = self.clock.until_report == 0;
        let look = self.clock.look(options.election_ticks);
        if !is_due && !look && self.told.pending.is_empty() {
            return;
        }
        let Some(record) = self.record.clone() else { return };
        let followers = self.followers(look);
        if !is_due && followers == self.told {
            return;
        }
        self.clock.until_report = options.report_ticks;
        let for_seconds = |peer: &PeerName| {
            let since = self.silent.iter().find(|(silent, _)| silent == peer);
            let ticks = since.map_or(0, |(_, since)| self.clock.count - since);
            (options.tick * u32::try_from(ticks).unwrap_or(u32::MAX)).as_secs()
        };
        let down = followers.down.iter().map(|peer| (*peer, for_seconds(peer))).collect();
        // As it is listed now: it may have come as a learner.
        let leader = record.region.peers.iter().find(|peer| peer.id == self.name.id);
        let leader = leader.copied().unwrap_or(self.name);
        out.reports.push(RegionReport {
            record,
            leader,
            term: kiva_base::Term(self.node.term().0),
            down,
            pending: followers.pending.clone(),
            approximate_size: 0,
        });
        self.told = followers;
    }

    /// Who is behind, and, after a `look`, who has been silent at this one and the one before.
    fn followers(&mut self, look: bool) -> Followers {
        let status = self.node.status();
        let others = status.progress.iter().filter(|progress| progress.id != status.id);
        let named = |progress: &ProgressStatus| self.peer_of(progress.id);
        let behind =
            others.clone().filter(|progress| progress.matched < self.state.truncated.index);
        let pending = behind.filter_map(named).collect();
        if !look {
            return Followers { down: self.told.down.clone(), pending };
        }
        let before = |peer: &PeerName| self.silent.iter().find(|(silent, _)| silent == peer);
        let silent = others.filter(|progress| !progress.is_active).filter_map(named);
        let silent: Vec<_> = silent
            .map(|peer| (peer, before(&peer).map_or(self.clock.count, |(_, since)| *since)))
            .collect();
        let down = silent.iter().map(|(peer, _)| *peer).filter(|peer| before(peer).is_some());
        let down = down.collect();
        self.silent = silent;
        Followers { down, pending }
    }
}
