//! The commands of the scripts, and the lines they print.
//!
//! Nothing moves by itself: a command reaches one node, `ready` takes a round of work from it,
//! `sync` finishes log writes, `apply` applies entries and `deliver` carries messages.
//! `stabilise` does all of that until nothing is left. `members`, `turn`, `draw` and `restore`
//! reach no node: they are about configurations alone, see [`Table`].
//!
//! | line | means |
//! |---|---|
//! | `1 becomes Leader` | the node's role, or its leader, is another one |
//! | `1 writes term=1 vote=1 commit=0 [1/1 empty]` | a log write was handed out |
//! | `1 synced` | writes were finished; what follows was sealed until then |
//! | `1→2 t1 Vote last=0/0` | a message was sent |
//! | `… (lost)` | and lost |
//! | `1 commits 1/1 empty` | entries were handed out to be applied |
//! | `1 applies 1/2 members +4 → voters=1,4` | a membership entry was applied |
//! | `1 reads "x" at 3` | a read may be served once 3 is applied |
//! | `1 refuses: …` | a message was not taken |

use std::error::Error;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context};
use kiva_raft::{
    Body, ChangeCheck, Config, Entries, Entry, EntryId, HardState, Index, LogSlice, Membership,
    MemoryLogStore, Message, NodeId, Payload, ReadMode, Round, Snapshot, SnapshotOutcome, Term,
    VoteReason,
};

use super::group::{Group, id};
use super::print;
use super::table::{self, Table};

type Failure = Box<dyn Error>;

/// One group, and the commands that reach it.
#[derive(Default)]
pub(crate) struct Runner {
    group: Group,
    /// A configuration without any node.
    table: Table,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let result = self.command(&command.name, &mut args);
        let mut lines = self.group.take_events();
        if let Err(error) = result {
            lines.push(format!("refused: {error}"));
        }
        args.reject_next()?;
        Ok(lines.join("\n"))
    }
}

impl Runner {
    fn command(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        match name {
            "nodes" => self.nodes(args),
            "node" => self.node(args),
            "tick" => {
                let (number, count) = (number(args)?, position_or(args, 1)?);
                self.group.tick(number, count);
                Ok(())
            }
            "campaign" => Ok(self.at(args)?.campaign()?),
            "propose" => self.propose(args),
            "read" => {
                let node = number(args)?;
                let context = Bytes::copy_from_slice(word(args)?.as_bytes());
                Ok(self.group.peer(node).node().read_index(context)?)
            }
            "lease" => self.lease(args),
            "transfer" => {
                let (node, target) = (number(args)?, number(args)?);
                Ok(self.group.peer(node).node().transfer_leadership(id(target))?)
            }
            "change" => self.change(args),
            "members" => self.table.members(args),
            "turn" => {
                let line = self.table.turn(args)?;
                self.group.note(line);
                Ok(())
            }
            "draw" => {
                let line = self.table.draw(args)?;
                self.group.note(line);
                Ok(())
            }
            "restore" => {
                let lines = self.table.restore(args)?;
                lines.into_iter().for_each(|line| self.group.note(line));
                Ok(())
            }
            "forget" => {
                let forgot = self.at(args)?.forget_leader();
                self.group.note(if forgot { "forgotten" } else { "kept" }.into());
                Ok(())
            }
            "unreachable" => {
                let (node, other) = (number(args)?, number(args)?);
                self.group.peer(node).node().report_unreachable(id(other));
                Ok(())
            }
            "sent" => self.report_snapshot(args, SnapshotOutcome::Sent),
            "failed" => self.report_snapshot(args, SnapshotOutcome::Failed),
            "slow" => {
                self.group.peer(number(args)?).log.set_slow(true);
                Ok(())
            }
            "fetched" => {
                let peer = self.group.peer(number(args)?);
                peer.log.set_slow(false);
                peer.node().on_log_fetched();
                Ok(())
            }
            "sleep" => Ok(self.at(args)?.quiesce()?),
            "wake" => {
                self.at(args)?.wake();
                Ok(())
            }
            "announce" => {
                self.at(args)?.announce_commit();
                Ok(())
            }
            "ready" => {
                let node = number(args)?;
                if !self.group.ready(node) {
                    self.group.note(format!("{node} has nothing to do"));
                }
                Ok(())
            }
            "sync" => {
                let (node, count) = (number(args)?, position_or(args, usize::MAX)?);
                self.group.sync(node, count);
                Ok(())
            }
            "apply" => {
                let (node, count) = (number(args)?, position_or(args, usize::MAX)?);
                self.group.apply(node, count);
                Ok(())
            }
            "deliver" => self.deliver(args),
            "drop" => self.drop(args),
            "stabilise" => {
                let only = rest_numbers(args)?;
                if only.is_empty() {
                    self.group.stabilise();
                } else {
                    self.group.stabilise_only(&only);
                }
                Ok(())
            }
            "step" => self.step(args),
            "isolate" => {
                let node = number(args)?;
                self.group.isolate(node);
                Ok(())
            }
            "cut" => {
                let (from, to) = (number(args)?, number(args)?);
                self.group.cut.insert((id(from), id(to)));
                self.group.cut.insert((id(to), id(from)));
                Ok(())
            }
            "lose" => {
                self.group.lost.insert(word(args)?.into());
                Ok(())
            }
            "heal" => {
                self.group.heal();
                Ok(())
            }
            "crash" => {
                let (node, kept) = (number(args)?, position_or(args, 0)?);
                self.group.peer(node).crash(kept);
                self.group.network.retain(|message| message.to != id(node));
                Ok(())
            }
            "restart" => Ok(self.group.peer(number(args)?).restart()?),
            "snapshot" => {
                let built = self.group.peer(number(args)?).build_snapshot();
                let built = built.ok_or("nothing to build it from")?;
                self.group.note(format!("built {}", print::snapshot(&built)));
                Ok(())
            }
            "compact" => {
                let (node, index) = (number(args)?, number(args)?);
                Ok(self.group.peer(node).store.compact(Index(index))?)
            }
            "status" => {
                let lines = print::status(&self.at(args)?.status());
                lines.into_iter().for_each(|line| self.group.note(line));
                Ok(())
            }
            "log" => {
                let node = number(args)?;
                let entries = self.group.peer(node).store.all_entries();
                self.group.note(format!("{node} [{}]", print::entries(&entries)));
                Ok(())
            }
            "network" => {
                let lines: Vec<String> = self.group.network.iter().map(print::message).collect();
                lines.into_iter().for_each(|line| self.group.note(line));
                Ok(())
            }
            // Does nothing: a place for a debugger to stop.
            "breakpoint" => Ok(()),
            _ => Err(format!("unknown command {name}").into()),
        }
    }

    fn at(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<&mut kiva_raft::Node, Failure> {
        let node = number(args)?;
        Ok(self.group.peer(node).node())
    }

    /// nodes COUNT [learners=IDS] [start=TERM/INDEX] [SETTING=VALUE…], see [`settings`]
    fn nodes(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let count = number(args)?;
        let learners = args.take_key("learners").map(numbers).transpose()?.unwrap_or_default();
        let start = args.take_key("start").map(entry_id).transpose()?;
        let all = 1..=count;
        let voters = all.clone().filter(|node| !learners.contains(node)).map(id);
        let members = Membership::new(voters, learners.iter().copied().map(id));
        let defaults = settings(args, Config::new(id(1)))?;
        for number in all {
            let config = Config { id: id(number), ..defaults.clone() };
            let store = match start {
                Some(start) => MemoryLogStore::starting_at(start, members.clone()),
                None => MemoryLogStore::new(members.clone()),
            };
            self.group.add(config, store);
        }
        Ok(())
    }

    /// node ID [voters=IDS] [learners=IDS] [start=TERM/INDEX] [log=TERM,…] [term=T] [vote=ID]
    /// [commit=INDEX] [applied=INDEX] [SETTING=VALUE…]: a node with a past
    fn node(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let number = number(args)?;
        let list =
            |text: Option<&str>| text.map(numbers).transpose().map(Option::unwrap_or_default);
        let voters = list(args.take_key("voters"))?;
        let learners = list(args.take_key("learners"))?;
        let terms = list(args.take_key("log"))?;
        let start = args.take_key("start").map(entry_id).transpose()?.unwrap_or_default();
        let members = Membership::new(voters.into_iter().map(id), learners.into_iter().map(id));
        let store = match start {
            EntryId::ZERO => MemoryLogStore::new(members.clone()),
            _ => MemoryLogStore::starting_at(start, members.clone()),
        };
        let entry = |(position, &term): (usize, &u64)| Entry {
            index: start.index.plus(position + 1),
            term: Term(term),
            payload: Payload::Empty,
        };
        let log: Vec<Entry> = terms.iter().enumerate().map(entry).collect();
        store.append(&log);
        let newest = terms.last().map_or(start.term, |&term| Term(term));
        store.set_hard_state(HardState {
            term: key_or(args, "term", newest.0).map(Term)?,
            vote: args.take_key("vote").map(str::parse).transpose()?.and_then(NodeId::new),
            commit: key_or(args, "commit", start.index.0).map(Index)?,
        });
        if let Some(applied) = args.take_key("applied") {
            store.set_applied(Index(applied.parse()?), members);
        }
        let config = settings(args, Config::new(id(number)))?;
        self.group.add(config, store);
        Ok(())
    }

    /// propose ID TEXT…, or propose ID bytes=N
    fn propose(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let node = number(args)?;
        if let Some(size) = args.take_key("bytes") {
            let command = vec![b'x'; size.parse()?];
            self.group.peer(node).node().propose(command.into())?;
        }
        while let Some(text) = args.next_pos() {
            let command = Bytes::copy_from_slice(text.as_bytes());
            self.group.peer(node).node().propose(command)?;
        }
        Ok(())
    }

    fn lease(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let node = self.at(args)?;
        let line = match (node.lease_read(), node.lease_ticks()) {
            (Some(index), Some(u32::MAX)) => format!("at {index}, for ever"),
            (Some(index), Some(ticks)) => format!("at {index} for {ticks} ticks"),
            (Some(_), None) => return Err("a lease without a length".into()),
            (None, _) => "no lease".into(),
        };
        self.group.note(line);
        Ok(())
    }

    /// change ID STEP… [joint=auto|manual] [context=TEXT], see [`table::change`]
    fn change(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let node = number(args)?;
        let change = table::change(args)?;
        self.group.peer(node).node().propose_membership(change)?;
        Ok(())
    }

    fn report_snapshot(
        &mut self,
        args: &mut ArgumentConsumer<'_>,
        outcome: SnapshotOutcome,
    ) -> Result<(), Failure> {
        let (node, other) = (number(args)?, number(args)?);
        self.group.peer(node).node().report_snapshot(id(other), outcome);
        Ok(())
    }

    /// deliver [from=ID] [to=ID] [type=NAME]: prints what it delivers
    fn deliver(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let wanted = filter(args)?;
        let lines: Vec<String> = self
            .group
            .network
            .iter()
            .filter(|message| wanted(message))
            .map(|message| format!("  {}", print::message(message)))
            .collect();
        lines.into_iter().for_each(|line| self.group.note(line));
        self.group.deliver(wanted);
        Ok(())
    }

    /// drop [from=ID] [to=ID] [type=NAME]: what is on its way is lost
    fn drop(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let wanted = filter(args)?;
        let network = std::mem::take(&mut self.group.network);
        let (lost, left): (Vec<_>, Vec<_>) = network.into_iter().partition(wanted);
        self.group.network = left;
        lost.iter().for_each(|message| {
            self.group.note(format!("{} (lost)", print::message(message)));
        });
        Ok(())
    }

    /// step FROM TO TERM NAME [FIELD=VALUE…]: a message that nobody sent
    fn step(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let (from, to, term) = (number(args)?, number(args)?, number(args)?);
        let name = word(args)?;
        let body = body(name, Term(term), args)?;
        self.group.forge(from, to, term, body);
        Ok(())
    }
}

/// Settings: pre_vote, check_quorum, forward and eager (on|off); heartbeat, election and lease
/// (ticks); inflight, inflight_bytes, append_bytes, apply_bytes, applying_bytes, uncommitted_bytes,
/// entry_bytes and tail_bytes; checks=applied
fn settings(args: &mut ArgumentConsumer<'_>, mut config: Config) -> Result<Config, Failure> {
    let mut switch = |key, value: &mut bool| match args.take_key(key) {
        None => Ok(()),
        Some("on") => {
            *value = true;
            Ok(())
        }
        Some("off") => {
            *value = false;
            Ok(())
        }
        Some(other) => Err(format!("{key}={other} is neither on nor off")),
    };
    switch("pre_vote", &mut config.pre_vote)?;
    switch("check_quorum", &mut config.check_quorum)?;
    switch("forward", &mut config.forward_proposals)?;
    switch("eager", &mut config.eager_commit)?;
    config.heartbeat_ticks = key_or(args, "heartbeat", config.heartbeat_ticks)?;
    config.election_ticks = key_or(args, "election", config.election_ticks)?;
    if let Some(ticks) = args.take_key("lease") {
        config.reads = ReadMode::Lease { ticks: ticks.parse()? };
    }
    if args.take_key("checks") == Some("applied") {
        config.change_check = ChangeCheck::WhenApplied;
    }
    let sizes = [
        ("inflight", &mut config.inflight_messages_max),
        ("inflight_bytes", &mut config.inflight_bytes_max),
        ("append_bytes", &mut config.append_bytes_max),
        ("apply_bytes", &mut config.apply_bytes_max),
        ("applying_bytes", &mut config.applying_bytes_max),
        ("uncommitted_bytes", &mut config.uncommitted_bytes_max),
        ("entry_bytes", &mut config.entry_bytes_max),
        ("tail_bytes", &mut config.tail_bytes_max),
    ];
    for (key, size) in sizes {
        *size = key_or(args, key, *size)?;
    }
    Ok(config)
}

/// The body of a message that nobody sent; fields that are not given are zero.
fn body(name: &str, term: Term, args: &mut ArgumentConsumer<'_>) -> Result<Body, Failure> {
    let mut position = |key| match args.take_key(key) {
        None => Ok(EntryId::ZERO),
        Some(text) => entry_id(text),
    };
    let (last, previous) = (position("last")?, position("after")?);
    let (matched, hint) = (position("matched")?, position("hint")?);
    let granted = args.take_key("granted").is_some_and(|text| text == "yes");
    let commit = Index(key_or(args, "commit", 0)?);
    let index = Index(key_or(args, "index", 0)?);
    let round = round(args.take_key("round").unwrap_or("0"))?;
    let reason = match args.take_key("reason") {
        Some("transfer") => VoteReason::Transfer { round },
        _ => VoteReason::Timeout,
    };
    let context = Bytes::copy_from_slice(args.take_key("context").unwrap_or("").as_bytes());
    let entries = args.take_key("entries").map(entries).transpose()?.unwrap_or_default();
    let members = args.take_key("voters").map(numbers).transpose()?.unwrap_or_default();
    let target = key_or(args, "target", 1)?;
    Ok(match name {
        "PreVote" => Body::PreVote { last },
        "PreVoteReply" => Body::PreVoteReply { granted },
        "Vote" => Body::Vote { last, reason },
        "VoteReply" => Body::VoteReply { granted },
        "Append" => Body::Append { slice: LogSlice::new(term, previous, entries)?, commit, round },
        "AppendAccepted" => Body::AppendAccepted { matched, round },
        "AppendRejected" => Body::AppendRejected { rejected: index, hint },
        "Heartbeat" => Body::Heartbeat { commit, round },
        "HeartbeatReply" => Body::HeartbeatReply { round },
        "Snapshot" => Body::Snapshot(Box::new(Snapshot {
            last,
            membership: Membership::new(members.into_iter().map(id), []),
            data: Bytes::new(),
        })),
        "TimeoutNow" => Body::TimeoutNow { round },
        "NewerTerm" => Body::NewerTerm,
        "ReadIndex" => Body::ReadIndex { context },
        "ReadConfirmed" => Body::ReadConfirmed { context, index },
        "ReadRefused" => Body::ReadRefused { context },
        "TransferLeader" => Body::TransferLeader { target: id(target) },
        _ => return Err(format!("unknown message {name}").into()),
    })
}

fn filter(args: &mut ArgumentConsumer<'_>) -> Result<impl Fn(&Message) -> bool + use<>, Failure> {
    let from: u64 = key_or(args, "from", 0)?;
    let to: u64 = key_or(args, "to", 0)?;
    let name = args.take_key("type").map(str::to_owned);
    Ok(move |message: &Message| {
        (from == 0 || message.from.get() == from)
            && (to == 0 || message.to.get() == to)
            && name.as_ref().is_none_or(|name| message.body.name() == name)
    })
}

fn word<'a>(args: &mut ArgumentConsumer<'a>) -> Result<&'a str, Failure> {
    args.next_pos().ok_or_else(|| "something is missing".into())
}

fn number(args: &mut ArgumentConsumer<'_>) -> Result<u64, Failure> {
    Ok(word(args)?.parse()?)
}

fn position_or(args: &mut ArgumentConsumer<'_>, or: usize) -> Result<usize, Failure> {
    args.next_pos().map_or(Ok(or), |text| Ok(text.parse()?))
}

fn rest_numbers(args: &mut ArgumentConsumer<'_>) -> Result<Vec<u64>, Failure> {
    let mut numbers = Vec::new();
    while let Some(text) = args.next_pos() {
        numbers.push(text.parse()?);
    }
    Ok(numbers)
}

fn key_or<T>(args: &mut ArgumentConsumer<'_>, key: &str, or: T) -> Result<T, Failure>
where
    T: std::str::FromStr<Err: Error + 'static>,
{
    args.take_key(key).map_or(Ok(or), |text| Ok(text.parse()?))
}

fn numbers(text: &str) -> Result<Vec<u64>, Failure> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| Ok(part.trim().parse()?)).collect()
}

/// `7`, or `1.7`: as it is printed.
fn round(text: &str) -> Result<Round, Failure> {
    let (handovers, number) = text.split_once('.').unwrap_or(("0", text));
    let (handovers, number): (u64, u64) = (handovers.parse()?, number.parse()?);
    Ok(Round((handovers << 32) + number))
}

fn entry_id(text: &str) -> Result<EntryId, Failure> {
    let (term, index) = text.split_once('/').ok_or("an entry is named TERM/INDEX")?;
    Ok(EntryId::new(Term(term.parse()?), Index(index.parse()?)))
}

/// Entries as in `2/3:a,2/4`; without a text they are empty.
fn entries(text: &str) -> Result<Entries, Failure> {
    let entry = |part: &str| -> Result<Entry, Failure> {
        let (name, command) = match part.split_once(':') {
            Some((name, command)) => (name, Some(command)),
            None => (part, None),
        };
        let EntryId { term, index } = entry_id(name)?;
        let payload = command.map_or(Payload::Empty, |command| {
            Payload::Command(Bytes::copy_from_slice(command.as_bytes()))
        });
        Ok(Entry { index, term, payload })
    };
    text.split(',').map(entry).collect()
}
