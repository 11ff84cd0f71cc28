"""A router's legs on tenants' networks; and single routes, added and removed."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import (
    addressing,
    firewall_groups,
    floatingips,
    forwarding,
    ndp_proxies,
    routers,
    security_groups,
    segments,
    sharing,
)
from trunkline.errors import BadField, BadRequest, Conflict, InUse, NotFound
from trunkline.plan import ipam
from trunkline.resources.network import (
    ROUTER_INTERFACE,
    FixedIp,
    HostRoute,
    Network,
    Port,
    Router,
    Subnet,
    gateways_of,
)
from trunkline.resources.network.checks import clean_uuid
from trunkline.resources.network.parts import routes as clean_routes
from trunkline.resources.schema import convert


class Interface(msgspec.Struct, forbid_unknown_fields=True):
    """The body of both verbs: which subnet, which port."""

    subnet_id: str | None = None
    port_id: str | None = None


class RouteChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is inside the body of both verbs on routes."""

    routes: list[HostRoute]


def _parse(body: Any) -> Interface:
    given: Interface = convert(body, Interface, what="router interface")
    if given.subnet_id is None and given.port_id is None:
        raise BadRequest(
            "Bad router request: Either subnet_id or port_id must be specified.",
            type="BadRequest",
            field="subnet_id",
        )
    for field in ("subnet_id", "port_id"):
        value = getattr(given, field)
        if value is not None:
            try:
                setattr(given, field, clean_uuid(value))
            except ValueError as error:
                raise BadField(field, str(error), type="InvalidInput") from None
    return given


def add(call: Call, router_id: str, body: Any) -> dict[str, Any]:
    """Attaches a subnet, by its gateway address, or a port, by its own addresses.

    Returns: what the API shows of the leg.
    Raises:
        BadRequest, NotFound; Conflict: PortInUse, IpAddressInUse.
    """
    given = _parse(body)
    router = call.get(Router, router_id)
    call.require("add_router_interface", call.engine.target(call.tx, router))
    if given.subnet_id is not None and given.port_id is not None:
        raise BadRequest(
            "Bad router request: Cannot specify both subnet-id and port-id.",
            type="BadRequest",
            field="port_id",
        )
    if given.port_id is not None:
        port, subnet_ids = _add_port(call, router, call.get(Port, given.port_id))
    else:
        subnet = call.get(Subnet, given.subnet_id or "")
        port, subnet_ids = _add_subnet(call, router, subnet)
        firewall_groups.leg_changed(call, port.id)
    call.save(router)
    return _shown(router, port, subnet_ids)


def _add_subnet(call: Call, router: Router, subnet: Subnet) -> tuple[Port, list[str]]:
    if subnet.gateway_ip is None:
        raise BadRequest(
            f"Bad router request: Subnet {subnet.id} for router interface must have a gateway IP.",
            type="BadRequest",
            field="subnet_id",
        )
    network = call.tx.get(Network, subnet.network_id)
    assert network is not None
    segments.refuse_leg(network)
    _refuse_others_gateway(call, network, subnet)
    legs = routers.interfaces(call, router.id)
    _check_subnets(call, router, legs, [subnet])
    wanted = FixedIp(subnet_id=subnet.id, ip_address=subnet.gateway_ip)
    _free_gateway(call, subnet)
    for leg in legs if subnet.ip_version == 6 else ():
        # All IPv6 subnets of a network are on one leg, which advertises them together.
        if leg.network_id == subnet.network_id and all(
            addressing.version(f.ip_address or "0.0.0.0") == 6 for f in leg.fixed_ips
        ):
            addresses = addressing.assign(
                call,
                network,
                leg.id,
                leg.mac_address,
                ROUTER_INTERFACE,
                [*leg.fixed_ips, wanted],
                leg.fixed_ips,
            )
            return call.save(replace(leg, fixed_ips=addresses)), [subnet.id]
    id = str(uuid.uuid4())
    mac = addressing.claim_mac(call, network.id, id, "")
    addresses = addressing.assign(call, network, id, mac, ROUTER_INTERFACE, [wanted])
    port = call.add(
        Port(
            id=id,
            project_id=router.project_id,
            network_id=network.id,
            mac_address=mac,
            fixed_ips=addresses,
            device_owner=ROUTER_INTERFACE,
            device_id=router.id,
            port_security_enabled=False,
        )
    )
    return port, [subnet.id]


def _refuse_others_gateway(call: Call, network: Network, subnet: Subnet) -> None:
    """Refuses to take the gateway's address of a network that everybody may use, or that is external alone.

    All that is on the subnet sends there what is for elsewhere. A project whose network it is may, and one
    with which its owner shares it by name; others give their router a port of their own.
    """
    mine = call.context.project_id
    if call.context.is_admin or network.project_id == mine:
        return
    # On a private VLAN guests do not reach everybody, and a router does.
    if sharing.is_named(call.tx, network, mine) and not network.pvlan:
        return
    raise BadRequest(
        f"Bad router request: Cannot add interface to router because subnet {subnet.id} is not owned by "
        "project making the request. Add a port of your own on it instead.",
        type="BadRequest",
        field="subnet_id",
    )


def _free_gateway(call: Call, subnet: Subnet) -> None:
    gateway = subnet.gateway_ip or ""
    if not ipam.is_host(subnet.cidr, gateway) and gateway != subnet.cidr.partition("/")[0]:
        raise BadRequest(
            f"Bad router request: the gateway {gateway} of subnet {subnet.id} is not in {subnet.cidr}: "
            "add a port "
            "instead.",
            type="BadRequest",
            field="subnet_id",
        )
    if addressing.owner_of(call, subnet.id, gateway) is not None:
        raise Conflict(
            f"Unable to complete operation for network {subnet.network_id}. The IP address {gateway} "
            "is in use.",
            type="IpAddressInUse",
        )


def _add_port(call: Call, router: Router, port: Port) -> tuple[Port, list[str]]:
    # Whoever owns a network sees all ports on it; to make one a leg of a router is to change it.
    call.require("update_port", call.engine.target(call.tx, port))
    if used_by := port.device_id or port.device_owner or port.trunk_id:
        raise InUse(
            f"Unable to complete operation on port {port.id} for network {port.network_id}. Port "
            f"already has an attached device {used_by}.",
            type="PortInUse",
        )
    if port.pvlan_type not in (None, "promiscuous"):
        raise BadRequest(
            f"Bad router request: port {port.id} is kept apart from others on its network, and a router "
            "reaches all of them. Have the network's owner make it promiscuous.",
            type="BadRequest",
            field="port_id",
        )
    if not port.fixed_ips:
        raise BadRequest(
            "Bad router request: Router port must have at least one fixed IP.",
            type="BadRequest",
            field="port_id",
        )
    network = call.tx.get(Network, port.network_id)
    assert network is not None
    segments.refuse_leg(network)
    subnets = routers.subnets_behind(call, [port])
    if sum(subnet.ip_version == 4 for subnet in subnets) > 1:
        raise BadRequest(
            "Bad router request: Cannot have multiple IPv4 subnets on router port.",
            type="BadRequest",
            field="port_id",
        )
    _check_subnets(call, router, routers.interfaces(call, router.id), subnets)
    for group in port.security_groups:
        call.tx.release(port.id, security_groups.users_scope(group), port.id)
    port = call.save(
        replace(
            port,
            device_id=router.id,
            device_owner=ROUTER_INTERFACE,
            security_groups=[],
            allowed_address_pairs=[],
            port_security_enabled=False,
            pvlan_type=None,
            pvlan_community=None,
        )
    )
    return port, [subnet.id for subnet in subnets]


def _check_subnets(call: Call, router: Router, legs: list[Port], subnets: list[Subnet]) -> None:
    """That the router has no leg there, and no other subnet with addresses in common."""
    held = routers.subnets_behind(call, legs)
    for network_id in {gateway.info.network_id for gateway in gateways_of(router)}:
        held += call.tx.find(Subnet, network_id=network_id)
    for subnet in subnets:
        if subnet.ipv6_address_mode is not None and subnet.ipv6_ra_mode is None:
            raise BadRequest(
                f"Bad router request: IPv6 subnet {subnet.id} configured to receive RAs from an "
                "external router "
                "cannot be added to a router here.",
                type="BadRequest",
            )
        for other in held:
            if other.id == subnet.id:
                raise BadRequest(
                    f"Bad router request: Router already has a port on subnet {subnet.id}.", type="BadRequest"
                )
            if ipam.overlap(subnet.cidr, other.cidr):
                raise routers.overlapping(subnet, other)


def remove(call: Call, router_id: str, body: Any) -> dict[str, Any]:
    """Detaches a subnet or a port.

    Raises:
        NotFound: it is not attached. InUse: a floating IP or a route needs it.
    """
    given = _parse(body)
    router = call.get(Router, router_id)
    call.require("remove_router_interface", call.engine.target(call.tx, router))
    legs = routers.interfaces(call, router.id)
    if given.port_id is not None:
        port = _leg(legs, router, given)
    else:
        subnet = call.get(Subnet, given.subnet_id or "")
        found = [leg for leg in legs if any(f.subnet_id == subnet.id for f in leg.fixed_ips)]
        if not found:
            raise NotFound(
                f"Router {router.id} has no interface on subnet {subnet.id}.",
                type="RouterInterfaceNotFoundForSubnet",
            )
        port = found[0]
    leaving = [f for f in port.fixed_ips if given.port_id is not None or f.subnet_id == given.subnet_id]
    _refuse_while_needed(call, router, port, leaving)
    staying = [f for f in port.fixed_ips if f not in leaving]
    if staying:
        addressing.release(call, port.id, leaving)
        call.save(replace(port, fixed_ips=staying))
    else:
        call.drop(port)
    firewall_groups.leg_changed(call, port.id)
    call.save(router)
    return _shown(router, port, [f.subnet_id or "" for f in leaving])


def _leg(legs: list[Port], router: Router, given: Interface) -> Port:
    for leg in legs:
        if leg.id == given.port_id:
            if given.subnet_id is not None and all(f.subnet_id != given.subnet_id for f in leg.fixed_ips):
                raise Conflict(
                    f"Subnet on port {leg.id} does not match the requested subnet {given.subnet_id}.",
                    type="SubnetMismatchForPort",
                )
            return leg
    raise NotFound(
        f"Router {router.id} does not have an interface with id {given.port_id}.",
        type="RouterInterfaceNotFound",
    )


def _refuse_while_needed(call: Call, router: Router, port: Port, leaving: list[FixedIp]) -> None:
    gone = {f.subnet_id for f in leaving}
    for floating in floatingips.through(call, router.id):
        uses = [(floating.port_id, floating.fixed_ip_address)]
        uses += [(f.internal_port_id, f.internal_ip_address) for f in forwarding.of(call.tx, floating.id)]
        if any(_is_on(call, port_id, address, gone) for port_id, address in uses):
            raise InUse(
                f"Router interface for subnet {sorted(filter(None, gone))} on router {router.id} cannot be "
                f"deleted, as it is required by floating IP {floating.id}.",
                type="RouterInterfaceInUseByFloatingIP",
            )
    for proxy in ndp_proxies.through(call, router.id):
        if _is_on(call, proxy.port_id, proxy.ip_address, gone):
            raise InUse(
                f"Unable to remove subnet {sorted(filter(None, gone))} from router {router.id}: NDP proxy "
                f"{proxy.id} is in use on it.",
                type="RouterInterfaceInUseByNDPProxy",
            )
    for subnet in routers.subnets_behind(call, [port]):
        for route in router.routes:
            if subnet.id in gone and ipam.contains(subnet.cidr, route.nexthop):
                raise InUse(
                    f"Router interface for subnet {subnet.id} on router {router.id} cannot be deleted, "
                    "as it is "
                    f"required by the route to {route.destination}.",
                    type="RouterInterfaceInUseByRoute",
                )


def _is_on(call: Call, port_id: str | None, address: str | None, subnet_ids: set[str | None]) -> bool:
    """Whether a port has the address on one of the subnets."""
    port = call.tx.get(Port, port_id or "")
    return port is not None and any(
        f.ip_address == address and f.subnet_id in subnet_ids for f in port.fixed_ips
    )


def _shown(router: Router, port: Port, subnet_ids: list[str]) -> dict[str, Any]:
    return {
        "id": router.id,
        "tenant_id": router.project_id,
        "project_id": router.project_id,
        "port_id": port.id,
        "network_id": port.network_id,
        "subnet_id": subnet_ids[0],
        "subnet_ids": subnet_ids,
        "tags": list(port.tags),
    }


# Routes, one by one.


def add_routes(call: Call, router_id: str, body: Any) -> Router:
    """Adds routes to those that are there; one that is there already is no error."""
    router, routes = _route_change(call, router_id, body, "add_extraroutes")
    merged = [*router.routes, *(route for route in routes if route not in router.routes)]
    if len(merged) > 30:
        raise BadField("routes", "a router has at most 30 routes.", type="InvalidRoutes")
    routers.check_routes(call, router, routes)
    return router if merged == router.routes else _routed(call, router, merged)


def remove_routes(call: Call, router_id: str, body: Any) -> Router:
    """Removes routes; one that is not there is no error."""
    router, routes = _route_change(call, router_id, body, "remove_extraroutes")
    left = [route for route in router.routes if route not in routes]
    return router if left == router.routes else _routed(call, router, left)


def _routed(call: Call, router: Router, routes: list[HostRoute]) -> Router:
    router = call.save(replace(router, routes=routes))
    firewall_groups.routes_changed(call, router.id)
    return router


def _route_change(call: Call, router_id: str, body: Any, rule: str) -> tuple[Router, list[HostRoute]]:
    given: RouteChange = convert(body, RouteChange, what="router")
    try:
        routes = clean_routes(given.routes)
    except ValueError as error:
        raise BadField("routes", str(error), type="InvalidInput") from None
    router = call.get(Router, router_id)
    call.require(rule, call.engine.target(call.tx, router))
    return router, routes
