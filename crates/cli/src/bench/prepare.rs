//! Loading the keys that a workload reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::ProgressBar;

use super::target::{self, Target};
use super::value::{self, Family};
use super::{Plan, TargetName, WorkloadName, runtime};
use crate::exit::Failure;
use crate::progress;

/// Keys that one task looks at before it takes the next ones.
const PORTION: u64 = 256;
/// Tasks of one thread: enough to keep the way busy.
const TASKS: usize = 16;

/// Writes the values that are missing, or have another size. A value of the right size that is not
/// the one of its key stays: the workload is to find it.
pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let reads = matches!(plan.workload, WorkloadName::RawGet | WorkloadName::Scan);
    if !reads || plan.target == TargetName::Echo {
        return Ok(());
    }
    let plan = Arc::new(plan.clone());
    let next = Arc::new(AtomicU64::new(0));
    let bar = progress::over_count(plan.keys, "loading keys");
    let load = |thread| {
        let (plan, next, bar) = (Arc::clone(&plan), Arc::clone(&next), bar.clone());
        async move {
            let ways = target::connect(&plan, thread).await?;
            let tasks = ways.iter().cycle().take(TASKS).map(|way| {
                let (plan, next) = (Arc::clone(&plan), Arc::clone(&next));
                portions(plan, way.clone(), next, bar.clone())
            });
            runtime::together(tasks).await.into_iter().collect()
        }
    };
    let (loaded, ()) = runtime::on_threads(plan.threads, load, async {})?;
    bar.finish_and_clear();
    loaded.into_iter().collect()
}

async fn portions(
    plan: Arc<Plan>,
    way: Target,
    next: Arc<AtomicU64>,
    bar: ProgressBar,
) -> Result<(), Failure> {
    loop {
        let first = next.fetch_add(PORTION, Ordering::Relaxed);
        if first >= plan.keys {
            return Ok(());
        }
        let last = (first + PORTION).min(plan.keys);
        load(&plan, &way, first..last).await?;
        bar.inc(last - first);
    }
}

/// Makes sure that these keys have values of the size of the plan.
pub(super) async fn load(
    plan: &Plan,
    way: &Target,
    portion: std::ops::Range<u64>,
) -> Result<(), Failure> {
    let key = |index| value::key(Family::Raw, plan.seed, index);
    let keys: Vec<_> = portion.clone().map(key).collect();
    let found = way.get_many(Family::Raw, &keys).await?;
    let missing = portion.zip(keys).zip(found);
    let missing = missing
        .filter(|(_, found)| found.as_ref().is_none_or(|value| value.len() != plan.value_size));
    let pairs: Vec<_> = missing
        .map(|((index, key), _)| (key, value::value(plan.seed, index, 0, plan.value_size)))
        .collect();
    match pairs.is_empty() {
        true => Ok(()),
        false => way.put_many(pairs).await,
    }
}
