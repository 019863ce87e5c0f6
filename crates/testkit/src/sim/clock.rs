//! The true time, and what each host's clock says of it.
//!
//! A world has one true time, which only the world moves. Each host has a clock that follows it at
//! a rate of its own, as crystals do, and whose wall time may be set to anything, as operators do.
//! The steady part never goes back. It may be made to leap ahead, but leases rest on steady clocks
//! that run at about the same rate, so a world that leaps them must not expect leases to hold.
//!
//! A future that sleeps waits until its own host's clock says so. Suspended hosts are not a matter
//! of clocks: a steady clock counts the time its machine slept, so pausing a host is just not
//! running it ([`Executor::pause`](super::Executor::pause)).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kiva_base::clock::BoxFuture;
use kiva_base::{Clock, Moment};

/// Unix milliseconds when every world begins: 2023-11-14 22:13:20 UTC.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// What a rate is counted in: a clock that drifts by this much stands still, or runs at double
/// speed.
const MILLION: u128 = 1_000_000;

/// The true time of a world and the clocks that follow it. A clone is another handle.
#[derive(Clone, Default)]
pub struct Time {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    now: Moment,
    clocks: Vec<Dial>,
    /// Timers, so that no two of them are the same.
    timers_made: u64,
}

/// One clock.
///
/// Invariants:
/// - At the true time `since` it said `shown`, and has run at its rate from there.
struct Dial {
    since: Moment,
    shown: Moment,
    /// How much faster than the true time, in millionths.
    drift: i32,
    wall_offset_ms: i64,
    /// Who waits, by what this clock has to show, then in the order they began to wait.
    timers: BTreeMap<(Moment, u64), Waker>,
}

impl Time {
    /// A world that begins now.
    pub fn new() -> Self {
        Self::default()
    }

    /// The true time.
    pub fn now(&self) -> Moment {
        self.lock().now
    }

    /// A new clock, which goes right so far.
    pub fn clock(&self) -> LocalClock {
        let mut state = self.lock();
        let now = state.now;
        state.clocks.push(Dial {
            since: now,
            shown: now,
            drift: 0,
            wall_offset_ms: 0,
            timers: BTreeMap::new(),
        });
        LocalClock { number: state.clocks.len() - 1, shared: Arc::clone(&self.shared) }
    }

    /// The true time at which somebody who sleeps is to be woken; none when nobody sleeps. May be
    /// now or earlier, when a clock leapt.
    pub fn next_at(&self) -> Option<Moment> {
        let state = self.lock();
        let firsts = state.clocks.iter().filter_map(|clock| {
            let ((deadline, _), _) = clock.timers.first_key_value()?;
            Some(clock.true_time_of(*deadline))
        });
        firsts.min()
    }

    /// Moves the true time on, and wakes everybody whose clock shows what they wait for.
    ///
    /// # Panics
    ///
    /// When `to` is in the past.
    pub fn advance(&self, to: Moment) {
        let mut due = Vec::new();
        {
            let mut state = self.lock();
            assert!(to >= state.now, "the time went from {:?} back to {to:?}", state.now);
            state.now = to;
            for clock in &mut state.clocks {
                let shown = clock.at(to);
                let later = clock.timers.split_off(&(shown, u64::MAX));
                due.extend(std::mem::replace(&mut clock.timers, later).into_values());
            }
        }
        // Wakers run code of others, so nothing is locked any more.
        due.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dial {
    /// What it shows at a true time that is not before `since`.
    fn at(&self, now: Moment) -> Moment {
        self.shown + nanos(now.since(self.since).as_nanos() * self.rate() / MILLION)
    }

    /// The first true time at which it shows this.
    fn true_time_of(&self, shown: Moment) -> Moment {
        let wanted = shown.since(self.shown).as_nanos();
        self.since + nanos((wanted * MILLION).div_ceil(self.rate()))
    }

    /// Its millionths of a second per second.
    fn rate(&self) -> u128 {
        MILLION.saturating_add_signed(self.drift.into())
    }

    /// Begins anew at what it shows now, before its rate or its time is changed.
    fn rebase(&mut self, now: Moment) {
        self.shown = self.at(now);
        self.since = now;
    }
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// What one host's clock says. A clone is another handle to the same clock.
#[derive(Clone)]
pub struct LocalClock {
    number: usize,
    shared: Arc<Mutex<State>>,
}

impl LocalClock {
    /// From now on it runs faster than the true time by this many millionths, or slower.
    ///
    /// # Panics
    ///
    /// When it would stand still or go backwards.
    pub fn set_drift(&self, millionths: i32) {
        self.change(|clock| {
            clock.drift = millionths;
            assert!(
                clock.rate() > 0,
                "a clock that drifts by {millionths} millionths stands still"
            );
        });
    }

    /// Somebody sets the wall time, relative to what it says.
    pub fn jump_wall(&self, by_ms: i64) {
        self.change(|clock| clock.wall_offset_ms = clock.wall_offset_ms.saturating_add(by_ms));
    }

    /// The steady clock leaps ahead, which it should not. Who sleeps too long wakes up at the next
    /// [`Time::advance`].
    pub fn leap(&self, by: Duration) {
        self.change(|clock| clock.shown = clock.shown + by);
    }

    /// The first true time at which it will show this, if nobody touches it. May have passed.
    pub fn true_time_of(&self, shown: Moment) -> Moment {
        lock(&self.shared).clocks[self.number].true_time_of(shown)
    }

    fn change(&self, change: impl FnOnce(&mut Dial)) {
        let mut state = lock(&self.shared);
        let now = state.now;
        let clock = &mut state.clocks[self.number];
        clock.rebase(now);
        change(clock);
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Moment {
        let state = lock(&self.shared);
        state.clocks[self.number].at(state.now)
    }

    fn wall_ms(&self) -> u64 {
        let state = lock(&self.shared);
        let clock = &state.clocks[self.number];
        let elapsed = clock.at(state.now).elapsed().as_millis() as u64;
        (WALL_START_MS + elapsed).saturating_add_signed(clock.wall_offset_ms)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.now() + duration;
        Box::pin(Sleep { clock: self.clone(), deadline, timer: None })
    }
}

/// Waits until a clock shows `deadline`. Dropping it forgets the timer.
struct Sleep {
    clock: LocalClock,
    deadline: Moment,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = lock(&this.clock.shared);
        let now = state.now;
        if state.clocks[this.clock.number].at(now) >= this.deadline {
            return Poll::Ready(());
        }
        let timer = *this.timer.get_or_insert_with(|| {
            state.timers_made += 1;
            state.timers_made
        });
        let timers = &mut state.clocks[this.clock.number].timers;
        let replaced = timers.insert((this.deadline, timer), context.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some(timer) = self.timer else { return };
        let mut state = lock(&self.clock.shared);
        // The waker is dropped when nothing is locked: it may own a task that sleeps too.
        let waker = state.clocks[self.clock.number].timers.remove(&(self.deadline, timer));
        drop(state);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(seconds: u64) -> Moment {
        Moment::after_start(SECOND * seconds as u32)
    }

    fn is_ready(sleep: &mut BoxFuture<'static, ()>) -> bool {
        sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn clocks_follow_the_true_time_at_their_own_rate() {
        let time = Time::new();
        let (right, fast, slow) = (time.clock(), time.clock(), time.clock());
        fast.set_drift(100_000);
        slow.set_drift(-100_000);
        time.advance(after(10));
        assert_eq!(right.now(), after(10));
        assert_eq!(fast.now(), after(11));
        assert_eq!(slow.now(), after(9));
        fast.set_drift(0);
        time.advance(after(20));
        assert_eq!(fast.now(), after(21), "what it gained stays");
        assert_eq!(right.wall_ms(), WALL_START_MS + 20_000);
    }

    #[test]
    fn wall_time_jumps_and_steady_time_does_not() {
        let time = Time::new();
        let clock = time.clock();
        time.advance(after(1));
        clock.jump_wall(-5_000);
        assert_eq!(clock.wall_ms(), WALL_START_MS - 4_000);
        assert_eq!(clock.now(), after(1));
        clock.jump_wall(7_000);
        assert_eq!(clock.wall_ms(), WALL_START_MS + 3_000);
    }

    #[test]
    fn who_sleeps_is_woken_when_the_own_clock_says_so() {
        for drift in [0, 1, -1, 333, -333, 100_000, -100_000, 999_999, -999_999] {
            let time = Time::new();
            let clock = time.clock();
            clock.set_drift(drift);
            let mut sleep = clock.sleep(Duration::from_micros(1_234_567));
            assert_eq!(time.next_at(), None, "nobody has polled it");
            assert!(!is_ready(&mut sleep));
            let due = time.next_at().expect("it waits");
            time.advance(Moment::after_start(due.elapsed() - Duration::from_nanos(1)));
            assert!(!is_ready(&mut sleep), "too early with drift {drift}");
            time.advance(due);
            assert!(is_ready(&mut sleep), "still asleep with drift {drift}");
            assert_eq!(time.next_at(), None);
        }
    }

    #[test]
    fn a_leap_wakes_those_whose_time_it_skipped() {
        let time = Time::new();
        let clock = time.clock();
        let mut sleep = clock.sleep(SECOND * 10);
        assert!(!is_ready(&mut sleep));
        clock.leap(SECOND * 60);
        assert!(time.next_at().expect("it waits") <= time.now());
        time.advance(time.now());
        assert!(is_ready(&mut sleep));
    }

    #[test]
    fn a_sleep_that_is_dropped_leaves_no_timer() {
        let time = Time::new();
        let mut sleep = time.clock().sleep(SECOND);
        assert!(!is_ready(&mut sleep));
        drop(sleep);
        assert_eq!(time.next_at(), None);
    }
}
