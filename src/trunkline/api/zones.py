"""Availability zones: which one each host is in. Servers are placed by them, and routers' gateways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trunkline.resources.compute import Aggregate
from trunkline.resources.region import Host
from trunkline.store import Reader


def zones(reader: Reader, hosts: Sequence[Host]) -> Mapping[str, str]:
    """The availability zone of each host: that of an aggregate it is in, or the one it joined with."""
    result = {host.id: host.zone for host in hosts}
    for aggregate in reader.select(Aggregate):
        if aggregate.zone:
            result.update(dict.fromkeys(set(aggregate.hosts) & result.keys(), aggregate.zone))
    return result
