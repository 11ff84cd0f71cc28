"""Networks and ports to switches and what is plugged into them."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.compiler.addresses import answering, dhcp_key
from trunkline.compiler.derive import View
from trunkline.compiler.logical import Allowed, Encapsulation, Switch, SwitchPort, Uplink
from trunkline.resources.network import (
    APPLIANCE_DISPATCHER,
    INTERNAL_OWNERS,
    METADATA,
    Network,
    Port,
    wires_of,
)

#: The link-local address of the metadata service in IPv6.
METADATA_ADDRESS_6 = "fe80::a9fe:a9fe"
_OVERLAYS: dict[str, Encapsulation] = {"geneve": "geneve", "vxlan": "vxlan"}
_PHYSICAL = frozenset({"flat", "vlan"})


def switch(view: View, key: str) -> Iterator[Switch]:
    """The switch of a network."""
    network = view.need(Network, key)
    found = uplinks(network)
    yield Switch(
        key=key,
        name=network.name,
        mtu=network.mtu,
        encapsulation=None if found else _OVERLAYS.get(network.network_type or "", "geneve"),
        uplinks=found,
        vlan_transparent=transparent(network),
    )


def transparent(network: Network) -> bool:
    """Whether frames with tags of guests pass."""
    return bool(network.vlan_transparent or network.qinq)


def uplinks(network: Network) -> tuple[Uplink, ...]:
    """Where a network meets the physical world, if it does: once for each of its segments there."""
    found = []
    for wire in wires_of(network):
        if wire.network_type in _PHYSICAL and wire.physical_network:
            vlan = wire.segmentation_id if wire.network_type == "vlan" else None
            tag = bool(vlan and network.qinq)
            found.append(Uplink(physical_network=wire.physical_network, vlan=vlan, service_tag=tag))
    return tuple(found)


def switch_port(view: View, key: str) -> Iterator[SwitchPort]:
    """The place on a switch of a port that something is plugged into."""
    port = view.need(Port, key)
    if port.device_owner == METADATA:
        yield _metadata(key, port)
    elif port.device_owner not in INTERNAL_OWNERS or port.device_owner == APPLIANCE_DISPATCHER:
        yield _workload(view, key, port)


def forwards(view: View, network: str) -> bool:
    """Whether a network forwards frames."""
    found = view.get(Network, network)
    return found is not None and found.admin_state_up


def _metadata(key: str, port: Port) -> SwitchPort:
    own = tuple(f.ip_address for f in port.fixed_ips if f.ip_address)
    return SwitchPort(
        key=key,
        switch=port.network_id,
        name=port.name,
        mac=port.mac_address,
        addresses=(*own, METADATA_ADDRESS_6),
        role="metadata",
    )


def _workload(view: View, key: str, port: Port) -> SwitchPort:
    own = tuple(f.ip_address for f in port.fixed_ips if f.ip_address)
    answered: dict[int, str] = {}
    for fixed in port.fixed_ips:
        if fixed.subnet_id and (family := view.ask(answering, fixed.subnet_id)) is not None:
            answered.setdefault(family, dhcp_key(fixed.subnet_id, family, port))
    return SwitchPort(
        key=key,
        switch=port.network_id,
        name=port.name,
        mac=port.mac_address,
        addresses=own,
        enabled=port.admin_state_up and view.ask(forwards, port.network_id),
        allowed=allowed(port) if port.port_security_enabled else None,
        rule_sets=tuple(sorted(port.security_groups)) if port.port_security_enabled else (),
        dhcp4=answered.get(4),
        dhcp6=answered.get(6),
        hostname=port.dns_name.partition(".")[0],
        host=port.host_id or None,
        unknown=not port.port_security_enabled,
        community="" if port.pvlan_type == "isolated" else port.pvlan_community,
        parent=port.parent_id or None,
        vlan=port.trunk_vlan,
    )


def allowed(port: Port) -> tuple[Allowed, ...]:
    """What a port may send from: its own addresses, and its allowed address pairs."""
    own = [Allowed(mac=port.mac_address, prefix=f.ip_address) for f in port.fixed_ips if f.ip_address]
    pairs = [
        Allowed(mac=pair.mac_address or port.mac_address, prefix=pair.ip_address)
        for pair in port.allowed_address_pairs
    ]
    return tuple(own + [pair for pair in pairs if pair not in own])
