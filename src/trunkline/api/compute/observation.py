"""What hosts see of servers, into the store: the one arrow that runs back.

Only differences are written. A server that is being deleted goes when its host has nothing of it left,
or is not heard of any more. A guest that powered itself off changes what is wanted: its server is to be
stopped from then on, as if that had been asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.api.compute import history, live, migrations, move_steps, shelving, snapshots, stranded
from trunkline.api.compute.status import powered_itself_off, settle
from trunkline.api.engine import Call
from trunkline.resources.compute import Fault, Server
from trunkline.resources.network import Port
from trunkline.resources.region import Host
from trunkline.resources.reports import ServerReport
from trunkline.store import Tx


def observe(call: Call, host: str, reports: Sequence[ServerReport]) -> None:
    """Writes what a host sees of its servers.

    Args:
        call: the cloud's own.
        reports: of all servers that the host has; one that is not there, it does not have.
    """
    tx, now = call.tx, call.now
    seen = {report.id: report for report in reports}
    for server in tx.find(Server, arriving_on=host):
        if not server.deleting:
            _moved(call, live.seen_arriving(call, server, seen.get(server.id)))
    for server in tx.find(Server, host=host):
        report = seen.get(server.id)
        if server.deleting and (report is None or report.state == "absent"):
            remove(tx, server, now)
            continue
        if server.move == "returning" and (report is None or report.state == "absent"):
            tx.replace(move_steps.gone(call, server))
            continue
        if server.shelved == "offloading" and (report is None or report.state == "absent"):
            shelving.offloaded(call, server)
            continue
        if report is None:
            # Before the first report, the host has not come to it yet.
            if server.observed_state in ("", "absent"):
                continue
            report = ServerReport(id=server.id, state="absent", disk_serial=-1)
        if report.state == "unknown":
            continue
        if (going := live.seen_leaving(call, server, report)) is not None:
            server = _moved(call, going) or server
        new = _seen(tx, server, report, now)
        if cause := _snapshot_trouble(tx, new, report):
            new = settle(replace(snapshots.failed(tx, new, cause, now), updated_at=now), now)
            tx.replace(new)
            continue
        if report.unsuspended and new.power == "suspended":
            history.fail(tx, new, f"The server goes on running: {report.unsuspended}", now)
            tx.replace(settle(replace(new, power="running", updated_at=now), now))
            continue
        if new.move and (moved := move_steps.follow(call, new)) is not new:
            moved = settle(moved, now)
            tx.replace(moved)
            history.finish(tx, moved, now)
            continue
        if powered_itself_off(new, report.halted):
            # It ran, if not long enough to be seen running.
            since = new.launched_at or now
            new = settle(replace(new, power="stopped", launched_at=since, updated_at=now), now)
            tx.replace(new)
            history.finish(tx, new, now)
            history.note(tx, new, "stop", now)
        elif server.shelved == "unshelving" and not settle(new, now).shelved:
            new = shelving.forget_image(call, settle(new, now))
            tx.replace(new)
            history.finish(tx, new, now)
        elif (new := settle(new, now)) != server:
            tx.observe(new)
            history.finish(tx, new, now)
    forget_lost(tx)
    shelving.offload_lost(call)
    live.forget_lost(call)
    stranded.watch(call)


def _moved(call: Call, server: Server | None) -> Server | None:
    """Stores how far a server is on its way."""
    if server is None:
        return None
    server = call.save(settle(server, call.now))
    history.finish(call.tx, server, call.now)
    return server


def _seen(tx: Tx, server: Server, report: ServerReport, now: str) -> Server:
    plugged = list(report.ports)
    if server.launched_at is None:
        # A port that was deleted meanwhile is not waited for.
        missing = [id for id in server.ports if id not in report.ports]
        plugged += [id for id in missing if tx.get(Port, id) is None]
    problem = server.problem
    if report.problem is None:
        problem = None
    else:
        message = f"{report.problem.what}: {report.problem.cause}"
        if problem is None or problem.message != message or problem.details != report.problem.remedy:
            problem = Fault(code=500, message=message, created=now, details=report.problem.remedy)
    image = report.snapshot
    imaged = image is not None and server.snapshot is not None and image.image == server.snapshot.image_id
    return replace(
        server,
        observed_snapshot=image.state if imaged and image is not None else server.observed_snapshot,
        observed_state=report.state,
        observed_disk_serial=report.disk_serial,
        observed_hard_reboot_serial=report.hard_reboot_serial,
        observed_soft_reboot_serial=report.soft_reboot_serial,
        observed_parked=report.parked,
        observed_moved=report.moved,
        plugged=plugged,
        problem=problem,
        accelerated=report.accelerated,
    )


def _snapshot_trouble(tx: Tx, server: Server, report: ServerReport) -> str:
    """Why the image that is to be made of a server will not be made; "" where it will."""
    if server.snapshot is None:
        return ""
    if snapshots.lost(tx, server):
        return f"Image {server.snapshot.image_id} was deleted, or given other content."
    image = report.snapshot
    if image is None or (image.image, image.state) != (server.snapshot.image_id, "failed"):
        return ""
    return f"The image could not be made: {image.cause}"


def forget_lost(tx: Tx) -> None:
    """Removes what was being deleted on hosts that are gone or silent: they are told when they are back."""
    now = tx.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for server in tx.find(Server, deleting=True):
        host = tx.get(Host, server.host)
        if host is None or not host.alive:
            remove(tx, server, now)


def remove(tx: Tx, server: Server, now: str) -> None:
    """Drops the row of a server of which nothing is left."""
    history.end(tx, server, now)
    migrations.forget(tx, server)
    tx.delete(Server, server.id)
    tx.release(server.id)
