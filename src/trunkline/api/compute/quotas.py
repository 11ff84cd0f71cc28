"""How much a project may have of what the Compute API makes, and what it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute.wire import at, boolean, only, single, whole
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, OverQuota
from trunkline.resources.compute import MAX_INT, ComputeQuota, Server, ServerGroup
from trunkline.store import Reader

#: The limits of a project, where nothing else was set; -1 is none.
DEFAULTS: Mapping[str, int] = {
    "instances": 10,
    "cores": 20,
    "ram": 51200,
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
    # What the Network API counts now.
    "floating_ips": -1,
    "fixed_ips": -1,
    "security_groups": -1,
    "security_group_rules": -1,
}
_NETWORK = frozenset({"floating_ips", "fixed_ips", "security_groups", "security_group_rules"})
_INJECTED = frozenset({"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"})
_CLASS = "class:default"


def limits_of(reader: Reader, project: str) -> dict[str, int]:
    """All limits of a project."""
    limits = dict(DEFAULTS)
    for id in (_CLASS, project):
        found = reader.get(ComputeQuota, id)
        if found is not None:
            limits.update(found.limits)
    return limits


def limit_of(reader: Reader, project: str, name: str) -> int:
    """One limit of a project, -1 for none."""
    return limits_of(reader, project)[name]


def usage_of(reader: Reader, project: str) -> dict[str, int]:
    """What a project has."""
    servers = [s for s in reader.find(Server, project_id=project) if not s.deleting]
    flavors = [s.flavor for s in servers if s.flavor is not None]
    return {
        "instances": len(servers),
        "cores": sum(f.vcpus for f in flavors),
        "ram": sum(f.ram for f in flavors),
        "server_groups": reader.count(ServerGroup, project_id=project),
    }


def spent(name: str, message: str) -> OverQuota:
    """The error for a quota that is spent."""
    return OverQuota(message, field=name)


def check_growth(reader: Reader, project: str, growth: Mapping[str, int]) -> None:
    """Refuses to give a project so much more of what is limited; what becomes less is not looked at.

    Raises:
        OverQuota: with every limit that stands in the way.
    """
    limits, used = limits_of(reader, project), usage_of(reader, project)
    wanted = {name: more for name, more in growth.items() if more > 0}
    over = [n for n, more in wanted.items() if 0 <= limits[n] < used[n] + more]
    if over:
        asked = ", ".join(str(wanted[n]) for n in over)
        have = ", ".join(str(used[n]) for n in over)
        most = ", ".join(str(limits[n]) for n in over)
        names = ", ".join(over)
        raise spent(
            names, f"Quota exceeded for {names}: Requested {asked}, but already used {have} of {most} {names}"
        )


def check_servers(reader: Reader, project: str, count: int, vcpus: int, ram: int) -> None:
    """Refuses so many more servers of a size, where they would be too many.

    Raises:
        OverQuota: with every limit that stands in the way.
    """
    check_growth(reader, project, {"instances": count, "cores": count * vcpus, "ram": count * ram})


class QuotaApi:
    """The handlers of quotas and limits."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def show(self, request: Request, minor: int) -> Reply:
        """The limits of a project."""
        project = request.path["project"]
        self.engine.require("os_compute_api:os-quota-sets:show", request.context, {"project_id": project})
        limits = await self.engine.read(lambda reader: limits_of(reader, project))
        return Reply({"quota_set": {"id": project, **_named(limits, minor)}})

    async def defaults(self, request: Request, minor: int) -> Reply:
        """The limits of a project for which nothing else was set."""
        project = request.path["project"]
        self.engine.require("os_compute_api:os-quota-sets:defaults", request.context, {"project_id": project})
        limits = await self.engine.read(lambda reader: limits_of(reader, _CLASS))
        return Reply({"quota_set": {"id": project, **_named(limits, minor)}})

    async def detail(self, request: Request, minor: int) -> Reply:
        """The limits of a project with what it has."""
        project = request.path["project"]
        self.engine.require("os_compute_api:os-quota-sets:detail", request.context, {"project_id": project})

        def run(reader: Reader) -> dict[str, Any]:
            limits, used = _named(limits_of(reader, project), minor), usage_of(reader, project)
            return {
                n: {"limit": limit, "in_use": used.get(n, 0), "reserved": 0} for n, limit in limits.items()
            }

        return Reply({"quota_set": {"id": project, **await self.engine.read(run)}})

    async def update(self, request: Request, minor: int) -> Reply:
        """Sets limits of a project."""
        project = request.path["project"]
        body = await request.json()
        if not isinstance(body, dict) or not isinstance(body.get("quota_set"), dict):
            raise BadField("quota_set", "it is required.")
        only(body, {"quota_set"})
        given = dict(body["quota_set"])
        force = boolean("force", given.pop("force", False))
        given.pop("tenant_id", None)
        limits = _checked(given, minor)

        def run(call: Call) -> dict[str, int]:
            call.require("os_compute_api:os-quota-sets:update", {"project_id": project})
            used = usage_of(call.tx, project)
            for name, limit in limits.items():
                if not force and 0 <= limit < used.get(name, 0):
                    raise BadField(
                        name, f"the project has {used[name]} already. Give that or more, or set force."
                    )
            _store(call, project, limits)
            return limits_of(call.tx, project)

        return Reply({"quota_set": _named(await self.engine.write(request.context, run), minor)})

    async def delete(self, request: Request, minor: int) -> Reply:
        """Gives a project the default limits again."""
        project = request.path["project"]

        def run(call: Call) -> None:
            call.require("os_compute_api:os-quota-sets:delete", {"project_id": project})
            found = call.tx.get(ComputeQuota, project)
            if found is not None:
                call.drop(found)

        await self.engine.write(request.context, run)
        return Reply(None, 202)

    async def show_class(self, request: Request, minor: int) -> Reply:
        """The limits that projects have by default."""
        self.engine.require("os_compute_api:os-quota-class-sets:show", request.context, {})
        limits = await self.engine.read(lambda reader: limits_of(reader, _CLASS))
        shown = _named(limits, minor, classes=True)
        return Reply({"quota_class_set": {"id": request.path["name"], **shown}})

    async def update_class(self, request: Request, minor: int) -> Reply:
        """Sets the limits that projects have by default."""
        if request.path["name"] != "default":
            raise BadField("quota_class", "there is one class of quotas, default.")
        body = await request.json()
        if not isinstance(body, dict) or not isinstance(body.get("quota_class_set"), dict):
            raise BadField("quota_class_set", "it is required.")
        only(body, {"quota_class_set"})
        limits = _checked(body["quota_class_set"], minor)

        def run(call: Call) -> dict[str, int]:
            call.require("os_compute_api:os-quota-class-sets:update", {})
            _store(call, _CLASS, limits)
            return limits_of(call.tx, _CLASS)

        shown = _named(await self.engine.write(request.context, run), minor, classes=True)
        return Reply({"quota_class_set": shown})

    async def limits(self, request: Request, minor: int) -> Reply:
        """The limits and the use of the caller's project, in the form of older clients."""
        query = single(request.query)
        project = query.get("tenant_id", request.context.project_id)
        if project != request.context.project_id:
            self.engine.require("os_compute_api:limits:other_project", request.context, {})
        self.engine.require("os_compute_api:limits", request.context, {})

        def run(reader: Reader) -> tuple[dict[str, int], dict[str, int]]:
            return limits_of(reader, project), usage_of(reader, project)

        most, used = await self.engine.read(run)
        absolute = {
            "maxTotalInstances": most["instances"],
            "maxTotalCores": most["cores"],
            "maxTotalRAMSize": most["ram"],
            "maxServerMeta": most["metadata_items"],
            "maxTotalKeypairs": most["key_pairs"],
            "maxServerGroups": most["server_groups"],
            "maxServerGroupMembers": most["server_group_members"],
            "totalInstancesUsed": used["instances"],
            "totalCoresUsed": used["cores"],
            "totalRAMUsed": used["ram"],
            "totalServerGroupsUsed": used["server_groups"],
        }
        if minor < 39:
            absolute["maxImageMeta"] = most["metadata_items"]
        if minor < 36:
            absolute |= {
                "maxTotalFloatingIps": -1,
                "maxSecurityGroups": -1,
                "maxSecurityGroupRules": -1,
                "totalFloatingIpsUsed": 0,
                "totalSecurityGroupsUsed": 0,
            }
        if minor < 57:
            absolute |= {
                "maxPersonality": most["injected_files"],
                "maxPersonalitySize": most["injected_file_content_bytes"],
            }
        return Reply({"limits": {"rate": [], "absolute": absolute}})


def _named(limits: Mapping[str, int], minor: int, *, classes: bool = False) -> dict[str, int]:
    hidden: set[str] = set()
    if minor >= 36 and not (classes and minor < 50):
        hidden |= _NETWORK
    if minor >= 57:
        hidden |= _INJECTED
    if classes and minor < 50:
        hidden |= {"server_groups", "server_group_members"}
    return {name: limit for name, limit in limits.items() if name not in hidden}


def _checked(given: Mapping[str, Any], minor: int) -> dict[str, int]:
    only(given, set(_named(DEFAULTS, minor)))
    return {name: whole(name, value, -1, MAX_INT) for name, value in given.items()}


def _store(call: Call, id: str, limits: Mapping[str, int]) -> None:
    found = call.tx.get(ComputeQuota, id)
    if found is None:
        call.add(ComputeQuota(id=id, limits=dict(limits)))
    elif limits:
        call.save(replace(found, limits={**found.limits, **limits}))


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of quotas and limits."""
    api = QuotaApi(engine)
    one, classes = "/v2.1/os-quota-sets/{project}", "/v2.1/os-quota-class-sets/{name}"
    return [
        at("GET", "/v2.1/limits", api.limits, kind="compute_quota"),
        at("GET", one, api.show, kind="compute_quota"),
        at("PUT", one, api.update, kind="compute_quota"),
        at("DELETE", one, api.delete, 202, kind="compute_quota"),
        at("GET", f"{one}/defaults", api.defaults, kind="compute_quota"),
        at("GET", f"{one}/detail", api.detail, kind="compute_quota"),
        at("GET", classes, api.show_class, kind="compute_quota"),
        at("PUT", classes, api.update_class, kind="compute_quota"),
    ]
