"""Live migration: a running server's disks and memory go from one host's QEMU to another's.

    destination                                       source
    blank disks of the same sizes, QEMU waits,
    listens for the disks and for the memory ──────▶  mirrors the disks (NBD), what the guest writes too
    on the underlay                                   sends the memory, stops the guest,
    runs                                     ◀──────  lets go of the disks, then hands over
                                                      and keeps all it has until the control plane says so

Both connections are TLS with the hosts' own certificates: the source goes on only with the host that it was
told, the destination takes only the host that it was told. Sources: QEMU, docs/interop/
live-block-operations.rst, "QMP invocation for live storage migration with drive-mirror + NBD", with
blockdev-mirror; qapi/migration.json, "pause-before-switchover".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import Arrival, Departure
from trunkline.devices.qmp import CommandRefused, Monitor
from trunkline.resources.reports import Arriving, Leaving

#: What things are called in QEMU.
_TLS, _PEER = "underlay", "peer"
#: Of each disk: the job that mirrors it, the node that it is mirrored to, what it is exported as.
_JOB, _TARGET, _EXPORT = "departure-", "departure-", "arrival-"
#: A migration is under way while QEMU tells one of these.
_UNDER_WAY = ("setup", "active", "pre-switchover", "device", "completing", "cancelling")
#: The guest may stand still for so long, milliseconds: QEMU sends memory until what is left takes less.
_DOWNTIME = 100
#: How often it is looked for what takes a moment, seconds.
_SOON = 0.02
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
    most = len(arrival.disks)
    server = {"addr": address, "tls-creds": _TLS, "tls-authz": _PEER, "max-connections": most}
    await monitor.execute("nbd-server-start", server)
    for name, _ in arrival.disks:
        export = {"type": "nbd", "id": _EXPORT + name, "node-name": name, "name": _EXPORT + name}
        await monitor.execute("block-export-add", {**export, "writable": True})
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
    jobs = await _mirrors(monitor)
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
    if status in ("pre-switchover", "device") or (not jobs and status == "active"):
        if status == "pre-switchover":
            await _hand_over(monitor)
        return None
    if status in _UNDER_WAY:
        return None
    missing = [name for name, _ in await disk_sizes(monitor) if name not in jobs]
    if missing:
        await _start_mirrors(monitor, underlay, departure, missing, first=not jobs)
        return Leaving(state="disk")
    if all(job.get("ready") for job in jobs.values()):
        await _send_memory(monitor, departure)
        return Leaving(state="memory")
    return None


async def _start_mirrors(
    monitor: Monitor, underlay: Underlay, departure: Departure, disks: Sequence[str], *, first: bool
) -> None:
    if first:
        await stay(monitor)
        await _credentials(monitor, underlay, "client")
    for name in disks:
        node = _TARGET + name
        target = {
            "driver": "nbd",
            "node-name": node,
            "server": {"type": "inet", "host": departure.address, "port": str(departure.disk_port)},
            "export": _EXPORT + name,
            "tls-creds": _TLS,
            "tls-hostname": departure.host,
        }
        with contextlib.suppress(CommandRefused):
            # One of an agent that ended before it came to the mirror.
            await monitor.execute("blockdev-del", {"node-name": node})
        await monitor.execute("blockdev-add", target)
        mirror = {"job-id": _JOB + name, "device": name, "target": node, "sync": "full"}
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


async def _hand_over(monitor: Monitor) -> None:
    """The guest stands still, and its disks are the same here and there: the mirrors are let go of."""
    for name in await _mirrors(monitor):
        await monitor.execute("block-job-cancel", {"device": _JOB + name})
    while await _mirrors(monitor):
        await asyncio.sleep(_SOON)
    await monitor.execute("migrate-continue", {"state": "pre-switchover"})


async def give_up(monitor: Monitor) -> bool:
    """Ends a departure, where that is still to be had: the guest goes on here.

    Returns: whether it does; otherwise it was handed over whole.
    """
    with contextlib.suppress(CommandRefused):
        await monitor.execute("migrate_cancel")
    while (status := await outcome(monitor)) in _UNDER_WAY:
        await asyncio.sleep(_SOON)
    state = (await monitor.execute("query-status"))["status"]
    if status == "completed" and state in ("postmigrate", "finish-migrate"):
        return False
    await stay(monitor)
    return True


async def stay(monitor: Monitor) -> None:
    """Ends all that was for a departure; the guest goes on here. May be repeated."""
    with contextlib.suppress(CommandRefused):
        await monitor.execute("migrate_cancel")
    for name in await _mirrors(monitor):
        with contextlib.suppress(CommandRefused):
            await monitor.execute("block-job-cancel", {"device": _JOB + name, "force": True})
    while await _mirrors(monitor):
        await asyncio.sleep(_SOON)
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    targets = [node["node-name"] for node in nodes if node["node-name"].startswith(_TARGET)]
    for command, arguments in (
        *(("blockdev-del", {"node-name": target}) for target in targets),
        ("migrate-set-parameters", {"tls-creds": "", "tls-hostname": ""}),
        ("object-del", {"id": _TLS}),
    ):
        with contextlib.suppress(CommandRefused):
            await monitor.execute(command, arguments)
    state = (await monitor.execute("query-status"))["status"]
    if state == "postmigrate" and await outcome(monitor) in ("failed", "cancelled"):
        # QEMU has a guest go on by itself that ran before; one that stood still, it leaves like this.
        await monitor.execute("cont")


async def outcome(monitor: Monitor) -> str:
    """What QEMU says of the last migration, in its words."""
    return str((await monitor.execute("query-migrate")).get("status", "none"))


async def disk_sizes(monitor: Monitor) -> tuple[tuple[str, int], ...]:
    """The disks of a running server that go along, by their names, with their sizes in bytes."""
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    sizes = {str(node["node-name"]): int(node["image"]["virtual-size"]) for node in nodes}
    return tuple((name, sizes[name]) for name in ("root", "ephemeral", "swap") if name in sizes)


async def slots(monitor: Monitor) -> tuple[tuple[str, int], ...]:
    """The PCI slot of each device of a running server by its id."""
    (bus,) = await monitor.execute("query-pci")
    return tuple(sorted((str(d["qdev_id"]), int(d["slot"])) for d in bus["devices"] if d["qdev_id"]))


async def _mirrors(monitor: Monitor) -> Mapping[str, Mapping[str, Any]]:
    """The jobs that mirror disks, by the names of the disks."""
    jobs = await monitor.execute("query-block-jobs")
    return {str(job["device"]).removeprefix(_JOB): job for job in jobs if str(job["device"]).startswith(_JOB)}


async def _credentials(monitor: Monitor, underlay: Underlay, endpoint: str) -> None:
    # The hosts' certificates are for elliptic curves, which need no key encipherment; QEMU before 10.1
    # asks for it all the same.
    credentials = {"dir": str(underlay.credentials), "endpoint": endpoint, "sanity-check": False}
    made = {"qom-type": "tls-creds-x509", "id": _TLS, "verify-peer": True, **credentials}
    await monitor.execute("object-add", made)
