"""QoS policies to limits and marks, at each place that obeys one.

Port ── its own policy, or its network's ──────────────▶ Shaping, by direction
                                                         PacketLimit, by direction, at its host
                                                         LinkShare, of what its host sends
FloatingIP ── its own, or its external network's ──────▶ ... of its address, at the gateway
Router ── its gateway's, or the external network's ────▶ ... of all else, at the gateway
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from trunkline.compiler.derive import View
from trunkline.compiler.logical import Direction, Shaping
from trunkline.compiler.routing import way_out
from trunkline.compiler.slices import LinkShare, PacketLimit
from trunkline.compiler.switching import uplinks
from trunkline.resources.network import (
    INTERNAL_OWNERS,
    FloatingIP,
    Network,
    Port,
    QosBandwidthLimitRule,
    QosDscpMarkingRule,
    QosMinimumBandwidthRule,
    QosPacketRateLimitRule,
    Router,
)

_DIRECTIONS: tuple[Direction, ...] = ("egress", "ingress")
#: Of what a limit lets pass in a second, how much may come at once where the rule does not say.
_BURST = 0.8
#: The Ethernet header, bytes.
_HEADER = 14


class Treatment(NamedTuple):
    """What a policy asks for in one direction."""

    direction: Direction
    rate_kbps: int | None
    burst_kbit: int | None
    dscp: int | None


def treatments(view: View, policy: str) -> tuple[Treatment, ...]:
    """What a policy asks for, by its rules."""
    limits = {rule.direction: rule for rule in view.where(QosBandwidthLimitRule, "qos_policy_id", policy)}
    marks = [rule.dscp_mark for rule in view.where(QosDscpMarkingRule, "qos_policy_id", policy)]
    found = []
    for direction in _DIRECTIONS:
        limit, mark = limits.get(direction), marks[0] if marks and direction == "egress" else None
        rate = burst = None
        if limit is not None:
            rate, burst = limit.max_kbps, limit.max_burst_kbps or int(limit.max_kbps * _BURST)
        if limit is not None or mark is not None:
            found.append(Treatment(direction, rate, burst, mark))
    return tuple(found)


def packet_limits(view: View, policy: str) -> tuple[PacketLimit, ...]:
    """The limits of packets in a policy, by direction."""
    rules = view.where(QosPacketRateLimitRule, "qos_policy_id", policy)
    return tuple(
        PacketLimit(
            direction=rule.direction,
            rate=rule.max_kpps * 1000,
            burst=rule.max_burst_kpps * 1000 or int(rule.max_kpps * 1000 * _BURST),
        )
        for rule in sorted(rules, key=lambda rule: rule.direction)
    )


def link_share(view: View, port: Port) -> LinkShare | None:
    """What a port is promised of what its host sends to the physical network that the port is on."""
    wires, policy = uplinks(view.need(Network, port.network_id)), policy_of(view, port)
    # Nothing is promised on a network of several segments.
    kbps = view.ask(least_egress, policy) if policy and len(wires) == 1 else 0
    return LinkShare(physical_network=wires[0].physical_network, kbps=kbps) if kbps else None


def least_egress(view: View, policy: str) -> int:
    """What a policy promises of what is sent, kilobits a second; 0 for nothing."""
    rules = view.where(QosMinimumBandwidthRule, "qos_policy_id", policy)
    return next((rule.min_kbps for rule in rules if rule.direction == "egress"), 0)


def policy_of(view: View, port: Port) -> str | None:
    """The policy that a port with a workload obeys: its own, or its network's."""
    return port.qos_policy_id or (view.ask(of_network, port.network_id)[0] if inherits(port) else None)


def inherits(port: Port) -> bool:
    """Whether a port obeys the policy of its network: those of the network's services do not."""
    return not port.device_owner.startswith("network:")


def of_network(view: View, network: str) -> tuple[str | None, int]:
    """The policy that a network gives its ports, and how many kilobits its largest frame has."""
    found = view.get(Network, network)
    if found is None:
        return None, 0
    return found.qos_policy_id, -(-(found.mtu + _HEADER) * 8 // 1000)


def port_shapings(view: View, key: str) -> Iterator[Shaping]:
    """Of a port that a workload is plugged into: the services of networks obey no policy."""
    port = view.need(Port, key)
    if port.device_owner not in INTERNAL_OWNERS:
        own, network = port.qos_policy_id, port.network_id
        yield from _at(view, key, own, network, key, default=inherits(port))


def floating_shapings(view: View, key: str) -> Iterator[Shaping]:
    """Of a floating IP that stands for a port."""
    floating = view.need(FloatingIP, key)
    router = view.get(Router, floating.router_id)
    leg = None if router is None else way_out(router, floating)
    if leg:
        network, address = floating.floating_network_id, floating.floating_ip_address
        yield from _at(view, key, floating.qos_policy_id, network, leg, address)


def gateway_shapings(view: View, key: str) -> Iterator[Shaping]:
    """Of a router's gateway."""
    router = view.need(Router, key)
    info = router.external_gateway_info
    if info is not None and info.network_id and router.gateway_port_id:
        yield from _at(view, key, info.qos_policy_id, info.network_id, router.gateway_port_id)


def _at(
    view: View,
    key: str,
    own: str | None,
    network: str,
    place: str,
    address: str | None = None,
    *,
    default: bool = True,
) -> Iterator[Shaping]:
    """The records by which one place obeys its own policy or that of its network."""
    shared, frame = view.ask(of_network, network)
    policy = own or (shared if default else None)
    for each in view.ask(treatments, policy) if policy else ():
        yield Shaping(
            key=f"{key}/{each.direction}",
            switch=network,
            place=place,
            direction=each.direction,
            address=address,
            rate_kbps=each.rate_kbps,
            # A burst that has not room for one frame would let none pass, ever.
            burst_kbit=None if each.burst_kbit is None else max(each.burst_kbit, frame),
            dscp=each.dscp,
        )
