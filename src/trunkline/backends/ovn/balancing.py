"""Forwarded ports, as load balancers with one server each (ovn-nb(5): Load_Balancer).

A router's load balancer works where packets come in by its gateway. For who asks from inside, it is on
the switches of the router's networks too.
"""

from __future__ import annotations

from collections import defaultdict

from trunkline.backends.ovn.names import Ref, Row, Tables, ids
from trunkline.compiler.logical import Forwarding, LogicalNetwork


def rows(network: LogicalNetwork) -> Tables:
    """One load balancer for each forwarding."""
    found = (f for f in network.forwardings.values() if f.router in network.routers)
    return {"Load_Balancer": {forwarding.key: _row(forwarding) for forwarding in found}}


def on_routers(network: LogicalNetwork) -> dict[str, set[Ref]]:
    """The load balancers of each router."""
    found: defaultdict[str, set[Ref]] = defaultdict(set)
    for forwarding in network.forwardings.values():
        if forwarding.router in network.routers:
            found[forwarding.router].add(Ref("Load_Balancer", forwarding.key))
    return found


def on_switches(network: LogicalNetwork) -> dict[str, set[Ref]]:
    """The load balancers of each switch that such a router has an inner leg on."""
    routers = on_routers(network)
    found: defaultdict[str, set[Ref]] = defaultdict(set)
    if routers:
        for leg in network.router_ports.values():
            if not leg.gateway_hosts and leg.router in routers:
                found[leg.switch] |= routers[leg.router]
    return found


def _row(forwarding: Forwarding) -> Row:
    (first, last), (inside, end) = forwarding.external_ports, forwarding.internal_ports
    step = 0 if inside == end else 1
    return {
        "name": forwarding.key,
        "protocol": forwarding.protocol,
        "vips": {
            f"{forwarding.external}:{first + n}": f"{forwarding.internal}:{inside + n * step}"
            for n in range(last - first + 1)
        },
        # The address is the router's own, whichever range the router has addresses of.
        "options": {"neighbor_responder": "all"},
        "external_ids": ids(forwarding.key),
    }
