"""A database as its clients hold it: a replica that follows, and transactions."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trunkline.devices.ovsdb.jsonrpc import ProtocolError, RemoteError, Session
from trunkline.devices.ovsdb.operations import Operations, check
from trunkline.devices.ovsdb.replica import Listener, Replica, Row
from trunkline.devices.ovsdb.schema import Schema
from trunkline.errors import Unavailable

log = logging.getLogger(__name__)

#: Seconds between rounds over the remotes: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: Seconds that a server may take to answer.
_ANSWER = 10.0
_NO_TRANSACTION = "00000000-0000-0000-0000-000000000000"
#: The ways to monitor, the best first: method, notification, style of the updates.
_MONITORS = (("monitor_cond_since", "update3", 2), ("monitor_cond", "update2", 2), ("monitor", "update", 1))
#: What the server tells about its databases (ovsdb-server(5)).
_SERVER = {"Database": ("name", "model", "connected", "leader")}


class Database:
    """A replica of tables of one database, and a way to change them.

    It owns its connection and one task. It reconnects by itself, forever; meanwhile the replica
    stays as it was last seen. After a connection is lost it continues from the last transaction
    that it knows, or is filled anew, and the listener sees the difference either way. `switched` is called
    when it has begun or ceased to follow.
    """

    def __init__(
        self,
        remotes: Sequence[str],
        name: str,
        *,
        tables: Mapping[str, Sequence[str] | None],
        tls: ssl.SSLContext | None = None,
        leader_only: bool = False,
        listener: Listener | None = None,
        switched: Callable[[], object] = lambda: None,
        probe: float = 5.0,
    ) -> None:
        if not remotes:
            raise ValueError(f"no remote is given for database {name}")
        self.name = name
        #: Whether the replica follows just now.
        self.connected = False
        #: Counts the changes of the replica and of `connected`.
        self.serial = 0
        #: Why it is not connected; "" when it is.
        self.trouble = "not connected yet"
        self._remotes = tuple(remotes)
        self._wanted = dict(tables)
        self._tls = tls
        self._leader_only = leader_only
        self._listener = listener
        self._switched = switched
        self._probe = probe
        self._replica = Replica(Schema(name, "", {}), tables, None)
        self._schema_data: Any = None
        self._ops = Operations(self._replica.schema)
        self._last_transaction = _NO_TRANSACTION
        self._session: Session | None = None
        self._server: Replica | None = None
        self._monitor = ""
        self._monitors = itertools.count(1)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        remotes: Sequence[str],
        name: str,
        *,
        tables: Mapping[str, Sequence[str] | None],
        tls: ssl.SSLContext | None = None,
        leader_only: bool = False,
        listener: Listener | None = None,
        probe: float = 5.0,
    ) -> Database:
        """Connects, and returns when the replica is complete, however long that takes.

        `remotes` are ``unix:PATH``, ``tcp:HOST:PORT`` or ``ssl:HOST:PORT``; `tables` maps a table
        to the columns wanted, None for all. With `leader_only` it follows the leader of a RAFT
        cluster. `listener` is called for every row that changes, before `changed` returns; `probe`
        is after how many silent seconds the server is asked whether it lives.
        """
        database = cls(
            remotes,
            name,
            tables=tables,
            tls=tls,
            leader_only=leader_only,
            listener=listener,
            probe=probe,
        )
        database.start()
        try:
            while not database.connected:
                await database.changed()
        except BaseException:
            await database.close()
            raise
        return database

    def start(self) -> None:
        """Begins to connect, and returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"ovsdb {self.name}")

    @property
    def schema(self) -> Schema:
        """The schema of the server connected to, or of the last one."""
        return self._replica.schema

    @property
    def tables(self) -> Mapping[str, Mapping[str, Row]]:
        """The rows by table and UUID; a table that the schema does not have is empty."""
        return self._replica.tables

    @property
    def ops(self) -> Operations:
        """Builds operations for this schema."""
        return self._ops

    async def changed(self, after: int | None = None) -> int:
        """Returns the serial when it differs from `after` (by default from now)."""
        after = self.serial if after is None else after
        while self.serial == after:
            await self._news.wait()
        return self.serial

    async def transact(
        self, operations: Sequence[Mapping[str, Any]], *, timeout: float = 60.0
    ) -> list[dict[str, Any]]:
        """Does all of the operations, or none; what they change is in the replica on return.

        Raises:
            TransactError: the database refused them.
            Unavailable: it is not connected, or the outcome is not known: look, and repeat.
        """
        session = self._session
        if session is None or not self.connected:
            raise Unavailable(f"database {self.name} is not connected: {self.trouble}")
        try:
            results = await session.call("transact", [self.name, *operations], timeout=timeout)
        except RemoteError as error:
            raise Unavailable(f"database {self.name} could not do it: {error}") from None
        return check(results, operations)

    async def close(self) -> None:
        """Ends the connection for good. The replica stays as it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._lost("closed")

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        for turn in itertools.count():
            remote = self._remotes[turn % len(self._remotes)]
            try:
                await self._follow(remote)
            except (OSError, ProtocolError, RemoteError, Unavailable, ValueError) as error:
                trouble = f"{remote}: {error}"
            except Exception as error:
                log.exception("database %s at %s", self.name, remote)
                trouble = f"{remote}: {error!r}"
            if self.connected:
                pause = _FIRST_PAUSE
                log.warning("database %s: lost %s", self.name, trouble)
            self._lost(trouble)
            if (turn + 1) % len(self._remotes) == 0:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _follow(self, remote: str) -> None:
        """Connects to one server and stays until something ends that."""
        async with asyncio.timeout(_ANSWER):
            session = await Session.open(remote, self._tls, self._notified, self._probe)
        self._server = None
        reading = asyncio.create_task(session.run())
        greeting = asyncio.create_task(self._greet(session))
        try:
            await asyncio.wait((reading, greeting), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await greeting
            await reading
        finally:
            session.close()
            reading.cancel()
            greeting.cancel()
            await asyncio.gather(reading, greeting, session.closed(), return_exceptions=True)

    async def _greet(self, session: Session) -> None:
        def call(method: str, params: list[Any], on_result: Callable[[Any], None] | None = None) -> Any:
            return session.call(method, params, timeout=_ANSWER, on_result=on_result)

        try:
            await call("set_db_change_aware", [True])
            server = Replica(Schema.parse(await call("get_schema", ["_Server"])), _SERVER, None)

            def served(updates: Any) -> None:
                server.replace(updates, style=2)
                self._server = server
                self._check_role()

            await call("monitor_cond", ["_Server", "_Server", server.requests()], served)
        except RemoteError:
            log.debug("database %s: a server that does not tell about itself", self.name)
        data = await call("get_schema", [self.name])
        if data != self._schema_data:
            schema = Schema.parse(data)
            replica = Replica(schema, self._wanted, self._listener)
            # What was there stays visible until the new content has come.
            replica.tables = self._replica.tables
            self._replica, self._schema_data, self._ops = replica, data, Operations(schema)
            self._last_transaction = _NO_TRANSACTION
        self._monitor = f"{self.name} {next(self._monitors)}"
        for method, _, style in _MONITORS:
            params: list[Any] = [self.name, self._monitor, self._replica.requests()]
            if method == "monitor_cond_since":
                params.append(self._last_transaction)

            def filled(result: Any, method: str = method, style: int = style) -> None:
                self._filled(session, method, result, style)

            try:
                await call(method, params, filled)
            except RemoteError as error:
                if method == _MONITORS[-1][0] or "unknown method" not in str(error):
                    raise
            else:
                return

    def _filled(self, session: Session, method: str, result: Any, style: int) -> None:
        """Takes the answer to a monitor request."""
        if method != "monitor_cond_since":
            self._replica.replace(result, style=style)
        elif not isinstance(result, list) or len(result) != 3:
            raise ProtocolError("not an answer to monitor_cond_since")
        else:
            found, transaction, updates = result
            # An update that fails half way must not be continued from.
            self._last_transaction = _NO_TRANSACTION
            if found:
                self._replica.update(updates, style=style)
            else:
                self._replica.replace(updates, style=style)
            self._last_transaction = transaction
        self._session = session
        self.connected = True
        self.trouble = ""
        self._changed()
        self._switched()

    def _notified(self, method: str, params: list[Any]) -> None:
        if method == "monitor_canceled":
            raise ProtocolError("the database was removed or converted")
        if not params:
            raise ProtocolError("a notification without parameters")
        if params[0] == "_Server":
            if self._server is not None and method == "update2":
                self._server.update(params[1], style=2)
                self._check_role()
            return
        if params[0] != self._monitor:
            return
        if method == "update3" and len(params) == 3:
            self._last_transaction = _NO_TRANSACTION
            changed = self._replica.update(params[2], style=2)
            self._last_transaction = params[1]
        elif method in ("update", "update2") and len(params) == 2:
            changed = self._replica.update(params[1], style=1 if method == "update" else 2)
        else:
            raise ProtocolError(f"an unknown notification {method!r}")
        if changed:
            self._changed()

    def _check_role(self) -> None:
        """Leaves a member of a cluster that is cut off, or is not the leader where one is wanted."""
        assert self._server is not None
        for row in self._server.tables["Database"].values():
            if row["name"] != self.name or row["model"] != "clustered":
                continue
            if not row["connected"]:
                raise ProtocolError("this server is cut off from its cluster")
            if self._leader_only and not row["leader"]:
                raise ProtocolError("this server is not the leader of its cluster")

    def _lost(self, trouble: str) -> None:
        self._session = None
        if not self.connected and trouble == self.trouble:
            return
        before, self.connected = self.connected, False
        self.trouble = trouble
        self._changed()
        if before:
            self._switched()

    def _changed(self) -> None:
        self.serial += 1
        self._news.set()
        self._news = asyncio.Event()
