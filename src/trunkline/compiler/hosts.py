"""Servers, ports and images to each host's slice.

    Server ── host ──▶ ServerSlice ── image ──▶ ImageSlice
       │ ports
       ▼
    Router ── gateway hosts ──▶ GatewaySlice
    Port, LocalIP ── associations on the host ──▶ PortSlice (local addresses)
    Unit of an appliance ──▶ UnitSlice, BusSlice, and PortSlice of its ports
    Port ── binding:host_id ──▶ PortSlice ── network ──▶ MetadataSlice, where the network has the service

Only what is the host's own is in its slice: a port that is bound to it and plugged into one of its
servers, or a probe; a server that is placed on it and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar, cast

import msgspec

from trunkline.compiler.addresses import metadata_port
from trunkline.compiler.appliances import buses_on, dispatcher_on, units_on
from trunkline.compiler.derive import Derivations, Node, View
from trunkline.compiler.metadata import meta_data, network_data, vendor_data
from trunkline.compiler.metering import counted_here
from trunkline.compiler.names import zone
from trunkline.compiler.network import sources
from trunkline.compiler.qos import link_share, packet_limits, policy_of
from trunkline.compiler.settings import REGION, Settings
from trunkline.compiler.slices import (
    Arrival,
    Departure,
    GatewaySlice,
    Guard,
    HostSlice,
    ImageSlice,
    KeptSlice,
    LocalAddress,
    MetadataSlice,
    MirrorSlice,
    Origin,
    PortSlice,
    ServerSlice,
)
from trunkline.compiler.snapshot import Snapshot
from trunkline.compiler.switching import allowed, transparent, uplinks
from trunkline.resources.compute import FlavorFacts, ImageFacts, LiveMove, Server
from trunkline.resources.network import (
    APPLIANCE_DISPATCHER,
    FloatingIP,
    LocalIP,
    Network,
    Port,
    Router,
    Subnet,
    TapMirror,
    Trunk,
    gateways_of,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Resource

#: The device owner of ports that are attached as a namespace of their own.
PROBE = "trunkline:probe"

Power = Literal["running", "stopped", "paused", "suspended"]
R = TypeVar("R", bound=Resource)


def host_slices(snapshot: Snapshot, settings: Settings) -> dict[str, HostSlice]:
    """The slice of every host, by its name; equal snapshots give equal slices."""
    derivations: Derivations[HostSlice] = Derivations(NODES, lambda one: (HostSlice, one.host))
    found = derivations.update(sources(snapshot, settings)).outputs.get(HostSlice, {})
    return {host: msgspec.structs.replace(one, revision=snapshot.intent) for host, one in found.items()}


def placed_on(server: Server) -> Iterator[str]:
    """The host that a server is on and stays on, and the one that it is on its way to."""
    if server.host and not server.deleting and server.move != "returning" and server.shelved != "offloading":
        yield server.host
        if server.arriving_on:
            yield server.arriving_on


def kept_on(server: Server) -> Iterator[str]:
    """The host that keeps the old disk of a server that moves."""
    if server.origin_host and not server.deleting:
        yield server.origin_host


def probe_on(port: Port) -> Iterator[str]:
    """The host of a probe."""
    if port.device_owner == PROBE and port.host_id:
        yield port.host_id


def prepared_on(port: Port) -> Iterator[str]:
    """The hosts with an inactive binding of a port that something is plugged into."""
    if port.device_id or port.device_owner == PROBE:
        yield from (each.host for each in port.bindings)


def host_slice(view: View, host: str) -> Iterator[HostSlice]:
    """What a host is told. The revision is given by who publishes it."""
    servers = view.where(Server, placed_on, host)
    own = [port for server in servers if server.host == host for port in _ports(view, server)]
    others = [p for where in (probe_on, prepared_on, dispatcher_on) for p in view.where(Port, where, host)]
    plugged = {port.id: port for port in _by_id([*own, *others])}
    routers = [router.id for router in view.where(Router, gateway_hosts, host)]
    gateways = (view.ask(gateway_slices, id) for id in routers)
    inner = [sub for port in plugged.values() for sub in sub_ports(view, port)]
    there = {port.network_id for port in (*plugged.values(), *inner)}
    services = (view.ask(metadata_port, id) for id in sorted(there))
    images = {server.image_id: server.image for server in servers if server.image is not None}
    images |= {server.disk_image_id: server.disk_image for server in servers if server.disk_image}
    images |= {server.rescue_image_id: server.rescue_image for server in servers if server.rescue_image}
    yield HostSlice(
        host=host,
        revision=0,
        servers=tuple(
            view.ask(server_slice if server.host == host else arriving_slice, server.id) for server in servers
        ),
        ports=tuple(view.ask(port_slice, id) for id in (*plugged, *(sub.id for sub in inner))),
        images=tuple(_image(id, facts) for id, facts in sorted(images.items())),
        metadata=tuple(view.ask(metadata_slice, port.id) for port in services if port is not None),
        gateways=tuple(gateway for each in gateways for gateway in each),
        kept=tuple(_kept(view, server) for server in view.where(Server, kept_on, host)),
        backend_remotes=view.need(Settings, REGION).backend_remotes,
        meters=counted_here(view, sorted(there), routers),
        units=units_on(view, host),
        buses=buses_on(view, host),
        promised={
            link.physical_network: link.egress_kbps
            for link in view.need(Host, host).promised_links
            if link.physical_network
        },
    )


def _kept(view: View, server: Server) -> KeptSlice:
    reader = view.get(Host, server.dest_host)
    return KeptSlice(
        server=server.id,
        serial=server.kept_serial,
        image=server.image_id,
        reader=server.dest_host,
        reader_key=reader.key if reader is not None else "",
    )


def _origin(view: View, server: Server) -> Origin | None:
    """Where the disk of a server that moves comes from."""
    if server.move not in ("arriving", "settled", "back"):
        return None
    host = view.get(Host, server.origin_host)
    return Origin(
        serial=server.move_serial,
        kept=server.kept_serial,
        host=server.origin_host,
        address=host.underlay_address if host is not None else "",
        key=host.key if host is not None else "",
        back=server.move == "back",
    )


NODES = (Node(Host, host_slice),)


def _ports(view: View, server: Server) -> list[Port]:
    """The ports of a server that are bound to its host, in the order of its interfaces."""
    found = (view.get(Port, id) for id in server.ports)
    return [p for p in found if p is not None and (p.device_id, p.host_id) == (server.id, server.host)]


def sub_ports(view: View, port: Port) -> list[Port]:
    """The sub-ports of a port that is the parent of a trunk, by VLAN."""
    trunk = None if port.parent_id else view.get(Trunk, port.trunk_id)
    found = (view.get(Port, sub.port_id) for sub in trunk.sub_ports) if trunk is not None else ()
    return sorted((sub for sub in found if sub is not None), key=lambda sub: sub.trunk_vlan or 0)


def _by_id(objects: Iterable[R]) -> list[R]:
    return sorted(objects, key=lambda each: each.id)


def server_slice(view: View, key: str) -> ServerSlice:
    """A server, as its host is told."""
    server = view.need(Server, key)
    flavor = server.flavor or FlavorFacts(name="", vcpus=1, ram=128)
    ports = _ports(view, server)
    inner = [(port, sub_ports(view, port)) for port in ports]
    everything = [each for port, subs in inner for each in (port, *subs)]
    networks = {port.network_id: view.need(Network, port.network_id) for port in everything}
    subnets = {
        subnet.id: subnet
        for port in everything
        for fixed in port.fixed_ips
        if (subnet := view.get(Subnet, fixed.subnet_id)) is not None
    }
    return ServerSlice(
        id=server.id,
        name=server.name,
        power=cast("Power", server.power),
        vcpus=flavor.vcpus,
        memory_mib=flavor.ram,
        disk_gib=flavor.disk,
        ephemeral_gib=flavor.ephemeral,
        swap_mib=flavor.swap,
        image=server.disk_image_id or server.image_id,
        ports=tuple(port.id for port in ports),
        park=server.move_serial if server.move == "leaving" else 0,
        origin=_origin(view, server),
        disk_serial=server.disk_serial,
        hard_reboot_serial=server.hard_reboot_serial,
        soft_reboot_serial=server.soft_reboot_serial,
        rescue=server.rescue_image_id,
        departure=_departure(server),
        snapshot=server.snapshot.image_id if server.snapshot else "",
        config_drive=server.config_drive,
        flavor=flavor.name,
        public_addresses=tuple(address for port in ports for address in _floating(view, port)),
        meta_data=meta_data(server, ports),
        network_data=network_data(inner, networks, subnets),
        vendor_data=vendor_data(view.need(Settings, REGION)),
        user_data=server.user_data,
    )


def arriving_slice(view: View, key: str) -> ServerSlice:
    """A server, as the host is told that it is on its way to."""
    server = view.need(Server, key)
    live = server.live or LiveMove(id="")
    arrival = Arrival(source=server.host, disks=tuple(live.disks), slots=tuple(live.slots))
    return msgspec.structs.replace(view.ask(server_slice, key), arrival=arrival, departure=None)


def _departure(server: Server) -> Departure | None:
    live = server.live
    if live is None:
        return None
    return Departure(
        move=live.id,
        host=server.arriving_on,
        address=live.address,
        memory_port=live.memory_port,
        disk_port=live.disk_port,
        force=live.force,
        abort=live.abort,
    )


def _floating(view: View, port: Port) -> list[str]:
    found = view.where(FloatingIP, "port_id", port.id)
    return sorted(each.floating_ip_address for each in found if each.floating_ip_address)


def port_slice(view: View, key: str) -> PortSlice:
    """A port, as its host is told."""
    port = view.need(Port, key)
    network = view.need(Network, port.network_id)
    plugged = view.need(Port, port.parent_id) if port.parent_id else port
    probe = plugged.device_owner == PROBE
    policy = policy_of(view, port)
    return PortSlice(
        id=port.id,
        network=port.network_id,
        mac=port.mac_address,
        mtu=network.mtu,
        addresses=tuple(f.ip_address for f in port.fixed_ips if f.ip_address),
        server="" if probe else plugged.device_id,
        guard=_guard(port) if port.port_security_enabled else None,
        attach=_attached(plugged),
        parent=port.parent_id,
        vlan=port.trunk_vlan or 0,
        vlan_transparent=transparent(network),
        mirrors=tuple(each for mirror in view.where(TapMirror, "port_id", key) for each in _mirrors(mirror)),
        local_addresses=() if port.parent_id else tuple(_local_addresses(view, port)),
        packet_limits=view.ask(packet_limits, policy) if policy else (),
        share=link_share(view, port),
    )


def _attached(port: Port) -> Literal["tap", "namespace", "unit"]:
    if port.device_owner == APPLIANCE_DISPATCHER:
        return "unit"
    return "namespace" if port.device_owner == PROBE else "tap"


def _local_addresses(view: View, port: Port) -> Iterator[LocalAddress]:
    """Where local IPs of the network lead from a port: to the first port on its host, itself apart."""
    for local in view.where(LocalIP, "network_id", port.network_id):
        for each in sorted(local.associations, key=lambda each: each.port_id):
            fixed = view.get(Port, each.port_id)
            if fixed is None or fixed.host_id != port.host_id or not fixed.host_id:
                continue
            if fixed.id != port.id and local.local_ip_address:
                translated = each.address if local.ip_mode == "translate" else ""
                yield LocalAddress(
                    address=local.local_ip_address, mac=fixed.mac_address, translated=translated
                )
            break


_SEEN_AS: dict[str, Literal["ingress", "egress", "both"]] = {"IN": "ingress", "OUT": "egress", "BOTH": "both"}


def _mirrors(mirror: TapMirror) -> Iterator[MirrorSlice]:
    for direction, number in sorted(mirror.directions.items()):
        yield MirrorSlice(
            id=f"{mirror.id}/{direction}",
            direction=_SEEN_AS[direction],
            type=mirror.mirror_type,
            remote_address=mirror.remote_ip,
            number=number,
        )


def _guard(port: Port) -> Guard:
    pairs = allowed(port)
    return Guard(
        macs=tuple(dict.fromkeys([port.mac_address, *(pair.mac for pair in pairs)])),
        prefixes=tuple(dict.fromkeys(pair.prefix for pair in pairs)),
    )


def _image(id: str, facts: ImageFacts) -> ImageSlice:
    return ImageSlice(
        id=id,
        disk_format=facts.disk_format,
        size=facts.size,
        sha512=facts.sha512,
        properties=dict(facts.properties),
    )


def metadata_slice(view: View, key: str) -> MetadataSlice:
    """The metadata service of a network, by its port."""
    port = view.need(Port, key)
    return MetadataSlice(
        network=port.network_id,
        port=port.id,
        mac=port.mac_address,
        addresses=tuple(
            f"{fixed.ip_address}/{subnet.cidr.rpartition('/')[2]}"
            for fixed in port.fixed_ips
            if fixed.ip_address and (subnet := view.get(Subnet, fixed.subnet_id)) is not None
        ),
        mtu=view.need(Network, port.network_id).mtu,
        zone=view.ask(zone, port.network_id),
    )


def gateway_hosts(router: Router) -> Iterator[str]:
    """The hosts that may carry a gateway of a router."""
    for gateway in gateways_of(router):
        yield from gateway.hosts


def gateway_slices(view: View, key: str) -> tuple[GatewaySlice, ...]:
    """The gateways of a router on physical networks: elsewhere, nobody learns where a MAC address is."""
    found = []
    for gateway in gateways_of(view.need(Router, key)):
        port, network = view.get(Port, gateway.port_id), view.get(Network, gateway.info.network_id)
        if port is None or network is None:
            continue
        for wire in uplinks(network):
            found.append(
                GatewaySlice(
                    id=port.id,
                    mac=port.mac_address,
                    network=port.network_id,
                    physical_network=wire.physical_network,
                    vlan=wire.vlan,
                    service_tag=wire.service_tag,
                    hosts=tuple(gateway.hosts),
                )
            )
    return tuple(found)
