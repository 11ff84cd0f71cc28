"""What ports are promised by the least rates of their policies, and that their hosts can keep it.

    policy ── rules ──▶ Good: amount ──┬─▶ resource_request of the port, as clients read it
      │                                ├─▶ placement: the host of a new server has as much left
    port or its network                └─▶ grant(): a bound port gets no more than its host has left

A port holds what it is promised while it is bound to a host, whatever is plugged into it; ports of the
cloud's own are promised nothing.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, or_, select

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.errors import Conflict
from trunkline.plan.promises import PACKETS, TUNNELS, Amounts, Good, lacking, offered, total
from trunkline.resources.compute import Server
from trunkline.resources.network import (
    Network,
    Port,
    QosLeastRule,
    QosMinimumBandwidthRule,
    QosMinimumPacketRateRule,
    Trunk,
)
from trunkline.resources.region import Host
from trunkline.store import Reader, table_of

_Least = QosMinimumBandwidthRule | QosMinimumPacketRateRule
_KINDS: tuple[type[_Least], ...] = (QosMinimumBandwidthRule, QosMinimumPacketRateRule)
#: The resource classes by which clients know what is asked for (os-resource-classes).
_CLASSES: dict[tuple[type[QosLeastRule], str], str] = {
    (QosMinimumBandwidthRule, "egress"): "NET_BW_EGR_KILOBIT_PER_SEC",
    (QosMinimumBandwidthRule, "ingress"): "NET_BW_IGR_KILOBIT_PER_SEC",
    (QosMinimumPacketRateRule, "egress"): "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    (QosMinimumPacketRateRule, "ingress"): "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
    (QosMinimumPacketRateRule, "any"): "NET_PACKET_RATE_KILOPACKET_PER_SEC",
}

Rules = Sequence[QosLeastRule]


class Change(NamedTuple):
    """What a port holds of a host, before and after."""

    host: str
    before: Amounts
    after: Amounts


def rules_of(reader: Reader, policy: str | None) -> list[QosLeastRule]:
    """The least rates of a policy."""
    return [] if policy is None else [r for cls in _KINDS for r in reader.find(cls, qos_policy_id=policy)]


def amounts(rules: Rules, network: Network) -> dict[Good, int]:
    """What a port on a network is promised by rules."""
    found: dict[Good, int] = {}
    for rule in rules:
        if isinstance(rule, QosMinimumBandwidthRule):
            if network.segments:
                raise Conflict(
                    f"No least bandwidth can be promised on network {network.id}, which has several "
                    "segments. Use a policy without such rules.",
                    type="QosRuleNotSupported",
                )
            found[Good(rule.direction, network.physical_network or TUNNELS)] = rule.min_kbps
        elif isinstance(rule, QosMinimumPacketRateRule):
            found[PACKETS] = found.get(PACKETS, 0) + rule.min_kpps
    return found


def policy_of(port: Port, network: Network) -> str | None:
    """The policy that a port obeys: its own, or its network's."""
    if port.device_owner.startswith("network:"):
        return None
    return port.qos_policy_id or network.qos_policy_id


def of_interface(reader: Reader, network: Network, port: Port | None) -> dict[Good, int]:
    """What an interface of a server asks for: with a port, or with a new one on a network."""
    if port is None:
        return amounts(rules_of(reader, network.qos_policy_id), network)
    return of_plugged(reader, port)


def of_plugged(reader: Reader, port: Port) -> dict[Good, int]:
    """What a port is promised together with those that it is the trunk of."""
    trunk = reader.get(Trunk, port.trunk_id) if port.trunk_id and not port.parent_id else None
    subs = (reader.get(Port, sub.port_id) for sub in trunk.sub_ports) if trunk is not None else ()
    return total(of_port(reader, each) for each in (port, *subs) if each is not None)


def of_port(reader: Reader, port: Port) -> dict[Good, int]:
    """What a port is promised."""
    network = reader.get(Network, port.network_id)
    return {} if network is None else amounts(rules_of(reader, policy_of(port, network)), network)


def held(reader: Reader) -> dict[str, dict[Good, int]]:
    """By host, what the ports that are bound to it hold, and those of servers that come or may come back."""
    rules = _by_policy(reader)
    parts: dict[str, list[Amounts]] = defaultdict(list)
    for port, network in _bound(reader, list(rules)):
        for host in _places(reader, port):
            parts[host].append(amounts(rules.get(policy_of(port, network) or "", ()), network))
    return {host: total(each) for host, each in parts.items()}


def bound_with(reader: Reader, policy: str) -> list[tuple[Port, Network]]:
    """The bound ports that obey a policy, with their networks."""
    return [(p, network) for p, network in _bound(reader, [policy]) if policy_of(p, network) == policy]


def grant(call: Call, changes: Iterable[Change]) -> None:
    """Refuses changes by which a host would promise more than it has; less is always granted.

    Raises:
        Conflict: QosPlacementAllocationConflict, with what is lacking.
    """
    more: dict[str, dict[Good, int]] = defaultdict(lambda: defaultdict(int))
    for change in changes:
        for good in {*change.before, *change.after} if change.host else ():
            more[change.host][good] += change.after.get(good, 0) - change.before.get(good, 0)
    rising = {host: {good: n for good, n in each.items() if n > 0} for host, each in more.items()}
    if not any(rising.values()):
        return
    there = held(call.tx)
    for host, wanted in rising.items():
        known = call.tx.get(Host, host)
        why = [] if known is None else lacking(offered(known), there.get(host, {}), wanted)
        if why:
            raise Conflict(
                f"Host {host} cannot promise what the QoS policy asks for: {', '.join(why)}. Ask for less, "
                f"move ports to another host, or have the operator see `trunkline host promise {host}`.",
                type="QosPlacementAllocationConflict",
                field="qos_policy_id",
            )


def grant_ports(call: Call, pairs: Iterable[tuple[Port | None, Port]]) -> None:
    """`grant` for ports, each as it was and as it will be, that come, move or have another policy."""
    changes = []
    for old, new in pairs:
        was, now = ((each.host_id, each.qos_policy_id) if each else None for each in (old, new))
        if new.host_id and was != now:
            stays = old is not None and new.host_id in _places(call.tx, old)
            before = of_port(call.tx, old) if stays and old is not None else {}
            changes.append(Change(new.host_id, before, of_port(call.tx, new)))
    grant(call, changes)


def _places(reader: Reader, port: Port) -> set[str]:
    """The hosts where a port that is bound holds its promise: both ends of a move of its server."""
    outer = reader.get(Port, port.parent_id) if port.parent_id else port
    server = reader.get(Server, outer.device_id) if outer is not None and outer.device_id else None
    moving = {server.origin_host, server.dest_host} if server is not None and server.move else set()
    return {port.host_id, *moving} - {""}


def grant_network(call: Call, old: Network, new: Network) -> None:
    """`grant` for the ports of a network that has another policy."""
    if old.qos_policy_id == new.qos_policy_id:
        return
    rules = rules_of(call.tx, new.qos_policy_id)
    if rules:
        columns = table_of(Port).c
        before, after = amounts(rules_of(call.tx, old.qos_policy_id), old), amounts(rules, new)
        mine = (columns.network_id == new.id, columns.host_id != "", columns.qos_policy_id.is_(None))
        ports = call.tx.select(Port, *mine)
        grant(call, [Change(p.host_id, before, after) for p in ports if policy_of(p, new)])


def grant_rules(call: Call, policy: str, before: Rules, after: Rules) -> None:
    """`grant` for the ports of a policy that has other rules."""
    grant(
        call,
        [
            Change(port.host_id, amounts(before, network), amounts(after, network))
            for port, network in bound_with(call.tx, policy)
        ],
    )


def view(reader: Reader, context: Context, objects: Sequence[Port]) -> list[Mapping[str, Any]]:
    """What the operator sees that each port asks a host for."""
    if not context.is_admin:
        return [{}] * len(objects)
    rules = _by_policy(reader)
    networks: dict[str, Network | None] = {}
    shown: list[Mapping[str, Any]] = []
    for port in objects:
        request = None
        if rules:
            if port.network_id not in networks:
                networks[port.network_id] = reader.get(Network, port.network_id)
            network = networks[port.network_id]
            if network is not None:
                request = _request(port, network, rules.get(policy_of(port, network) or "", []))
        shown.append({"resource_request": request})
    return shown


def _request(port: Port, network: Network, rules: Rules) -> dict[str, Any] | None:
    """As clients of placement read it: one group for bandwidth, one for packets."""
    groups = []
    for cls in _KINDS:
        own = [rule for rule in rules if isinstance(rule, cls)]
        if not own:
            continue
        required = [f"CUSTOM_VNIC_TYPE_{port.vnic_type.upper()}"]
        if cls is QosMinimumBandwidthRule:
            physical = network.physical_network
            required.insert(0, _trait(physical) if physical else "CUSTOM_NETWORK_TUNNEL_PROVIDER")
        resources = {
            _CLASSES[cls, rule.direction]: rule.min_kbps
            if isinstance(rule, QosMinimumBandwidthRule)
            else rule.min_kpps
            for rule in own
        }
        id = uuid.uuid5(uuid.UUID(port.id), ":".join(rule.id for rule in own))
        groups.append({"id": str(id), "required": required, "resources": resources})
    if not groups:
        return None
    return {"request_groups": groups, "same_subtree": [group["id"] for group in groups]}


def _trait(physical: str) -> str:
    """A physical network as the name of a trait: capitals, digits and underscores."""
    return "CUSTOM_PHYSNET_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in physical.upper())


def _by_policy(reader: Reader) -> dict[str, list[QosLeastRule]]:
    found: dict[str, list[QosLeastRule]] = defaultdict(list)
    for cls in _KINDS:
        for rule in reader.find(cls):
            found[rule.qos_policy_id].append(rule)
    return found


def _bound(reader: Reader, policies: Sequence[str]) -> list[tuple[Port, Network]]:
    """The bound ports that have one of the policies, or are on a network that has, with their networks."""
    if not policies:
        return []
    ports, networks = table_of(Port).c, table_of(Network).c
    inherited = select(networks.id).where(networks.qos_policy_id.in_(policies))
    found = reader.select(
        Port,
        ports.host_id != "",
        or_(
            ports.qos_policy_id.in_(policies),
            and_(ports.qos_policy_id.is_(None), ports.network_id.in_(inherited)),
        ),
    )
    on = {n.id: n for n in reader.get_all(Network, {port.network_id for port in found})}
    return [(port, on[port.network_id]) for port in found if port.network_id in on]
