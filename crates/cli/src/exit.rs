//! How a command ends: the exit status, and what a person reads when it is not zero.
//!
//! | status | means |
//! |---|---|
//! | 0 | done |
//! | 1 | answered with a refusal, or not found |
//! | 2 | usage: the command line or a configuration is wrong |
//! | 3 | nobody could be reached, or time ran out; nothing was changed |
//! | 4 | the outcome is unknown: it may have happened |

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use kiva_client::{CommitError, ConnectError, RawError, ReadError, SchedulerError};

/// Why a process ended. The numbers are part of the interface: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Everything that was asked for is done.
    Done = 0,
    /// A correct answer that says no, or that there is nothing.
    Refused = 1,
    /// The command line or a configuration is wrong.
    Usage = 2,
    /// Nobody was reached, or time ran out; nothing was changed.
    Unreachable = 3,
    /// It may have happened.
    Unknown = 4,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// A command that did not do what it was asked, in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) status: Status,
    /// What happened; empty when there is nothing to say, as when the reader of a pipe left.
    pub(crate) message: String,
    /// What to do about it, if we know.
    pub(crate) advice: Option<String>,
}

/// What to do when nobody answers.
const REACH: &str = "is the cluster running? `kiva playground` starts one; --schedulers names the \
                     client addresses of another";
/// What to do when time ran out on the way.
const WAIT: &str = "see `kiva ctl store list` and `kiva ctl region list`, or allow more time with \
                    --timeout";
/// What to do when nobody knows.
const READ: &str = "read the keys concerned to find out, before writing them again";

impl Failure {
    /// A correct answer that says no.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self::new(Status::Refused, message)
    }

    /// The command line or a configuration is wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Status::Usage, message)
    }

    /// Ends with `status`.
    pub(crate) fn new(status: Status, message: impl Display) -> Self {
        Self { status, message: message.to_string(), advice: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same, with what it was about in front.
    #[must_use]
    pub(crate) fn about(mut self, subject: impl Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// Out of time on the way to a store or a scheduler.
    fn gave_up(error: impl Display) -> Self {
        Self::new(Status::Unreachable, error).advise(WAIT)
    }

    /// Sent, and no answer came.
    fn unknown(error: impl Display) -> Self {
        Self::new(Status::Unknown, error).advise(READ)
    }
}

impl From<RawError> for Failure {
    fn from(error: RawError) -> Self {
        if error.is_unknown() {
            return Self::unknown(error);
        }
        match &error {
            RawError::GaveUp(_) => Self::gave_up(error),
            RawError::Partial { source, .. } if source.is_retryable() => Self::gave_up(error),
            _ => Self::refused(error),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::GaveUp(_) => Self::gave_up(error),
            _ => Self::refused(error),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match &error {
            CommitError::Undetermined { .. } => Self::unknown(error),
            CommitError::GaveUp(_) => Self::gave_up(error),
            _ => Self::refused(error),
        }
    }
}

impl From<SchedulerError> for Failure {
    fn from(error: SchedulerError) -> Self {
        match &error {
            SchedulerError::GaveUp(_) => Self::new(Status::Unreachable, error).advise(REACH),
            _ => Self::refused(error),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NoAddress | ConnectError::Address { .. } => Self::usage(error),
            ConnectError::Scheduler(error) => error.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The reader of our output has seen enough: nothing failed, nobody to tell.
            io::ErrorKind::BrokenPipe => Self::new(Status::Done, ""),
            _ => Self::refused(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kiva_client::rpc::CallError;
    use kiva_client::{GaveUp, Obstacle};

    use super::*;

    fn gave_up() -> GaveUp {
        GaveUp { attempts: 3, waited: Duration::from_secs(1), last: Obstacle::NoRegion }
    }

    #[test]
    fn nobody_knows_is_never_told_as_did_not_happen() {
        let lost = RawError::Unknown { last: CallError::Lost("reset".into()) };
        assert_eq!(Failure::from(lost.clone()).status, Status::Unknown);
        let partial = |source| RawError::Partial { done: 1, total: 2, source: Box::new(source) };
        assert_eq!(Failure::from(partial(lost)).status, Status::Unknown);
        let late = RawError::GaveUp(gave_up());
        assert_eq!(Failure::from(late.clone()).status, Status::Unreachable);
        assert_eq!(Failure::from(partial(late)).status, Status::Unreachable);
        let refused = RawError::Refused("too large".into());
        assert_eq!(Failure::from(refused.clone()).status, Status::Refused);
        assert_eq!(Failure::from(partial(refused)).status, Status::Refused);
    }

    #[test]
    fn a_commit_without_an_answer_is_unknown() {
        let error = CommitError::Undetermined {
            start_ts: kiva_base::Timestamp(1),
            last: Obstacle::NoRegion,
        };
        assert_eq!(Failure::from(error).status, Status::Unknown);
        let error = CommitError::GaveUp(gave_up());
        assert_eq!(Failure::from(error).status, Status::Unreachable);
    }

    #[test]
    fn a_wrong_address_is_usage_and_a_silent_one_is_not() {
        let failure = Failure::from(ConnectError::NoAddress);
        assert_eq!(failure.status, Status::Usage);
        let silent = ConnectError::Scheduler(SchedulerError::GaveUp(gave_up()));
        let failure = Failure::from(silent);
        assert_eq!(failure.status, Status::Unreachable);
        assert!(failure.advice.is_some_and(|advice| advice.contains("playground")));
    }

    #[test]
    fn a_pipe_that_was_closed_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.status, Status::Done);
    }
}
