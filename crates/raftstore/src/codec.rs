//! How values of consensus become bytes: in the log, and in messages between stores.
//!
//! One layout for both, written down in `docs/formats.md`. Numbers are varints (seven bits a byte,
//! least significant first), nothing is aligned, and what is absent costs a byte at most.
//!
//! Encoding appends to a buffer. Decoding takes from an [`Input`], which hands out parts of one
//! shared buffer instead of copies, and trusts nothing: lengths are compared with what is there,
//! counts never decide how much memory is taken, and values with rules of their own
//! ([`LogSlice`], [`Membership`]) are made by the constructors that check them.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, Bytes};
use kiva_base::codec::{DecodeError, encode_varint};
use kiva_raft::{
    Change, Entries, Entry, EntryId, HardState, Index, Leave, LogSlice, Membership,
    MembershipChange, NodeId, Payload, Snapshot, Term,
};

/// Least bytes of an encoded entry: term, kind and length. Bounds how many a count can promise.
const ENTRY_SIZE_MIN: usize = 3;

/// What is left to decode of a shared buffer.
#[derive(Clone, Debug, Default)]
pub struct Input {
    bytes: Bytes,
}

impl Input {
    /// All of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Refuses what is left over; `what` names what was decoded.
    pub fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Malformed(what)) }
    }

    /// One byte.
    pub fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let byte = *self.bytes.first().ok_or(DecodeError::Truncated(what))?;
        self.bytes.advance(1);
        Ok(byte)
    }

    /// A number of seven-bit groups.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, rest) = kiva_base::codec::decode_varint(&self.bytes)?;
        let taken = self.bytes.len() - rest.len();
        self.bytes.advance(taken);
        Ok(value)
    }

    /// A number that counts things of at least `size_min` bytes each, which must be there.
    pub fn count(&mut self, size_min: usize, what: &'static str) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated(what))?;
        if count > self.bytes.len() / size_min {
            return Err(DecodeError::Truncated(what));
        }
        Ok(count)
    }

    /// The next `size` bytes, shared.
    pub fn take(&mut self, size: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if size > self.bytes.len() {
            return Err(DecodeError::Truncated(what));
        }
        Ok(self.bytes.split_to(size))
    }

    /// Bytes that are led by their length, shared.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let size = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated(what))?;
        self.take(size, what)
    }
}

/// Appends `bytes`, led by their length.
pub fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends term and index.
pub fn encode_entry_id(id: EntryId, out: &mut Vec<u8>) {
    encode_varint(id.term.0, out);
    encode_varint(id.index.0, out);
}

/// Takes term and index.
pub fn decode_entry_id(input: &mut Input) -> Result<EntryId, DecodeError> {
    Ok(EntryId::new(Term(input.varint()?), Index(input.varint()?)))
}

/// Appends a hard state; no vote is 0.
pub fn encode_hard_state(state: HardState, out: &mut Vec<u8>) {
    encode_varint(state.term.0, out);
    encode_varint(state.vote.map_or(0, NodeId::get), out);
    encode_varint(state.commit.0, out);
}

/// Takes a hard state.
pub fn decode_hard_state(input: &mut Input) -> Result<HardState, DecodeError> {
    let term = Term(input.varint()?);
    let vote = NodeId::new(input.varint()?);
    Ok(HardState { term, vote, commit: Index(input.varint()?) })
}

/// What the payload of an entry is, as one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadKind {
    /// No bytes.
    Empty,
    /// The bytes of a command.
    Command,
    /// A change of members, as [`encode_change`] has it.
    Membership,
}

impl PayloadKind {
    /// The kind of a payload.
    pub fn of(payload: &Payload) -> Self {
        match payload {
            Payload::Empty => Self::Empty,
            Payload::Command(_) => Self::Command,
            Payload::Membership(_) => Self::Membership,
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Empty => 0,
            Self::Command => 1,
            Self::Membership => 2,
        }
    }

    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Empty),
            1 => Some(Self::Command),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// The payload of this kind whose bytes are `body`, which commands share.
pub fn payload(kind: PayloadKind, body: Bytes) -> Result<Payload, DecodeError> {
    match kind {
        PayloadKind::Empty if body.is_empty() => Ok(Payload::Empty),
        PayloadKind::Empty => Err(DecodeError::Malformed("an empty entry")),
        PayloadKind::Command => Ok(Payload::Command(body)),
        PayloadKind::Membership => Ok(Payload::Membership(Arc::new(decode_change(body)?))),
    }
}

/// Appends a change of members, to be decoded as a whole.
pub fn encode_change(change: &MembershipChange, out: &mut Vec<u8>) {
    let (kind, changes) = match change {
        MembershipChange::Simple { changes, .. } => (0, changes.as_slice()),
        MembershipChange::Joint { changes, leave: Leave::Automatic, .. } => (1, changes.as_slice()),
        MembershipChange::Joint { changes, leave: Leave::OnRequest, .. } => (2, changes.as_slice()),
        MembershipChange::Leave { .. } => (3, [].as_slice()),
    };
    out.push(kind);
    encode_varint(changes.len() as u64, out);
    for change in changes {
        let (step, id) = match *change {
            Change::AddVoter(id) => (0, id),
            Change::AddLearner(id) => (1, id),
            Change::Remove(id) => (2, id),
        };
        out.push(step);
        encode_varint(id.get(), out);
    }
    out.extend_from_slice(change.context());
}

/// Decodes what [`encode_change`] made; the context is shared.
pub fn decode_change(bytes: Bytes) -> Result<MembershipChange, DecodeError> {
    const WHAT: &str = "a change of members";
    let mut input = Input::new(bytes);
    let kind = input.byte(WHAT)?;
    let count = input.count(2, WHAT)?;
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let step = input.byte(WHAT)?;
        let id = decode_node_id(&mut input)?;
        changes.push(match step {
            0 => Change::AddVoter(id),
            1 => Change::AddLearner(id),
            2 => Change::Remove(id),
            _ => return Err(DecodeError::Malformed(WHAT)),
        });
    }
    let context = input.bytes;
    match kind {
        0 => Ok(MembershipChange::Simple { changes, context }),
        1 => Ok(MembershipChange::Joint { changes, leave: Leave::Automatic, context }),
        2 => Ok(MembershipChange::Joint { changes, leave: Leave::OnRequest, context }),
        3 if changes.is_empty() => Ok(MembershipChange::Leave { context }),
        _ => Err(DecodeError::Malformed(WHAT)),
    }
}

/// Appends a run of the log: the leader's term, what precedes the run, and the entries, whose
/// indexes follow from that and whose terms are told as differences.
pub fn encode_slice(slice: &LogSlice, out: &mut Vec<u8>) {
    encode_varint(slice.leader_term().0, out);
    encode_entry_id(slice.previous(), out);
    encode_varint(slice.entries().len() as u64, out);
    let mut term = slice.previous().term;
    for entry in slice.entries() {
        encode_varint(entry.term.0 - term.0, out);
        term = entry.term;
        out.push(PayloadKind::of(&entry.payload).number());
        match &entry.payload {
            Payload::Empty => encode_varint(0, out),
            Payload::Command(bytes) => encode_bytes(bytes, out),
            Payload::Membership(change) => {
                let mut body = Vec::new();
                encode_change(change, &mut body);
                encode_bytes(&body, out);
            }
        }
    }
}

/// Takes a run of the log. Commands are parts of the input.
pub fn decode_slice(input: &mut Input) -> Result<LogSlice, DecodeError> {
    const WHAT: &str = "a run of entries";
    let leader_term = Term(input.varint()?);
    let previous = decode_entry_id(input)?;
    let count = input.count(ENTRY_SIZE_MIN, WHAT)?;
    let mut entries = Vec::with_capacity(count);
    let mut id = previous;
    for _ in 0..count {
        let term = id.term.0.checked_add(input.varint()?);
        let index = id.index.0.checked_add(1);
        let (Some(term), Some(index)) = (term, index) else {
            return Err(DecodeError::Malformed(WHAT));
        };
        id = EntryId::new(Term(term), Index(index));
        let kind = PayloadKind::from_number(input.byte(WHAT)?);
        let kind = kind.ok_or(DecodeError::Malformed(WHAT))?;
        let payload = payload(kind, input.bytes(WHAT)?)?;
        entries.push(Entry { index: id.index, term: id.term, payload });
    }
    LogSlice::new(leader_term, previous, Entries::from(entries))
        .map_err(|_| DecodeError::Malformed(WHAT))
}

/// Appends the members of a group.
pub fn encode_membership(members: &Membership, out: &mut Vec<u8>) {
    let lists = [members.voters(), members.outgoing(), members.learners(), members.learners_next()];
    for list in lists {
        encode_varint(list.len() as u64, out);
        list.iter().for_each(|id| encode_varint(id.get(), out));
    }
    out.push(match members.leave() {
        Leave::Automatic => 0,
        Leave::OnRequest => 1,
    });
}

/// Takes the members of a group.
pub fn decode_membership(input: &mut Input) -> Result<Membership, DecodeError> {
    const WHAT: &str = "the members of a group";
    let mut list = || -> Result<Vec<NodeId>, DecodeError> {
        let count = input.count(1, WHAT)?;
        (0..count).map(|_| decode_node_id(input)).collect()
    };
    let (voters, outgoing, learners, next) = (list()?, list()?, list()?, list()?);
    let leave = match input.byte(WHAT)? {
        0 => Leave::Automatic,
        1 => Leave::OnRequest,
        _ => return Err(DecodeError::Malformed(WHAT)),
    };
    Membership::from_parts(voters, outgoing, learners, next, leave)
        .ok_or(DecodeError::Malformed(WHAT))
}

/// Appends a snapshot: its last entry, the members after it, the data.
pub fn encode_snapshot(snapshot: &Snapshot, out: &mut Vec<u8>) {
    encode_entry_id(snapshot.last, out);
    encode_membership(&snapshot.membership, out);
    encode_bytes(&snapshot.data, out);
}

/// Takes a snapshot. The data is a part of the input.
pub fn decode_snapshot(input: &mut Input) -> Result<Snapshot, DecodeError> {
    let last = decode_entry_id(input)?;
    let membership = decode_membership(input)?;
    Ok(Snapshot { last, membership, data: input.bytes("the data of a snapshot")? })
}

fn decode_node_id(input: &mut Input) -> Result<NodeId, DecodeError> {
    NodeId::new(input.varint()?).ok_or(DecodeError::Malformed("the id of a node"))
}
