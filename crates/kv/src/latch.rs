//! Latches: what a command claims in memory from its view until its proposal is done.
//!
//! A command that decides from what it reads must be alone on its keys until what it decided is
//! applied. It claims all its keys at once, waits in order of arrival, and hands the claim to its
//! proposal, which lets go when the batch is applied or refused. A caller that goes away while it
//! waits leaves the queues; one that goes away later changes nothing.
//!
//! Claims are made on hashes of keys: two keys that collide wait for each other, which costs time
//! and never correctness. A command over a range claims everything ([`Claim::All`]): it waits for
//! all before it, and all after it wait.
//!
//! There is no deadlock, because a claim enters all its queues in one step: of two overlapping
//! claims, the same one is first in every queue they share.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::hash::BuildHasher;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use kiva_base::EncodedKey;
use kiva_base::map::{self, Map, Seeded};

/// What a command has to be alone on.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// These keys; repeated ones count once.
    Keys(&'a [EncodedKey]),
    /// Every key of this store.
    All,
}

/// All latches of one store. Clones share them.
#[derive(Clone)]
pub struct Latches {
    shared: Arc<Shared>,
}

struct Shared {
    hasher: Seeded,
    /// One lock for all queues, so that a claim enters them in one step. It is held for a few map
    /// operations and never over a wait, so an async lock would only add cost.
    queues: Mutex<Queues>,
}

/// Invariants:
/// - A ticket is in `waiting` exactly until it holds its claim.
/// - While `all` is set, no ticket for keys is behind it in `queues`; those are in `behind`.
/// - `held` counts the tickets for keys in `queues`, whether they wait or hold.
struct Queues {
    next_ticket: u64,
    /// Tickets by hash, in order of arrival; the first one is served. No queue is empty.
    queues: Map<u64, VecDeque<u64>>,
    /// Tickets that wait: what they still miss, and whom to wake.
    waiting: BTreeMap<u64, Waiting>,
    /// Tickets for keys in `queues`.
    entered: usize,
    /// The ticket for everything that is served or next to be.
    all: Option<u64>,
    /// What arrived after `all`, in order.
    behind: VecDeque<(u64, Wish)>,
}

struct Waiting {
    /// Queues in which the ticket is not first yet.
    missing: usize,
    waker: Option<Waker>,
}

enum Wish {
    Keys(Arc<[u64]>),
    All,
}

impl Latches {
    /// No claims yet. `seed` spreads keys over hashes; users should not be able to guess it.
    pub fn new(seed: u64) -> Self {
        let queues = Queues {
            next_ticket: 0,
            queues: map::with_seed(seed),
            waiting: BTreeMap::new(),
            entered: 0,
            all: None,
            behind: VecDeque::new(),
        };
        Self { shared: Arc::new(Shared { hasher: Seeded::new(seed), queues: Mutex::new(queues) }) }
    }

    /// Ready when this command is alone on what it claims. The place in the queue is taken now;
    /// dropping the future gives it up.
    pub fn hold(&self, claim: Claim<'_>) -> Hold {
        let wish = match claim {
            Claim::All => Wish::All,
            Claim::Keys(keys) => {
                let mut hashes: Vec<u64> =
                    keys.iter().map(|key| self.shared.hasher.hash_one(key.as_bytes())).collect();
                hashes.sort_unstable();
                hashes.dedup();
                Wish::Keys(hashes.into())
            }
        };
        let mut queues = self.shared.lock();
        let ticket = queues.next_ticket;
        queues.next_ticket += 1;
        let hashes = match &wish {
            Wish::Keys(hashes) => Some(hashes.clone()),
            Wish::All => None,
        };
        queues.arrive(ticket, wish);
        drop(queues);
        Hold { held: Some(Held { shared: self.shared.clone(), ticket, hashes }) }
    }
}

/// A claim that waits for its turn.
#[must_use = "a claim that nobody awaits is given up"]
pub struct Hold {
    held: Option<Held>,
}

impl Future for Hold {
    type Output = Held;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Held> {
        let held = self.held.as_ref().expect("polled again after it was ready");
        let mut queues = held.shared.lock();
        if let Some(waiting) = queues.waiting.get_mut(&held.ticket) {
            match &mut waiting.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        drop(queues);
        Poll::Ready(self.held.take().expect("it was there a few lines above"))
    }
}

/// A claim that holds until it is dropped.
#[must_use = "a dropped claim protects nothing"]
pub struct Held {
    shared: Arc<Shared>,
    ticket: u64,
    /// `None`: everything.
    hashes: Option<Arc<[u64]>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        self.shared.lock().leave(self.ticket, self.hashes.as_deref(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("no panic while the queues are locked")
    }
}

impl Queues {
    fn arrive(&mut self, ticket: u64, wish: Wish) {
        if self.all.is_some() {
            self.waiting.insert(ticket, Waiting { missing: 1, waker: None });
            self.behind.push_back((ticket, wish));
            return;
        }
        let missing = match wish {
            Wish::Keys(hashes) => self.enter(ticket, &hashes),
            Wish::All => {
                self.all = Some(ticket);
                usize::from(self.entered > 0)
            }
        };
        if missing > 0 {
            self.waiting.insert(ticket, Waiting { missing, waker: None });
        }
    }

    /// Joins the queues of these hashes; in how many of them somebody is before it.
    fn enter(&mut self, ticket: u64, hashes: &[u64]) -> usize {
        self.entered += 1;
        let mut missing = 0;
        for &hash in hashes {
            let queue = self.queues.entry(hash).or_default();
            missing += usize::from(!queue.is_empty());
            queue.push_back(ticket);
        }
        missing
    }

    fn leave(&mut self, ticket: u64, hashes: Option<&[u64]>, woken: &mut Vec<Waker>) {
        let waited = self.waiting.remove(&ticket).is_some();
        if waited
            && let Some(position) = self.behind.iter().position(|(behind, _)| *behind == ticket)
        {
            self.behind.remove(position);
            return;
        }
        match hashes {
            None => {
                self.all = None;
                self.admit(woken);
            }
            Some(hashes) => {
                for &hash in hashes {
                    self.leave_queue(ticket, hash, woken);
                }
                self.entered -= 1;
                if self.entered == 0
                    && let Some(all) = self.all
                {
                    self.serve(all, woken);
                }
            }
        }
    }

    fn leave_queue(&mut self, ticket: u64, hash: u64, woken: &mut Vec<Waker>) {
        let queue = self.queues.get_mut(&hash).expect("a ticket is in all its queues");
        let position = queue.iter().position(|&other| other == ticket);
        queue.remove(position.expect("a ticket is in all its queues"));
        let first = queue.front().copied();
        if first.is_none() {
            self.queues.remove(&hash);
        }
        if position == Some(0)
            && let Some(first) = first
        {
            self.serve(first, woken);
        }
    }

    /// One more queue in which `ticket` is first.
    fn serve(&mut self, ticket: u64, woken: &mut Vec<Waker>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else {
            return;
        };
        waiting.missing -= 1;
        if waiting.missing == 0 {
            let waker = self.waiting.remove(&ticket).and_then(|waiting| waiting.waker);
            woken.extend(waker);
        }
    }

    /// Lets in what waited behind a claim on everything, up to the next one of that kind.
    fn admit(&mut self, woken: &mut Vec<Waker>) {
        for (ticket, wish) in mem::take(&mut self.behind) {
            if self.all.is_some() {
                self.behind.push_back((ticket, wish));
                continue;
            }
            let missing = match wish {
                Wish::Keys(hashes) => self.enter(ticket, &hashes),
                Wish::All => {
                    self.all = Some(ticket);
                    usize::from(self.entered > 0)
                }
            };
            let waiting = self.waiting.get_mut(&ticket).expect("who is behind is waiting");
            waiting.missing = missing;
            if missing == 0 {
                let waker = self.waiting.remove(&ticket).and_then(|waiting| waiting.waker);
                woken.extend(waker);
            }
        }
    }
}

#[cfg(test)]
mod tests;
