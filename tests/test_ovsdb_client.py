"""Our OVSDB client against real servers, and against false ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ovs.db.idl import Idl, SchemaHelper
from ovsdb_lab import OVN_NB, Cluster, OvsdbServer, asynchronous, run, short_folder, wait_until

from trunkline.devices import pki
from trunkline.devices.ovsdb import Database, Row, TransactError
from trunkline.errors import Unavailable

SWITCHES = {"Logical_Switch": None, "Logical_Switch_Port": ("name", "addresses", "tag", "options")}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def server(folder: Path) -> Iterator[OvsdbServer]:
    made = OvsdbServer(folder, "nb", OVN_NB)
    made.start()
    yield made
    made.stop()


@asynccontextmanager
async def connected(*remotes: str, **options: Any) -> AsyncIterator[Database]:
    options.setdefault("tables", SWITCHES)
    async with asyncio.timeout(40):
        db = await Database.connect(remotes, "OVN_Northbound", **options)
    try:
        yield db
    finally:
        await db.close()


async def until(db: Database, condition: Callable[[], object], seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await db.changed()


async def nbctl(server: OvsdbServer, *arguments: str) -> str:
    return await asyncio.to_thread(run, "ovn-nbctl", f"--db={server.remote}", "--timeout=10", *arguments)


def names(db: Database) -> set[str]:
    return {row["name"] for row in db.tables["Logical_Switch"].values()}


def switch(db: Database, name: str) -> dict[str, Any]:
    return db.ops.insert("Logical_Switch", {"name": name})


@pytest.mark.machine
@asynchronous
async def test_the_replica_follows_what_others_write(server: OvsdbServer) -> None:
    await nbctl(server, "ls-add", "before")
    async with connected(server.remote) as db:
        assert names(db) == {"before"}
        await nbctl(server, "ls-add", "after", "--", "lsp-add", "after", "p")
        await until(db, lambda: names(db) == {"before", "after"} and db.tables["Logical_Switch_Port"])
        await nbctl(server, "lsp-set-addresses", "p", "02:00:00:00:00:01 10.0.0.1", "unknown")
        await nbctl(server, "set", "logical_switch_port", "p", "tag=7", "options:a=b", "options:c=d")

        def port() -> Row:
            return next(iter(db.tables["Logical_Switch_Port"].values()))

        await until(db, lambda: port()["options"] == {"a": "b", "c": "d"})
        assert port() == {
            "name": "p",
            "addresses": frozenset({"02:00:00:00:00:01 10.0.0.1", "unknown"}),
            "tag": 7,
            "options": {"a": "b", "c": "d"},
        }
        await nbctl(server, "clear", "logical_switch_port", "p", "tag")
        await nbctl(server, "remove", "logical_switch_port", "p", "options", "a")
        await nbctl(server, "lsp-set-addresses", "p", "unknown")
        await until(db, lambda: port()["addresses"] == {"unknown"})
        assert (port()["tag"], port()["options"]) == (None, {"c": "d"})
        await nbctl(server, "ls-del", "after")
        await until(db, lambda: names(db) == {"before"} and not db.tables["Logical_Switch_Port"])


@pytest.mark.machine
@asynchronous
async def test_a_transaction_is_in_the_replica_when_it_returns(server: OvsdbServer) -> None:
    async with connected(server.remote) as db:
        port = db.ops.insert("Logical_Switch_Port", {"name": "p", "tag": 5, "addresses": ["unknown"]}, "p")
        added = await db.transact(
            [port, db.ops.insert("Logical_Switch", {"name": "s", "ports": ["p"], "other_config": {"k": "v"}})]
        )
        uuids = [result["uuid"][1] for result in added]
        assert db.tables["Logical_Switch_Port"][uuids[0]]["tag"] == 5
        assert db.tables["Logical_Switch"][uuids[1]]["ports"] == {uuids[0]}
        removal = db.ops.mutate("Logical_Switch", uuids[1], [("other_config", "delete", ["k"])])
        counted = await db.transact(
            [removal, db.ops.update("Logical_Switch", [("name", "==", "s")], {"name": "t"})]
        )
        assert [result["count"] for result in counted] == [1, 1]
        assert db.tables["Logical_Switch"][uuids[1]]["other_config"] == {}
        await db.transact([db.ops.delete("Logical_Switch", uuids[1])])
        assert db.tables["Logical_Switch"] == db.tables["Logical_Switch_Port"] == {}


@pytest.mark.machine
@asynchronous
async def test_a_refused_transaction_changes_nothing_and_says_why(server: OvsdbServer) -> None:
    async with connected(server.remote) as db:
        await db.transact([switch(db, "a")])
        uuid = next(iter(db.tables["Logical_Switch"]))
        wait = db.ops.wait("Logical_Switch", uuid, [{"name": "b"}], columns=["name"])
        with pytest.raises(TransactError) as caught:
            await db.transact([switch(db, "c"), wait])
        assert (caught.value.error, caught.value.index) == ("timed out", 1)
        with pytest.raises(TransactError, match="referential integrity violation at commit"):
            await db.transact([db.ops.update("Logical_Switch", uuid, {"ports": [UUID]})])
        assert names(db) == {"a"}


@pytest.mark.machine
@asynchronous
async def test_it_reads_every_value_as_the_reference_client_does(server: OvsdbServer) -> None:
    script = "ls-add s -- lsp-add s p -- lsp-set-addresses p unknown 02:00:00:00:00:01 -- lr-add r"
    await nbctl(server, *script.split(), "--", "lrp-add", "r", "rp", "02:00:00:00:00:02", "10.0.0.1/24")
    await nbctl(server, "acl-add", "s", "to-lport", "10", "ip4 && tcp.dst == {1, 2}", "drop")
    await nbctl(server, "lr-nat-add", "r", "snat", "192.0.2.1", "10.0.0.0/24", "--", "pg-add", "g", "p")
    await nbctl(server, "set", "nb_global", ".", 'options:x="a\\"b\\\\c\\u00e9"', "ipsec=true")

    def oracle() -> dict[str, dict[str, dict[str, Any]]]:
        helper = SchemaHelper(location=OVN_NB)
        helper.register_all()
        idl = Idl(server.remote, helper)
        deadline = time.monotonic() + 15
        while not idl.has_ever_connected() and time.monotonic() < deadline:
            idl.run()
            time.sleep(0.01)
        try:
            return {
                name: {
                    str(uuid): {c: row._data[c].to_json() for c in table.columns}
                    for uuid, row in table.rows.items()
                }
                for name, table in idl.tables.items()
            }
        finally:
            idl.close()

    expected = await asyncio.to_thread(oracle)
    async with connected(server.remote, tables=dict.fromkeys(expected)) as db:
        decoded = {
            name: {
                uuid: {c: db.schema.column(name, c).decode(value) for c, value in row.items()}
                for uuid, row in rows.items()
            }
            for name, rows in expected.items()
        }
        assert db.tables == decoded
        assert sum(map(len, decoded.values())) >= 8


@pytest.mark.machine
@asynchronous
async def test_it_comes_back_by_itself_and_tells_what_it_missed(server: OvsdbServer) -> None:
    seen: list[tuple[Any, Any]] = []

    def listener(table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        seen.append((old and old["name"], new and new["name"]))

    async with connected(server.remote, listener=listener) as db:
        await db.transact([switch(db, "kept"), switch(db, "lost")])
        server.kill()
        await until(db, lambda: not db.connected)
        assert names(db) == {"kept", "lost"}
        with pytest.raises(Unavailable, match="not connected"):
            await db.transact([switch(db, "x")])
        seen.clear()
        server.start()
        await nbctl(server, "ls-del", "lost", "--", "ls-add", "new")
        await until(db, lambda: db.connected and names(db) == {"kept", "new"})
        assert set(seen) == {("lost", None), (None, "new")}
        await db.transact([switch(db, "again")])
        assert names(db) == {"kept", "new", "again"}


@pytest.mark.machine
@asynchronous
async def test_another_database_in_its_place_replaces_the_replica(server: OvsdbServer) -> None:
    async with connected(server.remote) as db:
        await db.transact([switch(db, "old")])
        server.kill()
        server.create()
        server.start()
        await until(db, lambda: db.connected and not db.tables["Logical_Switch"])


@pytest.mark.machine
@asynchronous
async def test_a_removed_database_is_waited_for(server: OvsdbServer) -> None:
    async with connected(server.remote) as db:
        await db.transact([switch(db, "s")])
        control = ("ovs-appctl", "--timeout=10", "-t", str(server.control))
        await asyncio.to_thread(run, *control, "ovsdb-server/remove-db", "OVN_Northbound")
        await until(db, lambda: not db.connected)
        await asyncio.to_thread(run, *control, "ovsdb-server/add-db", str(server.file))
        await until(db, lambda: db.connected)
        assert names(db) == {"s"}


@pytest.mark.machine
@asynchronous
async def test_tables_and_columns_of_a_newer_schema_are_simply_empty(server: OvsdbServer) -> None:
    tables = {"Logical_Switch": ("name", "colour"), "Teleport": None}
    async with connected(server.remote, tables=tables) as db:
        await db.transact([switch(db, "s")])
        assert db.tables["Teleport"] == {}
        assert list(db.tables["Logical_Switch"].values()) == [{"name": "s"}]


@pytest.mark.machine
@asynchronous
async def test_a_silent_server_is_left(server: OvsdbServer) -> None:
    async with connected(server.remote, probe=0.2) as db:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await until(db, lambda: not db.connected)
            assert "silent" in db.trouble
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until(db, lambda: db.connected)


def listening_at(server: OvsdbServer) -> str:
    """The TCP port that a server listens on, or ""."""
    lines = [line for line in run("ss", "-Hltnp").splitlines() if f"pid={server.pid}," in line]
    return lines[0].split()[3].rpartition(":")[2] if lines else ""


@pytest.mark.machine
@asynchronous
async def test_tls_reaches_a_server_of_our_authority_and_no_other(folder: Path, tmp_path: Path) -> None:
    ours, others = pki.Authority.open(tmp_path / "ours"), pki.Authority.open(tmp_path / "others")
    files, client = ours.issue("server", ["127.0.0.1"]), ours.issue("client")
    options = ("--remote=pssl:0:127.0.0.1", f"--private-key={files.key}", f"--certificate={files.cert}")
    server = OvsdbServer(folder, "nb", OVN_NB, (*options, f"--ca-cert={ours.certificate_file}"))
    server.start()
    try:
        wait_until(lambda: listening_at(server), "the server listens for TLS")
        remote = f"ssl:127.0.0.1:{listening_at(server)}"
        async with connected(remote, tls=pki.client_context(ours.certificate_pem, client)) as db:
            await db.transact([switch(db, "s")])
            assert names(db) == {"s"}
        for tls in (
            pki.client_context(others.certificate_pem, client),
            pki.client_context(ours.certificate_pem, others.issue("client")),
        ):
            refused = Database([remote], "OVN_Northbound", tables=SWITCHES, tls=tls)
            refused.start()
            await refused.changed()
            assert not refused.connected
            assert "not connected yet" not in refused.trouble
            await refused.close()
    finally:
        server.stop()


@pytest.mark.machine
@asynchronous
async def test_a_cluster_is_followed_to_its_new_leader(folder: Path) -> None:
    cluster = Cluster(folder, OVN_NB, 3)
    await asyncio.to_thread(cluster.start)
    try:
        async with asyncio.timeout(40):
            db = await Database.connect(cluster.remotes, "OVN_Northbound", tables=SWITCHES, leader_only=True)
        for turn in range(2):
            for n in range(5):
                await db.transact([switch(db, f"s{turn}-{n}")])
            leader = await asyncio.to_thread(cluster.leader)
            leader.kill()
            await until(db, lambda: not db.connected)
            await until(db, lambda: db.connected)
            leader.start()
        assert names(db) == {f"s{turn}-{n}" for turn in range(2) for n in range(5)}
        await db.close()
    finally:
        cluster.stop()


class FalseServer:
    """Answers a script in place of a database: what each method gets, and what follows it."""

    def __init__(self, path: Path, schema: dict[str, Any], answers: dict[str, list[bytes]]) -> None:
        self.remote = f"unix:{path}"
        self.methods: list[str] = []
        self.results: list[Any] = []
        self.connections = 0
        self._path, self._schema, self._answers = path, schema, answers

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FalseServer]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(65536):
                for message in data.replace(b"}{", b"}\n{").splitlines():
                    self._answer(json.loads(message), writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answer(self, call: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if "method" not in call:
            self.results.append(call["result"])
            return
        method = call["method"]
        self.methods.append(method)
        reply: dict[str, Any] = {"id": call["id"], "result": None, "error": "unknown method"}
        if method == "get_schema" and call["params"] == ["D"]:
            reply |= {"result": self._schema, "error": None}
        if method == "monitor":
            reply |= {"result": {"T": {UUID: {"new": {"c": "x"}}}}, "error": None}
        writer.write(json.dumps(reply).encode())
        follow = self._answers.get(method, [])
        if follow:
            writer.write(follow.pop(0))


UUID = "01234567-89ab-cdef-0123-456789abcdef"
SCHEMA = {"name": "D", "tables": {"T": {"columns": {"c": {"type": "string"}, "n": {"type": "integer"}}}}}


@asynchronous
async def test_a_server_of_the_bare_rfc_is_enough(folder: Path) -> None:
    change = {"method": "update", "id": None, "params": ["D 1", {"T": {UUID: {"new": {"c": "y", "n": 3}}}}]}
    fake = FalseServer(folder / "s", SCHEMA, {"monitor": [json.dumps(change).encode()]})
    async with fake.running():
        db = await Database.connect([fake.remote], "D", tables={"T": None})
        await until(db, lambda: db.tables["T"] == {UUID: {"c": "y", "n": 3}})
        assert fake.methods[-3:] == ["monitor_cond_since", "monitor_cond", "monitor"]
        await db.close()


def update(params: Any) -> bytes:
    return json.dumps({"method": "update", "id": None, "params": params}).encode()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"[1]{}",
        b'{"method": 5, "id": 1, "params": []}',
        b'{"method": "update", "id": null, "params": {}}',
        b'{"a" 1}',
        update([]),
        update(["D 1"]),
        update(["D 1", {"T": {UUID: {"new": {"c": 5}}}}]),
        update(["D 1", {"T": {UUID: {"new": {"colour": "red"}}}}]),
        update(["D 1", {"U": {UUID: {"new": {}}}}]),
        update(["D 1", {"T": {UUID: 7}}]),
        b"}",
    ],
)
@asynchronous
async def test_nonsense_from_a_server_makes_a_new_connection(folder: Path, nonsense: bytes) -> None:
    fake = FalseServer(folder / "s", SCHEMA, {"monitor": [nonsense]})
    async with fake.running():
        db = await Database.connect([fake.remote], "D", tables={"T": None})
        await until(db, lambda: db.connected and fake.connections > 1)
        assert db.tables["T"] == {UUID: {"c": "x", "n": 0}}
        await db.close()


@asynchronous
async def test_an_echo_is_answered(folder: Path) -> None:
    echo = b'{"method": "echo", "id": "e", "params": ["a"]}'
    fake = FalseServer(folder / "s", SCHEMA, {"monitor": [echo]})
    async with fake.running():
        db = await Database.connect([fake.remote], "D", tables={"T": None})
        async with asyncio.timeout(20):
            while not fake.results:
                await asyncio.sleep(0.01)
        assert fake.results == [["a"]]
        await db.close()
