"""What an appliance can be asked to do while it is measured: by hand (`by_hand`), and by a cloud."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["data-plane", "dispatcher", "manager"]
_OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}
_IN = {
    "name": "in",
    "from": "outside",
    "destination": "192.0.2.1",
    "service": "tcp/8000",
    "action": "accept",
}


@dataclass(frozen=True)
class Way:
    """Connections through one or two services."""

    name: str
    #: Whether they are made from inside.
    outward: bool
    targets: tuple[str, ...]
    listens: tuple[str, ...]
    #: Where flows of datagrams go: for gaps.
    flows: tuple[str, ...] = ()
    #: How many of all connections are made so.
    part: float = 0.5


_NAT, _FIREWALL = "192.0.2.9:8000-8001", "[fd00:b::9]:8000-8001"
_MEMBERS = (8100, 8101)
WAYS = (
    Way(
        name="firewall and source translation",
        outward=True,
        targets=(_NAT, _FIREWALL),
        listens=(_NAT, _FIREWALL),
        flows=("192.0.2.9:8000", "[fd00:b::9]:8000"),
        part=0.75,
    ),
    Way(
        name="balancer",
        outward=False,
        targets=("192.0.2.1:8000",),
        listens=tuple(f"10.0.0.5:{port}" for port in _MEMBERS),
        part=0.25,
    ),
)


def policy(turn: int) -> dict[str, object]:
    """A policy by which all `WAYS` are open; each turn another one."""
    idle = [
        {**_OUT, "name": f"idle {n}", "destination": f"198.51.100.{n}", "action": "drop"}
        for n in range(turn * 7 % 40)
    ]
    members = [
        # A back end leaves and comes: connections that it has stay with it.
        {"address": "10.0.0.5", "port": port, "weight": int(turn % 3 != n + 1)}
        for n, port in enumerate(_MEMBERS)
    ]
    source = {"from": "inside", "to": "outside", "addresses": ["192.0.2.1"], "ports": "16384-65535"}
    listener = {"name": "web", "address": "192.0.2.1", "port": 8000, "members": members}
    return {
        "firewall": {"rules": [*idle, _OUT, _IN]},
        "nat": {"source": [source]},
        "balancer": {"listeners": [listener]},
    }


class Appliance(Protocol):
    """One that runs. Each call returns when it is done, and what it did, in words."""

    #: Namespaces of the ends.
    inside: str
    outside: str
    #: Whether a host can be cut off.
    cuts: bool
    #: The far end by a plain router of the same path, as a flow's target; "" where there is none.
    plain: str

    def size(self, kind: Kind) -> int:
        """How many units there are of it, without those that leave."""

    def grow(self) -> str:
        """One data plane more; done when it has its share."""

    def shrink(self) -> str:
        """One fewer; done when it is gone."""

    def replace(self) -> str:
        """A new one for an old one, as when a new version rolls through."""

    def change(self) -> str:
        """Another policy; done when all units have it."""

    def kill(self, kind: Kind) -> str:
        """As by ``kill -9``; done when there is another one."""

    def cut(self) -> str:
        """A host with units is cut off, and comes back, or its units are replaced; done when all is well."""

    def settle(self) -> None:
        """Returns when all have what they are to have. Raises AssertionError where that takes too long."""

    def alarms(self) -> int:
        """How often until now a unit took another for dead, or another one's place, as far as those say
        that are there."""

    def shares(self) -> list[float]:
        """Of each data plane that came: seconds from its first word until it had its share."""


@dataclass(frozen=True)
class Event:
    """What may happen to an appliance, and when it may."""

    name: str
    do: Callable[[Appliance], str]
    #: Whether connections of the firewall and of translation may not break, but others may: a unit dies.
    kills: bool
    #: How often, against others.
    weight: int
    may: Callable[[Appliance], bool] = lambda appliance: True


#: Never fewer data planes than that, or a killed one has no second; nor more than the machine can have.
LEAST, MOST = 2, 6
EVENTS = (
    Event("scale out", lambda a: a.grow(), False, 3, lambda a: a.size("data-plane") < MOST),
    Event("scale in", lambda a: a.shrink(), False, 3, lambda a: a.size("data-plane") > LEAST),
    Event("policy", lambda a: a.change(), False, 3),
    Event("replacement", lambda a: a.replace(), False, 1),
    Event("data plane killed", lambda a: a.kill("data-plane"), True, 1),
    Event("dispatcher killed", lambda a: a.kill("dispatcher"), True, 1, lambda a: a.size("dispatcher") > 1),
    Event("manager killed", lambda a: a.kill("manager"), True, 1),
    Event("host cut", lambda a: a.cut(), True, 1, lambda a: a.cuts),
)


def draw(appliance: Appliance, chance: random.Random, *, kills: bool) -> Event:
    """The next one, at random, of those that may be now."""
    able = [event for event in EVENTS if (kills or not event.kills) and event.may(appliance)]
    return chance.choices(able, [event.weight for event in able])[0]
