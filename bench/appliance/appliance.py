"""What an appliance can be asked to do while it is measured: by hand (`by_hand`), and by a cloud."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["data-plane", "dispatcher", "manager"]
#: What connections and flows are made to, through which service.
TARGETS: Mapping[str, str] = {
    "source translation": "192.0.2.9:8000-8001",
    "firewall alone": "[fd00:b::9]:8000",
    "balancer": "203.0.113.80:8000",
}
_FAR = ("192.0.2.10", "192.0.2.11")
_OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}


def policy(turn: int) -> dict[str, object]:
    """A policy by which all `TARGETS` are reached; each turn another one."""
    idle = [
        {**_OUT, "name": f"idle {n}", "destination": f"198.51.100.{n}", "action": "drop"}
        for n in range(turn * 7 % 40)
    ]
    members = [
        # A back end leaves and comes: connections that it has stay with it.
        {"address": address, "port": 8000, "weight": int(turn % 3 != n + 1)}
        for n, address in enumerate(_FAR)
    ]
    source = {"from": "inside", "to": "outside", "addresses": ["192.0.2.1"]}
    listener = {"name": "web", "address": "203.0.113.80", "port": 8000, "members": members}
    return {
        "firewall": {"rules": [*idle, _OUT]},
        "nat": {"source": [source]},
        "balancer": {"listeners": [listener]},
    }


class Appliance(Protocol):
    """One that runs. Each call returns when it is done, and what it did, in words."""

    #: Namespaces of the ends.
    near: str
    far: str

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
)


def draw(appliance: Appliance, chance: random.Random, *, kills: bool) -> Event:
    """The next one, at random, of those that may be now."""
    able = [event for event in EVENTS if (kills or not event.kills) and event.may(appliance)]
    return chance.choices(able, [event.weight for event in able])[0]
