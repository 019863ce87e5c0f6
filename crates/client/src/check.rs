//! Compares the replicas of a region: do they hold the same?
//!
//! Every store with a replica is asked for a digest of what it has and for the entry up to which
//! that is. Replicas can be compared when all of them stand at the same entry, so the question is
//! repeated until they do. While many clients write they rarely do, and the answer is that nobody
//! knows ([`Verdict::Moving`]), which is no reason to worry.
//!
//! Compared is what can be read. Values that have expired, or will within [`EXPIRY_MARGIN`], do not
//! count: every store drops them when its own clock says so. Old versions of transactional values
//! count, because nothing removes them yet. While a range is being destroyed its stores differ.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kiva_base::{Peer, Region, RegionId, StoreId, Term};

use crate::Client;
use crate::error::SchedulerError;
use crate::rpc::CallError;

/// How much longer than now a value must live to be compared: more than clocks of machines differ.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// The first pause between two questions; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest pause. A follower hears within a heartbeat what it may apply.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a store that does not answer is asked while the others stand still.
const ATTEMPTS_SILENT: u32 = 4;

/// What one replica holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaDigest {
    /// The region as applied there.
    pub region: Region,
    /// The last entry whose effect is in the numbers.
    pub applied: (Term, u64),
    /// One for each family, in a fixed order.
    pub families: Vec<FamilyDigest>,
}

/// What one family holds in the range of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyDigest {
    /// Its name.
    pub family: String,
    /// Keys with a value.
    pub pairs: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// A hash of all of them in key order.
    pub hash: u64,
}

/// What one store said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The peer that lives there.
    pub peer: Peer,
    /// What it holds, or why nobody knows.
    pub digest: Result<ReplicaDigest, String>,
}

/// What the answers mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All replicas hold the same.
    Same,
    /// These stores hold something else than the first one that answered, though all of them have
    /// applied the same entries. Which of them is right cannot be told from that.
    Different(Vec<StoreId>),
    /// No difference was found, and not all replicas could be asked.
    Incomplete,
    /// They never stood at the same entry.
    Moving,
}

/// The replicas of one region, compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Which region.
    pub region: RegionId,
    /// Who led it.
    pub leader: Option<Peer>,
    /// What each store said the last time it was asked, the leader's first.
    pub answers: Vec<Answer>,
    /// What that means.
    pub verdict: Verdict,
}

impl Client {
    /// Compares the replicas of a region; `None` when there is no such region. Takes as long as
    /// reading the region, and at most about the timeout of the client's options.
    pub async fn compare(&self, id: RegionId) -> Result<Option<Comparison>, SchedulerError> {
        let core = &self.core;
        let deadline = core.clock.now() + core.timeout;
        let mut pause = PAUSE_FIRST;
        for attempt in 1.. {
            let Some(found) = self.scheduler().region(id).await? else {
                return Ok(None);
            };
            let mut peers = found.region.peers.clone();
            peers.sort_by_key(|peer| (Some(*peer) != found.leader, peer.store));
            let left = deadline.since(core.clock.now()).max(PAUSE_MAX);
            let margin = EXPIRY_MARGIN.as_millis() as u64;
            let readable_at_ms = core.clock.wall_ms().saturating_add(margin);
            let ask = |peer: Peer| self.ask_replica(peer, id, readable_at_ms, left);
            let answers = join_all(peers.into_iter().map(ask)).await;
            let verdict = judge(&answers);
            let is_final = match verdict {
                Verdict::Same | Verdict::Different(_) => true,
                Verdict::Incomplete => attempt >= ATTEMPTS_SILENT,
                Verdict::Moving => false,
            };
            if is_final || core.clock.now() + pause >= deadline {
                let leader = found.leader;
                return Ok(Some(Comparison { region: id, leader, answers, verdict }));
            }
            core.clock.sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        unreachable!("attempts end with their deadline")
    }

    async fn ask_replica(
        &self,
        peer: Peer,
        region: RegionId,
        readable_at_ms: u64,
        timeout: Duration,
    ) -> Answer {
        let asked = async {
            let store = self.scheduler().store(peer.store).await.map_err(|e| e.to_string())?;
            let store = Arc::new(store.ok_or("the scheduler does not know the store")?);
            let digest = self.core.stores.digest(&store, region, readable_at_ms, timeout).await;
            match digest {
                Ok(Some(digest)) => Ok(digest),
                Ok(None) => Err("it has no data yet".to_owned()),
                Err(CallError::Unserved(_)) => {
                    Err("the store does not serve this; it is older than this client".to_owned())
                }
                Err(error) => Err(error.to_string()),
            }
        };
        Answer { peer, digest: asked.await }
    }
}

/// What the answers mean.
fn judge(answers: &[Answer]) -> Verdict {
    let known: Vec<_> = answers
        .iter()
        .filter_map(|answer| Some((answer.peer.store, answer.digest.as_ref().ok()?)))
        .collect();
    let Some(((_, first), others)) = known.split_first() else {
        return Verdict::Incomplete;
    };
    if others.iter().any(|(_, other)| other.applied != first.applied) {
        return Verdict::Moving;
    }
    let different = others.iter().filter(|(_, other)| other != first).map(|(store, _)| *store);
    let different: Vec<_> = different.collect();
    match (different.is_empty(), known.len() == answers.len()) {
        (false, _) => Verdict::Different(different),
        (true, true) => Verdict::Same,
        (true, false) => Verdict::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use kiva_base::{Epoch, KeyRange, PeerId, PeerRole};

    use super::*;

    fn answer(store: u64, digest: Result<(u64, u64), &str>) -> Answer {
        let (id, on) = (PeerId::new(store + 100).unwrap(), StoreId::new(store).unwrap());
        let peer = Peer { id, store: on, role: PeerRole::Voter };
        let digest = digest.map_err(str::to_owned).map(|(index, hash)| ReplicaDigest {
            region: Region {
                id: RegionId::new(2).unwrap(),
                range: KeyRange::ALL,
                epoch: Epoch::FIRST,
                peers: Vec::new(),
            },
            applied: (Term(5), index),
            families: vec![FamilyDigest { family: "default".into(), pairs: 1, bytes: 2, hash }],
        });
        Answer { peer, digest }
    }

    fn verdict(digests: &[Result<(u64, u64), &str>]) -> Verdict {
        let answers = digests.iter().zip(1..).map(|(digest, store)| answer(store, *digest));
        judge(&answers.collect::<Vec<_>>())
    }

    #[test]
    fn only_replicas_at_the_same_entry_are_compared() {
        assert_eq!(verdict(&[Ok((7, 1)), Ok((7, 1)), Ok((7, 1))]), Verdict::Same);
        assert_eq!(verdict(&[Ok((7, 1)), Ok((6, 2)), Ok((7, 1))]), Verdict::Moving);
        assert_eq!(verdict(&[Ok((7, 1)), Ok((8, 1)), Err("down")]), Verdict::Moving);
        let store = |id| StoreId::new(id).unwrap();
        let different = Verdict::Different(vec![store(2)]);
        assert_eq!(verdict(&[Ok((7, 1)), Ok((7, 2)), Ok((7, 1))]), different);
    }

    #[test]
    fn a_silent_store_is_neither_equal_nor_a_way_to_hide_a_difference() {
        assert_eq!(verdict(&[Ok((7, 1)), Err("down"), Ok((7, 1))]), Verdict::Incomplete);
        assert_eq!(verdict(&[Err("down"), Err("down")]), Verdict::Incomplete);
        let different = Verdict::Different(vec![StoreId::new(3).unwrap()]);
        assert_eq!(verdict(&[Ok((7, 1)), Err("down"), Ok((7, 2))]), different);
    }

    #[test]
    fn a_replica_with_other_members_at_the_same_entry_differs() {
        let (one, mut other) = (answer(1, Ok((7, 1))), answer(2, Ok((7, 1))));
        other.digest.as_mut().unwrap().region.epoch.conf_ver += 1;
        assert_eq!(judge(&[one, other]), Verdict::Different(vec![StoreId::new(2).unwrap()]));
    }
}
