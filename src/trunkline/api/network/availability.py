"""How many addresses the subnets of a network have, and how many of these are in use."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from trunkline.api.network.addressing import SCOPE, scope
from trunkline.errors import BadField, NotFound
from trunkline.resources.network import Network, Subnet
from trunkline.store import Reader, table_of

_FILTERS = {"network_id": "id", "network_name": "name", "project_id": "project_id", "tenant_id": "project_id"}
#: What a JSON encoder takes for a number; an IPv6 subnet has more addresses.
_LARGEST = 2**63


def every(reader: Reader, pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Of all networks that a query string chooses.

    Raises:
        BadField: it has an unknown filter.
    """
    chosen: defaultdict[str, list[str]] = defaultdict(list)
    versions: set[int] = set()
    for name, value in pairs:
        if name == "ip_version":
            if value not in ("4", "6"):
                raise BadField(name, "Use 4 or 6.")
            versions.add(int(value))
        elif name in _FILTERS:
            chosen[_FILTERS[name]].append(value)
        elif name != "fields":
            raise BadField(
                name[:80], f"it is not a filter here. There are: {', '.join(_FILTERS)}, ip_version."
            )
    networks = table_of(Network).c
    clauses = [networks[name].in_(values) for name, values in chosen.items()]
    found = reader.select(Network, *clauses, order_by=[networks.id])
    return _shown(reader, found, versions or {4, 6})


def one(reader: Reader, network_id: str) -> dict[str, Any]:
    """Of one network.

    Raises:
        NotFound: there is none.
    """
    network = reader.get(Network, network_id)
    if network is None:
        raise NotFound(f"Network {network_id[:80]} could not be found.", type="NetworkNotFound")
    return _shown(reader, [network], {4, 6})[0]


def _shown(reader: Reader, networks: Sequence[Network], versions: set[int]) -> list[dict[str, Any]]:
    table, subnets = table_of(Subnet).c, defaultdict[str, list[Subnet]](list)
    only = [table.network_id == networks[0].id] if len(networks) == 1 else []
    for subnet in reader.select(Subnet, *only, order_by=[table.id]):
        subnets[subnet.network_id].append(subnet)
    if only:
        scopes = [scope(subnet.id) for subnet in subnets[networks[0].id]]
        counted = {name: n for each in scopes for name, n in reader.count_claims(each).items()}
    else:
        counted = reader.count_claims(SCOPE)
    used = {name.removeprefix(SCOPE): n for name, n in counted.items()}
    return [
        _network(network, [s for s in subnets[network.id] if s.ip_version in versions], used)
        for network in networks
    ]


def _network(network: Network, subnets: Sequence[Subnet], used: dict[str, int]) -> dict[str, Any]:
    totals = {subnet.id: total(subnet) for subnet in subnets}
    return {
        "network_id": network.id,
        "network_name": network.name,
        "project_id": network.project_id,
        "tenant_id": network.project_id,
        "total_ips": _number(sum(totals.values())),
        "used_ips": sum(used.get(subnet.id, 0) for subnet in subnets),
        "subnet_ip_availability": [
            {
                "subnet_id": subnet.id,
                "subnet_name": subnet.name,
                "ip_version": subnet.ip_version,
                "cidr": subnet.cidr,
                "total_ips": _number(totals[subnet.id]),
                "used_ips": used.get(subnet.id, 0),
            }
            for subnet in subnets
        ],
    }


def total(subnet: Subnet) -> int:
    """How many addresses are handed out on a subnet at most."""
    return sum(
        int(ipaddress.ip_address(pool.end)) - int(ipaddress.ip_address(pool.start)) + 1
        for pool in subnet.allocation_pools
    )


def _number(value: int) -> Any:
    return value if value < _LARGEST else msgspec.Raw(str(value).encode())
