"""A host's slice: all that one host needs to know, and nothing else.

The compiler derives it; it travels to the agent as JSON over the host channel. The agent drives
its host towards the newest slice, whatever it finds there. Nothing in a slice is a command: a
reboot is a serial number that the agent has or has not reached yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from trunkline.compiler.unit_slices import BusSlice, UnitSlice

#: Header of the answer to a report: which run of the control plane gave it. What is kept in its memory
#: alone, as the consoles are, another run has to be told anew.
RUN_HEADER = "X-Trunkline-Run"


class Guard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a workload may claim to be, for the filters at its own interface.

    Where a port has port security, its host drops router advertisements and DHCP server messages
    from it, and neighbour discovery that claims any other address or MAC.
    """

    macs: tuple[str, ...]
    #: Addresses and prefixes.
    prefixes: tuple[str, ...]


class MirrorSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Copies of the frames of a port, which its host sends away as one stream."""

    #: Told apart by it from the other mirrors of a host.
    id: str
    #: As the port sees it: ingress is what comes to it.
    direction: Literal["ingress", "egress", "both"]
    type: Literal["gre", "erspanv1"]
    #: Where to: an address without prefix length.
    remote_address: str
    #: The key of GRE, the session of ERSPAN.
    number: int


class PacketLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many packets pass in one direction; what is more is dropped."""

    #: As the port sees it: ingress is what comes to it.
    direction: Literal["ingress", "egress"]
    #: Packets a second, and how many may come at once.
    rate: int
    burst: int


class LinkShare(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """So much of what is sent by a link is a port's, whatever others send there."""

    physical_network: str
    #: Kilobits a second.
    kbps: int


class LocalAddress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An address that leads to another port of the same host, for whoever asks for it at a port."""

    address: str
    #: The MAC address of the port that it leads to.
    mac: str
    #: The address that packets get; "" where they stay as they are.
    translated: str = ""


class PortSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port that is to be plugged in on the host."""

    #: The port's id, and the name under which it is plugged in (``iface-id``).
    id: str
    network: str
    mac: str
    mtu: int
    addresses: tuple[str, ...] = ()
    #: The server that it belongs to; "" for a probe.
    server: str = ""
    #: None without port security.
    guard: Guard | None = None
    #: "tap": a server's interface. "namespace": a network namespace of its own, with this port
    #: as eth0 (probes of the lab, and namespace workloads). "unit": the inner end is the unit's whose id is
    #: `server`.
    attach: Literal["tap", "namespace", "unit"] = "tap"
    #: Of a sub-port of a trunk: the port that is plugged in for it, and the VLAN that it has there.
    parent: str = ""
    vlan: int = 0
    #: Whether frames with tags (IEEE Std 802.1Q) of the guests' own pass, unlooked at.
    vlan_transparent: bool = False
    mirrors: tuple[MirrorSlice, ...] = ()
    #: Those that the port's workload finds on its host. Not of sub-ports.
    local_addresses: tuple[LocalAddress, ...] = ()
    #: One a direction.
    packet_limits: tuple[PacketLimit, ...] = ()
    #: Of the link to its own network, where that is a physical one.
    share: LinkShare | None = None


class ImageSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image that a server of the host starts from, fetched by ``GET /images/{id}``."""

    id: str
    disk_format: str
    size: int
    #: SHA-512 of the file, hexadecimal.
    sha512: str
    #: Boot the kernel of this image directly: properties of the image, as the agent knows them.
    properties: dict[str, str] = {}


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the disk of a server that moves comes from: a host that has set it aside."""

    #: Reached when it has come. (The server's disk is not looked for elsewhere before that.)
    serial: int
    #: Under which it was set aside there.
    kept: int
    #: That host, its address on the underlay, and SHA-256 of its public key (hexadecimal).
    host: str
    address: str = ""
    key: str = ""
    #: The move is undone: it is not copied, but given back by this host itself.
    back: bool = False


class KeptSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The disk of a server that moved, set aside on the host that it left until the move is confirmed."""

    server: str
    #: Which move it was set aside for.
    serial: int
    #: The image that it builds on.
    image: str
    #: The host that may read it, and SHA-256 of that host's public key (hexadecimal).
    reader: str
    reader_key: str = ""


class Arrival(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server that is to come here while it runs."""

    #: The host that it leaves, by the common name of its certificate.
    source: str
    #: The sizes of its disks in bytes, by their names; none as long as the source has not said.
    disks: tuple[tuple[str, int], ...] = ()
    #: The PCI slots of its devices by their ids, which must be the same here.
    slots: tuple[tuple[str, int], ...] = ()


class Departure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server that is to go elsewhere while it runs."""

    #: Tells this attempt from earlier ones.
    move: str
    #: The host that it goes to, by the common name of its certificate.
    host: str
    #: Where that host waits for memory and disk; "" as long as it does not.
    address: str = ""
    memory_port: int = 0
    disk_port: int = 0
    #: The guest is to stand still until it is there.
    force: bool = False
    #: It is to stay after all, where that is still to be had.
    abort: bool = False


class ServerSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server that the host runs, or keeps stopped."""

    id: str
    name: str
    power: Literal["running", "stopped", "paused", "suspended"]
    vcpus: int
    memory_mib: int
    #: The size of the root disk, 0 for the size of the image.
    disk_gib: int
    image: str
    #: A second disk, and one to swap to; 0 for none.
    ephemeral_gib: int = 0
    swap_mib: int = 0
    #: Port ids, in the order of the interfaces.
    ports: tuple[str, ...]
    #: Not 0: it is to be stopped, and its disk set aside under this number.
    park: int = 0
    origin: Origin | None = None
    #: Counts rebuilds: a new number means a fresh root disk from `image`.
    disk_serial: int = 0
    #: Counts reboots. A hard one resets, a soft one asks the guest first.
    hard_reboot_serial: int = 0
    soft_reboot_serial: int = 0
    #: The image whose disk it boots from for now, with its own disk behind it; "" for its own disk.
    rescue: str = ""
    #: It is not here yet, and comes while it runs.
    arrival: Arrival | None = None
    #: It goes elsewhere while it runs.
    departure: Departure | None = None
    #: The id of an image that is to be made of the root disk, and uploaded; "" for none.
    snapshot: str = ""
    config_drive: bool = False
    #: The name of the flavor, and the floating addresses of the server: the metadata service tells them.
    flavor: str = ""
    public_addresses: tuple[str, ...] = ()
    #: The files of the metadata service, by path: "openstack/latest/meta_data.json",
    #: "openstack/latest/user_data" (base64 in JSON), "ec2/..." are derived by the agent.
    meta_data: dict[str, Any] = {}
    network_data: dict[str, Any] = {}
    vendor_data: dict[str, Any] = {}
    #: base64, as given in the API; "" for none.
    user_data: str = ""


class NamesSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whole names to their addresses."""

    #: Of the network's own hosts.
    own: dict[str, tuple[str, ...]] = {}
    #: What is told beside: none of these names is also among the own ones.
    beside: dict[str, tuple[str, ...]] = {}


class ZoneSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The names that are told to whoever asks on one network: in lower case, with no dot at the end."""

    #: The region's domain, whose names nobody else knows.
    region_domain: str
    #: The domain of the network, which may be the same.
    domain: str
    #: The names, each in the part that `trunkline.names.part_of` tells: where there are many, a change is of
    #: one part. None for one that is as in the slice that the host has (`changed_names`). An address that
    #: several names have is called by the first one, an own one if there is any.
    names: tuple[NamesSlice | None, ...] = ()
    #: The name servers that other names are asked of; nobody is asked where there are none.
    forwarders: tuple[str, ...] = ()


class MetadataSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network whose metadata service the host must run (it has a port of it)."""

    network: str
    #: The metadata port (``iface-id`` of a localport), its MAC and its addresses with prefix length.
    port: str
    mac: str
    addresses: tuple[str, ...]
    mtu: int
    #: What its name service tells; None where it has none.
    zone: ZoneSlice | None = None


class GatewaySlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A router's gateway that the host carries, or would where others are away."""

    #: The gateway port's id, and its MAC address.
    id: str
    mac: str
    #: The external network, and where it is on the wire.
    network: str
    physical_network: str
    vlan: int | None = None
    #: Whether the tag of the VLAN is a service's (type 0x88a8).
    service_tag: bool = False
    #: The hosts that may carry it, the most wanted first.
    hosts: tuple[str, ...]


class MeterRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Packets of one direction, by the prefixes that they come from and go to: both of one family."""

    #: ingress: what comes in by a gateway.
    direction: Literal["ingress", "egress"]
    source: str
    destination: str
    #: They are left out, whatever other rules say.
    excluded: bool = False


class MeterSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A metering label: what the host counts for it."""

    label: str
    #: The MAC addresses of the gateways that it is counted at.
    gateways: tuple[str, ...]
    rules: tuple[MeterRule, ...]


class HostSlice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything for one host, at one revision of the store."""

    host: str
    revision: int
    servers: tuple[ServerSlice, ...] = ()
    ports: tuple[PortSlice, ...] = ()
    images: tuple[ImageSlice, ...] = ()
    metadata: tuple[MetadataSlice, ...] = ()
    gateways: tuple[GatewaySlice, ...] = ()
    kept: tuple[KeptSlice, ...] = ()
    meters: tuple[MeterSlice, ...] = ()
    units: tuple[UnitSlice, ...] = ()
    buses: tuple[BusSlice, ...] = ()
    #: Where the host's end of the backend finds its database, every member of it, as "ssl:10.99.0.10:6642";
    #: none where the agent's configuration is to be believed.
    backend_remotes: tuple[str, ...] = ()
    #: What the operator says that links to physical networks carry of what is sent, kilobits a second; of
    #: others, it is the speed of their interfaces.
    promised: dict[str, int] = {}


def changed_names(new: HostSlice, known: HostSlice) -> HostSlice:
    """A slice for a host that has another one: names are told only where they are others than there."""

    def told(new: ZoneSlice, known: ZoneSlice) -> ZoneSlice:
        pairs = zip(new.names, known.names, strict=True)
        names = tuple(None if part == old else part for part, old in pairs)
        return msgspec.structs.replace(new, names=names)

    return _with_names(new, known, told)


def whole_names(told: HostSlice, known: HostSlice | None) -> HostSlice | None:
    """What `changed_names` was made of, by the host that has `known`; None where that is another slice."""

    def whole(told: ZoneSlice, known: ZoneSlice) -> ZoneSlice:
        pairs = zip(told.names, known.names, strict=True)
        return msgspec.structs.replace(told, names=tuple(part or old for part, old in pairs))

    found = told if known is None else _with_names(told, known, whole)
    zones = (each.zone for each in found.metadata if each.zone is not None)
    return None if any(None in zone.names for zone in zones) else found


def _with_names(
    slice_: HostSlice, known: HostSlice, zone: Callable[[ZoneSlice, ZoneSlice], ZoneSlice]
) -> HostSlice:
    """A slice with other zones, where both slices have one of a network, in as many parts."""
    zones = {each.network: each.zone for each in known.metadata}

    def changed(each: MetadataSlice) -> MetadataSlice:
        new, old = each.zone, zones.get(each.network)
        if new is None or old is None or len(new.names) != len(old.names):
            return each
        return msgspec.structs.replace(each, zone=zone(new, old))

    return msgspec.structs.replace(slice_, metadata=tuple(map(changed, slice_.metadata)))
