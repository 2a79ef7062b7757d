"""The store: durability, shared commits, damage found before it is mapped, rebuilding."""

import errno
import os
import signal
import subprocess
import sys

import lmdb
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from libsmx import store as store_module
from libsmx import store_probe
from libsmx.errors import StoreError
from libsmx.sealed import DamagedValue, seal, unseal
from libsmx.store import DamagedStore, Store

TABLES = ("one", "two")


def put(table, key, payload):
    return lambda txn: txn.put(table, key, payload)


async def make(path, pairs=(), tables=TABLES):
    store = Store(str(path), tables)
    await store.open()
    for key, payload in pairs:
        await store.write(put("one", key, payload))
    return store


@given(st.text(max_size=5), st.binary(max_size=20), st.binary(max_size=50), st.data())
def test_a_sealed_value_opens_only_unchanged_and_in_its_place(table, key, payload, data):
    value = seal(table, key, payload)
    assert unseal(table, key, value) == payload
    assert unseal(table, key + b"x", value) is None
    assert unseal(table + "x", key, value) is None
    at = data.draw(st.integers(0, len(value) - 1))
    flipped = bytes(b ^ (1 if i == at else 0) for i, b in enumerate(value))
    assert unseal(table, key, flipped) is None
    assert unseal(table, key, value[:3]) is None


async def test_what_is_written_is_there_after_a_reopen(tmp_path):
    store = Store(str(tmp_path / "s"), TABLES)
    assert await store.open() == "new"
    await store.write(put("one", b"k", b"v"))
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "s/data.mdb").stat().st_mode & 0o777 == 0o600
    await store.close()
    await store.close()
    assert await store.open() == "clean"
    assert await store.open() == "clean"  # again, as after a failure further up
    assert await store.read(lambda txn: txn.get("one", b"k")) == b"v"
    assert await store.read(lambda txn: txn.get("two", b"k")) is None
    assert await store.write(lambda txn: txn.delete("one", b"k"))
    assert not await store.write(lambda txn: txn.delete("one", b"k"))
    await store.close()


async def test_keys_come_in_order_from_a_start_and_with_a_prefix(tmp_path):
    keys = [b"a1", b"a2", b"b1", b"b2", b"c"]
    store = await make(tmp_path, [(key, b"") for key in reversed(keys)])

    async def found(**more):
        return await store.read(lambda txn: list(txn.keys("one", **more)))

    assert await found() == keys
    assert await found(start=b"a2") == keys[1:]
    assert await found(prefix=b"b") == [b"b1", b"b2"]
    assert await found(start=b"b2", prefix=b"b") == [b"b2"]
    assert await found(start=b"x") == []
    assert await store.read(lambda txn: txn.count("one")) == 5
    assert await store.read(lambda txn: txn.has("one", b"a1"))
    await store.close()


async def test_writes_that_wait_share_a_commit(tmp_path):
    store = await make(tmp_path)
    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(store.write, put("one", b"%d" % n, b"v"))
    assert store.commits <= 2
    assert await store.read(lambda txn: txn.count("one")) == 100
    await store.close()


async def test_a_function_that_refuses_fails_alone(tmp_path):
    store = await make(tmp_path)
    failed = []

    def refuse(txn):
        txn.put("one", b"bad", b"")
        raise StoreError("refused")

    async def bad():
        try:
            await store.write(refuse)
        except StoreError as error:
            failed.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, put("one", b"a", b""))
        nursery.start_soon(bad)
        nursery.start_soon(store.write, put("one", b"b", b""))
    assert failed == ["refused"]
    assert await store.read(lambda txn: list(txn.keys("one"))) == [b"a", b"b"]
    await store.close()


async def test_a_fault_in_a_function_is_raised_and_stores_nothing(tmp_path):
    store = await make(tmp_path)

    def fault(txn):
        txn.put("one", b"bad", b"")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.write(fault)
    with pytest.raises(ZeroDivisionError):
        await store.read(lambda txn: 1 / 0)
    assert await store.read(lambda txn: txn.count("one")) == 0
    await store.write(put("one", b"good", b""))
    await store.close()


async def test_an_error_of_lmdb_refuses_the_whole_commit(tmp_path):
    store = await make(tmp_path)
    with pytest.raises(StoreError, match="BAD_VALSIZE"):
        await store.write(put("one", b"x" * 600, b""))
    await store.write(put("one", b"k", b"v"))
    await store.close()


async def test_after_a_panic_the_environment_is_opened_anew(tmp_path, monkeypatch):
    store = await make(tmp_path, [(b"k", b"v")])
    first = store._env

    def panic(txn):
        raise lmdb.PanicError("injected")

    with pytest.raises(StoreError):
        await store.write(panic)
    assert store._env is not first
    assert await store.read(lambda txn: txn.get("one", b"k")) == b"v"
    monkeypatch.setattr(lmdb, "open", lambda *a, **k: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(StoreError):
        await store.write(panic)
    with pytest.raises(StoreError, match="not open"):
        await store.write(put("one", b"k", b"v"))
    with pytest.raises(StoreError, match="not open"):
        await store.read(lambda txn: None)


async def test_a_directory_that_cannot_be_used_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        await Store(str(tmp_path / "file"), TABLES).open()
    store = await make(tmp_path / "s")

    def refuse(*args, **more):
        raise OSError(errno.EROFS, "Read-only file system", "clean")

    monkeypatch.setattr(store_module, "sync_directory", refuse)
    with pytest.raises(StoreError, match="Read-only"):
        await store.close()


async def test_an_unclean_stop_is_followed_by_a_check(tmp_path):
    store = await make(tmp_path, [(b"k", b"v")])
    store._env.close()
    again = Store(str(tmp_path), TABLES)
    assert await again.open() == "checked"
    assert await again.read(lambda txn: txn.get("one", b"k")) == b"v"
    await again.close()


def flip(path, what):
    data = bytearray(path.read_bytes())
    at = data.index(what)
    while at >= 0:
        data[at] ^= 1
        at = data.find(what)
    path.write_bytes(data)


async def test_a_flipped_bit_in_a_value_is_found(tmp_path):
    store = await make(tmp_path, [(b"key1", b"precious"), (b"key2", b"other")])
    await store.close()
    flip(tmp_path / "data.mdb", b"precious")
    await store.open()
    with pytest.raises(DamagedValue, match="key1"):
        await store.read(lambda txn: txn.get("one", b"key1"))
    assert await store.read(lambda txn: txn.get("one", b"key2")) == b"other"
    store._env.close()
    with pytest.raises(DamagedStore, match="1 values"):
        await Store(str(tmp_path), TABLES).open()
    assert store_probe.check(str(tmp_path)) == "1 values do not verify"


@pytest.mark.parametrize("harm", ["truncate", "zero page", "bit", "meta"])
async def test_a_damaged_file_is_refused_and_rebuilt_from_what_can_be_read(tmp_path, harm):
    pairs = {b"key%05d" % n: b"value %d " % n * 20 for n in range(2000)}

    def fill(txn):
        for key, payload in pairs.items():
            txn.put("one", key, payload)

    store = await make(tmp_path)
    await store.write(fill)
    store._env.close()
    path = tmp_path / "data.mdb"
    data = bytearray(path.read_bytes())
    if harm == "truncate":
        del data[len(data) // 2 :]
    elif harm == "zero page":
        at = data.index(b"value 1000 ") // 4096 * 4096
        data[at : at + 4096] = bytes(4096)
    elif harm == "bit":
        data[data.index(b"value 1000 ")] ^= 4
    else:
        data[:8192] = bytes(8192)
    path.write_bytes(data)
    again = Store(str(tmp_path), TABLES)
    with pytest.raises(DamagedStore, match=r"data\.mdb is damaged"):
        await again.open()
    saved = await again.rebuild(("one",), "damaged.mdb")
    assert (tmp_path / "damaged.mdb").read_bytes() == bytes(data)
    assert not (tmp_path / "rebuild").exists()
    assert await again.open() == "checked"
    found = await again.read(lambda txn: {k: txn.get("one", k) for k in txn.keys("one")})
    await again.close()
    assert len(found) == saved
    assert found.items() <= pairs.items()
    if harm == "bit":
        assert saved == 1999
    if harm == "zero page":
        assert saved > 1900


async def test_the_prober_tells_what_it_wants_when_asked_wrongly(capsys):
    assert store_probe.main(["what"]) == 1
    assert "usage" in capsys.readouterr().out


WRITER = """
import sys, trio
from libsmx.store import Store
async def main():
    store = Store(sys.argv[1], ("one",))
    await store.open()
    for n in range(1_000_000):
        await store.write(lambda txn: txn.put("one", b"%d" % n, b"v"))
        print(n, flush=True)
trio.run(main)
"""


@pytest.mark.parametrize("acks", [1, 30])
async def test_kill_minus_nine_loses_nothing_acknowledged(tmp_path, acks):
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    with child:
        for _ in range(acks):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = [line for line in child.stdout.read().split(b"\n") if line]
    store = Store(str(tmp_path), ("one",))
    assert await store.open() == "checked"
    kept = await store.read(lambda txn: txn.count("one"))
    await store.close()
    assert kept in {acks + len(rest), acks + len(rest) + 1}


async def test_a_full_map_grows_and_nothing_is_lost(tmp_path):
    store = Store(str(tmp_path), ("one",), map_size=1 << 20)
    await store.open()
    for number in range(100):
        await store.write(lambda txn, n=number: txn.put("one", b"%03d" % n, bytes(100_000)))
    assert await store.read(lambda txn: txn.count("one")) == 100
    await store.close()
    await store.open()
    assert await store.read(lambda txn: len(txn.get("one", b"099"))) == 100_000
    assert await store.forget_dead_readers() == 0
    await store.close()


async def test_a_map_that_may_not_grow_further_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_MAP_SIZE", 1 << 20)
    store = Store(str(tmp_path), ("one",), map_size=1 << 20)
    await store.open()
    with pytest.raises(StoreError, match="MAP_FULL"):
        await store.write(lambda txn: txn.put("one", b"key", bytes(4 << 20)))
    await store.write(lambda txn: txn.put("one", b"key", b"small"))
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.forget_dead_readers()


async def test_corruption_that_lmdb_reports_is_damage(tmp_path):
    store = Store(str(tmp_path), ("one",))
    await store.open()

    def corrupted(txn):
        raise lmdb.CorruptedError("mdb_get: located page was wrong type")

    with pytest.raises(DamagedStore):
        await store.read(corrupted)
    with pytest.raises(DamagedStore):
        await store.write(corrupted)
    assert await store.open(suspect=True) == "checked"
    await store.close()


FREE_ROOT, LAST_PAGE = 16 + 24 + 40, 16 + 24 + 2 * 48
"""Places in a meta page of LMDB: root of the list of free pages, number of the last page."""


@pytest.mark.parametrize("counted", [True, False])
async def test_damage_that_only_a_writer_meets_is_found_before_it_writes(tmp_path, counted):
    """A disk that lies about syncs lost the end of the file: all values are there, the list of
    free pages is not. Whoever reads it dies, or fails if the pages were not even counted."""
    store = await make(tmp_path, [(b"%04d" % n, b"x" * 3000) for n in range(20)])
    for number in range(10):
        await store.write(lambda txn, key=b"%04d" % number: txn.delete("one", key))
    await store.close()
    path = tmp_path / "data.mdb"
    data = bytearray(path.read_bytes())
    beyond = (len(data) // 4096 + 9).to_bytes(8, "little")
    for page in (0, 4096):
        for place in (FREE_ROOT, LAST_PAGE)[: 1 + counted]:
            data[page + place : page + place + 8] = beyond
    path.write_bytes(data)
    (tmp_path / "clean").unlink()
    store = Store(str(tmp_path), TABLES)
    with pytest.raises(DamagedStore, match="signal" if counted else "PageNotFound"):
        await store.open()
    assert await store.rebuild(("one",), "kept.mdb") == 10
    assert await store.open() == "checked"
    await store.write(put("one", b"more", b"1"))
    await store.close()
