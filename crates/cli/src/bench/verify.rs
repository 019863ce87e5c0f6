//! What a run left behind, compared with what was acknowledged.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use indicatif::ProgressBar;

use super::engine::Measured;
use super::expect::Expectation;
use super::target::{self, Target};
use super::value::{self, Family};
use super::workload::Findings;
use super::{Plan, WorkloadName, runtime};
use crate::exit::Failure;
use crate::progress;

/// Keys that are read together.
const PORTION: usize = 256;
/// Tasks of one thread.
const TASKS: usize = 16;

/// The verdict.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Answers, keys or timestamps that were compared.
    pub(crate) checked: u64,
    /// Those that were wrong.
    pub(crate) mismatches: u64,
    /// The first of them.
    pub(crate) first: Option<String>,
}

impl Verified {
    fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.mismatches += other.mismatches;
        self.first = self.first.take().or(other.first);
    }
}

/// Verifies what the workload of the plan promises.
pub(crate) fn run(plan: &Plan, measured: &Measured) -> Result<Verified, Failure> {
    let mut verified = Verified {
        checked: measured.compared,
        mismatches: measured.wrong,
        first: measured.first_wrong.clone(),
    };
    match plan.workload {
        WorkloadName::RawPut => verified.add(read_back(plan, Family::Raw, &measured.writes)?),
        WorkloadName::TxnCommit => verified.add(read_back(plan, Family::Txn, &measured.writes)?),
        WorkloadName::Tso => verified.add(unique(&measured.timestamps)),
        // Every answer was compared when it came.
        WorkloadName::RawGet | WorkloadName::Scan => {}
    }
    Ok(verified)
}

/// No timestamp was drawn twice.
fn unique(timestamps: &[u64]) -> Verified {
    let mut sorted = timestamps.to_vec();
    sorted.sort_unstable();
    let mut twice = sorted.windows(2).filter(|pair| pair[0] == pair[1]).peekable();
    let first = twice.peek().map(|pair| format!("timestamp {} was drawn twice", pair[0]));
    Verified {
        // They have been counted when their order was compared.
        checked: 0,
        mismatches: twice.count() as u64,
        first,
    }
}

type Portions = Mutex<std::vec::IntoIter<Vec<(u64, Expectation)>>>;

/// Reads every key that was written.
fn read_back(
    plan: &Plan,
    family: Family,
    writes: &[(u64, Expectation)],
) -> Result<Verified, Failure> {
    let plan = Arc::new(plan.clone());
    let bar = progress::over_count(writes.len() as u64, "verifying keys");
    let portions: Vec<_> = writes.chunks(PORTION).map(<[_]>::to_vec).collect();
    let portions: Arc<Portions> = Arc::new(Mutex::new(portions.into_iter()));
    let verify = |thread| {
        let (plan, portions, bar) = (Arc::clone(&plan), Arc::clone(&portions), bar.clone());
        async move {
            let ways = target::connect(&plan, thread).await?;
            let tasks = ways.iter().cycle().take(TASKS).map(|way| {
                let (plan, portions) = (Arc::clone(&plan), Arc::clone(&portions));
                compare_all(plan, family, way.clone(), portions, bar.clone())
            });
            let verified = runtime::together(tasks).await;
            verified.into_iter().collect::<Result<Vec<_>, Failure>>()
        }
    };
    let (verified, ()) = runtime::on_threads(plan.threads, verify, async {})?;
    bar.finish_and_clear();
    let mut all = Verified::default();
    for verified in verified {
        let verified = verified.map_err(|failure| failure.about("verification did not finish"))?;
        verified.into_iter().for_each(|verified| all.add(verified));
    }
    Ok(all)
}

async fn compare_all(
    plan: Arc<Plan>,
    family: Family,
    way: Target,
    portions: Arc<Portions>,
    bar: ProgressBar,
) -> Result<Verified, Failure> {
    let mut verified = Verified::default();
    loop {
        let portion = portions.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(portion) = portion else {
            return Ok(verified);
        };
        verified.add(compare(&plan, family, &way, &portion).await?);
        bar.inc(portion.len() as u64);
    }
}

/// Reads some keys, and compares what they hold with what they must hold.
async fn compare(
    plan: &Plan,
    family: Family,
    way: &Target,
    expected: &[(u64, Expectation)],
) -> Result<Verified, Failure> {
    let key = |(index, _): &(u64, Expectation)| value::key(family, plan.seed, *index);
    let keys: Vec<_> = expected.iter().map(key).collect();
    let found = way.get_many(family, &keys).await?;
    let mut findings = Findings::default();
    for (((index, expected), key), found) in expected.iter().zip(&keys).zip(found) {
        let sequence = match &found {
            Some(value) => value::sequence_of(plan.seed, *index, value).map(Some),
            None => Some(None),
        };
        let is_right = sequence.is_some_and(|sequence| expected.allows(sequence));
        findings.compare(is_right, || {
            let holds = match sequence {
                Some(Some(sequence)) => format!("write {sequence}"),
                Some(None) => "nothing".to_owned(),
                None => "a value that is none of its own".to_owned(),
            };
            let (key, expected) = (key.escape_ascii(), expected.describe());
            format!("key {key} must hold {expected}, and holds {holds}")
        });
    }
    Ok(Verified {
        checked: findings.compared,
        mismatches: findings.wrong,
        first: findings.first_wrong,
    })
}

#[cfg(test)]
pub(crate) mod tests;
