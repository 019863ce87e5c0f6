//! The product's stores, simulated.

use std::time::Duration;

use kiva_testkit::sim::play::{attempt, play};
use kiva_testkit::sim::world::Setup;
use kiva_testkit::sim::{Failure, Kit, Profile, Summary, Trace, World};
use kiva_testkit::workload::{self, Register, Workload};

const PATIENCE: Duration = Duration::from_secs(30);

fn run(seed: u64, profile: &Profile, workload: &dyn Workload) -> (Result<Summary, Failure>, Trace) {
    let trace = Trace::default();
    let mut kit = Kit::new(seed, trace.clone());
    let result = attempt(move || {
        let setup = Setup::draw(&kit.rng);
        let mut world = World::new(&kit, setup);
        play(&mut world, &mut kit, workload, profile, PATIENCE)
    });
    (result, trace)
}

#[test]
fn a_cluster_without_trouble_serves_everybody() {
    for seed in 0..4 {
        let workload = Register::new(workload::register::Options::default());
        let (result, trace) = run(seed, &Profile::calm(Duration::from_secs(5)), &workload);
        match result {
            Ok(summary) => println!("seed {seed}: {} steps, {}", summary.steps, summary.verdict),
            Err(failure) => panic!("seed {seed}: {failure}\n{}", trace.story()),
        }
    }
}
