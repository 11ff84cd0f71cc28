"""The store when things go wrong: kills, full disks, two processes, files that are something else."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_toys import TOYS, Order

from trunkline.errors import Unavailable
from trunkline.store import CannotOpen, Store, Tx, sqlite, table_of

HERE = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "store", specs=TOYS)
    yield store
    store.close()


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])},
    )


WRITER = """
import asyncio, sys
from pathlib import Path
from store_toys import TOYS, Order
from trunkline.store import Store

store = Store.open(Path(sys.argv[1]), specs=TOYS)

def write(tx, id):
    tx.insert(Order(id=id, name=id))
    tx.claim("scope", id, id)

async def client(name):
    for n in range(1_000_000):
        id = f"{name}-{n}"
        await store.write(lambda tx: write(tx, id))
        print(id, flush=True)

async def main():
    await asyncio.gather(*(client(f"{sys.argv[2]}-{i}") for i in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kills(tmp_path: Path) -> None:
    path = tmp_path / "store"
    chance = random.Random(2)
    acknowledged: set[str] = set()
    for life in range(10):
        process = python(WRITER, path, life)
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 200)):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        # Lines that it had written before it died count too, whole ones.
        acknowledged.update(line.strip() for line in process.stdout if line.endswith("\n"))
        process.wait(10)
        process.stdout.close()
    assert "" not in acknowledged
    store = Store.open(path, specs=TOYS)
    with store.read() as r:
        there = {order.id for order in r.select(Order)}
        assert acknowledged <= there
        # What was not acknowledged is there as a whole, or not at all.
        assert set(r.claimed("scope")) == there
        changes = r.changes(0)
        assert changes is not None
        assert {change.id for change in changes} == there
        assert [change.revision for change in changes] == list(range(1, store.revision + 1))
        assert r.rows(sa.text("PRAGMA integrity_check").columns(sa.column("x")))[0][0] == "ok"
    store.close()


def fill(store: Store, size: int = 50_000) -> int:
    """Writes until the store refuses. Returns how many were stored."""
    for n in range(10_000):
        try:
            store.write_sync(lambda tx, n=n: tx.insert(Order(id=f"big {n}", name=f"{n}", group="x" * size)))
        except Unavailable:
            return n
    raise AssertionError("it never was full")


def test_a_file_that_may_not_grow_refuses_a_whole_group_and_goes_on(store: Store) -> None:
    with store._writer._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 100}")
    stored = fill(store)
    assert store.revision == stored > 0
    with store.read() as r:
        assert r.count(Order) == stored
        assert r.revision == stored
    with pytest.raises(Unavailable, match=r"full.*; nothing was changed. Free some room"):
        store.write_sync(lambda tx: tx.insert(Order(id="large", name="large", group="x" * 1_000_000)))
    # Deleting makes room, and all goes on.
    store.write_sync(lambda tx: tx.delete(Order, "big 0"))
    store.write_sync(lambda tx: tx.insert(Order(id="small", name="small")))
    assert store.revision == stored + 2
    with store.read() as r:
        assert r.changes(stored) is not None
        assert r.count(Order) == stored


def test_who_shares_a_group_with_a_failing_disk_is_refused_too(store: Store) -> None:
    with store._writer._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10}")
    busy, go_on = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        busy.set()
        go_on.wait(10)

    def swallow(tx: Tx) -> str:
        try:
            tx.insert(Order(id="large", name="large", group="x" * 1_000_000))
        except sa.exc.OperationalError:
            pass
        return "as if nothing had happened"

    async def main() -> list[object]:
        first = asyncio.create_task(store.write(hold))
        await asyncio.to_thread(busy.wait, 10)
        tasks = [
            asyncio.create_task(store.write(lambda tx: tx.insert(Order(id="before", name="before")))),
            asyncio.create_task(store.write(swallow)),
            asyncio.create_task(store.write(lambda tx: tx.insert(Order(id="after", name="after")))),
        ]
        await asyncio.sleep(0)
        go_on.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in asyncio.run(main())] == [Unavailable] * 3
    assert store.revision == 0
    with store.read() as r:
        assert r.count(Order) == 0
    store.write_sync(lambda tx: tx.insert(Order(id="after", name="after")))
    assert store.revision == 1


@pytest.mark.machine
def test_a_full_disk_refuses_at_commit_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True, timeout=10)
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2_000_000))
        store = Store.open(disk / "store", specs=TOYS)
        stored = fill(store)
        for _ in range(3):
            with pytest.raises(Unavailable, match="full"):
                store.write_sync(lambda tx: tx.insert(Order(id="x", name="x", group="x" * 100_000)))
        with store.read() as r:
            assert r.count(Order) == r.revision == store.revision == stored
        ballast.unlink()
        store.write_sync(lambda tx: tx.insert(Order(id="x", name="x", group="x" * 100_000)))
        assert store.revision == stored + 1
        store.close()
        store = Store.open(disk / "store", specs=TOYS)
        with store.read() as r:
            assert r.count(Order) == store.revision == stored + 1
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True, timeout=10)


def test_a_file_that_another_program_holds_is_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    store = Store.open(tmp_path / "store", specs=TOYS)
    other = sqlite3.connect(tmp_path / "store", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="End the program that holds"):
        store.write_sync(lambda tx: tx.insert(Order(id="1")))
    other.execute("ROLLBACK")
    store.write_sync(lambda tx: tx.insert(Order(id="1")))
    assert store.revision == 1
    other.close()
    store.close()


def test_a_broken_statement_is_its_callers_fault_alone(store: Store) -> None:
    with pytest.raises(sa.exc.OperationalError, match="no such column"):
        store.write_sync(lambda tx: tx.select(Order, sa.column("nonsense") == 1))
    store.write_sync(lambda tx: tx.insert(Order(id="1")))
    with store.read() as r:
        assert r.select(Order, table_of(Order).c.id == "1")


def test_a_second_process_is_refused_with_the_first_one_named(tmp_path: Path) -> None:
    path = tmp_path / "store"
    process = python(WRITER, path, "x")
    assert process.stdout is not None
    assert process.stdout.readline()
    with pytest.raises(CannotOpen, match=f"{path} is in use by process {process.pid}"):
        Store.open(path, specs=TOYS)
    process.kill()
    process.wait(10)
    process.stdout.close()
    Store.open(path, specs=TOYS).close()


@pytest.mark.parametrize("content", [b"not a database" * 100, b"x", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store"
    path.write_bytes(content)
    with pytest.raises(CannotOpen, match=f"{path} is not a database, or it is damaged"):
        Store.open(path, specs=TOYS)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "store"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(CannotOpen, match="none of Trunkline"):
        Store.open(path, specs=TOYS)
    assert path.read_bytes() == content


def test_an_empty_file_is_a_store_that_was_not_made_yet(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    store = Store.open(tmp_path / "store", specs=TOYS)
    assert store.revision == 0
    store.close()


def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match=f"{tmp_path} cannot be opened: Is a directory"):
        Store.open(tmp_path, specs=TOYS)
    (tmp_path / "file").touch()
    with pytest.raises(CannotOpen, match="cannot be opened"):
        Store.open(tmp_path / "file" / "store", specs=TOYS)


def test_what_is_stored_is_for_its_owner_alone(store: Store, tmp_path: Path) -> None:
    store.write_sync(lambda tx: tx.insert(Order(id="1")))
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == dict.fromkeys(
        ("store", "store-wal", "store-shm", "store.lock"), "0o600"
    )
