"""DNS: the names that are told on a network, and the domain that its hosts are in.

Port ─ dns_name ──────────────▶ names of its network
Subnet ─ dns_publish_fixed_ip ▶ ... of all networks of the project
FloatingIP ─ dns_name ────────▶ ... of all networks of the project
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.settings import REGION, Settings
from trunkline.compiler.slices import ZoneSlice
from trunkline.resources.network import FloatingIP, Network, Port, Subnet
from trunkline.resources.network.dns import REGION_DOMAIN, fqdn

#: A whole name and an address of it, and who has the name: what somebody else says of it is not told.
Told = tuple[str, str, str]


def domain(view: View, network: str) -> str:
    """What the names of a network's hosts end with, without the last dot."""
    found = view.get(Network, network)
    return _bare((found.dns_domain if found is not None else "") or REGION_DOMAIN)


def zone(view: View, network: str) -> ZoneSlice:
    """What the name service of a network tells."""
    return ZoneSlice(
        region_domain=_bare(REGION_DOMAIN),
        domain=view.ask(domain, network),
        names=_resolved(_told(view, view.need(Network, network))),
        forwarders=view.need(Settings, REGION).dns_forwarders,
    )


def _resolved(told: Iterable[Told]) -> dict[str, tuple[str, ...]]:
    """The addresses of each name: those that come from whoever has it first.

    Several projects can have ports on a shared network. None can put its address beside those of a name
    that another one has.
    """
    holders: dict[str, str] = {}
    names: dict[str, dict[str, None]] = {}
    for name, address, holder in told:
        if holders.setdefault(name, holder) == holder:
            names.setdefault(name, {})[address] = None
    return {name: tuple(addresses) for name, addresses in names.items()}


def _told(view: View, network: Network) -> Iterator[Told]:
    """All names: the network's own, those of its project first, then by age; and what is told beside."""
    own = view.ask(domain, network.id)
    ports = view.where(Port, named_on, network.id)
    ports.sort(key=lambda port: (port.project_id != network.project_id, port.created_at, port.id))
    for port in ports:
        yield from _of_port(port, own, holder=port.project_id)
    if network.project_id:
        for subnet in view.where(Subnet, published_for, network.project_id):
            if subnet.network_id != network.id:
                yield from view.ask(_published, subnet.id)
        for floating in view.where(FloatingIP, named_for, network.project_id):
            name = _bare(fqdn(floating.dns_name, floating.dns_domain))
            yield name, floating.floating_ip_address or "", "floating IPs"


def _published(view: View, subnet_id: str) -> tuple[Told, ...]:
    """What the other networks of the project are told of a subnet's hosts, the project's own."""
    subnet = view.need(Subnet, subnet_id)
    own = view.ask(domain, subnet.network_id)
    ports = view.where(Port, named_on, subnet.network_id)
    return tuple(
        told
        for port in ports
        if port.project_id == subnet.project_id
        for told in _of_port(port, own, holder="other networks", only=subnet_id)
    )


def _of_port(port: Port, network_domain: str, *, holder: str, only: str = "") -> Iterator[Told]:
    name = _bare(fqdn(port.dns_name, port.dns_domain or f"{network_domain}."))
    for fixed in port.fixed_ips:
        if fixed.ip_address and only in ("", fixed.subnet_id):
            yield name, fixed.ip_address, holder


def _bare(name: str) -> str:
    return name.removesuffix(".")


# What objects are looked up by.


def named_on(port: Port) -> Iterator[str]:
    """The network of a port that has a name."""
    if port.dns_name:
        yield port.network_id


def published_for(subnet: Subnet) -> Iterator[str]:
    """The project on whose networks the names of a subnet are told."""
    if subnet.dns_publish_fixed_ip:
        yield subnet.project_id


def named_for(floating: FloatingIP) -> Iterator[str]:
    """The project on whose networks the name of a floating IP is told."""
    if floating.dns_name and floating.floating_ip_address:
        yield floating.project_id
