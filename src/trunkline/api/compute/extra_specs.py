"""Extra specs of flavors: their syntax, and from microversion 2.86 on the names that are standard.

None of the standard names does anything here: a flavor's size is all that a host is told. They are
kept because clients and other clouds' flavors carry them.
"""

from __future__ import annotations

import re
from typing import Any

from trunkline.errors import BadField

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
