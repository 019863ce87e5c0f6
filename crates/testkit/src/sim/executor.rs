//! The futures of a world, polled one at a time in the order the seed says.
//!
//! A future belongs to a [`Host`]: when that crashes its futures are dropped, and while it is
//! paused they are not polled. Dropping a single one is what happens when a client hangs up.
//!
//! A waker does nothing but put its task's number on a list. So polling cannot recurse, and any
//! code may wake anybody at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use kiva_base::clock::BoxFuture;

use super::{Host, Rng};

/// One task, for as long as the world lasts. Numbers are not used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(u64);

/// The futures of a world.
pub struct Executor {
    tasks: BTreeMap<TaskId, Task>,
    paused: BTreeSet<Host>,
    shared: Arc<Shared>,
    rng: Rng,
    tasks_made: u64,
}

struct Task {
    owner: Host,
    name: &'static str,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// What wakers and spawners reach.
#[derive(Default)]
struct Shared {
    ready: Mutex<BTreeSet<TaskId>>,
    born: Mutex<Vec<(Host, &'static str, BoxFuture<'static, ()>)>>,
}

/// What [`Executor::poll_one`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Polled {
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub owner: Host,
    /// What it was called.
    pub name: &'static str,
    /// Whether it has come to its end.
    pub is_done: bool,
}

impl Executor {
    /// Without tasks; which of those that are ready is next comes from `rng`.
    pub fn new(rng: Rng) -> Self {
        Self {
            tasks: BTreeMap::new(),
            paused: BTreeSet::new(),
            shared: Arc::default(),
            rng,
            tasks_made: 0,
        }
    }

    /// Takes over a future, which is ready to be polled.
    pub fn start(
        &mut self,
        owner: Host,
        name: &'static str,
        future: impl Future<Output = ()> + 'static,
    ) -> TaskId {
        self.adopt(owner, name, Box::pin(future))
    }

    /// For code that starts tasks while it is polled.
    pub fn spawner(&self, owner: Host) -> Spawner {
        Spawner { owner, shared: Arc::clone(&self.shared) }
    }

    /// Polls one of the tasks that are ready, if there is one.
    pub fn poll_one(&mut self) -> Option<Polled> {
        self.adopt_born();
        let id = self.choose()?;
        self.shared.ready().remove(&id);
        let task = self.tasks.get_mut(&id).expect("only tasks that exist are chosen");
        let (owner, name) = (task.owner, task.name);
        let poll = task.future.as_mut().poll(&mut Context::from_waker(&task.waker));
        let is_done = poll == Poll::Ready(());
        if is_done {
            self.tasks.remove(&id);
        }
        Some(Polled { task: id, owner, name, is_done })
    }

    /// Whether [`Executor::poll_one`] would find somebody.
    pub fn has_ready(&mut self) -> bool {
        self.adopt_born();
        !self.candidates().is_empty()
    }

    /// Drops a task: its caller hung up. Nothing happens when it is done already.
    pub fn drop_task(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// Drops all tasks of a host, which crashed.
    pub fn drop_owned_by(&mut self, owner: Host) {
        self.adopt_born();
        self.tasks.retain(|_, task| task.owner != owner);
        self.paused.remove(&owner);
    }

    /// The tasks of this host are not polled until [`Executor::resume`].
    pub fn pause(&mut self, owner: Host) {
        self.paused.insert(owner);
    }

    /// The tasks of this host are polled again.
    pub fn resume(&mut self, owner: Host) {
        self.paused.remove(&owner);
    }

    /// The tasks of a host that are not done, in the order they began.
    pub fn tasks_of(&self, owner: Host) -> impl Iterator<Item = TaskId> {
        self.tasks.iter().filter(move |(_, task)| task.owner == owner).map(|(id, _)| *id)
    }

    /// How many tasks are not done.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// How many tasks of these hosts are not done.
    pub fn count_of(&self, is_meant: impl Fn(Host) -> bool) -> usize {
        self.tasks.values().filter(|task| is_meant(task.owner)).count()
    }

    fn choose(&mut self) -> Option<TaskId> {
        let candidates = self.candidates();
        self.rng.pick(&candidates).copied()
    }

    fn candidates(&self) -> Vec<TaskId> {
        let mut ready = self.shared.ready();
        // A task may have been woken after its end.
        ready.retain(|id| self.tasks.contains_key(id));
        ready.iter().filter(|id| !self.paused.contains(&self.tasks[id].owner)).copied().collect()
    }

    fn adopt_born(&mut self) {
        let born = std::mem::take(&mut *self.shared.born());
        for (owner, name, future) in born {
            self.adopt(owner, name, future);
        }
    }

    fn adopt(
        &mut self,
        owner: Host,
        name: &'static str,
        future: Pin<Box<dyn Future<Output = ()>>>,
    ) -> TaskId {
        self.tasks_made += 1;
        let id = TaskId(self.tasks_made);
        let waker = Waker::from(Arc::new(ReadyMark { id, shared: Arc::clone(&self.shared) }));
        self.tasks.insert(id, Task { owner, name, future, waker });
        self.shared.ready().insert(id);
        id
    }
}

impl Shared {
    fn ready(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn born(&self) -> MutexGuard<'_, Vec<(Host, &'static str, BoxFuture<'static, ()>)>> {
        self.born.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts tasks from within a task. They are taken over before the next one is polled.
#[derive(Clone)]
pub struct Spawner {
    owner: Host,
    shared: Arc<Shared>,
}

impl Spawner {
    /// Hands a future to the executor.
    pub fn start(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.shared.born().push((self.owner, name, Box::pin(future)));
    }
}

/// Puts a task's number on the list of those that are ready.
struct ReadyMark {
    id: TaskId,
    shared: Arc<Shared>,
}

impl Wake for ReadyMark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.ready().insert(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kiva_base::Clock;

    use super::super::Time;
    use super::*;

    type Log = Arc<Mutex<Vec<u64>>>;

    fn executor(seed: u64) -> (Executor, Log) {
        (Executor::new(Rng::seeded(seed)), Log::default())
    }

    fn note(log: &Log, number: u64) -> impl Future<Output = ()> + Send + use<> {
        let log = Arc::clone(log);
        async move { log.lock().expect("nobody panics").push(number) }
    }

    fn run(executor: &mut Executor) {
        while executor.poll_one().is_some() {}
    }

    #[test]
    fn the_seed_decides_who_is_next() {
        let order = |seed| {
            let (mut executor, log) = executor(seed);
            for number in 0..20 {
                executor.start(Host::Client(number), "note", note(&log, number));
            }
            run(&mut executor);
            assert_eq!(executor.count(), 0);
            log.lock().expect("nobody panics").clone()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_eq!(order(1).len(), 20);
    }

    #[test]
    fn a_sleeping_task_goes_on_when_its_time_has_come() {
        let (mut executor, log) = executor(1);
        let time = Time::new();
        let clock = time.clock();
        let (sleep, then) = (clock.sleep(Duration::from_secs(3)), note(&log, 1));
        executor.start(Host::store(1), "sleeper", async move {
            sleep.await;
            then.await;
        });
        run(&mut executor);
        assert_eq!(executor.count(), 1);
        time.advance(time.next_at().expect("somebody sleeps"));
        assert!(executor.has_ready());
        run(&mut executor);
        assert_eq!(*log.lock().expect("nobody panics"), [1]);
    }

    #[test]
    fn a_paused_host_waits_and_a_crashed_one_is_gone() {
        let (mut executor, log) = executor(1);
        executor.start(Host::store(1), "note", note(&log, 1));
        executor.start(Host::store(2), "note", note(&log, 2));
        executor.pause(Host::store(1));
        executor.drop_owned_by(Host::store(2));
        run(&mut executor);
        assert!(log.lock().expect("nobody panics").is_empty());
        executor.resume(Host::store(1));
        run(&mut executor);
        assert_eq!(*log.lock().expect("nobody panics"), [1]);
    }

    #[test]
    fn tasks_start_tasks_and_hang_up() {
        let (mut executor, log) = executor(1);
        let spawner = executor.spawner(Host::Client(1));
        let child = note(&log, 7);
        let parent = executor.start(Host::Client(1), "parent", async move {
            spawner.start("child", child);
            std::future::pending().await
        });
        run(&mut executor);
        assert_eq!(*log.lock().expect("nobody panics"), [7]);
        assert!(executor.tasks_of(Host::Client(1)).eq([parent]));
        executor.drop_task(parent);
        assert_eq!(executor.count(), 0);
    }
}
