"""The objects inside fields of network resources, and the checks of lists of them."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from trunkline.resources.network.checks import (
    DHCP_OPTIONS,
    address_or_prefix,
    clean_uuid,
    no_control,
    normal_prefix,
)
from trunkline.resources.types import ip_address, mac_address

P = TypeVar("P", bound="Part")
NetworkType = Literal["geneve", "vxlan", "flat", "vlan"]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the objects inside fields."""


class Wire(
    Part,
    frozen=True,
    kw_only=True,
    rename={
        "network_type": "provider:network_type",
        "physical_network": "provider:physical_network",
        "segmentation_id": "provider:segmentation_id",
    },
):
    """What carries a network, or one segment of it. A VLAN without an id gets a free one."""

    network_type: NetworkType
    physical_network: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    segmentation_id: int | None = None


class FixedIp(Part, frozen=True, kw_only=True):
    """An address of a port. A request gives the subnet, the address or both; stored are both."""

    subnet_id: str | None = None
    ip_address: str | None = None


class AllocationPool(Part, frozen=True, kw_only=True):
    """Addresses that are handed out, the first and the last included."""

    start: str
    end: str


class HostRoute(Part, frozen=True, kw_only=True):
    """A static route: of the hosts of a subnet, or of a router."""

    destination: str
    nexthop: str


class AddressPair(Part, frozen=True, kw_only=True):
    """What a port may send from beside its own: an address or a prefix, and a MAC (the port's if none)."""

    ip_address: str
    mac_address: str | None = None


class ExtraDhcpOption(Part, frozen=True, kw_only=True):
    """A DHCP option of one port. In an update, no value removes the option."""

    opt_name: str
    opt_value: str | None = None
    ip_version: Literal[4, 6] = 4


class Binding(Part, frozen=True, kw_only=True):
    """A host that a port is prepared on, beside the one where it is."""

    host: str
    vnic_type: Literal["normal"] = "normal"
    profile: dict[str, Any] = {}


class PortAssociation(Part, frozen=True, kw_only=True):
    """A port that a local IP leads to, by one of its addresses."""

    port_id: str
    address: str


class Gateway(Part, frozen=True, kw_only=True):
    """A router's leg on an external network. Stored with everything filled in."""

    network_id: str | None = None
    enable_snat: bool | None = None
    external_fixed_ips: list[FixedIp] | None = None
    qos_policy_id: str | None = None


class GatewayPort(Part, frozen=True, kw_only=True):
    """A router's gateway with what the cloud chose for it."""

    port_id: str
    #: The hosts that may carry it, the most wanted first.
    hosts: list[str] = []
    info: Gateway


def fixed_ips(values: list[FixedIp]) -> list[FixedIp]:
    """Each names a subnet or an address; no address twice."""
    if len(values) > 32:
        raise ValueError("at most 32 addresses.")
    result = []
    for value in values:
        if value.subnet_id is None and value.ip_address is None:
            raise ValueError("each needs a subnet_id or an ip_address.")
        result.append(
            FixedIp(
                subnet_id=None if value.subnet_id is None else clean_uuid(value.subnet_id),
                ip_address=None if value.ip_address is None else ip_address(value.ip_address),
            )
        )
    addresses = [v.ip_address for v in result if v.ip_address is not None]
    if len(set(addresses)) < len(addresses):
        raise ValueError("an IP address is given twice.")
    return result


def allocation_pools(values: list[AllocationPool]) -> list[AllocationPool]:
    """Each from its first to its last address, of one family."""
    if len(values) > 64:
        raise ValueError("at most 64 pools.")
    result = []
    for value in values:
        start, end = (
            ipaddress.ip_address(ip_address(value.start)),
            ipaddress.ip_address(ip_address(value.end)),
        )
        if start.version != end.version or int(start) > int(end):
            raise ValueError(f"the allocation pool {start}-{end} is not valid: its end is before its start.")
        result.append(AllocationPool(start=str(start), end=str(end)))
    return result


def wires(values: list[Wire]) -> list[Wire]:
    """Segments of a network, one or more."""
    if not 1 <= len(values) <= 64:
        raise ValueError("a network has 1 to 64 segments.")
    return values


def zones(values: list[str]) -> list[str]:
    """Names of availability zones; a repeated one is dropped."""
    if len(values) > 16:
        raise ValueError("at most 16 zones.")
    if not all(1 <= len(value) <= 255 for value in values):
        raise ValueError("the name of a zone has 1 to 255 characters.")
    return list(dict.fromkeys(values))


def routes(values: list[HostRoute]) -> list[HostRoute]:
    """Destinations as prefixes, next hops of the same family; no route twice."""
    if len(values) > 30:
        raise ValueError("at most 30 routes.")
    result = []
    for value in values:
        destination, nexthop = normal_prefix(value.destination), ip_address(value.nexthop)
        if ipaddress.ip_network(destination).version != ipaddress.ip_address(nexthop).version:
            raise ValueError(f"destination {destination} and nexthop {nexthop} are of different families.")
        result.append(HostRoute(destination=destination, nexthop=nexthop))
    if len(set(result)) < len(result):
        raise ValueError("a route is given twice.")
    return result


def address_pairs(values: list[AddressPair]) -> list[AddressPair]:
    """Up to 10 pairs, none twice."""
    if len(values) > 10:
        raise ValueError("at most 10 address pairs.")
    result = [
        AddressPair(
            ip_address=address_or_prefix(v.ip_address),
            mac_address=None if v.mac_address is None else mac_address(v.mac_address),
        )
        for v in values
    ]
    if len(set(result)) < len(result):
        raise ValueError("an address pair is given twice.")
    return result


def dhcp_options(values: list[ExtraDhcpOption]) -> list[ExtraDhcpOption]:
    """Options that the cloud's DHCP service can send, by name; values without control characters."""
    if len(values) > 32:
        raise ValueError("at most 32 options.")
    result = []
    for value in values:
        known = DHCP_OPTIONS[value.ip_version]
        name = known.get(value.opt_name, value.opt_name)
        if name not in known.values():
            names = ", ".join(sorted(set(known.values())))
            raise ValueError(
                f"'{value.opt_name[:64]}' is not an option of DHCPv{value.ip_version} "
                f"that is served here. Use one of: {names}."
            )
        if value.opt_value is not None:
            no_control(value.opt_value, f"the value of {name}")
            if not 1 <= len(value.opt_value) <= 255:
                raise ValueError(f"the value of {name} has 1 to 255 characters.")
        result.append(ExtraDhcpOption(opt_name=name, opt_value=value.opt_value, ip_version=value.ip_version))
    if len({(v.opt_name, v.ip_version) for v in result}) < len(result):
        raise ValueError("an option is given twice.")
    return result


def gateway(value: Gateway) -> Gateway | None:
    """An empty object takes the gateway away."""
    if value.network_id is None:
        if (value.enable_snat, value.external_fixed_ips, value.qos_policy_id) != (None, None, None):
            raise ValueError("network_id is required.")
        return None
    return Gateway(
        network_id=clean_uuid(value.network_id),
        enable_snat=value.enable_snat,
        external_fixed_ips=None if value.external_fixed_ips is None else fixed_ips(value.external_fixed_ips),
        qos_policy_id=None if value.qos_policy_id is None else clean_uuid(value.qos_policy_id),
    )
