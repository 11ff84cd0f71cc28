"""Networks to the logical network: the wiring of what is derived from what.

    Network ─────────────▶ Switch
    Subnet ──────────────▶ Dhcp  (one more for each port with options of its own)
    Port ────────────────▶ SwitchPort        a workload, or the network's metadata service
      of a router ───────▶ RouterPort        with Router, for Advertisement and Route
    Router ──────────────▶ Router, Route, Nat (snat)
    FloatingIP ──────────▶ Nat (floating)
    SecurityGroup, -Rule ▶ RuleSet
    AddressGroup ────────▶ AddressGroup

Pure: no I/O, no clock; equal snapshots give equal results.
"""

from __future__ import annotations

from trunkline.compiler import addresses, routing, rules, switching
from trunkline.compiler.logical import LogicalNetwork
from trunkline.compiler.settings import Settings
from trunkline.compiler.snapshot import Snapshot


def logical_network(snapshot: Snapshot, settings: Settings) -> LogicalNetwork:
    """The whole logical network of a snapshot."""
    names = addresses.Subnets(snapshot)
    return LogicalNetwork(
        switches=switching.switches(snapshot),
        ports=switching.ports(snapshot, names),
        dhcps=addresses.dhcps(snapshot, names),
        routers=routing.routers(snapshot),
        router_ports=routing.router_ports(snapshot, names),
        routes=routing.routes(snapshot, names),
        nats=routing.nats(snapshot, names),
        rule_sets=rules.rule_sets(snapshot),
        address_groups=rules.address_groups(snapshot),
        revision=snapshot.intent,
    )
