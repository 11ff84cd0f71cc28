"""Placement: which host a new server goes to. Pure: it is given all that it decides by.

    hosts --filters--> those that may --weigh--> the one with the most room
             |
             `--> for each that may not, every reason

Overcommitment follows the defaults of the field (Nova's ``cpu_allocation_ratio`` 16 and
``disk_allocation_ratio`` 1), but for memory, where a guest's pages are really taken: 1, not 1.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trunkline.plan.promises import Amounts, lacking

#: Virtual processors for each processor of a host.
CPU_RATIO = 16.0
MEMORY_RATIO = 1.0
DISK_RATIO = 1.0


@dataclass(frozen=True, kw_only=True)
class HostView:
    """A host as the scheduler sees it."""

    name: str
    zone: str = "nova"
    enabled: bool = True
    disabled_reason: str = ""
    #: Whether its agent reported of late.
    alive: bool = True
    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    physical_networks: frozenset[str] = frozenset()
    #: What it can promise to ports, and what those that are bound to it hold.
    promises: Amounts = field(default_factory=dict)
    promised: Amounts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one server takes of the host that it is placed on."""

    host: str
    server: str = ""
    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    #: The server group it is in.
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A network of segments: a host that has ports of it is on exactly one of them."""

    network: str
    #: The physical networks of all its segments.
    physical_networks: frozenset[str]
    #: Those where the port's addresses are, or may be.
    fitting: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a new server asks for."""

    vcpus: int
    memory_mib: int
    disk_gib: int
    #: "" for any.
    zone: str = ""
    #: "" for any.
    host: str = ""
    #: The physical networks that its ports are on.
    physical_networks: frozenset[str] = frozenset()
    #: ... and those of segments, of which one is needed for each.
    spread: Sequence[Spread] = ()
    #: What its ports are promised.
    promises: Amounts = field(default_factory=dict)
    group: str = ""
    #: affinity, anti-affinity, soft-affinity, soft-anti-affinity or "".
    policy: str = ""
    #: anti-affinity: how many servers of the group one host may carry.
    max_per_host: int = 1
    #: Ids of servers, to share a host with one of them, or with none.
    same_host: frozenset[str] = frozenset()
    different_host: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NoHost:
    """No host fits: every reason, by host."""

    reasons: Mapping[str, Sequence[str]]

    def __str__(self) -> str:
        if not self.reasons:
            return "No host has joined the region yet."
        return " ".join(f"{host}: {', '.join(why)}." for host, why in sorted(self.reasons.items()))


@dataclass
class _Usage:
    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    groups: dict[str, int] = field(default_factory=dict)
    servers: set[str] = field(default_factory=set)


def place(hosts: Iterable[HostView], loads: Iterable[Load], wish: Wish) -> str | NoHost:
    """The host for a server.

    Among the hosts that fit, a soft group policy decides first, then the larger part of memory left
    free, then the smaller number of servers, then the name: equal requests on equal hosts spread evenly,
    and the same input gives the same answer.
    """
    usage: dict[str, _Usage] = {}
    where: dict[str, str] = {}
    group_hosts: set[str] = set()
    for load in loads:
        used = usage.setdefault(load.host, _Usage())
        used.vcpus += load.vcpus
        used.memory_mib += load.memory_mib
        used.disk_gib += load.disk_gib
        used.servers.add(load.server)
        where[load.server] = load.host
        if load.group:
            used.groups[load.group] = used.groups.get(load.group, 0) + 1
            if load.group == wish.group:
                group_hosts.add(load.host)
    reasons: dict[str, list[str]] = {}
    fitting: list[tuple[tuple[float, float, int, str], str]] = []
    same = {where[s] for s in wish.same_host if s in where}
    for host in hosts:
        used = usage.get(host.name, _Usage())
        why = [*_unfit(host, wish), *_short(host, used, wish), *_apart(host, used, wish, group_hosts, same)]
        if why:
            reasons[host.name] = why
        else:
            fitting.append((_weight(host, used, wish), host.name))
    return min(fitting)[1] if fitting else NoHost(reasons)


def _unfit(host: HostView, wish: Wish) -> list[str]:
    why = []
    if wish.host and host.name != wish.host:
        why.append(f"not the host asked for ({wish.host})")
    if wish.zone and host.zone != wish.zone:
        why.append(f"in availability zone {host.zone}, not {wish.zone}")
    if not host.enabled:
        why.append(f"disabled ({host.disabled_reason})" if host.disabled_reason else "disabled")
    if not host.alive:
        why.append("its agent does not report")
    missing = sorted(wish.physical_networks - host.physical_networks)
    if missing:
        why.append(f"not connected to physical network {', '.join(missing)}")
    for each in wish.spread:
        there = each.physical_networks & host.physical_networks
        if len(there) > 1:
            why.append(
                f"connected to several segments of network {each.network} ({', '.join(sorted(there))})"
            )
        elif not there & each.fitting:
            where = " or ".join(sorted(each.fitting)) or "with a subnet"
            why.append(f"not connected to the segment of network {each.network} on {where}")
    return why


def _short(host: HostView, used: _Usage, wish: Wish) -> list[str]:
    why = []
    for name, unit, wanted, capacity, taken in (
        ("vCPUs", "", wish.vcpus, int(host.vcpus * CPU_RATIO), used.vcpus),
        ("memory", " MiB", wish.memory_mib, int(host.memory_mib * MEMORY_RATIO), used.memory_mib),
        ("disk", " GiB", wish.disk_gib, int(host.disk_gib * DISK_RATIO), used.disk_gib),
    ):
        free = max(0, capacity - taken)
        if wanted > free:
            why.append(f"not enough {name} ({wanted}{unit} wanted, {free} free)")
    # A single server never gets more virtual processors than there are real ones.
    if wish.vcpus > host.vcpus and not any("vCPUs" in each for each in why):
        why.append(f"not enough vCPUs ({wish.vcpus} wanted, {host.vcpus} there)")
    return [*why, *lacking(host.promises, host.promised, wish.promises)]


def _apart(host: HostView, used: _Usage, wish: Wish, group_hosts: set[str], same: set[str]) -> list[str]:
    why = []
    count = used.groups.get(wish.group, 0) if wish.group else 0
    if wish.policy == "affinity" and group_hosts and host.name not in group_hosts:
        why.append(f"the server group is on {', '.join(sorted(group_hosts))}")
    if wish.policy == "anti-affinity" and count >= wish.max_per_host:
        why.append("it carries a server of the group already")
    if wish.same_host and host.name not in same:
        why.append("it carries none of the servers to share a host with")
    if wish.different_host & used.servers:
        why.append("it carries a server to be kept apart from")
    return why


def _weight(host: HostView, used: _Usage, wish: Wish) -> tuple[float, float, int, str]:
    """Smaller is better."""
    together = used.groups.get(wish.group, 0) if wish.group else 0
    preference = {"soft-affinity": -together, "soft-anti-affinity": together}.get(wish.policy, 0)
    taken = (used.memory_mib + wish.memory_mib) / max(1, host.memory_mib)
    return (preference, round(taken, 9), len(used.servers), host.name)
