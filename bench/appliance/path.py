"""The way that everything is measured on: a client inside, a server outside, two switches, a plain router."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as File
from typing import TypeVar

from trunkline.devices import namespace
from trunkline.traffic.pair import make_room

T = TypeVar("T")
CLIENT = "10.0.0.5"
#: Of the server, which stands for several.
SERVERS = ("192.0.2.9", "192.0.2.10", "192.0.2.11")
#: What is measured has these, inside and outside.
INSIDE, OUTSIDE = "10.0.0.1", "192.0.2.1"
#: The server again: the client reaches this one by the plain router, and so does the server the client.
PLAIN = "198.51.100.9"
_PLAIN_INSIDE, _PLAIN_OUTSIDE = "10.0.0.254", "192.0.2.254"


class Path:
    """Owns namespaces, their processes and a folder; `close` ends all."""

    def __init__(self) -> None:
        self._tag = f"ba{os.getpid()}"
        self.client, self.server, self.switch = (f"{self._tag}-{name}" for name in "csw")
        self._spaces: list[str] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._places: dict[tuple[str, str], str] = {}
        self.folder = File(tempfile.mkdtemp(prefix="tlb"))
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        for name in "csw":
            self.space(name)
        # Kernels that have it built in show bridges' packets to their firewall. A host does not, by default.
        calls = namespace.settings(self.switch, "bridge", "bridge-nf-call-*")
        namespace.sysctl(self.switch, [(f"bridge/{name}", 0) for name in calls])
        for bridge in ("inside", "outside"):
            # Neighbours are known at once, and everything is flooded to begin with.
            namespace.ip(
                self.switch,
                f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0",
                f"link set dev {bridge} up",
            )
        self.plug(self.client, "inside", f"{CLIENT}/24", "fd00:a::5/64")
        self.plug(self.server, "outside", *(f"{address}/24" for address in SERVERS), "fd00:b::9/64")
        namespace.ip(self.client, f"route add default via {INSIDE}", "route add default via fd00:a::1")
        namespace.ip(self.server, f"route add default via {OUTSIDE}", "route add default via fd00:b::1")
        for space in (self.client, self.server):
            make_room(space)
        plain = self.plain = self.space("p")
        self.plug(plain, "inside", f"{_PLAIN_INSIDE}/24")
        self.plug(plain, "outside", f"{_PLAIN_OUTSIDE}/24")
        forwards(plain)
        namespace.ip(plain, f"route add {PLAIN} via {SERVERS[0]}")
        namespace.ip(self.client, f"route add {PLAIN} via {_PLAIN_INSIDE}")
        namespace.ip(
            self.server,
            f"address add {PLAIN}/32 dev lo",
            f"rule add from {PLAIN} lookup 100",
            f"route add default via {_PLAIN_OUTSIDE} table 100",
        )

    def space(self, name: str) -> str:
        """Another namespace."""
        made = f"{self._tag}-{name}"
        namespace.create(made)
        self._spaces.append(made)
        return made

    def plug(self, space: str, switch: str, *addresses: str) -> str:
        """Gives it an interface on `inside` or `outside`, which is its name (of ends: eth0); returns that."""
        end, name = f"{switch[0]}-{space.rpartition('-')[2]}", switch
        if space in (self.client, self.server):
            name = "eth0"
        namespace.ip(
            self.switch,
            f"link add {end} type veth peer name {name} netns {space}",
            f"link set dev {end} master {switch} up",
        )
        given = (f"address add {a} dev {name}{' nodad' if ':' in a else ''}" for a in addresses)
        namespace.ip(space, f"link set dev {name} up", *given)
        self._places[space, switch] = end
        return name

    def unplug(self, space: str) -> None:
        """Cuts its cables."""
        ends = [end for (whose, _), end in self._places.items() if whose == space]
        namespace.ip(self.switch, *(f"link set dev {end} down" for end in ends))

    def start(
        self, space: str | None, name: str, *command: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A program that runs until `close`, its words in NAME.log of the folder."""
        inside = ("nsenter", f"--net={namespace.path(space)}", "--") if space else ()
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def run(self, space: str | None, *command: str, words: str = "", seconds: float = 30.0) -> str:
        """What a command says. Raises AssertionError where it fails, with its words."""
        inside = ("nsenter", f"--net={namespace.path(space)}", "--") if space else ()
        done = subprocess.run(
            [*inside, *command], input=words, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-500:]} {done.stderr[-1500:]}"
        return done.stdout

    def log(self, name: str) -> str:
        """The last words of a program."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-1500:]

    def close(self) -> None:
        for child in reversed(self._children):
            child.terminate()
        deadline = time.monotonic() + 5
        for child in reversed(self._children):
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        namespace.delete(*self._spaces)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def path() -> Iterator[Path]:
    """One, for as long as the block."""
    made = Path()
    try:
        yield made
    finally:
        made.close()


def forwards(space: str) -> None:
    """Makes a router of it."""
    namespace.sysctl(space, [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)])


def wait_for(what: Callable[[], T | None], seconds: float, complaint: Callable[[], str]) -> T:
    """The first value that is not None and not False. Raises AssertionError where there is none in time."""
    deadline = time.monotonic() + seconds
    while (found := what()) is None or found is False:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {complaint()}"
        time.sleep(0.02)
    return found


def reaches(space: str, target: str) -> bool:
    """Whether an echo request is answered at once."""
    command = ("nsenter", f"--net={namespace.path(space)}", "--", "ping", "-c1", "-W1", target)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
