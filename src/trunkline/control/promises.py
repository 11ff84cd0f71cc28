"""What hosts can promise to ports, and do: what the operator sees of it, and says instead of a link's speed.

PUT /hosts/NAME/promises    with the key of STATE/run/status.key in X-Trunkline-Key

{"links": {"physnet1": [100000, 50000], "tunnels": null}, "packet_rate_kpps": 100}
 kbit/s of egress and ingress; null for the speed of the link. What is not named stays.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from trunkline.api.network import promises
from trunkline.errors import BadField, BadRequest, NotFound
from trunkline.plan.promises import TUNNELS, Amounts, offered
from trunkline.resources.region import Host
from trunkline.resources.reports import HostLink
from trunkline.store import Reader, Tx

#: How the tunnels are written among physical networks.
_TUNNELS = "tunnels"
_Rate = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a change."""

    links: dict[str, tuple[_Rate, _Rate] | None] = {}
    packet_rate_kpps: _Rate | None = None


def parse(body: bytes) -> Wanted:
    """A change.

    Raises:
        BadRequest: it is malformed.
    """
    try:
        return msgspec.json.decode(body, type=Wanted)
    except msgspec.DecodeError as error:
        raise BadRequest(f"The promises are not right: {error}.") from None


def change(tx: Tx, name: str, wanted: Wanted) -> None:
    """Lets a host promise this.

    Raises:
        NotFound: there is no such host. BadField: it has no such link.
    """
    host = tx.get(Host, name)
    if host is None:
        raise NotFound(f"There is no host '{name[:80]}'. `trunkline status` lists them.")
    links = {link.physical_network: link for link in host.promised_links}
    for word, rates in wanted.links.items():
        link = TUNNELS if word == _TUNNELS else word
        if link != TUNNELS and link not in host.physical_networks:
            there = ", ".join([*host.physical_networks, _TUNNELS])
            raise BadField("links", f"host {name} has no link '{word[:80]}'. Use one of: {there}.")
        if rates is None:
            links.pop(link, None)
        else:
            links[link] = HostLink(physical_network=link, egress_kbps=rates[0], ingress_kbps=rates[1])
    host = replace(host, promised_links=[links[each] for each in sorted(links)])
    if wanted.packet_rate_kpps is not None:
        host = replace(host, packet_rate_kpps=wanted.packet_rate_kpps)
    tx.replace(host)


def shown(reader: Reader) -> dict[str, list[dict[str, Any]]]:
    """By host, every good that it offers or owes: {"what", "link", "unit", "offered", "held"}."""
    there = promises.held(reader)
    return {host.id: _goods(offered(host), there.get(host.id, {})) for host in reader.select(Host)}


def _goods(offers: Amounts, held: Amounts) -> list[dict[str, Any]]:
    return [
        {
            "what": good.what,
            "link": "" if good.what == "packets" else good.link or _TUNNELS,
            "unit": good.unit,
            "offered": offers.get(good, 0),
            "held": held.get(good, 0),
        }
        for good in sorted({*offers, *held})
        if offers.get(good) or held.get(good)
    ]
