"""Whether this host's guests run under KVM: configured, or proved by starting one."""

from __future__ import annotations

import asyncio
import logging

from trunkline.agent.config import AgentConfig
from trunkline.devices import machine

log = logging.getLogger(__name__)


async def is_accelerated(config: AgentConfig) -> bool:
    """The configuration's word; with "auto", what a trial shows."""
    if config.accelerator != "auto":
        return config.accelerator == "kvm"
    trouble = await asyncio.to_thread(machine.kvm_failure)
    log.info("guests run under %s", f"TCG: KVM starts none ({trouble})" if trouble else "KVM")
    return not trouble
