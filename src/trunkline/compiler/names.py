"""DNS: the names that are told on a network, and the domain that its hosts are in.

Port ─ dns_name ──────────────▶ names of its network
Subnet ─ dns_publish_fixed_ip ▶ ... of all networks of the project
FloatingIP ─ dns_name ────────▶ ... of all networks of the project

Where there are many, they are told in parts: whoever changes one name has one part made and sent anew.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from trunkline.compiler.derive import View
from trunkline.compiler.settings import REGION, Settings
from trunkline.compiler.slices import NamesSlice, ZoneSlice
from trunkline.names import part_of
from trunkline.resources.network import FloatingIP, Network, Port, Subnet
from trunkline.resources.network.dns import REGION_DOMAIN, fqdn

#: More names than this are told in so many parts.
FEW, PARTS = 128, 64
#: A whole name and an address of it, and who has the name: what somebody else says of it is not told.
Told = tuple[str, str, str]


def domain(view: View, network: str) -> str:
    """What the names of a network's hosts end with, without the last dot."""
    found = view.get(Network, network)
    return _bare((found.dns_domain if found is not None else "") or REGION_DOMAIN)


def zone(view: View, network: str) -> ZoneSlice:
    """What the name service of a network tells."""
    parts = PARTS if _size(view, view.need(Network, network)) > FEW else 1
    return ZoneSlice(
        region_domain=_bare(REGION_DOMAIN),
        domain=view.ask(domain, network),
        names=tuple(view.ask(_part, f"{network}/{part}/{parts}") for part in range(parts)),
        forwarders=view.need(Settings, REGION).dns_forwarders,
    )


def _size(view: View, network: Network) -> int:
    """About how many names there are."""
    beside = _publishing(view, network)
    of_networks = (view.count(Port, named_on, id) for id in {network.id, *(s.network_id for s in beside)})
    return sum(of_networks) + view.count(FloatingIP, named_for, network.project_id)


def _part(view: View, key: str) -> NamesSlice:
    """One part of the names that are told on a network; the key is NETWORK/PART/PARTS."""
    id, _, part = key.partition("/")
    network = view.need(Network, id)
    own = _resolved(_told_of_ports(view, network, part))
    beside = _resolved(_told_beside(view, network, part))
    return NamesSlice(own=own, beside={name: beside[name] for name in beside if name not in own})


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


def _told_of_ports(view: View, network: Network, part: str) -> Iterator[Told]:
    """The network's own names, those of its project first, then by age."""
    own = view.ask(domain, network.id)
    ports = view.where(Port, named_on, _within(network.id, part))
    ports.sort(key=lambda port: (port.project_id != network.project_id, port.created_at, port.id))
    for port in ports:
        yield from _of_port(port, own, holder=port.project_id)


def _told_beside(view: View, network: Network, part: str) -> Iterator[Told]:
    """What is told of the project's other networks, and of its floating IPs."""
    for subnet in _publishing(view, network):
        yield from view.ask(_published, f"{subnet.id}/{part}")
    if network.project_id:
        for floating in view.where(FloatingIP, named_for, _within(network.project_id, part)):
            name = _bare(fqdn(floating.dns_name, floating.dns_domain))
            yield name, floating.floating_ip_address or "", "floating IPs"


def _publishing(view: View, network: Network) -> list[Subnet]:
    """The subnets of the project's other networks whose names are told on this one."""
    if not network.project_id:
        return []
    found = view.where(Subnet, published_for, network.project_id)
    return [subnet for subnet in found if subnet.network_id != network.id]


def _published(view: View, key: str) -> tuple[Told, ...]:
    """What the other networks of the project are told of a subnet's hosts, the project's own.

    The key is SUBNET/PART/PARTS.
    """
    id, _, part = key.partition("/")
    subnet = view.need(Subnet, id)
    own = view.ask(domain, subnet.network_id)
    ports = view.where(Port, named_on, _within(subnet.network_id, part))
    return tuple(
        told
        for port in ports
        if port.project_id == subnet.project_id
        for told in _of_port(port, own, holder="other networks", only=subnet.id)
    )


def _of_port(port: Port, network_domain: str, *, holder: str, only: str = "") -> Iterator[Told]:
    name = _bare(fqdn(port.dns_name, port.dns_domain or f"{network_domain}."))
    for fixed in port.fixed_ips:
        if fixed.ip_address and only in ("", fixed.subnet_id):
            yield name, fixed.ip_address, holder


def _bare(name: str) -> str:
    return name.removesuffix(".")


# What objects are looked up by: all that have a name, or those of them whose name is in a part of many.


def _within(owner: str, part: str) -> Hashable:
    number, _, parts = part.partition("/")
    return owner if parts == "1" else (owner, int(number))


def _with_part(owner: str, name: str) -> Iterator[Hashable]:
    yield owner
    yield owner, part_of(name, PARTS)


def named_on(port: Port) -> Iterator[Hashable]:
    """The network of a port that has a name."""
    if port.dns_name:
        yield from _with_part(port.network_id, port.dns_name)


def published_for(subnet: Subnet) -> Iterator[str]:
    """The project on whose networks the names of a subnet are told."""
    if subnet.dns_publish_fixed_ip:
        yield subnet.project_id


def named_for(floating: FloatingIP) -> Iterator[Hashable]:
    """The project on whose networks the name of a floating IP is told."""
    if floating.dns_name and floating.floating_ip_address:
        yield from _with_part(floating.project_id, floating.dns_name)
