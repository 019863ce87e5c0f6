//! Configurations without any group: what the scripts below `members` say of them.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use goldenscript::ArgumentConsumer;
use kiva_raft::{
    Body, Change, Config, Leave, Membership, MembershipChange, MemoryLogStore, Message, NodeId,
    Snapshot,
};

use super::group::{at, id};
use super::peer::Peer;
use super::print;
use super::world::Dice;

type Failure = Box<dyn Error>;

/// The nodes that configurations are drawn from.
const DRAWN: u64 = 9;

/// One configuration, and the commands that change it.
#[derive(Default)]
pub(crate) struct Table {
    members: Membership,
}

impl Table {
    /// members [voters=IDS] [learners=IDS]: begins with these
    pub(crate) fn members(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let mut list = |key| ids(args.take_key(key).unwrap_or_default());
        self.members = Membership::new(list("voters")?, list("learners")?);
        Ok(())
    }

    /// turn STEP… [joint=auto|manual] [context=TEXT]: makes a change, see [`change`]; prints what
    /// there is then
    pub(crate) fn turn(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String, Failure> {
        self.members = self.members.changed(&change(args)?)?;
        Ok(print::members(&self.members))
    }

    /// draw SEED: any configuration of up to nine nodes; prints it
    pub(crate) fn draw(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String, Failure> {
        let seed = args.next_pos().ok_or("a seed is missing")?.parse()?;
        self.members = drawn(seed);
        Ok(print::members(&self.members))
    }

    /// restore: sends the configuration to each of its members in a snapshot, and prints what
    /// they have once it is installed and after a restart
    ///
    /// restore seeds=N: the same for N that are drawn; prints how many of which kind there were,
    /// and those that came back as something else
    pub(crate) fn restore(
        &mut self,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<Vec<String>, Failure> {
        let Some(seeds) = args.take_key("seeds") else {
            return self.restore_one();
        };
        let count: u64 = seeds.parse()?;
        let mut lines = Vec::new();
        let (mut joint, mut learners, mut learners_next) = (0, 0, 0);
        for members in (1..=count).map(drawn) {
            joint += u64::from(members.is_joint());
            learners += u64::from(!members.learners().is_empty());
            learners_next += u64::from(!members.learners_next().is_empty());
            for to in members.members() {
                if let Some(found) = restored(&members, to)?.iter().find(|found| **found != members)
                {
                    let (sent, found) = (print::members(&members), print::members(found));
                    lines.push(format!("{to} has {found} of {sent}"));
                    break;
                }
            }
        }
        lines.push(format!("{count} sent, {} came back as something else", lines.len()));
        lines.push(format!(
            "{joint} joint, {learners} with learners, {learners_next} with learners to be"
        ));
        Ok(lines)
    }

    fn restore_one(&self) -> Result<Vec<String>, Failure> {
        // Who has what: all of them the same, if nothing is wrong.
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for to in self.members.members() {
            let [installed, restarted] = restored(&self.members, to)?;
            found.entry(print::members(&installed)).or_default().push(to.to_string());
            let after = format!("{} after a restart", print::members(&restarted));
            found.entry(after).or_default().push(to.to_string());
        }
        let line =
            |(members, who): (&String, &Vec<String>)| format!("{}: {members}", who.join(","));
        Ok(found.iter().map(line).collect())
    }
}

/// STEP… [joint=auto|manual] [context=TEXT]: a step is +4, -4 or ~4 (a learner). Without any the
/// joint configuration is left; with a context and nothing else nobody changes, and what the
/// context says reaches everybody.
pub(crate) fn change(args: &mut ArgumentConsumer<'_>) -> Result<MembershipChange, Failure> {
    let joint = args.take_key("joint");
    let said = args.take_key("context");
    let context = Bytes::copy_from_slice(said.unwrap_or_default().as_bytes());
    let mut changes = Vec::new();
    while let Some(step) = args.next_pos() {
        let (kind, number) = step.split_at_checked(1).ok_or("a step without a node")?;
        let node = NodeId::new(number.parse()?).ok_or("node 0 is nobody")?;
        changes.push(match kind {
            "+" => Change::AddVoter(node),
            "-" => Change::Remove(node),
            "~" => Change::AddLearner(node),
            _ => return Err(format!("unknown step {step}").into()),
        });
    }
    Ok(match joint {
        Some("auto") => MembershipChange::Joint { changes, leave: Leave::Automatic, context },
        Some("manual") => MembershipChange::Joint { changes, leave: Leave::OnRequest, context },
        Some(other) => return Err(format!("joint={other} is neither auto nor manual").into()),
        None if changes.is_empty() && said.is_none() => MembershipChange::Leave { context },
        None => MembershipChange::Simple { changes, context },
    })
}

fn ids(text: &str) -> Result<Vec<NodeId>, Failure> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| Ok(id(part.trim().parse()?))).collect()
}

/// Voters and learners, and more often than not a joint configuration that begins with them.
fn drawn(seed: u64) -> Membership {
    let mut dice = Dice::seeded(seed);
    let (mut voters, mut learners) = (vec![id(1 + dice.below(DRAWN))], Vec::new());
    for node in (1..=DRAWN).map(id) {
        match dice.below(3) {
            0 => voters.push(node),
            1 => learners.push(node),
            _ => {}
        }
    }
    let before = Membership::new(voters, learners);
    if dice.percent(40) {
        return before;
    }
    let step = |dice: &mut Dice| {
        let node = id(1 + dice.below(DRAWN));
        dice.pick(&[Change::AddVoter(node), Change::AddLearner(node), Change::Remove(node)])
    };
    let changes = (0..=dice.below(5)).map(|_| step(&mut dice)).collect();
    let leave = dice.pick(&[Leave::Automatic, Leave::OnRequest]);
    let change = MembershipChange::Joint { changes, leave, context: Bytes::new() };
    // Some of them would leave nobody.
    before.changed(&change).unwrap_or(before)
}

/// What `to` makes of `members` in a snapshot: when it is installed, and after a restart.
fn restored(members: &Membership, to: NodeId) -> Result<[Membership; 2], Failure> {
    let last = at(3, 9);
    let sender = MemoryLogStore::starting_at(last, members.clone());
    let built = sender.build_snapshot(last.index, members.clone(), Bytes::new())?;
    // As it travels: an encoding writes lists, and a decoder has to put them together.
    let parts = [members.voters(), members.outgoing(), members.learners(), members.learners_next()];
    let [voters, outgoing, learners, next] = parts.map(<[NodeId]>::to_vec);
    let decoded = Membership::from_parts(voters, outgoing, learners, next, members.leave());
    let membership = decoded.ok_or("what was taken apart cannot be put together")?;
    let snapshot = Box::new(Snapshot { membership, ..built });

    let mut peer = Peer::open(Config::new(to), MemoryLogStore::new(Membership::default()), 1)?;
    let from = id(u64::MAX);
    let body = Body::Snapshot(snapshot);
    peer.node().step(Message { from, to, term: last.term, body })?;
    while let Some(mut ready) = peer.node().ready() {
        peer.absorb(&mut ready);
        peer.sync(usize::MAX);
    }
    let installed = peer.node().membership().clone();
    peer.crash(0);
    peer.restart()?;
    Ok([installed, peer.node().membership().clone()])
}
