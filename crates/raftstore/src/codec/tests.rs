//! Encodings return, and what is no encoding is refused.

use bytes::Bytes;
use kiva_raft::SliceError;
use proptest::prelude::*;

use super::*;

fn node_id() -> impl Strategy<Value = NodeId> {
    prop_oneof![1..9_u64, 1..u64::MAX].prop_map(|id| NodeId::new(id).expect("not zero"))
}

fn change() -> impl Strategy<Value = MembershipChange> {
    let step = (0..3, node_id()).prop_map(|(kind, id)| match kind {
        0 => Change::AddVoter(id),
        1 => Change::AddLearner(id),
        _ => Change::Remove(id),
    });
    let context = any::<Vec<u8>>().prop_map(Bytes::from);
    (0..4, proptest::collection::vec(step, 0..5), context).prop_map(|(kind, changes, context)| {
        match kind {
            0 => MembershipChange::Simple { changes, context },
            1 => MembershipChange::Joint { changes, leave: Leave::Automatic, context },
            2 => MembershipChange::Joint { changes, leave: Leave::OnRequest, context },
            _ => MembershipChange::Leave { context },
        }
    })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        any::<Vec<u8>>().prop_map(|bytes| Payload::Command(bytes.into())),
        change().prop_map(|change| Payload::Membership(Arc::new(change))),
    ]
}

fn slice() -> impl Strategy<Value = LogSlice> {
    let steps = proptest::collection::vec((0..3_u64, any_payload()), 0..6);
    (0..9_u64, 0..1000_u64, steps, 0..3_u64).prop_map(|(term, index, steps, lead)| {
        let previous = EntryId::new(Term(term), Index(index));
        let mut id = previous;
        let entries = steps.into_iter().map(|(step, payload)| {
            id = EntryId::new(Term(id.term.0 + step), id.index.next());
            Entry { index: id.index, term: id.term, payload }
        });
        let entries: Entries = entries.collect::<Vec<_>>().into();
        LogSlice::new(Term(id.term.0 + lead), previous, entries).expect("it is one")
    })
}

fn membership() -> impl Strategy<Value = Membership> {
    let members = Membership::new([1, 2, 3].map(|id| NodeId::new(id).expect("not zero")), []);
    change().prop_map(move |change| members.changed(&change).unwrap_or_else(|_| members.clone()))
}

fn encoded<T: ?Sized>(value: &T, encode: impl Fn(&T, &mut Vec<u8>)) -> Input {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    Input::new(bytes.into())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        slice in slice(), members in membership(), change in change(), data: Vec<u8>,
        term: u64, vote in proptest::option::of(node_id()), commit: u64,
    ) {
        let mut input = encoded(&slice, encode_slice);
        prop_assert_eq!(decode_slice(&mut input), Ok(slice));
        prop_assert!(input.end("a run").is_ok());
        let input = encoded(&change, encode_change);
        prop_assert_eq!(decode_change(input.bytes), Ok(change));
        let last = EntryId::new(Term(term), Index(commit));
        let snapshot = Snapshot { last, membership: members, data: data.into() };
        let mut input = encoded(&snapshot, encode_snapshot);
        prop_assert_eq!(decode_snapshot(&mut input), Ok(snapshot));
        prop_assert!(input.is_empty());
        let state = HardState { term: Term(term), vote, commit: Index(commit) };
        let mut input = encoded(&state, |state, out| encode_hard_state(*state, out));
        prop_assert_eq!(decode_hard_state(&mut input), Ok(state));
    }

    #[test]
    fn what_is_cut_short_is_refused(
        slice in slice(), members in membership(), cut: prop::sample::Index,
    ) {
        let whole = encoded(&slice, encode_slice).bytes;
        let short = whole.slice(..cut.index(whole.len()));
        prop_assert!(decode_slice(&mut Input::new(short)).is_err());
        let whole = encoded(&members, encode_membership).bytes;
        let short = whole.slice(..cut.index(whole.len()));
        prop_assert!(decode_membership(&mut Input::new(short)).is_err());
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let input = Input::new(bytes.into());
        let _ = decode_slice(&mut input.clone());
        let _ = decode_snapshot(&mut input.clone());
        let _ = decode_membership(&mut input.clone());
        let _ = decode_hard_state(&mut input.clone());
        let _ = decode_change(input.bytes);
    }
}

#[test]
fn a_run_of_entries_looks_like_this() {
    let entry = |term, index, payload| Entry { index: Index(index), term: Term(term), payload };
    let entries = vec![
        entry(5, 301, Payload::Empty),
        entry(7, 302, Payload::Command(Bytes::from_static(b"abc"))),
    ];
    let previous = EntryId::new(Term(5), Index(300));
    let slice = LogSlice::new(Term(7), previous, entries.into()).expect("it is one");
    let bytes = encoded(&slice, encode_slice).bytes;
    assert_eq!(bytes, b"\x07\x05\xAC\x02\x02\x00\x00\x00\x02\x01\x03abc"[..]);
}

#[test]
fn a_run_that_no_leader_has_is_refused() {
    // A leader of term 4 with an entry of term 5 + 2.
    let bytes = b"\x04\x05\x01\x01\x02\x00\x00";
    let refused = decode_slice(&mut Input::new(Bytes::from_static(bytes)));
    assert_eq!(refused, Err(DecodeError::Malformed("a run of entries")));
    let entry = Entry { index: Index(2), term: Term(7), payload: Payload::Empty };
    let direct = LogSlice::new(Term(4), EntryId::new(Term(5), Index(1)), vec![entry].into());
    assert!(matches!(direct, Err(SliceError::BeyondLeader { .. })));
    // An index beyond all.
    let mut bytes = vec![9, 5];
    encode_varint(u64::MAX, &mut bytes);
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    assert!(decode_slice(&mut Input::new(bytes.into())).is_err());
}

#[test]
fn members_that_cannot_be_are_refused() {
    let refused = |bytes: &'static [u8]| {
        decode_membership(&mut Input::new(Bytes::from_static(bytes))).is_err()
    };
    assert!(!refused(b"\x02\x01\x02\x00\x00\x00\x00"));
    assert!(refused(b"\x02\x02\x01\x00\x00\x00\x00"), "not sorted");
    assert!(refused(b"\x01\x00\x00\x00\x00\x00"), "nobody's id");
    assert!(refused(b"\x01\x01\x00\x01\x01\x00\x00"), "a voter and a learner");
    assert!(refused(b"\xFF\xFF\xFF\xFF\x0F"), "more than there are bytes");
}

#[test]
fn commands_are_parts_of_the_input() {
    let entry = |index| {
        let payload = Payload::Command(Bytes::from(vec![3; 100]));
        Entry { index: Index(index), term: Term(1), payload }
    };
    let entries: Entries = (1..4).map(entry).collect();
    let slice = LogSlice::new(Term(1), EntryId::ZERO, entries).expect("it is one");
    let bytes = encoded(&slice, encode_slice).bytes;
    let decoded = decode_slice(&mut Input::new(bytes.clone())).expect("decodes");
    for entry in decoded.entries() {
        let Payload::Command(command) = &entry.payload else { panic!("a command was encoded") };
        assert!(bytes.as_ptr_range().contains(&command.as_ptr()));
    }
}
