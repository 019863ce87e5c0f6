//! How many messages a proposal costs three stores: a gate, because each is work for two of them.

mod lab;

use std::pin::Pin;

use kiva_engine::{Cf, WriteBatch};
use kiva_raftstore::proposal::ProposeError;
use lab::Lab;

type Answer = Pin<Box<dyn Future<Output = Result<(), ProposeError>>>>;

/// Messages that three stores send for so many proposals made at the same time, until all are
/// answered and nobody has anything to do.
fn messages(burst: usize) -> usize {
    let mut lab = Lab::new(3);
    let term = lab.elect(1);
    lab.tick(4);
    let sent = lab.sent.len();
    let propose = |number| -> Answer {
        let replica = lab.router(1).replica(&lab.header(1)).expect("store 1 leads");
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, format!("k{number}").as_bytes(), &[7; 256]);
        Box::pin(async move { replica.propose(term, batch, Box::new(())).await })
    };
    let mut answers: Vec<_> = (0..burst).map(propose).collect();
    // All are in the mailbox before the store begins its round.
    assert!(answers.iter_mut().all(|answer| lab::poll_once(answer).is_none()));
    lab.settle();
    for answer in &mut answers {
        assert_eq!(lab::poll_once(answer), Some(Ok(())));
    }
    lab.sent.len() - sent
}

#[test]
fn a_proposal_alone_takes_an_append_and_an_answer_of_each_follower() {
    assert!(messages(1) <= 4);
}

#[test]
fn of_64_proposals_at_a_time_each_takes_a_fifth_of_a_message() {
    assert!(messages(64) as f64 <= 0.2 * 64.0);
}
