"""The use case of `trunkline demo appliance` as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CIDR, GATEWAY = "192.168.88.0/24", "192.168.88.1"
#: Long-lived connections through it, and flows of datagrams by which its outages are timed.
CONNECTIONS, FLOWS = 300, 8
#: Where they go: the internet host of the lab.
FAR, FAR_PORTS = "198.51.100.10", "7000-7003"
#: Data planes at first, and at the most.
FEW, MANY = 1, 6
#: What a unit has of a processor.
CU = 0.1


@dataclass(frozen=True)
class Stage:
    """Something that is done to the appliance while connections go on."""

    name: str
    #: How many data planes there are to be in the end.
    planes: int
    what: str


STAGES = (
    Stage("at rest", FEW, "nothing happens"),
    Stage("grow", MANY, f"{FEW} data plane becomes {MANY}"),
    Stage("policy", MANY, "a rule is added"),
    Stage("crash", MANY, "the busiest data plane is killed"),
    Stage("shrink", FEW, f"{MANY} data planes become {FEW}"),
)


def policy(address: str, *, telnet: bool = True) -> dict[str, Any]:
    """Lets everything out, by one address; with `telnet` false, not to that port."""
    rules: list[dict[str, Any]] = [{"name": "out", "from": "inside", "to": "outside", "action": "accept"}]
    if not telnet:
        no = {"name": "no-telnet", "from": "inside", "to": "outside", "service": "tcp/23", "action": "reject"}
        rules.insert(0, no)
    return {
        "firewall": {"default": "drop", "rules": rules},
        "nat": {"source": [{"from": "inside", "to": "outside", "addresses": [address]}]},
    }


@dataclass
class Outcome:
    """What became of the traffic in a stage."""

    stage: Stage
    #: Seconds until units and shards were as they were to be; None: not in time.
    settled: float | None
    #: What was killed.
    killed: int | None = None
    #: The longest time in which a flow had no answer, seconds; and of all connections, those that broke.
    gap: float = 0.0
    broken: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.settled is not None and not self.broken
