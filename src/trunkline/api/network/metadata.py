"""The port by which a network's servers reach the metadata service, from the same host alone."""

from __future__ import annotations

import uuid

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import addressing
from trunkline.resources.network import METADATA, FixedIp, Network, Port, Subnet


def port_of(call: Call, network_id: str) -> Port | None:
    """The metadata port of a network."""
    return call.tx.first(Port, network_id=network_id, device_owner=METADATA)


def follow(call: Call, network: Network, leaving: str = "") -> None:
    """Brings the metadata port in line with the subnets: an address on each that has DHCP.

    Args:
        leaving: the id of a subnet that is being deleted.
    """
    subnets = [s for s in addressing.subnets_of(call, network) if s.enable_dhcp and s.id != leaving]
    port = port_of(call, network.id)
    if not subnets:
        if port is not None:
            call.drop(port)
        return
    if port is None:
        call.add(_with_addresses(call, network, _made(call, network), subnets))
    elif [f.subnet_id for f in port.fixed_ips] != [s.id for s in subnets]:
        call.save(_with_addresses(call, network, port, subnets))


def _with_addresses(call: Call, network: Network, port: Port, subnets: list[Subnet]) -> Port:
    held = {f.subnet_id: f for f in port.fixed_ips}
    wanted = [held.get(s.id, FixedIp(subnet_id=s.id)) for s in subnets]
    addresses = addressing.assign(
        call, network, port.id, port.mac_address, METADATA, wanted, held=port.fixed_ips
    )
    return replace(port, fixed_ips=addresses)


def _made(call: Call, network: Network) -> Port:
    id = str(uuid.uuid4())
    return Port(
        id=id,
        project_id=network.project_id,
        network_id=network.id,
        mac_address=addressing.claim_mac(call, network.id, id, ""),
        device_owner=METADATA,
        device_id=f"metadata-{network.id}",
        port_security_enabled=False,
    )
