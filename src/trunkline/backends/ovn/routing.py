"""Routers, their ports, routes and translations, as rows (ovn-nb(5): Logical_Router ...)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from trunkline.backends.ovn import balancing, names
from trunkline.backends.ovn.names import Emitted, Entry, Member, Owner, Ref, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Advertisement, Barrier, Nat, Route, Router, RouterPort, Switch

_MODES = {"slaac": "slaac", "dhcpv6-stateful": "dhcpv6_stateful", "dhcpv6-stateless": "dhcpv6_stateless"}
#: The most wanted gateway host has this priority, the next ones less.
_FIRST_PRIORITY = 1000
#: Of what a router keeps apart, among its policies, and of what passes all the same.
_BARRIER_PRIORITY, _PASS_PRIORITY = 30000, 30001


def router(view: View, key: str) -> Emitted:
    """A router; what hangs on it is gathered."""
    found = view.need(Router, key)
    name = names.router(key)
    yield entry(
        "Logical_Router",
        {
            "name": name,
            "enabled": None if found.enabled else False,
            # Many routers on one external network must not each know every other's neighbours.
            "options": {"always_learn_from_arp_request": "false", "dynamic_neigh_routers": "true"},
            "load_balancer": view.ask(balancing.on_router, key),
            "external_ids": ids(name, name=found.name),
        },
    )


def port(view: View, key: str) -> Emitted:
    """A router port, and the hosts that may carry it."""
    found = view.need(RouterPort, key)
    if view.has(Router, found.router) and view.has(Switch, found.switch):
        gateways = [entry("Gateway_Chassis", row) for row in _gateways(found)]
        yield from gateways
        row = _port(found, frozenset(each.ref for each in gateways), view.ask(_mtus, found.router))
        yield from _of_router(found.router, "ports", entry("Logical_Router_Port", row))


def route(view: View, key: str) -> Emitted:
    """A static route."""
    found = view.need(Route, key)
    if view.has(Router, found.router):
        watch = _watch(found)
        if watch is not None:
            yield watch
        row = entry("Logical_Router_Static_Route", _route(found, watch))
        yield from _of_router(found.router, "static_routes", row)


def nat(view: View, key: str) -> Emitted:
    """An address translation."""
    found = view.need(Nat, key)
    if view.has(Router, found.router):
        yield from _of_router(found.router, "nat", entry("NAT", _nat(view, found)))


def barrier(view: View, key: str) -> Emitted:
    """What does not leave by a leg, as policies: these are applied when the way out is known.

    Exceptions are policies too. To say "none of these addresses" in one match takes as many flows as the
    product of their bits.
    """
    found = view.need(Barrier, key)
    if view.has(Router, found.router):
        for row in _barrier(found):
            yield from _of_router(found.router, "policies", entry("Logical_Router_Policy", row))


def _barrier(barrier: Barrier) -> Iterator[Row]:
    entered = ", ".join(f'"{names.router_port(port)}"' for port in barrier.entered)
    family = f"ip{barrier.family}"
    way = f'inport == {{{entered}}} && outport == "{names.router_port(barrier.leaving)}" && {family}'
    # Nothing but a translation sends a packet through connection tracking before this.
    match = f"{way} && !ct.trk" if barrier.except_translated else way
    yield {
        "priority": _BARRIER_PRIORITY,
        "match": match,
        "action": "drop",
        "external_ids": ids(barrier.key),
    }
    for side, addresses in (("src", barrier.except_from), ("dst", barrier.except_to)):
        if addresses:
            yield {
                "priority": _PASS_PRIORITY,
                "match": f"{way} && {family}.{side} == {{{', '.join(addresses)}}}",
                "action": "allow",
                "external_ids": ids(f"{barrier.key}.{side}"),
            }


def _of_router(router: str, column: str, made: Entry) -> Emitted:
    yield made
    yield Member(Owner("Logical_Router", names.router(router), column), made.ref)


def _mtus(view: View, router: str) -> frozenset[int]:
    """The largest packets of a router's ports."""
    return frozenset(port.mtu for port in view.where(RouterPort, "router", router))


def _gateway_mtu(port: RouterPort, mtus: AbstractSet[int]) -> dict[str, str]:
    """Makes the router answer what does not fit (RFC 1191, RFC 8201), in or out by this port.

    A gateway answers what does not fit behind it, before it translates addresses: an answer from
    further in would quote the inner address, and the sender would not know it.
    """
    limit = min(mtus) if port.gateway_hosts else port.mtu
    return {"gateway_mtu": str(limit)} if limit < max(mtus) else {}


def _port(port: RouterPort, gateways: frozenset[Ref], mtus: AbstractSet[int]) -> Row:
    name = names.router_port(port.key)
    return {
        "name": name,
        "mac": port.mac,
        "networks": frozenset(port.networks),
        "enabled": None if port.enabled else False,
        "options": _gateway_mtu(port, mtus),
        "gateway_chassis": gateways,
        "ipv6_ra_configs": _advertisement(port.advertisement) if port.advertisement else {},
        "external_ids": ids(name),
    }


def _gateways(port: RouterPort) -> Iterator[Row]:
    for place, host in enumerate(port.gateway_hosts):
        key = names.gateway(port.key, host)
        yield {
            "name": key,
            "chassis_name": host,
            "priority": _FIRST_PRIORITY - place,
            "external_ids": ids(key),
        }


def _advertisement(advertisement: Advertisement) -> dict[str, str]:
    config = {
        "address_mode": _MODES[advertisement.mode],
        "send_periodic": "true",
        "max_interval": "60",
        "min_interval": "20",
        "mtu": str(advertisement.mtu),
    }
    # OVN announces one server; DHCPv6 tells all of them.
    servers = [server for server in advertisement.dns_servers if ":" in server]
    if servers:
        config["rdnss"] = servers[0]
    if advertisement.domain:
        config["dnssl"] = advertisement.domain
    return config


def _watch(route: Route) -> Entry | None:
    """Has the gateway that a route leaves by watch the next hop (ovn-nb(5): BFD)."""
    if not route.bfd or route.port is None:
        return None
    row = {
        "logical_port": names.router_port(route.port),
        "dst_ip": route.next_hop,
        "external_ids": ids(route.key),
    }
    return entry("BFD", row)


def _route(route: Route, watch: Entry | None) -> Row:
    return {
        "ip_prefix": route.prefix,
        "nexthop": route.next_hop,
        "output_port": names.router_port(route.port) if route.port else None,
        "bfd": None if watch is None else watch.ref,
        "external_ids": ids(route.key),
    }


def _nat(view: View, nat: Nat) -> Row:
    gateway = view.get(RouterPort, nat.gateway_port)
    distributed = nat.type == "floating" and nat.port is not None and nat.external_mac is not None
    named = gateway is not None and gateway.gateway_hosts and gateway.router == nat.router
    return {
        "type": "snat" if nat.type == "snat" else "dnat_and_snat",
        "external_ip": nat.external,
        "logical_ip": nat.internal,
        "logical_port": nat.port if distributed else None,
        "external_mac": nat.external_mac if distributed else None,
        # OVN refuses a port that is no gateway; without one it takes the router's only gateway.
        "gateway_port": Ref("Logical_Router_Port", names.router_port(nat.gateway_port or ""))
        if named
        else None,
        # What stays as it is needs no connection tracking.
        "options": {"stateless": "true"} if nat.type == "proxy" else {},
        "external_ids": ids(nat.key),
    }
