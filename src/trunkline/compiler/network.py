"""Networks to the logical network: the wiring of what is derived from what.

    Network ─────────────▶ Switch
    Subnet ──────────────▶ Dhcp  (one more for each port with options of its own)
    Port ────────────────▶ SwitchPort        a workload, or the network's metadata service
      of a router ───────▶ RouterPort        with Router, for Advertisement and Route
    Router ──────────────▶ Router, Route, Nat (snat)
    NdpProxy ────────────▶ Nat (proxy); Router ─ Barrier around it
    SubnetPool ─ scopes ─▶ Barrier           between legs of a router
    FloatingIP ──────────▶ Nat (floating)
    FirewallSite ────────▶ Detour
    PortForwarding ──────▶ Forwarding
    SecurityGroup, -Rule ▶ RuleSet
    AddressGroup ────────▶ AddressGroup
    QosPolicy, -Rule ────▶ Shaping  (at each Port, FloatingIP and Router that has it)
    Log ─────────────────▶ TrafficLog

One line a node: what it goes over, and the function of one of these (`compiler.derive`). Pure: no I/O, no
clock; equal snapshots give equal results.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from trunkline.compiler import (
    addresses,
    firewalls,
    logs,
    metering,
    ndp_proxies,
    qos,
    routing,
    rules,
    scopes,
    switching,
)
from trunkline.compiler.derive import Derivations, Node, Outcome, Sources
from trunkline.compiler.logical import KINDS, LogicalNetwork, Record
from trunkline.compiler.settings import REGION, Settings
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import (
    AddressGroup,
    FirewallSite,
    FloatingIP,
    Log,
    NdpProxy,
    Network,
    Port,
    PortForwarding,
    Router,
    SecurityGroup,
    Subnet,
)

NODES = (
    Node(Network, switching.switch),
    Node(Port, switching.switch_port),
    Node(Subnet, addresses.subnet_dhcp),
    Node(Port, addresses.port_dhcps),
    Node(Router, routing.router),
    Node(Port, routing.router_port),
    Node(Port, routing.default_routes),
    Node(Router, routing.extra_routes),
    Node(Router, routing.source_nats),
    Node(Router, scopes.barriers),
    Node(FloatingIP, routing.floating_nat),
    Node(NdpProxy, ndp_proxies.answered_address),
    Node(Router, ndp_proxies.entrances),
    Node(FirewallSite, firewalls.detour),
    Node(Router, metering.meters),
    Node(PortForwarding, routing.forwarding),
    Node(Port, qos.port_shapings),
    Node(FloatingIP, qos.floating_shapings),
    Node(Router, qos.gateway_shapings),
    Node(SecurityGroup, rules.rule_set),
    Node(AddressGroup, rules.address_group),
    Node(Log, logs.traffic_log),
)


def logical_network(snapshot: Snapshot, settings: Settings) -> LogicalNetwork:
    """The whole logical network of a snapshot."""
    outcome = Derivations(NODES, place).update(sources(snapshot, settings))
    return assembled(outcome, snapshot.intent)


def sources(snapshot: Snapshot, settings: Settings) -> Sources:
    """What derivations read: the resources, and the settings."""
    return {**snapshot.objects, Settings: {REGION: settings}}


def place(record: Record) -> tuple[Hashable, str]:
    """Where a record belongs: the kind that it is, and its key."""
    return type(record), record.key


def assembled(outcome: Outcome[Record], revision: int) -> LogicalNetwork:
    """The records as one logical network."""
    kinds: dict[str, Any] = {name: outcome.outputs.get(cls, {}) for cls, name in KINDS.items()}
    return LogicalNetwork(**kinds, revision=revision)
