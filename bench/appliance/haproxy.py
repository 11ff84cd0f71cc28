"""HAProxy alone: connections end at its process, and begin anew behind it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

from bench.appliance.path import INSIDE, OUTSIDE, SERVERS, forwards, wait_for
from bench.appliance.peer import PORT, Deed, Peer, until_connected
from trunkline.devices import namespace
from trunkline.traffic import plans
from trunkline.traffic.pair import make_room

#: iperf3's, which goes through it as well.
_BULK = 5201
_CONFIGURATION = """
global
  maxconn {most}
  stats socket {folder}/ha.sock mode 600 level admin expose-fd listeners
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen balanced
  bind {inside}:{port}
  balance roundrobin
{servers}
listen bulk
  bind {inside}:{bulk}
  server bulk {first}:{bulk}
"""


class Haproxy(Peer):
    """Version 2.6, in TCP mode, threads as it likes."""

    targets = (f"{INSIDE}:{PORT}",)
    bulk = INSIDE
    datagrams = False

    def build(self) -> None:
        self._space = self.path.space("r")
        self.path.plug(self._space, "inside", f"{INSIDE}/24")
        self.path.plug(self._space, "outside", f"{OUTSIDE}/24")
        forwards(self._space)
        make_room(self._space)
        self._starts = 0
        self._write(SERVERS)
        self._process = self._start()
        listening = ("ss", "-Hltn", f"sport = :{PORT}")
        wait_for(
            lambda: self.path.run(self._space, *listening).strip(), 10, lambda: self.path.log("haproxy1")
        )

    def most(self) -> int:
        # Each takes two of its descriptors.
        return plans.most() // 2

    def deeds(self) -> Sequence[Deed]:
        return [
            Deed("a back end leaves, reload", lambda: self._reload(SERVERS[1:])),
            Deed("killed and restarted", self._kill, note="outage: until somebody new is answered"),
        ]

    def _write(self, servers: Sequence[str]) -> None:
        lines = (f"  server s{n} {address}:{PORT}" for n, address in enumerate(servers))
        (self.path.folder / "ha.cfg").write_text(
            _CONFIGURATION.format(
                most=self.most(),
                folder=self.path.folder,
                inside=INSIDE,
                port=PORT,
                bulk=_BULK,
                first=SERVERS[0],
                servers="\n".join(lines),
            )
        )

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        self._starts += 1
        command = ("haproxy", "-db", "-f", str(self.path.folder / "ha.cfg"), *more)
        return self.path.start(self._space, f"haproxy{self._starts}", *command)

    def _reload(self, servers: Sequence[str]) -> None:
        """A new process takes the listening sockets, and the old one goes on with its connections."""
        self._write(servers)
        takes = ("-x", str(self.path.folder / "ha.sock"), "-sf", str(self._process.pid))
        self._process = self._start(*takes)
        until_connected(self.path.client, INSIDE, PORT)

    def _kill(self) -> float:
        for pid in namespace.processes(self._space):
            subprocess.run(["kill", "-KILL", str(pid)], check=False)
        assert self._process.wait(10) == -signal.SIGKILL
        self._process = self._start()
        return until_connected(self.path.client, INSIDE, PORT)
