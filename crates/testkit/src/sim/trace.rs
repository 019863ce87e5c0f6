//! What happened: one line per event.
//!
//! All lines together have a hash, which two runs of one seed must share. The last lines are kept,
//! and are the story that a failure tells.
//!
//! ```text
//!    1.204150 s3  leads region 1 in term 7
//!    └ seconds    └ whom it happened to, and what
//! ```

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiva_base::Moment;
use kiva_base::map::{Mix, Seeded};

use super::Host;

/// Lines kept for the story, unless somebody asks for more. A screen or two would do for most
/// failures; the cause of a rare one is often an election or two earlier.
pub const LINES_KEPT: usize = 400;

/// What happened, for all who see something happen. A clone is another handle to the same trace.
#[derive(Clone)]
pub struct Trace {
    shared: Arc<Mutex<Lines>>,
}

/// Invariants:
/// - `kept` holds the last `min(count, keep)` lines.
struct Lines {
    hash: Mix,
    count: u64,
    keep: usize,
    kept: VecDeque<String>,
}

impl Trace {
    /// An empty trace that keeps this many lines for the story.
    pub fn keeping(lines: usize) -> Self {
        let lines = Lines {
            hash: Seeded::new(0).build_hasher(),
            count: 0,
            keep: lines,
            kept: VecDeque::new(),
        };
        Self { shared: Arc::new(Mutex::new(lines)) }
    }

    /// Adds a line.
    pub fn record(&self, at: Moment, host: Host, event: fmt::Arguments<'_>) {
        let mut lines = self.lock();
        // The oldest line's memory becomes the newest line.
        let mut line = match lines.kept.len() >= lines.keep {
            true => lines.kept.pop_front().unwrap_or_default(),
            false => String::new(),
        };
        line.clear();
        let micros = at.elapsed().as_micros();
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        write!(line, "{seconds:4}.{rest:06} {host:4} {event}").expect("a string takes any text");
        lines.hash.write(line.as_bytes());
        lines.count += 1;
        if lines.keep > 0 {
            lines.kept.push_back(line);
        }
    }

    /// What all lines come to.
    pub fn hash(&self) -> TraceHash {
        let lines = self.lock();
        TraceHash(lines.hash.finish())
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// The lines that were kept, and how many were not.
    pub fn story(&self) -> String {
        let lines = self.lock();
        let mut story = String::new();
        let missing = lines.count - lines.kept.len() as u64;
        if missing > 0 {
            writeln!(story, "     ({missing} lines before)").expect("a string takes any text");
        }
        for line in &lines.kept {
            story.push_str(line);
            story.push('\n');
        }
        story
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::keeping(LINES_KEPT)
    }
}

/// What a run comes to: equal for two runs of one seed by one program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceHash(pub u64);

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn the_last_lines_are_kept_and_all_of_them_count() {
        let trace = Trace::keeping(2);
        for number in 1..=3 {
            trace.record(at(number), Host::store(number), format_args!("line {number}"));
        }
        assert_eq!(
            trace.story(),
            "     (1 lines before)\n   0.002000 s2   line 2\n   0.003000 s3   line 3\n"
        );
        let other = Trace::keeping(0);
        other.record(at(2), Host::store(2), format_args!("line 2"));
        other.record(at(3), Host::store(3), format_args!("line 3"));
        assert_ne!(trace.hash(), other.hash());
        assert_eq!(other.count(), 2);
    }

    #[test]
    fn what_is_kept_does_not_change_the_hash() {
        let hash = |keep| {
            let trace = Trace::keeping(keep);
            (0..10).for_each(|i| trace.record(at(i), Host::Client(1), format_args!("{i}")));
            trace.hash()
        };
        assert_eq!(hash(0), hash(100));
    }
}
