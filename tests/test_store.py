"""What is written is read: values, failures within a group, revisions, claims."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from store_toys import TOYS, Colour, Every, Order, Part

from trunkline.errors import Conflict, NotFound, Unavailable
from trunkline.store import Change, Remembered, Store, Tx, Written, table_of
from trunkline.store.feed import RECENT
from trunkline.store.tables import Schema


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "db" / "store", specs=TOYS)
    yield store
    store.close()


def insert(store: Store, *objects: Any) -> None:
    store.write_sync(lambda tx: [tx.insert(obj) for obj in objects])


async def together(store: Store, functions: list[Callable[[Tx], Any]], cancelled: int = 0) -> list[Any]:
    """Results of writes that were all queued while the writer was busy, the first few of them given up."""
    busy, go_on = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        busy.set()
        assert go_on.wait(30)

    first = asyncio.create_task(store.write(hold))
    assert await asyncio.to_thread(busy.wait, 30)
    others = [asyncio.create_task(store.write(function)) for function in functions]
    await asyncio.sleep(0)
    for task in others[:cancelled]:
        task.cancel()
    await asyncio.gather(*others[:cancelled], return_exceptions=True)
    go_on.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


def names(found: list[Order]) -> list[str | None]:
    return sorted(o.name or "" for o in found)


FULL = Every(
    id="full",
    name="naïve 'quoted' \"name\" %s :x ☃",
    project_id="p",
    text="",
    number=-(2**63),
    ratio=0.1,
    flag=True,
    maybe=False,
    choice="down",
    version=6,
    either=7,
    colour=Colour.BLUE,
    tags=["a", 'b"c', ""],
    pair=(1, "x"),
    parts=[Part("p", 3)],
    options={"deep": [{"x": None}], "": 1.5},
    counts={4: 2},
    anything=[1, "x", None],
    secret="s",
    parent="empty",
    wired="w",
)


@pytest.mark.parametrize(
    "obj", [Every(id="empty"), FULL, Every(id="either", either="text", number=2**63 - 1)]
)
def test_every_kind_of_field_comes_back_as_it_was_and_survives_reopening(tmp_path: Path, obj: Every) -> None:
    store = Store.open(tmp_path / "store", specs=TOYS)
    insert(store, obj)
    with store.read() as r:
        assert r.get(Every, obj.id) == obj
    store.close()
    store = Store.open(tmp_path / "store", specs=TOYS)
    with store.read() as r:
        assert r.select(Every) == [obj]
        assert type(r.select(Every)[0].flag) is bool
    assert store.revision == 1
    store.close()


@pytest.mark.parametrize("name", [f for f in Every.__struct_fields__ if f not in ("anything",)])
def test_each_attribute_is_found_by_its_value(store: Store, name: str) -> None:
    insert(store, FULL, Every(id="other"))
    with store.read() as r:
        assert [o.id for o in r.find(Every, **{name: getattr(FULL, name)})] == ["full"]
        assert [o.id for o in r.find(Every, **{name: getattr(Every(id="other"), name)})] == ["other"]
        assert r.count(Every, **{name: getattr(FULL, name)}) == 1
        column = table_of(Every).c[name]
        assert [o.id for o in r.select(Every, column.in_([getattr(FULL, name)]))] == ["full"]


def test_an_attribute_that_is_none_is_refused(store: Store) -> None:
    with store.read() as r:
        for ask in (r.find, r.first, r.count):
            with pytest.raises(AttributeError, match="Order has no attribute colour"):
                ask(Order, colour="red")


def test_json_is_searched_as_text_with_case(store: Store) -> None:
    insert(store, Every(id="1", name="1", tags=["Web"]), Every(id="2", tags=["web", "50%"]))
    tags = table_of(Every).c.tags
    with store.read() as r:
        assert [o.id for o in r.select(Every, tags.contains('"web"', autoescape=True))] == ["2"]
        assert [o.id for o in r.select(Every, tags.contains('"50%"', autoescape=True))] == ["2"]
        assert [o.id for o in r.select(Every, ~tags.contains('"web"', autoescape=True))] == ["1"]


def test_a_selection_is_ordered_and_cut(store: Store) -> None:
    insert(store, *(Order(id=str(i), name=f"n{i}") for i in range(5)))
    c = table_of(Order).c
    with store.read() as r:
        page = r.select(Order, c.name > "n0", order_by=[c.name.desc()], limit=2, offset=1)
        assert [o.name for o in page] == ["n3", "n2"]
        assert r.first(Order, name="n4") == Order(id="4", name="n4")
        assert r.first(Order, name="n9") is None
        assert r.count(Order, c.name > "n2") == 2
        assert [tuple(row) for row in r.rows(sa.select(c.group, sa.func.count()).group_by(c.group))] == [
            ("", 5)
        ]


def test_what_must_be_unique_is_refused_with_its_fields_named(store: Store) -> None:
    insert(
        store, Every(id="1", name="web", project_id="a", number=1), Every(id="2", name="db", project_id="a")
    )
    with pytest.raises(Conflict, match="toy every with project_id = 'a', name = 'web' exists already"):
        insert(store, Every(id="3", name="web", project_id="a"))
    with pytest.raises(Conflict, match="with number = '1'"):
        store.write_sync(lambda tx: tx.replace(Every(id="2", name="db", project_id="a", number=1)))
    with pytest.raises(Conflict, match="with id = '1'") as refusal:
        insert(store, Every(id="1"))
    assert refusal.value.field == "id"
    insert(store, Every(id="4", name="web", project_id="b"))
    with store.read() as r:
        assert r.count(Every) == 3
        assert r.count(Every, number=None) == 2


def test_a_conflict_does_not_show_what_is_hidden(store: Store) -> None:
    insert(store, Order(id="1", token="very secret"))
    with pytest.raises(Conflict, match="A toy order with token exists already") as refusal:
        insert(store, Order(id="2", token="very secret"))
    assert "very secret" not in str(refusal.value)


def test_nothing_is_replaced_or_deleted_that_is_not_there(store: Store) -> None:
    for write in (
        lambda tx: tx.replace(Order(id="x")),
        lambda tx: tx.observe(Order(id="x")),
        lambda tx: tx.delete(Order, "x"),
    ):
        with pytest.raises(NotFound, match="No toy order has the id x"):
            store.write_sync(write)
    assert store.revision == 0


def test_a_failure_undoes_its_own_part_of_the_group_and_no_other(store: Store) -> None:
    def one(i: int, tx: Tx) -> int:
        tx.insert(Order(id=str(i), name=f"n{i}"))
        tx.claim("scope", str(i), "owner")
        if i % 3 == 0:
            raise KeyError(i)
        if i % 3 == 1:
            tx.insert(Order(id=f"again {i}", name=f"n{i}"))
        return i

    results = asyncio.run(together(store, [partial(one, i) for i in range(30)]))
    kept = [i for i in range(30) if i % 3 == 2]
    for i, result in enumerate(results):
        if i in kept:
            assert result == i
        else:
            assert type(result) is (KeyError if i % 3 == 0 else Conflict)
    with store.read() as r:
        assert names(r.select(Order)) == sorted(f"n{i}" for i in kept)
        assert r.claimed("scope") == sorted(str(i) for i in kept)
        assert r.changes(0) == [Change(n + 1, "toy_order", str(i), "insert") for n, i in enumerate(kept)]
    assert store.revision == len(kept)


def test_a_group_waits_for_the_disk_once(store: Store) -> None:
    commits: list[object] = []
    sa.event.listen(store._writer._engine, "commit", commits.append)
    asyncio.run(
        together(store, [lambda tx, i=i: tx.insert(Order(id=str(i), name=str(i))) for i in range(64)])
    )
    # What kept the writer busy meanwhile changed nothing.
    assert len(commits) == 1
    assert store.revision == 64


def test_writes_from_many_threads_and_loops_all_arrive(store: Store) -> None:
    async def many(start: int) -> None:
        await asyncio.gather(
            *(store.write(lambda tx, i=i: tx.insert(Order(id=str(i)))) for i in range(start, start + 50))
        )

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(asyncio.run, many(n * 50)) for n in range(4)]:
            done.result()
    with store.read() as r:
        assert r.count(Order) == store.revision == 200


def test_a_write_that_was_given_up_before_its_turn_is_not_done(store: Store) -> None:
    writes = [lambda tx, i=i: tx.insert(Order(id=i)) for i in ("1", "2")]
    asyncio.run(together(store, writes, cancelled=1))
    with store.read() as r:
        assert [o.id for o in r.select(Order)] == ["2"]


def test_a_function_that_waits_for_another_write_is_told_so(store: Store) -> None:
    with pytest.raises(RuntimeError, match="must not wait"):
        store.write_sync(lambda tx: store.write_sync(lambda tx: None))
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(store.write(lambda tx: next(iter([]))))


def test_a_transaction_sees_its_own_writes_and_others_do_not_yet(store: Store) -> None:
    def write(tx: Tx) -> None:
        tx.insert(Order(id="1", name="one"))
        assert tx.get(Order, "1") == Order(id="1", name="one")
        assert tx.find(Order, name="one")
        with store.read() as r:
            assert r.get(Order, "1") is None
        assert abs(datetime.now(UTC) - tx.now) < timedelta(minutes=1)

    store.write_sync(write)


def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    insert(store, Order(id="1"))
    with store.read() as r:
        insert(store, Order(id="2"))
        assert r.revision == 1
        assert r.count(Order) == 1
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(r.count, Order).result() == 1
        with store.read() as newer:
            assert newer.revision == 2
            assert newer.count(Order) == 2


def test_a_reader_cannot_write(store: Store) -> None:
    with store.read() as r, pytest.raises(sa.exc.OperationalError, match="readonly"):
        r._connection.execute(table_of(Order).delete())


def test_each_write_that_changes_something_spends_one_revision(store: Store) -> None:
    insert(store, Order(id="1"), Order(id="2"))
    assert store.revision == 1
    assert store.write_sync(lambda tx: tx.next_revision) == 2
    assert store.write_sync(lambda tx: tx.replace(Order(id="1"))) is False
    assert store.write_sync(lambda tx: tx.claim("s", "v", "o")) is True
    assert store.revision == 2
    assert store.write_sync(lambda tx: tx.claim("s", "v", "o")) is True
    assert store.write_sync(lambda tx: tx.release("nobody")) == 0
    assert store.revision == 2


ONE = Order(id="1", name="a")
TWO = msgspec.structs.replace(ONE, status="UP")


@pytest.mark.parametrize(
    ("steps", "op"),
    [
        ("i", "insert"),
        ("r", "update"),
        ("o", "observe"),
        ("d", "delete"),
        ("ir", "insert"),
        ("or", "update"),
        ("ro", "update"),
        ("rd", "delete"),
        ("di", "update"),
        ("id", None),
        ("idi", "insert"),
        ("did", "delete"),
    ],
)
def test_the_feed_tells_what_a_write_amounts_to(store: Store, steps: str, op: str | None) -> None:
    if steps[0] != "i":
        insert(store, ONE)
    before = store.revision

    def write(tx: Tx) -> None:
        for n, step in enumerate(steps):
            obj = msgspec.structs.replace(TWO, group=str(n))
            if step == "d":
                tx.delete(Order, "1")
            else:
                {"i": tx.insert, "r": tx.replace, "o": tx.observe}[step](obj)

    store.write_sync(write)
    with store.read() as r:
        changes, now = r.changes(before), r.get(Order, "1")
    assert changes == ([] if op is None else [Change(before + 1, "toy_order", "1", op)])
    assert store.recent(before) == (store.revision, [Written(change, now) for change in changes])
    assert store.revision == before + (op is not None)


def test_a_log_that_was_pruned_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", specs=TOYS, keep=16)
    for i in range(40):
        insert(store, Order(id=str(i)))
    with store.read() as r:
        assert r.changes(0) is None
        assert r.changes(40) == []
        assert r.changes(41) is None
        assert r.changes(24) == [Change(i + 1, "toy_order", str(i), "insert") for i in range(24, 40)]
        assert len(r.rows(sa.text("SELECT * FROM store_change").columns())) <= 18
    store.close()
    store = Store.open(tmp_path / "store", specs=TOYS, keep=16)
    with store.read() as r:
        assert r.changes(0) is None
        assert r.revision == store.revision == 40
    store.close()


def test_what_was_written_last_is_known_without_reading_and_what_was_before_is_not(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", specs=TOYS)
    insert(store, Order(id="first"))
    store.close()
    store = Store.open(tmp_path / "store", specs=TOYS)
    assert store.recent(1) == (1, [])
    assert store.recent(0) is None, "it was written by another process"
    orders = [Order(id=str(number)) for number in range(RECENT + 2)]
    for order in orders:
        insert(store, order)
    found = [Written(Change(n, "toy_order", order.id, "insert"), order) for n, order in enumerate(orders, 2)]
    assert store.recent(1) is None
    assert store.recent(3) == (store.revision, found[2:])
    assert store.recent(store.revision) == (store.revision, [])
    insert(store, *(Order(id=f"many {number}") for number in range(RECENT + 1)))
    assert store.recent(store.revision - 1) is None, "of one revision all is known, or nothing"
    store.close()


def test_everyone_who_waits_for_a_change_is_woken(store: Store) -> None:
    async def main() -> None:
        waiters = [asyncio.create_task(store.changed(0)) for _ in range(5)]
        late = asyncio.create_task(store.changed(1))
        given_up = asyncio.create_task(store.changed(0))
        await asyncio.sleep(0)
        given_up.cancel()
        await store.write(lambda tx: tx.insert(Order(id="1")))
        assert await asyncio.wait_for(asyncio.gather(*waiters), 10) == [1] * 5
        assert not late.done()
        assert await asyncio.wait_for(store.changed(0), 10) == 1
        await store.write(lambda tx: tx.insert(Order(id="2")))
        assert await asyncio.wait_for(late, 10) == 2

    asyncio.run(main())


def test_waiting_in_another_thread_ends_with_a_change_or_with_the_store(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", specs=TOYS)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asyncio.run, store.changed(0))
        second = pool.submit(asyncio.run, store.changed(1))
        insert(store, Order(id="1"))
        assert first.result(10) == 1
        store.close()
        with pytest.raises(Unavailable, match="closed"):
            second.result(10)
    with pytest.raises(Unavailable, match="closed"):
        store.write_sync(lambda tx: None)
    with pytest.raises(Unavailable, match="closed"), store.read():
        pass


def test_a_claim_has_one_owner(store: Store) -> None:
    def write(tx: Tx) -> list[bool]:
        return [
            tx.claim("net", "10.0.0.2", "port1"),
            tx.claim("net", "10.0.0.2", "port2"),
            tx.claim("b", "x", "port1"),
        ]

    assert store.write_sync(write) == [True, False, True]
    with store.read() as r:
        assert r.claim_owner("net", "10.0.0.2") == "port1"
        assert r.claim_owner("net", "10.0.0.3") is None
        assert r.claims_of("port1") == [("b", "x"), ("net", "10.0.0.2")]
        assert r.claims_of("port2") == []


def test_claims_of_a_scope_are_sorted_from_a_value_on(store: Store) -> None:
    store.write_sync(lambda tx: [tx.claim("s", value, "o") for value in ("b", "a", "é", "c", "B")])
    store.write_sync(lambda tx: tx.claim("t", "a", "o"))
    with store.read() as r:
        assert r.claimed("s") == ["B", "a", "b", "c", "é"]
        assert r.claimed("s", at_least="b") == ["b", "c", "é"]
        assert r.claimed("s", at_least="aa", limit=1) == ["b"]


def test_claims_are_released_by_owner_scope_and_value(store: Store) -> None:
    for scope in ("s", "t"):
        store.write_sync(
            lambda tx, scope=scope: [tx.claim(scope, v, o) for v, o in (("1", "x"), ("2", "x"), ("3", "y"))]
        )
    assert store.write_sync(lambda tx: tx.release("y", "s", "1")) == 0
    assert store.write_sync(lambda tx: tx.release("x", "s", "1")) == 1
    assert store.write_sync(lambda tx: tx.release("x", "t")) == 2
    with store.read() as r:
        assert r.claims_of("x") == [("s", "2")]
    assert store.write_sync(lambda tx: tx.release("x")) == 1
    with store.read() as r:
        assert r.claims_of("x") == []
        assert r.claimed("t") == ["3"]


def test_the_tables_are_postgresqls_too() -> None:
    dialect = postgresql.dialect()
    for table in Schema.of(TOYS).metadata.tables.values():
        assert "NULL" in str(CreateTable(table).compile(dialect=dialect))
        for statement in (sa.select(table), table.insert(), table.delete()):
            statement.compile(dialect=dialect)


def test_it_is_known_when_a_kind_changed_last(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", specs=TOYS)
    insert(store, Every(id="p"))
    store.close()
    store = Store.open(tmp_path / "store", specs=TOYS)
    # Of what was before it was opened, nothing is known but that.
    assert [store.newest(["toy_order"]), store.newest(["toy_every", "toy_order"])] == [1, 1]
    insert(store, Order(id="o", name="o"))
    insert(store, Order(id="o2", name="o2"))
    with pytest.raises(NotFound):
        store.write_sync(lambda tx: tx.delete(Every, "nonesuch"))
    store.write_sync(lambda tx: tx.claim("scope", "value", "owner"))
    assert (store.newest(["toy_order"]), store.newest(["toy_every"]), store.revision) == (3, 1, 4)
    store.close()


def test_what_is_remembered_is_read_again_after_a_change_of_its_classes_alone(store: Store) -> None:
    remembered = Remembered(store, (Order,), lambda reader: names(reader.select(Order)))
    assert remembered.get() == []
    insert(store, Order(id="1", name="a"))
    found = remembered.get()
    assert found == ["a"]
    insert(store, Every(id="1"))
    assert remembered.get() is found
    store.write_sync(lambda tx: tx.delete(Order, "1"))
    assert remembered.get() == []
