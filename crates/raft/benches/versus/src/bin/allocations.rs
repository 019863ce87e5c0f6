//! Counts what each job asks of the allocator, one line each. A program of its own: counting takes
//! time, which the other one measures.

use std::alloc::System;

use kiva_raft_versus::{Job, Library, memory_of_kiva, memory_of_raft_rs};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    for job in Job::all() {
        for library in Library::ALL {
            let mut work = job.prepare(library);
            let before = asked();
            work.run(job.count());
            let count = asked() - before;
            println!("{job} {library} {}", count as f64 / job.count() as f64);
        }
    }
    for bursts in [0, 100] {
        println!("memory/{bursts} {} {}", Library::Kiva, memory_of_kiva(bursts, false, freed));
        println!("memory/{bursts} {} {}", Library::RaftRs, memory_of_raft_rs(bursts, freed));
    }
    println!("memory/rest {} {}", Library::Kiva, memory_of_kiva(100, true, freed));
}

/// Allocations and growths so far.
fn asked() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Bytes given back so far.
fn freed() -> usize {
    ALLOCATOR.stats().bytes_deallocated
}
