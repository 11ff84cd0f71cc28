"""Neighbour discovery proxies: what a router's gateway answers for, and what it lets in then."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.logical import Barrier, Nat
from trunkline.compiler.routing import leg_of, scope_of
from trunkline.resources.network import ROUTER_GATEWAY, NdpProxy, Port, Router


def outer_scope(view: View, key: str) -> str:
    """The IPv6 address scope that a router is an NDP proxy in, "" where it is none."""
    router = view.need(Router, key)
    gateway = view.get(Port, router.gateway_port_id) if router.enable_ndp_proxy else None
    return "" if gateway is None else view.ask(leg_scope, gateway.id)


def leg_scope(view: View, port_id: str) -> str:
    """The IPv6 address scope of a router's leg, "" for none."""
    subnets = (f.subnet_id or "" for f in view.need(Port, port_id).fixed_ips if ":" in (f.ip_address or ""))
    return next((scope for subnet in subnets if (scope := view.ask(scope_of, subnet))), "")


def answered_address(view: View, key: str) -> Iterator[Nat]:
    """What an NDP proxy has its router answer for."""
    proxy = view.need(NdpProxy, key)
    router, port = view.get(Router, proxy.router_id), view.get(Port, proxy.port_id)
    scope = "" if router is None else view.ask(outer_scope, router.id)
    if router is None or port is None or not scope:
        return
    subnet = next((f.subnet_id for f in port.fixed_ips if f.ip_address == proxy.ip_address), None)
    if subnet is None or view.ask(scope_of, subnet) != scope:
        return
    assert proxy.ip_address is not None
    yield Nat(
        key=key,
        router=router.id,
        type="proxy",
        external=proxy.ip_address,
        internal=proxy.ip_address,
        gateway_port=router.gateway_port_id,
    )


def entrances(view: View, key: str) -> Iterator[Barrier]:
    """A router that is an NDP proxy lets in to its legs of that scope what is for the addresses alone."""
    scope = view.ask(outer_scope, key)
    if not scope:
        return
    gateway = view.need(Router, key).gateway_port_id
    addresses = {proxy.ip_address for proxy in view.where(NdpProxy, "router_id", key)}
    for leg in view.where(Port, leg_of, key):
        if leg.device_owner != ROUTER_GATEWAY and view.ask(leg_scope, leg.id) == scope:
            yield Barrier(
                key=f"{key}.{leg.id}.ndp",
                router=key,
                family=6,
                leaving=leg.id,
                entered=(gateway,),
                except_to=tuple(sorted(a for a in addresses if a)),
            )
