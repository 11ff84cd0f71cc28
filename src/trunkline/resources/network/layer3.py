"""Routers and floating IPs."""

from __future__ import annotations

from typing import Annotated

from trunkline.resources.network import parts
from trunkline.resources.network.checks import Uuid
from trunkline.resources.network.dns import DnsDomain, RelativeName
from trunkline.resources.schema import (
    Check,
    changeable,
    computed,
    fixed,
    hidden,
    observed,
    resource,
    settable,
)
from trunkline.resources.standard import Standard
from trunkline.resources.types import IpAddress, Name


@resource(kind="router", plural="routers", service="network", quota=10)
class Router(Standard, kw_only=True):
    """A distributed router between networks, with a gateway to an external one."""

    #: A name for people.
    name: Annotated[Name, settable()] = ""
    #: Whether it forwards packets.
    admin_state_up: Annotated[bool, settable()] = True
    #: ACTIVE: it is part of what the backend is told to carry.
    status: Annotated[str, computed()] = "ACTIVE"
    #: Its leg on an external network; null or {} for none.
    external_gateway_info: Annotated[
        parts.Gateway | None, settable(filter=False, alias="ext-gw-mode"), Check(parts.gateway)
    ] = None
    #: Its static routes.
    routes: Annotated[
        list[parts.HostRoute], changeable(filter=False, alias="extraroute"), Check(parts.routes)
    ] = []
    #: Whether default routes lead by all of its gateways at once, not by the first one alone.
    enable_default_route_ecmp: Annotated[
        bool, settable(guarded_write=True, alias="enable-default-route-ecmp")
    ] = False
    #: Whether a default route is taken only while its next hop answers BFD (RFC 5880).
    enable_default_route_bfd: Annotated[
        bool, settable(guarded_write=True, alias="enable-default-route-bfd")
    ] = False
    #: Whether its gateway answers for the addresses that it has NDP proxies for, and lets in nothing to
    #: others of the external network's address scope. A router that is made without a gateway does so from
    #: its first one on.
    enable_ndp_proxy: Annotated[bool, settable(alias="l3-ext-ndp-proxy")] = False
    #: Whether floating IPs leave and come at the hosts of their servers, where these are connected to the
    #: external network, and not by the gateway.
    distributed: Annotated[bool, settable(guarded_read=True, guarded_write=True, alias="dvr")] = False
    #: The flavor that it was made like.
    flavor_id: Annotated[Uuid | None, fixed(index=True, refers="network_flavor", alias="l3-flavors")] = None
    #: The zones that its gateways are in: of none but hosts of these. Empty for all.
    availability_zone_hints: Annotated[
        list[str], fixed(filter=False, alias="router_availability_zone"), Check(parts.zones)
    ] = []
    #: Whether another host takes over when the one that carries its gateway dies.
    ha: Annotated[bool, settable(guarded_read=True, guarded_write=True, alias="l3-ha")] = True
    #: The port of its gateway.
    gateway_port_id: Annotated[str, hidden(index=True)] = ""
    #: The hosts that may carry its gateway, the most wanted first.
    gateway_hosts: Annotated[list[str], hidden()] = []
    #: Its gateways beside the first one.
    more_gateways: Annotated[list[parts.GatewayPort], hidden()] = []


def gateways_of(router: Router) -> list[parts.GatewayPort]:
    """All gateways of a router, the first one first."""
    info = router.external_gateway_info
    if info is None or not router.gateway_port_id:
        return []
    first = parts.GatewayPort(port_id=router.gateway_port_id, hosts=router.gateway_hosts, info=info)
    return [first, *router.more_gateways]


@resource(kind="floatingip", plural="floatingips", service="network", quota=50)
class FloatingIP(Standard, kw_only=True):
    """An external address that stands for a port's own, both ways."""

    #: The external network that the address is of.
    floating_network_id: Annotated[Uuid, fixed(required=True, index=True)] = ""
    #: The external address.
    floating_ip_address: Annotated[IpAddress | None, fixed(guarded_write=True, index=True)] = None
    #: The subnet to take the address from.
    subnet_id: Annotated[Uuid | None, fixed(shown=False, filter=False, sort=False, alias="router")] = None
    #: The port it stands for, or None.
    port_id: Annotated[Uuid | None, settable(index=True)] = None
    #: Which of the port's addresses.
    fixed_ip_address: Annotated[IpAddress | None, settable()] = None
    #: The router that translates.
    router_id: Annotated[str | None, computed(index=True)] = None
    #: ACTIVE where it was seen carried, else DOWN.
    status: Annotated[str, observed()] = "DOWN"
    #: The QoS policy that it obeys, instead of its network's.
    qos_policy_id: Annotated[Uuid | None, settable(index=True, refers="qos_policy", alias="qos-fip")] = None
    #: The name that its address has, told on all networks of the project.
    dns_name: Annotated[RelativeName, fixed(alias="dns-integration")] = ""
    #: What that name ends with, whole; empty for the region's domain.
    dns_domain: Annotated[DnsDomain, fixed(alias="dns-integration")] = ""
    #: The port that holds the address on the external network.
    floating_port_id: Annotated[str, hidden(index=True)] = ""
