//! This crate doing the work.

use std::hint::black_box;

use bytes::Bytes;
use kiva_raft::{Config, Node};

use crate::group::Group;
use crate::{HEARTBEAT_TICKS, NEVER, Pace};

pub(crate) fn group(voters: u64, pace: Pace) -> Group {
    match pace {
        Pace::Usual => Group::new(voters),
        Pace::Idle => Group::configured(voters, |id| Config {
            heartbeat_ticks: NEVER,
            election_ticks: 2 * NEVER,
            ..Config::new(id)
        }),
    }
}

impl crate::Group for Group {
    fn bursts(&mut self, count: u64, burst: u64, command: &Bytes) {
        for _ in 0..count {
            self.burst(burst, command);
        }
    }

    fn ticks(&mut self, member: usize, count: u64) {
        let node = &mut self.members[member].node;
        for _ in 0..count {
            black_box(&mut *node).tick();
        }
    }

    fn questions(&mut self, count: u64) {
        let node = &mut self.members[0].node;
        for _ in 0..count {
            assert!(black_box(&mut *node).ready().is_none());
        }
    }

    fn heartbeats(&mut self, count: u64) {
        for _ in 0..count {
            for member in &mut self.members {
                (0..HEARTBEAT_TICKS).for_each(|_| member.node.tick());
            }
            self.settle();
        }
    }

    fn applied(&self) -> u64 {
        Self::applied(self).0
    }

    fn messages(&self) -> u64 {
        self.delivered
    }
}

/// Bytes that the nodes of a group of three own after `bursts` of 64: the mean of them. `freed`
/// tells how many bytes the program has given back so far. The log, which is the driver's, is not
/// counted.
pub fn memory(bursts: u64, is_at_rest: bool, freed: impl Fn() -> usize) -> usize {
    let mut group = group(3, Pace::Usual);
    crate::Group::bursts(&mut group, bursts, 64, &Bytes::from(vec![7; 256]));
    crate::Group::heartbeats(&mut group, 4);
    let count = group.members.len();
    let total: usize = group
        .members
        .drain(..)
        .map(|mut member| {
            if is_at_rest {
                member.node.quiesce().expect("nothing is left to be done");
            }
            let _log = member.store;
            let before = freed();
            drop(member.node);
            freed() - before
        })
        .sum();
    total / count + size_of::<Node>()
}
