//! Safe points: up to where old versions may be collected.
//!
//! There is one safe point, which only moves forward. Services that still need old versions (a
//! backup, a long reader) hold it back: each says up to where it needs them and for how long. Who
//! wants to move the safe point asks for the minimum of all holds first; the collector itself is
//! one of the services, under the name `gc_worker`, which is always there and never expires.

use std::collections::BTreeMap;

use bytes::Bytes;
use kiva_base::Timestamp;

/// The name of the service that collects.
pub const GC_WORKER: &[u8] = b"gc_worker";

/// A service needs versions at `safe_point` and above.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Its name.
    pub service: Bytes,
    /// The oldest timestamp that it reads at.
    pub safe_point: Timestamp,
    /// When it stops counting, in Unix seconds; `u64::MAX` is never.
    pub expires: u64,
}

impl Hold {
    /// For how many more seconds it counts at `now`, in Unix seconds.
    pub fn ttl(&self, now: u64) -> i64 {
        if self.expires == u64::MAX {
            return i64::MAX;
        }
        i64::try_from(self.expires.saturating_sub(now)).unwrap_or(i64::MAX)
    }
}

/// The safe point and what holds it back.
///
/// Invariant: `safe_point` never goes back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SafePoints {
    safe_point: Timestamp,
    holds: BTreeMap<Bytes, Hold>,
}

/// What has to be saved for a service's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HoldChange {
    /// Nothing: the safe point asked for is below the minimum, and what it protects may be gone.
    None,
    /// This hold begins or moves.
    Put(Hold),
    /// The hold of this service ends.
    Remove(Bytes),
}

impl SafePoints {
    /// The safe point.
    pub fn safe_point(&self) -> Timestamp {
        self.safe_point
    }

    /// Moves the safe point forward; a smaller one changes nothing.
    pub fn move_to(&mut self, safe_point: Timestamp) {
        self.safe_point = self.safe_point.max(safe_point);
    }

    /// What a service's request amounts to: a hold of `ttl` seconds from `now`, in Unix seconds, or
    /// its end when `ttl` is not positive.
    pub fn decide(&self, service: Bytes, ttl: i64, safe_point: Timestamp, now: u64) -> HoldChange {
        let Some(ttl) = u64::try_from(ttl).ok().filter(|&ttl| ttl > 0) else {
            return HoldChange::Remove(service);
        };
        if safe_point < self.minimum(now).safe_point {
            return HoldChange::None;
        }
        let expires = if ttl >= i64::MAX as u64 { u64::MAX } else { now.saturating_add(ttl) };
        HoldChange::Put(Hold { service, safe_point, expires })
    }

    /// A hold begins or moves.
    pub fn put(&mut self, hold: Hold) {
        self.holds.insert(hold.service.clone(), hold);
    }

    /// A hold ends.
    pub fn remove(&mut self, service: &[u8]) {
        self.holds.remove(service);
    }

    /// The hold that is furthest back at `now`, in Unix seconds. Until the collector has spoken it
    /// counts as standing at the safe point.
    pub fn minimum(&self, now: u64) -> Hold {
        let collector = Hold {
            service: Bytes::from_static(GC_WORKER),
            safe_point: self.safe_point,
            expires: u64::MAX,
        };
        let is_missing = !self.holds.contains_key(GC_WORKER);
        self.holds
            .values()
            .filter(|hold| hold.expires > now)
            .chain(is_missing.then_some(&collector))
            .min_by_key(|hold| hold.safe_point)
            .unwrap_or(&collector)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn ask(points: &mut SafePoints, service: &'static str, ttl: i64, ts: u64) -> Hold {
        match points.decide(service.into(), ttl, Timestamp(ts), NOW) {
            HoldChange::None => {}
            HoldChange::Put(hold) => points.put(hold),
            HoldChange::Remove(service) => points.remove(&service),
        }
        points.minimum(NOW)
    }

    #[test]
    fn the_safe_point_moves_forward_only() {
        let mut points = SafePoints::default();
        points.move_to(Timestamp(9));
        points.move_to(Timestamp(4));
        assert_eq!(points.safe_point(), Timestamp(9));
    }

    #[test]
    fn the_service_furthest_back_is_the_minimum() {
        let mut points = SafePoints::default();
        assert_eq!(ask(&mut points, "gc_worker", i64::MAX, 50).safe_point, Timestamp(50));
        let minimum = ask(&mut points, "backup", 10, 70);
        assert_eq!((&minimum.service[..], minimum.ttl(NOW)), (GC_WORKER, i64::MAX));
        let minimum = ask(&mut points, "gc_worker", i64::MAX, 90);
        assert_eq!(minimum.service, "backup");
        assert_eq!((minimum.safe_point, minimum.ttl(NOW)), (Timestamp(70), 10));
        assert_eq!(points.minimum(NOW + 9).service, "backup");
        assert_eq!(points.minimum(NOW + 10).service, GC_WORKER, "a hold expires");
        assert_eq!(ask(&mut points, "backup", 0, 0).service, GC_WORKER, "and can be removed");
    }

    #[test]
    fn what_may_be_gone_cannot_be_held() {
        let mut points = SafePoints::default();
        ask(&mut points, "gc_worker", i64::MAX, 50);
        let minimum = ask(&mut points, "backup", 10, 49);
        assert_eq!(minimum.safe_point, Timestamp(50));
        assert_eq!(minimum.service, GC_WORKER);
        // Without a collector the safe point itself is the limit.
        let mut points = SafePoints::default();
        points.move_to(Timestamp(30));
        assert_eq!(ask(&mut points, "backup", 10, 20).safe_point, Timestamp(30));
        assert_eq!(ask(&mut points, "backup", 10, 40).safe_point, Timestamp(30));
    }

    #[test]
    fn absurd_times_to_live_do_not_wrap() {
        let mut points = SafePoints::default();
        ask(&mut points, "gc_worker", i64::MAX, 50);
        ask(&mut points, "a", i64::MAX - 1, 60);
        ask(&mut points, "b", i64::MIN, 60);
        ask(&mut points, "gc_worker", i64::MAX, 90);
        assert_eq!(points.minimum(NOW).ttl(NOW), i64::MAX - 1);
    }
}
