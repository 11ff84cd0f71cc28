"""A unit as a server: a guest with the same program, whose QEMU is in namespaces as the program would be.

    agent ── slices, statuses ── FOLDER/NAME/s ── virtio-serial ── guest
    buses, ports ── veth ── tc ── tap ── virtio-net ── guest

All that the runtime of namespaces makes, and how it goes, is the same. But packets are forwarded by QEMU's
threads, which the control group holds to their part: there is nothing to promise besides.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from trunkline.agent.buses import Buses
from trunkline.agent.unit_runtime import InNamespaces
from trunkline.compiler.unit_slices import UnitSlice
from trunkline.devices import unit_image

log = logging.getLogger(__name__)


class AsServer(InNamespaces):
    """As `InNamespaces`; the process is QEMU."""

    #: An emulated guest takes some seconds to be there, on a busy host many.
    starting = 90.0
    #: What forwards ends with the process.
    linger = 0.0
    #: For the taps; QEMU itself has none.
    capabilities = ("net_admin", "setpcap")

    def __init__(
        self,
        folder: Path,
        name: str,
        group: str,
        buses: Buses,
        hidden: Sequence[Path],
        *,
        accelerated: bool,
    ) -> None:
        """As `InNamespaces`; `accelerated`: guests run under KVM."""
        super().__init__(folder, name, group, buses, hidden)
        self._accelerated = accelerated

    def kernel(self) -> str | None:
        return None

    def _program(self, unit: UnitSlice) -> tuple[str, ...]:
        image = unit_image.build(unit_image.default_cache(), lambda step: log.info("%s", step))
        options = [f"--kernel={image.kernel}", f"--initramfs={image.initramfs}"]
        options += [f"--memory={unit.memory_mib}", f"--processors={math.ceil(unit.cores)}"]
        if self._accelerated:
            options.append("--accelerated")
        return ("trunkline.agent.unit_machine", *options)
