//! One command for many keys: grouped by region, cut by size, sent to several regions at once.
//!
//! What a group is changes under way. A region that has split or moved refuses; its keys are then
//! grouped anew, with what was learned, and each new group goes on with the budget of the old.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kiva_base::Timestamp;
use kiva_base::fault::LockInfo;

use crate::core::{Core, Failure, Place, Repeat, Trial};
use crate::keyspace::Codec;
use crate::limits::{BATCH_KEYS_MAX, BATCH_SIZE_MAX, REGIONS_AT_ONCE};
use crate::region_cache::Route;
use crate::resolver;
use crate::rpc::{Command, Mutation, Reply};

/// One of many: something that belongs to a key.
pub(crate) trait Item: Clone + Send + Sync {
    /// The key, in wire form.
    fn key(&self) -> &Bytes;
    /// Bytes it adds to a request.
    fn size(&self) -> usize;
}

impl Item for Bytes {
    fn key(&self) -> &Bytes {
        self
    }

    fn size(&self) -> usize {
        self.len()
    }
}

impl Item for (Bytes, Bytes) {
    fn key(&self) -> &Bytes {
        &self.0
    }

    fn size(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

impl Item for Mutation {
    fn key(&self) -> &Bytes {
        &self.key
    }

    fn size(&self) -> usize {
        self.size()
    }
}

/// A command for many keys.
pub(crate) trait Scatter: Send + Sync {
    type Item: Item;
    type Answer: Send;
    type Error: From<Failure> + Send;

    /// How its keys are written.
    fn codec<'a>(&self, core: &'a Core) -> &'a Codec;
    /// What to do when an answer is lost.
    fn repeat(&self) -> Repeat;
    /// The command for some of the items, which are in one region.
    fn command(&self, items: &[Self::Item]) -> Command;
    /// Reads a reply.
    fn accept(&self, reply: Reply) -> Result<Self::Answer, Refused<Self::Error>>;
    /// The timestamp it reads at; zero when it writes.
    fn reads_at(&self) -> Timestamp {
        Timestamp::ZERO
    }
}

/// What a reply may say instead of giving an answer.
pub(crate) enum Refused<E> {
    /// Settle these locks and try again.
    Locked(Vec<LockInfo>),
    /// No.
    Failed(E),
}

/// Items of one region, and what they have gone through.
pub(crate) struct Batch<T> {
    pub(crate) route: Arc<Route>,
    pub(crate) items: Vec<T>,
    pub(crate) trial: Trial,
}

/// A command that failed for some of its items.
pub(crate) struct Ragged<E> {
    /// Items that were answered.
    pub(crate) done: usize,
    /// Whether an answer may have been lost for some of the others.
    pub(crate) is_lost: bool,
    /// Why: of several reasons the first, but rather one where nobody knows.
    pub(crate) error: E,
}

/// What came of one attempt for one batch.
enum Attempt<T, A, E> {
    Done(A, usize),
    Again(Vec<T>, Trial),
    Failed(E, Trial, bool),
}

/// Sends a command for all items; the answers come in no particular order.
pub(crate) async fn scatter<S: Scatter>(
    core: &Arc<Core>,
    command: &S,
    items: Vec<S::Item>,
    mut trial: Trial,
) -> Result<Vec<S::Answer>, Ragged<S::Error>> {
    match group(core, command.codec(core), items, &mut trial).await {
        Ok(batches) => send(core, command, batches).await,
        Err(failure) => Err(Ragged { done: 0, is_lost: trial.is_lost, error: failure.into() }),
    }
}

/// Groups items by region and cuts the groups by size. Keeps their order within a region.
pub(crate) async fn group<T: Item>(
    core: &Core,
    codec: &Codec,
    items: Vec<T>,
    trial: &mut Trial,
) -> Result<Vec<Batch<T>>, Failure> {
    // Per region the batch that still has room, found by its position in `batches`.
    let mut batches: Vec<(Batch<T>, usize)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for item in items {
        let boundary = codec.boundary(item.key());
        // Items often come sorted, so the last region looked at is the likeliest.
        let known = open
            .iter()
            .rev()
            .copied()
            .find(|&position| batches[position].0.route.region.contains(&boundary));
        let position = match known {
            Some(position) if has_room(&batches[position], &item) => position,
            _ => {
                let route = match known {
                    Some(position) => {
                        open.retain(|&other| other != position);
                        batches[position].0.route.clone()
                    }
                    None => core.route(Place::Key(&boundary), trial).await?,
                };
                let batch = Batch { route, items: Vec::new(), trial: trial.clone() };
                batches.push((batch, 0));
                open.push(batches.len() - 1);
                batches.len() - 1
            }
        };
        let (batch, size) = &mut batches[position];
        *size += item.size();
        batch.items.push(item);
    }
    Ok(batches.into_iter().map(|(batch, _)| batch).collect())
}

fn has_room<T: Item>((batch, size): &(Batch<T>, usize), item: &T) -> bool {
    batch.items.len() < BATCH_KEYS_MAX && size + item.size() <= BATCH_SIZE_MAX
}

/// Sends batches, some at once, until all are answered or one fails. After a failure nothing new
/// begins, and what is under way is waited for: its effect is part of what is reported.
pub(crate) async fn send<S: Scatter>(
    core: &Arc<Core>,
    command: &S,
    batches: Vec<Batch<S::Item>>,
) -> Result<Vec<S::Answer>, Ragged<S::Error>> {
    let mut queue = VecDeque::from(batches);
    let mut running = FuturesUnordered::new();
    let mut answers = Vec::with_capacity(queue.len());
    let mut failed: Option<Ragged<S::Error>> = None;
    let mut done = 0;
    loop {
        while failed.is_none() && running.len() < REGIONS_AT_ONCE {
            let Some(batch) = queue.pop_front() else {
                break;
            };
            running.push(attempt(core, command, batch));
        }
        let Some(outcome) = running.next().await else {
            break;
        };
        let failure = match outcome {
            Attempt::Done(answer, items) => {
                done += items;
                answers.push(answer);
                continue;
            }
            Attempt::Again(_, trial) if failed.is_some() => {
                if let Some(failed) = &mut failed {
                    failed.is_lost |= trial.is_lost;
                }
                continue;
            }
            Attempt::Again(items, mut trial) => {
                match group(core, command.codec(core), items, &mut trial).await {
                    Ok(batches) => {
                        queue.extend(batches);
                        continue;
                    }
                    Err(failure) => (failure.into(), trial, false),
                }
            }
            Attempt::Failed(error, trial, is_unknown) => (error, trial, is_unknown),
        };
        let (error, trial, is_unknown) = failure;
        let is_lost = trial.is_lost || failed.as_ref().is_some_and(|failed| failed.is_lost);
        match &mut failed {
            Some(failed) if !is_unknown => failed.is_lost = is_lost,
            _ => {
                failed = Some(Ragged { done: 0, is_lost, error });
            }
        }
    }
    match failed {
        None => Ok(answers),
        Some(failed) => Err(Ragged { done, ..failed }),
    }
}

async fn attempt<S: Scatter>(
    core: &Arc<Core>,
    command: &S,
    batch: Batch<S::Item>,
) -> Attempt<S::Item, S::Answer, S::Error> {
    let Batch { route, items, mut trial } = batch;
    let request = command.command(&items);
    let called = core.call(&route, command.codec(core), &request, &trial).await;
    let waited = match called {
        Err(error) => core.recover(&route, error, command.repeat(), &mut trial).await,
        Ok(reply) => match command.accept(reply) {
            Ok(answer) => return Attempt::Done(answer, items.len()),
            Err(Refused::Failed(error)) => return Attempt::Failed(error, trial, false),
            Err(Refused::Locked(locks)) => {
                resolver::settle(core, locks, command.reads_at(), &mut trial).await
            }
        },
    };
    match waited {
        Ok(()) => Attempt::Again(items, trial),
        Err(failure) => {
            let is_unknown = matches!(failure, Failure::Unknown(_));
            Attempt::Failed(failure.into(), trial, is_unknown)
        }
    }
}
