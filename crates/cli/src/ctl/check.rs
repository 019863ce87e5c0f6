//! `kiva ctl region check`: do the replicas of a region hold the same?

use kiva_base::RegionId;
use kiva_client::Client;
use kiva_client::check::{Answer, Comparison, FamilyDigest, ReplicaDigest, Verdict};
use serde_json::{Value, json};

use super::region::{peer_object, role};
use crate::exit::{Failure, Status};
use crate::output::{Output, Table, thousands};

/// Compares the replicas of one region or of all of `regions`, and says what was found. Ends with 1
/// when replicas differ, and with 3 when some could not be compared.
pub(super) async fn run(
    client: &Client,
    regions: &[RegionId],
    out: &mut Output,
) -> Result<Status, Failure> {
    let mut table =
        Table::new(&["region", "store", "peer", "applied", "keys", "bytes", "digest", "result"]);
    let (mut different, mut open) = (Vec::new(), Vec::new());
    for id in regions {
        let Some(compared) = client.compare(*id).await? else {
            return Err(Failure::refused(format!("no region has the id {id}")));
        };
        match &compared.verdict {
            Verdict::Same => {}
            Verdict::Different(_) => different.push(id.to_string()),
            Verdict::Incomplete | Verdict::Moving => open.push(id.to_string()),
        }
        if out.is_json() {
            out.object(&object(&compared))?;
            continue;
        }
        for answer in &compared.answers {
            table.row(row(&compared, answer));
        }
    }
    if !out.is_json() {
        out.table(&table)?;
    }
    if !different.is_empty() {
        let regions = different.join(", ");
        return Err(Failure::refused(format!("replicas differ: region {regions}")).advise(
            "which one is right cannot be told from that; clients read the leader. Stop a store \
             that differs, keep its directory, see it with `kiva ctl data inspect`, and replace \
             its peer with `kiva ctl region remove-peer`",
        ));
    }
    if !open.is_empty() {
        let regions = open.join(", ");
        let message = format!("not all replicas could be compared: region {regions}");
        return Err(Failure::new(Status::Unreachable, message).advise(
            "replicas are compared at the same entry: try again when fewer clients write and all \
             stores are up, or allow more time with --timeout",
        ));
    }
    Ok(Status::Done)
}

fn row(compared: &Comparison, answer: &Answer) -> [String; 8] {
    let peer = format!("{}{}", answer.peer.id, role(&answer.peer));
    let [region, store] = [compared.region.to_string(), answer.peer.store.to_string()];
    let digest = match &answer.digest {
        Ok(digest) => digest,
        Err(why) => {
            let none = String::new;
            return [region, store, peer, none(), none(), none(), none(), why.clone()];
        }
    };
    let sum = |of: fn(&FamilyDigest) -> u64| thousands(digest.families.iter().map(of).sum());
    let (term, index) = digest.applied;
    let keys = sum(|family| family.pairs);
    let bytes = sum(|family| family.bytes);
    let result = result(compared, answer, digest);
    [region, store, peer, format!("{term}/{index}"), keys, bytes, fold(digest), result]
}

/// One number for all families.
fn fold(digest: &ReplicaDigest) -> String {
    let all = digest.families.iter();
    let all = all.fold(0_u64, |all, family| all.rotate_left(21) ^ family.hash);
    format!("{all:016x}")
}

/// What comparing this replica has shown.
fn result(compared: &Comparison, answer: &Answer, digest: &ReplicaDigest) -> String {
    let first = compared.answers.iter().find_map(|one| one.digest.as_ref().ok());
    match (&compared.verdict, first) {
        (Verdict::Moving, _) => "moving".to_owned(),
        (Verdict::Different(stores), Some(first)) if stores.contains(&answer.peer.store) => {
            format!("DIFFERS in {}", difference(first, digest))
        }
        _ if Some(answer.peer.id) == compared.leader.map(|leader| leader.id) => "leader".to_owned(),
        _ => "same".to_owned(),
    }
}

/// What two replicas at the same entry do not have in common.
fn difference(one: &ReplicaDigest, other: &ReplicaDigest) -> String {
    let pairs = one.families.iter().zip(&other.families);
    let families = pairs.filter(|(one, other)| one != other).map(|(one, _)| one.family.as_str());
    let mut parts: Vec<_> = families.collect();
    if one.region != other.region {
        parts.push("range or peers");
    }
    parts.join(", ")
}

fn object(compared: &Comparison) -> Value {
    let answers = compared.answers.iter().map(|answer| {
        let mut object = json!({ "peer": peer_object(&answer.peer) });
        match &answer.digest {
            Ok(digest) => {
                let families = digest.families.iter().map(|family| {
                    json!({
                        "family": family.family,
                        "keys": family.pairs,
                        "bytes": family.bytes,
                        "hash": format!("{:016x}", family.hash),
                    })
                });
                let (term, index) = digest.applied;
                object["applied"] = json!({ "term": term.0, "index": index });
                object["families"] = families.collect();
            }
            Err(why) => object["error"] = json!(why),
        }
        object
    });
    let (verdict, differing) = match &compared.verdict {
        Verdict::Same => ("same", Vec::new()),
        Verdict::Different(stores) => ("different", stores.iter().map(|id| id.get()).collect()),
        Verdict::Incomplete => ("incomplete", Vec::new()),
        Verdict::Moving => ("moving", Vec::new()),
    };
    json!({
        "region": compared.region.get(),
        "leader": compared.leader.as_ref().map(peer_object),
        "verdict": verdict,
        "differing_stores": differing,
        "replicas": answers.collect::<Vec<_>>(),
    })
}
