"""What is changed on servers that are there, inside the transaction that does it.

switch   state allows it -> what is wanted changes -> the host follows
plug     a port is made, or taken -> bound to the server's host -> the host follows
delete   ports go at once; the row goes when nothing of the server is left on its host
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute import history, live, networking, shelving, snapshots, stranded
from trunkline.api.compute.observation import remove
from trunkline.api.compute.servers import check_fit, check_labels, image_of, key_of
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call
from trunkline.errors import Conflict, Forbidden
from trunkline.resources.compute import Server, Snapshot
from trunkline.resources.region import Host


def save(call: Call, server: Server) -> Server:
    """Stores what a request changed on a server, with all that follows from it."""
    before = call.tx.get(Server, server.id)
    server = call.save(settle(server, call.now))
    if before is not None and before.hostname != server.hostname:
        networking.rename(call, before, server)
    history.finish(call.tx, server, call.now)
    return server


# Switch.


def check(
    call: Call,
    server: Server,
    action: str,
    states: Sequence[str],
    *,
    busy: bool = False,
    moving: bool = False,
) -> None:
    """Refuses an action that the server's state does not allow.

    Args:
        busy: whether something else may be under way.
        moving: whether it is about a move that is not confirmed yet, which nothing else goes with.
    Raises:
        Conflict: it is locked, in another state, or busy.
    """
    unlocked(call, server)
    if server.vm_state not in states:
        raise Conflict(f"Cannot '{action}' instance {server.id} while it is in vm_state {server.vm_state}")
    if server.move and not moving:
        raise Conflict(
            f"Cannot '{action}' instance {server.id} while it moves. Confirm the move, or revert it."
        )
    if server.silent_since and not moving:
        raise Conflict(f"Cannot '{action}' instance {server.id}: its host is silent. Look at its fault.")
    if server.deleting or (server.task_state is not None and not busy):
        raise Conflict(
            f"Cannot '{action}' instance {server.id} while it is in task_state {server.task_state}"
        )


def unlocked(call: Call, server: Server) -> None:
    """Refuses changes of a locked server, but by an operator.

    Raises:
        Conflict: it is locked.
    """
    if server.locked and not call.context.is_admin:
        raise Conflict(f"Instance {server.id} is locked", type="InstanceIsLocked")


def _switch(action: str, states: Sequence[str], **changes: Any) -> Callable[[Call, Server], Server]:
    def run(call: Call, server: Server) -> Server:
        check(call, server, action, states)
        history.record(call, server, action)
        return save(call, replace(server, **changes))

    return run


def start(call: Call, server: Server) -> Server:
    """Starts a server that is stopped.

    For its host this is a hard reboot: the serial tells what the host says of the time before from what it
    says of the time after, as it does for a guest that powers itself off.
    """
    check(call, server, "start", ("stopped",))
    history.record(call, server, "start")
    serial = server.hard_reboot_serial + 1
    return save(call, replace(server, power="running", hard_reboot_serial=serial))


stop = _switch("stop", ("active", "error"), power="stopped")
pause = _switch("pause", ("active",), power="paused")
unpause = _switch("unpause", ("paused",), power="running")
suspend = _switch("suspend", ("active",), power="suspended")
resume = _switch("resume", ("suspended",), power="running")


def reboot(call: Call, server: Server, kind: str) -> Server:
    """Restarts a server: SOFT asks the guest, HARD does not, and starts a stopped one too."""
    if kind == "SOFT":
        check(call, server, "reboot", ("active",))
        changes: dict[str, Any] = {"soft_reboot_serial": server.soft_reboot_serial + 1}
    else:
        check(call, server, "reboot", ("active", "stopped", "paused", "suspended", "error"), busy=True)
        if not server.host or server.launched_at is None:
            raise Conflict(f"Cannot 'reboot' instance {server.id}: it never ran. Delete it.")
        changes = {
            "hard_reboot_serial": server.hard_reboot_serial + 1,
            "power": "running",
            "forced_error": False,
        }
    history.record(call, server, "reboot")
    return save(call, replace(server, **changes))


def rebuild(call: Call, server: Server, image_id: str, values: dict[str, Any], key: Any) -> Server:
    """Gives a server a fresh disk, from its image or another one; it keeps its ports and its host."""
    check(call, server, "rebuild", ("active", "stopped", "error"))
    if not server.host or server.launched_at is None:
        raise Conflict(f"Cannot 'rebuild' instance {server.id}: it never ran. Delete it.")
    image, facts = image_of(call, image_id)
    assert server.flavor is not None, "every server has a flavor"
    check_fit(server.flavor, facts, image)
    if "metadata" in values:
        check_labels(call, server.project_id, values["metadata"])
    if key is None:
        values |= {"key_name": None, "public_key": ""}
    elif isinstance(key, str):
        values |= {"key_name": key, "public_key": key_of(call, key)}
    history.record(call, server, "rebuild")
    return save(
        call,
        replace(
            server,
            **values,
            image_id=image.id,
            image=facts,
            rescue_image_id="",
            rescue_image=None,
            disk_serial=server.disk_serial + 1,
            forced_error=False,
            fault=None,
        ),
    )


def rescue(call: Call, server: Server, image_id: str, password: str) -> Server:
    """Boots a server from a fresh disk of an image, its own disk behind it, so that it can be mended."""
    check(call, server, "rescue", ("active", "stopped"))
    if server.rescue_image_id:
        raise Conflict(f"Cannot 'rescue' instance {server.id} twice. Unrescue it first.")
    image, facts = image_of(call, image_id)
    assert server.flavor is not None, "every server has a flavor"
    check_fit(server.flavor, facts, image)
    history.record(call, server, "rescue")
    return save(
        call,
        replace(
            server,
            rescue_image_id=image.id,
            rescue_image=facts,
            admin_password=password,
            hard_reboot_serial=server.hard_reboot_serial + 1,
            power="running",
        ),
    )


def unrescue(call: Call, server: Server) -> Server:
    """Boots a rescued server from its own disk again."""
    check(call, server, "unrescue", ("rescued", "stopped", "error"))
    if not server.rescue_image_id:
        raise Conflict(f"Cannot 'unrescue' instance {server.id} while it is in vm_state {server.vm_state}")
    history.record(call, server, "unrescue")
    return save(
        call,
        replace(
            server,
            rescue_image_id="",
            rescue_image=None,
            hard_reboot_serial=server.hard_reboot_serial + 1,
            power="running",
        ),
    )


def image(
    call: Call, server: Server, action: str, name: str, labels: Mapping[str, str], wish: Snapshot
) -> Server:
    """Makes an image of a server's disk, as it is at one moment soon."""
    check(call, server, action, ("active", "paused", "stopped", "suspended"))
    if not server.host or server.launched_at is None:
        raise Conflict(f"Cannot '{action}' instance {server.id}: it never ran. Delete it.")
    history.record(call, server, action)
    return save(call, snapshots.begin(call, server, name, labels, wish))


def migrate_live(call: Call, server: Server, host: str, *, force: bool) -> Server:
    """Moves a server to another host while it runs, its disk with it."""
    check(call, server, "os-migrateLive", ("active", "paused"))
    server = live.begin(call, server, host, force=force)
    history.record(call, server, "live-migration")
    return save(call, server)


def shelve(call: Call, server: Server) -> Server:
    """Makes an image of a server's disk, and frees its host."""
    check(call, server, "shelve", ("active", "paused", "stopped", "suspended"))
    if not server.host or server.launched_at is None:
        raise Conflict(f"Cannot 'shelve' instance {server.id}: it never ran. Delete it.")
    history.record(call, server, "shelve")
    return save(call, shelving.shelve(call, server))


def shelve_offload(call: Call, server: Server) -> Server:
    """Frees the host of a shelved server, which is under way once its image is durable."""
    check(call, server, "shelve_offload", ("shelved",), busy=True)
    history.record(call, server, "shelveOffload")
    return server


def unshelve(call: Call, server: Server, zone: str | None, host: str) -> Server:
    """Brings a shelved server back, to a zone or a host where one is named."""
    check(call, server, "unshelve", ("shelved_offloaded",))
    server = shelving.unshelve(call, server, zone, host)
    history.record(call, server, "unshelve")
    return save(call, server)


def lock(call: Call, server: Server, reason: str | None) -> Server:
    """Keeps everybody but operators from changing a server."""
    if server.locked and not call.context.is_admin and server.locked_by_admin:
        raise Forbidden(f"Instance {server.id} was locked by an operator.")
    history.record(call, server, "lock", done=True)
    admin = call.context.is_admin and call.context.project_id != server.project_id
    return save(call, replace(server, locked=True, locked_reason=reason, locked_by_admin=admin))


def unlock(call: Call, server: Server) -> Server:
    """Undoes a lock; an operator's lock only operators undo."""
    if server.locked and server.locked_by_admin:
        call.require("os_compute_api:os-lock-server:unlock:unlock_override", {})
    history.record(call, server, "unlock", done=True)
    return save(call, replace(server, locked=False, locked_reason=None, locked_by_admin=False))


def reset_state(call: Call, server: Server, state: str) -> Server:
    """Sets a server to error, or takes that away; what it is else, is seen. An image is not waited for."""
    unlocked(call, server)
    if server.snapshot is not None:
        server = snapshots.failed(call.tx, server, "The state was reset.", call.now)
    if server.silent_since:
        server = stranded.given_up(call, server) if state == "active" else server
    elif server.live is not None:
        server = live.failed(call, server, "The state was reset.", "cancelled")
    return save(call, replace(server, forced_error=state == "error"))


# Interfaces.


def attach(call: Call, server: Server, interfaces: networking.Interfaces) -> Server:
    """Gives a server more interfaces. The caller has checked its state."""
    if not server.host:
        raise Conflict(f"Instance {server.id} is on no host.")
    history.record(call, server, "attach_interface", done=True)
    return save(call, networking.plug(call, server, interfaces))


def detach(call: Call, server: Server, port: str) -> Server:
    """Takes an interface from a server. The caller has checked its state."""
    history.record(call, server, "detach_interface", done=True)
    networking.release(call, server, [port])
    return save(
        call,
        replace(
            server,
            ports=[id for id in server.ports if id != port],
            own_ports=[id for id in server.own_ports if id != port],
            port_tags={id: tag for id, tag in server.port_tags.items() if id != port},
        ),
    )


# Delete.


def delete(call: Call, server: Server) -> None:
    """Removes a server: its ports now, the server when its host has.

    Where nothing of it is on a host, or its host is gone, the row goes at once.
    """
    unlocked(call, server)
    if server.deleting:
        return
    networking.release(call, server, server.ports)
    history.record(call, server, "delete")
    server = shelving.forget_image(call, snapshots.abandon(call.tx, server))
    server = replace(server, ports=[], own_ports=[], port_tags={}, deleting=True)
    host = call.tx.get(Host, server.host) if server.host else None
    if host is None or not host.alive or server.observed_state in ("", "absent"):
        remove(call.tx, server, call.now)
    else:
        save(call, server)
