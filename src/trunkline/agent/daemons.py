"""The daemons of the host, as they answer when they are asked: a process that exists proves nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from trunkline.agent.config import AgentConfig
from trunkline.devices import openvswitch, process
from trunkline.devices.ovsdb import Database, TransactError
from trunkline.errors import Unavailable
from trunkline.resources.reports import HostDaemon

_SECONDS = 2.0


class Daemons:
    """Asks ovsdb-server, ovs-vswitchd and ovn-controller; counts how often each was another process."""

    def __init__(self, config: AgentConfig, db: Database) -> None:
        self._config = config
        self._db = db
        self._pids: dict[str, int] = {}
        self._restarts: dict[str, int] = {}
        self._since: dict[str, float] = {}
        #: The newest answers.
        self.seen: tuple[HostDaemon, ...] = ()

    async def ask(self) -> tuple[HostDaemon, ...]:
        """Asks all at once, each within two seconds."""
        config = self._config
        self.seen = tuple(
            await asyncio.gather(
                self._database(),
                self._controlled("ovs-vswitchd", config.ovs_run_folder, "version", ""),
                self._controlled("ovn-controller", config.ovn_run_folder, "connection-status", "connected"),
            )
        )
        return self.seen

    async def _database(self) -> HostDaemon:
        name = "ovsdb-server"
        try:
            operation = self._db.ops.select("Open_vSwitch", [], ["external_ids"])
            await self._db.transact([operation], timeout=_SECONDS)
        except (Unavailable, TransactError, ValueError) as error:
            return self._report(name, self._pid(name, self._config.ovs_run_folder), False, str(error))
        return self._report(name, self._pid(name, self._config.ovs_run_folder), True, "")

    async def _controlled(self, name: str, run: Path, method: str, expected: str) -> HostDaemon:
        pid = self._pid(name, run)
        sockets = [run / f"{name}.{pid}.ctl", run / f"{name}.ctl"]
        socket = next((s for s in sockets if s.exists()), None)
        if socket is None:
            return self._report(name, pid, False, f"it has no control socket in {run}")
        try:
            answer = await openvswitch.unixctl(socket, method, timeout=_SECONDS)
        except Unavailable as error:
            return self._report(name, pid, False, str(error))
        if expected and answer != expected:
            return self._report(name, pid, False, f"{method}: {answer}")
        return self._report(name, pid, True, answer)

    def _report(self, name: str, pid: int, well: bool, detail: str) -> HostDaemon:
        if pid:
            if self._pids.get(name, pid) != pid:
                self._restarts[name] = self._restarts.get(name, 0) + 1
            if self._pids.get(name) != pid:
                self._since[name] = process.since(pid)
            self._pids[name] = pid
        return HostDaemon(
            name=name,
            alive=bool(pid) or well,
            well=well,
            detail=detail,
            restarts=self._restarts.get(name, 0),
            since=self._since.get(name, 0.0),
        )

    @staticmethod
    def _pid(name: str, run: Path) -> int:
        """The number of the live process, from its pid file or the name of its socket; 0 for none."""
        found: list[str] = []
        try:
            found.append((run / f"{name}.pid").read_text().split()[0])
        except (OSError, IndexError):
            pass
        found += [socket.name.split(".")[-2] for socket in run.glob(f"{name}.*.ctl")]
        for text in found:
            if text.isdigit() and os.path.exists(f"/proc/{text}"):
                return int(text)
        return 0
