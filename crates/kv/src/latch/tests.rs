//! Scenarios 4A-latches and 4A-latch-wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::task::{ArcWake, waker};

use super::*;

fn keys(names: &[&'static str]) -> Vec<EncodedKey> {
    names.iter().map(|name| EncodedKey((*name).into())).collect()
}

fn try_hold(latches: &Latches, names: &[&'static str]) -> Result<Held, Hold> {
    let mut hold = latches.hold(Claim::Keys(&keys(names)));
    (&mut hold).now_or_never().ok_or(hold)
}

struct Counter(AtomicUsize);

impl ArcWake for Counter {
    fn wake_by_ref(counter: &Arc<Self>) {
        counter.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Covers 4A-latches.
#[test]
fn overlapping_claims_wait_and_disjoint_ones_do_not() {
    let latches = Latches::new(1);
    let ab = try_hold(&latches, &["a", "b"]).ok().expect("nobody is before it");
    let bc = try_hold(&latches, &["b", "c"]).err().expect("b is taken");
    let _d = try_hold(&latches, &["d", "d"]).ok().expect("nobody has d");
    // c is free, but who waits for b is before us in its queue: all or nothing, in order.
    let c = try_hold(&latches, &["c"]).err().expect("somebody is before it");
    drop(ab);
    let bc = bc.now_or_never().expect("b is free");
    assert!(try_hold(&latches, &["b"]).is_err());
    drop(bc);
    assert!(c.now_or_never().is_some());
}

/// Covers 4A-latch-wait.
#[test]
fn a_thousand_waiters_are_served_in_order_and_without_a_thread() {
    let latches = Latches::new(1);
    let first = try_hold(&latches, &["k"]).ok().expect("nobody is before it");
    let wakes = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = waker(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut waiting: VecDeque<Hold> =
        (0..1_000).map(|_| latches.hold(Claim::Keys(&keys(&["k"])))).collect();
    for hold in &mut waiting {
        assert!(hold.poll_unpin(&mut context).is_pending());
    }
    // Who gives up leaves the queue and holds up nobody.
    drop(waiting.remove(500));
    drop(waiting.pop_front());
    drop(first);
    let mut served = 0;
    while let Some(mut hold) = waiting.pop_front() {
        served += 1;
        assert_eq!(wakes.0.load(Ordering::Relaxed), served, "one wake for each that is served");
        let Poll::Ready(held) = hold.poll_unpin(&mut context) else { panic!("out of order") };
        assert!(waiting.front_mut().is_none_or(|next| next.poll_unpin(&mut context).is_pending()));
        drop(held);
    }
    assert_eq!(served, 998);
    assert!(latches.shared.lock().queues.is_empty(), "nothing is left behind");
}

#[test]
fn a_claim_on_everything_waits_for_all_and_all_wait_for_it() {
    let latches = Latches::new(1);
    let a = try_hold(&latches, &["a"]).ok().expect("nobody is before it");
    let mut all = latches.hold(Claim::All);
    assert!((&mut all).now_or_never().is_none());
    let b = try_hold(&latches, &["b"]).err().expect("everything is spoken for");
    let mut second = latches.hold(Claim::All);
    let c = try_hold(&latches, &["c"]).err().expect("behind the second one");
    drop(a);
    let all = all.now_or_never().expect("a is gone");
    drop(all);
    let b = b.now_or_never().expect("it was before the second claim on everything");
    assert!((&mut second).now_or_never().is_none());
    drop(b);
    // Giving up a claim on everything lets the others in.
    drop(second);
    assert!(c.now_or_never().is_some());
    let queues = latches.shared.lock();
    assert!(queues.waiting.is_empty() && queues.entered == 0 && queues.all.is_none());
}

#[test]
fn whoever_holds_everything_can_be_waited_for_and_given_up() {
    let latches = Latches::new(1);
    let all = latches.hold(Claim::All).now_or_never().expect("nobody is before it");
    let a = latches.hold(Claim::Keys(&keys(&["a"])));
    let second = latches.hold(Claim::All);
    drop(a);
    drop(all);
    assert!(second.now_or_never().is_some());
}
