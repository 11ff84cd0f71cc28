"""Routers: their gateway to an external network, and their routes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import addressing, common, flavors, floatingips, ndp_proxies, qos
from trunkline.api.zones import zones
from trunkline.errors import BadRequest, InUse, NotFound
from trunkline.plan import gateways, ipam
from trunkline.resources.network import (
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    Gateway,
    GatewayPort,
    HostRoute,
    Network,
    Port,
    QosPolicy,
    Router,
    Subnet,
    gateways_of,
)
from trunkline.resources.region import Host
from trunkline.store import Reader


def create(call: Call, router: Router, given: frozenset[str]) -> Router:
    """Gives the router its gateway, if it names one."""
    common.owned(router)
    router = flavors.applied(call, router, given)
    _check_zones(call, router.availability_zone_hints)
    hold_policy(call, router, None, router.external_gateway_info)
    if router.external_gateway_info is not None:
        made = connected(call, router, router.external_gateway_info, "create")
        router = with_gateways(router, [made])
    if "external_gateway_info" in given:
        # Clients that set gateways as a list do so after this request: then it is looked at.
        ndp_proxies.check_router(call, router)
    return router


def update(call: Call, old: Router, new: Router, given: frozenset[str]) -> Router:
    """Moves the gateway; checks the routes."""
    if "external_gateway_info" in given and new.external_gateway_info != old.external_gateway_info:
        hold_policy(call, new, old.external_gateway_info, new.external_gateway_info)
        wanted, new = new.enable_ndp_proxy, _with_gateway(call, old, new)
        new = replace(new, enable_ndp_proxy=wanted) if "enable_ndp_proxy" in given else new
    if (new.enable_ndp_proxy, new.external_gateway_info) != (old.enable_ndp_proxy, old.external_gateway_info):
        ndp_proxies.check_router(call, new)
    if new.ha != old.ha:
        new = rehosted(call, new, carriers(call.tx))
    if new.routes != old.routes:
        check_routes(call, new, new.routes)
    return new


def delete(call: Call, router: Router) -> None:
    """Refuses while a network is attached."""
    if interfaces(call, router.id):
        raise InUse(f"Router {router.id} still has ports.", type="RouterInUse")
    for gateway in gateways_of(router):
        disconnect(call, router, gateway, [])


def interfaces(call: Call, router_id: str) -> list[Port]:
    """The router's legs on tenants' networks."""
    return call.tx.find(Port, device_id=router_id, device_owner=ROUTER_INTERFACE)


def subnets_behind(call: Call, ports: Sequence[Port]) -> list[Subnet]:
    """The subnets that legs are on."""
    found = (call.tx.get(Subnet, f.subnet_id or "") for port in ports for f in port.fixed_ips)
    return [subnet for subnet in found if subnet is not None]


def check_routes(call: Call, router: Router, routes: Sequence[HostRoute]) -> None:
    """That every next hop can be reached, and is not the router itself.

    Raises:
        BadRequest: InvalidRoutes.
    """
    legs = interfaces(call, router.id)
    outside = (call.tx.get(Port, gateway.port_id) for gateway in gateways_of(router))
    legs += [port for port in outside if port is not None]
    own = {f.ip_address for leg in legs for f in leg.fixed_ips}
    ranges = [subnet.cidr for subnet in subnets_behind(call, legs)]
    for route in routes:
        if not any(ipam.contains(cidr, route.nexthop) for cidr in ranges):
            raise _invalid_routes(routes, "the nexthop is not connected with router")
        if route.nexthop in own:
            raise _invalid_routes(routes, "the nexthop is used by router")


def carriers(reader: Reader) -> list[tuple[Host, str]]:
    """The hosts that may carry gateways, each with its availability zone."""
    hosts = reader.find(Host, carries_gateways=True)
    zone_of = zones(reader, hosts)
    return [(host, zone_of[host.id]) for host in hosts]


def gateway_hosts(router: Router, network: Network, there: Sequence[tuple[Host, str]]) -> list[str]:
    """Those of these hosts that may carry a router's gateway on a network, the most wanted first."""
    wanted = router.availability_zone_hints
    fit = [host.id for host, zone in there if carries(host, network) and (not wanted or zone in wanted)]
    found = gateways.order(router.id, fit)
    return found if router.ha else found[:1]


def carries(host: Host, network: Network) -> bool:
    """Whether a host can carry a gateway on the network."""
    return network.physical_network is None or network.physical_network in host.physical_networks


def rehosted(call: Call, router: Router, there: Sequence[tuple[Host, str]]) -> Router:
    """The router with the hosts of its gateways chosen anew."""
    found = []
    for gateway in gateways_of(router):
        network = call.tx.get(Network, gateway.info.network_id or "")
        hosts = gateway.hosts if network is None else gateway_hosts(router, network, there)
        found.append(replace(gateway, hosts=hosts))
    return with_gateways(router, found)


def zone_view(reader: Reader, context: Context, routers: Sequence[Router]) -> list[Mapping[str, Any]]:
    """The availability zones of the hosts that may carry a router's gateway."""
    names = {name for router in routers for gateway in gateways_of(router) for name in gateway.hosts}
    hosts = [host for name in names if (host := reader.get(Host, name)) is not None]
    zone_of = zones(reader, hosts) if hosts else {}
    return [
        {
            "availability_zones": sorted(
                {zone_of[name] for g in gateways_of(router) for name in g.hosts if name in zone_of}
            )
        }
        for router in routers
    ]


def reschedule(call: Call) -> int:
    """Chooses the hosts of all gateways anew, after hosts changed. Returns how many routers did.

    Called by the cloud itself, in a transaction of its own.
    """
    changed = 0
    for host in call.tx.find(Host):
        if host.wired != host.physical_networks:
            call.tx.replace(replace(host, wired=host.physical_networks))
    there = carriers(call.tx)
    for router in call.tx.select(Router):
        new = rehosted(call, router, there)
        if new != router:
            call.tx.replace(new)
            changed += 1
    return changed


def with_gateways(router: Router, found: Sequence[GatewayPort]) -> Router:
    """The router with these gateways, the first one first. With another first one, it is no NDP proxy."""
    if not found:
        return replace(
            router,
            external_gateway_info=None,
            gateway_port_id="",
            gateway_hosts=[],
            more_gateways=[],
            enable_ndp_proxy=False,
        )
    first, *more = found
    return replace(
        router,
        enable_ndp_proxy=router.enable_ndp_proxy and router.gateway_port_id in ("", first.port_id),
        external_gateway_info=first.info,
        gateway_port_id=first.port_id,
        gateway_hosts=first.hosts,
        more_gateways=more,
    )


def _with_gateway(call: Call, old: Router, new: Router) -> Router:
    info, before = new.external_gateway_info, old.external_gateway_info
    first, more = gateways_of(old)[:1], old.more_gateways
    if first and info is not None and before is not None and info.network_id == before.network_id:
        return with_gateways(new, [changed(call, old, first[0], info), *more])
    for gateway in first:
        disconnect(call, old, gateway, more)
    if info is not None:
        return with_gateways(new, [connected(call, new, info, "update"), *more])
    new = with_gateways(new, more)
    check_routes(call, new, new.routes)
    return new


def changed(call: Call, router: Router, gateway: GatewayPort, info: Gateway) -> GatewayPort:
    """A gateway with other addresses on the same external network, or with SNAT switched."""
    _require(call, router, info, "update")
    addresses = list(gateway.info.external_fixed_ips or ())
    if info.external_fixed_ips is not None and info.external_fixed_ips != addresses:
        network = call.get(Network, info.network_id or "")
        port = call.tx.get(Port, gateway.port_id)
        assert port is not None
        addresses = addressing.assign(
            call,
            network,
            port.id,
            port.mac_address,
            ROUTER_GATEWAY,
            info.external_fixed_ips,
            held=port.fixed_ips,
        )
        call.save(replace(port, fixed_ips=addresses))
    # What a request leaves out goes back to its default, as everywhere in this object.
    snat = True if info.enable_snat is None else info.enable_snat
    return replace(gateway, info=replace(info, enable_snat=snat, external_fixed_ips=addresses))


def connected(call: Call, router: Router, info: Gateway, verb: str) -> GatewayPort:
    """A new gateway of a router, with its port on the external network."""
    network = call.get(Network, info.network_id or "")
    if not network.external:
        raise BadRequest(
            f"Bad router request: Network {network.id} is not an external network.",
            type="BadRequest",
            field="external_gateway_info",
        )
    _require(call, router, info, verb)
    _refuse_overlap(call, router, network)
    id = str(uuid.uuid4())
    mac = addressing.claim_mac(call, network.id, id, "")
    addresses = addressing.assign(call, network, id, mac, ROUTER_GATEWAY, info.external_fixed_ips)
    if not addresses:
        raise BadRequest(
            f"Bad router request: No IPs available for external network {network.id}: it has no subnet.",
            type="BadRequest",
            field="external_gateway_info",
        )
    port = call.add(
        Port(
            id=id,
            project_id="",
            network_id=network.id,
            mac_address=mac,
            fixed_ips=addresses,
            device_owner=ROUTER_GATEWAY,
            device_id=router.id,
            port_security_enabled=False,
        )
    )
    snat = True if info.enable_snat is None else info.enable_snat
    return GatewayPort(
        port_id=port.id,
        hosts=gateway_hosts(router, network, carriers(call.tx)),
        info=replace(info, enable_snat=snat, external_fixed_ips=addresses),
    )


def hold_policy(call: Call, router: Router, old: Gateway | None, new: Gateway | None) -> None:
    """The QoS policy of a gateway is held by its router."""
    before, after = (None if info is None else info.qos_policy_id for info in (old, new))
    if after is not None:
        call.get(QosPolicy, after)
    qos.hold(call, router, before, after)


def disconnect(call: Call, router: Router, gateway: GatewayPort, others: Sequence[GatewayPort]) -> None:
    """Takes a gateway away.

    Args:
        others: the gateways that stay.
    Raises:
        InUse: a floating IP or an NDP proxy needs it.
    """
    ndp_proxies.refuse_unset(call, router, gateway)
    network = gateway.info.network_id
    users = [f for f in floatingips.through(call, router.id) if f.floating_network_id == network]
    if users and all(other.info.network_id != network for other in others):
        raise InUse(
            f"Gateway cannot be updated for router {router.id}, since a gateway to external network "
            f"{network} is required by one or more floating IPs, as {users[0].id}.",
            type="RouterExternalGatewayInUseByFloatingIp",
        )
    port = call.tx.get(Port, gateway.port_id)
    if port is not None:
        call.drop(port)


def _check_zones(call: Call, names: Sequence[str]) -> None:
    if names:
        there = set(zones(call.tx, call.tx.select(Host)).values())
        for name in names:
            if name not in there:
                raise NotFound(
                    f"AvailabilityZone {name} could not be found.",
                    type="AvailabilityZoneNotFound",
                    field="availability_zone_hints",
                )


def _require(call: Call, router: Router, info: Gateway, verb: str) -> None:
    target: dict[str, Any] = {}
    for name in ("enable_snat", "external_fixed_ips"):
        if getattr(info, name) is not None:
            target = target or call.engine.target(call.tx, router)
            call.require(f"{verb}_router:external_gateway_info:{name}", target)


def _refuse_overlap(call: Call, router: Router, network: Network) -> None:
    inside = subnets_behind(call, interfaces(call, router.id))
    for outer in addressing.subnets_of(call, network):
        for subnet in inside:
            if ipam.overlap(subnet.cidr, outer.cidr):
                raise overlapping(outer, subnet)


def overlapping(one: Subnet, other: Subnet) -> BadRequest:
    """The error that two subnets of one router have addresses in common."""
    return BadRequest(
        f"Bad router request: Cidr {one.cidr} of subnet {one.id} overlaps with cidr {other.cidr} of subnet "
        f"{other.id}.",
        type="BadRequest",
    )


def _invalid_routes(routes: Sequence[HostRoute], reason: str) -> BadRequest:
    shown = [{"destination": r.destination, "nexthop": r.nexthop} for r in routes[:5]]
    return BadRequest(f"Invalid format for routes: {shown}, {reason}.", type="InvalidRoutes", field="routes")
