"""Networks and ports to switches and what is plugged into them."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.compiler.addresses import Subnets, answers, dhcp_key
from trunkline.compiler.logical import Allowed, Encapsulation, Switch, SwitchPort, Uplink
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import INTERNAL_OWNERS, METADATA, Network, Port, Subnet

#: The link-local address of the metadata service in IPv6.
METADATA_ADDRESS_6 = "fe80::a9fe:a9fe"
_OVERLAYS: dict[str, Encapsulation] = {"geneve": "geneve", "vxlan": "vxlan"}
_PHYSICAL = frozenset({"flat", "vlan"})


def switches(snapshot: Snapshot) -> dict[str, Switch]:
    """One switch for each network."""
    return {key: _switch(key, network) for key, network in snapshot.all(Network).items()}


def _switch(key: str, network: Network) -> Switch:
    uplink = None
    if network.network_type in _PHYSICAL and network.physical_network:
        vlan = network.segmentation_id if network.network_type == "vlan" else None
        uplink = Uplink(physical_network=network.physical_network, vlan=vlan)
    return Switch(
        key=key,
        name=network.name,
        mtu=network.mtu,
        encapsulation=None if uplink else _OVERLAYS.get(network.network_type or "", "geneve"),
        uplink=uplink,
        vlan_transparent=bool(network.vlan_transparent),
    )


def plugged(port: Port) -> bool:
    """Whether a port is a place on a switch: not the leg of a router, nor a floating address."""
    return port.device_owner not in INTERNAL_OWNERS or port.device_owner == METADATA


def ports(snapshot: Snapshot, subnets: Subnets) -> dict[str, SwitchPort]:
    """One switch port for each port that something is plugged into."""
    up = networks_up(snapshot)
    return {
        key: _metadata(key, port) if port.device_owner == METADATA else workload(key, port, up, subnets.by_id)
        for key, port in snapshot.all(Port).items()
        if plugged(port)
    }


def networks_up(snapshot: Snapshot) -> set[str]:
    """The ids of the networks that forward frames."""
    return {key for key, network in snapshot.all(Network).items() if network.admin_state_up}


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


def workload(key: str, port: Port, networks_up: set[str], subnets: Mapping[str, Subnet]) -> SwitchPort:
    """The switch port of a port that a workload is plugged into."""
    own = tuple(f.ip_address for f in port.fixed_ips if f.ip_address)
    answered: dict[int, str] = {}
    for fixed in port.fixed_ips:
        subnet = subnets.get(fixed.subnet_id or "")
        if subnet is not None and answers(subnet):
            answered.setdefault(subnet.ip_version, dhcp_key(subnet, port))
    return SwitchPort(
        key=key,
        switch=port.network_id,
        name=port.name,
        mac=port.mac_address,
        addresses=own,
        enabled=port.admin_state_up and port.network_id in networks_up,
        allowed=allowed(port) if port.port_security_enabled else None,
        rule_sets=tuple(sorted(port.security_groups)) if port.port_security_enabled else (),
        dhcp4=answered.get(4),
        dhcp6=answered.get(6),
        host=port.host_id or None,
        unknown=not port.port_security_enabled,
    )


def allowed(port: Port) -> tuple[Allowed, ...]:
    """What a port may send from: its own addresses, and its allowed address pairs."""
    own = [Allowed(mac=port.mac_address, prefix=f.ip_address) for f in port.fixed_ips if f.ip_address]
    pairs = [
        Allowed(mac=pair.mac_address or port.mac_address, prefix=pair.ip_address)
        for pair in port.allowed_address_pairs
    ]
    return tuple(own + [pair for pair in pairs if pair not in own])
