//! Questions that futures ask across the network, and the answers that come back.
//!
//! A future cannot reach into the network, which the world owns. So [`Calls::ask`] leaves the
//! question for the world to pick up, and waits until the world brings the answer. Neither has to
//! arrive; [`within`] is how a future gives up.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use kiva_base::Clock;

use super::Host;

/// One question, for as long as the world lasts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(u64);

/// A question for the world to carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call<Q> {
    /// What the answer is to name.
    pub id: CallId,
    /// Who asks.
    pub from: Host,
    /// Who is asked.
    pub to: Host,
    /// What.
    pub question: Q,
}

/// Questions under way. A clone is another handle.
pub struct Calls<Q, A> {
    shared: Arc<Mutex<State<Q, A>>>,
}

struct State<Q, A> {
    asked: VecDeque<Call<Q>>,
    waiting: BTreeMap<CallId, Slot<A>>,
    made: u64,
}

enum Slot<A> {
    Waiting(Option<Waker>),
    Answered(A),
}

impl<Q, A> Clone for Calls<Q, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Q, A> Default for Calls<Q, A> {
    fn default() -> Self {
        let state = State { asked: VecDeque::new(), waiting: BTreeMap::new(), made: 0 };
        Self { shared: Arc::new(Mutex::new(state)) }
    }
}

impl<Q: Send, A: Send> Calls<Q, A> {
    /// Asks, and waits for the answer. Whoever drops the future hangs up: an answer that comes
    /// later is thrown away.
    pub fn ask(
        &self,
        from: Host,
        to: Host,
        question: Q,
    ) -> impl Future<Output = A> + Send + use<Q, A> {
        let id = {
            let mut state = self.lock();
            state.made += 1;
            let id = CallId(state.made);
            state.asked.push_back(Call { id, from, to, question });
            state.waiting.insert(id, Slot::Waiting(None));
            id
        };
        let waiting = Waiting { id, calls: self.clone() };
        poll_fn(move |context| {
            let mut state = waiting.calls.lock();
            match state.waiting.remove(&waiting.id) {
                Some(Slot::Answered(answer)) => Poll::Ready(answer),
                _ => {
                    let slot = Slot::Waiting(Some(context.waker().clone()));
                    state.waiting.insert(waiting.id, slot);
                    Poll::Pending
                }
            }
        })
    }

    /// The next question that was asked, to be put on its way.
    pub fn next_asked(&self) -> Option<Call<Q>> {
        self.lock().asked.pop_front()
    }

    /// Whether there is one.
    pub fn has_asked(&self) -> bool {
        !self.lock().asked.is_empty()
    }

    /// Brings an answer. Nothing happens when nobody waits for it, or when one came before.
    pub fn answer(&self, id: CallId, answer: A) {
        let waker = {
            let mut state = self.lock();
            match state.waiting.get_mut(&id) {
                Some(slot @ Slot::Waiting(_)) => {
                    match std::mem::replace(slot, Slot::Answered(answer)) {
                        Slot::Waiting(waker) => waker,
                        Slot::Answered(_) => None,
                    }
                }
                _ => None,
            }
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<Q, A> Calls<Q, A> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a call when whoever waits for it goes away.
struct Waiting<Q, A> {
    id: CallId,
    calls: Calls<Q, A>,
}

impl<Q, A> Drop for Waiting<Q, A> {
    fn drop(&mut self) {
        let forgotten = self.calls.lock().waiting.remove(&self.id);
        drop(forgotten);
    }
}

/// What `future` comes to, unless the clock shows `limit` more first; then the future is dropped.
pub async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut timer = clock.sleep(limit);
    let mut future = pin!(future);
    poll_fn(move |context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::{Executor, Rng, Time};
    use super::*;

    /// Asks, and keeps the answer; 999 for none.
    fn asker(calls: &Calls<u64, u64>, time: &Time, kept: &Arc<AtomicU64>) -> Executor {
        let mut executor = Executor::new(Rng::seeded(1));
        let (kept, clock) = (Arc::clone(kept), time.clock());
        let answer = calls.ask(Host::Client(1), Host::store(1), 7);
        executor.start(Host::Client(1), "asker", async move {
            let answer = within(&clock, Duration::from_secs(1), answer).await;
            kept.store(answer.unwrap_or(999), Ordering::Relaxed);
        });
        executor
    }

    #[test]
    fn an_answer_finds_who_asked_once() {
        let (calls, time, kept) = (Calls::default(), Time::new(), Arc::default());
        let mut executor = asker(&calls, &time, &kept);
        while executor.poll_one().is_some() {}
        let call = calls.next_asked().expect("it was asked");
        assert_eq!((call.question, call.to), (7, Host::store(1)));
        calls.answer(call.id, 8);
        calls.answer(call.id, 9);
        while executor.poll_one().is_some() {}
        assert_eq!(kept.load(Ordering::Relaxed), 8);
        assert_eq!(time.next_at(), None);
    }

    #[test]
    fn who_waits_too_long_hangs_up() {
        let (calls, time, kept) = (Calls::default(), Time::new(), Arc::default());
        let mut executor = asker(&calls, &time, &kept);
        while executor.poll_one().is_some() {}
        time.advance(time.next_at().expect("it waits"));
        while executor.poll_one().is_some() {}
        assert_eq!(kept.load(Ordering::Relaxed), 999);
        calls.answer(calls.next_asked().expect("it was asked").id, 8);
        assert_eq!(executor.count(), 0);
    }
}
