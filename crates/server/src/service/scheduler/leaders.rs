//! Where the leaders are: streams on which instructions go that nobody has just asked for.
//!
//! A store has one stream for the reports of all its leaders. It is found by the store of the
//! leader that last reported on it, so a store that connects anew takes its instructions along with
//! its first report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use kiva_base::StoreId;
use kiva_scheduler::Instruction;
use tokio::sync::mpsc;

use crate::limits::INSTRUCTIONS_MAX;

/// The streams of all stores. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Leaders {
    streams: Arc<Mutex<BTreeMap<StoreId, Line>>>,
    numbers: Arc<AtomicU64>,
}

/// The way into one stream.
#[derive(Clone)]
struct Line {
    number: u64,
    instructions: mpsc::Sender<Instruction>,
}

/// One stream's place among them. Dropped, nobody finds the stream any more.
pub(crate) struct Seat {
    leaders: Leaders,
    line: Line,
    instructions: mpsc::Receiver<Instruction>,
}

impl Leaders {
    /// A place for a stream that begins. Nothing is sent there before a store was heard.
    pub(crate) fn seat(&self) -> Seat {
        let (sender, instructions) = mpsc::channel(INSTRUCTIONS_MAX);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let line = Line { number, instructions: sender };
        Seat { leaders: self.clone(), line, instructions }
    }

    /// Sends an instruction to its leader's store. Dropped when the store has no stream, or does
    /// not read it: it is repeated when no report shows its effect.
    pub(crate) fn tell(&self, instruction: Instruction) {
        let line = self.streams().get(&instruction.leader.store).cloned();
        if let Some(line) = line {
            let _ = line.instructions.try_send(instruction);
        }
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<StoreId, Line>> {
        self.streams.lock().expect("nobody panics with this lock held")
    }
}

impl Seat {
    /// A leader on this store has reported here.
    pub(crate) fn heard(&self, store: StoreId) {
        let mut streams = self.leaders.streams();
        let is_new = streams.get(&store).is_none_or(|line| line.number != self.line.number);
        if is_new {
            streams.insert(store, self.line.clone());
        }
    }

    /// The next instruction for this stream. Waits for ever when there is none.
    pub(crate) async fn told(&mut self) -> Instruction {
        let told = self.instructions.recv().await;
        told.expect("the seat holds a sender itself")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let number = self.line.number;
        self.leaders.streams().retain(|_, line| line.number != number);
    }
}
