"""What a host's agent reports of what it sees: the contract of the host channel, and what the APIs read.

It travels as JSON, and parts of it are stored as they came. A field that is new has a default, so that agents
and control planes of neighbouring versions understand each other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ServerState = Literal[
    "unknown", "absent", "fetching", "starting",
    "running", "stopped", "paused", "suspended", "crashed", "failed",
]  # fmt: skip


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is not well, seen on a host: what, why, and what to do next."""

    what: str
    cause: str
    remedy: str = ""


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the image is that is made of a server's disk."""

    #: The image's id.
    image: str
    state: Literal["taking", "uploading", "failed"]
    #: Why it failed: it is not tried any more.
    cause: str = ""


class Arriving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a server is that comes to the host while it runs."""

    #: "ready": it is waited for. "here": it runs here, and does not any more where it came from.
    state: Literal["ready", "here", "failed"]
    memory_port: int = 0
    disk_port: int = 0
    cause: str = ""


class Leaving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a server is that leaves the host while it runs."""

    #: "gone": it was handed over whole, and does not run here any more. "failed": it goes on here.
    state: Literal["waiting", "disk", "memory", "gone", "failed"]
    #: Which attempt: the id of its `Migration`.
    move: str = ""
    #: The sizes of its disks in bytes, and the PCI slots of its devices, by their names.
    disks: tuple[tuple[str, int], ...] = ()
    slots: tuple[tuple[str, int], ...] = ()
    cause: str = ""


class ServerReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent sees of one server."""

    id: str
    #: "unknown": an agent that was just started has not looked yet.
    state: ServerState
    #: It is stopped because its guest powered itself off, and not because that was wanted. It stays so until
    #: it is wanted stopped, or a reboot or a rebuild is.
    halted: bool = False
    #: The serials reached.
    disk_serial: int = 0
    hard_reboot_serial: int = 0
    soft_reboot_serial: int = 0
    #: The number under which its disk is set aside, 0 where it is not; the newest origin that came.
    parked: int = 0
    moved: int = 0
    #: Ports that are plugged in and answered for by a running guest device.
    ports: tuple[str, ...] = ()
    problem: Condition | None = None
    snapshot: SnapshotReport | None = None
    arriving: Arriving | None = None
    leaving: Leaving | None = None
    #: Whether the guest runs under KVM.
    accelerated: bool = False
    #: Why one that was to be suspended goes on running; "" where it does not.
    unsuspended: str = ""


class HostDaemon(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon of a host, as its agent last saw it."""

    name: str
    alive: bool
    #: It did what it is for when last asked (not only: a process exists).
    well: bool
    detail: str = ""
    restarts: int = 0
    #: When its process started, seconds since the epoch; 0 where that is not known.
    since: float = 0.0


class HostLink(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much can be sent and got in a second by a link of the host, as its interface says."""

    #: The physical network that it leads to; "" for the tunnels between hosts.
    physical_network: str = ""
    egress_kbps: int
    ingress_kbps: int


class MeterReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the host has counted for a metering label, all in all."""

    label: str
    #: Another one where the host lost count, and began anew.
    since: str
    ingress_packets: int = 0
    #: From the IP header on.
    ingress_bytes: int = 0
    egress_packets: int = 0
    egress_bytes: int = 0


class UnitEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened in an appliance, as one of its units tells it."""

    #: Tells it apart from all others of its unit, and grows.
    serial: int
    #: Seconds since the epoch.
    at: float
    what: str
    cause: str = ""


class ListenerCount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a data plane counted of a listener since its program began."""

    #: Connections that it has now, and all that there were.
    connections: int = 0
    total: int = 0
    #: From clients, and to them.
    bytes_in: int = 0
    bytes_out: int = 0
    #: Requests that could not be answered.
    errors: int = 0

    def __add__(self, other: ListenerCount) -> ListenerCount:
        names = self.__struct_fields__
        return ListenerCount(**{name: getattr(self, name) + getattr(other, name) for name in names})


class LoggedPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A packet that began a connection, and that a rule of a firewall logged."""

    #: Tells it apart from all others of its unit, and grows.
    serial: int
    #: Seconds since the epoch.
    at: float
    #: The rule's name, and what it did.
    rule: str
    action: str
    #: The number of its protocol (IANA).
    protocol: int
    #: As they are where it is forwarded: its target is translated already.
    source: str
    target: str
    #: Of TCP and UDP.
    source_port: int = 0
    target_port: int = 0


class UnitStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a compute unit says of itself, once a second and when it changes."""

    #: Another one each time that its program starts.
    incarnation: str
    #: Of its program: Trunkline's version, and a digest of what units run of it.
    version: str = ""
    #: Of the manager that it follows, 0 where it never had one.
    epoch: int = 0
    #: Of the policy that it applies.
    policy_revision: int = 0
    #: How much of its processors it uses, 0 to 1: its agent fills that in.
    load: float = 0.0
    packets: int = 0
    bytes: int = 0
    #: Of a processor, that the kernel gave to its packets.
    packets_seconds: float = 0.0
    #: Packets that it dropped, by reason.
    drops: dict[str, int] = {}
    #: Of a data plane: how many shards it owns, of how many it has a copy, and the flows that it knows of
    #: both.
    shards: int = 0
    copies: int = 0
    flows: int = 0
    #: ... how members of listeners are, by "listener/pool/address:port" (the pool is "" where it is the
    #: default one), and what listeners counted, by name.
    members: dict[str, Literal["up", "down", "unknown"]] = {}
    listeners: dict[str, ListenerCount] = {}
    #: Shards of others of which connections end in its sockets: it stays until they have ended.
    ends: tuple[int, ...] = ()
    #: Of a dispatcher: zones whose addresses it has.
    serves: tuple[str, ...] = ()
    #: Units that do not answer: of a dispatcher, on the in-band bus; of a manager that leads, on the other.
    silent: tuple[int, ...] = ()
    #: Of a manager: whether it leads, and then what it sees: members that nothing depends on any more, of how
    #: many shards a copy is yet to be made, and why the newest policy is refused.
    leads: bool = False
    empty: tuple[int, ...] = ()
    uncopied: int = 0
    refused: str = ""
    #: The last few.
    events: tuple[UnitEvent, ...] = ()
    #: Of a data plane: the last few that its rules logged, and how many there were besides that are not told.
    logged: tuple[LoggedPacket, ...] = ()
    unlogged: int = 0
    problems: tuple[Condition, ...] = ()


class UnitReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent sees of a compute unit."""

    id: str
    #: The id of its appliance.
    appliance: str = ""
    #: The serial that it was started with.
    serial: int = 0
    #: "running": its program answers.
    state: Literal["starting", "running", "failed"]
    #: When it was started, seconds since the epoch, and how often it was started again.
    since: float = 0.0
    restarts: int = 0
    #: Why it failed, or ended the last time.
    problem: Condition | None = None
    status: UnitStatus | None = None


class HostReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent sees, sent on every change and at least every two seconds."""

    host: str
    #: Its own address on the underlay, without prefix length: where the other hosts reach it.
    address: str = ""
    #: Where their agents reach it for the buses of appliances, if elsewhere.
    bus_address: str = ""
    #: The newest revision that the agent has fully applied.
    applied_revision: int
    vcpus: int
    memory_mib: int
    disk_gib: int
    accelerator: Literal["kvm", "tcg"] = "tcg"
    datapath: Literal["system", "netdev"] = "netdev"
    servers: tuple[ServerReport, ...] = ()
    #: Ports plugged in.
    ports: tuple[str, ...] = ()
    daemons: tuple[HostDaemon, ...] = ()
    problems: tuple[Condition, ...] = ()
    physical_networks: tuple[str, ...] = ()
    #: When the agent's own process started, seconds since the epoch.
    since: float = 0.0
    #: Those whose speed is known.
    links: tuple[HostLink, ...] = ()
    meters: tuple[MeterReport, ...] = ()
    units: tuple[UnitReport, ...] = ()
