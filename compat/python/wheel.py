"""The Python client, `tikv-client` 0.0.4, against a cluster whose addresses are in PD_ADDRS.

Run by `compat/run`, which installs the wheel and starts the cluster. Each function below whose name
begins with `check_` is one check; the last line printed is `python: N passed, N failed`, and that
line is the verdict. It has to be: the wheel's own threads crash the interpreter at exit, at random
and whatever the server does, so this script leaves without tearing anything down.
"""

import asyncio
import os
import subprocess
import sys
import time
import traceback
import warnings

from tikv_client import RawClient, TransactionClient
from tikv_client.asynchronous import TransactionClient as AsyncTransactionClient

ADDRESSES = os.environ["PD_ADDRS"].split(",")
KEYS = 3000


def key(number):
    return b"key-%06d" % number


def value(number):
    return b"value-%d-%s" % (number, b"x" * (number % 100))


def pairs(start, end):
    return {key(number): value(number) for number in range(start, end)}


def raw_client():
    """A raw client of an empty cluster."""
    client = RawClient.connect(ADDRESSES)
    client.delete_range(b"", b"\xff" * 8)
    return client


def txn_client(prefix):
    """A transactional client, and keys that no other check uses."""
    client = TransactionClient.connect(ADDRESSES)
    return client, lambda number: prefix + key(number)


def commit(client, items, deleted=()):
    txn = client.begin(pessimistic=False)
    for k, v in items.items():
        txn.put(k, v)
    for k in deleted:
        txn.delete(k)
    txn.commit()


def now(client):
    return client.snapshot(client.current_timestamp(), pessimistic=False)


def refused(action):
    """What the client said when it refused."""
    try:
        action()
    except Exception as error:  # The wheel raises plain exceptions.
        return str(error)
    raise AssertionError("it was not refused")


# 1-raw-put, 1-raw-get, 1-raw-get-missing, 1-get-after-delete, 1-empty-value
def check_raw_get_put_delete():
    client = raw_client()
    assert client.get(key(1)) is None
    client.put(key(1), value(1))
    client.put(key(1), value(2))
    assert client.get(key(1)) == value(2)
    client.put(key(2), b"")
    assert client.get(key(2)) == b""
    client.delete(key(1))
    client.delete(key(1))
    assert client.get(key(1)) is None


def check_raw_batches():
    client = raw_client()
    client.batch_put(pairs(0, KEYS))
    found = client.batch_get([key(number) for number in range(KEYS + 10)])
    assert dict(found) == pairs(0, KEYS), len(found)
    client.batch_delete([key(number) for number in range(0, KEYS, 2)])
    left = client.scan(b"", b"\xff", KEYS)
    assert [k for k, _ in left] == [key(number) for number in range(1, KEYS, 2)]


# 1-scan-limit, 1-scan-from-middle
def check_raw_scans():
    client = raw_client()
    client.batch_put(pairs(0, KEYS))
    seen, start, include = [], b"", True
    while True:
        page = client.scan(start, b"\xff", 321, include_start=include)
        if not page:
            break
        seen.extend(page)
        start, include = page[-1][0], False
    assert seen == sorted(pairs(0, KEYS).items())
    inner = client.scan_keys(key(10), key(20), 100, include_start=False, include_end=True)
    assert list(inner) == [key(number) for number in range(11, 21)]
    assert list(client.scan_keys(key(10), key(20), 3)) == [key(10), key(11), key(12)]


def check_raw_delete_range():
    client = raw_client()
    client.batch_put(pairs(0, 100))
    client.delete_range(key(10), key(90))
    left = dict(client.scan(b"", b"\xff", 1000))
    assert left == {**pairs(0, 10), **pairs(90, 100)}, len(left)


# 1-cf-isolation
def check_raw_column_families():
    client = raw_client()
    for number, family in enumerate(["default", "lock", "write"]):
        client.put(key(0), value(number), cf=family)
    for number, family in enumerate(["default", "lock", "write"]):
        assert client.get(key(0), cf=family) == value(number)
        client.delete(key(0), cf=family)


def check_raw_large_value():
    client = raw_client()
    large = bytes(range(256)) * 4096
    client.put(key(0), large)
    assert client.get(key(0)) == large


# 4B-get, 4B-get-none, 4B-commit-single
def check_txn_commit():
    client, k = txn_client(b"commit-")
    txn = client.begin(pessimistic=False)
    assert txn.get(k(1)) is None
    txn.put(k(1), value(1))
    txn.put(k(2), value(2))
    assert txn.get(k(1)) == value(1)
    assert now(client).get(k(1)) is None
    txn.commit()
    assert now(client).get(k(1)) == value(1)
    assert not now(client).key_exists(k(3))
    commit(client, {}, deleted=[k(1)])
    assert now(client).get(k(1)) is None
    assert now(client).key_exists(k(2))


# 4C-rollback-missing
def check_txn_rollback():
    client, k = txn_client(b"rollback-")
    commit(client, {k(1): value(1)})
    txn = client.begin(pessimistic=False)
    txn.put(k(1), value(2))
    txn.put(k(2), value(2))
    txn.rollback()
    assert now(client).get(k(1)) == value(1)
    assert now(client).get(k(2)) is None
    commit(client, {k(2): value(3)})
    assert now(client).get(k(2)) == value(3)


# 4B-prewrite-conflict
def check_txn_conflict():
    client, k = txn_client(b"conflict-")
    first, second = client.begin(pessimistic=False), client.begin(pessimistic=False)
    first.put(k(1), value(1))
    second.put(k(1), value(2))
    second.put(k(2), value(2))
    first.commit()
    said = refused(second.commit)
    assert "conflict" in said.lower(), said
    assert now(client).get(k(1)) == value(1)
    assert now(client).get(k(2)) is None


def check_txn_insert():
    client, k = txn_client(b"insert-")
    txn = client.begin(pessimistic=False)
    txn.insert(k(1), value(1))
    txn.commit()
    txn = client.begin(pessimistic=False)
    txn.insert(k(1), value(2))
    said = refused(txn.commit)
    assert "exist" in said.lower(), said
    assert now(client).get(k(1)) == value(1)


# 4C-scan-all, 4C-scan-limit
def check_txn_thousands_of_keys():
    client, k = txn_client(b"many-")
    items = {k(number): value(number) for number in range(KEYS)}
    commit(client, items)
    snapshot = now(client)
    seen, start, include = [], b"many-", True
    while True:
        page = snapshot.scan(start, b"many.", 321, include_start=include)
        page = list(page)
        if not page:
            break
        seen.extend(page)
        start, include = page[-1][0], False
    assert seen == sorted(items.items())
    assert dict(snapshot.batch_get(list(items))) == items
    keys = list(snapshot.scan_keys(b"many-", b"many.", 2 * KEYS))
    assert keys == sorted(items)


# 4C-scan-snapshot
def check_txn_snapshot_is_stable():
    client, k = txn_client(b"stable-")
    old = {k(number): value(number) for number in range(100)}
    commit(client, old)
    snapshot = now(client)
    first = list(snapshot.scan(b"stable-", k(50), 1000))
    commit(client, {name: b"new" for name in old}, deleted=[])
    second = list(snapshot.scan(k(50), b"stable.", 1000))
    assert first + second == sorted(old.items())


# 4B-concurrent-conflict
def check_txn_counter():
    clients, increments = 10, 5

    async def increment(client):
        committed = 0
        while committed < increments:
            txn = await client.begin(pessimistic=False)
            old = int(await txn.get(b"counter") or b"0")
            await txn.put(b"counter", b"%d" % (old + 1))
            try:
                await txn.commit()
                committed += 1
            except Exception as error:
                # A lock that is held for longer than the client waits is no failure here.
                said = str(error).lower()
                assert "conflict" in said or "resolve" in said, said
                await txn.rollback()

    async def count():
        client = await AsyncTransactionClient.connect(ADDRESSES)
        await asyncio.gather(*(increment(client) for _ in range(clients)))
        last = await client.begin(pessimistic=False)
        total = await last.get(b"counter")
        await last.rollback()
        return total

    total = asyncio.get_event_loop().run_until_complete(count())
    assert int(total) == clients * increments, total


# A writer of whole rounds over the same keys, until somebody ends it.
WRITER = """
import os, sys
from tikv_client import TransactionClient
prefix = sys.argv[1].encode()
client = TransactionClient.connect(os.environ["PD_ADDRS"].split(","))
for round in range(1_000_000):
    txn = client.begin(pessimistic=False)
    for number in range(1000):
        txn.put(prefix + b"%06d" % number, b"%d-" % round + b"x" * 100)
    print(round, flush=True)
    txn.commit()
"""


# 4B-crash-primary
def check_txn_writers_are_killed():
    """Expired locks of the dead are settled as this client settles them, with KvCleanup."""
    client, _ = txn_client(b"")
    for victim in range(5):
        prefix = b"victim-%d-" % victim
        writer = subprocess.Popen(
            [sys.executable, "-B", "-W", "ignore", "-c", WRITER, prefix.decode()],
            stdout=subprocess.PIPE,
        )
        # Within the commit of the second round, each a little later.
        assert [int(writer.stdout.readline()) for _ in range(2)] == [0, 1]
        time.sleep(victim * 0.008)
        writer.kill()
        writer.wait()

        found = list(with_patience(lambda: now(client).scan(prefix, prefix + b"\xff", 1000)))
        assert len(found) == 1000, len(found)
        rounds = {v.split(b"-")[0] for _, v in found}
        assert len(rounds) == 1, rounds


def with_patience(read):
    """The client itself waits for a lock for half as long as a lock of the dead lives."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return read()
        except Exception as error:
            if "lock" not in str(error).lower() or time.monotonic() > deadline:
                raise


def main():
    # The wheel asks for the current event loop in a way that newer interpreters frown upon.
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop(asyncio.new_event_loop())
    passed = failed = 0
    for name, check in list(globals().items()):
        if not name.startswith("check_"):
            continue
        try:
            check()
            passed += 1
            print("ok", name, flush=True)
        except BaseException:
            failed += 1
            print("FAILED", name, flush=True)
            traceback.print_exc()
    print(f"python: {passed} passed, {failed} failed", flush=True)
    sys.stderr.flush()
    os._exit(0 if failed == 0 else 1)


main()
