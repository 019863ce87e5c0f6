//! What goes wrong and when, drawn before the run begins.
//!
//! A [`Profile`] says what may go wrong and how often, a [`Schedule`] what does in the run of one
//! seed. Each kind of fault has a stream of numbers of its own, so more partitions do not move the
//! crashes. Every fault that lasts comes with its end, and at [`Schedule::calm_at`] all that is
//! still wrong is put right at once: from there on the cluster has to make progress.
//!
//! The schedule only knows names. The world carries a fault out: it owns the network, the disks,
//! the clocks and the hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use kiva_base::Moment;

use super::network::deal;
use super::{Chance, Host, Link, Rng};

/// Something that goes wrong, or is put right again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process ends.
    Stop(Host, Stop),
    /// A process that ended starts on what it left behind.
    Start(Host),
    /// All steps of a process stop, for longer than an election timeout: SIGSTOP, a migration.
    Pause(Host),
    /// They go on.
    Resume(Host),
    /// No message passes between the two groups; earlier cuts are mended first.
    Partition(Vec<Host>, Vec<Host>),
    /// No message passes from the first to the second; the way back is open.
    Cut(Host, Host),
    /// All cuts are mended.
    Heal,
    /// From now on links are like this.
    Links(Link),
    /// Somebody sets the wall time, relative to what it says.
    WallJump(Host, i64),
    /// A clock goes faster or slower by this many millionths.
    Drift(Host, i32),
    /// A disk goes wrong.
    Disk(Host, DiskTrouble),
    /// The disk is well again, as far as that can be.
    DiskWell(Host),
    /// Something that only the world and its workload understand: move a leader, change the
    /// members. The number is for them to draw from.
    Shake(u64),
    /// Everything that is wrong is put right: faults have an end here.
    Calm,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stop {
    /// It is asked to, and finishes what it has begun.
    Orderly,
    /// It is killed. What it wrote to the disk is there, synced or not.
    Killed,
    /// The machine loses its power. Of what was not synced any part may be lost.
    PowerLost,
    /// The machine is lost with its disk: what starts under its name later knows nothing.
    DiskLost,
}

/// How a disk goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskTrouble {
    /// Every sync takes this much longer.
    Slow(Duration),
    /// Nothing finishes any more until the disk is well.
    Stalled,
    /// The next sync fails.
    SyncFails,
    /// Nothing more fits.
    Full,
    /// A bit of what is stored changes.
    BitFlips,
}

/// How often a kind of fault happens, and how long it lasts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Often {
    /// From one to the next.
    pub every: Range<Duration>,
    /// From its beginning to its end.
    pub lasts: Range<Duration>,
}

impl Often {
    /// In milliseconds.
    pub const fn ms(every: Range<u64>, lasts: Range<u64>) -> Self {
        const fn range(ms: Range<u64>) -> Range<Duration> {
            Duration::from_millis(ms.start)..Duration::from_millis(ms.end)
        }
        Self { every: range(every), lasts: range(lasts) }
    }
}

/// What may go wrong in a run. What is `None` does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// How long faults go on.
    pub trouble: Duration,
    /// When the first may happen: a cluster that has no leader yet is not much of a target.
    pub grace: Duration,
    /// Hosts that are stopped or paused at once, at most.
    pub down_max: usize,
    /// Processes end and start again.
    pub crashes: Option<Often>,
    /// How they may end; one of these, each as likely as the others.
    pub stops: Vec<Stop>,
    /// All processes end at once, and start again.
    pub restarts: Option<Often>,
    /// How they end then.
    pub restart_stop: Stop,
    /// Processes stand still.
    pub pauses: Option<Often>,
    /// The hosts are dealt into two groups.
    pub partitions: Option<Often>,
    /// Of those, so many are dealt afresh before they heal: a rolling partition.
    pub rolling: Chance,
    /// One direction between two hosts is cut.
    pub one_way: Option<Often>,
    /// Links are like `poor_link`.
    pub poor_links: Option<Often>,
    /// What links are like then.
    pub poor_link: Link,
    /// Wall time is set to something else, by up to `wall_jump` either way.
    pub wall_jumps: Option<Often>,
    /// How far.
    pub wall_jump: Duration,
    /// Clocks go wrong by up to this many millionths, all the time. Leases allow for a tenth.
    pub drift_max: u32,
    /// A disk goes wrong.
    pub disks: Option<Often>,
    /// In which ways; one of these, each as likely as the others.
    pub disk_troubles: Vec<DiskTrouble>,
    /// Something only the world understands happens.
    pub shakes: Option<Often>,
}

impl Profile {
    /// Nothing goes wrong for this long.
    pub const fn calm(trouble: Duration) -> Self {
        Self {
            trouble,
            grace: Duration::from_millis(300),
            down_max: 0,
            crashes: None,
            stops: Vec::new(),
            restarts: None,
            restart_stop: Stop::Orderly,
            pauses: None,
            partitions: None,
            rolling: Chance::NEVER,
            one_way: None,
            poor_links: None,
            poor_link: Link::POOR,
            wall_jumps: None,
            wall_jump: Duration::from_secs(3_600),
            drift_max: 0,
            disks: None,
            disk_troubles: Vec::new(),
            shakes: None,
        }
    }

    /// Links only: poor ones, partitions that roll, and one-way cuts.
    pub fn network(trouble: Duration) -> Self {
        Self {
            partitions: Some(Often::ms(200..4_000, 100..3_000)),
            rolling: Chance::percent(50),
            one_way: Some(Often::ms(500..5_000, 100..3_000)),
            poor_links: Some(Often::ms(200..3_000, 200..3_000)),
            ..Self::calm(trouble)
        }
    }

    /// Processes only: killed, out of power, paused.
    pub fn processes(trouble: Duration) -> Self {
        Self {
            down_max: usize::MAX,
            crashes: Some(Often::ms(300..5_000, 10..3_000)),
            stops: vec![Stop::Orderly, Stop::Killed, Stop::PowerLost],
            pauses: Some(Often::ms(500..5_000, 50..3_000)),
            ..Self::calm(trouble)
        }
    }

    /// All of that, clocks that go wrong, and disks that are slow for a while.
    pub fn everything(trouble: Duration) -> Self {
        let network = Self::network(trouble);
        Self {
            partitions: network.partitions,
            rolling: network.rolling,
            one_way: network.one_way,
            poor_links: network.poor_links,
            wall_jumps: Some(Often::ms(1_000..10_000, 0..1)),
            drift_max: 50_000,
            disks: Some(Often::ms(1_000..8_000, 50..2_000)),
            disk_troubles: vec![
                DiskTrouble::Slow(Duration::from_millis(10)),
                DiskTrouble::Slow(Duration::from_millis(500)),
                DiskTrouble::Stalled,
            ],
            shakes: Some(Often::ms(200..3_000, 0..1)),
            ..Self::processes(trouble)
        }
    }
}

/// What goes wrong in one run.
///
/// Invariants:
/// - Nothing happens after `calm_at`, and the last event is [`Fault::Calm`].
/// - At no time more than `down_max` hosts are stopped or paused, and none is stopped or paused
///   twice, unless all of them restart at once.
#[derive(Clone, Debug)]
pub struct Schedule {
    events: BTreeMap<(Moment, u64), Fault>,
    calm_at: Moment,
    made: u64,
}

impl Schedule {
    /// The schedule of a seed for these hosts.
    pub fn draw(rng: &Rng, profile: &Profile, hosts: &[Host]) -> Self {
        let calm_at = Moment::default() + profile.trouble;
        let mut schedule = Self { events: BTreeMap::new(), calm_at, made: 0 };
        if !hosts.is_empty() {
            schedule.draw_clocks(rng, profile, hosts);
            schedule.draw_links(rng, profile, hosts);
            schedule.draw_processes(rng, profile, hosts);
            schedule.draw_restarts(rng, profile, hosts);
            schedule.draw_disks(rng, profile, hosts);
        }
        // Ends of what began before are covered by the calm that puts everything right.
        schedule.events.retain(|(at, _), _| *at < calm_at);
        schedule.add(calm_at, Fault::Calm);
        schedule
    }

    /// When everything is put right.
    pub fn calm_at(&self) -> Moment {
        self.calm_at
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Moment> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next thing that happens by `now`.
    pub fn pop(&mut self, now: Moment) -> Option<Fault> {
        let entry = self.events.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// All that is still to come, for a person.
    pub fn events(&self) -> impl Iterator<Item = (Moment, &Fault)> {
        self.events.iter().map(|((at, _), fault)| (*at, fault))
    }

    fn add(&mut self, at: Moment, fault: Fault) {
        self.made += 1;
        self.events.insert((at, self.made), fault);
    }

    fn draw_clocks(&mut self, rng: &Rng, profile: &Profile, hosts: &[Host]) {
        let mut drifts = rng.stream("drift");
        for &host in hosts {
            let span = u64::from(profile.drift_max);
            let drift = drifts.number(0..2 * span + 1) as i64 - span as i64;
            if drift != 0 {
                self.add(Moment::default(), Fault::Drift(host, drift as i32));
            }
        }
        let span = profile.wall_jump.as_millis() as u64;
        for (at, _, mut rng) in times(rng, "wall", profile.wall_jumps.as_ref(), profile) {
            let host = hosts[rng.position(hosts.len())];
            let by = rng.number(0..2 * span + 1) as i64 - span as i64;
            self.add(at, Fault::WallJump(host, by));
        }
        for (at, _, mut rng) in times(rng, "shake", profile.shakes.as_ref(), profile) {
            self.add(at, Fault::Shake(rng.next_u64()));
        }
    }

    fn draw_links(&mut self, rng: &Rng, profile: &Profile, hosts: &[Host]) {
        for (at, end, mut rng) in times(rng, "partition", profile.partitions.as_ref(), profile) {
            let rolls = if rng.happens(profile.rolling) { 1 + rng.number(1..5) } else { 1 };
            let length = end.since(at) / rolls as u32;
            for roll in 0..rolls as u32 {
                let (one, other) = deal(&mut rng, hosts);
                self.add(at + length * roll, Fault::Partition(one, other));
            }
            self.add(end, Fault::Heal);
        }
        for (at, end, mut rng) in times(rng, "one way", profile.one_way.as_ref(), profile) {
            let mut pair = hosts.to_vec();
            rng.shuffle(&mut pair);
            if let [from, to, ..] = pair[..] {
                self.add(at, Fault::Cut(from, to));
                self.add(end, Fault::Heal);
            }
        }
        for (at, end, _) in times(rng, "links", profile.poor_links.as_ref(), profile) {
            self.add(at, Fault::Links(profile.poor_link.clone()));
            self.add(end, Fault::Links(Link::GOOD));
        }
    }

    fn draw_processes(&mut self, rng: &Rng, profile: &Profile, hosts: &[Host]) {
        // Both kinds take a host away, so they are dealt out together, in the order of time.
        let crashes = times(rng, "crash", profile.crashes.as_ref(), profile).map(|t| (t, true));
        let pauses = times(rng, "pause", profile.pauses.as_ref(), profile).map(|t| (t, false));
        let mut all: Vec<_> = crashes.chain(pauses).collect();
        all.sort_by_key(|((at, ..), is_crash)| (*at, *is_crash));
        let mut down: BTreeMap<Host, Moment> = BTreeMap::new();
        for ((at, end, mut rng), is_crash) in all {
            down.retain(|_, end| *end > at);
            let up: Vec<_> = hosts.iter().filter(|host| !down.contains_key(host)).collect();
            let host = rng.pick(&up).map(|host| **host);
            let stop = rng.pick(&profile.stops).copied();
            let Some(host) = host.filter(|_| down.len() < profile.down_max) else { continue };
            // A host that comes back at the moment it goes down again would be down twice.
            down.insert(host, end + Duration::from_micros(1));
            match stop {
                Some(stop) if is_crash => {
                    self.add(at, Fault::Stop(host, stop));
                    self.add(end, Fault::Start(host));
                }
                _ => {
                    self.add(at, Fault::Pause(host));
                    self.add(end, Fault::Resume(host));
                }
            }
        }
    }

    fn draw_restarts(&mut self, rng: &Rng, profile: &Profile, hosts: &[Host]) {
        for (at, end, _) in times(rng, "restart", profile.restarts.as_ref(), profile) {
            for &host in hosts {
                self.add(at, Fault::Stop(host, profile.restart_stop));
                self.add(end, Fault::Start(host));
            }
        }
    }

    fn draw_disks(&mut self, rng: &Rng, profile: &Profile, hosts: &[Host]) {
        for (at, end, mut rng) in times(rng, "disk", profile.disks.as_ref(), profile) {
            let host = hosts[rng.position(hosts.len())];
            let Some(&trouble) = rng.pick(&profile.disk_troubles) else { continue };
            self.add(at, Fault::Disk(host, trouble));
            self.add(end, Fault::DiskWell(host));
        }
    }
}

/// Beginnings and ends of one kind of fault, each with a stream of its own for the details.
fn times(
    rng: &Rng,
    kind: &str,
    often: Option<&Often>,
    profile: &Profile,
) -> impl Iterator<Item = (Moment, Moment, Rng)> + use<> {
    let mut all = Vec::new();
    let root = rng.stream(kind);
    let mut beginnings = root.clone();
    let calm_at = Moment::default() + profile.trouble;
    let mut at = Moment::default() + profile.grace;
    while let Some(often) = often {
        // A kind without a pause between two faults would never end.
        at = at + beginnings.duration(&often.every).max(Duration::from_millis(1));
        if at >= calm_at {
            break;
        }
        let mut details = root.numbered("details", all.len() as u64);
        let end = at + details.duration(&often.lasts);
        all.push((at, end, details));
    }
    all.into_iter()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(host, Stop::Orderly) => write!(f, "{host} is stopped"),
            Self::Stop(host, Stop::Killed) => write!(f, "{host} is killed"),
            Self::Stop(host, Stop::PowerLost) => write!(f, "{host} loses its power"),
            Self::Stop(host, Stop::DiskLost) => write!(f, "{host} loses its disk"),
            Self::Start(host) => write!(f, "{host} starts"),
            Self::Pause(host) => write!(f, "{host} stands still"),
            Self::Resume(host) => write!(f, "{host} goes on"),
            Self::Partition(one, other) => {
                write!(f, "partition {} | {}", names(one), names(other))
            }
            Self::Cut(from, to) => write!(f, "cut {from} -> {to}"),
            Self::Heal => f.write_str("links are mended"),
            Self::Links(link) if *link == Link::GOOD => f.write_str("links are good"),
            Self::Links(_) => f.write_str("links are poor"),
            Self::WallJump(host, ms) => write!(f, "wall time of {host} jumps by {ms} ms"),
            Self::Drift(host, millionths) => {
                write!(f, "clock of {host} drifts by {millionths} ppm")
            }
            Self::Disk(host, trouble) => match trouble {
                DiskTrouble::Slow(by) => write!(f, "disk of {host} is slower by {by:?}"),
                DiskTrouble::Stalled => write!(f, "disk of {host} stalls"),
                DiskTrouble::SyncFails => write!(f, "disk of {host} fails a sync"),
                DiskTrouble::Full => write!(f, "disk of {host} is full"),
                DiskTrouble::BitFlips => write!(f, "disk of {host} flips a bit"),
            },
            Self::DiskWell(host) => write!(f, "disk of {host} is well"),
            Self::Shake(_) => f.write_str("shake"),
            Self::Calm => f.write_str("calm"),
        }
    }
}

fn names(hosts: &[Host]) -> String {
    let names: Vec<_> = hosts.iter().map(Host::to_string).collect();
    if names.is_empty() { "nobody".into() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn hosts() -> Vec<Host> {
        (1..=5).map(Host::store).collect()
    }

    fn drawn(seed: u64, profile: &Profile) -> Vec<(Moment, Fault)> {
        let mut schedule = Schedule::draw(&Rng::seeded(seed), profile, &hosts());
        let mut events = Vec::new();
        while let Some(at) = schedule.next_at() {
            events.push((at, schedule.pop(at).expect("it is due")));
        }
        events
    }

    #[test]
    fn every_kind_of_fault_happens_before_the_calm_and_none_after() {
        let profile = Profile::everything(MINUTE);
        let events = drawn(1, &profile);
        let kinds: BTreeSet<_> = events
            .iter()
            .map(|(_, fault)| format!("{fault:?}").split(['(', ' ']).next().map(str::to_owned))
            .collect();
        assert_eq!(kinds.len(), 14, "{kinds:?}");
        let (last_at, last) = events.last().expect("the calm is there");
        assert_eq!((*last_at, last), (Moment::default() + MINUTE, &Fault::Calm));
        assert!(events.iter().rev().skip(1).all(|(at, _)| at < last_at));
        assert_eq!(events, drawn(1, &profile));
        assert_ne!(events, drawn(2, &profile));
    }

    #[test]
    fn nobody_is_down_twice_and_not_too_many_at_once() {
        for seed in 0..200 {
            let profile = Profile { down_max: 2, ..Profile::everything(MINUTE) };
            let mut down = BTreeSet::new();
            for (at, fault) in drawn(seed, &profile) {
                match fault {
                    Fault::Stop(host, _) | Fault::Pause(host) => {
                        assert!(down.insert(host), "{host} is down already at {at:?}, seed {seed}");
                    }
                    Fault::Start(host) | Fault::Resume(host) => assert!(down.remove(&host)),
                    _ => {}
                }
                assert!(down.len() <= 2, "seed {seed}");
            }
        }
    }

    #[test]
    fn one_kind_of_fault_does_not_move_another() {
        let only_crashes = |events: Vec<(Moment, Fault)>| {
            let is_crash = |fault: &Fault| matches!(fault, Fault::Stop(..));
            events.into_iter().filter(|(_, fault)| is_crash(fault)).collect::<Vec<_>>()
        };
        let profile = Profile { pauses: None, ..Profile::processes(MINUTE) };
        let with_links = Profile { pauses: None, ..Profile::everything(MINUTE) };
        assert_eq!(only_crashes(drawn(1, &profile)), only_crashes(drawn(1, &with_links)));
    }

    #[test]
    fn a_calm_profile_is_calm() {
        assert_eq!(drawn(1, &Profile::calm(MINUTE)).len(), 1);
    }
}
