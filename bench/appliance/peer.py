"""What every peer tells of itself."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.appliance.path import SERVERS, Path
from trunkline.devices import namespace

#: Where the server's traffic program listens, on each of its addresses.
PORT = 8000


@dataclass(frozen=True)
class Deed:
    """What is done to a peer while traffic goes through."""

    name: str
    #: Returns what the outage was, seconds, where flows cannot tell: there are none.
    do: Callable[[], float | None]
    #: Makes it as it was, for the next deed.
    undo: Callable[[], None] | None = None
    note: str = ""
    #: What it says of how it was done, when all is over.
    says: Callable[[], str] = lambda: ""


class Peer(ABC):
    """Built on a path, which ends its processes."""

    #: Where the client's connections and flows go, and where its bulk goes.
    targets: tuple[str, ...] = (f"{SERVERS[0]}:{PORT}",)
    bulk = SERVERS[0]
    listens: tuple[str, ...] = tuple(f"{address}:{PORT}" for address in SERVERS)
    #: Whether it takes datagrams.
    datagrams = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def build(self) -> None:
        """Returns when it forwards."""

    @abstractmethod
    def deeds(self) -> Sequence[Deed]:
        """In their order."""

    def most(self) -> int:
        """How many connections it may have on this machine."""
        return 1_000_000


def until_connected(space: str, target: str, port: int, seconds: float = 30.0) -> float:
    """How long until somebody new is answered by the traffic program there, seconds.

    Raises:
        AssertionError: not in that time.
    """
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        with namespace.inside(space, lambda: socket.socket(socket.AF_INET)) as probe:
            probe.settimeout(0.5)
            try:
                probe.connect((target, port))
                # A number that none of the measured has.
                probe.sendall(b"tltr" + (0x7FFFFFFF).to_bytes(4, "big"))
                if probe.recv(64):
                    return time.monotonic() - began
            except OSError:
                pass
        time.sleep(max(0.0, now + 0.005 - time.monotonic()))
    raise AssertionError(f"nobody answers at {target} port {port}")
