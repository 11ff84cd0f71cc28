"""What DNS has of ports: the field `dns_assignment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.api.context import Context
from trunkline.names import generic_name
from trunkline.resources.network import Network, Port
from trunkline.resources.network.dns import fqdn
from trunkline.store import Reader


def assignments(reader: Reader, context: Context, objects: Sequence[Port]) -> list[Mapping[str, Any]]:
    """The field `dns_assignment`: for each address of a port, the names that resolve to it."""
    networks = reader.get_all(Network, {port.network_id for port in objects})
    domains = {network.id: network.dns_domain for network in networks}
    return [{"dns_assignment": _assigned(port, domains.get(port.network_id, ""))} for port in objects]


def _assigned(port: Port, domain: str) -> list[dict[str, str]]:
    domain = port.dns_domain or domain
    shown = []
    for fixed in port.fixed_ips:
        if fixed.ip_address:
            name = port.dns_name or generic_name(fixed.ip_address)
            shown.append({"ip_address": fixed.ip_address, "hostname": name, "fqdn": fqdn(name, domain)})
    return shown
