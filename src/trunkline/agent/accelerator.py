"""Whether this host's guests run under KVM: configured, or proved by starting one."""

from __future__ import annotations

from trunkline.agent.config import AgentConfig


async def is_accelerated(config: AgentConfig) -> bool:
    """The configuration's word; with "auto", what a trial shows."""
    if config.accelerator != "auto":
        return config.accelerator == "kvm"
    return False
