//! Tables of cases that section 5 leaves to the reader.

use super::*;

/// §5.3: a proposal is committed and equal everywhere it can reach when that is a majority of all;
/// otherwise nobody leads, and nobody has it. Covers 2A-log-proposal-quorum.
#[test]
fn section_5_3_a_proposal_needs_a_majority_of_everybody() {
    for (count, down) in
        [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2), (5, 3)]
    {
        let mut group = Group::of(count, plain);
        (count - down + 1..=count).for_each(|node| group.isolate(node));
        group.peer(1).node().campaign().expect("a voter campaigns");
        group.stabilise();
        let wins = 2 * (count - down) > count;
        assert_eq!(group.propose(1, "x").is_ok(), wins, "{count} - {down}");
        group.stabilise();
        group.tick(1, 2);
        group.stabilise();
        assert_eq!(group.term(1), 1);
        for node in 1..=count {
            let reached = wins && node <= count - down;
            let (terms, commit) = if reached { (vec![1, 1], 2) } else { (vec![], 0) };
            assert_eq!((group.terms(node), group.commit(node)), (terms, commit), "{node}");
        }
    }
}

/// Figure 2, AppendEntries, steps 2 to 5, against a log of the terms 1 and 2. The commit index
/// becomes that of the leader, or that of the last entry the append speaks for when it is smaller;
/// never the end of the own log. Covers 2A-log-handle-append.
#[test]
fn figure_2_what_an_append_does_to_a_log_and_its_commit_index() {
    // Predecessor, terms of the entries, commit; the log and the commit index after.
    type Case<'a> = (EntryId, &'a [u64], u64, Option<&'a [u64]>, u64);
    let cases: [Case<'_>; 13] = [
        // Refused: another term there, and nothing there.
        (at(2, 1), &[], 3, None, 0),
        (at(2, 3), &[], 3, None, 0),
        (at(1, 2), &[2], 3, None, 0),
        // Accepted.
        (at(1, 1), &[], 1, Some(&[1, 2]), 1),
        (at(0, 0), &[2], 1, Some(&[2]), 1),
        (at(2, 2), &[2, 2], 3, Some(&[1, 2, 2, 2]), 3),
        (at(2, 2), &[2], 4, Some(&[1, 2, 2]), 3),
        (at(1, 1), &[2], 4, Some(&[1, 2]), 2),
        // It speaks for the first entry only, whatever follows here.
        (at(1, 1), &[], 2, Some(&[1, 2]), 1),
        (at(0, 0), &[1], 2, Some(&[1, 2]), 1),
        (at(1, 1), &[], 3, Some(&[1, 2]), 1),
        (at(2, 2), &[], 2, Some(&[1, 2]), 2),
        (at(2, 2), &[], 4, Some(&[1, 2]), 2),
    ];
    for (previous, terms, commit, after, committed) in cases {
        let mut group = alone(3, &[1, 2], hard(2, None, 0));
        group.forge(2, 1, 2, append(2, previous, terms, commit));
        group.stabilise();
        let case = format!("{previous} {terms:?} {commit}");
        assert_eq!(group.commit(1), committed, "{case}");
        assert_eq!(group.terms(1), after.unwrap_or(&[1, 2]), "{case}");
        let reply = &group.sent.last().expect("an answer").body;
        let is_refused = matches!(reply, Body::AppendRejected { .. });
        assert_eq!(is_refused, after.is_none(), "{case}: {reply:?}");
    }
}

/// §5.3: "nextIndex … is the index of the next log entry the leader will send". Covers
/// 2A-log-next.
#[test]
fn section_5_3_next_is_behind_what_was_sent() {
    let mut group = Group::default();
    for number in 1..=3 {
        let store = MemoryLogStore::new(voters(&[1, 2, 3]));
        store.append(&run(1, &[1, 1, 1]));
        store.set_hard_state(hard(1, None, 0));
        let mut config = Config::new(id(number));
        plain(&mut config);
        group.add(config, store);
    }
    group.elect(1);
    group.propose(1, "x").expect("node 1 leads");
    while group.ready(1) {}
    let status = group.peer(1).node().status();
    assert!(status.progress.iter().all(|one| one.next == Index(3 + 1 + 1 + 1)), "{status:?}");
}
