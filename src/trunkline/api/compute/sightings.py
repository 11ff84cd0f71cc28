"""What a host says that it sees of a server."""

from __future__ import annotations

import msgspec


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not well: what, why, and what to do next."""

    what: str
    cause: str
    remedy: str = ""


class SnapshotObservation(msgspec.Struct, frozen=True, kw_only=True):
    """How far a host is with the image of a server's disk."""

    image: str
    #: taking, uploading, or failed, which has a cause.
    state: str
    cause: str = ""


class ArrivingObservation(msgspec.Struct, frozen=True, kw_only=True):
    """How far a server is that comes to a host while it runs."""

    #: ready, here, or failed, which has a cause.
    state: str
    memory_port: int = 0
    disk_port: int = 0
    cause: str = ""


class LeavingObservation(msgspec.Struct, frozen=True, kw_only=True):
    """How far a server is that leaves a host while it runs."""

    #: waiting, disk, memory, gone, or failed, which has a cause.
    state: str
    #: The id of its `Migration`.
    move: str = ""
    disk_bytes: int = 0
    slots: tuple[tuple[str, int], ...] = ()
    cause: str = ""


class ServerObservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a host sees of one server."""

    id: str
    #: absent, fetching, starting, running, stopped, paused, crashed or failed; unknown: not looked yet.
    state: str
    #: It is stopped because its guest powered itself off.
    halted: bool = False
    #: The serials reached.
    disk_serial: int = 0
    hard_reboot_serial: int = 0
    soft_reboot_serial: int = 0
    #: The number that its disk is set aside under, and the newest origin that its disk came from.
    parked: int = 0
    moved: int = 0
    #: Ports that the guest's devices answer for.
    ports: tuple[str, ...] = ()
    problem: Trouble | None = None
    snapshot: SnapshotObservation | None = None
    arriving: ArrivingObservation | None = None
    leaving: LeavingObservation | None = None
    accelerated: bool = False
