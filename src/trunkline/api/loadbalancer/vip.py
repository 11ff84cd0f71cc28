"""The address of a load balancer: a port of its own, or one that it is given."""

from __future__ import annotations

import ipaddress
from typing import Any

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import ports
from trunkline.errors import BadField, BadRequest, Conflict, Refusal
from trunkline.plan import ipam
from trunkline.resources.loadbalancer import LoadBalancer
from trunkline.resources.network import FixedIp, Network, Port, Subnet

OWNER = "Octavia"


def claim(call: Call, balancer: LoadBalancer) -> LoadBalancer:
    """Gives a new load balancer its address and the port that holds it.

    Raises:
        BadRequest, BadField: what is given does not fit together. NotFound: there is no such thing.
        Conflict: the address or the port is somebody else's.
    """
    if balancer.vip_port_id:
        return _given(call, balancer, call.get(Port, balancer.vip_port_id))
    if balancer.vip_subnet_id:
        subnet = call.get(Subnet, balancer.vip_subnet_id)
        if balancer.vip_network_id not in (None, subnet.network_id):
            raise BadField(
                "vip_subnet_id", f"it is a subnet of network {subnet.network_id}. Name one of them."
            )
    elif balancer.vip_network_id:
        subnet = _chosen(call, call.get(Network, balancer.vip_network_id), balancer.vip_address)
    else:
        raise BadRequest(
            "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.", field="vip_subnet_id"
        )
    return _made(call, balancer, subnet)


def release(call: Call, balancer: LoadBalancer) -> None:
    """The port goes, where it was made for the load balancer."""
    port = call.tx.get(Port, balancer.vip_port_id) if balancer.vip_port_id else None
    if port is not None and balancer.vip_made:
        ports.delete(call, port)
        call.drop(port)


def _chosen(call: Call, network: Network, address: str | None) -> Subnet:
    """The subnet of the address, or the first one, of IPv4 where there is one."""
    there = sorted(
        call.tx.find(Subnet, network_id=network.id), key=lambda s: (s.ip_version, s.created_at, s.id)
    )
    if address is not None:
        there = [s for s in there if ipaddress.ip_address(address) in ipaddress.ip_network(s.cidr)]
        if not there:
            raise BadField("vip_address", f"{address} is of no subnet of network {network.id}.")
    if not there:
        raise BadField("vip_network_id", f"network {network.id} has no subnet. Create one first.")
    return there[0]


def _made(call: Call, balancer: LoadBalancer, subnet: Subnet) -> LoadBalancer:
    if balancer.vip_address is not None and not ipam.is_host(subnet.cidr, balancer.vip_address):
        raise BadField("vip_address", f"{balancer.vip_address} is no address of subnet {subnet.cidr}.")
    fields: dict[str, Any] = {
        "project_id": balancer.project_id,
        "name": f"octavia-lb-{balancer.id}",
        "network_id": subnet.network_id,
        "fixed_ips": [FixedIp(subnet_id=subnet.id, ip_address=balancer.vip_address)],
        "device_owner": OWNER,
        "device_id": f"lb-{balancer.id}",
        "security_groups": [],
    }
    field = "vip_address" if balancer.vip_address else "vip_subnet_id"
    try:
        port = call.create(Port, fields)
    except Refusal as refusal:
        problem = f"Invalid input for {field}: {refusal.message}"
        raise type(refusal)(problem, type=refusal.type, field=field) from None
    return _with(replace(balancer, vip_made=True), port, port.fixed_ips[0])


def _given(call: Call, balancer: LoadBalancer, port: Port) -> LoadBalancer:
    """A port that is there: of the same project, with an address, and of nothing else yet."""
    field = "vip_port_id"
    if port.project_id != balancer.project_id:
        raise BadField(field, f"port {port.id} is not of project {balancer.project_id}. Use one of its own.")
    if (
        port.device_id
        or port.device_owner
        or port.host_id
        or call.tx.count(LoadBalancer, vip_port_id=port.id)
    ):
        raise Conflict(
            f"Invalid input for {field}: port {port.id} is in use, by {port.device_owner or 'another'}. "
            "Use one that is not.",
            type="VIPInUse",
            field=field,
        )
    if balancer.vip_network_id not in (None, port.network_id):
        raise BadField("vip_network_id", f"port {port.id} is on network {port.network_id}. Leave it out.")
    fitting = [
        fixed
        for fixed in port.fixed_ips
        if balancer.vip_subnet_id in (None, fixed.subnet_id)
        and balancer.vip_address in (None, fixed.ip_address)
    ]
    if not fitting:
        raise BadField(field, f"port {port.id} has no such address. Leave out vip_address and vip_subnet_id.")
    return _with(balancer, port, fitting[0])


def _with(balancer: LoadBalancer, port: Port, fixed: FixedIp) -> LoadBalancer:
    return replace(
        balancer,
        vip_port_id=port.id,
        vip_network_id=port.network_id,
        vip_subnet_id=fixed.subnet_id,
        vip_address=fixed.ip_address,
    )
