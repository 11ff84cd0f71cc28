"""Live migration: a running server's disk and memory go from one host's QEMU to another's.

    destination                                       source
    blank disk of the same size, QEMU waits,
    listens for the disk and for the memory  ──────▶  mirrors the disk (NBD), what the guest writes too
    on the underlay                                   sends the memory, stops the guest,
    runs                                     ◀──────  lets go of the disk, then hands over
                                                      and keeps all it has until the control plane says so

Both connections are TLS with the hosts' own certificates: the source goes on only with the host that it was
told, the destination takes only the host that it was told. Sources: QEMU, docs/interop/
live-block-operations.rst, "QMP invocation for live storage migration with drive-mirror + NBD", with
blockdev-mirror; qapi/migration.json, "pause-before-switchover".
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import Arrival, Departure
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.resources.reports import Arriving, Leaving

#: What things are called in QEMU.
_JOB, _TARGET, _EXPORT, _TLS, _PEER = "departure", "departure", "arrival", "underlay", "peer"
#: The guest may stand still for so long, milliseconds: QEMU sends memory until what is left takes less.
_DOWNTIME = 100
#: Bytes a second, none to speak of: the underlay is the limit.
_BANDWIDTH = 1 << 40


@dataclass(frozen=True)
class Underlay:
    """Where a host listens for servers that come, and how it shows who it is."""

    #: Its own address, without prefix length.
    address: str
    #: A folder with key and certificates under the names that QEMU knows.
    credentials: Path

    @classmethod
    def of(cls, config: AgentConfig, address: str) -> Underlay:
        """Of the host of this configuration; its certificates may be replaced later."""
        folder = config.folder / "t"
        folder.mkdir(mode=0o700, exist_ok=True)
        for end in ("server", "client"):
            _link(folder / f"{end}-key.pem", config.files.key)
            _link(folder / f"{end}-cert.pem", config.files.cert)
        _link(folder / "ca-cert.pem", config.authority)
        return cls(address, folder)

    def free_port(self) -> int:
        """A TCP port that nobody listens on; somebody else may be faster."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((self.address, 0))
            return int(probe.getsockname()[1])

    def uri(self, port: int) -> str:
        """Where memory is sent, in QEMU's words."""
        return _uri(self.address, port)


def _uri(address: str, port: int) -> str:
    return f"tcp:[{address}]:{port}" if ":" in address else f"tcp:{address}:{port}"


def _link(name: Path, target: Path) -> None:
    if not name.is_symlink() or os.readlink(name) != str(target.absolute()):
        name.unlink(missing_ok=True)
        name.symlink_to(target.absolute())


# The destination.


async def listen(monitor: Monitor, underlay: Underlay, arrival: Arrival) -> Arriving:
    """Has a QEMU that was started to wait take a server from its source; says where it listens.

    Raises:
        CommandRefused, Unavailable: it does not.
    """
    await _credentials(monitor, underlay, "server")
    peer = {"qom-type": "authz-simple", "id": _PEER, "identity": f"CN={arrival.source}"}
    await monitor.execute("object-add", peer)
    memory, disk = underlay.free_port(), underlay.free_port()
    await monitor.execute("migrate-set-parameters", {"tls-creds": _TLS, "tls-authz": _PEER})
    await monitor.execute("migrate-incoming", {"uri": underlay.uri(memory)})
    address = {"type": "inet", "data": {"host": underlay.address, "port": str(disk)}}
    server = {"addr": address, "tls-creds": _TLS, "tls-authz": _PEER, "max-connections": 1}
    await monitor.execute("nbd-server-start", server)
    export = {"type": "nbd", "id": _EXPORT, "node-name": "root", "name": _EXPORT, "writable": True}
    await monitor.execute("block-export-add", export)
    return Arriving(state="ready", memory_port=memory, disk_port=disk)


async def settle_in(monitor: Monitor) -> None:
    """Stops listening: the server is here. May be repeated."""
    with contextlib.suppress(CommandRefused):
        await monitor.execute("nbd-server-stop")
    for name in (_PEER, _TLS):
        with contextlib.suppress(CommandRefused):
            await monitor.execute("object-del", {"id": name})


# The source.


async def depart(monitor: Monitor, underlay: Underlay, departure: Departure, begun: bool) -> Leaving | None:
    """Goes one step further; None where there is nothing new yet.

    All that it goes by is what QEMU says, so another agent can go on.

    Args:
        begun: whether the migration that QEMU tells of may be this one.
    Raises:
        CommandRefused, Unavailable: QEMU says no, or does not answer.
    """
    job = await _mirror(monitor)
    found = await monitor.execute("query-migrate")
    status = str(found.get("status", "none"))
    if status == "completed":
        # One that came here by a migration tells of that one as long as it runs.
        state = (await monitor.execute("query-status"))["status"]
        if begun or state == "postmigrate":
            return Leaving(state="gone")
        if state == "finish-migrate":
            return None
    if begun and status in ("failed", "cancelled"):
        cause = str(found.get("error-desc") or f"QEMU says that it was {status}")
        return Leaving(state="failed", cause=cause)
    if status in ("pre-switchover", "device") or (job is None and status == "active"):
        if status == "pre-switchover":
            await _hand_over(monitor, job)
        return None
    if job is None and status not in ("setup", "active", "completing"):
        await _start_mirror(monitor, underlay, departure)
        return Leaving(state="disk")
    if job is not None and job.get("ready") and status not in ("setup", "active"):
        await _send_memory(monitor, departure)
        return Leaving(state="memory")
    return None


async def _start_mirror(monitor: Monitor, underlay: Underlay, departure: Departure) -> None:
    await stay(monitor)
    await _credentials(monitor, underlay, "client")
    target = {
        "driver": "nbd",
        "node-name": _TARGET,
        "server": {"type": "inet", "host": departure.address, "port": str(departure.disk_port)},
        "export": _EXPORT,
        "tls-creds": _TLS,
        "tls-hostname": departure.host,
    }
    await monitor.execute("blockdev-add", target)
    mirror = {"job-id": _JOB, "device": "root", "target": _TARGET, "sync": "full"}
    await monitor.execute("blockdev-mirror", {**mirror, "copy-mode": "write-blocking"})


async def _send_memory(monitor: Monitor, departure: Departure) -> None:
    wanted = ("pause-before-switchover", "events")
    capabilities = [{"capability": name, "state": True} for name in wanted]
    await monitor.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await monitor.execute(
        "migrate-set-parameters",
        {
            "downtime-limit": _DOWNTIME,
            "max-bandwidth": _BANDWIDTH,
            "tls-creds": _TLS,
            "tls-hostname": departure.host,
        },
    )
    await monitor.execute("migrate", {"uri": _uri(departure.address, departure.memory_port)})


async def _hand_over(monitor: Monitor, job: Mapping[str, Any] | None) -> None:
    """The guest stands still, and its disk is the same here and there: the mirror is let go of."""
    if job is not None:
        await monitor.execute("block-job-cancel", {"device": _JOB})
        while await _mirror(monitor) is not None:
            pass
    await monitor.execute("migrate-continue", {"state": "pre-switchover"})


async def stay(monitor: Monitor) -> None:
    """Ends all that was for a departure; the guest goes on here. May be repeated."""
    with contextlib.suppress(CommandRefused):
        await monitor.execute("migrate_cancel")
    if await _mirror(monitor) is not None:
        with contextlib.suppress(CommandRefused):
            await monitor.execute("block-job-cancel", {"device": _JOB, "force": True})
        while await _mirror(monitor) is not None:
            pass
    for command, arguments in (
        ("blockdev-del", {"node-name": _TARGET}),
        ("migrate-set-parameters", {"tls-creds": "", "tls-hostname": ""}),
        ("object-del", {"id": _TLS}),
    ):
        with contextlib.suppress(CommandRefused):
            await monitor.execute(command, arguments)


async def disk_bytes(monitor: Monitor) -> int:
    """The size of a running server's disk."""
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    (size,) = (int(node["image"]["virtual-size"]) for node in nodes if node["node-name"] == "root")
    return size


async def slots(monitor: Monitor) -> tuple[tuple[str, int], ...]:
    """The PCI slot of each device of a running server by its id."""
    (bus,) = await monitor.execute("query-pci")
    return tuple(sorted((str(d["qdev_id"]), int(d["slot"])) for d in bus["devices"] if d["qdev_id"]))


async def _mirror(monitor: Monitor) -> Mapping[str, Any] | None:
    jobs: list[Mapping[str, Any]] = await monitor.execute("query-block-jobs")
    return next((job for job in jobs if job["device"] == _JOB), None)


async def _credentials(monitor: Monitor, underlay: Underlay, endpoint: str) -> None:
    # The hosts' certificates are for elliptic curves, which need no key encipherment; QEMU before 10.1
    # asks for it all the same.
    credentials = {"dir": str(underlay.credentials), "endpoint": endpoint, "sanity-check": False}
    made = {"qom-type": "tls-creds-x509", "id": _TLS, "verify-peer": True, **credentials}
    await monitor.execute("object-add", made)
