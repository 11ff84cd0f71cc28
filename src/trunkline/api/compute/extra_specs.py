"""Extra specs of flavors: their syntax, and from microversion 2.86 on the names that are standard.

None of the standard names does anything here: a flavor's size is all that a host is told. They are
kept because clients and other clouds' flavors carry them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from trunkline.api.compute.wire import at, only
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, NotFound
from trunkline.resources.compute import Flavor

Specs = dict[str, str]
_KEY = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")

#: Namespaces with a closed set of names -> the names.
_STANDARD: dict[str, re.Pattern[str]] = {
    "hw": re.compile(
        r"boot_menu|cpu_cores|cpu_dedicated_mask|cpu_max_cores|cpu_max_sockets|cpu_max_threads|cpu_policy|"
        r"cpu_realtime|cpu_realtime_mask|cpu_sockets|cpu_thread_policy|cpu_threads|emulator_threads_policy|"
        r"hide_hypervisor_id|input_bus|locked_memory|maxphysaddr_bits|maxphysaddr_mode|mem_encryption|"
        r"mem_encryption_model|mem_page_size|numa_cpus\.[0-9]+|numa_mem\.[0-9]+|numa_nodes|pci_numa_affinity_policy|"
        r"pmem|pmu|serial_port_count|sound_model|time_hpet|tpm_model|tpm_secret_security|tpm_version|"
        r"usb_model|vif_multiqueue_enabled|viommu_model|virtio_packed_ring|watchdog_action"
    ),
    "hw_rng": re.compile(r"allowed|rate_bytes|rate_period"),
    "hw_video": re.compile(r"ram_max_mb"),
    "os": re.compile(r"secure_boot"),
    "quota": re.compile(
        r"cpu_limit|cpu_period|cpu_quota|cpu_reservation|cpu_shares_level|cpu_shares_share|cpu_shares|"
        r"disk_(read|write|total)_(bytes|iops)_sec(_max)?(_length)?|disk_io_(limit|reservation|"
        r"shares_level|shares_share)|memory_(limit|reservation|shares_level|shares_share)|"
        r"vif_(in|out)bound_(average|burst|peak)|vif_(limit|reservation|shares_level|shares_share)"
    ),
}


def check_spec(key: str) -> None:
    """Refuses a name that is no name of an extra spec.

    Raises:
        BadField: it has other characters, or is too long.
    """
    if not _KEY.fullmatch(key):
        raise BadField(
            f"extra_specs.{key[:80]}",
            "a name has 1 to 255 characters, of letters, digits, '-', '_', ':', '.' and space.",
        )


def clean_specs(value: Any, *, strict: bool) -> dict[str, str]:
    """Extra specs from a request.

    Args:
        strict: refuse unknown names in the standard namespaces.
    Raises:
        BadField: they are malformed.
    """
    if not isinstance(value, dict) or not value:
        raise BadField("extra_specs", "it must be a JSON object with one entry at least.")
    result: dict[str, str] = {}
    for key, spec in value.items():
        check_spec(key)
        if isinstance(spec, bool) or not isinstance(spec, str | int | float) or len(str(spec)) > 255:
            raise BadField(f"extra_specs.{key}", "a value is a text of up to 255 characters, or a number.")
        if "\x00" in str(spec):
            raise BadField(f"extra_specs.{key}", "it contains a NUL character. Remove it.")
        namespace, colon, name = key.partition(":")
        known = _STANDARD.get(namespace) if colon else None
        if strict and known is not None and not known.fullmatch(name):
            raise BadField(f"extra_specs.{key}", f"'{name}' is not a name in the namespace {namespace}.")
        result[key] = str(spec)
    return result


class SpecApi:
    """The handlers of /v2.1/flavors/{id}/os-extra_specs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def specs(self, request: Request, minor: int) -> Reply:
        """The extra specs of a flavor."""
        return Reply({"extra_specs": self._flavor(request, "index").extra_specs})

    async def spec(self, request: Request, minor: int) -> Reply:
        """One extra spec."""
        key, specs = request.path["key"], self._flavor(request, "show").extra_specs
        if key not in specs:
            raise _no_spec(request)
        return Reply({key: specs[key]})

    async def add_specs(self, request: Request, minor: int) -> Reply:
        """Adds extra specs."""
        body = await request.json()
        if not isinstance(body, dict) or "extra_specs" not in body:
            raise BadField("extra_specs", "it is required.")
        only(body, {"extra_specs"})
        specs = clean_specs(body["extra_specs"], strict=minor >= 86)
        await self._respec(request, "create", lambda old: {**old, **specs})
        return Reply({"extra_specs": specs})

    async def set_spec(self, request: Request, minor: int) -> Reply:
        """Sets one extra spec."""
        body, key = await request.json(), request.path["key"]
        if not isinstance(body, dict) or len(body) != 1 or key not in body:
            raise BadField(key[:80], "the body must have this one key, as the path does.")
        specs = clean_specs(body, strict=minor >= 86)
        await self._respec(request, "update", lambda old: {**old, **specs})
        return Reply(specs)

    async def delete_spec(self, request: Request, minor: int) -> Reply:
        """Removes one extra spec."""
        key = request.path["key"]

        def without(old: dict[str, str]) -> dict[str, str]:
            if key not in old:
                raise _no_spec(request)
            return {k: v for k, v in old.items() if k != key}

        await self._respec(request, "delete", without)
        return Reply(None, 200)

    def _flavor(self, request: Request, verb: str) -> Flavor:
        self.engine.require(f"os_compute_api:os-flavor-extra-specs:{verb}", request.context, {})
        with self.engine.store.read() as reader:
            return self.engine.get(reader, request.context, Flavor, request.path["id"])

    async def _respec(self, request: Request, verb: str, change: Callable[[Specs], Specs]) -> None:
        def run(call: Call) -> None:
            call.require(f"os_compute_api:os-flavor-extra-specs:{verb}", {})
            flavor = call.get(Flavor, request.path["id"])
            specs = change(flavor.extra_specs)
            for key in specs:
                check_spec(key)
            if len(specs) > 128:
                raise BadField("extra_specs", "a flavor has at most 128 extra specs.")
            call.save(replace(flavor, extra_specs=specs))

        await self.engine.write(request.context, run)


def _no_spec(request: Request) -> NotFound:
    key, id = request.path["key"][:80], request.path["id"][:80]
    return NotFound(f"Flavor {id} has no extra specs with key {key}.")


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of extra specs."""
    api, specs = SpecApi(engine), "/v2.1/flavors/{id}/os-extra_specs"
    return [
        at("GET", specs, api.specs, kind="flavor"),
        at("POST", specs, api.add_specs, kind="flavor"),
        at("GET", f"{specs}/{{key}}", api.spec, kind="flavor"),
        at("PUT", f"{specs}/{{key}}", api.set_spec, kind="flavor"),
        at("DELETE", f"{specs}/{{key}}", api.delete_spec, kind="flavor"),
    ]
