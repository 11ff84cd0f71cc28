"""The use case of `trunkline demo dmz` as data: networks, servers, and who may reach whom.

The security groups are made from FLOWS, and so is the matrix that is wanted. What is measured comes from
packets alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: Every server listens on all of them, so that a port that is closed was closed by the network.
PORTS = {22: "ssh", 80: "http", 8080: "app", 5432: "sql"}
OUTSIDE_V4, OUTSIDE_V6 = "198.51.100.10", "2001:db8:198::10"
METADATA = "169.254.169.254/32"


@dataclass(frozen=True)
class Flow:
    """A tier may open connections to a port of another."""

    source: str
    target: str
    port: int
    #: Families of addresses.
    families: tuple[int, ...] = (4, 6)


#: To and from the outside it is IPv4: by floating IP inwards, by source NAT or floating IP outwards.
FLOWS = (
    Flow("outside", "jump", 22, (4,)),
    Flow("outside", "web", 80, (4,)),
    Flow("jump", "web", 22),
    Flow("jump", "app", 22),
    Flow("jump", "db", 22),
    Flow("web", "app", 8080),
    Flow("web", "outside", 80, (4,)),
    Flow("app", "db", 5432),
    Flow("db", "db", 5432),
    # Nothing holds the twin back but where it is: it may send whatever it likes.
    Flow("outside", "twin", 22, (4,)),
    *(Flow("twin", "outside", port, (4,)) for port in PORTS),
)
#: The tier whose group lets everything out.
SENDS_ALL = "twin"


@dataclass(frozen=True)
class NetworkPlan:
    """A network with a range of IPv4 addresses, and mostly one of IPv6."""

    name: str
    cidr: str
    gateway: str
    cidr6: str = ""


#: Addresses are the tenant's own affair: private, carrier-grade NAT's, a benchmark's, documentation's, and
#: one range that two networks have.
NETWORKS = {
    "dmz": NetworkPlan("dmz", "172.31.255.0/24", "172.31.255.1", "fd5e:dead:beef::/64"),
    "app": NetworkPlan("app", "100.64.0.0/10", "100.64.0.1", "2001:db8:a99::/64"),
    "db": NetworkPlan("db", "198.18.7.240/28", "198.18.7.254", "fd00:db:0:7::/64"),
    "twin": NetworkPlan("twin", "198.18.7.240/28", "198.18.7.254"),
}
#: The inner routers' own addresses, on the side of the outer network.
FRONT_IN_DMZ, BACK_IN_APP = "172.31.255.254", "100.127.255.254"


@dataclass(frozen=True)
class ServerPlan:
    """A server; its tier has the name of its security group."""

    name: str
    tier: str
    network: str
    address: str
    floating: bool = False


SERVERS = {
    plan.name: plan
    for plan in (
        ServerPlan("jump", "jump", "dmz", "172.31.255.5", floating=True),
        ServerPlan("web1", "web", "dmz", "172.31.255.11", floating=True),
        ServerPlan("web2", "web", "dmz", "172.31.255.12"),
        ServerPlan("app1", "app", "app", "100.64.13.37"),
        ServerPlan("app2", "app", "app", "100.99.99.99"),
        ServerPlan("db1", "db", "db", "198.18.7.245"),
        ServerPlan("db2", "db", "db", "198.18.7.246"),
        ServerPlan("twin", "twin", "twin", "198.18.7.245", floating=True),
    )
}
OUTSIDE = "outside"
TIERS = ("jump", "web", "app", "db", "twin")


@dataclass(frozen=True, order=True)
class Probe:
    """A connection that is tried: from whom, to whom, by which family, to which port."""

    source: str
    target: str
    family: int
    port: int


def probes() -> Iterator[Probe]:
    """Every connection that can be tried at all, allowed or not."""
    for source in (OUTSIDE, *SERVERS):
        for target in (OUTSIDE, *SERVERS):
            for family in _families(source, target):
                for port in PORTS:
                    yield Probe(source, target, family, port)


def _families(source: str, target: str) -> tuple[int, ...]:
    # To everybody inside the twin's address is that of db1, and to the twin that of db1 is its own.
    if source == target or (target == "twin" and source != OUTSIDE) or (source, target) == ("twin", "db1"):
        return ()
    return (4,) if "twin" in (source, target) else (4, 6)


def wanted(probe: Probe) -> bool:
    """Whether FLOWS let it through."""
    if probe.source == OUTSIDE and not SERVERS[probe.target].floating:
        return False
    pair = (_tier(probe.source), _tier(probe.target))
    return any(
        (flow.source, flow.target) == pair and flow.port == probe.port and probe.family in flow.families
        for flow in FLOWS
    )


def _tier(name: str) -> str:
    return OUTSIDE if name == OUTSIDE else SERVERS[name].tier
