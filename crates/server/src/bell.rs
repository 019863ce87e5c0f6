//! Wakes the tasks of one runtime together: one ring for all answers of a round.
//!
//! A store loop answers dozens of writes at once, from a thread of its own. Each answer would wake
//! its task by itself, and to wake a task from outside is to write to a descriptor that its runtime
//! polls: a system call for each write, and for each another turn of a runtime that finds one task
//! to run, and sends one answer in one packet.
//!
//! ```text
//!   loop:  answer ─▶ due   answer ─▶ due   answer ─▶ due
//!                     │ only the first rings
//!   runtime:          └───▶ ringer ─▶ all tasks that are due ─▶ one packet per connection
//! ```
//!
//! What waits through [`Bell::gather`] is woken by the ringer, a task of the same runtime.
//!
//! What is always true: whoever is due is woken, because a ring that finds others due has been
//! preceded by one that the ringer has not yet answered.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The bell of one runtime. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Bell {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    due: Mutex<Vec<Waker>>,
    ringer: AtomicWaker,
}

/// What a future is given to be woken by: it makes its task due.
struct Due {
    task: Waker,
    bell: Arc<Shared>,
}

impl Bell {
    /// Waits for `future`, which somebody outside of this runtime answers.
    pub(crate) async fn gather<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut known: Option<Arc<Due>> = None;
        poll_fn(|context| {
            let task = context.waker();
            let due = known.take().filter(|due| due.task.will_wake(task));
            let due = due
                .unwrap_or_else(|| Arc::new(Due { task: task.clone(), bell: self.shared.clone() }));
            known = Some(due.clone());
            future.as_mut().poll(&mut Context::from_waker(&Waker::from(due)))
        })
        .await
    }

    /// Wakes who is due, for as long as the runtime lives. Spawned once, on the runtime of those
    /// that wait.
    pub(crate) fn ringer(&self) -> impl Future<Output = ()> + Send + use<> {
        let bell = self.shared.clone();
        let mut tasks = Vec::new();
        poll_fn(move |context| {
            // Before looking, so that who becomes due after the look rings again.
            bell.ringer.register(context.waker());
            mem::swap(&mut tasks, &mut *bell.due.lock().unwrap_or_else(PoisonError::into_inner));
            tasks.drain(..).for_each(Waker::wake);
            Poll::Pending
        })
    }
}

impl Wake for Due {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut due = self.bell.due.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = due.is_empty();
        due.push(self.task.clone());
        drop(due);
        if is_first {
            self.bell.ringer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn three_answers_ring_once_and_wake_three_tasks() {
        let bell = Bell::default();
        let (rung, woken) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (ringing, waking) = (Waker::from(rung.clone()), Waker::from(woken.clone()));
        let mut ringer = pin!(bell.ringer());
        let mut ring = || ringer.as_mut().poll(&mut Context::from_waker(&ringing));
        assert!(ring().is_pending());

        for round in 1..=2 {
            let (answers, questions): (Vec<_>, Vec<_>) =
                (0..3).map(|_| oneshot::channel::<u32>()).unzip();
            let mut waiting: Vec<_> =
                questions.into_iter().map(|question| Box::pin(bell.gather(question))).collect();
            let mut context = Context::from_waker(&waking);
            assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
            for answer in answers {
                answer.send(round).expect("somebody waits");
            }
            assert_eq!(rung.get(), round as usize, "one ring for all of a round");
            assert_eq!(woken.get(), 3 * (round as usize - 1), "the tasks wait for the ringer");
            assert!(ring().is_pending());
            assert_eq!(woken.get(), 3 * round as usize);
            for one in &mut waiting {
                assert_eq!(one.as_mut().poll(&mut context), Poll::Ready(Ok(round)));
            }
        }
    }

    #[test]
    fn what_is_answered_already_rings_nobody() {
        let bell = Bell::default();
        let woken = Arc::new(Count::default());
        let waking = Waker::from(woken.clone());
        let mut ready = pin!(bell.gather(std::future::ready(7)));
        assert_eq!(ready.as_mut().poll(&mut Context::from_waker(&waking)), Poll::Ready(7));
        assert!(bell.shared.due.lock().unwrap().is_empty());
        assert_eq!(woken.get(), 0);
    }
}
