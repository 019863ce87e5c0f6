//! Frames: the envelopes of a round for one store, as bytes.
//!
//! The layout is ours and written down in `docs/formats.md`. It is made for what there is most of:
//! a heartbeat takes about twenty bytes, because stores are named once per frame, peers are told by
//! their ids, and numbers are as long as they need to be. A frame has a checksum of its own: the
//! one of TCP lets one damaged segment in 65,536 pass, and what is damaged here ends up in a log.
//!
//! Encoding copies a command once, into the frame. Decoding copies nothing: commands are slices of
//! the frame they came in, and keep it alive.
//!
//! Nothing that was received is trusted: a frame decodes whole, by the constructors that check what
//! consensus rests on, or not at all.

use bytes::Bytes;
use kiva_base::codec::{DecodeError, encode_varint};
use kiva_base::{Epoch, Peer, PeerId, PeerRole, RegionId, StoreId};
use kiva_raft::{Body, Index, Message, NodeId, Payload, Round, Term, VoteReason};

use crate::codec::{self, Input, PayloadKind};
use crate::transport::{Content, Envelope};

/// The version of the layout: the first byte of every frame.
const VERSION: u8 = 1;

/// Version and checksum.
const HEADER_SIZE: usize = 5;

/// What an envelope takes besides the bytes of commands: enough for all of its numbers but those
/// that are unusually large.
pub const ENVELOPE_SIZE: usize = 64;

/// The sender is a learner.
const FROM_LEARNER: u8 = 0x01;
/// The receiver is a learner.
const TO_LEARNER: u8 = 0x02;
/// Both live where those of the envelope before do.
const SAME_STORES: u8 = 0x04;
/// The message is between other nodes than the two peers.
const OTHER_NODES: u8 = 0x08;
const FLAGS: u8 = FROM_LEARNER | TO_LEARNER | SAME_STORES | OTHER_NODES;

const ENVELOPE: &str = "an envelope";

/// Encodes envelopes, in order, as frames of at most `bytes_max` bytes. An envelope that is larger
/// travels alone.
pub fn encode_frames(envelopes: &[Envelope], bytes_max: usize) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = envelopes.iter().map(size_estimate).sum::<usize>();
    let mut frame = open_frame(rest.min(bytes_max));
    let mut stores = None;
    for envelope in envelopes {
        let end = frame.len();
        encode_envelope(envelope, stores, &mut frame);
        if frame.len() > bytes_max && end > HEADER_SIZE {
            frame.truncate(end);
            frames.push(close_frame(frame));
            frame = open_frame(rest.min(bytes_max));
            encode_envelope(envelope, None, &mut frame);
        }
        stores = Some((envelope.from.store, envelope.to.store));
        rest -= size_estimate(envelope);
    }
    if frame.len() > HEADER_SIZE {
        frames.push(close_frame(frame));
    }
    frames
}

/// Decodes a frame. What carries bytes shares them with it.
pub fn decode_frame(frame: Bytes) -> Result<Vec<Envelope>, DecodeError> {
    const WHAT: &str = "the header of a frame";
    let mut input = Input::new(frame);
    if input.byte(WHAT)? != VERSION {
        return Err(DecodeError::Malformed("the version of a frame"));
    }
    let checksum = input.take(4, WHAT)?;
    let body = input.take(input.len(), WHAT)?;
    if crc32fast::hash(&body).to_le_bytes() != checksum[..] {
        return Err(DecodeError::Malformed("the checksum of a frame"));
    }
    let mut input = Input::new(body);
    let mut envelopes = Vec::new();
    let mut stores = None;
    while !input.is_empty() {
        let envelope = decode_envelope(&mut input, stores)?;
        stores = Some((envelope.from.store, envelope.to.store));
        envelopes.push(envelope);
    }
    Ok(envelopes)
}

/// What an envelope adds to a frame, without encoding it: off by some bytes.
pub fn size_estimate(envelope: &Envelope) -> usize {
    let Content::Raft(message) = &envelope.content else { return ENVELOPE_SIZE };
    let payload = match &message.body {
        // Term, kind and length lead each entry.
        Body::Append { slice, .. } => slice.entries().size() + 8 * slice.entries().len(),
        Body::Propose { payload } => payload.size(),
        Body::Snapshot(snapshot) => snapshot.data.len(),
        _ => 0,
    };
    ENVELOPE_SIZE + payload
}

fn open_frame(size: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_SIZE + size);
    frame.push(VERSION);
    frame.extend_from_slice(&[0; 4]);
    frame
}

fn close_frame(mut frame: Vec<u8>) -> Bytes {
    let checksum = crc32fast::hash(&frame[HEADER_SIZE..]);
    frame[1..HEADER_SIZE].copy_from_slice(&checksum.to_le_bytes());
    frame.into()
}

fn encode_envelope(envelope: &Envelope, stores: Option<(StoreId, StoreId)>, out: &mut Vec<u8>) {
    let Envelope { region, from, to, epoch, content } = envelope;
    let other_nodes = match content {
        Content::Raft(message) if !is_between(message, *from, *to) => {
            Some((message.from, message.to))
        }
        _ => None,
    };
    let same_stores = stores == Some((from.store, to.store));
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.push(
        flag(from.role == PeerRole::Learner, FROM_LEARNER)
            | flag(to.role == PeerRole::Learner, TO_LEARNER)
            | flag(same_stores, SAME_STORES)
            | flag(other_nodes.is_some(), OTHER_NODES),
    );
    if !same_stores {
        encode_varint(from.store.get(), out);
        encode_varint(to.store.get(), out);
    }
    let numbers = [region.get(), from.id.get(), to.id.get(), epoch.conf_ver, epoch.version];
    numbers.into_iter().for_each(|number| encode_varint(number, out));
    if let Some((from, to)) = other_nodes {
        encode_varint(from.get(), out);
        encode_varint(to.get(), out);
    }
    match content {
        Content::Removed => out.push(REMOVED),
        Content::Raft(message) => {
            out.push(kind_of(&message.body));
            encode_varint(message.term.0, out);
            encode_body(&message.body, out);
        }
    }
}

fn decode_envelope(
    input: &mut Input,
    stores: Option<(StoreId, StoreId)>,
) -> Result<Envelope, DecodeError> {
    let flags = input.byte(ENVELOPE)?;
    if flags & !FLAGS != 0 {
        return Err(DecodeError::Malformed("the flags of an envelope"));
    }
    let has = |flag| flags & flag != 0;
    let stores = match has(SAME_STORES) {
        true => stores,
        false => StoreId::new(input.varint()?).zip(StoreId::new(input.varint()?)),
    };
    let (from_store, to_store) = stores.ok_or(DecodeError::Malformed("the id of a store"))?;
    let region = RegionId::new(input.varint()?);
    let region = region.ok_or(DecodeError::Malformed("the id of a region"))?;
    let mut peer = |store, is_learner| {
        let id = PeerId::new(input.varint()?);
        let id = id.ok_or(DecodeError::Malformed("the id of a peer"))?;
        let role = if is_learner { PeerRole::Learner } else { PeerRole::Voter };
        Ok(Peer { id, store, role })
    };
    let from = peer(from_store, has(FROM_LEARNER))?;
    let to = peer(to_store, has(TO_LEARNER))?;
    let epoch = Epoch { conf_ver: input.varint()?, version: input.varint()? };
    let nodes = match has(OTHER_NODES) {
        true => (input.varint()?, input.varint()?),
        false => (from.id.get(), to.id.get()),
    };
    let content = decode_content(input, nodes)?;
    Ok(Envelope { region, from, to, epoch, content })
}

fn is_between(message: &Message, from: Peer, to: Peer) -> bool {
    message.from.get() == from.id.get() && message.to.get() == to.id.get()
}

const REMOVED: u8 = 0;
const PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const APPEND: u8 = 5;
const APPEND_ACCEPTED: u8 = 6;
const APPEND_REJECTED: u8 = 7;
const HEARTBEAT: u8 = 8;
const HEARTBEAT_REPLY: u8 = 9;
const SNAPSHOT: u8 = 10;
const TIMEOUT_NOW: u8 = 11;
const NEWER_TERM: u8 = 12;
const COMMITTED: u8 = 13;
const PROPOSE: u8 = 14;
const READ_INDEX: u8 = 15;
const READ_CONFIRMED: u8 = 16;
const READ_REFUSED: u8 = 17;
const TRANSFER_LEADER: u8 = 18;

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => PRE_VOTE,
        Body::PreVoteReply { .. } => PRE_VOTE_REPLY,
        Body::Vote { .. } => VOTE,
        Body::VoteReply { .. } => VOTE_REPLY,
        Body::Append { .. } => APPEND,
        Body::AppendAccepted { .. } => APPEND_ACCEPTED,
        Body::AppendRejected { .. } => APPEND_REJECTED,
        Body::Heartbeat { .. } => HEARTBEAT,
        Body::HeartbeatReply { .. } => HEARTBEAT_REPLY,
        Body::Snapshot(_) => SNAPSHOT,
        Body::TimeoutNow { .. } => TIMEOUT_NOW,
        Body::NewerTerm => NEWER_TERM,
        Body::Committed { .. } => COMMITTED,
        Body::Propose { .. } => PROPOSE,
        Body::ReadIndex { .. } => READ_INDEX,
        Body::ReadConfirmed { .. } => READ_CONFIRMED,
        Body::ReadRefused { .. } => READ_REFUSED,
        Body::TransferLeader { .. } => TRANSFER_LEADER,
    }
}

/// The body, in the order of its fields. [`decode_body`] is its mirror.
fn encode_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::PreVote { last } | Body::Committed { last } => codec::encode_entry_id(*last, out),
        Body::PreVoteReply { granted } | Body::VoteReply { granted } => {
            out.push(u8::from(*granted));
        }
        Body::Vote { last, reason } => {
            codec::encode_entry_id(*last, out);
            match reason {
                VoteReason::Timeout => out.push(0),
                VoteReason::Transfer { round } => {
                    out.push(1);
                    encode_varint(round.0, out);
                }
            }
        }
        Body::Append { slice, commit, round } => {
            encode_varint(commit.0, out);
            encode_varint(round.0, out);
            codec::encode_slice(slice, out);
        }
        Body::AppendAccepted { matched, round } => {
            codec::encode_entry_id(*matched, out);
            encode_varint(round.0, out);
        }
        Body::AppendRejected { rejected, hint } => {
            encode_varint(rejected.0, out);
            codec::encode_entry_id(*hint, out);
        }
        Body::Heartbeat { commit, round } => {
            encode_varint(commit.0, out);
            encode_varint(round.0, out);
        }
        Body::HeartbeatReply { round } | Body::TimeoutNow { round } => {
            encode_varint(round.0, out);
        }
        Body::Snapshot(snapshot) => codec::encode_snapshot(snapshot, out),
        Body::NewerTerm => {}
        Body::Propose { payload } => {
            out.push(PayloadKind::of(payload).number());
            match payload {
                Payload::Empty => encode_varint(0, out),
                Payload::Command(bytes) => codec::encode_bytes(bytes, out),
                Payload::Membership(change) => {
                    let mut bytes = Vec::new();
                    codec::encode_change(change, &mut bytes);
                    codec::encode_bytes(&bytes, out);
                }
            }
        }
        Body::ReadIndex { context } | Body::ReadRefused { context } => {
            codec::encode_bytes(context, out);
        }
        Body::ReadConfirmed { context, index } => {
            codec::encode_bytes(context, out);
            encode_varint(index.0, out);
        }
        Body::TransferLeader { target } => encode_varint(target.get(), out),
    }
}

fn decode_content(input: &mut Input, (from, to): (u64, u64)) -> Result<Content, DecodeError> {
    let kind = input.byte(ENVELOPE)?;
    if kind == REMOVED {
        return Ok(Content::Removed);
    }
    let node = |id| NodeId::new(id).ok_or(DecodeError::Malformed("the id of a node"));
    let (from, to) = (node(from)?, node(to)?);
    let term = Term(input.varint()?);
    Ok(Content::Raft(Message { from, to, term, body: decode_body(kind, input)? }))
}

fn decode_body(kind: u8, input: &mut Input) -> Result<Body, DecodeError> {
    Ok(match kind {
        PRE_VOTE => Body::PreVote { last: codec::decode_entry_id(input)? },
        PRE_VOTE_REPLY => Body::PreVoteReply { granted: decode_bool(input)? },
        VOTE => {
            let last = codec::decode_entry_id(input)?;
            let reason = match decode_bool(input)? {
                false => VoteReason::Timeout,
                true => VoteReason::Transfer { round: Round(input.varint()?) },
            };
            Body::Vote { last, reason }
        }
        VOTE_REPLY => Body::VoteReply { granted: decode_bool(input)? },
        APPEND => {
            let (commit, round) = (Index(input.varint()?), Round(input.varint()?));
            Body::Append { slice: codec::decode_slice(input)?, commit, round }
        }
        APPEND_ACCEPTED => {
            let matched = codec::decode_entry_id(input)?;
            Body::AppendAccepted { matched, round: Round(input.varint()?) }
        }
        APPEND_REJECTED => {
            let rejected = Index(input.varint()?);
            Body::AppendRejected { rejected, hint: codec::decode_entry_id(input)? }
        }
        HEARTBEAT => {
            let commit = Index(input.varint()?);
            Body::Heartbeat { commit, round: Round(input.varint()?) }
        }
        HEARTBEAT_REPLY => Body::HeartbeatReply { round: Round(input.varint()?) },
        SNAPSHOT => Body::Snapshot(Box::new(codec::decode_snapshot(input)?)),
        TIMEOUT_NOW => Body::TimeoutNow { round: Round(input.varint()?) },
        NEWER_TERM => Body::NewerTerm,
        COMMITTED => Body::Committed { last: codec::decode_entry_id(input)? },
        PROPOSE => {
            let kind = PayloadKind::from_number(input.byte(ENVELOPE)?);
            let kind = kind.ok_or(DecodeError::Malformed("the kind of a payload"))?;
            Body::Propose { payload: codec::payload(kind, input.bytes("a proposal")?)? }
        }
        READ_INDEX => Body::ReadIndex { context: input.bytes(CONTEXT)? },
        READ_CONFIRMED => {
            let context = input.bytes(CONTEXT)?;
            Body::ReadConfirmed { context, index: Index(input.varint()?) }
        }
        READ_REFUSED => Body::ReadRefused { context: input.bytes(CONTEXT)? },
        TRANSFER_LEADER => {
            let target = NodeId::new(input.varint()?);
            let target = target.ok_or(DecodeError::Malformed("the id of a node"))?;
            Body::TransferLeader { target }
        }
        _ => return Err(DecodeError::Malformed("the kind of a message")),
    })
}

const CONTEXT: &str = "the context of a read";

fn decode_bool(input: &mut Input) -> Result<bool, DecodeError> {
    match input.byte(ENVELOPE)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("yes or no")),
    }
}

#[cfg(test)]
mod tests;
