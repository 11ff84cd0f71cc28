"""What a server is told of itself: the contents of meta_data.json, network_data.json and vendor_data.json.

Source: the Compute service's documentation of metadata, and its ``network_data.json`` schema.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.compiler.settings import Settings
from trunkline.resources.compute import Server
from trunkline.resources.network import Network, Port, Subnet

#: How hosts get their address on an IPv6 subnet, by the subnet's address mode, as guests are told.
_MODES = {
    "slaac": "ipv6_slaac",
    "dhcpv6-stateless": "ipv6_dhcpv6-stateless",
    "dhcpv6-stateful": "ipv6_dhcpv6-stateful",
}


def meta_data(server: Server, ports: Sequence[Port]) -> dict[str, Any]:
    """Who a server is. The same input gives the same document: there is no random seed in it."""
    document: dict[str, Any] = {
        "uuid": server.id,
        "name": server.name,
        "hostname": server.hostname,
        "project_id": server.project_id,
        "availability_zone": server.zone,
        "launch_index": server.launch_index,
        "devices": [
            {"type": "nic", "bus": "none", "address": "none", "mac": port.mac_address, "tags": [tag]}
            for port in ports
            if (tag := server.port_tags.get(port.id))
        ],
    }
    if server.metadata:
        document["meta"] = server.metadata
    if server.key_name and server.public_key:
        certificate = server.public_key.startswith("-----BEGIN")
        if not certificate:
            document["public_keys"] = {server.key_name: server.public_key}
        kind = "x509" if certificate else "ssh"
        document["keys"] = [{"name": server.key_name, "type": kind, "data": server.public_key}]
    if server.admin_password:
        document["admin_pass"] = server.admin_password
    return document


def vendor_data(settings: Settings) -> dict[str, Any]:
    """What the cloud itself tells every server: the operator's keys, where it has any.

    Once for the image `tiny`, and once in the form that cloud-init takes for its own.
    """
    keys = list(settings.operator_keys)
    if not keys:
        return {}
    config = f"#cloud-config\n{json.dumps({'ssh_authorized_keys': keys})}\n"
    return {"trunkline": {"authorized_keys": keys}, "cloud-init": config}


def network_data(
    ports: Sequence[tuple[Port, Sequence[Port]]],
    networks: Mapping[str, Network],
    subnets: Mapping[str, Subnet],
) -> dict[str, Any]:
    """The interfaces of a server and how each gets its addresses.

    Args:
        ports: in the order of the interfaces, each with its sub-ports, whose links are VLANs on its own.
    """
    links: list[dict[str, Any]] = []
    addresses: list[dict[str, Any]] = []
    servers: dict[str, None] = {}

    def add(port: Port, kind: dict[str, Any]) -> None:
        link = f"tap{port.id[:11]}"
        links.append({"id": link, "vif_id": port.id, "mtu": networks[port.network_id].mtu, **kind})
        for fixed in port.fixed_ips:
            subnet = subnets.get(fixed.subnet_id or "")
            if subnet is None or not fixed.ip_address:
                continue
            id = f"network{len(addresses)}"
            addresses.append(_address(id, link, port.network_id, fixed.ip_address, subnet))
            servers.update(dict.fromkeys(subnet.dns_nameservers))

    for port, inner in ports:
        add(port, {"type": "ovs", "ethernet_mac_address": port.mac_address})
        for sub in inner:
            outer, mac = f"tap{port.id[:11]}", sub.mac_address
            add(sub, {"type": "vlan", "vlan_link": outer, "vlan_id": sub.trunk_vlan, "vlan_mac_address": mac})
    services = [{"type": "dns", "address": address} for address in servers]
    return {"links": links, "networks": addresses, "services": services}


def _address(id: str, link: str, network: str, address: str, subnet: Subnet) -> dict[str, Any]:
    common = {"id": id, "link": link, "network_id": network}
    if subnet.enable_dhcp:
        if subnet.ip_version == 4:
            return {**common, "type": "ipv4_dhcp"}
        if subnet.ipv6_address_mode in _MODES:
            return {**common, "type": _MODES[subnet.ipv6_address_mode]}
    prefix = ipaddress.ip_network(subnet.cidr)
    routes = [_route(route.destination, route.nexthop) for route in subnet.host_routes]
    if subnet.gateway_ip:
        routes.insert(0, _route("0.0.0.0/0" if subnet.ip_version == 4 else "::/0", subnet.gateway_ip))
    return {
        **common,
        "type": f"ipv{subnet.ip_version}",
        "ip_address": address,
        "netmask": str(prefix.netmask),
        "routes": routes,
        "services": [{"type": "dns", "address": each} for each in subnet.dns_nameservers],
    }


def _route(destination: str, gateway: str) -> dict[str, str]:
    prefix = ipaddress.ip_network(destination)
    return {"network": str(prefix.network_address), "netmask": str(prefix.netmask), "gateway": gateway}
