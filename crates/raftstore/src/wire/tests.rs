//! Frames as they are meant, as they are damaged, and as nobody should send them.

use std::sync::Arc;

use kiva_raft::{
    Change, Entries, Entry, EntryId, Leave, LogSlice, Membership, MembershipChange, Snapshot,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const NO_LIMIT: usize = usize::MAX;

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn peer(id: u64, store: u64) -> Peer {
    let (id, store) = (PeerId::new(id).unwrap(), StoreId::new(store).unwrap());
    Peer { id, store, role: PeerRole::Voter }
}

/// From peer `region * 10 + 1` on store 1 to peer `region * 10 + 2` on store 2.
fn envelope(region: u64, body: Body) -> Envelope {
    let (from, to) = (peer(region * 10 + 1, 1), peer(region * 10 + 2, 2));
    let (from_node, to_node) = (node(from.id.get()), node(to.id.get()));
    Envelope {
        region: RegionId::new(region).unwrap(),
        from,
        to,
        epoch: Epoch { conf_ver: 5, version: 130 },
        content: Content::Raft(Message { from: from_node, to: to_node, term: Term(7), body }),
    }
}

fn heartbeat(region: u64) -> Envelope {
    envelope(region, Body::Heartbeat { commit: Index(1_000_000), round: Round(70_000) })
}

fn append(region: u64, value: &Bytes) -> Envelope {
    let entry = Entry { index: Index(9), term: Term(6), payload: Payload::Command(value.clone()) };
    let previous = EntryId::new(Term(6), Index(8));
    let slice = LogSlice::new(Term(7), previous, Entries::from(entry)).unwrap();
    envelope(region, Body::Append { slice, commit: Index(8), round: Round(3) })
}

/// A frame with this body and the checksum that belongs to it.
fn sealed(body: &[u8]) -> Bytes {
    let mut frame = open_frame(body.len());
    frame.extend_from_slice(body);
    close_frame(frame)
}

fn payloads() -> impl Strategy<Value = Payload> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let change = prop_oneof![
        (1..9_u64).prop_map(|id| Change::AddVoter(node(id))),
        (1..9_u64).prop_map(|id| Change::AddLearner(node(id))),
        (1..9_u64).prop_map(|id| Change::Remove(node(id))),
    ];
    let membership = (0..4_u8, vec(change, 0..4), bytes());
    prop_oneof![
        Just(Payload::Empty),
        bytes().prop_map(Payload::Command),
        membership.prop_map(|(kind, changes, context)| {
            Payload::Membership(Arc::new(match kind {
                0 => MembershipChange::Simple { changes, context },
                1 => MembershipChange::Joint { changes, leave: Leave::Automatic, context },
                2 => MembershipChange::Joint { changes, leave: Leave::OnRequest, context },
                _ => MembershipChange::Leave { context },
            }))
        }),
    ]
}

/// Any number, small ones more often.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>()]
}

fn entry_ids() -> impl Strategy<Value = EntryId> {
    (number(), number()).prop_map(|(term, index)| EntryId::new(Term(term), Index(index)))
}

fn slices() -> impl Strategy<Value = LogSlice> {
    let entries = vec((0..3_u64, payloads()), 0..5);
    (0..u64::MAX / 2, 0..u64::MAX / 2, 0..9_u64, entries).prop_map(
        |(term, index, more, entries)| {
            let previous = EntryId::new(Term(term), Index(index));
            let mut last = previous;
            let entries: Vec<Entry> = entries
                .into_iter()
                .map(|(step, payload)| {
                    last = EntryId::new(Term(last.term.0 + step), Index(last.index.0 + 1));
                    Entry { index: last.index, term: last.term, payload }
                })
                .collect();
            LogSlice::new(Term(last.term.0 + more), previous, Entries::from(entries)).unwrap()
        },
    )
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    (entry_ids(), vec(any::<u8>(), 0..40), any::<bool>()).prop_map(|(last, data, is_joint)| {
        let parts = |ids: &[u64]| ids.iter().map(|&id| node(id)).collect::<Vec<_>>();
        let membership = match is_joint {
            false => Membership::new(parts(&[1, 2, 3]), parts(&[4])),
            true => {
                let (new, old) = (parts(&[1, 2, 900]), parts(&[1, 2, 3]));
                let leave = Leave::OnRequest;
                Membership::from_parts(new, old, parts(&[4]), parts(&[3]), leave).unwrap()
            }
        };
        Snapshot { last, membership, data: data.into() }
    })
}

/// Every variant of a body.
fn bodies() -> impl Strategy<Value = Body> {
    let index = || number().prop_map(Index);
    let round = || number().prop_map(Round);
    let bytes = || vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let reason = prop_oneof![
        Just(VoteReason::Timeout),
        round().prop_map(|round| VoteReason::Transfer { round }),
    ];
    prop_oneof![
        entry_ids().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (entry_ids(), reason).prop_map(|(last, reason)| Body::Vote { last, reason }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        (slices(), index(), round()).prop_map(|(slice, commit, round)| Body::Append {
            slice,
            commit,
            round
        }),
        (entry_ids(), round()).prop_map(|(matched, round)| Body::AppendAccepted { matched, round }),
        (index(), entry_ids()).prop_map(|(rejected, hint)| Body::AppendRejected { rejected, hint }),
        (index(), round()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        round().prop_map(|round| Body::HeartbeatReply { round }),
        snapshots().prop_map(|snapshot| Body::Snapshot(Box::new(snapshot))),
        round().prop_map(|round| Body::TimeoutNow { round }),
        Just(Body::NewerTerm),
        entry_ids().prop_map(|last| Body::Committed { last }),
        payloads().prop_map(|payload| Body::Propose { payload }),
        bytes().prop_map(|context| Body::ReadIndex { context }),
        (bytes(), index()).prop_map(|(context, index)| Body::ReadConfirmed { context, index }),
        bytes().prop_map(|context| Body::ReadRefused { context }),
        (1..u64::MAX).prop_map(|id| Body::TransferLeader { target: node(id) }),
    ]
}

fn peers() -> impl Strategy<Value = Peer> {
    (1..u64::MAX, 1..4_u64, any::<bool>()).prop_map(|(id, store, is_learner)| Peer {
        role: if is_learner { PeerRole::Learner } else { PeerRole::Voter },
        ..peer(id, store)
    })
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let nodes = option::weighted(0.2, (1..u64::MAX, 1..u64::MAX));
    let message = option::weighted(0.9, (nodes, number(), bodies()));
    (1..u64::MAX, peers(), peers(), (number(), number()), message).prop_map(
        |(region, from, to, (conf_ver, version), message)| {
            let content = match message {
                None => Content::Removed,
                Some((nodes, term, body)) => {
                    let (from, to) = nodes.unwrap_or((from.id.get(), to.id.get()));
                    let (from, to) = (node(from), node(to));
                    Content::Raft(Message { from, to, term: Term(term), body })
                }
            };
            let (region, epoch) = (RegionId::new(region).unwrap(), Epoch { conf_ver, version });
            Envelope { region, from, to, epoch, content }
        },
    )
}

fn decode_all(frames: &[Bytes]) -> Vec<Envelope> {
    frames.iter().flat_map(|frame| decode_frame(frame.clone()).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_however_it_is_cut(
        envelopes in vec(envelopes(), 0..20),
        bytes_max in prop_oneof![Just(NO_LIMIT), 0..200_usize],
    ) {
        let frames = encode_frames(&envelopes, bytes_max);
        for frame in &frames {
            let count = decode_frame(frame.clone()).unwrap().len();
            prop_assert!(count == 1 || (count > 1 && frame.len() <= bytes_max));
        }
        prop_assert_eq!(decode_all(&frames), envelopes);
    }

    #[test]
    fn one_byte_that_changed_or_is_missing_is_noticed(
        envelopes in vec(envelopes(), 1..4),
        position: prop::sample::Index,
        mask in 1..=255_u8,
    ) {
        let frame = encode_frames(&envelopes, NO_LIMIT).remove(0);
        let position = position.index(frame.len());
        let mut damaged = frame.to_vec();
        damaged[position] ^= mask;
        prop_assert!(decode_frame(damaged.into()).is_err());
        prop_assert!(decode_frame(frame.slice(..position)).is_err());
    }

    /// A sender with a mistake has a good checksum.
    #[test]
    fn nonsense_with_a_good_checksum_never_panics(
        envelopes in vec(envelopes(), 1..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end: prop::sample::Index,
    ) {
        let frame = encode_frames(&envelopes, NO_LIMIT).remove(0);
        let mut body = frame[HEADER_SIZE..].to_vec();
        for (position, byte) in changes {
            let position = position.index(body.len());
            body[position] = byte;
        }
        body.truncate(end.index(body.len() + 1));
        if let Ok(decoded) = decode_frame(sealed(&body)) {
            prop_assert_eq!(decode_all(&encode_frames(&decoded, NO_LIMIT)), decoded);
        }
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _ = decode_frame(bytes.clone().into());
        let _ = decode_frame(sealed(&bytes));
    }

    #[test]
    fn an_estimate_is_above_what_an_envelope_takes_unless_its_numbers_are_huge(
        size in 0..100_000_usize,
    ) {
        let envelope = append(1, &Bytes::from(vec![7; size]));
        let frame = encode_frames(std::slice::from_ref(&envelope), NO_LIMIT).remove(0);
        prop_assert!(frame.len() <= HEADER_SIZE + size_estimate(&envelope));
    }
}

/// Covers OPT-msg-batch-wire.
#[test]
fn frames_keep_the_order_and_the_limit_and_what_is_larger_travels_alone() {
    let (small, large) = (Bytes::from(vec![1; 400]), Bytes::from(vec![2; 5_000]));
    let mut envelopes: Vec<_> = (1..=10).map(|region| append(region, &small)).collect();
    envelopes.insert(5, append(5, &large));
    let frames = encode_frames(&envelopes, 1_000);
    let counts: Vec<_> = frames.iter().map(|f| decode_frame(f.clone()).unwrap().len()).collect();
    assert_eq!(counts, [2, 2, 1, 1, 2, 2, 1]);
    assert!(frames.iter().all(|frame| frame.len() <= 1_000 || frame.len() > 5_000));
    assert_eq!(decode_all(&frames), envelopes);
    assert_eq!(encode_frames(&[], 1_000), Vec::<Bytes>::new());
}

/// Covers OPT-msg-batch-wire.
#[test]
fn the_heartbeats_of_many_regions_are_one_small_frame() {
    let heartbeats: Vec<_> = (100_000..110_000).map(heartbeat).collect();
    let frames = encode_frames(&heartbeats, 1024 * 1024);
    assert_eq!(frames.len(), 1);
    // Flags, kind and term take a byte each, the region 3, the peers 3 each, the epoch 3, the
    // commit index 3 and the round 3; the first one names the stores.
    assert_eq!(frames[0].len(), HEADER_SIZE + 2 + heartbeats.len() * 21);
}

#[test]
fn commands_are_slices_of_the_frame() {
    let envelope = append(1, &Bytes::from(vec![7; 1_000]));
    let frame = encode_frames(&[envelope], NO_LIMIT).remove(0);
    let decoded = decode_frame(frame.clone()).unwrap();
    let Content::Raft(Message { body: Body::Append { slice, .. }, .. }) = &decoded[0].content
    else {
        panic!("an append was sent");
    };
    let Payload::Command(command) = &slice.entries()[0].payload else {
        panic!("a command was sent");
    };
    assert!(frame.as_ptr_range().contains(&command.as_ptr()));
}

#[test]
fn a_frame_is_as_documented() {
    let beat = envelope(3, Body::Heartbeat { commit: Index(300), round: Round(2) });
    let mut removed = envelope(3, Body::NewerTerm);
    removed.content = Content::Removed;
    removed.to.role = PeerRole::Learner;
    let frame = encode_frames(&[beat, removed], NO_LIMIT).remove(0);
    // Flags, stores 1 and 2, region 3, peers 31 and 32, epoch 5 and 130, a heartbeat of term 7,
    // commit index 300, round 2.
    let beat = [0, 1, 2, 3, 31, 32, 5, 0x82, 1, 8, 7, 0xAC, 2, 2];
    let removed = [0x06, 3, 31, 32, 5, 0x82, 1, 0];
    let body = [&beat[..], &removed[..]].concat();
    assert_eq!(frame[0], 1);
    assert_eq!(frame[1..5], crc32fast::hash(&body).to_le_bytes());
    assert_eq!(frame[5..], body);
}

#[test]
fn what_no_sender_makes_is_refused() {
    let refused = |body: &[u8]| decode_frame(sealed(body)).unwrap_err();
    let flags = refused(&[0x10, 1, 2, 3, 31, 32, 5, 1, 12, 7]);
    assert_eq!(flags, DecodeError::Malformed("the flags of an envelope"));
    let nowhere = refused(&[0x04, 3, 31, 32, 5, 1, 12, 7]);
    assert_eq!(nowhere, DecodeError::Malformed("the id of a store"));
    let nobody = refused(&[0, 1, 2, 3, 0, 32, 5, 1, 12, 7]);
    assert_eq!(nobody, DecodeError::Malformed("the id of a peer"));
    let kind = refused(&[0, 1, 2, 3, 31, 32, 5, 1, 19, 7]);
    assert_eq!(kind, DecodeError::Malformed("the kind of a message"));
    // The run's leader is of term 1, its entry of term 2.
    let append = [0, 1, 2, 3, 31, 32, 5, 1, 5, 7, 0, 0, 1, 1, 8, 1, 1, 0, 0];
    assert_eq!(refused(&append), DecodeError::Malformed("a run of entries"));
    let mut newer = sealed(&[]).to_vec();
    newer[0] = 2;
    let newer = decode_frame(newer.into());
    assert_eq!(newer, Err(DecodeError::Malformed("the version of a frame")));
}
