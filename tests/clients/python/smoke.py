"""Python clients of the store: aetcd over gRPC and etcd3gw over the JSON gateway.

    python smoke.py HOST:PORT [FEATURE,...]

The server must be empty; the features named after its address are left out (gateway, snapshot). Each suite prints "ok <name>"; the first failed expectation ends the program.
"""

import asyncio
import io
import sys
import threading

import aetcd
import etcd3gw


LACKING = sys.argv[2].split(",") if len(sys.argv) > 2 else []


def expect(what, got, want):
    if got != want:
        sys.exit(f"FAILED {what}: {got!r} instead of {want!r}")


async def grpc(host, port):
    async with aetcd.Client(host=host, port=port, timeout=10) as client:
        await keys(client)
        await transactions(client)
        await leases(client)
        await watches(client)
        await locks(client)
        await maintenance(client)


async def keys(client):
    await client.put(b"py/a", b"1")
    put = await client.put(b"py/a", b"2", prev_kv=True)
    expect("previous value", put.prev_kv.value, b"1")
    got = await client.get(b"py/a")
    expect("value", (got.value, got.version), (b"2", 2))
    expect("missing key", await client.get(b"py/missing"), None)
    for number in range(20):
        await client.put(b"py/n%02d" % number, b"%d" % (20 - number))
    page = await client.get_prefix(b"py/n", sort_order="descend", sort_target="value")
    expect("keys of the prefix", len(list(page)), 20)
    deleted = await client.delete_prefix(b"py/n1")
    expect("deleted", deleted.deleted, 10)
    expect("replaced", await client.replace(b"py/a", b"2", b"3"), True)
    expect("not replaced", await client.replace(b"py/a", b"2", b"4"), False)
    print("ok aetcd keys")


async def transactions(client):
    transaction = client.transactions
    done, responses = await client.transaction(
        compare=[transaction.value(b"py/a") == b"3", transaction.version(b"py/t") == 0],
        success=[transaction.put(b"py/t", b"x"), transaction.get(b"py/t")],
        failure=[transaction.delete(b"py/a")],
    )
    expect("transaction", (done, len(responses)), (True, 2))
    print("ok aetcd transactions")


async def leases(client):
    lease = await client.lease(100)
    await client.put(b"py/leased", b"x", lease=lease)
    info = await client.get_lease_info(lease.id)
    expect("granted", (info.grantedTTL, list(info.keys)), (100, [b"py/leased"]))
    await lease.refresh()
    await lease.revoke()
    expect("leased key", await client.get(b"py/leased"), None)
    print("ok aetcd leases")


async def watches(client):
    watch = await client.watch_prefix(b"py/w", prev_kv=True)
    await client.put(b"py/w1", b"1")
    await client.put(b"py/w1", b"2")
    await client.delete(b"py/w1")
    kinds = []
    async for event in watch:
        kinds.append(event.kind)
        if len(kinds) == 3:
            break
    await watch.cancel()
    expect("events", kinds, [aetcd.EventKind.PUT, aetcd.EventKind.PUT, aetcd.EventKind.DELETE])
    print("ok aetcd watches")


async def locks(client):
    one, two = client.lock(b"py/lock", ttl=10), client.lock(b"py/lock", ttl=10)
    expect("lock", await one.acquire(), True)
    expect("taken lock", await two.acquire(timeout=0.3), False)
    expect("release", await one.release(), True)
    expect("free lock", await two.acquire(timeout=5), True)
    await two.release()
    print("ok aetcd locks")


async def maintenance(client):
    status = await client.status()
    expect("version", status.version.startswith("3."), True)
    expect("alarms", [alarm async for alarm in client.list_alarms()], [])
    members = [member async for member in client.members()]
    expect("members", len(members) > 0, True)
    await client.defragment()
    if "snapshot" not in LACKING:
        snapshot = io.BytesIO()
        await client.snapshot(snapshot)
        expect("size of the snapshot modulo a sector", len(snapshot.getvalue()) % 512, 32)
    print("ok aetcd maintenance")


def gateway(host, port):
    client = etcd3gw.client(host=host, port=int(port), api_path="/v3/", timeout=10)
    expect("put", client.put("gw/a", "1"), True)
    expect("get", client.get("gw/a"), [b"1"])
    expect("missing", client.get("gw/missing"), [])
    expect("create", client.create("gw/a", "2"), False)
    expect("replace", client.replace("gw/a", "1", "2"), True)
    for name in ("gw/p1", "gw/p2"):
        client.put(name, "x")
    pairs = client.get_prefix("gw/p", sort_order="descend", sort_target="key")
    expect("descending", [meta["key"] for _, meta in pairs], [b"gw/p2", b"gw/p1"])
    expect("delete", client.delete_prefix("gw/p"), True)
    lease = client.lease(ttl=100)
    client.put("gw/leased", "x", lease=lease)
    expect("leased keys", lease.keys(), [b"gw/leased"])
    expect("time left", lease.ttl() > 90, True)
    expect("refreshed", lease.refresh(), 100)
    expect("revoked", lease.revoke(), True)
    expect("leased key", client.get("gw/leased"), [])
    events, cancel = client.watch("gw/w", start_revision=1)
    writer = threading.Thread(target=client.put, args=("gw/w", "seen"))
    writer.start()
    expect("watched", next(events)["kv"]["value"], b"seen")
    writer.join()
    cancel()
    lock = client.lock("gw", ttl=10)
    expect("lock", lock.acquire(), True)
    expect("unlock", lock.release(), True)
    expect("members", len(client.members()) > 0, True)
    expect("version", client.status()["version"].startswith("3."), True)
    print("ok etcd3gw")


if __name__ == "__main__":
    address = sys.argv[1].rsplit(":", 1)
    asyncio.run(grpc(*address))
    if "gateway" not in LACKING:
        gateway(*address)
