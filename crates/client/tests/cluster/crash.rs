//! A client that dies at each point of a commit: what others then see is what its primary says.

use std::time::Duration;

use kiva_base::KeyRange;

use crate::resolver::die_after;
use crate::transaction::write;
use crate::world::World;

const KEYS: [&str; 4] = ["a", "h", "p", "z"];

/// Covers 4B-crash-primary, the client's half: before prewrite of all; after prewrite; after
/// committing the primary; after some secondaries.
#[test]
fn whoever_comes_later_makes_the_outcome_that_of_the_primary() {
    // Four prewrites, the commit of the primary, three commits of secondaries.
    for calls in 0..=8 {
        let world = World::txn(&["g", "o", "u"]);
        let client = world.client();
        write(&world, &client, &KEYS);
        die_after(&world, calls, &KEYS);
        let is_committed = calls >= 5;
        world.pass(Duration::from_secs(4));
        let found = world.run(async {
            let snapshot = client.snapshot(client.timestamp().await.unwrap());
            snapshot.scan(KeyRange::ALL, 9).await.unwrap()
        });
        assert_eq!(found.len(), KEYS.len());
        for pair in found {
            let is_new = pair.value == "dead";
            assert_eq!(is_new, is_committed, "{} after {calls} calls", pair.key.escaped());
        }
        assert!(world.locks().is_empty(), "after {calls} calls: {:?}", world.locks());
    }
}
