//! Planned changes of regions, as lists of small steps.
//!
//! An operator is what is to become of one region: a [`Plan`] says what, [`Plan::steps`] says how,
//! one [`Step`] at a time. The leader of the region takes a step through its own log; what it then
//! reports shows that the step is done, and the next one is due.
//!
//! ```text
//!   replace a peer of {A, B, C} by one on D
//!
//!   add learner D      {A, B, C, d}     D receives a snapshot and the log; nothing rests on it
//!   evict C            {A, B, C, d}     if C leads, A or B takes over
//!   swap D and C       {A, B, c, D}     at one moment: there are always three that count
//!   remove C           {A, B, D}
//! ```
//!
//! What is always true:
//!
//! - At every moment of an operator as many peers can be relied on as a majority needs, if it was
//!   so before.
//! - An operator ends: done, given up after the time of its step, or cancelled because the region
//!   has changed in a way that it does not explain.
//!
//! Nothing of this is saved. After a restart the checks look at the region as it is, and go on from
//! there.

mod plan;
mod step;

use std::fmt;

use kiva_base::{Moment, RegionId, StoreId};

use crate::cluster::Cluster;
use crate::regions::RegionReport;

pub(crate) use plan::keeps_majority;
pub use plan::{Plan, Unfit, Wanted, WantedKind};
pub use step::{Action, Instruction, PeerChange, Step};

/// Who wants an operator. The later replaces the earlier, not the other way round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A check has found something wrong.
    Check,
    /// Somebody has asked for it.
    Hand,
}

/// How far an operator is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It goes on.
    Running,
    /// All steps are done.
    Success,
    /// A step has taken too long.
    Timeout,
    /// The region has changed otherwise, or is no more.
    Cancelled,
    /// A more important one has come.
    Replaced,
}

/// A planned change of a region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// Of which region.
    pub region: RegionId,
    /// Why, in a word.
    pub description: &'static str,
    /// Who wants it.
    pub origin: Origin,
    /// The version of the region's peers that it was planned on.
    conf_ver: u64,
    steps: Vec<Step>,
    /// How many steps are done.
    done: usize,
    created: Moment,
    /// When the current step became due.
    began: Moment,
}

impl Operator {
    /// An operator that begins now, for a region as it is.
    pub fn new(
        report: &RegionReport,
        description: &'static str,
        origin: Origin,
        steps: Vec<Step>,
        now: Moment,
    ) -> Self {
        Self {
            region: report.region.id,
            description,
            origin,
            conf_ver: report.region.epoch.conf_ver,
            steps,
            done: 0,
            created: now,
            began: now,
        }
    }

    /// All steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many of them are done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// When it began.
    pub fn created(&self) -> Moment {
        self.created
    }

    /// The step that is due; `None` when all are done.
    pub fn step(&self) -> Option<&Step> {
        self.steps.get(self.done)
    }

    /// The store that is to get data from it.
    pub fn arriving(&self) -> Option<StoreId> {
        self.steps.get(self.done..)?.iter().find_map(Step::arriving)
    }

    /// Takes note of how the region is now; `None` when it is no more.
    pub fn advance(&mut self, report: Option<&RegionReport>, now: Moment) -> Status {
        let Some(report) = report else {
            return Status::Cancelled;
        };
        while let Some(step) = self.step()
            && step.is_done(report)
        {
            self.done += 1;
            self.began = now;
        }
        // Steps that are done, and the one that is due, may have raised it; nothing else should.
        let explained: u64 = self.steps.iter().take(self.done + 1).map(Step::conf_changes).sum();
        let Some(step) = self.step() else {
            return Status::Success;
        };
        let raised = report.region.epoch.conf_ver.saturating_sub(self.conf_ver);
        if raised > explained || !step.is_possible(report) {
            return Status::Cancelled;
        }
        if now.since(self.began) >= step.timeout() {
            return Status::Timeout;
        }
        Status::Running
    }

    /// What to tell the leader now; `None` when it only has to go on, when nobody leads, and when
    /// the step has to wait for others to come back, because it would cost the majority.
    pub fn instruction(&self, report: &RegionReport, cluster: &Cluster) -> Option<Instruction> {
        let step = self.step().filter(|step| step.is_safe(report, cluster))?;
        let action = step.action(report)?;
        Some(Instruction {
            region: self.region,
            epoch: report.region.epoch,
            leader: report.leader?,
            action,
        })
    }
}

/// For people: why, and the steps with a mark on those that are done.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {}: {}", self.region, self.description)?;
        for (position, step) in self.steps.iter().enumerate() {
            let mark = if position < self.done { "done: " } else { "" };
            write!(f, "{} {mark}{step}", if position == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
