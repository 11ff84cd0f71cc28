"""Neighbour discovery proxies: which routers can be one, and for which addresses.

Both sides of the router are in one address scope, or what is answered for could not be routed as it is.
The proxies of a router are behind its first gateway.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import addressing, common
from trunkline.errors import BadRequest, Conflict, Forbidden, InUse
from trunkline.resources.network import (
    ROUTER_INTERFACE,
    FixedIp,
    GatewayPort,
    NdpProxy,
    Port,
    Router,
    Subnet,
    SubnetPool,
)


def create(call: Call, proxy: NdpProxy, given: frozenset[str]) -> NdpProxy:
    """Finds the address, and holds it: on one external network one router answers for it.

    Raises:
        Forbidden: the port is another project's.
        BadRequest: the port has no such address, or it is not behind the router.
        Conflict: PortUnreachableRouter, RouterNDPProxyNotEnable, AddressScopeConflict, NDPProxyInUse.
    """
    common.owned(proxy)
    router, port = call.get(Router, proxy.router_id), call.get(Port, proxy.port_id)
    if port.project_id != proxy.project_id and not call.context.is_admin:
        raise Forbidden(
            f"Port {port.id} is another project's: only its owner has it reached from outside.",
            field="port_id",
        )
    if not router.enable_ndp_proxy or router.external_gateway_info is None:
        raise Conflict(
            f"The enable_ndp_proxy parameter of router {router.id} must be set as True, and it must have "
            "a gateway, while creating an NDP proxy on it.",
            type="RouterNDPProxyNotEnable",
            field="router_id",
        )
    fixed = _choose(call, router, port, proxy.ip_address)
    network_id = router.external_gateway_info.network_id or ""
    outer, inner = network_scope(call, network_id), _scope(call, fixed.subnet_id)
    if outer != inner:
        raise Conflict(
            f"The IPv6 address scope {outer} of the external network is not that of {fixed.ip_address}, "
            f"{inner}: take its subnet from a pool of the same scope.",
            type="AddressScopeConflict",
            field="port_id",
        )
    assert fixed.ip_address is not None
    if not call.tx.claim(f"ndp-proxy:{network_id}", fixed.ip_address, proxy.id):
        raise Conflict(
            f"There is an NDP proxy for {fixed.ip_address} on external network {network_id} already.",
            type="NDPProxyInUse",
            field="ip_address",
        )
    return replace(proxy, ip_address=fixed.ip_address)


def _choose(call: Call, router: Router, port: Port, wanted: str | None) -> FixedIp:
    """The address of a port that is wanted, or its first one that the router reaches."""
    candidates = [f for f in port.fixed_ips if f.ip_address and addressing.version(f.ip_address) == 6]
    legs = call.tx.find(Port, device_id=router.id, device_owner=ROUTER_INTERFACE)
    reached = {f.subnet_id for leg in legs for f in leg.fixed_ips}
    if wanted is not None:
        fixed = next((f for f in candidates if f.ip_address == wanted), None)
        if fixed is None or fixed.subnet_id not in reached:
            reason = f"it is no address of port {port.id}"
            if fixed is not None:
                reason = f"router {router.id} has no leg on its subnet"
            raise BadRequest(
                f"The address {wanted} is invalid, reason: {reason}.",
                type="InvalidAddress",
                field="ip_address",
            )
        return fixed
    fixed = next((f for f in candidates if f.subnet_id in reached), None)
    if fixed is None:
        raise Conflict(
            f"The port {port.id} cannot reach the router {router.id} by an IPv6 subnet.",
            type="PortUnreachableRouter",
            field="port_id",
        )
    return fixed


def check_router(call: Call, router: Router) -> None:
    """That a router that is to be a proxy has an IPv6 gateway in an address scope.

    Raises:
        Conflict: RouterGatewayNotValid.
    """
    if not router.enable_ndp_proxy:
        return
    info = router.external_gateway_info
    if info is None:
        reason = "it has no external gateway"
    elif all(":" not in (f.ip_address or "") for f in info.external_fixed_ips or ()):
        reason = "its gateway has no IPv6 address"
    elif network_scope(call, info.network_id or "") is None:
        reason = f"external network {info.network_id} is of no IPv6 address scope"
    else:
        return
    raise Conflict(
        f"Can not enable ndp proxy on router {router.id}: {reason}.",
        type="RouterGatewayNotValid",
        field="enable_ndp_proxy",
    )


def network_scope(call: Call, network_id: str) -> str | None:
    """The IPv6 address scope of a network."""
    subnets = call.tx.find(Subnet, network_id=network_id, ip_version=6)
    return next((scope for subnet in subnets if (scope := _scope(call, subnet.id)) is not None), None)


def _scope(call: Call, subnet_id: str | None) -> str | None:
    subnet = call.tx.get(Subnet, subnet_id or "")
    pool = call.tx.get(SubnetPool, subnet.subnetpool_id) if subnet and subnet.subnetpool_id else None
    return pool.address_scope_id if pool is not None else None


def through(call: Call, router_id: str) -> list[NdpProxy]:
    """The proxies of a router."""
    return call.tx.find(NdpProxy, router_id=router_id)


def refuse_unset(call: Call, router: Router, gateway: GatewayPort) -> None:
    """Refuses to take the gateway away that proxies are behind."""
    if gateway.port_id == router.gateway_port_id and (users := through(call, router.id)):
        raise InUse(
            f"Unable to unset external gateway of router {router.id}: NDP proxies are in use on it, as "
            f"{users[0].id}. Delete them first.",
            type="RouterGatewayInUseByNDPProxy",
        )


def refuse_without(call: Call, port: Port, gone: Collection[str | None]) -> None:
    """Refuses to take an address from a port that there is a proxy for."""
    for proxy in call.tx.find(NdpProxy, port_id=port.id) if gone else ():
        if proxy.ip_address in gone:
            raise InUse(
                f"Address {proxy.ip_address} of port {port.id} is in use by NDP proxy {proxy.id}. Delete it "
                "first.",
                type="PortInUse",
                field="fixed_ips",
            )


def leave(call: Call, port: Port) -> None:
    """The proxies of a port that goes go with it."""
    for proxy in call.tx.find(NdpProxy, port_id=port.id):
        call.drop(proxy)
