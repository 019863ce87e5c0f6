//! A crash at every operation of the disk in a life that does everything a log does.

use super::SMALL;
use super::model::{Op, Part, World, draws};
use crate::disk::MemoryDisk;

/// Writes, replaces, compacts, collects, recycles, removes, and opens again.
fn life() -> Vec<Op> {
    let append = |region, back, count, size| Part::Append { region, back, count, size };
    let mut life = vec![
        Op::Write(vec![Part::Ident(7), Part::Restart(1, 5), Part::HardState(1)]),
        Op::Sync,
        Op::Collect(1),
        Op::Write(vec![append(1, 0, 3, 100), append(2, 0, 2, 30), Part::HardState(2)]),
        Op::Write(vec![append(2, 1, 3, 50), append(3, 0, 1, 0)]),
        Op::Sync,
        Op::Write(vec![Part::Tombstone(4), append(4, 0, 1, 10)]),
        Op::Mark,
        Op::Reopen,
    ];
    for round in 0..8 {
        life.push(Op::Write(vec![append(1, 0, 2, 700), append(2, 0, 1, 400)]));
        life.push(Op::Write(vec![append(2, 2, 3, 300), Part::HardState(1)]));
        life.push(Op::Sync);
        life.push(Op::Write(vec![append(1, 0, 1, 900), append(3, 0, 1, 20)]));
        life.push(Op::Compact(1, 90));
        life.push(Op::Compact(2, 50));
        life.push(Op::Collect(2));
        if round == 3 {
            life.push(Op::Write(vec![Part::Remove(2), Part::Restart(3, 4)]));
            life.push(Op::Sync);
            life.push(Op::Reopen);
        }
    }
    life.push(Op::Compact(1, 100));
    life.push(Op::Collect(9));
    life.push(Op::Mark);
    life
}

/// What is done after a crash: enough to write over what was cut off.
fn after() -> Vec<Op> {
    let append = |region, size| Part::Append { region, back: 0, count: 1, size };
    let mut after = Vec::new();
    for size in [0, 8, 100, 16, 350] {
        after.push(Op::Write(vec![append(1, size), append(4, 0), Part::HardState(3)]));
        after.push(Op::Sync);
    }
    after.push(Op::Collect(2));
    after
}

/// Lives until the crash, then goes on with what it left.
fn crash_after(count: u64, draw: &mut dyn FnMut(usize) -> usize, again_after: Option<u64>) -> bool {
    let disk = MemoryDisk::new();
    disk.crash_after(count);
    let mut is_over = false;
    let mut world = match World::on(disk.clone(), SMALL) {
        Ok(world) => world,
        Err(()) => {
            // Nothing was there yet, so nothing can be lost.
            World::on(disk.crash(draw), SMALL).expect("a log always opens");
            return false;
        }
    };
    for op in life() {
        if world.run(&op).is_err() {
            is_over = true;
            break;
        }
    }
    world.crash(draw, again_after);
    for op in after() {
        world.run(&op).expect("nothing fails any more");
    }
    world.crash(&mut |_| 0, None);
    !is_over
}

#[test]
fn the_life_does_all_that_a_log_does() {
    let mut world = World::new(SMALL);
    for op in life() {
        world.run(&op).expect("nothing fails");
    }
    // The counters begin with the last reopening.
    let status = world.log().status();
    assert!(status.segments_dropped >= 3, "{status:?}");
    assert!(status.rewritten_bytes > 0, "{status:?}");
    let recycled = world.disk.counters();
    assert!(recycled.name_syncs > 4, "{recycled:?}");
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_synced() {
    let nothing: fn(usize) -> usize = |_| 0;
    let everything: fn(usize) -> usize = |count| count - 1;
    let mut count = 0;
    loop {
        let mut is_done = crash_after(count, &mut { nothing }, None);
        is_done &= crash_after(count, &mut { everything }, Some(count % 9));
        for seed in 0..6 {
            let again_after = (seed % 2 == 0).then_some((count + seed) % 11);
            is_done &= crash_after(count, &mut draws(count * 100 + seed), again_after);
        }
        if is_done {
            break;
        }
        count += 1;
    }
    assert!(count > 150, "a life of {count} operations is short");
}
