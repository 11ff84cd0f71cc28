"""How a load balancer is, by what the units of its appliance report: its statuses, and what it counted.

    Unit.seen (policy revision, members) ──┐
    Appliance.status ──────────────────────┴─▶ settle ─▶ provisioning and operating statuses, down the tree
    Figures (what changes all the time) ─────▶ stats

The words are those of the Octavia API ("Operating Status Codes", "Provisioning Status Codes").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce

from msgspec.structs import replace

from trunkline.api.appliance import Figures
from trunkline.api.appliance import units as appliance_units
from trunkline.api.appliance.figures import added
from trunkline.api.appliance.status import known, leader
from trunkline.api.engine import Call
from trunkline.api.loadbalancer.document import pools_of
from trunkline.api.loadbalancer.tree import Tree, load
from trunkline.resources.appliance import Appliance, Unit, zones
from trunkline.resources.loadbalancer import LoadBalancer, Member, Part, Pool
from trunkline.resources.reports import UnitStatus
from trunkline.store import Reader

ACTIVE, ERROR, OFFLINE, ONLINE = "ACTIVE", "ERROR", "OFFLINE", "ONLINE"
DEGRADED, DRAINING, NO_MONITOR = "DEGRADED", "DRAINING", "NO_MONITOR"


@dataclass(frozen=True)
class Stats:
    """What a listener counted. Bytes are those of IP packets."""

    active_connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    request_errors: int = 0
    total_connections: int = 0


def settle(call: Call, loadbalancer_id: str) -> None:
    """Writes how a load balancer is, and everything that it is made of."""
    tree = load(call.tx, loadbalancer_id)
    if tree is None:
        return
    appliance = call.tx.get(Appliance, tree.loadbalancer.appliance_id)
    units = [] if appliance is None else appliance_units.of(call.tx, appliance.id)
    provisioned = provisioning(appliance, units)
    operating = operating_statuses(tree, appliance, units)
    for part in (tree.loadbalancer, *tree.parts()):
        new = replace(
            part,
            provisioning_status=provisioned or part.provisioning_status,
            operating_status=operating[part.id],
        )
        if new != part:
            call.tx.observe(new)


def provisioning(appliance: Appliance | None, units: Sequence[Unit]) -> str:
    """ACTIVE where what was asked for is in force, ERROR where it cannot be, "" while it is on its way."""
    if appliance is None:
        return ""
    statuses = [_status(unit) for unit in units]
    leads = leader(units)
    if appliance.status == "ERROR" or (leads is not None and leads.refused):
        return ERROR
    planes = [
        status
        for unit, status in zip(units, statuses, strict=True)
        if unit.kind == "data-plane" and not unit.leaves and status is not None
    ]
    current = bool(planes) and all(s.policy_revision == appliance.policy_revision for s in planes)
    # What is on a network that not all units know is not asked yet.
    current = current and known(appliance, units) == zones(appliance)
    return ACTIVE if appliance.was_active and current else ""


def operating_statuses(tree: Tree, appliance: Appliance | None, units: Sequence[Unit]) -> dict[str, str]:
    """The operating status of everything in a tree, by id."""
    balancer = tree.loadbalancer
    works = appliance is not None and appliance.was_active and balancer.admin_state_up
    seen = members_seen(units)
    found: dict[str, str] = {}
    for pool in tree.pools:
        used = works and pool.admin_state_up and bool(_listeners(tree, pool))
        for member in tree.members(pool.id):
            found[member.id] = _member(tree, pool, member, seen)
        found[pool.id] = _pool(used, [found[m.id] for m in tree.members(pool.id) if m.admin_state_up])
        if (monitor := tree.monitor(pool.id)) is not None:
            found[monitor.id] = _plain(monitor, works)
    for listener in tree.listeners:
        below = [found[pool.id] for pool in pools_of(tree, listener)]
        up = works and listener.admin_state_up
        found[listener.id] = _worst(below) if up else OFFLINE
        for policy in tree.policies(listener.id):
            found[policy.id] = _plain(policy, works)
            for rule in tree.rules(policy.id):
                found[rule.id] = _plain(rule, works)
    enabled = [found[listener.id] for listener in tree.listeners if listener.admin_state_up]
    found[balancer.id] = _balancer(appliance, enabled) if works else OFFLINE
    return found


def members_seen(units: Sequence[Unit]) -> dict[str, str]:
    """How members are: "listener/pool/address:port" -> up, down or unknown.

    Each data plane asks for itself: one that says "up" is believed.
    """
    said: dict[str, set[str]] = {}
    for unit in units:
        status = _status(unit)
        if unit.kind == "data-plane" and status is not None:
            for key, word in status.members.items():
                said.setdefault(key, set()).add(word)
    order = ("up", "down", "unknown")
    return {key: next(word for word in order if word in words) for key, words in said.items()}


def stats(reader: Reader, figures: Figures, loadbalancer: LoadBalancer) -> dict[str, Stats]:
    """What each listener counted, by its id: what its data planes told last, and those that have gone."""
    appliance = reader.get(Appliance, loadbalancer.appliance_id) if loadbalancer.appliance_id else None
    if appliance is None:
        return {}
    return counted(appliance, appliance_units.of(reader, appliance.id), figures)


def counted(appliance: Appliance, units: Sequence[Unit], figures: Figures) -> dict[str, Stats]:
    """What units of an appliance counted of each listener, by its name."""
    sums = reduce(added, map(figures.counts_of, units), appliance.counted)
    return {
        name: Stats(
            active_connections=count.connections,
            bytes_in=count.bytes_in,
            bytes_out=count.bytes_out,
            request_errors=count.errors,
            total_connections=count.total,
        )
        for name, count in sums.items()
    }


def total(some: Iterable[Stats]) -> Stats:
    """The sum."""
    found: Counter[str] = Counter()
    for each in some:
        found.update(asdict(each))
    return Stats(**found)


def _status(unit: Unit) -> UnitStatus | None:
    return unit.seen.status if unit.seen is not None and unit.seen.state == "running" else None


def _listeners(tree: Tree, pool: Pool) -> list[str]:
    """The listeners that lead to a pool."""
    return [
        listener.id
        for listener in tree.listeners
        if listener.admin_state_up and any(each.id == pool.id for each in pools_of(tree, listener))
    ]


def _member(tree: Tree, pool: Pool, member: Member, seen: dict[str, str]) -> str:
    if not member.admin_state_up:
        return OFFLINE
    monitor = tree.monitor(pool.id)
    words: set[str] = set()
    if monitor is not None and monitor.admin_state_up:
        keys = (
            f"{listener}/{name}/{end}"
            for listener in _listeners(tree, pool)
            for name in ("", pool.id)
            for end in _ends(member)
        )
        words = {seen[key] for key in keys if key in seen} - {"unknown"}
        if words == {"down"}:
            return ERROR
        if "up" not in words:
            return OFFLINE
    if member.weight == 0:
        return DRAINING
    return ONLINE if words else NO_MONITOR


def _ends(member: Member) -> tuple[str, ...]:
    """A member's address and port, as kernels and proxies are told them."""
    return f"{member.address}:{member.protocol_port}", f"[{member.address}]:{member.protocol_port}"


def _pool(used: bool, members: Collection[str]) -> str:
    if not used:
        return OFFLINE
    if members and all(status == ERROR for status in members):
        return ERROR
    return DEGRADED if ERROR in members else ONLINE


def _plain(part: Part, up: bool) -> str:
    return ONLINE if up and part.admin_state_up else OFFLINE


def _worst(below: Collection[str]) -> str:
    """Of what stands below: failed if all of it has, not well if some of it is not."""
    if below and all(status == ERROR for status in below):
        return ERROR
    return DEGRADED if {ERROR, DEGRADED} & set(below) else ONLINE


def _balancer(appliance: Appliance | None, listeners: Collection[str]) -> str:
    if appliance is None or appliance.status == "ERROR":
        return ERROR
    found = _worst(listeners)
    return DEGRADED if found == ONLINE and appliance.status == "DEGRADED" else found
