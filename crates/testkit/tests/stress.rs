//! The stress scenarios: clients that write lists and read them back, and one kind of trouble at a
//! time or several.
//!
//! Each runs on one seed; `KIVA_STRESS_SEEDS=20` is what a release is held to. In the end every
//! list is complete, every replica holds the same, nobody holds what is not theirs, and where logs
//! are cut they are short.

use std::time::Duration;

use kiva_testkit::sim::faults::Often;
use kiva_testkit::sim::play::{attempt, play};
use kiva_testkit::sim::world::Setup;
use kiva_testkit::sim::{
    Chance, Cluster, DiskTrouble, Failure, Kit, Link, Profile, Stop, Trace, World,
};
use kiva_testkit::workload::append::{Append, Options};

/// Three rounds of about five seconds each.
const TROUBLE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(40);

/// One row of the table of scenarios.
struct Row {
    clients: u64,
    profile: Profile,
    churns: bool,
    /// The most applied entries a log may keep, twice.
    compact: Option<u64>,
}

/// Nothing goes wrong yet.
fn stress(clients: u64) -> Row {
    Row { clients, profile: Profile::calm(TROUBLE), churns: false, compact: None }
}

impl Row {
    /// One message in ten is lost, others are late, twice there or overtaken.
    fn drop(mut self) -> Self {
        self.profile.poor_links = Some(Often::ms(1..2, 60_000..60_001));
        self.profile.poor_link = Link { loss: Chance::percent(10), ..Link::LOSSY };
        self
    }

    /// Every 500 to 700 ms the stores are dealt afresh into two groups.
    fn rolling_partition(mut self) -> Self {
        self.profile.partitions = Some(Often::ms(500..700, 450..500));
        self
    }

    fn restart_all(self) -> Self {
        self.all(Stop::Orderly)
    }

    fn all(mut self, stop: Stop) -> Self {
        self.profile.restarts = Some(Often::ms(4_000..5_000, 500..501));
        self.profile.restart_stop = stop;
        self
    }

    /// Peers come and go.
    fn conf_churn(mut self) -> Self {
        self.churns = true;
        self.profile.shakes = Some(Often::ms(100..700, 0..1));
        self
    }

    fn compact(mut self, entries: u64) -> Self {
        self.compact = Some(entries);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Profile)) -> Self {
        change(&mut self.profile);
        self
    }

    fn run(self) {
        let asked = std::env::var("KIVA_STRESS_SEEDS").ok();
        let seeds = asked.and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
        for seed in 0..seeds {
            let trace = Trace::default();
            if let Err(failure) = attempt(|| self.play(seed, &trace)) {
                panic!("seed {seed}: {failure}\n{}", trace.story());
            }
        }
    }

    fn play(&self, seed: u64, trace: &Trace) -> Result<kiva_testkit::sim::Summary, Failure> {
        let mut kit = Kit::new(seed, trace.clone());
        let mut setup = Setup::draw(&kit.rng);
        setup.stores = 5;
        setup.churns = self.churns;
        setup.options.compact_ticks = 1;
        setup.options.log_entries_max = self.compact.unwrap_or(128_000);
        let workload = Append::new(Options { clients: self.clients, ..Options::default() });
        let mut world = World::new(&kit, setup);
        let summary = play(&mut world, &mut kit, &workload, &self.profile, PATIENCE)?;
        world.check().map_err(Failure)?;
        let longest = world.log_lengths().into_iter().max().unwrap_or_default();
        match self.compact {
            Some(limit) if longest > 2 * limit => {
                Err(Failure(format!("a log keeps {longest} entries, {limit} are enough")))
            }
            _ => Ok(summary),
        }
    }
}

/// A test for each row: its id, and what goes wrong.
macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident: $row:expr;)*) => {
        $($(#[$doc])* #[test] fn $name() { $row.run(); })*
    };
}

rows! {
    /// Covers 2B-basic.
    one_client: stress(1);
    /// Covers 2B-concurrent.
    five_clients: stress(5);
    /// Covers 2B-unreliable.
    messages_are_lost: stress(5).drop();
    /// Covers 2B-many-partitions-one-client.
    partitions_and_one_client: stress(1).rolling_partition();
    /// Covers 2B-partition-many-clients.
    partitions_and_five_clients: stress(5).rolling_partition();
    /// Covers 2B-persist-one-client.
    restarts_and_one_client: stress(1).restart_all();
    /// Covers 2B-persist-concurrent.
    restarts_and_five_clients: stress(5).restart_all();
    /// Covers 2B-persist-unreliable.
    restarts_and_lost_messages: stress(5).drop().restart_all();
    /// Covers 2B-persist-partition.
    restarts_and_partitions: stress(5).rolling_partition().restart_all();
    /// Covers 2B-persist-partition-unreliable.
    restarts_partitions_and_lost_messages: stress(5).drop().rolling_partition().restart_all();
    /// Covers 2B-kill.
    a_store_is_killed_every_half_second: stress(5).with(|profile| {
        profile.crashes = Some(Often::ms(500..501, 100..900));
        profile.stops = vec![Stop::Killed, Stop::PowerLost];
        profile.down_max = 2;
    });
    /// Covers 2B-kill-all.
    all_stores_lose_their_power: stress(5).all(Stop::PowerLost);
    /// Covers 2B-slow-disk (the checker's half).
    disks_are_slow: stress(5).with(|profile| {
        profile.disks = Some(Often::ms(200..1_500, 500..2_000));
        profile.disk_troubles = [10, 100, 300, 500]
            .map(|ms| DiskTrouble::Slow(Duration::from_millis(ms)))
            .to_vec();
    });
    /// Covers 2B-pause.
    processes_stand_still: stress(5).with(|profile| {
        profile.pauses = Some(Often::ms(500..3_000, 1_500..3_000));
        profile.down_max = 2;
    });
    /// Covers 2B-asymmetric (the checker's half).
    links_are_cut_one_way: stress(5).with(|profile| {
        profile.one_way = Some(Often::ms(100..1_000, 500..3_000));
    });
    /// Covers 2C-recover.
    logs_are_cut_and_stores_restart: stress(1).restart_all().compact(100);
    /// Covers 2C-recover-many-clients.
    logs_are_cut_and_many_write: stress(20).restart_all().compact(100);
    /// Covers 2C-unreliable.
    logs_are_cut_and_messages_lost: stress(5).drop().compact(100);
    /// Covers 2C-unreliable-recover.
    logs_are_cut_messages_lost_and_stores_restart: stress(5).drop().restart_all().compact(100);
    /// Covers 2C-unreliable-recover-partition.
    logs_are_cut_and_everything_else:
        stress(5).drop().rolling_partition().restart_all().compact(100);
    /// Covers 3B-conf-change-recover.
    peers_come_and_go: stress(1).restart_all().conf_churn();
    /// Covers 3B-conf-change-recover-many-clients.
    peers_come_and_go_and_many_write: stress(20).restart_all().conf_churn();
    /// Covers 3B-conf-change-unreliable.
    peers_come_and_go_and_messages_are_lost: stress(5).drop().conf_churn();
    /// Covers 3B-conf-change-unreliable-recover.
    peers_come_and_go_messages_are_lost_and_stores_restart:
        stress(5).drop().restart_all().conf_churn();
    /// Covers 3B-conf-change-snapshot-unreliable-recover.
    peers_come_and_go_over_short_logs:
        stress(5).drop().restart_all().conf_churn().compact(100);
    /// Covers 3B-conf-change-snapshot-unreliable-recover-partition.
    peers_come_and_go_through_all_of_it:
        stress(5).drop().rolling_partition().restart_all().conf_churn().compact(100);
}
