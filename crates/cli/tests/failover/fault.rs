//! One round of one fault.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::load::Load;
use crate::net::Cut;

/// Successes of every writer after which writes are said to go on.
const GOES_ON: usize = 25;

/// How long a store is paused or cut off at least. A lease is 400 ms and an election timeout at
/// most a second, so by then others lead for certain.
const AWAY: Duration = Duration::from_millis(2_500);

/// What the load does after the fault is over, when whoever was away may do harm.
const AFTERMATH: Duration = Duration::from_millis(1_500);

/// What happens to the store of the leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    Kill,
    Pause,
    Cut,
    Deaf,
    Mute,
    Apart,
    Replace,
}

impl Fault {
    const ALL: [Self; 7] =
        [Self::Kill, Self::Pause, Self::Cut, Self::Deaf, Self::Mute, Self::Apart, Self::Replace];

    /// Those that `KIVA_FAILOVER_FAULTS` names, or all.
    pub(crate) fn wanted() -> Vec<Self> {
        let named = std::env::var("KIVA_FAILOVER_FAULTS").unwrap_or_default();
        let named: Vec<_> = named.split(',').filter(|name| !name.is_empty()).collect();
        for name in &named {
            assert!(Self::ALL.iter().any(|fault| fault.name() == *name), "no fault `{name}`");
        }
        let is_wanted = |fault: &Self| named.is_empty() || named.contains(&fault.name());
        Self::ALL.into_iter().filter(is_wanted).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::Apart => "apart",
            Self::Replace => "replace",
        }
    }

    fn cut(self) -> Option<Cut> {
        match self {
            Self::Cut => Some(Cut::Both),
            Self::Deaf => Some(Cut::To),
            Self::Mute => Some(Cut::From),
            Self::Apart => Some(Cut::FromStores),
            Self::Kill | Self::Pause | Self::Replace => None,
        }
    }

    pub(crate) fn needs_namespaces(self) -> bool {
        self.cut().is_some()
    }

    /// Peers of a store that does not come back are replaced after half an hour unless told
    /// otherwise, for which no test waits. Stores report every ten seconds.
    pub(crate) fn scheduler_settings(self) -> &'static str {
        if self == Self::Replace { "store-down-ms = 15000\n" } else { "" }
    }

    async fn begin(self, cluster: &mut Cluster, place: usize) {
        match (self, self.cut()) {
            (_, Some(cut)) => cluster.net.cut(place, cut, true),
            (Self::Pause, _) => cluster.store(place).signal(Signal::STOP),
            _ => cluster.kill_store(place),
        }
    }

    async fn end(self, cluster: &mut Cluster, place: usize) {
        match (self, self.cut()) {
            (_, Some(cut)) => cluster.net.cut(place, cut, false),
            (Self::Pause, _) => cluster.store(place).signal(Signal::CONT),
            (Self::Replace, _) => {
                cluster.empty_store(place);
                cluster.start_store(place);
            }
            _ => cluster.start_store(place),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one round came to.
pub(crate) struct Round {
    pub(crate) load: Load,
    /// The longest time in which nobody's write succeeded.
    pub(crate) gap: Duration,
    /// The longest time in which the writes of one writer did not.
    pub(crate) gap_of_one: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operations, unknown) = self.load.counts();
        let (gap, one) = (self.gap.as_millis(), self.gap_of_one.as_millis());
        write!(
            f,
            "{gap} ms without a write, {one} ms the unluckiest writer; {operations} operations, \
             {unknown} of them unknown"
        )
    }
}

/// Plays one round: everything is well, the leader's store is hit, writes go on, it comes back.
pub(crate) async fn round(fault: Fault, round: usize, cluster: &mut Cluster) -> Round {
    let mut load = Load::start(cluster, round).await;
    cluster.whole().await;
    load.flows(load.now(), GOES_ON).await;
    let place = cluster.leader().await;

    let since = load.now();
    fault.begin(cluster, place).await;
    load.flows(since, GOES_ON).await;
    let (gap, gap_of_one) = load.gaps(since);
    if matches!(fault, Fault::Kill | Fault::Replace) {
        fault.end(cluster, place).await;
    } else {
        tokio::time::sleep(AWAY.saturating_sub(load.now().since(since))).await;
        fault.end(cluster, place).await;
    }
    tokio::time::sleep(AFTERMATH).await;
    load.flows(load.now(), GOES_ON).await;
    cluster.whole().await;

    load.stop().await;
    load.look(cluster).await;
    load.judge();
    cluster.check();
    Round { load, gap, gap_of_one }
}
