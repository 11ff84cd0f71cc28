"""Actions on servers: POST /servers/{id}/action with one key that says which.

The table at the end is all there is: what each is called, the rule that allows it, what it does.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.api.compute import changes, moves, networking
from trunkline.api.compute.history import record
from trunkline.api.compute.requests import RebuildBody, understand_rebuild
from trunkline.api.compute.server_api import ServerApi, shown, target_of
from trunkline.api.compute.servers import check_labels
from trunkline.api.compute.wire import at, boolean, labels, only, printable_name, shaped, whole
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, BadRequest, Conflict, NotFound
from trunkline.resources.compute import MAX_INT, Server, Snapshot

#: (host, server, lines or None for all) -> what a server last wrote to its serial console.
Console = Callable[[str, str, "int | None"], Awaitable[str]]


@dataclass(frozen=True)
class Asked:
    """An action that was asked for."""

    request: Request
    minor: int
    name: str
    #: What stands under its key.
    value: Any


@dataclass(frozen=True)
class Action:
    """One action: its access rule, and what it does inside the transaction, giving the reply's body."""

    rule: str
    run: Callable[[Call, Server, Asked], Any]
    status: int = 202
    since: int = 1
    until: int = 10_000


def _nothing(asked: Asked) -> None:
    if asked.value not in (None, {}, ""):
        raise BadField(asked.name, "it takes no arguments. Give null.")


def _plain(change: Callable[[Call, Server], Any]) -> Callable[[Call, Server, Asked], Any]:
    def run(call: Call, server: Server, asked: Asked) -> None:
        _nothing(asked)
        change(call, server)

    return run


def _fields(asked: Asked, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(asked.value, dict):
        raise BadField(asked.name, "it must be a JSON object.")
    only(asked.value, known)
    return asked.value


def _reboot(call: Call, server: Server, asked: Asked) -> None:
    kind = _fields(asked, {"type"}).get("type")
    if not isinstance(kind, str) or kind.upper() not in ("SOFT", "HARD"):
        raise BadField("reboot.type", "it must be SOFT or HARD.")
    changes.reboot(call, server, kind.upper())


def _rebuild(call: Call, server: Server, asked: Asked) -> Any:
    image, values, password, key = understand_rebuild(
        shaped(asked.value, RebuildBody, "rebuild"), asked.minor
    )
    values["admin_password"] = password = password or secrets.token_urlsafe(9)
    server = changes.rebuild(call, server, image, values, key)
    minor = asked.minor
    body = shown(call, asked.request, server, minor)
    body.pop("OS-EXT-SRV-ATTR:user_data", None)
    if minor >= 54:
        body["key_name"] = server.key_name
    if minor >= 57:
        body["user_data"] = server.user_data or None
    body["adminPass"] = password
    return {"server": body}


def _rescue(call: Call, server: Server, asked: Asked) -> Any:
    """From the server's own image, where no other is named."""
    fields = {} if asked.value is None else _fields(asked, {"adminPass", "rescue_image_ref"})
    for name, most in (("adminPass", 255), ("rescue_image_ref", 36)):
        value = fields.get(name)
        if name in fields and (not isinstance(value, str) or not 1 <= len(value) <= most):
            raise BadField(f"rescue.{name}", f"it is a text of 1 to {most} characters.")
    password = fields.get("adminPass") or secrets.token_urlsafe(9)
    changes.rescue(call, server, fields.get("rescue_image_ref", server.image_id), password)
    return {"adminPass": password}


def _create_image(call: Call, server: Server, asked: Asked) -> Any:
    fields = _fields(asked, {"name", "metadata"})
    name, given = _of_image(call, server, asked, fields)
    return _imaged(asked, changes.image(call, server, "createImage", name, given, Snapshot(image_id="")))


def _create_backup(call: Call, server: Server, asked: Asked) -> Any:
    fields = _fields(asked, {"name", "backup_type", "rotation", "metadata"})
    name, given = _of_image(call, server, asked, fields)
    kind = fields.get("backup_type")
    if not isinstance(kind, str) or len(kind) > 255 or not kind.isprintable():
        raise BadField("createBackup.backup_type", "it is a text of up to 255 characters, as daily.")
    rotation = whole("createBackup.rotation", fields.get("rotation"), 0, MAX_INT)
    wish = Snapshot(image_id="", kind="backup", rotation=rotation, backup_type=kind)
    server = changes.image(call, server, "createBackup", name, given, wish)
    if asked.minor < 45 and not rotation:
        return None
    return _imaged(asked, server)


def _of_image(
    call: Call, server: Server, asked: Asked, fields: Mapping[str, Any]
) -> tuple[str, Mapping[str, str]]:
    """The name and the labels of an image that is asked for."""
    given = fields.get("metadata")
    given = {} if given is None else labels(f"{asked.name}.metadata", given)
    check_labels(call, server.project_id, given)
    return printable_name(f"{asked.name}.name", fields.get("name")), given


def _imaged(asked: Asked, server: Server) -> Any:
    """The image's id in the body from microversion 2.45 on, in its address before."""
    assert server.snapshot is not None
    if asked.minor >= 45:
        return {"image_id": server.snapshot.image_id}
    images = f"{asked.request.base_url.removesuffix('/compute')}/image/v2/images"
    return Reply(status=202, headers={"location": f"{images}/{server.snapshot.image_id}"})


def _unshelve(call: Call, server: Server, asked: Asked) -> None:
    fields: Mapping[str, Any] = {}
    if asked.minor < 77 or asked.value is None:
        _nothing(asked)
    else:
        fields = _fields(asked, {"availability_zone", "host"} if asked.minor >= 91 else {"availability_zone"})
        if not fields:
            raise BadField("unshelve", "give null, or what is asked for.")
    zone, host = None, ""
    if "availability_zone" in fields:
        given = fields["availability_zone"]
        unpinned = given is None and asked.minor >= 91
        zone = "" if unpinned else printable_name("unshelve.availability_zone", given)
    if "host" in fields:
        host = printable_name("unshelve.host", fields["host"])
        call.require("os_compute_api:os-shelve:unshelve_to_host", target_of(server))
    changes.unshelve(call, server, zone, host)


def _migrate_live(call: Call, server: Server, asked: Asked) -> None:
    """Disks are on hosts, so they go along: `block_migration` cannot be false."""
    known = {"host", "block_migration"}
    known |= {"disk_over_commit"} if asked.minor < 25 else set()
    known |= {"force"} if 30 <= asked.minor < 68 else set()
    fields = _fields(asked, known)
    for name in known - {"force"}:
        if name not in fields:
            raise BadField(f"os-migrateLive.{name}", "it is required.")
    block = fields["block_migration"]
    automatic = asked.minor >= 25 and block == "auto"
    if not automatic and not boolean("os-migrateLive.block_migration", block):
        raise BadField("os-migrateLive.block_migration", "hosts share no disks. Give true or auto.")
    if asked.minor < 25:
        boolean("os-migrateLive.disk_over_commit", fields["disk_over_commit"])
    force = boolean("os-migrateLive.force", fields.get("force", False))
    host = "" if fields["host"] is None else printable_name("os-migrateLive.host", fields["host"])
    if force and not host:
        raise BadField("os-migrateLive.force", "it needs a host. Name one.")
    changes.migrate_live(call, server, host, force=force)


def _lock(call: Call, server: Server, asked: Asked) -> None:
    reason = None
    if asked.minor >= 73 and asked.value is not None:
        reason = _fields(asked, {"locked_reason"}).get("locked_reason")
        if reason is not None and (not isinstance(reason, str) or not 1 <= len(reason) <= 255):
            raise BadField("lock.locked_reason", "it is a text of 1 to 255 characters.")
    changes.lock(call, server, reason)


def _resize(call: Call, server: Server, asked: Asked) -> None:
    fields = _fields(asked, {"flavorRef", "OS-DCF:diskConfig"})
    flavor = fields.get("flavorRef")
    if isinstance(flavor, bool) or not isinstance(flavor, str | int) or not 1 <= len(str(flavor)) <= 255:
        raise BadField("resize.flavorRef", "it is required: the id of a flavor.")
    disk = fields.get("OS-DCF:diskConfig")
    if "OS-DCF:diskConfig" in fields and disk not in ("AUTO", "MANUAL"):
        raise BadField("resize.OS-DCF:diskConfig", "it must be AUTO or MANUAL.")
    moves.resize(call, server, str(flavor), disk)


def _migrate(call: Call, server: Server, asked: Asked) -> None:
    host = None
    if asked.minor >= 56 and asked.value is not None:
        host = _fields(asked, {"host"}).get("host")
        if host is not None:
            host = printable_name("migrate.host", host)
            call.require(f"{_MIGRATE}:host", {})
    else:
        _nothing(asked)
    moves.migrate(call, server, host or "")


def _reset_state(call: Call, server: Server, asked: Asked) -> None:
    state = _fields(asked, {"state"}).get("state")
    if state not in ("active", "error"):
        raise BadField("os-resetState.state", "it must be active or error.")
    changes.reset_state(call, server, state)


def _restore(call: Call, server: Server, asked: Asked) -> None:
    """Servers are deleted at once, so there is never one to bring back."""
    raise Conflict(f"Cannot 'restore' instance {server.id} while it is in vm_state {server.vm_state}")


def _add_group(call: Call, server: Server, asked: Asked) -> None:
    group = _group(call, asked)
    changes.unlocked(call, server)
    ports = networking.attached(call, server)
    if not ports:
        raise BadRequest(f"Instance {server.id} has no interface to put the security group on.")
    for port in ports:
        if not port.port_security_enabled:
            raise BadRequest(f"Port {port.id} has no port security, which security groups need.")
        if group not in port.security_groups:
            call.update(port, {"security_groups": [*port.security_groups, group]})
    record(call, server, "addSecurityGroup", done=True)


def _remove_group(call: Call, server: Server, asked: Asked) -> None:
    group = _group(call, asked)
    changes.unlocked(call, server)
    ports = [port for port in networking.attached(call, server) if group in port.security_groups]
    if not ports:
        raise NotFound(f"Security group {group} is not on instance {server.id}.")
    for port in ports:
        call.update(port, {"security_groups": [g for g in port.security_groups if g != group]})
    record(call, server, "removeSecurityGroup", done=True)


def _group(call: Call, asked: Asked) -> str:
    name = printable_name(f"{asked.name}.name", _fields(asked, {"name"}).get("name"))
    try:
        found = networking.group_ids(call, [name])
    except BadField as refusal:
        raise NotFound(refusal.message, field="name") from None
    return found[0]


def _fixed_ip(call: Call, server: Server, asked: Asked) -> None:
    """An interface on a network, as addFixedIp is: with an address that is chosen."""
    network = _fields(asked, {"networkId"}).get("networkId")
    if not isinstance(network, str):
        raise BadField("addFixedIp.networkId", "it is required.")
    wanted = [networking.NetworkItem(uuid=network)]
    changes.check(call, server, "attach_interface", ("active", "paused", "stopped"))
    changes.attach(call, server, networking.understand(call, wanted, (), 1))


def _drop_fixed_ip(call: Call, server: Server, asked: Asked) -> None:
    address = _fields(asked, {"address"}).get("address")
    for port in networking.attached(call, server):
        if any(fixed.ip_address == address for fixed in port.fixed_ips):
            changes.check(call, server, "detach_interface", ("active", "paused", "stopped"))
            changes.detach(call, server, port.id)
            return
    raise BadField("removeFixedIp.address", f"instance {server.id} has no address {str(address)[:60]}.")


_ADMIN = "os_compute_api:os-admin-actions:"

_MIGRATE = "os_compute_api:os-migrate-server:migrate"

ACTIONS: Mapping[str, Action] = {
    "os-start": Action("os_compute_api:servers:start", _plain(changes.start)),
    "os-stop": Action("os_compute_api:servers:stop", _plain(changes.stop)),
    "pause": Action("os_compute_api:os-pause-server:pause", _plain(changes.pause)),
    "unpause": Action("os_compute_api:os-pause-server:unpause", _plain(changes.unpause)),
    "suspend": Action("os_compute_api:os-suspend-server:suspend", _plain(changes.suspend)),
    "resume": Action("os_compute_api:os-suspend-server:resume", _plain(changes.resume)),
    "reboot": Action("os_compute_api:servers:reboot", _reboot),
    "rebuild": Action("os_compute_api:servers:rebuild", _rebuild),
    "rescue": Action("os_compute_api:os-rescue", _rescue, 200),
    "createImage": Action("os_compute_api:servers:create_image", _create_image),
    "createBackup": Action("os_compute_api:os-create-backup", _create_backup),
    "unrescue": Action("os_compute_api:os-unrescue", _plain(changes.unrescue)),
    "resize": Action("os_compute_api:servers:resize", _resize),
    "confirmResize": Action("os_compute_api:servers:confirm_resize", _plain(moves.confirm), 204),
    "revertResize": Action("os_compute_api:servers:revert_resize", _plain(moves.revert)),
    "migrate": Action(_MIGRATE, _migrate),
    "shelve": Action("os_compute_api:os-shelve:shelve", _plain(changes.shelve)),
    "shelveOffload": Action("os_compute_api:os-shelve:shelve_offload", _plain(changes.shelve_offload)),
    "unshelve": Action("os_compute_api:os-shelve:unshelve", _unshelve),
    "lock": Action("os_compute_api:os-lock-server:lock", _lock),
    "unlock": Action("os_compute_api:os-lock-server:unlock", _plain(changes.unlock)),
    "forceDelete": Action("os_compute_api:os-deferred-delete:force", _plain(changes.delete)),
    "restore": Action("os_compute_api:os-deferred-delete:restore", _restore),
    "os-migrateLive": Action("os_compute_api:os-migrate-server:migrate_live", _migrate_live),
    "os-resetState": Action(f"{_ADMIN}reset_state", _reset_state),
    "injectNetworkInfo": Action(f"{_ADMIN}inject_network_info", _plain(lambda call, server: None)),
    "resetNetwork": Action(f"{_ADMIN}inject_network_info", _plain(lambda call, server: None), until=93),
    "addSecurityGroup": Action("os_compute_api:os-security-groups:add", _add_group),
    "removeSecurityGroup": Action("os_compute_api:os-security-groups:remove", _remove_group),
    "addFixedIp": Action("os_compute_api:os-multinic:add", _fixed_ip, until=43),
    "removeFixedIp": Action("os_compute_api:os-multinic:remove", _drop_fixed_ip, until=43),
}

#: Actions of the Compute API that this cloud does not offer -> what to do instead.
NOT_OFFERED: Mapping[str, str] = {
    "evacuate": "Servers are not moved here.",
    "changePassword": "Use a key pair.",
    "trigger_crash_dump": "Reboot the server.",
    "addFloatingIp": "Use the Network API: set port_id of the floating IP.",
    "removeFloatingIp": "Use the Network API: clear port_id of the floating IP.",
    "os-getVNCConsole": "Read the console's log with os-getConsoleOutput.",
    "os-getSPICEConsole": "Read the console's log with os-getConsoleOutput.",
    "os-getRDPConsole": "Read the console's log with os-getConsoleOutput.",
    "os-getSerialConsole": "Read the console's log with os-getConsoleOutput.",
}


class ActionApi:
    """The handler of /v2.1/servers/{id}/action."""

    def __init__(self, engine: Engine, console: Console) -> None:
        self.engine = engine
        self.servers = ServerApi(engine)
        self.console = console

    async def act(self, request: Request, minor: int) -> Reply:
        """Carries out an action."""
        body = await request.json()
        if not isinstance(body, dict) or len(body) != 1:
            raise BadRequest("The body must be a JSON object with one key, the action.")
        name = next(iter(body))
        if name == "os-getConsoleOutput":
            return await self._console(request, body[name])
        action = ACTIONS.get(name)
        if action is None or not action.since <= minor <= action.until:
            await self.engine.read(
                lambda reader: self.servers.find(reader, request, "os_compute_api:servers:show")
            )
            if name in NOT_OFFERED:
                raise BadRequest(f"This cloud does not offer {name}. {NOT_OFFERED[name]}", field=name)
            raise BadRequest(f"There is no such action: {str(name)[:80]}", field=str(name)[:80])
        asked = Asked(request, minor, name, body[name])
        result = await self.servers.change(
            request, action.rule, lambda call, server: action.run(call, server, asked)
        )
        return result if isinstance(result, Reply) else Reply(result, action.status)

    async def _console(self, request: Request, value: Any) -> Reply:
        length = None
        if value is not None:
            if not isinstance(value, dict):
                raise BadField("os-getConsoleOutput", "it must be a JSON object.")
            only(value, {"length"})
            if value.get("length") is not None:
                length = whole("os-getConsoleOutput.length", value["length"], -1, MAX_INT)
        rule = "os_compute_api:os-console-output"
        server = await self.engine.read(lambda reader: self.servers.find(reader, request, rule))
        if not server.host or server.launched_at is None:
            raise Conflict(f"Instance {server.id} is not ready")
        text = await self.console(server.host, server.id, None if length == -1 else length)
        return Reply({"output": text})


def endpoints(engine: Engine, console: Console) -> list[Endpoint]:
    """The path of actions."""
    api = ActionApi(engine, console)
    return [at("POST", "/v2.1/servers/{id}/action", api.act, 202, kind="server")]
