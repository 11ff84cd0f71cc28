"""Servers move to another host while they run: chosen here, done by the two hosts, seen from their reports.

    asked for   a host is chosen, ports are bound there too (inactive)     status preparing
    source      tells the sizes of the disks, and where its devices are
    destination tells where it waits                                       -> the source begins: running
    source      has handed the guest over
    destination has the guest running      -> server and ports are its     -> completed
    either one  fails                      -> the server stays             -> failed

The guest runs on one host at any time: the destination's QEMU goes on when the source's has let go. A
server whose destination is lost after that, and before it was seen there, starts again from its disk on
the source.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from trunkline.api.compute import history, inventory, migrations, networking
from trunkline.api.compute.servers import find_host
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call
from trunkline.errors import BadField, BadRequest
from trunkline.plan.placement import NoHost
from trunkline.resources.compute import LiveMove, Migration, Server
from trunkline.resources.network import Binding
from trunkline.resources.region import Host
from trunkline.resources.reports import ServerReport


def begin(call: Call, server: Server, host: str, *, force: bool) -> Server:
    """Chooses a host and prepares it; the caller has checked the server's state, and saves it.

    Args:
        host: the one asked for, "" for any.
        force: whether the one asked for is taken as it is, without looking for room.
    Raises:
        BadField, BadRequest: the host is not there, is the server's own, or does not fit.
    """
    tx = call.tx
    if host and tx.get(Host, host) is None:
        raise BadField("os-migrateLive.host", f"Compute host {host[:80]} could not be found.")
    if host == server.host:
        raise BadField("os-migrateLive.host", f"instance {server.id} is on host {host} already.")
    found = host if host and force else find_host(tx, server, host=host, leave=True)
    if isinstance(found, NoHost):
        raise BadRequest(f"No valid host was found for instance {server.id}. {found}")
    source, dest = tx.get(Host, server.host), tx.get(Host, found)
    if source is None or dest is None or not source.alive or not dest.alive:
        raise BadRequest(f"The agents of hosts {server.host} and {found} must both report for this.")
    if (source.accelerator, source.datapath) != (dest.accelerator, dest.datapath):
        raise BadRequest(f"Host {found} runs guests otherwise than {server.host}. Choose another one.")
    move = migrations.begin(call, server, migrations.LIVE, "preparing", found)
    for port in networking.attached(call, server):
        others = [each for each in port.bindings if each.host != found]
        call.save(replace(port, bindings=[*others, Binding(host=found, vnic_type=port.vnic_type)]))
    return replace(server, arriving_on=found, live=LiveMove(id=move.id))


def seen_leaving(call: Call, server: Server, seen: ServerReport) -> Server | None:
    """What the source says; the server as it is from now on, None where nothing is another."""
    live, leaving = server.live, seen.leaving
    if live is None:
        return None
    if leaving is None or leaving.move != live.id:
        if seen.state in ("stopped", "crashed", "failed", "absent") and not live.gone:
            return failed(call, server, "The guest does not run any more.")
        return None
    if leaving.state == "failed":
        return failed(call, server, leaving.cause, "cancelled" if live.abort else "failed")
    new = replace(live, gone=live.gone or leaving.state == "gone")
    if not live.disks:
        new = replace(new, disks=list(leaving.disks), slots=list(leaving.slots))
    if leaving.state in ("disk", "memory"):
        migrations.advance(call.tx, server, "running", call.now)
    return replace(server, live=new) if new != live else None


def seen_arriving(call: Call, server: Server, seen: ServerReport | None) -> Server | None:
    """What the destination says; as `seen_leaving`."""
    live, arriving = server.live, None if seen is None else seen.arriving
    if live is None or arriving is None:
        return None
    if arriving.state == "failed":
        return failed(call, server, arriving.cause)
    if arriving.state == "here":
        return _arrived(call, server)
    host = call.tx.get(Host, server.arriving_on)
    address = host.underlay_address if host is not None else ""
    memory, disk = arriving.memory_port, arriving.disk_port
    new = replace(live, address=address, memory_port=memory, disk_port=disk)
    return replace(server, live=new) if new != live else None


def abort(call: Call, server: Server, move: Migration, allowed: Collection[str]) -> Server:
    """Asks the source to keep a server; where it was handed over meanwhile, it goes all the same.

    Args:
        allowed: the statuses in which it may be asked.
    Raises:
        BadRequest: the move is too far, or not far enough.
    """
    live = _under_way(server, move, allowed, "abort")
    return replace(server, live=replace(live, abort=True))


def force(call: Call, server: Server, move: Migration) -> Server:
    """Has the guest stand still until it is there, so that it gets there.

    Raises:
        BadRequest: it is not being sent.
    """
    return replace(server, live=replace(_under_way(server, move, ("running",), "force_complete"), force=True))


def _under_way(server: Server, move: Migration, allowed: Collection[str], action: str) -> LiveMove:
    live = server.live
    if live is None or live.id != move.id or live.gone or move.status not in allowed:
        raise BadRequest(
            f"Migration {move.number} state of instance {server.id} is {move.status}. Cannot {action} while "
            "the migration is in this state."
        )
    return live


def _arrived(call: Call, server: Server) -> Server:
    cloud, dest = networking.by_cloud(call), server.arriving_on
    for port in networking.attached(call, server):
        cloud.update(port, {"host_id": dest})
    migrations.advance(call.tx, server, "completed", call.now)
    zone = next((view.zone for view in inventory.views(call.tx) if view.name == dest), server.zone)
    return replace(server, host=dest, zone=zone, arriving_on="", live=None)


def failed(call: Call, server: Server, cause: str, status: str = "failed") -> Server:
    """The server stays where it is, and runs there."""
    live = server.live
    for port in networking.attached(call, server):
        left = [each for each in port.bindings if each.host != server.arriving_on]
        call.save(replace(port, bindings=left))
    migrations.advance(call.tx, server, status, call.now)
    history.fail(call.tx, server, f"Live migration to {server.arriving_on} {status}: {cause}", call.now)
    if live is not None and live.gone:
        server = replace(server, hard_reboot_serial=server.hard_reboot_serial + 1)
    return replace(server, arriving_on="", live=None)


def forget_lost(call: Call) -> None:
    """Keeps servers whose destination is gone or silent, and that were not handed over yet."""
    for host in call.tx.find(Host, alive=False):
        for server in call.tx.find(Server, arriving_on=host.id):
            if server.live is not None and not server.live.gone and not server.deleting:
                found = failed(call, server, f"host {host.id} does not report any more")
                call.save(settle(found, call.now))
