"""The links by which a host reaches physical networks and other hosts: which they are, how fast they are."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.agent.config import AgentConfig
from trunkline.devices import links, openvswitch
from trunkline.devices.ovsdb import Database
from trunkline.resources.reports import HostLink


def speeds(config: AgentConfig, db: Database) -> tuple[HostLink, ...]:
    """How much each link carries either way, where its interfaces say so; several add up."""
    found = []
    for name, interfaces in leading(config, db):
        kbps = sum(1000 * (links.speed(each) or 0) for each in interfaces)
        if kbps:
            found.append(HostLink(physical_network=name, egress_kbps=kbps, ingress_kbps=kbps))
    return tuple(found)


def leading(config: AgentConfig, db: Database) -> Iterator[tuple[str, list[str]]]:
    """Physical networks ("": the tunnels) with the names of the interfaces that lead there."""
    underlay = config.underlay
    if underlay.bridge is not None:
        yield "", [underlay.interface]
    else:
        address = underlay.address.partition("/")[0]
        all_of_them = ((name, links.link(name)) for name in sorted(links.names()))
        yield "", [name for name, link in all_of_them if link is not None and address in link.addresses]
    for name, physical in sorted(config.physical_networks.items()):
        yield name, [physical.interface] if physical.interface else openvswitch.outer(db, physical.bridge)
