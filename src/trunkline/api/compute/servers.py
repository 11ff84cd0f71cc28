"""What is done to servers, inside the transaction that does it: placed, made, switched, removed.

create   quota -> image, flavor, key -> place on a host -> ports -> the rows
switch   state allows it -> what is wanted changes -> the host follows
delete   ports go at once; the row goes when nothing of the server is left on its host
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute import groups, history, inventory, networking
from trunkline.api.compute.observation import remove
from trunkline.api.compute.quotas import check_servers, limits_of, spent
from trunkline.api.compute.requests import Wanted, default_host_name
from trunkline.api.compute.status import settle
from trunkline.api.engine import Call, Stages
from trunkline.errors import BadField, Conflict, Forbidden, NotFound, OverQuota
from trunkline.plan.placement import NoHost, Wish, place
from trunkline.resources.compute import (
    Fault,
    Flavor,
    FlavorFacts,
    ImageFacts,
    KeyPair,
    Server,
    ServerGroup,
)
from trunkline.resources.image import BOOTABLE, Image
from trunkline.resources.region import Host

_RULE = "os_compute_api:servers:"

STAGES: dict[str, Stages[Any]] = {
    "server": Stages[Server](
        rules={verb: f"{_RULE}{verb}" for verb in ("create", "update", "delete")},
        not_found="Instance {id} could not be found.",
    )
}

_GIB = 1024**3


def save(call: Call, server: Server) -> Server:
    """Stores what a request changed on a server, with all that follows from it."""
    server = call.save(settle(server, call.now))
    history.finish(call.tx, server, call.now)
    return server


# Create.


def create(call: Call, wanted: Wanted) -> list[Server]:
    """Makes the servers of a request, as many as the quota allows between the least and the most wanted.

    A server for which no host is found is made all the same, in error, with the reasons: so clients of
    this API expect it.

    Raises:
        BadField, Conflict, Forbidden, OverQuota: nothing is made.
    """
    project = call.context.project_id
    if not project:
        raise BadField("project_id", "servers belong to a project. Use a token of one.")
    target = {"project_id": project, "user_id": call.context.user_id}
    call.require(f"{_RULE}create", target)
    flavor = _flavor(call, wanted.flavor)
    image, facts = image_of(call, wanted.image)
    check_fit(flavor_facts(flavor), facts, image)
    public_key = key_of(call, wanted.key_name)
    zone, host = _destination(call, wanted, target)
    group = _group(call, wanted)
    check_labels(call, project, wanted.metadata)
    count = _count(call, wanted, flavor)
    if wanted.networks not in (None, "none", "auto"):
        call.require(f"{_RULE}create:attach_network", target)
    interfaces = networking.understand(call, wanted.networks, wanted.groups, count)
    reservation = f"r-{secrets.token_hex(4)}"
    made = []
    for index in range(count):
        id = str(uuid.uuid4())
        name = wanted.name if count == 1 else f"{wanted.name}-{index + 1}"
        server = Server(
            id=id,
            name=name,
            description=wanted.description,
            project_id=project,
            user_id=call.context.user_id,
            hostname=wanted.hostname or default_host_name(name, id),
            image_id=image.id,
            image=facts,
            flavor_id=flavor.id,
            flavor=flavor_facts(flavor),
            key_name=wanted.key_name,
            public_key=public_key,
            admin_password=wanted.password,
            user_data=wanted.user_data,
            config_drive=wanted.config_drive,
            metadata=dict(wanted.metadata),
            tags=list(wanted.tags),
            access_ip_v4=wanted.access_v4,
            access_ip_v6=wanted.access_v6,
            disk_config=wanted.disk_config,
            reservation_id=reservation,
            launch_index=index,
            group_id=group.id if group else "",
            requested_zone=zone,
            scheduler_hints=dict(wanted.hints),
        )
        made.append(_placed(call, server, group, host, interfaces))
    return made


def _placed(
    call: Call, server: Server, group: ServerGroup | None, host: str, interfaces: networking.Interfaces
) -> Server:
    load = inventory.load_of(server)
    wish = Wish(
        vcpus=load.vcpus,
        memory_mib=load.memory_mib,
        disk_gib=load.disk_gib,
        zone=server.requested_zone,
        host=host,
        physical_networks=interfaces.physical_networks,
        group=server.group_id,
        policy=group.policy if group else "",
        max_per_host=group.max_server_per_host if group else 1,
        same_host=frozenset(server.scheduler_hints.get("same_host", ())),
        different_host=frozenset(server.scheduler_hints.get("different_host", ())),
    )
    hosts = inventory.views(call.tx)
    found = place(hosts, inventory.loads(call.tx), wish)
    if isinstance(found, NoHost):
        fault = Fault(
            code=500,
            message="No valid host was found. There are not enough hosts available.",
            created=call.now,
            details=str(found),
        )
        server = replace(server, fault=fault)
    else:
        zone = next(view.zone for view in hosts if view.name == found)
        server = replace(server, host=found, zone=zone)
        server = networking.plug(call, server, interfaces)
    server = settle(call.engine.stamped(call, server), call.now)
    call.tx.insert(server)
    history.record(call, server, "create")
    history.finish(call.tx, server, call.now)
    return server


def _flavor(call: Call, id: str) -> Flavor:
    try:
        flavor = call.get(Flavor, id)
    except NotFound:
        raise BadField("flavorRef", f"Flavor {id[:80]} could not be found.") from None
    if flavor.disabled:
        raise BadField("flavorRef", f"Flavor {id} is disabled.")
    return flavor


def flavor_facts(flavor: Flavor) -> FlavorFacts:
    """What a server keeps of its flavor."""
    return FlavorFacts(
        name=flavor.name,
        vcpus=flavor.vcpus,
        ram=flavor.ram,
        disk=flavor.disk,
        ephemeral=flavor.ephemeral,
        swap=flavor.swap,
        extra_specs=dict(flavor.extra_specs),
    )


def image_of(call: Call, id: str) -> tuple[Image, ImageFacts]:
    """An image that servers can boot from.

    Raises:
        BadField: it is not there, not active, or of a format that no host runs.
    """
    try:
        image = call.get(Image, id)
    except NotFound:
        raise BadField("imageRef", f"Can not find requested image {id}.") from None
    if image.status != "active":
        raise BadField("imageRef", f"Image {id} is not active, it is {image.status}.")
    if image.disk_format not in BOOTABLE or image.container_format != "bare":
        raise BadField(
            "imageRef",
            f"Image {id} is of format {image.disk_format} in {image.container_format}. "
            f"Servers boot from {' or '.join(sorted(BOOTABLE))} in bare.",
        )
    facts = ImageFacts(
        disk_format=str(image.disk_format),
        size=image.size or 0,
        sha512=image.os_hash_value or "",
        properties=dict(image.properties),
        min_ram=image.min_ram,
        min_disk=image.min_disk,
    )
    return image, facts


def check_fit(flavor: FlavorFacts, facts: ImageFacts, image: Image) -> None:
    """Refuses a flavor that is too small for an image.

    Raises:
        BadField: with what is too small.
    """
    if flavor.ram < image.min_ram:
        raise BadField(
            "flavorRef",
            f"Flavor's memory is too small for requested image: {flavor.ram} MiB, {image.min_ram} needed.",
        )
    if flavor.disk == 0:
        return
    least = max(image.min_disk * _GIB, image.virtual_size or facts.size)
    if flavor.disk * _GIB < least:
        raise BadField(
            "flavorRef",
            f"Flavor's disk is too small for requested image: {flavor.disk} GiB, "
            f"{-(-least // _GIB)} GiB needed.",
        )


def key_of(call: Call, name: str | None) -> str:
    """The public key of a name, of the caller's own.

    Raises:
        BadField: there is none.
    """
    if name is None:
        return ""
    for pair in call.tx.find(KeyPair, user_id=call.context.user_id, name=name):
        return pair.public_key
    raise BadField("key_name", "Invalid key_name provided. There is no key pair of that name.")


def check_labels(call: Call, project: str, metadata: Any) -> None:
    """Refuses more metadata than the quota allows.

    Raises:
        OverQuota: too many entries.
    """
    limit = limits_of(call.tx, project)["metadata_items"]
    if 0 <= limit < len(metadata):
        raise spent("metadata_items", f"Maximum number of metadata items exceeds {limit}")


def _destination(call: Call, wanted: Wanted, target: dict[str, Any]) -> tuple[str, str]:
    """The zone and the host asked for, each "" for any."""
    zone, colon, host = wanted.zone.partition(":")
    host = host.partition(":")[0]
    if colon:
        call.require(f"{_RULE}create:forced_host", target)
    if wanted.host:
        call.require("compute:servers:create:requested_destination", target)
        host = wanted.host
    hosts = {view.name: view for view in inventory.views(call.tx)}
    if zone and zone not in {view.zone for view in hosts.values()}:
        raise BadField("availability_zone", "The requested availability zone is not available")
    if host and host not in hosts:
        raise BadField("host", f"Compute host {host} could not be found.")
    return zone, host


def _group(call: Call, wanted: Wanted) -> ServerGroup | None:
    asked = wanted.hints.get("group")
    if not asked:
        return None
    try:
        group = call.get(ServerGroup, asked[0])
    except NotFound:
        raise BadField("os:scheduler_hints.group", f"Instance group {asked[0]} could not be found.") from None
    limit = limits_of(call.tx, group.project_id)["server_group_members"]
    if 0 <= limit < len(groups.members_of(call.tx, group.id)) + wanted.least:
        raise spent("server_group_members", "Quota exceeded, too many servers in group")
    return group


def _count(call: Call, wanted: Wanted, flavor: Flavor) -> int:
    """How many servers the quota allows, of the least to the most wanted."""
    for count in range(wanted.count, wanted.least, -1):
        try:
            check_servers(call.tx, call.context.project_id, count, flavor.vcpus, flavor.ram)
        except OverQuota:
            continue
        return count
    check_servers(call.tx, call.context.project_id, wanted.least, flavor.vcpus, flavor.ram)
    return wanted.least


# Switch.


def check(call: Call, server: Server, action: str, states: Sequence[str], *, busy: bool = False) -> None:
    """Refuses an action that the server's state does not allow.

    Args:
        busy: whether something else may be under way.
    Raises:
        Conflict: it is locked, in another state, or busy.
    """
    unlocked(call, server)
    if server.vm_state not in states:
        raise Conflict(f"Cannot '{action}' instance {server.id} while it is in vm_state {server.vm_state}")
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


def reboot(call: Call, server: Server, kind: str) -> Server:
    """Restarts a server: SOFT asks the guest, HARD does not, and starts a stopped one too."""
    if kind == "SOFT":
        check(call, server, "reboot", ("active",))
        changes: dict[str, Any] = {"soft_reboot_serial": server.soft_reboot_serial + 1}
    else:
        check(call, server, "reboot", ("active", "stopped", "paused", "error"), busy=True)
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
            disk_serial=server.disk_serial + 1,
            forced_error=False,
            fault=None,
        ),
    )


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
    """Sets a server to error, or takes that away; what it is else, is seen."""
    unlocked(call, server)
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
    server = replace(server, ports=[], own_ports=[], port_tags={}, deleting=True)
    host = call.tx.get(Host, server.host) if server.host else None
    if host is None or not host.alive or server.observed_state in ("", "absent"):
        remove(call.tx, server, call.now)
    else:
        save(call, server)
