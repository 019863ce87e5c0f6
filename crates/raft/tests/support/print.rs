//! How messages, entries and members look in a script: one line each, in a fixed order.

use kiva_raft::{
    Body, Change, Entry, LogWrite, Membership, MembershipChange, Message, NodeId, Payload,
    ProgressState, ReadOutcome, RoleChange, RoleName, Round, Snapshot, Status, VoteReason,
};

/// `1→2 t3 Append 2/4 [3/5 "x"] commit=4 round=1`
pub(crate) fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    format!("{from}→{to} t{term} {}{}", body.name(), self::body(body))
}

fn body(body: &Body) -> String {
    match body {
        Body::PreVote { last } => format!(" last={last}"),
        Body::PreVoteReply { granted } | Body::VoteReply { granted } => {
            if *granted { " granted" } else { " refused" }.into()
        }
        Body::Vote { last, reason } => match reason {
            VoteReason::Timeout => format!(" last={last}"),
            VoteReason::Transfer { round } => {
                format!(" last={last} for a transfer round={}", self::round(*round))
            }
        },
        Body::Append { slice, commit, round } => {
            let entries = entries(slice.entries());
            format!(
                " after {} [{entries}] commit={commit} round={}",
                slice.previous(),
                self::round(*round)
            )
        }
        Body::AppendAccepted { matched, round } => {
            format!(" {matched} round={}", self::round(*round))
        }
        Body::AppendRejected { rejected, hint } => format!(" at {rejected} hint={hint}"),
        Body::Heartbeat { commit, round } => {
            format!(" commit={commit} round={}", self::round(*round))
        }
        Body::HeartbeatReply { round } => format!(" round={}", self::round(*round)),
        Body::Snapshot(snapshot) => format!(" {}", self::snapshot(snapshot)),
        Body::TimeoutNow { round } => format!(" round={}", self::round(*round)),
        Body::NewerTerm => String::new(),
        Body::Committed { last } => format!(" {last}"),
        Body::Propose { payload } => format!(" {}", self::payload(payload)),
        Body::ReadIndex { context } | Body::ReadRefused { context } => {
            format!(" {}", text(context))
        }
        Body::ReadConfirmed { context, index } => format!(" {} at {index}", text(context)),
        Body::TransferLeader { target } => format!(" target={target}"),
    }
}

/// `7`, or `1.7` for the seventh round when those of one handover were passed over.
fn round(round: Round) -> String {
    match round.0 >> 32 {
        0 => round.0.to_string(),
        handovers => format!("{handovers}.{}", round.0 & u64::from(u32::MAX)),
    }
}

/// `3/5 "x"`, `3/6 empty`, `3/7 members +4`
pub(crate) fn entry(entry: &Entry) -> String {
    format!("{} {}", entry.id(), payload(&entry.payload))
}

/// Entries with commas between them.
pub(crate) fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Empty => "empty".into(),
        Payload::Command(command) => text(command),
        Payload::Membership(change) => format!("members {}", self::change(change)),
    }
}

/// Short commands as text, long ones as their size.
fn text(bytes: &[u8]) -> String {
    if bytes.len() > 32 {
        return format!("<{} bytes>", bytes.len());
    }
    format!("\"{}\"", bytes.escape_ascii())
}

/// `+4 -2 ~3` or `nobody`, with `joint` before it, and what the caller said behind it.
pub(crate) fn change(change: &MembershipChange) -> String {
    let steps = |changes: &[Change]| {
        let step = |change: &Change| match change {
            Change::AddVoter(id) => format!("+{id}"),
            Change::AddLearner(id) => format!("~{id}"),
            Change::Remove(id) => format!("-{id}"),
        };
        match changes.is_empty() {
            true => "nobody".into(),
            false => changes.iter().map(step).collect::<Vec<_>>().join(" "),
        }
    };
    let what = match change {
        MembershipChange::Simple { changes, .. } => steps(changes),
        MembershipChange::Joint { changes, leave, .. } => {
            format!("joint {} leave={leave:?}", steps(changes))
        }
        MembershipChange::Leave { .. } => "leave".into(),
    };
    match change.context().is_empty() {
        true => what,
        false => format!("{what} {}", text(change.context())),
    }
}

/// `voters=1,2,3 outgoing=1,2 learners=4 next=2`
pub(crate) fn members(members: &Membership) -> String {
    let lists = [
        ("voters", members.voters()),
        ("outgoing", members.outgoing()),
        ("learners", members.learners()),
        ("next", members.learners_next()),
    ];
    let mut parts: Vec<String> = lists
        .into_iter()
        .filter(|(name, list)| !list.is_empty() || *name == "voters")
        .map(|(name, list)| format!("{name}={}", ids(list)))
        .collect();
    if members.is_joint() {
        parts.push(format!("leave={:?}", members.leave()));
    }
    parts.join(" ")
}

fn ids(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

/// `at 3/9 voters=1,2,3`
pub(crate) fn snapshot(snapshot: &Snapshot) -> String {
    format!("at {} {}", snapshot.last, members(&snapshot.membership))
}

/// What one log write holds.
pub(crate) fn write(write: &LogWrite) -> String {
    let mut parts = Vec::new();
    parts.extend(write.snapshot.as_ref().map(|held| format!("snapshot {}", snapshot(held))));
    if let Some(hard) = write.hard_state {
        let vote = hard.vote.map_or("-".into(), |id| id.to_string());
        parts.push(format!("term={} vote={vote} commit={}", hard.term, hard.commit));
    }
    if !write.entries.is_empty() {
        parts.push(format!("[{}]", entries(&write.entries)));
    }
    parts.join(" ")
}

/// `Follower of 2`
pub(crate) fn role(change: &RoleChange) -> String {
    match (change.role, change.leader) {
        (RoleName::Follower, Some(leader)) => format!("Follower of {leader}"),
        (RoleName::Follower, None) => "Follower of nobody".into(),
        (role, _) => format!("{role:?}"),
    }
}

/// What became of a read.
pub(crate) fn read(outcome: &ReadOutcome) -> String {
    match outcome {
        ReadOutcome::Confirmed { context, index } => format!("{} at {index}", text(context)),
        ReadOutcome::Refused { context } => format!("{} refused", text(context)),
    }
}

/// A node in one line, and a line per follower when it leads.
pub(crate) fn status(status: &Status) -> Vec<String> {
    let hard = status.hard_state;
    let vote = hard.vote.map_or("-".into(), |id| id.to_string());
    let role = role(&RoleChange { role: status.role, leader: status.leader });
    let mut lines = vec![format!(
        "{} {role} term={} vote={vote} commit={} applied={} durable={} log={}..{} {}{}",
        status.id,
        hard.term,
        hard.commit,
        status.applied,
        status.durable,
        status.first,
        status.last,
        members(&status.membership),
        status.transfer.map_or(String::new(), |target| format!(" transfer={target}")),
    )];
    for one in &status.progress {
        let state = match one.state {
            ProgressState::Probe => "probe".into(),
            ProgressState::Replicate => "replicate".into(),
            ProgressState::Snapshot { index } => format!("snapshot {index}"),
        };
        let learner = if one.is_learner { " learner" } else { "" };
        let active = if one.is_active { "" } else { " silent" };
        lines.push(format!(
            "  {} {state} match={} next={} inflight={}{learner}{active}",
            one.id, one.matched, one.next, one.inflight
        ));
    }
    lines
}
