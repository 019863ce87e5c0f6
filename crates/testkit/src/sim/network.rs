//! Messages under way between hosts.
//!
//! What is sent arrives after the latency of its link, in the order it was sent, unless something
//! goes wrong: it is lost, comes twice, is held up for longer than an election, or overtakes what
//! was sent before it. A link from one host to another may be cut, in one direction or both; what
//! is under way on a cut link is lost or held up, as in the buffers of a connection that nobody has
//! closed yet.
//!
//! A message may have any type. The network never looks inside, and two that are due at the same
//! time arrive in the order the seed says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use kiva_base::Moment;

use super::{Chance, Host, Rng};

/// How a link treats what is sent over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// How long a message takes.
    pub latency: Range<Duration>,
    /// It never arrives.
    pub loss: Chance,
    /// It arrives a second time, on a way of its own.
    pub repeat: Chance,
    /// It does not wait for those before it.
    pub overtake: Chance,
    /// It is held up for a time of `delay`.
    pub late: Chance,
    /// How long messages are held up.
    pub delay: Range<Duration>,
    /// It is held up for a time of `long_delay`: longer than an election, or than the life of the
    /// process that sent it.
    pub very_late: Chance,
    /// How long very late messages are held up.
    pub long_delay: Range<Duration>,
}

impl Link {
    /// Loopback or one rack, with nothing going wrong.
    pub const GOOD: Self = Self {
        latency: Duration::from_micros(100)..Duration::from_micros(600),
        loss: Chance::NEVER,
        repeat: Chance::NEVER,
        overtake: Chance::NEVER,
        late: Chance::NEVER,
        delay: Duration::from_millis(5)..Duration::from_millis(300),
        very_late: Chance::NEVER,
        long_delay: Duration::from_secs(1)..Duration::from_secs(20),
    };

    /// Everything goes wrong now and then.
    pub const POOR: Self = Self {
        loss: Chance::percent(3),
        repeat: Chance::percent(3),
        overtake: Chance::percent(10),
        late: Chance::percent(5),
        very_late: Chance::per_million(3_000),
        ..Self::GOOD
    };

    /// One in ten is lost: the yardstick's "unreliable".
    pub const LOSSY: Self = Self { loss: Chance::percent(10), ..Self::POOR };
}

/// A message at its destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery<M> {
    /// Who sent it.
    pub from: Host,
    /// Who gets it.
    pub to: Host,
    /// When it was sent.
    pub sent_at: Moment,
    /// What was sent.
    pub message: M,
}

/// What became of the messages so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Handed in.
    pub sent: u64,
    /// Handed out, repetitions included.
    pub delivered: u64,
    /// Lost by bad luck or to a cut link.
    pub lost: u64,
    /// Sent once and put on the way twice.
    pub repeated: u64,
    /// Held up.
    pub delayed: u64,
}

/// Messages under way. See the module.
///
/// Invariants:
/// - No message is delivered over a link that is cut.
/// - Messages between two hosts that do not overtake and are not held up keep their order.
pub struct Network<M> {
    rng: Rng,
    usual: Link,
    special: BTreeMap<(Host, Host), Link>,
    cut: BTreeSet<(Host, Host)>,
    /// By time, then by lot, then in the order they were put on the way.
    under_way: BTreeMap<(Moment, u64, u64), Delivery<M>>,
    /// When the last message that keeps its place in the line arrives, and its lot.
    line: BTreeMap<(Host, Host), Moment>,
    put_on_way: u64,
    counts: Counts,
}

impl<M: Clone> Network<M> {
    /// Nothing under way, all links like `usual`.
    pub fn new(rng: Rng, usual: Link) -> Self {
        Self {
            rng,
            usual,
            special: BTreeMap::new(),
            cut: BTreeSet::new(),
            under_way: BTreeMap::new(),
            line: BTreeMap::new(),
            put_on_way: 0,
            counts: Counts::default(),
        }
    }

    /// Changes all links that have no setting of their own.
    pub fn set_usual(&mut self, link: Link) {
        self.usual = link;
    }

    /// Gives one direction between two hosts a setting of its own, or takes it away.
    pub fn set_link(&mut self, from: Host, to: Host, link: Option<Link>) {
        match link {
            Some(link) => self.special.insert((from, to), link),
            None => self.special.remove(&(from, to)),
        };
    }

    /// Nothing gets from `from` to `to`. The other direction is as it was.
    pub fn cut(&mut self, from: Host, to: Host) {
        self.cut.insert((from, to));
    }

    /// Nothing gets from one side to the other, in both directions.
    pub fn partition(&mut self, one: &[Host], other: &[Host]) {
        for &a in one {
            for &b in other {
                self.cut(a, b);
                self.cut(b, a);
            }
        }
    }

    /// Mends every link that is cut.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether what `from` sends to `to` has a chance.
    pub fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Puts a message on its way.
    pub fn send(&mut self, now: Moment, from: Host, to: Host, message: M) {
        self.counts.sent += 1;
        let link = self.special.get(&(from, to)).unwrap_or(&self.usual).clone();
        // Drawn in any case, so that a cut link moves nothing else.
        let is_lost = self.rng.happens(link.loss);
        let is_repeated = self.rng.happens(link.repeat);
        if is_lost || self.is_cut(from, to) {
            self.counts.lost += 1;
            return;
        }
        let delivery = Delivery { from, to, sent_at: now, message };
        if is_repeated {
            self.counts.repeated += 1;
            self.put(now, &link, delivery.clone());
        }
        self.put(now, &link, delivery);
    }

    fn put(&mut self, now: Moment, link: &Link, delivery: Delivery<M>) {
        let mut due = now + self.rng.duration(&link.latency);
        let (is_late, is_very_late) =
            (self.rng.happens(link.late), self.rng.happens(link.very_late));
        if is_late || is_very_late {
            let delay = if is_very_late { &link.long_delay } else { &link.delay };
            due = due + self.rng.duration(delay);
            self.counts.delayed += 1;
        } else if !self.rng.happens(link.overtake) {
            let last = self.line.entry((delivery.from, delivery.to)).or_default();
            // A nanosecond keeps the lot from changing the order of a line.
            due = due.max(*last + Duration::from_nanos(1));
            *last = due;
        }
        self.enqueue(due, delivery);
    }

    fn enqueue(&mut self, due: Moment, delivery: Delivery<M>) {
        self.put_on_way += 1;
        let lot = self.rng.next_u64();
        self.under_way.insert((due, lot, self.put_on_way), delivery);
    }

    /// When the next message is due.
    pub fn next_at(&self) -> Option<Moment> {
        self.under_way.first_key_value().map(|((due, ..), _)| *due)
    }

    /// The next message that is due by `now`.
    pub fn deliver(&mut self, now: Moment) -> Option<Delivery<M>> {
        while let Some(entry) = self.under_way.first_entry() {
            if entry.key().0 > now {
                return None;
            }
            let delivery = entry.remove();
            if !self.is_cut(delivery.from, delivery.to) {
                self.counts.delivered += 1;
                return Some(delivery);
            }
            // In the buffers of a connection nobody has closed, or gone with it.
            if self.rng.happens(Chance::percent(50)) {
                let delay = self.usual.delay.clone();
                let pause = self.rng.duration(&delay).max(Duration::from_millis(1));
                self.counts.delayed += 1;
                self.enqueue(now + pause, delivery);
            } else {
                self.counts.lost += 1;
            }
        }
        None
    }

    /// A host crashed: what was on its way there over open connections is lost. What it has sent
    /// still arrives.
    pub fn lose_messages_to(&mut self, host: Host) {
        let before = self.under_way.len();
        self.under_way.retain(|_, delivery| delivery.to != host);
        self.counts.lost += (before - self.under_way.len()) as u64;
    }

    /// How many messages are under way.
    pub fn count(&self) -> usize {
        self.under_way.len()
    }

    /// What became of the messages so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Deals hosts into two groups, either of which may be empty: a round of a rolling partition.
pub fn deal(rng: &mut Rng, hosts: &[Host]) -> (Vec<Host>, Vec<Host>) {
    hosts.iter().partition(|_| rng.happens(Chance::percent(50)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn hosts() -> (Host, Host, Host) {
        (Host::store(1), Host::store(2), Host::store(3))
    }

    fn all<M: Clone>(network: &mut Network<M>, until: Moment) -> Vec<M> {
        std::iter::from_fn(|| network.deliver(until)).map(|delivery| delivery.message).collect()
    }

    #[test]
    fn a_good_link_delivers_everything_once_and_in_order() {
        let (a, b, _) = hosts();
        let mut network = Network::new(Rng::seeded(1), Link::GOOD);
        (0..1_000).for_each(|number| network.send(at(number / 100), a, b, number));
        assert_eq!(network.deliver(at(0)), None, "nothing is faster than its latency");
        assert!(all(&mut network, at(20)).into_iter().eq(0..1_000));
        assert_eq!(network.count(), 0);
    }

    #[test]
    fn a_poor_link_loses_repeats_delays_and_reorders_as_the_seed_says() {
        let (a, b, _) = hosts();
        let run = |seed| {
            let mut network = Network::new(Rng::seeded(seed), Link::POOR);
            (0..2_000).for_each(|number| network.send(at(number), a, b, number));
            (all(&mut network, at(1_000_000)), network.counts())
        };
        let (messages, counts) = run(1);
        assert!(!messages.is_sorted());
        assert!((20..200).contains(&counts.lost), "{counts:?}");
        assert!((20..200).contains(&counts.repeated), "{counts:?}");
        assert!((40..300).contains(&counts.delayed), "{counts:?}");
        assert_eq!(counts.delivered, counts.sent - counts.lost + counts.repeated);
        assert_eq!(run(1), (messages.clone(), counts));
        assert_ne!(run(2).0, messages);
    }

    #[test]
    fn a_link_is_cut_one_way_or_both() {
        let (a, b, c) = hosts();
        let mut network = Network::new(Rng::seeded(1), Link::GOOD);
        network.cut(a, b);
        network.send(at(0), a, b, "a to b");
        network.send(at(0), b, a, "b to a");
        assert_eq!(all(&mut network, at(10)), ["b to a"]);
        network.heal();
        network.partition(&[a], &[b, c]);
        for (from, to) in [(a, b), (b, a), (a, c), (c, a)] {
            network.send(at(10), from, to, "across");
        }
        network.send(at(10), b, c, "b to c");
        assert_eq!(all(&mut network, at(20)), ["b to c"]);
        network.heal();
        network.send(at(20), a, b, "again");
        assert_eq!(all(&mut network, at(30)), ["again"]);
    }

    #[test]
    fn what_is_under_way_when_a_link_is_cut_is_lost_or_late() {
        let (a, b, _) = hosts();
        let mut network = Network::new(Rng::seeded(1), Link::GOOD);
        (0..100).for_each(|number| network.send(at(0), a, b, number));
        network.cut(a, b);
        assert!(all(&mut network, at(1)).is_empty());
        assert!((20..80).contains(&network.counts().lost), "{:?}", network.counts());
        network.heal();
        let late = all(&mut network, at(1_000));
        assert_eq!(late.len() as u64, 100 - network.counts().lost);
    }

    #[test]
    fn a_crash_loses_what_was_on_its_way_there() {
        let (a, b, _) = hosts();
        let mut network = Network::new(Rng::seeded(1), Link::GOOD);
        network.send(at(0), a, b, "to b");
        network.send(at(0), b, a, "from b");
        network.lose_messages_to(b);
        assert_eq!(all(&mut network, at(10)), ["from b"]);
    }
}
