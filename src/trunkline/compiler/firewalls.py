"""Firewall groups to what routers have go round by their appliances."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.logical import Detour
from trunkline.resources.network import FirewallSite, Port, Router


def detour(view: View, key: str) -> Iterator[Detour]:
    """What a router sends to the appliance of a firewall group that stands there."""
    site = view.need(FirewallSite, key)
    ports = tuple(id for id in site.ports if view.has(Port, id))
    if ports and view.has(Router, site.router_id) and view.has(Port, site.leg_id):
        yield Detour(
            key=key,
            router=site.router_id,
            leg=site.leg_id,
            ports=ports,
            next_hops=tuple(site.next_hops),
        )
