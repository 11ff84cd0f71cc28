"""Routers, their ports, routes and translations, as rows (ovn-nb(5): Logical_Router ...)."""

from __future__ import annotations

from collections import defaultdict

from trunkline.backends.ovn import balancing, names
from trunkline.backends.ovn.names import Ref, Row, Rows, Tables, ids
from trunkline.compiler.logical import Advertisement, LogicalNetwork, Nat, Route, RouterPort

_MODES = {"slaac": "slaac", "dhcpv6-stateful": "dhcpv6_stateful", "dhcpv6-stateless": "dhcpv6_stateless"}
#: The most wanted gateway host has this priority, the next ones less.
_FIRST_PRIORITY = 1000


def rows(network: LogicalNetwork) -> Tables:
    """Each router with everything that hangs on it."""
    tables: Tables = {
        "Logical_Router_Port": {},
        "Gateway_Chassis": {},
        "Logical_Router_Static_Route": {},
        "NAT": {},
    }
    members: defaultdict[tuple[str, str], set[Ref]] = defaultdict(set)

    def add(router: str, column: str, table: str, key: str, row: Row) -> None:
        tables[table][key] = row
        members[router, column].add(Ref(table, key))

    mtus = _mtus(network)
    for port in network.router_ports.values():
        if port.router in network.routers and port.switch in network.switches:
            gateways = _gateways(port)
            tables["Gateway_Chassis"] |= gateways
            row = _port(port, frozenset(gateways), mtus[port.router])
            add(port.router, "ports", "Logical_Router_Port", row["name"], row)
    for route in network.routes.values():
        if route.router in network.routers:
            add(route.router, "static_routes", "Logical_Router_Static_Route", route.key, _route(route))
    for nat in network.nats.values():
        if nat.router in network.routers:
            add(nat.router, "nat", "NAT", nat.key, _nat(nat, network))
    routers, balancers = {}, balancing.on_routers(network)
    for router in network.routers.values():
        name = names.router(router.key)
        routers[name] = {
            "name": name,
            "enabled": None if router.enabled else False,
            # Many routers on one external network must not each know every other's neighbours.
            "options": {"always_learn_from_arp_request": "false", "dynamic_neigh_routers": "true"},
            "load_balancer": frozenset(balancers.get(router.key, ())),
            "external_ids": ids(name, name=router.name),
        } | {column: frozenset(members[router.key, column]) for column in ("ports", "static_routes", "nat")}
    return {"Logical_Router": routers, **tables}


def _mtus(network: LogicalNetwork) -> dict[str, set[int]]:
    """By router, the largest packets of its ports."""
    mtus: defaultdict[str, set[int]] = defaultdict(set)
    for port in network.router_ports.values():
        mtus[port.router].add(port.mtu)
    return mtus


def _gateway_mtu(port: RouterPort, mtus: set[int]) -> dict[str, str]:
    """Makes the router answer what does not fit (RFC 1191, RFC 8201), in or out by this port.

    A gateway answers what does not fit behind it, before it translates addresses: an answer from
    further in would quote the inner address, and the sender would not know it.
    """
    limit = min(mtus) if port.gateway_hosts else port.mtu
    return {"gateway_mtu": str(limit)} if limit < max(mtus) else {}


def _port(port: RouterPort, gateways: frozenset[str], mtus: set[int]) -> Row:
    name = names.router_port(port.key)
    return {
        "name": name,
        "mac": port.mac,
        "networks": frozenset(port.networks),
        "enabled": None if port.enabled else False,
        "options": _gateway_mtu(port, mtus),
        "gateway_chassis": frozenset(Ref("Gateway_Chassis", key) for key in gateways),
        "ipv6_ra_configs": _advertisement(port.advertisement) if port.advertisement else {},
        "external_ids": ids(name),
    }


def _gateways(port: RouterPort) -> Rows:
    rows: Rows = {}
    for place, host in enumerate(port.gateway_hosts):
        key = names.gateway(port.key, host)
        rows[key] = {
            "name": key,
            "chassis_name": host,
            "priority": _FIRST_PRIORITY - place,
            "external_ids": ids(key),
        }
    return rows


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
    return config


def _route(route: Route) -> Row:
    return {
        "ip_prefix": route.prefix,
        "nexthop": route.next_hop,
        "output_port": names.router_port(route.port) if route.port else None,
        "external_ids": ids(route.key),
    }


def _nat(nat: Nat, network: LogicalNetwork) -> Row:
    gateway = network.router_ports.get(nat.gateway_port or "")
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
        "external_ids": ids(nat.key),
    }
