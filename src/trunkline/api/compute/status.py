"""What a server is, from what is wanted of it and what was seen: one pure function.

    wanted    power, serials, deleting, forced_error          set by requests
    seen      observed_state, serials reached, plugged        set by observation
    -------------------------------------------------------------------------------
    so        vm_state, task_state, power_state, status       `settle`, on every change of either

The words are those of the Compute API: vm_state is where the server rests, task_state what is under
way, status what clients read.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from trunkline.resources.compute import Fault, Server

#: observed_state -> power_state of the Compute API.
POWER_STATE = {"running": 1, "paused": 3, "stopped": 4, "suspended": 4, "crashed": 6}

#: What a host says of a server that it is still making or starting.
_ON_ITS_WAY = frozenset({"absent", "fetching", "starting"})
#: Tasks of a running server that go on until it runs again.
_UNTIL_IT_RUNS = frozenset({"rebooting", "rebooting_hard", "rebuild_spawning", "rescuing", "unrescuing"})

#: vm_states that a server keeps while it is shelved.
_WHILE_SHELVING = ("active", "paused", "stopped", "suspended")

#: vm_state -> status; what is under way can change it.
_STATUS = {
    "building": "BUILD",
    "active": "ACTIVE",
    "stopped": "SHUTOFF",
    "paused": "PAUSED",
    "suspended": "SUSPENDED",
    "rescued": "RESCUE",
    "resized": "VERIFY_RESIZE",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
    "error": "ERROR",
}
_STATUS_BY_TASK = {
    "rebooting": "REBOOT",
    "rebooting_hard": "HARD_REBOOT",
    "rebuild_spawning": "REBUILD",
    "migrating": "MIGRATING",
    "resize_migrating": "RESIZE",
    "resize_finish": "RESIZE",
    "resize_reverting": "REVERT_RESIZE",
}
#: Step of a move -> task.
_TASK_BY_MOVE = {
    "leaving": "resize_migrating",
    "arriving": "resize_finish",
    "returning": "resize_reverting",
    "back": "resize_reverting",
}
#: status -> the vm_states that a filter by it means.
STATUSES = tuple(dict.fromkeys((*_STATUS.values(), *_STATUS_BY_TASK.values())))
#: Statuses of the Compute API that no server here ever has.
NEVER = frozenset(
    {
        "DELETED", "PASSWORD", "SOFT_DELETED", "UNKNOWN",
    }
)  # fmt: skip


class State(NamedTuple):
    """What a server is."""

    vm_state: str
    task_state: str | None
    power_state: int
    status: str


def derive(server: Server) -> State:
    """The state of a server, as of its fields."""
    vm_state, task = _rest(server)
    if server.live is not None and not server.silent_since:
        task = "migrating"
    if task is None and server.snapshot is not None:
        task = _imaging(server)
    status = _STATUS_BY_TASK.get(task or "", _STATUS[vm_state])
    if server.deleting:
        task = "deleting"
    return State(vm_state, task, POWER_STATE.get(server.observed_state, 0), status)


def _rest(server: Server) -> tuple[str, str | None]:
    seen = server.observed_state
    if server.forced_error or server.silent_since:
        return "error", None
    if server.shelved:
        return _shelving(server)
    if seen == "failed" or not server.host:
        return "error", None
    if server.move:
        task = _TASK_BY_MOVE.get(server.move)
        if task is None or task == "resize_reverting":
            return "resized", task
        return "stopped" if server.power == "stopped" else "active", task
    if server.launched_at is None:
        return "building", "networking" if seen == "running" else "spawning"
    if seen == "crashed":
        return "error", None
    if server.observed_disk_serial < server.disk_serial:
        return ("stopped" if server.power == "stopped" else "active"), "rebuild_spawning"
    if server.power == "stopped":
        return ("active", "powering-off") if seen in ("running", "paused") else ("stopped", None)
    if server.power == "suspended":
        return ("suspended", None) if seen == "suspended" else ("active", "suspending")
    if seen == "stopped":
        # A start is a hard reboot of a server that is stopped.
        return "stopped", "powering-on"
    if server.observed_hard_reboot_serial < server.hard_reboot_serial:
        return _restarting(server)
    if server.observed_soft_reboot_serial < server.soft_reboot_serial:
        return "active", "rebooting"
    if seen == "suspended":
        return "suspended", "resuming"
    if seen in _ON_ITS_WAY and server.task_state in _UNTIL_IT_RUNS:
        return "rescued" if server.task_state == "unrescuing" else "active", server.task_state
    if seen in _ON_ITS_WAY:
        return "stopped", "powering-on"
    if server.power == "paused":
        return ("paused", None) if seen == "paused" else ("active", "pausing")
    if seen == "paused":
        return "paused", "unpausing"
    return ("rescued" if server.rescue_image_id else "active"), None


def _shelving(server: Server) -> tuple[str, str | None]:
    if server.shelved == "shelving":
        uploading = server.observed_snapshot == "uploading"
        before = server.vm_state if server.vm_state in _WHILE_SHELVING else "active"
        return before, "shelving_image_uploading" if uploading else "shelving"
    if server.shelved == "offloading":
        return "shelved", "shelving_offloading"
    if server.observed_state == "failed":
        return "error", None
    return "shelved_offloaded", "spawning" if server.shelved == "unshelving" else None


def _imaging(server: Server) -> str:
    """What is under way of an image of the server's disk."""
    assert server.snapshot is not None
    if server.observed_snapshot == "uploading":
        return "image_uploading"
    return "image_backup" if server.snapshot.kind == "backup" else "image_snapshot"


def _restarting(server: Server) -> tuple[str, str]:
    """What a hard reboot under way is for."""
    if server.rescue_image_id:
        return "active", "rescuing"
    return ("rescued", "unrescuing") if server.vm_state == "rescued" else ("active", "rebooting_hard")


def has_launched(server: Server) -> bool:
    """Whether what was seen makes a new server a running one: it runs, and all its ports are plugged in."""
    return (
        server.observed_state == "running"
        and server.observed_disk_serial >= server.disk_serial
        and server.observed_hard_reboot_serial >= server.hard_reboot_serial
        and set(server.ports) <= set(server.plugged)
    )


def powered_itself_off(server: Server, halted: bool) -> bool:
    """Whether its guest ended what is wanted: it powered itself off after the last start, reboot or rebuild.

    Args:
        halted: its host says that the guest did so, with the serials that the server has.
    """
    return (
        halted
        and server.power != "stopped"
        and server.observed_disk_serial >= server.disk_serial
        and server.observed_hard_reboot_serial >= server.hard_reboot_serial
        and server.observed_soft_reboot_serial >= server.soft_reboot_serial
    )


def settle(server: Server, now: str) -> Server:
    """The server with all that follows from its other fields brought up to date."""
    if server.shelved == "unshelving" and has_launched(server):
        server = replace(server, shelved="")
    if server.launched_at is None and server.host and not server.forced_error and has_launched(server):
        server = replace(server, launched_at=now)
    state = derive(server)
    return replace(
        server,
        vm_state=state.vm_state,
        task_state=state.task_state,
        power_state=state.power_state,
        status=state.status,
    )


def fault_of(server: Server) -> Fault | None:
    """Why the server is in error, or None where it is not."""
    if server.vm_state != "error":
        return None
    if server.silent_since:
        return _silence(server)
    return server.fault or server.problem


def _silence(server: Server) -> Fault:
    """Of a server whose host fell silent on its way."""
    goes, since = server.live is not None or server.move in ("arriving", "returning"), server.silent_since
    host = server.arriving_on if server.live is not None else server.host
    back = server.host if server.live is not None else server.origin_host
    if goes:
        what = f"Host {host} is silent since {since}: whether the server runs there is not known."
        remedy = (
            f"Bring host {host} back, and it goes on. If that host is certain to be off, reset the server's "
            f"state to active (os-resetState): it starts on host {back} from the disk that was left there."
        )
    else:
        what = f"Host {host}, which has the server's only disk, is silent since {since}."
        remedy = f"Bring host {host} back, and it goes on; or delete the server."
    return Fault(code=500, message=what, created=since, details=remedy)
