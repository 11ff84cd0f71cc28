"""The contract of a backend: it receives a logical network and makes packets obey it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trunkline.compiler.logical import LogicalNetwork


@dataclass(frozen=True)
class Problem:
    """Something of the backend that is not well."""

    what: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Applied:
    """What one application did."""

    #: The revision applied.
    revision: int
    #: How many rows (or flows) were inserted, changed, removed.
    inserted: int = 0
    changed: int = 0
    removed: int = 0
    #: Of these, how many had been right before and were changed by somebody else.
    healed: int = 0


@dataclass
class Observation:
    """What the backend sees of the data plane."""

    #: Keys of the switch ports that are plugged in and wired on some host, with that host.
    ports_up: Mapping[str, str] = field(default_factory=dict)
    #: Key of each gateway router port, to the host that carries it now.
    gateways: Mapping[str, str] = field(default_factory=dict)
    #: The hosts that the backend knows as alive forwarding elements.
    hosts: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


class Backend(Protocol):
    """One way to make packets obey. Levels, not edges: any call can be repeated."""

    async def start(self) -> None:
        """Connects; returns when the backend can be applied to. Reconnects by itself from then on."""

    def prepare(self, network: LogicalNetwork) -> None:
        """Works out what `apply` needs of a network. May take long: call it in a thread, and then `apply`."""

    async def apply(self, network: LogicalNetwork) -> Applied:
        """Drives the data plane's configuration to `network`: one transaction, its own rows only.

        Compares with what is really there, so that it heals what anybody else changed.

        Raises:
            trunkline.errors.Unavailable: it cannot be reached now; the caller tries again.
        """

    async def settled(self) -> None:
        """Returns when what was applied is under way, so that more would not wait behind it.

        Not when packets obey it: the caller only learns when it is of use to apply again.
        """

    def observe(self) -> Observation:
        """What is seen now, from the backend's own replica: no I/O."""

    def daemons(self) -> Mapping[str, bool]:
        """The daemons that it consists of beside those of hosts, each with whether it keeps up: no I/O."""

    async def changed(self) -> None:
        """Returns when an observation may differ, or a row was changed by somebody else."""

    async def close(self) -> None:
        """Lets go of every connection. The data plane goes on."""
