"""The backend: applies a logical network to OVN, and observes what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from trunkline.backends.contract import Applied, Observation, Problem
from trunkline.backends.ovn import observed
from trunkline.backends.ovn.diff import Memory, Plan, compare
from trunkline.backends.ovn.fence import Fence
from trunkline.backends.ovn.names import MARK, OWNED
from trunkline.backends.ovn.rows import News, Translation, Wanted
from trunkline.backends.ovn.steady import Steady, Unhandled
from trunkline.compiler.logical import LogicalNetwork
from trunkline.devices.ovsdb import Database, Operation, Row, TransactError
from trunkline.errors import Unavailable

#: How quickly a gateway whose host died is found out (BFD on the tunnels): 100 ms three times.
BFD = {"bfd-min-rx": "100", "bfd-min-tx": "100", "bfd-mult": "3"}
#: After so many silent seconds a database is asked whether it lives. With 10,000 ports its server may be busy
#: for more than ten seconds at a time, and to connect anew would be more work for it.
_PROBE = 15.0
#: Translating much, its thread lets others run for so long now and then, seconds.
_BREATH = 0.001
#: After so many transactions somebody else must be writing the same rows all the time.
_TRIES = 5
_GLOBAL = ("nb_cfg", "sb_cfg", "options")


class OvnBackend:
    """Speaks to OVN's northbound and southbound databases (contract: `backends.contract.Backend`).

    It owns the rows with its mark in the northbound database and the keys `options` in its
    NB_Global, and writes nothing else. It may be killed at any time: a new one finds its rows.

    Args:
        nb_remotes, sb_remotes: ``unix:PATH``, ``tcp:HOST:PORT`` or ``ssl:HOST:PORT``, all members of
            a cluster.
        tls: for ``ssl:``.
        options: keys of NB_Global's options to keep so.
        patience: after how many seconds behind the newest configuration a daemon is a problem.
    """

    def __init__(
        self,
        nb_remotes: Sequence[str],
        sb_remotes: Sequence[str],
        tls: ssl.SSLContext | None = None,
        *,
        options: Mapping[str, str] = BFD,
        patience: float = 5.0,
    ) -> None:
        self._north = Database(
            nb_remotes,
            "OVN_Northbound",
            tables={**OWNED, "NB_Global": _GLOBAL},
            tls=tls,
            leader_only=True,
            listener=self._north_changed,
            switched=self._switched,
            probe=_PROBE,
        )
        self._south = Database(
            sb_remotes,
            "OVN_Southbound",
            tables=observed.SOUTHBOUND,
            tls=tls,
            listener=self._south_changed,
            switched=self._switched,
            probe=_PROBE,
        )
        self._fence = Fence(sb_remotes)
        self._options = dict(options)
        self._lag = observed.Lag(patience)
        self._translation = Translation(partial(time.sleep, _BREATH))
        #: What is right in the database, and the rows that changed since; None where all has to be compared.
        self._steady: Steady | None = None
        self._touched: set[tuple[str, str]] = set()
        #: What was right when it was last known, for as long as there is no `_steady`.
        self._memory = Memory()
        self._refused = ""
        self._lock = asyncio.Lock()
        self._writing = False
        #: Whether what is written now takes rows away.
        self._removing = False
        #: Who was late when it was last told.
        self._told: set[str] = set()
        self._eyes = observed.Eyes()
        self._news = False
        self._stirred = asyncio.Event()

    async def start(self) -> None:
        """Connects to both databases, and returns when both are."""
        for database in (self._north, self._south):
            database.start()
            while not database.connected:
                await database.changed()

    def prepare(self, network: LogicalNetwork) -> None:
        """Translates it."""
        self._translated(network)

    async def apply(self, network: LogicalNetwork) -> Applied:
        """Makes the northbound database hold `network`, in one transaction if nobody interferes.

        Raises:
            Unavailable: no connection, or the database refuses the rows (`observe` tells why), or
                somebody else changes them as fast as we do.
        """
        async with self._lock:
            wanted = self._translated(network)
            self._writing = True
            try:
                return await self._apply(wanted, network.revision)
            finally:
                self._writing = False

    def _translated(self, network: LogicalNetwork) -> Wanted:
        try:
            return self._translation.update(network)
        except BaseException:
            self._compare_all()
            raise

    async def _apply(self, wanted: Wanted, revision: int) -> Applied:
        done, took = Plan(), 0.0
        for _ in range(_TRIES):
            if not self._north.connected:
                raise Unavailable(f"OVN's northbound database is not connected: {self._north.trouble}")
            plan = self._plan(wanted)
            operations = [*plan.operations, *self._global(bump=bool(plan.operations))]
            if not operations:
                # Nothing is awaited since the comparison: what changes from now on is drift.
                self._found_right(wanted, plan)
                self._fence.lower_soon(took)
                return Applied(revision, done.inserted, done.changed, done.removed, done.healed)
            self._removing, began = plan.removed > 0, time.monotonic()
            try:
                await self._north.transact(operations)
            except TransactError as error:
                self._refused = _told(error)
                self._compare_all()
                continue
            finally:
                self._removing = False
            took = max(took, time.monotonic() - began)
            done.inserted += plan.inserted
            done.changed += plan.changed
            done.removed += plan.removed
            done.healed += plan.healed
        if self._refused:
            raise Unavailable(f"OVN's northbound database refuses the rows: {self._refused}")
        raise Unavailable("somebody else keeps changing our rows in OVN's northbound database")

    def _plan(self, wanted: Wanted) -> Plan:
        """What to do: by what has changed on either side, or where that does not tell, by everything."""
        if self._steady is not None:
            try:
                return self._steady.plan(
                    wanted, self._translation.news, self._touched, self._north.tables, self._north.schema
                )
            except Unhandled:
                self._compare_all()
        return compare(wanted.tables(), self._north.tables, self._north.schema, self._memory)

    def _compare_all(self) -> None:
        """Has everything compared from now on, until all is right again."""
        if self._steady is not None:
            self._memory, self._steady = self._steady.memory(), None

    def _found_right(self, wanted: Wanted, plan: Plan) -> None:
        """Notes that the database holds what is wanted."""
        if self._steady is None:
            self._steady = Steady(wanted, plan.places, self._north.schema)
            self._memory = Memory()
        else:
            self._steady.confirm(wanted, self._translation.news, self._touched, self._north.tables)
        self._translation.news, self._refused = News(), ""
        self._touched.clear()

    def _global(self, *, bump: bool) -> list[Operation]:
        """What to do in NB_Global: our options, and the next configuration number."""
        ops = self._north.ops
        for uuid, row in self._north.tables["NB_Global"].items():
            wrong = {key: value for key, value in self._options.items() if row["options"].get(key) != value}
            mutations: list[tuple[str, str, object]] = [("nb_cfg", "+=", 1)] if bump or wrong else []
            if wrong:
                # An insertion does not replace the value of a key that is there (RFC 7047, section 5.1).
                mutations += [("options", "delete", list(wrong)), ("options", "insert", wrong)]
            return [ops.mutate("NB_Global", uuid, mutations)] if mutations else []
        return [ops.insert("NB_Global", {"nb_cfg": 1, "options": self._options})]

    async def settled(self) -> None:
        """Returns when northd has translated what was applied, for it takes no more before; or must not."""
        while self._north.connected and not self._fence.up and not observed.translated(self._north.tables):
            await self._stirred.wait()

    def observe(self) -> Observation:
        """What the southbound database says now. While a database is away: what it said last."""
        late = self._lag.late(time.monotonic())
        self._told = set(late)
        # While a database is away, nobody can be seen to follow.
        if not (self._north.connected and self._south.connected):
            late = {}
        seen = self._eyes.look(self._south.tables)
        hosts, problems = seen.hosts - late.keys(), list(observed.lagging(late))
        seen = replace(seen, hosts=hosts, problems=problems)
        for database in (self._north, self._south):
            if not database.connected:
                what = "northbound" if database is self._north else "southbound"
                seen.problems.append(
                    Problem(
                        what=f"OVN's {what} database is not connected",
                        cause=database.trouble,
                        remedy="See whether its ovsdb-server runs, and its log.",
                    )
                )
        if self._refused:
            seen.problems.append(
                Problem(
                    what="OVN's northbound database refuses our rows",
                    cause=self._refused,
                    remedy="See the resource that the row is named after; report it with the row.",
                )
            )
        seen.problems += self._encapsulation()
        return seen

    def daemons(self) -> Mapping[str, bool]:
        """The databases, each with whether it is connected, and northd, with whether it keeps up."""
        late = self._lag.late(time.monotonic())
        return {
            "nb": self._north.connected,
            "sb": self._south.connected,
            "northd": observed.NORTHD not in late,
        }

    def _encapsulation(self) -> list[Problem]:
        """OVN has one encapsulation for all networks of two hosts: tell where another is asked for."""
        there = {row["type"] for row in self._south.tables["Encap"].values()}
        network = self._translation.network
        if network is None or not there:
            return []
        asked = {switch.encapsulation for switch in network.switches.values() if switch.encapsulation}
        return [
            Problem(
                what=f"networks that ask for {missing} are carried by {' and '.join(sorted(there))}",
                cause="OVN chooses the encapsulation by host, not by network",
                remedy=f"Set the region's encapsulation to {missing}, or ask for {min(there)}.",
            )
            for missing in sorted(asked - there)
        ]

    async def changed(self) -> None:
        """Returns when an observation may differ, or somebody else changed a row of ours."""
        while not self._news and self._lag.late(time.monotonic()).keys() == self._told:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lag.due(time.monotonic(), self._told)):
                    await self._stirred.wait()
        self._told = set(self._lag.late(time.monotonic()))
        self._news = False

    async def close(self) -> None:
        """Lets go of both databases. The network stays as it is."""
        self._fence.lower()
        await self._north.close()
        await self._south.close()

    def _switched(self) -> None:
        """Wakes `changed` when a connection comes or goes."""
        self._stir(news=True)

    def _north_changed(self, table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        if table in OWNED and self._steady is not None:
            self._touched.add((table, uuid))
        if table == "NB_Global":
            self._note_lag()
            options = new["options"] if new is not None else {}
            drift = any(options.get(key) != value for key, value in self._options.items())
        else:
            drift = _ours(old) or _ours(new)
            if new is None and drift and not self._removing:
                self._fence.raise_()
        if drift and not self._writing:
            self._stir(news=True)

    def _south_changed(self, table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        if table in ("Chassis", "Chassis_Private"):
            self._note_lag()
        if observed.matters(table, old, new):
            self._eyes.note(table, uuid, old)
            self._stir(news=True)

    def _note_lag(self) -> None:
        self._lag.update(observed.behind(self._north.tables, self._south.tables), time.monotonic())
        self._stir(news=False)

    def _stir(self, *, news: bool) -> None:
        """Lets `changed` look again, or return where there is news."""
        self._news = self._news or news
        self._stirred.set()
        self._stirred = asyncio.Event()


def _ours(row: Row | None) -> bool:
    return row is not None and MARK in row["external_ids"]


def _told(error: TransactError) -> str:
    """What the database refused, with the name of our row where it is a new one."""
    row = (error.operation or {}).get("row", {})
    marks = dict(row["external_ids"][1]) if "external_ids" in row else {}
    return f"{marks[MARK]}: {error}" if MARK in marks else str(error)
