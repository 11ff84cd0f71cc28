"""Servers, ports and images to each host's slice.

    Server ── host ──▶ ServerSlice ── image ──▶ ImageSlice
       │ ports
       ▼
    Port ── binding:host_id ──▶ PortSlice ── network ──▶ MetadataSlice, where the network has the service

Only what is the host's own is in its slice: a port that is bound to it and plugged into one of its
servers, or a probe; a server that is placed on it and stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar, cast

from trunkline.compiler.metadata import meta_data, network_data, vendor_data
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import (
    Guard,
    HostSlice,
    ImageSlice,
    MetadataSlice,
    PortSlice,
    ServerSlice,
)
from trunkline.compiler.snapshot import Snapshot
from trunkline.compiler.switching import allowed
from trunkline.resources.compute import FlavorFacts, ImageFacts, Server
from trunkline.resources.network import METADATA, FloatingIP, Network, Port, Subnet
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource

#: The device owner of ports that are attached as a namespace of their own.
PROBE = "trunkline:probe"

Power = Literal["running", "stopped", "paused"]
R = TypeVar("R", bound=Resource)


def host_slices(snapshot: Snapshot, settings: Settings) -> dict[str, HostSlice]:
    """The slice of every host, by its name; equal snapshots give equal slices.

    Ports are looked at once each, and worked on only where a host has them.
    """
    probes: dict[str, list[Port]] = defaultdict(list)
    metadata: dict[str, Port] = {}
    for port in snapshot.all(Port).values():
        if port.device_owner == METADATA:
            metadata[port.network_id] = port
        elif port.device_owner == PROBE and port.host_id:
            probes[port.host_id].append(port)
    servers: dict[str, list[Server]] = defaultdict(list)
    for server in snapshot.all(Server).values():
        if server.host and not server.deleting:
            servers[server.host].append(server)
    floating: dict[str, list[str]] = defaultdict(list)
    for address in snapshot.all(FloatingIP).values():
        if address.port_id and address.floating_ip_address:
            floating[address.port_id].append(address.floating_ip_address)
    return {
        host: _slice(snapshot, settings, host, _by_id(servers[host]), probes[host], metadata, floating)
        for host in snapshot.all(Host)
    }


def _slice(
    snapshot: Snapshot,
    settings: Settings,
    host: str,
    servers: Sequence[Server],
    probes: Sequence[Port],
    metadata: Mapping[str, Port],
    floating: Mapping[str, list[str]],
) -> HostSlice:
    known = snapshot.all(Port)
    own = [
        port
        for server in servers
        for id in server.ports
        if (port := known.get(id)) is not None and (port.device_id, port.host_id) == (server.id, host)
    ]
    plugged = {port.id: port for port in _by_id([*own, *probes])}
    networks = sorted({port.network_id for port in plugged.values()} & metadata.keys())
    images = {server.image_id: server.image for server in servers if server.image is not None}
    return HostSlice(
        host=host,
        revision=snapshot.intent,
        servers=tuple(_server(server, plugged, floating, snapshot, settings) for server in servers),
        ports=tuple(_port(port, snapshot) for port in plugged.values()),
        images=tuple(_image(id, facts) for id, facts in sorted(images.items())),
        metadata=tuple(_metadata(metadata[network], snapshot) for network in networks),
    )


def _by_id(objects: Iterable[R]) -> list[R]:
    return sorted(objects, key=lambda each: each.id)


def _server(
    server: Server,
    plugged: Mapping[str, Port],
    floating: Mapping[str, list[str]],
    snapshot: Snapshot,
    settings: Settings,
) -> ServerSlice:
    flavor = server.flavor or FlavorFacts(name="", vcpus=1, ram=128)
    ports = [plugged[id] for id in server.ports if id in plugged]
    return ServerSlice(
        id=server.id,
        name=server.name,
        power=cast("Power", server.power),
        vcpus=flavor.vcpus,
        memory_mib=flavor.ram,
        disk_gib=flavor.disk,
        image=server.image_id,
        ports=tuple(port.id for port in ports),
        disk_serial=server.disk_serial,
        hard_reboot_serial=server.hard_reboot_serial,
        soft_reboot_serial=server.soft_reboot_serial,
        config_drive=server.config_drive,
        flavor=flavor.name,
        public_addresses=tuple(a for port in ports for a in sorted(floating.get(port.id, ()))),
        meta_data=meta_data(server, ports),
        network_data=network_data(ports, snapshot.all(Network), snapshot.all(Subnet)),
        vendor_data=vendor_data(settings),
        user_data=server.user_data,
    )


def _port(port: Port, snapshot: Snapshot) -> PortSlice:
    network = snapshot.all(Network)[port.network_id]
    probe = port.device_owner == PROBE
    return PortSlice(
        id=port.id,
        network=port.network_id,
        mac=port.mac_address,
        mtu=network.mtu,
        addresses=tuple(f.ip_address for f in port.fixed_ips if f.ip_address),
        server="" if probe else port.device_id,
        guard=_guard(port, network) if port.port_security_enabled else None,
        attach="namespace" if probe else "tap",
    )


def _guard(port: Port, network: Network) -> Guard:
    pairs = allowed(port)
    return Guard(
        macs=tuple(dict.fromkeys([port.mac_address, *(pair.mac for pair in pairs)])),
        prefixes=tuple(dict.fromkeys(pair.prefix for pair in pairs)),
        vlan_transparent=bool(network.vlan_transparent),
    )


def _image(id: str, facts: ImageFacts) -> ImageSlice:
    return ImageSlice(
        id=id,
        disk_format=facts.disk_format,
        size=facts.size,
        sha512=facts.sha512,
        properties=dict(facts.properties),
    )


def _metadata(port: Port, snapshot: Snapshot) -> MetadataSlice:
    subnets = snapshot.all(Subnet)
    return MetadataSlice(
        network=port.network_id,
        port=port.id,
        mac=port.mac_address,
        addresses=tuple(
            f"{fixed.ip_address}/{subnet.cidr.rpartition('/')[2]}"
            for fixed in port.fixed_ips
            if fixed.ip_address and (subnet := subnets.get(fixed.subnet_id or "")) is not None
        ),
        mtu=snapshot.all(Network)[port.network_id].mtu,
    )
