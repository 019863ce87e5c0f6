//! What a seed stands for: a cluster, what goes wrong, and what its clients do.

use std::time::Duration;

use super::{Setup, World};
use crate::sim::faults::Often;
use crate::sim::play::{attempt, play};
use crate::sim::{DiskTrouble, Failure, Kit, Link, Profile, Stop, Summary, Trace};
use crate::workload::{self, Append, Register, Workload};

/// How long a cluster may take to come back to life when the faults are over.
const PATIENCE: Duration = Duration::from_secs(40);

/// What clients do, and what is done to the groups meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Work {
    /// Everybody reads and changes a few keys.
    Register,
    /// Everybody writes lists and reads them back, over logs that are cut all the time.
    Append,
    /// The same few keys while peers come and go, and disks are lost.
    Membership,
    /// Mostly reads, while leadership moves and processes stand still.
    Leaders,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Register, Self::Append, Self::Membership, Self::Leaders];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Append => "append",
            Self::Membership => "membership",
            Self::Leaders => "leaders",
        }
    }

    fn workload(self) -> Box<dyn Workload> {
        match self {
            Self::Register | Self::Membership => {
                Box::new(Register::new(workload::register::Options::default()))
            }
            Self::Append => Box::new(Append::new(workload::append::Options::default())),
            Self::Leaders => {
                let mix =
                    workload::register::Mix { get: 80, put: 14, delete: 2, compare_and_swap: 4 };
                let options = workload::register::Options { mix, keys: 2, ..Default::default() };
                Box::new(Register::new(options))
            }
        }
    }

    fn profile(self, seed: u64, trouble: Duration) -> Profile {
        let everything = Profile::everything(trouble);
        let mut profile = match seed / Self::ALL.len() as u64 % 4 {
            0 => Profile::network(trouble),
            1 => Profile::processes(trouble),
            2 => everything.clone(),
            _ => Profile { poor_link: Link::LOSSY, ..everything.clone() },
        };
        if profile.disks.is_some() {
            profile.disk_troubles.extend([DiskTrouble::SyncFails, DiskTrouble::Full]);
        }
        match self {
            Self::Register | Self::Append => {}
            Self::Membership => {
                profile.shakes = Some(Often::ms(100..1_500, 0..1));
                if !profile.stops.is_empty() {
                    profile.stops.push(Stop::DiskLost);
                }
            }
            Self::Leaders => {
                profile.shakes = Some(Often::ms(50..1_000, 0..1));
                profile.pauses = Some(Often::ms(300..2_000, 50..2_000));
                profile.down_max = usize::MAX;
                profile.drift_max = 50_000;
            }
        }
        profile
    }
}

/// Plays a seed: faults happen for `trouble`, then everything has to come to rest.
pub fn run(
    seed: u64,
    work: Work,
    trouble: Duration,
    trace: &Trace,
    change: impl FnOnce(&mut Setup),
) -> Result<Summary, Failure> {
    let workload = work.workload();
    let profile = work.profile(seed, trouble);
    attempt(|| {
        let mut kit = Kit::new(seed, trace.clone());
        let mut setup = Setup::draw(&kit.rng);
        setup.churns = work == Work::Membership;
        change(&mut setup);
        let mut world = World::new(&kit, setup);
        play(&mut world, &mut kit, &*workload, &profile, PATIENCE)
    })
}
