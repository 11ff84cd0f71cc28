"""Subnets to what DHCP tells."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.logical import Dhcp, Family
from trunkline.compiler.names import domain
from trunkline.resources.network import INTERNAL_OWNERS, METADATA, Network, Port, Subnet

METADATA_ADDRESS = "169.254.169.254"
LEASE_SECONDS = 43200
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def served_network(port: Port) -> Iterator[str]:
    """The network whose metadata service a port is of."""
    if port.device_owner == METADATA:
        yield port.network_id


def own_addresses(port: Port) -> Iterator[tuple[str | None, str | None]]:
    """(subnet, address) of what the cloud itself answers for, the metadata service apart."""
    if port.device_owner in INTERNAL_OWNERS and port.device_owner != METADATA:
        yield from ((fixed.subnet_id, fixed.ip_address) for fixed in port.fixed_ips)


def metadata_port(view: View, network: str) -> Port | None:
    """The metadata port of a network."""
    found = view.where(Port, served_network, network)
    return found[-1] if found else None


def name_servers(view: View, subnet_id: str) -> tuple[str, ...]:
    """The name servers that hosts of a subnet are told: its own, or else the network's name service."""
    subnet = view.need(Subnet, subnet_id)
    if subnet.dns_nameservers:
        return tuple(subnet.dns_nameservers)
    service = metadata_port(view, subnet.network_id)
    held = service.fixed_ips if service is not None else ()
    return tuple(f.ip_address for f in held if f.subnet_id == subnet_id and f.ip_address)


def own_options(port: Port, family: Family) -> tuple[tuple[str, str], ...]:
    """The DHCP options that a port has for itself, in one family."""
    return tuple(
        sorted(
            (o.opt_name, o.opt_value)
            for o in port.extra_dhcp_opts
            if int(o.ip_version) == family and o.opt_value
        )
    )


def dhcp_key(subnet: str, family: Family, port: Port) -> str:
    """The key of the record that answers a port on a subnet."""
    return f"{subnet}.{port.id}" if port.extra_dhcp_opts and own_options(port, family) else subnet


def answering(view: View, subnet: str) -> Family | None:
    """The family in which a DHCP server answers on a subnet; None on IPv6 subnets that use SLAAC alone."""
    found = view.get(Subnet, subnet)
    if found is None or not found.enable_dhcp:
        return None
    if found.ip_version == 4:
        return 4
    return 6 if found.ipv6_address_mode in ("dhcpv6-stateful", "dhcpv6-stateless") else None


def subnet_dhcp(view: View, key: str) -> Iterator[Dhcp]:
    """What a subnet with DHCP tells."""
    if answering(view, key) is not None:
        yield _dhcp(view, key, view.need(Subnet, key), ())


def port_dhcps(view: View, key: str) -> Iterator[Dhcp]:
    """What is told to a port alone, on each of its subnets in whose family it has options of its own."""
    port = view.need(Port, key)
    if not port.extra_dhcp_opts:
        return
    for subnet in dict.fromkeys(fixed.subnet_id for fixed in port.fixed_ips if fixed.subnet_id):
        family = view.ask(answering, subnet)
        if family is not None and (options := own_options(port, family)):
            yield _dhcp(view, dhcp_key(subnet, family, port), view.need(Subnet, subnet), options)


def _dhcp(view: View, key: str, subnet: Subnet, options: tuple[tuple[str, str], ...]) -> Dhcp:
    gateway_ports = view.where(Port, own_addresses, (subnet.id, subnet.gateway_ip))
    gateway_port = gateway_ports[-1] if gateway_ports else None
    service = metadata_port(view, subnet.network_id)
    metadata = (
        next((f.ip_address for f in service.fixed_ips if f.subnet_id == subnet.id), None) if service else None
    )
    answering = gateway_port or service
    server_address = subnet.gateway_ip
    if gateway_port is None:
        server_address = metadata or subnet.gateway_ip
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
        mtu=view.need(Network, subnet.network_id).mtu,
        router=subnet.gateway_ip if subnet.ip_version == 4 else None,
        dns_servers=view.ask(name_servers, subnet.id),
        domain=view.ask(domain, subnet.network_id),
        routes=_routes(subnet, metadata),
        stateless=subnet.ipv6_address_mode == "dhcpv6-stateless",
        options=options,
    )


def _routes(subnet: Subnet, metadata: str | None) -> tuple[tuple[str, str], ...]:
    """The static routes that clients learn: the metadata service, the subnet's own, the default.

    A client that learns any ignores the router option (RFC 3442), so the default is among them.
    """
    if subnet.ip_version != 4:
        return ()
    routes: list[tuple[str, str]] = []
    if metadata is not None:
        routes.append((f"{METADATA_ADDRESS}/32", metadata))
    routes += [(route.destination, route.nexthop) for route in subnet.host_routes]
    if subnet.gateway_ip is not None and all(prefix != _ANYWHERE[4] for prefix, _ in routes):
        routes.append((_ANYWHERE[4], subnet.gateway_ip))
    return tuple(routes)
