"""Servers, ports and images to each host's slice."""

from __future__ import annotations

from collections import defaultdict

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
from trunkline.resources.compute import Server
from trunkline.resources.image import Image
from trunkline.resources.network import METADATA, Network, Port, Subnet
from trunkline.resources.region import Host

PROBE = "trunkline:probe"


def host_slices(snapshot: Snapshot, settings: Settings) -> dict[str, HostSlice]:
    """The slice of every host."""
    ports: dict[str, list[Port]] = defaultdict(list)
    metadata: dict[str, Port] = {}
    for _, port in sorted(snapshot.all(Port).items()):
        if port.device_owner == METADATA:
            metadata[port.network_id] = port
        elif port.host_id:
            ports[port.host_id].append(port)
    servers: dict[str, list[Server]] = defaultdict(list)
    for _, server in sorted(snapshot.all(Server).items()):
        if server.host and not server.deleting:
            servers[server.host].append(server)
    slices = {}
    for host in snapshot.all(Host):
        own = [p for p in ports[host] if p.device_owner == PROBE or p.device_id in snapshot.all(Server)]
        networks = sorted({p.network_id for p in own} & metadata.keys())
        images = sorted({s.image_id for s in servers[host]})
        slices[host] = HostSlice(
            host=host,
            revision=snapshot.intent,
            ports=tuple(_port(p, snapshot) for p in own),
            metadata=tuple(_metadata(metadata[n], snapshot) for n in networks),
            servers=tuple(_server(s, settings) for s in servers[host]),
            images=tuple(_image(i) for key in images if (i := snapshot.get(Image, key)) is not None),
        )
    return slices


def _port(port: Port, snapshot: Snapshot) -> PortSlice:
    guard = None
    if port.port_security_enabled:
        pairs = allowed(port)
        guard = Guard(
            macs=tuple(sorted({port.mac_address, *(p.mac for p in pairs)})),
            prefixes=tuple(dict.fromkeys(p.prefix for p in pairs)),
        )
    return PortSlice(
        id=port.id,
        network=port.network_id,
        mac=port.mac_address,
        mtu=snapshot.all(Network)[port.network_id].mtu,
        addresses=tuple(f.ip_address for f in port.fixed_ips if f.ip_address),
        server="" if port.device_owner == PROBE else port.device_id,
        guard=guard,
        attach="namespace" if port.device_owner == PROBE else "tap",
    )


def _metadata(port: Port, snapshot: Snapshot) -> MetadataSlice:
    subnets = snapshot.all(Subnet)
    return MetadataSlice(
        network=port.network_id,
        port=port.id,
        mac=port.mac_address,
        addresses=tuple(
            f"{f.ip_address}/{subnets[f.subnet_id].cidr.rpartition('/')[2]}"
            for f in port.fixed_ips
            if f.ip_address and f.subnet_id
        ),
        mtu=snapshot.all(Network)[port.network_id].mtu,
    )


def _image(image: Image) -> ImageSlice:
    return ImageSlice(
        id=image.id,
        disk_format=image.disk_format or "qcow2",
        size=image.size or 0,
        sha512=image.os_hash_value or "",
    )


def _server(server: Server, settings: Settings) -> ServerSlice:
    keys = {server.key_name: server.public_key} if server.key_name else {}
    return ServerSlice(
        id=server.id,
        name=server.name,
        power=server.power,  # type: ignore[arg-type]
        vcpus=server.flavor.vcpus if server.flavor else 1,
        memory_mib=server.flavor.ram if server.flavor else 128,
        disk_gib=server.flavor.disk if server.flavor else 0,
        image=server.image_id,
        ports=tuple(server.ports),
        disk_serial=server.disk_serial,
        hard_reboot_serial=server.hard_reboot_serial,
        soft_reboot_serial=server.soft_reboot_serial,
        config_drive=server.config_drive,
        user_data=server.user_data,
        meta_data={
            "uuid": server.id,
            "name": server.name,
            "hostname": server.hostname,
            "project_id": server.project_id,
            "availability_zone": server.zone,
            "launch_index": server.launch_index,
            "meta": server.metadata,
            "public_keys": keys,
        },
        vendor_data={"trunkline": {"authorized_keys": list(settings.operator_keys)}},
    )
