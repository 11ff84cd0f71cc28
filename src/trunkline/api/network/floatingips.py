"""Floating IPs: an external address, and the port that it stands for."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.context import Context
from trunkline.api.engine import Call
from trunkline.api.network import addressing, common, qos
from trunkline.errors import BadRequest, Conflict, InUse, NotFound
from trunkline.plan import ipam
from trunkline.resources.network import (
    FLOATING_IP,
    ROUTER_INTERFACE,
    FixedIp,
    FloatingIP,
    Network,
    Port,
    PortForwarding,
    Router,
    Subnet,
    gateways_of,
)
from trunkline.store import Reader, table_of

#: What is shown of forwarded ports.
_FORWARDED = (
    "id",
    "internal_port_id",
    "internal_ip_address",
    "internal_port",
    "external_port",
    "protocol",
)


def create(call: Call, floating: FloatingIP, given: frozenset[str]) -> FloatingIP:
    """Takes an address of the external network, and ties it to a port if one is named."""
    common.owned(floating)
    network = call.get(Network, floating.floating_network_id)
    if not network.external:
        raise BadRequest(
            f"Network {network.id} is not a valid external network.",
            type="BadRequest",
            field="floating_network_id",
        )
    port = _hold_address(call, network, floating)
    qos.hold(call, floating, None, floating.qos_policy_id)
    address = _ipv4(port.fixed_ips)
    assert address is not None
    floating = replace(
        floating, floating_ip_address=address, floating_port_id=port.id, subnet_id=None, status="DOWN"
    )
    if floating.port_id is None and floating.fixed_ip_address is not None:
        raise _without_port()
    return _associated(call, floating) if floating.port_id else floating


def update(call: Call, old: FloatingIP, new: FloatingIP, given: frozenset[str]) -> FloatingIP:
    """Ties it to another port or address, or to none."""
    qos.hold(call, new, old.qos_policy_id, new.qos_policy_id)
    if given and not given & {"port_id", "fixed_ip_address"}:
        return new
    if not given or new.port_id is None:
        if "fixed_ip_address" in given and new.fixed_ip_address is not None:
            raise _without_port()
        if old.port_id is None:
            return new
        # In the first version of the API, a floating IP had nothing to change but its port: nothing is none.
        return replace(new, port_id=None, fixed_ip_address=None, router_id=None, status="DOWN")
    _refuse_forwarding(call, old)
    if "fixed_ip_address" not in given:
        same = new.port_id == old.port_id
        new = replace(new, fixed_ip_address=old.fixed_ip_address if same else None)
    new = _associated(call, new)
    same = (new.port_id, new.fixed_ip_address, new.router_id) == (
        old.port_id,
        old.fixed_ip_address,
        old.router_id,
    )
    return new if same else replace(new, status="DOWN")


def delete(call: Call, floating: FloatingIP) -> None:
    """Gives the address back."""
    _refuse_forwarding(call, floating)
    port = call.tx.get(Port, floating.floating_port_id)
    if port is not None:
        call.drop(port)


def view(reader: Reader, context: Context, objects: Sequence[FloatingIP]) -> list[Mapping[str, Any]]:
    """What the port is that each stands for, and which of its ports are forwarded."""
    forwardings = _forwardings(reader, [f.id for f in objects])
    ids = list({f.port_id for f in objects if f.port_id})
    table = table_of(Port)
    ports: dict[str, Port] = {}
    for start in range(0, len(ids), 500):
        ports.update((p.id, p) for p in reader.select(Port, table.c.id.in_(ids[start : start + 500])))
    names = ("name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner")
    return [
        {
            "tenant_id": f.project_id,
            "qos_network_policy_id": policy,
            "port_details": None
            if f.port_id not in ports
            else {name: getattr(ports[f.port_id], name) for name in names},
            "port_forwardings": [
                {name: getattr(each, name) for name in _FORWARDED} for each in forwardings[f.id]
            ],
        }
        for f, policy in zip(objects, qos.of_networks(reader, objects), strict=True)
    ]


def _forwardings(reader: Reader, ids: Sequence[str]) -> Mapping[str, list[PortForwarding]]:
    found: dict[str, list[PortForwarding]] = {id: [] for id in ids}
    table = table_of(PortForwarding)
    for start in range(0, len(ids), 500):
        some = table.c.floatingip_id.in_(ids[start : start + 500])
        for each in reader.select(PortForwarding, some, order_by=[table.c.id]):
            found[each.floatingip_id].append(each)
    return found


def _refuse_forwarding(call: Call, floating: FloatingIP) -> None:
    """Refuses what cannot be done while ports are forwarded."""
    if forwardings := _forwardings(call.tx, [floating.id])[floating.id]:
        raise InUse(
            f"Floating IP {floating.floating_ip_address} ({floating.id}) forwards ports, as by "
            f"{forwardings[0].id}. Delete them first.",
            type="FipInUseByPortForwarding",
        )


def disassociate(call: Call, port: Port) -> None:
    """The floating IPs of a port that goes stand for nothing."""
    for floating in call.tx.find(FloatingIP, port_id=port.id):
        call.save(replace(floating, port_id=None, fixed_ip_address=None, router_id=None, status="DOWN"))


def refuse_without(call: Call, port: Port, gone: set[str | None]) -> None:
    """Refuses to take an address from a port that a floating IP stands for."""
    if not gone:
        return
    for floating in call.tx.find(FloatingIP, port_id=port.id):
        if floating.fixed_ip_address in gone:
            raise InUse(
                f"Address {floating.fixed_ip_address} of port {port.id} is in use by floating IP "
                f"{floating.id}. "
                "Disassociate it first.",
                type="PortInUse",
                field="fixed_ips",
            )


def through(call: Call, router_id: str) -> list[FloatingIP]:
    """The floating IPs that a router translates."""
    return call.tx.find(FloatingIP, router_id=router_id)


def _hold_address(call: Call, network: Network, floating: FloatingIP) -> Port:
    """The port that holds the address: of nobody, and with no wire."""
    if not any(s.ip_version == 4 for s in addressing.subnets_of(call, network)):
        raise BadRequest(
            f"Network {network.id} does not contain any IPv4 subnet.",
            type="BadRequest",
            field="floating_network_id",
        )
    wanted = _wanted_address(call, network, floating)
    id = str(uuid.uuid4())
    mac = addressing.claim_mac(call, network.id, id, "")
    addresses = addressing.assign(call, network, id, mac, FLOATING_IP, [wanted])
    return call.add(
        Port(
            id=id,
            project_id="",
            network_id=network.id,
            mac_address=mac,
            fixed_ips=addresses[:1],
            device_owner=FLOATING_IP,
            device_id=floating.id,
            port_security_enabled=False,
            status="N/A",
        )
    )


def _wanted_address(call: Call, network: Network, floating: FloatingIP) -> FixedIp:
    address = floating.floating_ip_address
    if address is not None and ipaddress.ip_address(address).version != 4:
        raise BadRequest(
            f"Invalid input for floating_ip_address: '{address}' is no IPv4 address.",
            type="InvalidInput",
            field="floating_ip_address",
        )
    subnets = [s for s in addressing.subnets_of(call, network) if s.ip_version == 4]
    if floating.subnet_id is not None:
        if all(s.id != floating.subnet_id for s in subnets):
            raise BadRequest(
                f"Invalid input for subnet_id: {floating.subnet_id} is no IPv4 subnet of network "
                f"{network.id}.",
                type="InvalidInput",
                field="subnet_id",
            )
        return FixedIp(subnet_id=floating.subnet_id, ip_address=address)
    if address is not None:
        return FixedIp(ip_address=address)
    meant = addressing.for_owner(subnets, FLOATING_IP) or subnets
    for subnet in meant:
        if _has_room(call, subnet):
            return FixedIp(subnet_id=subnet.id)
    return FixedIp(subnet_id=meant[0].id)


def _has_room(call: Call, subnet: Subnet) -> bool:
    scope = addressing.scope(subnet.id)
    found = ipam.choose(
        subnet.allocation_pools,
        lambda at_least, limit: call.tx.claimed(scope, at_least=at_least, limit=limit),
    )
    return found is not None


def _associated(call: Call, floating: FloatingIP) -> FloatingIP:
    """Tied to its port: which address, and by which router."""
    port = call.get(Port, floating.port_id or "")
    if port.project_id != floating.project_id and not call.context.is_admin:
        raise BadRequest(
            f"Cannot process floating IP association with port {port.id}, since that port is owned by a "
            "different project.",
            type="BadRequest",
            field="port_id",
        )
    fixed = choose_fixed(port, floating.fixed_ip_address)
    for other in call.tx.find(FloatingIP, port_id=port.id, fixed_ip_address=fixed.ip_address):
        if other.id != floating.id and other.floating_network_id == floating.floating_network_id:
            raise Conflict(
                f"Cannot associate floating IP {floating.floating_ip_address} ({floating.id}) with port "
                f"{port.id} using fixed IP {fixed.ip_address}, as that fixed IP already has a floating IP on "
                f"external network {floating.floating_network_id}.",
                type="FloatingIPPortAlreadyAssociated",
            )
    if call.tx.find(PortForwarding, internal_port_id=port.id, internal_ip_address=fixed.ip_address):
        raise Conflict(
            f"Cannot associate floating IP {floating.id} with port {port.id}: ports are forwarded to its "
            f"address {fixed.ip_address}.",
            type="PortHasPortForwarding",
            field="port_id",
        )
    router = router_for(call, floating, port, fixed)
    return replace(floating, fixed_ip_address=fixed.ip_address, router_id=router.id)


def choose_fixed(
    port: Port, wanted: str | None, fields: tuple[str, str] = ("port_id", "fixed_ip_address")
) -> FixedIp:
    """The IPv4 address of a port that is wanted, or its only one.

    Args:
        fields: what the request calls the port, and the address.
    Raises:
        BadRequest: it has not that one, none, or several.
    """
    if wanted is not None:
        for fixed in port.fixed_ips:
            if fixed.ip_address == wanted:
                if addressing.version(wanted) != 4:
                    break
                return fixed
        raise BadRequest(
            f"Port {port.id} does not have fixed ip {wanted}, or it is no IPv4 address.",
            type="BadRequest",
            field=fields[1],
        )
    candidates = [f for f in port.fixed_ips if f.ip_address and addressing.version(f.ip_address) == 4]
    if not candidates:
        raise BadRequest(
            f"Cannot add floating IP to port {port.id} that has no fixed IPv4 addresses.",
            type="BadRequest",
            field=fields[0],
        )
    if len(candidates) > 1:
        raise BadRequest(
            f"Port {port.id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when "
            "assigning a floating IP.",
            type="BadRequest",
            field=fields[1],
        )
    return candidates[0]


def router_for(call: Call, floating: FloatingIP, port: Port, fixed: FixedIp) -> Router:
    """The router between the port's subnet and the external network.

    Raises:
        NotFound: ExternalGatewayForFloatingIPNotFound.
    """
    legs = table_of(Port)
    subnet = call.tx.get(Subnet, fixed.subnet_id or "")
    gateway_holder = None
    if subnet is not None and subnet.gateway_ip is not None and ipam.contains(subnet.cidr, subnet.gateway_ip):
        gateway_holder = addressing.owner_of(call, subnet.id, subnet.gateway_ip)
    found: Router | None = None
    for leg in call.tx.select(
        Port,
        legs.c.network_id == port.network_id,
        legs.c.device_owner == ROUTER_INTERFACE,
        order_by=[legs.c.id],
    ):
        if all(f.subnet_id != fixed.subnet_id for f in leg.fixed_ips):
            continue
        router = call.tx.get(Router, leg.device_id)
        ways = [] if router is None else gateways_of(router)
        if all(way.info.network_id != floating.floating_network_id for way in ways):
            continue
        # The router that the port's own packets go to is the one that replies pass again.
        if found is None or leg.id == gateway_holder:
            found = router
    if found is None:
        raise NotFound(
            f"External network {floating.floating_network_id} is not reachable from subnet "
            f"{fixed.subnet_id}. "
            f"Therefore, cannot associate Port {port.id} with a Floating IP.",
            type="ExternalGatewayForFloatingIPNotFound",
        )
    return found


def _ipv4(addresses: Sequence[FixedIp]) -> str | None:
    for fixed in addresses:
        if fixed.ip_address is not None and addressing.version(fixed.ip_address) == 4:
            return fixed.ip_address
    return None


def _without_port() -> BadRequest:
    return BadRequest(
        "fixed_ip_address cannot be specified without a port_id.", type="BadRequest", field="fixed_ip_address"
    )
