"""Appliances to what hosts are told of their units.

Unit ── host ──▶ UnitSlice ── appliance ──▶ BusSlice: where everybody is
  │                 └── Port ── Subnet ──▶ LegSlice: addresses and routes
  ├── AppliancePolicy ──▶ PolicySlice: the document, and its rules' tables
  └── ports ──▶ PortSlice, by `compiler.hosts`
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler import rule_tables
from trunkline.compiler.addresses import name_servers
from trunkline.compiler.derive import View
from trunkline.compiler.names import domain
from trunkline.compiler.unit_slices import (
    AdvertisedSlice,
    BusMember,
    BusSlice,
    LegSlice,
    PolicySlice,
    UnitSlice,
)
from trunkline.errors import BadField
from trunkline.resources.appliance import INSIDE, OUTSIDE, Appliance, AppliancePolicy, Unit, zones
from trunkline.resources.appliance_policy import parse
from trunkline.resources.network import APPLIANCE_DISPATCHER, Network, Port, Subnet

#: The largest IP packet on a bus, bytes: between hosts it is carried by VXLAN over an underlay of 1500 (14 of
#: Ethernet, 20 of IP, 8 of UDP and 8 of VXLAN are added: RFC 7348).
BUS_MTU = 1450
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


def dispatcher_on(port: Port) -> Iterator[str]:
    """The host of a dispatcher's port."""
    if port.device_owner == APPLIANCE_DISPATCHER and port.host_id:
        yield port.host_id


def units_on(view: View, host: str) -> tuple[UnitSlice, ...]:
    """The units of a host."""
    return tuple(view.ask(unit_slice, unit.id) for unit in view.where(Unit, "host", host))


def buses_on(view: View, host: str) -> tuple[BusSlice, ...]:
    """The buses that a host's units are on."""
    there = sorted({unit.appliance_id for unit in view.where(Unit, "host", host)})
    return tuple(view.ask(bus_slice, id) for id in there)


def unit_slice(view: View, key: str) -> UnitSlice:
    """A unit, as its host is told."""
    unit = view.need(Unit, key)
    appliance = view.need(Appliance, unit.appliance_id)
    return UnitSlice(
        id=unit.id,
        appliance=appliance.id,
        number=unit.number,
        kind=unit.kind,
        runtime=appliance.runtime,
        cores=unit.cores,
        memory_mib=unit.memory_mib,
        serial=unit.serial,
        # Those that were added since are for units that come.
        legs=view.ask(legs, appliance.id)[: unit.legs],
        ports=tuple(unit.ports),
        members=view.ask(members, appliance.id),
        policy=view.ask(policy_slice, appliance.id) if unit.kind == "manager" else None,
    )


def policy_slice(view: View, key: str) -> PolicySlice | None:
    """The policy of an appliance, with what its units would each have to make of many rules."""
    found = view.get(AppliancePolicy, key)
    if found is None:
        return None
    tables = b""
    try:
        # Who stored it had checked it.
        policy = parse(found.document, rules_checked=True)
        tables = rule_tables.told(policy, view.ask(zone_names, key))
    except (BadField, ValueError):
        # That was another version: units say what is wrong in it.
        pass
    return PolicySlice(revision=found.revision, document=found.document, tables=tables)


def zone_names(view: View, key: str) -> tuple[str, ...]:
    """The zones of an appliance."""
    return tuple(zones(view.need(Appliance, key)))


def bus_slice(view: View, key: str) -> BusSlice:
    """The two buses of an appliance."""
    appliance = view.need(Appliance, key)
    return BusSlice(
        appliance=key,
        bus_vni=appliance.bus_vni,
        control_vni=appliance.control_vni,
        mtu=BUS_MTU,
        members=view.ask(members, key),
    )


def members(view: View, key: str) -> tuple[BusMember, ...]:
    """All units of an appliance, by number."""
    there = sorted(view.where(Unit, "appliance_id", key), key=lambda unit: unit.number)
    return tuple(
        BusMember(
            number=unit.number,
            kind=unit.kind,
            host=unit.host,
            underlay=unit.underlay,
            bus_mac=unit.bus_mac,
            control_mac=unit.control_mac,
            control_address=unit.control_address,
            leaves=unit.leaves,
        )
        for unit in there
    )


def legs(view: View, key: str) -> tuple[LegSlice, ...]:
    """The networks of an appliance, in the order of `zones`."""
    found = []
    appliance = view.need(Appliance, key)
    for zone, id in zip(zones(appliance), appliance.leg_ports, strict=True):
        port, outside = view.need(Port, id), zone == OUTSIDE
        lent = view.get(Port, appliance.lent_port) if outside and appliance.lent_port else None
        subnets = [
            (fixed.ip_address, subnet)
            for fixed in (*(lent.fixed_ips if lent else ()), *port.fixed_ips)
            if fixed.ip_address and (subnet := view.get(Subnet, fixed.subnet_id)) is not None
        ]
        hops: dict[int, str] = {}
        for _, subnet in subnets:
            if outside and subnet.gateway_ip:
                hops.setdefault(subnet.ip_version, subnet.gateway_ip)
        found.append(
            LegSlice(
                zone=zone,
                outside=outside,
                addresses=tuple(f"{address}/{subnet.cidr.rpartition('/')[2]}" for address, subnet in subnets),
                routes=tuple((_EVERYTHING[version], hop) for version, hop in hops.items()),
                mtu=min(BUS_MTU, view.need(Network, port.network_id).mtu),
                advertised=view.ask(advertised, id) if zone == INSIDE else None,
            )
        )
    return tuple(found)


def advertised(view: View, key: str) -> AdvertisedSlice | None:
    """What hosts are told on the network inside, of the port that holds an appliance's addresses there."""
    port = view.need(Port, key)
    router = view.need(Appliance, port.device_id).inside_router
    there = (view.get(Subnet, fixed.subnet_id) for fixed in port.fixed_ips)
    told = [subnet for subnet in there if subnet is not None and subnet.ipv6_ra_mode]
    if not (told and router):
        return None
    modes = {subnet.ipv6_ra_mode for subnet in told}
    servers = (server for subnet in told for server in view.ask(name_servers, subnet.id))
    return AdvertisedSlice(
        router=router,
        prefixes=tuple((subnet.cidr, subnet.ipv6_ra_mode != "dhcpv6-stateful") for subnet in told),
        managed="dhcpv6-stateful" in modes,
        other="dhcpv6-stateless" in modes,
        name_servers=tuple(dict.fromkeys(server for server in servers if ":" in server)),
        domain=view.ask(domain, port.network_id),
        mtu=min(BUS_MTU, view.need(Network, port.network_id).mtu),
    )
