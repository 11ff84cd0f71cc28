"""What the two programs are to do."""

from __future__ import annotations

import ipaddress
import resource
import socket

import msgspec

#: What one process may have open beside its connections.
_BESIDE = 256
#: linux/in.h: the port is chosen when it is known where to, so that each far end has all ports anew.
_BIND_ADDRESS_NO_PORT = 24

Address = tuple[str, int]


class NearPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the near end."""

    #: ``192.0.2.9:8000``, ``[fd00::9]:8000-8003``: connections and flows go to all of them, in turn.
    targets: tuple[str, ...]
    #: Where flows go, if elsewhere.
    flow_targets: tuple[str, ...] = ()
    #: Own addresses, in turn too, those of the target's family.
    sources: tuple[str, ...] = ()
    #: How many, and the number of the first one: all processes of a run together have each number once.
    connections: int = 0
    first: int = 0
    #: Each sends `size` bytes every so many seconds.
    every: float = 8.0
    size: int = 64
    flows: int = 0
    #: Datagrams a second of each, and bytes of each.
    flow_rate: float = 50.0
    flow_size: int = 100
    #: A flow's time without an answer that is told at once, seconds.
    gap: float = 0.1
    #: A connection that has lasted so long, seconds, is ended when all came back, and another one made in its
    #: place, of the same number; 0: none is.
    lasts: float = 0.0
    #: An answer that takes longer is none: the connection is broken.
    silent: float = 10.0
    #: Connections made in a second.
    setup_rate: float = 2000.0
    seed: str = "trunkline"


class FarPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the far end."""

    #: As the targets of a `NearPlan`; addresses of its own.
    listen: tuple[str, ...]
    #: How many connections may come; 0 where none are listened for.
    connections: int = 10_000
    #: Whether other processes listen at the same addresses, and connections are spread over all.
    shared: bool = False
    #: Whether datagrams are answered; where addresses are shared, one process is to.
    flows: bool = True
    seed: str = "trunkline"


def addresses(texts: tuple[str, ...]) -> list[Address]:
    """All of them, a range of ports one by one.

    Raises:
        ValueError: one is malformed.
    """
    found = []
    for text in texts:
        host, mark, ports = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        low, _, high = ports.partition("-")
        if not mark or not low.isdigit() or not (high or low).isdigit():
            raise ValueError(f"{text} is no address with a port, like 192.0.2.9:8000 or [fd00::9]:8000-8003")
        ipaddress.ip_address(host)
        found += [(host, port) for port in range(int(low), int(high or low) + 1)]
    return found


def family(host: str) -> socket.AddressFamily:
    """Of an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bound(kind: socket.SocketKind, target: Address, sources: tuple[str, ...], turn: int) -> socket.socket:
    """A socket that does not block, for a way to `target` from the source whose turn it is.

    Raises:
        OSError: the source is no address of this machine.
    """
    made = socket.socket(family(target[0]), kind | socket.SOCK_NONBLOCK)
    fit = [source for source in sources if family(source) == made.family]
    try:
        if fit:
            made.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            made.bind((fit[turn % len(fit)], 0))
    except OSError:
        made.close()
        raise
    return made


def most() -> int:
    """How many connections one process may have here."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _BESIDE


def open_files(sockets: int) -> None:
    """Lets this process, and no other, have so many sockets.

    Raises:
        ValueError: it may not.
    """
    if sockets > most():
        raise ValueError(f"a process may have {most()} sockets here, not {sockets}: use several")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(sockets + _BESIDE, hard), hard))
