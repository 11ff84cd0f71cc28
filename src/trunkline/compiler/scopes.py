"""Address scopes to what a router keeps apart: between two scopes nothing passes without translation.

The scope of a leg is that of its subnets' pools. Legs whose subnets are of no scope are of one scope
together. Routers without any scope keep nothing apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.logical import Barrier, Family
from trunkline.compiler.routing import leg_of, scope_of, way_out
from trunkline.resources.network import (
    FIREWALL_LEG,
    ROUTER_GATEWAY,
    FloatingIP,
    Port,
    Router,
    gateways_of,
)


def leg_scopes(view: View, port_id: str) -> dict[Family, str]:
    """The address scope of a router's leg in each family that it has addresses of."""
    port = view.need(Port, port_id)
    return {
        6 if ":" in (fixed.ip_address or "") else 4: view.ask(scope_of, fixed.subnet_id or "")
        for fixed in port.fixed_ips
    }


def floating_behind(view: View, port_id: str) -> tuple[str, ...]:
    """The addresses that floating IPs behind a gateway stand for."""
    router = view.get(Router, view.need(Port, port_id).device_id)
    if router is None:
        return ()
    found = view.where(FloatingIP, "router_id", router.id)
    here = (f.fixed_ip_address for f in found if way_out(router, f) == port_id)
    return tuple(sorted(address for address in here if address))


def barriers(view: View, key: str) -> Iterator[Barrier]:
    """What may not leave by each leg of a router."""
    router = view.need(Router, key)
    # What goes by a firewall was let pass before.
    legs = [leg for leg in view.where(Port, leg_of, key) if leg.device_owner != FIREWALL_LEG]
    scopes = {leg.id: view.ask(leg_scopes, leg.id) for leg in legs}
    if not any(scope for found in scopes.values() for scope in found.values()):
        return
    gateways = {leg.id for leg in legs if leg.device_owner == ROUTER_GATEWAY}
    translated = {way.port_id for way in gateways_of(router) if way.info.enable_snat is not False}
    families: tuple[Family, ...] = (4, 6)
    for leg in legs:
        for family in families:
            if family not in scopes[leg.id]:
                continue
            apart = [
                other.id
                for other in legs
                if family in scopes[other.id] and scopes[other.id][family] != scopes[leg.id][family]
            ]
            outside = leg.id in gateways
            if not apart or (outside and family == 4 and leg.id in translated):
                continue
            from_outside = tuple(other for other in apart if other in gateways)
            inside = tuple(other for other in apart if other not in gateways)
            if inside:
                except_from = view.ask(floating_behind, leg.id) if outside and family == 4 else ()
                yield Barrier(
                    key=f"{key}.{leg.id}.{family}", router=key, family=family,
                    leaving=leg.id, entered=inside, except_from=except_from,
                )  # fmt: skip
            if from_outside:
                yield Barrier(
                    key=f"{key}.{leg.id}.{family}.out", router=key, family=family,
                    leaving=leg.id, entered=from_outside, except_translated=family == 4,
                )  # fmt: skip
