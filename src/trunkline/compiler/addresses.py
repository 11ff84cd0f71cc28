"""Subnets to what DHCP tells, and the look-ups by subnet that other parts need."""

from __future__ import annotations

import ipaddress
from collections import defaultdict

from trunkline.compiler.logical import Dhcp, Family
from trunkline.compiler.snapshot import Snapshot
from trunkline.resources.network import INTERNAL_OWNERS, METADATA, Network, Port, Subnet

METADATA_ADDRESS = "169.254.169.254"
LEASE_SECONDS = 43200
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


class Subnets:
    """What the other parts ask about subnets and the ports on them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.by_id = snapshot.all(Subnet)
        self.of_network: dict[str, list[Subnet]] = defaultdict(list)
        for _, subnet in sorted(self.by_id.items()):
            self.of_network[subnet.network_id].append(subnet)
        #: Network id to its metadata port.
        self.metadata_port: dict[str, Port] = {}
        #: Subnet id to the port that owns the subnet's gateway address.
        self.gateway_port: dict[str, Port] = {}
        for _, port in sorted(snapshot.all(Port).items()):
            if port.device_owner == METADATA:
                self.metadata_port[port.network_id] = port
            elif port.device_owner in INTERNAL_OWNERS:
                for fixed in port.fixed_ips:
                    found = self.by_id.get(fixed.subnet_id or "")
                    if found is not None and fixed.ip_address == found.gateway_ip:
                        self.gateway_port[found.id] = port

    def prefix_length(self, subnet_id: str) -> int:
        """The prefix length of a subnet."""
        return int(self.by_id[subnet_id].cidr.rpartition("/")[2])

    def metadata_address(self, subnet: Subnet) -> str | None:
        """The address of the metadata port on a subnet."""
        port = self.metadata_port.get(subnet.network_id)
        if port is not None:
            for fixed in port.fixed_ips:
                if fixed.subnet_id == subnet.id:
                    return fixed.ip_address
        return None


def own_options(port: Port, family: Family) -> tuple[tuple[str, str], ...]:
    """The DHCP options that a port has for itself, in one family."""
    return tuple(
        sorted(
            (o.opt_name, o.opt_value)
            for o in port.extra_dhcp_opts
            if int(o.ip_version) == family and o.opt_value
        )
    )


def dhcp_key(subnet: Subnet, port: Port) -> str:
    """The key of the record that answers a port on a subnet."""
    family: Family = 6 if subnet.ip_version == 6 else 4
    return f"{subnet.id}.{port.id}" if own_options(port, family) else subnet.id


def dhcps(snapshot: Snapshot, subnets: Subnets) -> dict[str, Dhcp]:
    """One record for each subnet with DHCP, and for each port with options of its own."""
    networks = snapshot.all(Network)
    records: dict[str, Dhcp] = {}
    for subnet in subnets.by_id.values():
        if answers(subnet):
            records[subnet.id] = _dhcp(subnet.id, subnet, networks[subnet.network_id], subnets, ())
    for port in snapshot.all(Port).values():
        if not port.extra_dhcp_opts:
            continue
        for fixed in port.fixed_ips:
            found = subnets.by_id.get(fixed.subnet_id or "")
            if found is None or not answers(found):
                continue
            key = dhcp_key(found, port)
            if key not in records:
                options = own_options(port, 6 if found.ip_version == 6 else 4)
                records[key] = _dhcp(key, found, networks[found.network_id], subnets, options)
    return records


def answers(subnet: Subnet) -> bool:
    """Whether a DHCP server answers on the subnet: not on IPv6 subnets that use SLAAC alone."""
    return subnet.enable_dhcp and (
        subnet.ip_version == 4 or subnet.ipv6_address_mode in ("dhcpv6-stateful", "dhcpv6-stateless")
    )


def _dhcp(
    key: str, subnet: Subnet, network: Network, subnets: Subnets, options: tuple[tuple[str, str], ...]
) -> Dhcp:
    gateway_port = subnets.gateway_port.get(subnet.id)
    metadata_port = subnets.metadata_port.get(subnet.network_id)
    answering = gateway_port or metadata_port
    server_address = subnet.gateway_ip
    if gateway_port is None:
        server_address = subnets.metadata_address(subnet) or subnet.gateway_ip
    if server_address is None:
        first = ipaddress.ip_network(subnet.cidr)
        server_address = str(first.network_address + 1)
    return Dhcp(
        key=key,
        family=6 if subnet.ip_version == 6 else 4,
        prefix=subnet.cidr,
        server_address=server_address,
        server_mac=answering.mac_address if answering is not None else "fa:16:3e:00:00:01",
        lease_seconds=LEASE_SECONDS,
        mtu=network.mtu,
        router=subnet.gateway_ip if subnet.ip_version == 4 else None,
        dns_servers=tuple(subnet.dns_nameservers),
        routes=_routes(subnet, subnets),
        stateless=subnet.ipv6_address_mode == "dhcpv6-stateless",
        options=options,
    )


def _routes(subnet: Subnet, subnets: Subnets) -> tuple[tuple[str, str], ...]:
    """The static routes that clients learn: the metadata service, the subnet's own, the default.

    A client that learns any ignores the router option (RFC 3442), so the default is among them.
    """
    if subnet.ip_version != 4:
        return ()
    routes: list[tuple[str, str]] = []
    metadata = subnets.metadata_address(subnet)
    if metadata is not None:
        routes.append((f"{METADATA_ADDRESS}/32", metadata))
    routes += [(route.destination, route.nexthop) for route in subnet.host_routes]
    if subnet.gateway_ip is not None and all(prefix != _ANYWHERE[4] for prefix, _ in routes):
        routes.append((_ANYWHERE[4], subnet.gateway_ip))
    return tuple(routes)
