"""Several gateways of one router: added, removed and changed as lists.

A gateway of a request is one of the router's where it has its network and, if it names addresses, one of
its addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import common, ndp_proxies, routers
from trunkline.errors import BadField
from trunkline.resources.network import Gateway, GatewayPort, Router, gateways_of
from trunkline.resources.network.parts import gateway as clean_gateway
from trunkline.resources.schema import convert
from trunkline.store import Reader

#: How many a router may have.
MOST = 8
_FIELD = "external_gateways"


class GatewayChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is inside the body of the verbs."""

    external_gateways: list[Gateway]


def view(reader: Reader, context: Context, objects: Sequence[Router]) -> list[Mapping[str, Any]]:
    """All gateways of each router."""
    tenants = common.tenants(reader, context, objects)
    return [
        {**each, _FIELD: [gateway.info for gateway in gateways_of(router)]}
        for each, router in zip(tenants, objects, strict=True)
    ]


def add(call: Call, router_id: str, body: Any) -> Router:
    """New gateways, after those that are there."""
    router, wanted = _parse(call, router_id, body, "add_external_gateways")
    return _added(call, router, gateways_of(router), wanted)


def remove(call: Call, router_id: str, body: Any) -> Router:
    """Takes gateways away; the first one of those that stay is the router's first then."""
    router, wanted = _parse(call, router_id, body, "remove_external_gateways")
    found = gateways_of(router)
    for info in wanted:
        gateway = _match(found, info)
        found.remove(gateway)
        routers.disconnect(call, router, gateway, found)
    return _saved(call, router, found)


def update(call: Call, router_id: str, body: Any) -> Router:
    """Other addresses, or SNAT switched. A gateway that has none of the addresses gets them.

    A router that has no gateway at all gets these: clients that set gateways know no other call.
    """
    router, wanted = _parse(call, router_id, body, "update_external_gateways")
    found = gateways_of(router)
    if not found:
        return _added(call, router, found, wanted)
    rest = list(found)
    pairs: list[tuple[Gateway, GatewayPort]] = []
    for fits in (_same_address, _same_network):
        for info in [i for i in wanted if all(i is not known for known, _ in pairs)]:
            gateway = next((g for g in rest if fits(g, info)), None)
            if gateway is not None:
                rest.remove(gateway)
                pairs.append((info, gateway))
    if len(pairs) < len(wanted):
        raise BadField(_FIELD, "the router has no such gateway. Add it instead.")
    new = {gateway.port_id: routers.changed(call, router, gateway, info) for info, gateway in pairs}
    return _saved(call, router, [new.get(gateway.port_id, gateway) for gateway in found])


def _parse(call: Call, router_id: str, body: Any, rule: str) -> tuple[Router, list[Gateway]]:
    if isinstance(body, dict) and body.get(_FIELD) == {}:
        body = {**body, _FIELD: []}  # The openstack command says so that it names none.
    given: GatewayChange = convert(body, GatewayChange, what="router")
    wanted = []
    for each in given.external_gateways:
        try:
            info = clean_gateway(each)
        except ValueError as error:
            raise BadField(_FIELD, str(error)) from None
        if info is None:
            raise BadField(_FIELD, "each needs a network_id.")
        wanted.append(info)
    router = call.get(Router, router_id)
    call.require(rule, call.engine.target(call.tx, router))
    return router, wanted


def _added(call: Call, router: Router, found: Sequence[GatewayPort], wanted: Sequence[Gateway]) -> Router:
    if len(found) + len(wanted) > MOST:
        raise BadField(_FIELD, f"a router has at most {MOST} gateways.")
    new = [routers.connected(call, router, info, "update") for info in wanted]
    return _saved(call, router, [*found, *new])


def _saved(call: Call, router: Router, found: Sequence[GatewayPort]) -> Router:
    for gateway in found[1:]:
        if gateway.info.qos_policy_id is not None:
            raise BadField(_FIELD, "only the first gateway can have a QoS policy. Leave qos_policy_id out.")
    new = routers.with_gateways(router, found)
    if new == router:
        return router
    routers.hold_policy(call, router, router.external_gateway_info, new.external_gateway_info)
    ndp_proxies.check_router(call, new)
    routers.check_routes(call, new, new.routes)
    return call.save(new)


def _match(found: Sequence[GatewayPort], info: Gateway) -> GatewayPort:
    fits: Callable[[GatewayPort, Gateway], bool] = _same_address if _addresses(info) else _same_network
    gateway = next((g for g in found if fits(g, info)), None)
    if gateway is None:
        raise BadField(_FIELD, f"the router has no such gateway to network {info.network_id}.")
    return gateway


def _same_network(gateway: GatewayPort, info: Gateway) -> bool:
    return gateway.info.network_id == info.network_id


def _same_address(gateway: GatewayPort, info: Gateway) -> bool:
    return _same_network(gateway, info) and bool(_addresses(gateway.info) & _addresses(info))


def _addresses(info: Gateway) -> set[str | None]:
    return {fixed.ip_address for fixed in info.external_fixed_ips or ()} - {None}
