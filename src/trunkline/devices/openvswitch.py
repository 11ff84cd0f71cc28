"""Open vSwitch on one host: its database, its control sockets, its OpenFlow connections.

What is wanted of a bridge or port is a plain record; functions compare it with the replica of the
Open_vSwitch database (ovs-vswitchd.conf.db(5)) and return the operations that are missing. Rows that
are ours carry ``external_ids:trunkline=OWNER``; others are never changed or removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trunkline.devices.ovsdb import Database, Operation, Row
from trunkline.devices.tools import run
from trunkline.errors import Conflict, Unavailable

#: The key of `external_ids` that marks a row as ours; its value tells whose.
MARK = "trunkline"
#: What the functions here need of the database.
TABLES: dict[str, list[str]] = {
    "Open_vSwitch": ["bridges", "external_ids", "ssl", "next_cfg", "cur_cfg"],
    "Bridge": ["name", "ports", "datapath_type", "fail_mode", "mirrors", "other_config", "external_ids"],
    "Mirror": ["name", "select_src_port", "select_dst_port", "output_port", "external_ids"],
    "Port": ["name", "interfaces", "external_ids"],
    "Interface": [
        "name",
        "type",
        "options",
        "external_ids",
        "ofport",
        "error",
        "mtu_request",
        "bfd_status",
    ],
    "SSL": ["private_key", "certificate", "ca_cert", "bootstrap_ca_cert", "external_ids"],
}
_names = itertools.count(1)


@dataclass(frozen=True)
class WantedBridge:
    """A bridge. Settings that are not named here are left as they are."""

    name: str
    datapath_type: str
    fail_mode: str | None = None
    other_config: Mapping[str, str] = field(default_factory=dict)
    #: MTU of the bridge's own internal port; None for any.
    mtu: int | None = None


@dataclass(frozen=True)
class WantedPort:
    """A port with one interface, of the same name, on a bridge."""

    bridge: str
    name: str
    #: "" for an interface of the kernel, or patch, internal ...
    type: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    #: Of the interface.
    external_ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WantedMirror:
    """A mirror on a bridge: what a port sends into it, or gets from it, also goes to another one."""

    name: str
    #: The name of the port whose frames are copied, and of that which the copies go to.
    port: str
    output: str
    #: "src": what the port sends. "dst": what it gets.
    select: Literal["src", "dst", "both"]


def root(db: Database) -> tuple[str, Row]:
    """The one row of the table Open_vSwitch, with its UUID.

    Raises:
        Unavailable: the database is not connected, or was never initialised (`ovs-vsctl init`).
    """
    if not db.connected:
        raise Unavailable(f"The Open_vSwitch database does not answer: {db.trouble}.")
    for uuid, row in db.tables["Open_vSwitch"].items():
        return uuid, row
    raise Unavailable("The Open_vSwitch database is empty: start Open vSwitch, or run `ovs-vsctl init`.")


def by_name(db: Database, table: str, name: str) -> tuple[str, Row] | None:
    """The row with that name in the table Bridge, Port or Interface."""
    for uuid, row in db.tables[table].items():
        if row["name"] == name:
            return uuid, row
    return None


def outer(db: Database, bridge: str) -> list[str]:
    """The interfaces by which a bridge leads out of the machine: those of the kernel that are plugged in."""
    found = by_name(db, "Bridge", bridge)
    ports = found[1]["ports"] if found else ()
    interfaces = [i for port in ports for i in db.tables["Port"].get(port, {"interfaces": ()})["interfaces"]]
    rows = (db.tables["Interface"].get(each) for each in interfaces)
    return sorted(row["name"] for row in rows if row is not None and row["type"] == "")


def ofport(db: Database, name: str) -> int | None:
    """The OpenFlow port number of an interface; None until ovs-vswitchd has given it one."""
    found = by_name(db, "Interface", name)
    number = found[1]["ofport"] if found else None
    return number if number is not None and number > 0 else None


def bridge_operations(db: Database, want: WantedBridge, owner: str) -> list[Operation]:
    """What makes the bridge as wanted; nothing where it is."""
    found = by_name(db, "Bridge", want.name)
    if found is None:
        interface, port, bridge = (f"new{next(_names)}" for _ in range(3))
        row: dict[str, Any] = {
            "name": want.name,
            "ports": [port],
            "datapath_type": want.datapath_type,
            "other_config": dict(want.other_config),
            "external_ids": {MARK: owner},
        }
        if want.fail_mode is not None:
            row["fail_mode"] = want.fail_mode
        inner: dict[str, Any] = {"name": want.name, "type": "internal"}
        if want.mtu is not None:
            inner["mtu_request"] = want.mtu
        return [
            db.ops.insert("Interface", inner, interface),
            db.ops.insert("Port", {"name": want.name, "interfaces": [interface]}, port),
            db.ops.insert("Bridge", row, bridge),
            db.ops.mutate("Open_vSwitch", root(db)[0], [("bridges", "insert", [bridge])]),
        ]
    uuid, row_now = found
    operations = []
    change: dict[str, Any] = {}
    if row_now["datapath_type"] != want.datapath_type:
        change["datapath_type"] = want.datapath_type
    if want.fail_mode is not None and row_now["fail_mode"] != want.fail_mode:
        change["fail_mode"] = want.fail_mode
    if change:
        operations.append(db.ops.update("Bridge", uuid, change))
    operations += map_operations(db, "Bridge", uuid, "other_config", row_now, want.other_config)
    inner_now = by_name(db, "Interface", want.name)
    if want.mtu is not None and inner_now is not None and inner_now[1]["mtu_request"] != want.mtu:
        operations.append(db.ops.update("Interface", inner_now[0], {"mtu_request": want.mtu}))
    return operations


def port_operations(
    db: Database, wanted: Iterable[WantedPort], owner: str, keep: Iterable[str] = ()
) -> list[Operation]:
    """What makes the owner's ports exactly those wanted: the rest of its own is removed.

    Args:
        keep: names of ports of the owner that stay as they are.
    Raises:
        Conflict: somebody else has a port of a wanted name.
        Unavailable: the database does not answer, or a wanted bridge is not there.
    """
    root(db)
    operations: list[Operation] = []
    left = {w.name: w for w in wanted}
    kept = set(keep)
    holder = {port: bridge for bridge, row in db.tables["Bridge"].items() for port in row["ports"]}
    bridges = {row["name"]: uuid for uuid, row in db.tables["Bridge"].items()}
    interfaces = {row["name"]: (uuid, row) for uuid, row in db.tables["Interface"].items()}
    for uuid, row in db.tables["Port"].items():
        name = row["name"]
        mine = row["external_ids"].get(MARK) == owner
        want = left.get(name)
        if want is not None and not mine:
            raise Conflict(f"Port {name} of Open vSwitch belongs to somebody else. Remove it, or rename it.")
        if not mine or name in kept:
            continue
        bridge = holder.get(uuid)
        interface = interfaces.get(name)
        right_place = want is not None and bridge == bridges.get(want.bridge)
        if want is None or interface is None or not right_place or interface[1]["type"] != want.type:
            if bridge is not None:
                operations.append(db.ops.mutate("Bridge", bridge, [("ports", "delete", [uuid])]))
            if want is not None and interface is not None:
                # The name is free again only after the rows are gone.
                operations += [db.ops.delete("Port", uuid), db.ops.delete("Interface", interface[0])]
            continue
        del left[name]
        if dict(interface[1]["options"]) != dict(want.options):
            operations.append(db.ops.update("Interface", interface[0], {"options": dict(want.options)}))
        operations += map_operations(
            db, "Interface", interface[0], "external_ids", interface[1], want.external_ids
        )
    for want in left.values():
        operations += _new_port(db, want, owner)
    return operations


def _new_port(db: Database, want: WantedPort, owner: str) -> list[Operation]:
    bridge = by_name(db, "Bridge", want.bridge)
    if bridge is None:
        raise Unavailable(f"There is no bridge {want.bridge} in Open vSwitch.")
    interface, port = f"new{next(_names)}", f"new{next(_names)}"
    inner = {
        "name": want.name,
        "type": want.type,
        "options": dict(want.options),
        "external_ids": {**want.external_ids, MARK: owner},
    }
    outer = {"name": want.name, "interfaces": [interface], "external_ids": {MARK: owner}}
    return [
        db.ops.insert("Interface", inner, interface),
        db.ops.insert("Port", outer, port),
        db.ops.mutate("Bridge", bridge[0], [("ports", "insert", [port])]),
    ]


def mirror_operations(
    db: Database, bridge: str, wanted: Iterable[WantedMirror], owner: str
) -> list[Operation]:
    """What makes the owner's mirrors on a bridge exactly those wanted whose ports are there.

    Raises:
        Unavailable: the database does not answer, or the bridge is not there.
    """
    root(db)
    found = by_name(db, "Bridge", bridge)
    if found is None:
        raise Unavailable(f"There is no bridge {bridge} in Open vSwitch.")
    ports = {row["name"]: uuid for uuid, row in db.tables["Port"].items()}
    left = {}
    for want in wanted:
        if want.port in ports and want.output in ports:
            left[want.name] = {
                "name": want.name,
                "select_src_port": frozenset({ports[want.port]} if want.select != "dst" else ()),
                "select_dst_port": frozenset({ports[want.port]} if want.select != "src" else ()),
                "output_port": ports[want.output],
            }
    operations: list[Operation] = []
    for uuid, row in db.tables["Mirror"].items():
        if row["external_ids"].get(MARK) != owner:
            continue
        columns = left.pop(row["name"], None) if uuid in found[1]["mirrors"] else None
        if columns is None:
            operations.append(db.ops.mutate("Bridge", found[0], [("mirrors", "delete", [uuid])]))
        elif any(row[name] != value for name, value in columns.items()):
            operations.append(db.ops.update("Mirror", uuid, columns))
    for columns in left.values():
        mirror = f"new{next(_names)}"
        operations += [
            db.ops.insert("Mirror", {**columns, "external_ids": {MARK: owner}}, mirror),
            db.ops.mutate("Bridge", found[0], [("mirrors", "insert", [mirror])]),
        ]
    return operations


def map_operations(
    db: Database,
    table: str,
    uuid: str,
    column: str,
    row: Row,
    wanted: Mapping[str, str],
    unwanted: Iterable[str] = (),
) -> list[Operation]:
    """What gives keys of a map column their wanted values, and removes others; the rest stays."""
    now = row[column]
    wrong = {key: value for key, value in wanted.items() if now.get(key) != value}
    stale = [key for key in {*wrong, *unwanted} if key in now]
    mutations: list[tuple[str, str, Any]] = []
    if stale:
        mutations.append((column, "delete", {key: now[key] for key in stale}))
    if wrong:
        mutations.append((column, "insert", wrong))
    return [db.ops.mutate(table, uuid, mutations)] if mutations else []


async def replace_flows(management: Path, flows: Iterable[str]) -> None:
    """Makes these the flows of a bridge, all others gone, in one bundle (ovs-ofctl(8)).

    Args:
        management: the bridge's socket, RUN/BRIDGE.mgmt.
    Raises:
        trunkline.devices.tools.ToolFailed: the switch refused them, or does not answer.
    """
    text = "\n".join(flows) + "\n"
    await run(
        ["ovs-ofctl", "--timeout=10", "-OOpenFlow14", "--bundle", "replace-flows", f"unix:{management}", "-"],
        stdin=text.encode(),
    )


async def inject(management: Path, ports: Iterable[int], frame: bytes) -> None:
    """Has a bridge treat a frame as if it had come in by these ports, as an ordinary switch would.

    Args:
        management: the bridge's socket, RUN/BRIDGE.mgmt.
    Raises:
        trunkline.devices.tools.ToolFailed: the switch refused it, or does not answer.
    """
    for port in ports:
        packet = f"in_port={port},packet={frame.hex()},actions=NORMAL"
        await run(["ovs-ofctl", "--timeout=2", "packet-out", f"unix:{management}", packet])


async def unixctl(socket: Path, method: str, *params: str, timeout: float = 2.0) -> str:
    """Asks a daemon over its control socket, as ovs-appctl(8) does (JSON-RPC 1.0).

    Raises:
        Unavailable: it is not there, does not answer in time, or says no.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(json.dumps({"id": 0, "method": method, "params": params}).encode())
                decoder, text = json.JSONDecoder(), ""
                while piece := await reader.read(65536):
                    text += piece.decode(errors="replace")
                    with contextlib.suppress(ValueError):
                        answer, _ = decoder.raw_decode(text)
                        break
                else:
                    raise Unavailable(f"{socket.name} closed the connection")
            finally:
                writer.close()
    except TimeoutError:
        raise Unavailable(f"{socket.name} did not answer {method} within {timeout:g} s") from None
    except OSError as error:
        raise Unavailable(f"{socket.name}: {error.strerror or error}") from None
    if answer.get("error") is not None:
        raise Unavailable(f"{socket.name} refused {method}: {answer['error']}")
    return str(answer.get("result") or "").strip()


class OpenFlowProbe:
    """A connection to a bridge kept to notice when the switch restarts, which empties the bridge.

    It also tells the bridge, each time, that the first fragment of a packet is matched with its ports
    ("nx-match" of ovs-ofctl(8)). Else it is matched as if it had none: the datapath in user space does
    not put fragments together, not even for connection tracking.

    OpenFlow 1.3: hello, echo, set config; whatever else comes is skipped (section 7 of its specification).
    """

    _HEADER = struct.Struct("!BBHI")
    _VERSION, _HELLO, _ECHO_REQUEST, _ECHO_REPLY, _SET_CONFIG = 4, 0, 2, 3, 9
    #: OFPC_FRAG_NX_MATCH of Open vSwitch, and no packet to the controller.
    _CONFIG = struct.pack("!HH", 3, 0)

    def __init__(self, management: Path) -> None:
        """Of the bridge with that socket, RUN/BRIDGE.mgmt."""
        self.management = management
        #: Counts connections: another number means that flows may be gone.
        self.generation = 0
        self.connected = False
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Connects, again and again, until it is cancelled. `changed` is set each time."""
        while True:
            try:
                await self._session()
            except (OSError, asyncio.IncompleteReadError):
                pass
            if self.connected:
                self.connected = False
                self.changed.set()
            await asyncio.sleep(0.1)

    async def _session(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self.management))
        try:
            writer.write(self._HEADER.pack(self._VERSION, self._HELLO, 8, 0))
            while True:
                _, kind, length, xid = self._HEADER.unpack(await reader.readexactly(8))
                body = await reader.readexactly(max(0, length - 8))
                if kind == self._HELLO and not self.connected:
                    head = self._HEADER.pack(self._VERSION, self._SET_CONFIG, 8 + len(self._CONFIG), 1)
                    writer.write(head + self._CONFIG)
                    self.connected = True
                    self.generation += 1
                    self.changed.set()
                elif kind == self._ECHO_REQUEST:
                    writer.write(self._HEADER.pack(self._VERSION, self._ECHO_REPLY, length, xid) + body)
        finally:
            writer.close()
