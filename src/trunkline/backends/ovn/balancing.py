"""Forwarded ports, as load balancers with one server each (ovn-nb(5): Load_Balancer).

A router's load balancer works where packets come in by its gateway. For who asks from inside, it is on
the switches of the router's networks too.
"""

from __future__ import annotations

from trunkline.backends.ovn.names import Emitted, Ref, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Forwarding, Router, RouterPort


def balancer(view: View, key: str) -> Emitted:
    """The load balancer of a forwarding."""
    forwarding = view.need(Forwarding, key)
    if view.has(Router, forwarding.router):
        yield entry("Load_Balancer", _row(forwarding))


def on_router(view: View, router: str) -> frozenset[Ref]:
    """The load balancers of a router, where it is there."""
    found = view.where(Forwarding, "router", router) if view.has(Router, router) else ()
    return frozenset(Ref("Load_Balancer", forwarding.key) for forwarding in found)


def on_switch(view: View, switch: str) -> frozenset[Ref]:
    """The load balancers of the routers that have an inner leg on a switch."""
    legs = view.where(RouterPort, "switch", switch)
    routers = {leg.router for leg in legs if not leg.gateway_hosts}
    return frozenset(ref for router in routers for ref in view.ask(on_router, router))


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
