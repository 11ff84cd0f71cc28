"""The hosts, as the scheduler and operators see them: what they have, what is placed on them."""

from __future__ import annotations

import dataclasses
import uuid
import zlib

from msgspec.structs import replace

from trunkline.api.network import promises
from trunkline.api.zones import zones
from trunkline.plan.placement import HostView, Load
from trunkline.plan.promises import Amounts, offered, without
from trunkline.resources.appliance import Unit
from trunkline.resources.compute import FlavorFacts, Server
from trunkline.resources.region import Host
from trunkline.store import Reader

_NAMESPACE = uuid.UUID("6e7c7ab6-7c5f-5f0b-9c0e-54524b4c4e45")


def all_hosts(reader: Reader) -> list[Host]:
    """Every host, by name."""
    return sorted(reader.select(Host), key=lambda host: host.id)


def views(reader: Reader) -> list[HostView]:
    """The hosts as the scheduler sees them."""
    there = all_hosts(reader)
    zone_of, held = zones(reader, there), promises.held(reader)
    return [
        HostView(
            name=host.id,
            zone=zone_of[host.id],
            enabled=host.enabled,
            disabled_reason=host.disabled_reason or "",
            alive=host.alive,
            vcpus=host.vcpus,
            memory_mib=host.memory_mib,
            disk_gib=host.disk_gib,
            physical_networks=frozenset(host.physical_networks),
            promises=offered(host),
            promised=held.get(host.id, {}),
        )
        for host in there
    ]


def views_without(reader: Reader, host: str, held: Amounts) -> list[HostView]:
    """The same, without what the ports of a server that is placed anew hold on the host where it is."""
    return [
        dataclasses.replace(view, promised=without(view.promised, held)) if view.name == host else view
        for view in views(reader)
    ]


def load_of(server: Server) -> Load:
    """What a server takes of its host."""
    flavor = server.flavor or FlavorFacts(name="", vcpus=0, ram=0)
    return Load(
        host=server.host,
        server=server.id,
        vcpus=flavor.vcpus,
        memory_mib=flavor.ram,
        disk_gib=flavor.disk + flavor.ephemeral + -(-flavor.swap // 1024),
        group=server.group_id,
    )


def loads(reader: Reader) -> list[Load]:
    """What every server takes, and the memory of appliances' units. (Their processors are promised apart.)"""
    units = [Load(host=unit.host, memory_mib=unit.memory_mib) for unit in reader.select(Unit)]
    return [*server_loads(reader), *units]


def server_loads(reader: Reader) -> list[Load]:
    """What every server takes; one that is being deleted still takes it."""
    return [load for server in reader.select(Server) if server.host for load in _loads_of(server)]


def _loads_of(server: Server) -> list[Load]:
    """One that moves takes its new place, and its old one: it may come back."""
    load = load_of(server)
    if not server.move or server.old_flavor is None:
        return [load]
    places = [(server.dest_host, server), (server.origin_host, replace(server, flavor=server.old_flavor))]
    if server.move in ("returning", "back"):
        places.reverse()
    (first, as_first), (second, as_second) = places
    held = dataclasses.replace(load_of(as_second), host=second, server="", group="")
    return [dataclasses.replace(load_of(as_first), host=first), held]


def host_uuid(host: str, what: str) -> str:
    """The stable UUID of a host's service or hypervisor."""
    return str(uuid.uuid5(_NAMESPACE, f"{what}:{host}"))


def host_number(host: str) -> int:
    """The stable number of a host, for the older microversions that count hosts."""
    return zlib.crc32(host.encode()) & 0x7FFFFFFF
