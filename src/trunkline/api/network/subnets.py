"""Subnets: ranges, pools, gateways, and how hosts get their addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.api.network import addressing, common, metadata, reach, segments, subnetpools
from trunkline.api.network.addressing import refuse_field
from trunkline.api.network.networks import check_mtu
from trunkline.errors import BadRequest, Conflict, InUse
from trunkline.plan import ipam
from trunkline.resources.network import (
    APPLIANCE,
    METADATA,
    ROUTER_INTERFACE,
    AllocationPool,
    Network,
    Port,
    Router,
    Subnet,
)


def create(call: Call, subnet: Subnet, given: frozenset[str]) -> Subnet:
    """Checks a new range against the network's others, and fills in gateway and pools."""
    common.owned(subnet)
    network = call.get(Network, subnet.network_id)
    call.require("create_subnet:network_id", call.engine.target(call.tx, subnet))
    subnet = subnetpools.cut(call, subnet, given)
    if ipaddress.ip_network(subnet.cidr).version != subnet.ip_version:
        raise refuse_field(
            "cidr", f"'{subnet.cidr}' is no range of IPv{subnet.ip_version}, as ip_version says."
        )
    others = call.tx.find(Subnet, network_id=network.id)
    for other in others:
        if ipam.overlap(subnet.cidr, other.cidr):
            raise refuse_field(
                "cidr",
                f"Requested subnet with cidr: {subnet.cidr} for network: {network.id} overlaps with another "
                f"subnet, {other.id} with {other.cidr}.",
            )
    segments.check_subnet(call, network, subnet, others)
    check_mtu(network, [subnet])
    _check_modes(subnet)
    if "gateway_ip" not in given:
        subnet = replace(subnet, gateway_ip=ipam.default_gateway(subnet.cidr))
    if "allocation_pools" not in given:
        subnet = replace(subnet, allocation_pools=ipam.default_pools(subnet.cidr, subnet.gateway_ip))
    _check(subnet)
    return subnet


def created(call: Call, subnet: Subnet) -> None:
    """Tells the network, its metadata port, and hosts that now form an address here by themselves."""
    network = call.tx.get(Network, subnet.network_id)
    assert network is not None
    adjacent = network.l2_adjacency and subnet.segment_id is None
    network = replace(network, subnets=[*network.subnets, subnet.id], l2_adjacency=adjacent)
    network = call.save(network)
    if addressing.is_automatic(subnet):
        for port in call.tx.find(Port, network_id=network.id):
            own = port.device_owner.startswith("network:")
            if not own and reach.forms(call, network, subnet, port):
                fixed = addressing.claim_automatic(call, network, subnet, port.id, port.mac_address)
                call.save(replace(port, fixed_ips=[*port.fixed_ips, fixed]))
    metadata.follow(call, network)


def update(call: Call, old: Subnet, new: Subnet, given: frozenset[str]) -> Subnet:
    """Refuses what ports on the subnet could not go on with."""
    if new.gateway_ip != old.gateway_ip:
        _refuse_gateway_move(call, old)
        if "allocation_pools" not in given:
            new = _without_gateway(old, new)
    _check_modes(new)
    _check(new)
    if new != old:
        network = call.tx.get(Network, new.network_id)
        assert network is not None
        if new.segment_id != old.segment_id:
            segments.check_move(call, network, old, new)
            network = replace(network, l2_adjacency=False)
        network = call.save(network)
        if new.enable_dhcp != old.enable_dhcp:
            # The metadata port reads the subnets as they are stored.
            call.tx.replace(new)
            metadata.follow(call, network)
    return new


def delete(call: Call, subnet: Subnet) -> None:
    """Refuses while a port has an address here that does not go with the subnet."""
    automatic = addressing.is_automatic(subnet)
    going = []
    for address, port_id in addressing.owners_on(call, subnet.id).items():
        port = call.tx.get(Port, port_id)
        if port is None:
            continue
        formed = automatic and not port.device_owner.startswith("network:")
        if port.device_owner != METADATA and not formed:
            raise InUse(
                f"Unable to complete operation on subnet {subnet.id}: One or more ports have an IP "
                "allocation "
                f"from this subnet, as port {port_id} with {address}.",
                type="SubnetInUse",
            )
        going.append(port)
    for port in going:
        if port.device_owner != METADATA:
            left = [f for f in port.fixed_ips if f.subnet_id != subnet.id]
            addressing.release(call, port.id, [f for f in port.fixed_ips if f.subnet_id == subnet.id])
            call.save(replace(port, fixed_ips=left))
    network = call.tx.get(Network, subnet.network_id)
    if network is not None:
        others = [s for s in call.tx.find(Subnet, network_id=network.id) if s.id != subnet.id]
        rest = [id for id in network.subnets if id != subnet.id]
        network = call.save(replace(network, subnets=rest, l2_adjacency=segments.adjacent(others)))
        metadata.follow(call, network, leaving=subnet.id)


def _without_gateway(old: Subnet, new: Subnet) -> Subnet:
    """Pools that were filled in by default follow the gateway."""
    if old.allocation_pools == ipam.default_pools(old.cidr, old.gateway_ip):
        return replace(new, allocation_pools=ipam.default_pools(new.cidr, new.gateway_ip))
    return new


def _check(subnet: Subnet) -> None:
    """That gateway, pools, name servers and routes fit the range."""
    _check_gateway(subnet)
    _check_pools(subnet)
    for server in subnet.dns_nameservers:
        if addressing.version(server) != subnet.ip_version:
            raise refuse_field("dns_nameservers", f"'{server}' is no address of IPv{subnet.ip_version}.")
    for route in subnet.host_routes:
        if addressing.version(route.nexthop) != subnet.ip_version:
            raise refuse_field("host_routes", f"'{route.nexthop}' is no address of IPv{subnet.ip_version}.")
    if subnet.enable_dhcp and subnet.ip_version == 4 and ipaddress.ip_network(subnet.cidr).prefixlen > 30:
        raise refuse_field(
            "cidr", "a subnet with DHCP has a prefix length of 30 or less. Disable DHCP on it."
        )


def _check_gateway(subnet: Subnet) -> None:
    gateway = subnet.gateway_ip
    if gateway is None:
        return
    if addressing.version(gateway) != subnet.ip_version:
        raise refuse_field("gateway_ip", f"'{gateway}' is no address of IPv{subnet.ip_version}.")
    if subnet.ip_version == 6 and ipaddress.ip_address(gateway).is_link_local:
        return
    network = ipaddress.ip_network(subnet.cidr)
    if not ipam.is_host(subnet.cidr, gateway) and ipaddress.ip_address(gateway) != network.network_address:
        raise refuse_field("gateway_ip", f"the gateway {gateway} is not in {subnet.cidr}.")
    if subnet.ip_version == 4 and not ipam.is_host(subnet.cidr, gateway):
        raise refuse_field("gateway_ip", f"{gateway} is the address of the range {subnet.cidr} itself.")


def _check_pools(subnet: Subnet) -> None:
    for pool in subnet.allocation_pools:
        text = f"{pool.start}-{pool.end}"
        if addressing.version(pool.start) != subnet.ip_version:
            raise BadRequest(
                f"The allocation pool {text} is not valid: it is no range of IPv{subnet.ip_version}.",
                type="InvalidAllocationPool",
                field="allocation_pools",
            )
        if not (ipam.is_host(subnet.cidr, pool.start) and ipam.is_host(subnet.cidr, pool.end)):
            raise BadRequest(
                f"The allocation pool {text} spans beyond the subnet cidr {subnet.cidr}.",
                type="OutOfBoundsAllocationPool",
                field="allocation_pools",
            )
        if subnet.gateway_ip is not None and ipam.covers(pool, subnet.gateway_ip):
            raise Conflict(
                f"Gateway ip {subnet.gateway_ip} conflicts with allocation pool {text}.",
                type="GatewayConflictWithAllocationPools",
                field="allocation_pools",
            )
    _check_disjoint(subnet.allocation_pools)


def _check_disjoint(pools: Sequence[AllocationPool]) -> None:
    for one, other in pairwise(sorted(pools, key=lambda pool: int(ipaddress.ip_address(pool.start)))):
        if int(ipaddress.ip_address(other.start)) <= int(ipaddress.ip_address(one.end)):
            raise Conflict(
                f"Found overlapping allocation pools: {one.start}-{one.end} and {other.start}-{other.end}.",
                type="OverlappingAllocationPools",
                field="allocation_pools",
            )


def _check_modes(subnet: Subnet) -> None:
    """That the IPv6 modes fit together (and the range fits them: RFC 4862 forms 64 bits)."""
    ra_mode, address_mode = subnet.ipv6_ra_mode, subnet.ipv6_address_mode
    if ra_mode is None and address_mode is None:
        return
    field = "ipv6_ra_mode" if ra_mode else "ipv6_address_mode"
    if subnet.ip_version != 6:
        raise refuse_field(field, "it is for subnets with ip_version 6.")
    if not subnet.enable_dhcp:
        raise refuse_field(field, "it cannot be set with enable_dhcp false.")
    if ra_mode and address_mode and ra_mode != address_mode:
        raise refuse_field(
            "ipv6_address_mode", f"ipv6_ra_mode set to '{ra_mode}' does not go with '{address_mode}'."
        )
    prefix = ipaddress.ip_network(subnet.cidr).prefixlen
    if (ra_mode in addressing.AUTOMATIC or address_mode in addressing.AUTOMATIC) and prefix != 64:
        raise refuse_field("cidr", f"hosts form their addresses in a range of length 64, not {prefix}.")


def _refuse_gateway_move(call: Call, subnet: Subnet) -> None:
    if subnet.gateway_ip is None or not ipam.contains(subnet.cidr, subnet.gateway_ip):
        return
    owner = addressing.owner_of(call, subnet.id, subnet.gateway_ip)
    port = call.tx.get(Port, owner) if owner else None
    owned = port is not None and port.device_owner == ROUTER_INTERFACE and call.tx.get(Router, port.device_id)
    if port is not None and (owned or port.device_owner == APPLIANCE):
        raise InUse(
            f"Current gateway ip {subnet.gateway_ip} already in use by port {port.id}. Unable to update.",
            type="GatewayIpInUse",
            field="gateway_ip",
        )
