"""How fast the store writes, and reads lists: `python bench/store.py [FOLDER]`."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import sqlalchemy

from trunkline.resources.schema import Resource, resource, settable, spec_of
from trunkline.store import Store, Tx, table_of

ROWS = 10_000

#: A resource of 30 columns: id and project, 18 texts, 5 numbers, 5 that are JSON.
Wide: Any = msgspec.defstruct(
    "Wide",
    [
        ("project_id", Annotated[str, settable()], ""),
        *((f"text{n}", Annotated[str, settable()], "some text of 20 char") for n in range(18)),
        *((f"number{n}", Annotated[int | None, settable()], 1500) for n in range(3)),
        *((f"flag{n}", Annotated[bool, settable()], True) for n in range(2)),
        *(
            (f"list{n}", Annotated[list[str], settable()], msgspec.field(default_factory=lambda: ["a", "b"]))
            for n in range(5)
        ),
    ],
    bases=(Resource,),
    kw_only=True,
    module=__name__,
)
resource(kind="bench_wide", plural="bench_wides", service="bench")(Wide)


def timed(run: Callable[[], object], times: int = 1) -> float:
    """The median of some runs, in seconds."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def say(what: str, figure: float, unit: str) -> None:
    print(f"{what:<58} {figure:>10,.1f} {unit}", flush=True)


def insert(obj: Resource, tx: Tx) -> None:
    tx.insert(obj)


async def clients(store: Store, number: int, each: int, start: int) -> None:
    async def one(first: int) -> None:
        for n in range(first, first + each):
            obj = Wide(id=f"{n:08}", project_id=f"p{n % 100}")
            await store.write(partial(insert, obj))

    await asyncio.gather(*(one(start + c * each) for c in range(number)))


def write(store: Store, number: int, each: int, start: int) -> None:
    asyncio.run(clients(store, number, each, start))


def main(folder: Path) -> None:
    print(
        f"{platform.platform()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, ",
        end="",
    )
    print(f"SQLAlchemy {sqlalchemy.__version__}, msgspec {msgspec.__version__}")
    store = Store.open(folder / "store", specs=[spec_of(Wide)])
    spent = timed(lambda: store.write_sync(lambda tx: [tx.insert(Wide(id=f"a{n}")) for n in range(2000)]))
    say("insert, 2,000 in one transaction", spent / 2000 * 1e6, "us each")
    store.write_sync(lambda tx: [tx.delete(Wide, f"a{n}") for n in range(2000)])
    start = 0
    for number, each in ((1, 200), (32, 50), (256, 30)):
        spent = timed(partial(write, store, number, each, start))
        start += number * each
        say(f"durable writes of one insert, {number} clients", number * each / spent, "a second")
    store.write_sync(lambda tx: [tx.insert(Wide(id=f"{n:08}", project_id="p0")) for n in range(start, ROWS)])
    c = table_of(Wide).c
    with store.read() as r:
        assert r.count(Wide) == ROWS
        say(f"list {ROWS:,} as objects", timed(lambda: r.select(Wide), 7) * 1e3, "ms")
        say(
            "list 1,000 as objects, sorted",
            timed(lambda: r.select(Wide, order_by=[c.id], limit=1000), 7) * 1e3,
            "ms",
        )
        say("find the 100 of a project", timed(lambda: r.find(Wide, project_id="p7"), 51) * 1e3, "ms")
        say("get one", timed(lambda: [r.get(Wide, f"{n:08}") for n in range(1000)], 5) * 1e3, "us")

    def snapshots() -> None:
        for _ in range(100):
            with store.read():
                pass

    say("begin and end a snapshot", timed(snapshots, 5) * 1e4, "us")
    store.close()
    say(
        "open and close",
        timed(lambda: Store.open(folder / "store", specs=[spec_of(Wide)]).close(), 5) * 1e3,
        "ms",
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
