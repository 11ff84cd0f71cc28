"""Commands in guests by SSH, from the internet host of the lab: through a floating IP, and from there on.

internet host ── floating IP ──▶ jump host ── its own networks ──▶ guest

Each guest has one connection for as long as its `Guest` is open (OpenSSH's ControlMaster); commands take a
channel of it, so that keys are exchanged once. The operator's key stays outside: what goes through the
jump host is the inner connection, encrypted end to end.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TypeVar

from trunkline.cli.ssh import ssh_argv
from trunkline.devices import machine
from trunkline.devices.state import StateFolder
from trunkline.errors import Conflict, Unavailable

S = TypeVar("S")
T = TypeVar("T")
#: For all tries to log in, and for one.
_LOGIN_SECONDS, _TRY_SECONDS = 150.0, 20.0


class Outside:
    """The internet host, and the connections that start there."""

    def __init__(self, state: StateFolder, netns: str) -> None:
        self._state = state
        #: Its namespace.
        self.netns = netns
        # Its sockets have paths of 107 bytes at most.
        self._folder = Path(tempfile.mkdtemp(prefix="tl-demo-"))
        self._open: list[Guest] = []

    def guest(self, name: str, address: str, through: Guest | None = None) -> Guest:
        """A guest at an address: reached by itself, or through another guest."""
        argv = ssh_argv(self._state, self.netns, "root", address, seconds=8)
        socket = self._folder / name
        more = ["-F", "none", "-o", "ServerAliveInterval=5", "-o", f"ControlPath={socket}"]
        if through is not None:
            more += ["-o", f"ProxyCommand={shlex.join(through.relay)} -W [%h]:%p x"]
        guest = Guest(name, [*argv[:-1], *more, "-M", "-N", argv[-1]], socket)
        self._open.append(guest)
        return guest

    def each(self, function: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """What `function` returns for each, all at once in threads.

        Where one fails, or on Ctrl-C, every connection ends, so that no thread waits for a guest.
        """
        wanted = list(items)
        with ThreadPoolExecutor(max_workers=len(wanted) or 1) as pool:
            try:
                return list(pool.map(function, wanted))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Ends every connection, the inner ones first."""
        for guest in reversed(self._open):
            guest.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Guest:
    """One guest and the connection to it."""

    def __init__(self, name: str, argv: list[str], socket: Path) -> None:
        self.name = name
        self._argv, self._socket = argv, socket
        self._lock = Lock()
        self._closed = False
        self._master: subprocess.Popen[bytes] | None = None
        #: An ssh that takes the connection that is there, and makes none of its own: it would not start
        #: in the lab.
        self.relay = ["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-o", "LogLevel=ERROR"]
        self.relay += ["-o", "ProxyCommand=false"]

    def log_in(self, seconds: float = _LOGIN_SECONDS) -> None:
        """Connects; a guest that is still starting is tried again.

        Raises:
            Unavailable: it did not let us in, with what was said last.
        """
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            said = self._try(min(deadline, time.monotonic() + _TRY_SECONDS)) or said
            # ssh makes the socket when it has been let in.
            if self._socket.exists():
                return
            time.sleep(0.2)
        raise Unavailable(
            f"The server {self.name} did not let us in by SSH within {seconds:g} s. "
            f"The last try said: {said or 'nothing'}"
        )

    def _try(self, deadline: float) -> str:
        """Connects once; what ssh said, where it did not succeed."""
        words = self._socket.with_suffix(".err")
        with self._lock:
            if self._closed:
                raise Unavailable(f"The connection to {self.name} was given up.")
            with words.open("wb") as errors:
                null = subprocess.DEVNULL
                master = subprocess.Popen(self._argv, stdin=null, stdout=null, stderr=errors)
            self._master = master
        while not self._socket.exists() and master.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._socket.exists():
            return ""
        _end(master)
        return " ".join(words.read_text(errors="replace").split()) if words.exists() else ""

    def run(self, script: str, seconds: float = 60.0) -> str:
        """What a shell script wrote in the guest.

        Raises:
            Unavailable: it failed, with its words, or took too long.
        """
        try:
            done = subprocess.run(
                [*self.relay, "x", "--", "sh -s"],
                input=script,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"The server {self.name} did not end a command within {seconds:g} s.") from None
        if done.returncode:
            words = " ".join((done.stderr or done.stdout).split())
            raise Unavailable(f"A command in the server {self.name} failed ({done.returncode}): {words}")
        return done.stdout

    def close(self) -> None:
        """Ends the connection, and makes no other."""
        with self._lock:
            self._closed = True
            if self._master is not None:
                _end(self._master)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_means() -> None:
    """Raises Conflict where guests could not be reached by SSH from here."""
    if not machine.is_root():
        raise Conflict("Entering the lab's namespaces needs root: type `trunkline demo` as root.")
    if shutil.which("ssh") is None:
        raise Conflict(f"There is no ssh. On Debian: {machine.apt_line(['openssh-client'])}")


@contextlib.contextmanager
def outside(state: StateFolder, netns: str) -> Iterator[Outside]:
    """The internet host; its connections end with the block."""
    made = Outside(state, netns)
    try:
        yield made
    finally:
        made.close()
