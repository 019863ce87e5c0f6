//! Handing leadership over (thesis §3.10).
//!
//! The target is brought up to date, told to campaign at once, and elected by voters that need
//! not defend the old leader. Nothing is proposed meanwhile, or it would never be up to date.
//!
//! A lease ends before that: the target's election ignores it. If the transfer is abandoned, the
//! message that tells the target may still be under way, for as long as messages are, and the
//! target, or the voters it asks, may have restarted and forgotten what they heard. So the message
//! names a round that no question reaches while the transfer lasts, the request for votes repeats
//! it, and questions go on beyond it when the transfer is abandoned. Whoever answers one of those
//! neither campaigns nor votes for that handover any more, and a lease needs the answers of a
//! quorum. A node that restarted keeps out of handovers until its promises of before have run out.

use super::Leader;
use crate::error::TransferError;
use crate::flaw::Flaw;
use crate::id::NodeId;
use crate::message::{Body, Round};
use crate::state::State;

/// A handover under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) target: NodeId,
    elapsed: u32,
    /// The round with which the target was told to campaign.
    told: Option<Round>,
}

impl Leader {
    /// To whom leadership is being handed.
    pub(crate) fn transfer_target(&self) -> Option<NodeId> {
        self.transfer.as_ref().map(|transfer| transfer.target)
    }

    /// Begins to hand over; another target replaces the one before, and this node itself ends it.
    pub(crate) fn transfer(
        &mut self,
        state: &mut State,
        target: NodeId,
    ) -> Result<(), TransferError> {
        if target == state.id() {
            self.abandon_transfer();
            return Ok(());
        }
        let is_voter = state.membership.is_voter(target);
        let position = self.find(target).filter(|_| is_voter);
        let position = position.ok_or(TransferError::NotVoter { target })?;
        if self.transfer_target() == Some(target) {
            return Ok(());
        }
        self.abandon_transfer();
        self.transfer = Some(Transfer { target, elapsed: 0, told: None });
        self.has_news = true;
        if self.progress[position].matched == state.log.last().index {
            self.on_caught_up(state, position);
        }
        Ok(())
    }

    /// This member has everything. Tells it to campaign if it is to lead.
    pub(super) fn on_caught_up(&mut self, state: &mut State, position: usize) {
        let id = self.progress[position].id;
        let Some(transfer) = &mut self.transfer else { return };
        if transfer.target == id && transfer.told.is_none() {
            let round = match state.config.flaws.has(Flaw::HandoverForEver) {
                true => Round(u64::MAX),
                false => self.rounds.beyond_handover(),
            };
            transfer.told = Some(round);
            state.send(id, Body::TimeoutNow { round });
        }
    }

    /// Gives up a transfer that takes longer than an election.
    pub(super) fn tick_transfer(&mut self, election_ticks: u32) {
        let Some(transfer) = &mut self.transfer else { return };
        transfer.elapsed += 1;
        if transfer.elapsed >= election_ticks {
            self.abandon_transfer();
        }
    }

    /// Gives up a transfer to somebody who is no voter any more.
    pub(super) fn abandon_transfer_to_others(&mut self, state: &State) {
        if self.transfer_target().is_some_and(|target| !state.membership.is_voter(target)) {
            self.abandon_transfer();
        }
    }

    fn abandon_transfer(&mut self) {
        let Some(transfer) = self.transfer.take() else { return };
        if let Some(round) = transfer.told {
            // A round for ever is a bug that was put in on purpose.
            if round < Round(u64::MAX) {
                self.rounds.pass(round);
            }
        }
    }
}
