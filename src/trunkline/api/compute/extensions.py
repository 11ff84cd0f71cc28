"""The list of extensions that older clients ask for. What it names is simply there."""

from __future__ import annotations

from typing import Any

from trunkline.api.compute.wire import at
from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import NotFound

_UPDATED = "2014-12-03T00:00:00Z"
_NAMESPACE = "http://docs.openstack.org/compute/ext/fake_xml"
#: Alias -> name.
_KNOWN = {
    "NMN": "Multinic",
    "OS-DCF": "DiskConfig",
    "OS-EXT-AZ": "ExtendedAvailabilityZone",
    "OS-EXT-IPS": "ExtendedIps",
    "OS-EXT-IPS-MAC": "ExtendedIpsMac",
    "OS-EXT-SRV-ATTR": "ExtendedServerAttributes",
    "OS-EXT-STS": "ExtendedStatus",
    "OS-FLV-DISABLED": "FlavorDisabled",
    "OS-FLV-EXT-DATA": "FlavorExtraData",
    "OS-SCH-HNT": "SchedulerHints",
    "OS-SRV-USG": "ServerUsage",
    "os-admin-actions": "AdminActions",
    "os-aggregates": "Aggregates",
    "os-attach-interfaces": "AttachInterfaces",
    "os-availability-zone": "AvailabilityZone",
    "os-config-drive": "ConfigDrive",
    "os-console-output": "ConsoleOutput",
    "os-consoles": "Consoles",
    "os-deferred-delete": "DeferredDelete",
    "os-extended-volumes": "ExtendedVolumes",
    "os-flavor-access": "FlavorAccess",
    "os-flavor-extra-specs": "FlavorExtraSpecs",
    "os-flavor-manage": "FlavorManage",
    "os-hosts": "Hosts",
    "os-hypervisors": "Hypervisors",
    "os-instance-actions": "ServerInstanceActions",
    "os-keypairs": "Keypairs",
    "os-lock-server": "LockServer",
    "os-migrations": "Migrations",
    "os-multiple-create": "MultipleCreate",
    "os-pause-server": "PauseServer",
    "os-quota-class-sets": "QuotaClasses",
    "os-quota-sets": "Quotas",
    "os-security-groups": "SecurityGroups",
    "os-server-diagnostics": "ServerDiagnostics",
    "os-server-groups": "ServerGroups",
    "os-server-password": "ServerPassword",
    "os-services": "Services",
    "os-simple-tenant-usage": "SimpleTenantUsage",
    "os-suspend-server": "SuspendServer",
    "os-used-limits": "UsedLimits",
    "os-user-data": "UserData",
    "server-metadata": "ServerMetadata",
}


def _one(alias: str) -> dict[str, Any]:
    name = _KNOWN[alias]
    return {
        "alias": alias,
        "name": name,
        "description": f"{name}.",
        "namespace": _NAMESPACE,
        "links": [],
        "updated": _UPDATED,
    }


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of extensions."""

    async def many(request: Request, minor: int) -> Reply:
        """The extensions."""
        return Reply({"extensions": [_one(alias) for alias in sorted(_KNOWN)]})

    async def one(request: Request, minor: int) -> Reply:
        """One extension."""
        alias = request.path["alias"]
        if alias not in _KNOWN:
            raise NotFound(f"Extension {alias[:80]} could not be found.")
        return Reply({"extension": _one(alias)})

    return [
        at("GET", "/v2.1/extensions", many),
        at("GET", "/v2.1/extensions/{alias}", one),
    ]
