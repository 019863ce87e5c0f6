//! What is measured, by a name that fits on a command line.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::{Group, Pace, kiva, raft_rs};

/// Which library does the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    /// This crate.
    Kiva,
    /// Crate `raft` 0.7.
    RaftRs,
}

impl Library {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kiva, Self::RaftRs];

    fn group(self, voters: u64, pace: Pace) -> Box<dyn Group> {
        match self {
            Self::Kiva => Box::new(kiva::group(voters, pace)),
            Self::RaftRs => Box::new(raft_rs::Group::new(voters, pace)),
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kiva => "kiva",
            Self::RaftRs => "raft-rs",
        })
    }
}

impl FromStr for Library {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|library| library.to_string() == text);
        known.ok_or_else(|| format!("no library is called `{text}`"))
    }
}

/// A kind of operation that can be repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// A proposal of `bytes`, from [`Group::bursts`] of `burst` in a group of `voters`.
    Propose {
        /// Members of the group.
        voters: u64,
        /// Proposals at once.
        burst: u64,
        /// Size of a command.
        bytes: usize,
    },
    /// A tick of an idle follower.
    FollowerTick,
    /// A tick of an idle leader.
    LeaderTick,
    /// "What is there to do?", when there is nothing.
    Question,
    /// A round of heartbeats in a group of three.
    Heartbeats,
}

impl Job {
    /// Everything, in the order of the tables.
    pub fn all() -> Vec<Self> {
        let mut jobs = Vec::new();
        for voters in [1, 3, 5] {
            for burst in [1, 64] {
                for bytes in [16, 256, 4096] {
                    jobs.push(Self::Propose { voters, burst, bytes });
                }
            }
        }
        jobs.extend([Self::FollowerTick, Self::LeaderTick, Self::Question, Self::Heartbeats]);
        jobs
    }

    /// How many operations are worth a measurement: bursts of 64 fit into it, and the logs, which
    /// are cut every 10,000 entries, are cut once.
    pub fn count(self) -> u64 {
        match self {
            Self::Propose { .. } => 10_240,
            Self::Heartbeats => 20_000,
            Self::FollowerTick | Self::LeaderTick | Self::Question => 2_000_000,
        }
    }

    /// Gets everything ready for [`Work::run`].
    pub fn prepare(self, library: Library) -> Work {
        let (voters, pace) = match self {
            Self::Propose { voters, .. } => (voters, Pace::Usual),
            Self::Heartbeats => (3, Pace::Usual),
            Self::FollowerTick | Self::LeaderTick | Self::Question => (3, Pace::Idle),
        };
        let size = match self {
            Self::Propose { bytes, .. } => bytes,
            _ => 256,
        };
        let mut group = library.group(voters, pace);
        let command = Bytes::from(vec![7; size]);
        // What is allocated once is allocated now.
        group.bursts(2, 64, &command);
        Work { group, job: self, command }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Propose { voters, burst, bytes } => write!(f, "propose/{voters}/{burst}/{bytes}"),
            Self::FollowerTick => f.write_str("follower-tick"),
            Self::LeaderTick => f.write_str("leader-tick"),
            Self::Question => f.write_str("question"),
            Self::Heartbeats => f.write_str("heartbeats"),
        }
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::all().into_iter().find(|job| job.to_string() == text);
        known.ok_or_else(|| format!("no job is called `{text}`"))
    }
}

/// A job with a group to do it on.
pub struct Work {
    group: Box<dyn Group>,
    job: Job,
    command: Bytes,
}

impl Work {
    /// Does the operation `count` times.
    pub fn run(&mut self, count: u64) {
        match self.job {
            Job::Propose { burst, .. } => {
                let before = self.group.applied();
                self.group.bursts(count / burst, burst, &self.command);
                let applied = self.group.applied() - before;
                assert_eq!(applied, count / burst * burst, "every proposal is applied");
            }
            Job::FollowerTick => self.group.ticks(1, count),
            Job::LeaderTick => self.group.ticks(0, count),
            Job::Question => self.group.questions(count),
            Job::Heartbeats => self.group.heartbeats(count),
        }
    }

    /// Messages that were delivered so far.
    pub fn messages(&self) -> u64 {
        self.group.messages()
    }
}
