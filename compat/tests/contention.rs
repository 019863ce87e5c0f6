//! Many clients at once, and an invariant that holds whatever their order.

mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cluster::{Cluster, commit, is_conflict, key, latest, on_v1_and_v2, patient};
use tikv_client::{TransactionClient, Value};

on_v1_and_v2!(
    a_counter_counts_every_commit,
    money_is_conserved_in_every_snapshot,
    of_two_that_read_each_other_only_one_commits,
);

fn number(value: Option<Value>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value.try_into().expect("eight bytes")))
}

/// Covers 4B-concurrent-conflict.
async fn a_counter_counts_every_commit(cluster: &Cluster) {
    const CLIENTS: usize = 50;
    const INCREMENTS: usize = 4;
    let client = cluster.txn().await;
    let conflicts = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let (client, conflicts) = (client.clone(), conflicts.clone());
        tasks.push(tokio::spawn(async move {
            let mut committed = 0;
            while committed < INCREMENTS {
                let mut txn = client.begin_with_options(patient()).await.unwrap();
                let old = number(txn.get(key(0)).await.unwrap());
                txn.put(key(0), (old + 1).to_be_bytes().to_vec()).await.unwrap();
                match txn.commit().await {
                    Ok(_) => committed += 1,
                    Err(error) if is_conflict(&error) => {
                        conflicts.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => panic!("neither committed nor a conflict: {error:?}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let total = number(latest(&client, key(0)).await);
    assert_eq!(total, (CLIENTS * INCREMENTS) as u64);
    // Fifty that never met would show nothing.
    assert!(conflicts.load(Ordering::Relaxed) > 0, "no two transactions met");
}

/// Covers 4B-bank with one region and no faults.
async fn money_is_conserved_in_every_snapshot(cluster: &Cluster) {
    const ACCOUNTS: usize = 60;
    const START: u64 = 100;
    const TRANSFERS: u64 = 300;
    let client = cluster.txn().await;
    let accounts = (0..ACCOUNTS).map(|n| (key(n), START.to_be_bytes().to_vec()));
    commit(&client, accounts).await;

    let done = Arc::new(AtomicU64::new(0));
    let mut workers = Vec::new();
    for worker in 0..8u64 {
        let (client, done) = (client.clone(), done.clone());
        workers.push(tokio::spawn(async move {
            // A multiplicative generator is random enough to pick accounts, and repeats.
            let mut state = worker * 2 + 1;
            while done.load(Ordering::Relaxed) < TRANSFERS {
                let mut draw = |below: usize| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as usize % below
                };
                let from = draw(ACCOUNTS);
                let to = (from + 1 + draw(ACCOUNTS - 1)) % ACCOUNTS;
                if transfer(&client, from, to, draw(50) as u64).await {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }

    let writing = Arc::new(AtomicBool::new(true));
    let mut readers = Vec::new();
    for reader in 0..2 {
        let (client, writing) = (cluster.txn().await, writing.clone());
        readers.push(tokio::spawn(async move {
            let mut reads = 0;
            loop {
                // One more read after the last transfer, whatever happened before.
                let last = !writing.load(Ordering::Relaxed);
                let total = if reader == 0 {
                    total_by_scan(&client).await
                } else {
                    total_by_keys(&client, ACCOUNTS).await
                };
                assert_eq!(total, START * ACCOUNTS as u64, "after {reads} reads");
                reads += 1;
                if last {
                    return reads;
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    writing.store(false, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

/// Whether the transfer was committed. It is none of an amount that the account does not hold.
async fn transfer(client: &TransactionClient, from: usize, to: usize, amount: u64) -> bool {
    let mut txn = client.begin_with_options(patient()).await.unwrap();
    let payer = number(txn.get(key(from)).await.unwrap());
    let payee = number(txn.get(key(to)).await.unwrap());
    let amount = amount.min(payer);
    txn.put(key(from), (payer - amount).to_be_bytes().to_vec()).await.unwrap();
    txn.put(key(to), (payee + amount).to_be_bytes().to_vec()).await.unwrap();
    match txn.commit().await {
        Ok(_) => true,
        Err(error) if is_conflict(&error) => {
            txn.rollback().await.unwrap();
            false
        }
        Err(error) => panic!("neither committed nor a conflict: {error:?}"),
    }
}

async fn total_by_scan(client: &TransactionClient) -> u64 {
    let now = client.current_timestamp().await.unwrap();
    let found = client.snapshot(now, patient()).scan(.., 10_000).await.unwrap();
    found.map(|pair| number(Some(pair.1))).sum()
}

async fn total_by_keys(client: &TransactionClient, accounts: usize) -> u64 {
    let now = client.current_timestamp().await.unwrap();
    let keys = (0..accounts).map(key);
    let found = client.snapshot(now, patient()).batch_get(keys).await.unwrap();
    found.map(|pair| number(Some(pair.1))).sum()
}

/// Two doctors, each allowed to leave if the other stays. Snapshot isolation alone lets both go;
/// locking what was read makes them conflict.
async fn of_two_that_read_each_other_only_one_commits(cluster: &Cluster) {
    let client = cluster.txn().await;
    let on_call = || 1u64.to_be_bytes().to_vec();
    commit(&client, [(key(0), on_call()), (key(1), on_call())]).await;
    let leave = async |mine: usize, other: usize| -> bool {
        let mut txn = client.begin_with_options(patient()).await.unwrap();
        if number(txn.get(key(other)).await.unwrap()) == 0 {
            txn.rollback().await.unwrap();
            return false;
        }
        txn.lock_keys([key(other)]).await.unwrap();
        txn.put(key(mine), 0u64.to_be_bytes().to_vec()).await.unwrap();
        match txn.commit().await {
            Ok(_) => true,
            Err(error) => {
                assert!(is_conflict(&error), "{error:?}");
                txn.rollback().await.unwrap();
                false
            }
        }
    };
    let (first, second) = tokio::join!(leave(0, 1), leave(1, 0));
    assert!(!(first && second), "nobody is on call");
}
