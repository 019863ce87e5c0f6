//! The rules of transactions as commands.
//!
//! The rules themselves are in `kiva_txn`; here stands what the request path needs to know of
//! each: its keys, its timestamp, and which function decides.

use kiva_base::api::{ApiVersion, KeyMode};
use kiva_base::fault::KeyError;
use kiva_base::{EncodedKey, Key, KeyRange, LockInfo, Timestamp};
use kiva_txn::outcome::Answer;
use kiva_txn::{
    BatchGet, CheckStatus, Cleanup, Commit, FindLocks, FoundLocks, Get, Heartbeat, Op, Outcome,
    Pair, Prewrite, PrewriteReply, Resolve, Rollback, Scan, ScanLock, TxnStatus,
};

use crate::command::{Command, Read, Target, Touched, View, Write};
use crate::error::{Error, Refusal};
use crate::executor::Executor;
use crate::limits::{SHORT_BATCH_MAX, check_value};

type Check<'a> = &'a mut dyn FnMut(Touched<'_>) -> Result<(), Error>;

macro_rules! command {
    ($command:ty => $reply:ty, |$this:ident, $check:ident| $touches:expr) => {
        impl Command for $command {
            type Reply = $reply;
            const MODE: KeyMode = KeyMode::Txn;

            fn touches(&self, $check: Check<'_>) -> Result<(), Error> {
                let $this = self;
                $touches
            }

            fn max_ts(&self) -> Option<Timestamp> {
                self.max_ts()
            }
        }
    };
}

macro_rules! write {
    ($command:ty, $decide:path) => {
        impl Write for $command {
            fn latches(&self, _api: ApiVersion) -> Vec<EncodedKey> {
                self.keys()
            }

            fn decide(&self, view: &View<'_>) -> Result<Outcome<Self::Reply>, Error> {
                Ok($decide(view.snapshot, self)?)
            }
        }
    };
}

command!(Get => Answer<Option<bytes::Bytes>>, |this, check| check(Touched::Key(&this.key)));
command!(BatchGet => Answer<Vec<Pair>>, |this, check| check(Touched::Keys(&this.keys)));
command!(Scan => Answer<Vec<Pair>>, |this, check| check(Touched::Stored(&this.range)));
command!(ScanLock => Vec<LockInfo>, |_this, check| check(Touched::Region));
command!(Commit => Answer<Timestamp>, |this, check| check(Touched::Keys(&this.keys)));
command!(Rollback => Answer<()>, |this, check| check(Touched::Keys(&this.keys)));
command!(Resolve => Answer<()>, |this, check| {
    this.locks.iter().try_for_each(|lock| check(Touched::Key(&lock.key)))
});
command!(CheckStatus => Answer<TxnStatus>, |this, check| check(Touched::Key(&this.primary)));
command!(Heartbeat => Answer<u64>, |this, check| check(Touched::Key(&this.primary)));
command!(Cleanup => Answer<Option<Timestamp>>, |this, check| check(Touched::Key(&this.key)));

write!(Prewrite, kiva_txn::prewrite);
write!(Commit, kiva_txn::commit);
write!(Rollback, kiva_txn::rollback);
write!(Resolve, kiva_txn::resolve);
write!(CheckStatus, kiva_txn::check_status);
write!(Heartbeat, kiva_txn::heartbeat);
write!(Cleanup, kiva_txn::cleanup);

impl Command for Prewrite {
    type Reply = Result<PrewriteReply, Vec<KeyError>>;
    const MODE: KeyMode = KeyMode::Txn;

    fn touches(&self, check: Check<'_>) -> Result<(), Error> {
        self.mutations.iter().try_for_each(|mutation| check(Touched::Key(&mutation.key)))
    }

    fn max_ts(&self) -> Option<Timestamp> {
        self.max_ts()
    }

    fn check(&self, _api: ApiVersion) -> Result<(), Refusal> {
        self.mutations.iter().try_for_each(|mutation| match &mutation.op {
            Op::Put(value) | Op::Insert(value) => check_value(value),
            Op::Delete | Op::Lock | Op::CheckNotExists => Ok(()),
        })
    }
}

impl Read for Get {
    fn read(&self, view: &View<'_>) -> Result<Self::Reply, Error> {
        Ok(kiva_txn::get(view.snapshot, self)?)
    }
}

impl Read for BatchGet {
    fn is_long(&self) -> bool {
        self.keys.len() > SHORT_BATCH_MAX
    }

    fn read(&self, view: &View<'_>) -> Result<Self::Reply, Error> {
        Ok(kiva_txn::batch_get(view.snapshot, self)?)
    }
}

impl Read for Scan {
    fn is_long(&self) -> bool {
        true
    }

    fn read(&self, view: &View<'_>) -> Result<Self::Reply, Error> {
        let clamped = Scan { range: self.range.intersect(view.range), ..self.clone() };
        Ok(kiva_txn::scan(view.snapshot, &clamped)?)
    }
}

impl Read for ScanLock {
    fn is_long(&self) -> bool {
        true
    }

    fn read(&self, view: &View<'_>) -> Result<Self::Reply, Error> {
        let clamped = ScanLock { range: self.range.intersect(view.range), ..self.clone() };
        Ok(kiva_txn::scan_lock(view.snapshot, &clamped)?)
    }
}

impl Command for FindLocks {
    type Reply = Answer<FoundLocks>;
    const MODE: KeyMode = KeyMode::Txn;

    fn touches(&self, check: Check<'_>) -> Result<(), Error> {
        check(Touched::Region)
    }
}

impl Read for FindLocks {
    fn is_long(&self) -> bool {
        true
    }

    fn read(&self, view: &View<'_>) -> Result<Self::Reply, Error> {
        let clamped = FindLocks { range: self.range.intersect(view.range), ..self.clone() };
        Ok(kiva_txn::find_locks(view.snapshot, &clamped)?)
    }
}

impl Executor {
    /// Finishes every lock that the transactions of `find` have in the region, in bounded pieces:
    /// look without latches, then claim what was found and decide on a view of its own, so that a
    /// lock that changed in between is seen as it is then. What was settled before a failure stays.
    pub async fn resolve_region(
        &self,
        target: &Target,
        mut find: FindLocks,
    ) -> Result<Answer<()>, Error> {
        loop {
            let FoundLocks { resolve, rest } = match self.read(target, find.clone()).await? {
                Ok(found) => found,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if !resolve.locks.is_empty()
                && let Err(refusal) = self.write(target, resolve).await?
            {
                return Ok(Err(refusal));
            }
            match rest {
                Some(rest) => find.range = rest,
                None => return Ok(Ok(())),
            }
        }
    }

    /// The stored form of a transactional range; `None` when it runs backwards.
    pub fn txn_range(&self, start: &Key, end: &Key) -> Option<KeyRange> {
        self.api().stored_range(KeyMode::Txn, start, end)
    }
}
