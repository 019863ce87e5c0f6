//! What goes wrong in a world: crashes, cut and slow links, nodes that apply or read late.

use kiva_raft::NodeId;

use super::world::{Event, Story, TICK, World};

impl World {
    /// Something goes wrong.
    pub(super) fn trouble(&mut self) {
        let wait = self.dice.below(if self.story == Story::Reads { 12 } else { 25 } * TICK);
        self.after(wait, Event::Trouble);
        let all: Vec<NodeId> = self.peers.keys().copied().collect();
        if self.is_calm {
            // Nothing goes wrong any more; snapshots are still built.
            all.iter().for_each(|node| self.compact(*node));
            return;
        }
        let node = self.dice.pick(&all);
        if self.story == Story::Reads && self.dice.percent(60) {
            return self.depose(&all);
        }
        match self.dice.below(14) {
            0..5 => {
                let outstanding = self.peers[&node].writes.len() as u64;
                let kept = self.dice.below(outstanding + 1);
                self.crash(node, kept as usize);
            }
            5 => {
                for node in &all {
                    self.crash(*node, 0);
                }
            }
            6..8 => {
                let is_deaf_only = self.dice.percent(20);
                self.cut_off(node, &all, !is_deaf_only, true);
            }
            8..10 => self.split(&all),
            10 => self.delay(node),
            11 | 12 => {
                let length = self.dice.below(20 * TICK);
                self.say(|| format!("{node} applies nothing for {length}"));
                self.paused.insert(node, self.now + length);
            }
            _ => {
                self.say(|| format!("the log of {node} is slow"));
                self.peers[&node].log.set_slow(true);
                let length = self.dice.below(10 * TICK);
                self.after(length, Event::Fetched(node));
            }
        }
    }

    /// A leader is cut off, on its way in, out or both; what it sent, or was sent, may be late.
    fn depose(&mut self, all: &[NodeId]) {
        let leaders: Vec<NodeId> = all.iter().copied().filter(|node| self.leads(*node)).collect();
        if leaders.is_empty() {
            return;
        }
        let leader = self.dice.pick(&leaders);
        match self.dice.below(7) {
            0 => self.cut_off(leader, all, true, false),
            1 => self.cut_off(leader, all, false, true),
            2 => self.delay(leader),
            // The answers to its last questions arrive when others have long been free.
            3 => {
                self.say(|| format!("{leader} hears everything late"));
                self.hears_late.insert(leader);
                let length = self.dice.below(8 * TICK);
                self.after(length, Event::Silence(leader));
            }
            _ => self.cut_off(leader, all, true, true),
        }
    }

    pub(super) fn cut_off(&mut self, node: NodeId, all: &[NodeId], is_dumb: bool, is_deaf: bool) {
        self.say(|| format!("{node} is cut off"));
        for other in all {
            if is_dumb {
                self.cut.insert((node, *other));
            }
            if is_deaf {
                self.cut.insert((*other, node));
            }
        }
        self.heal_later();
    }

    fn split(&mut self, all: &[NodeId]) {
        let half: Vec<bool> = all.iter().map(|_| self.dice.percent(50)).collect();
        for (left, left_half) in all.iter().zip(&half) {
            for (right, right_half) in all.iter().zip(&half) {
                if left_half != right_half {
                    self.cut.insert((*left, *right));
                }
            }
        }
        self.heal_later();
    }

    fn delay(&mut self, node: NodeId) {
        self.say(|| format!("messages from and to {node} are late"));
        self.slow.insert(node);
        self.heal_later();
    }

    fn heal_later(&mut self) {
        let length = self.dice.below(40 * TICK);
        self.after(length, Event::Heal);
    }

    pub(super) fn crash(&mut self, node: NodeId, kept: usize) {
        let peer = self.peers.get_mut(&node).expect("the node exists");
        if peer.node.is_none() {
            return;
        }
        peer.crash(kept);
        self.summary.crashes += 1;
        *self.starts.get_mut(&node).expect("the node exists") += 1;
        self.say(|| format!("{node} crashes, {kept} writes survive"));
        let delay = self.dice.below(20 * TICK);
        self.after(delay, Event::Restart(node));
    }

    pub(super) fn restart(&mut self, node: NodeId) {
        let peer = self.peers.get_mut(&node).expect("the node exists");
        if peer.node.is_some() {
            return;
        }
        peer.restart().expect("the node starts again");
        self.say(|| format!("{node} starts again"));
        self.checker.started(node, &self.peers[&node]);
        self.with(node, |_| ());
    }
}
