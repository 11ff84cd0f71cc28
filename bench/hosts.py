"""Simulated hosts: they join, follow their slices and report over the host channel, and plug nothing in.

python -m bench.hosts CONTROL FOLDER < TOKENS, in the namespace from which CONTROL is reached; one line of
standard input for each host, its name and its token. Says "joined" when all have; runs until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from trunkline.agent import join
from trunkline.agent.channel import Channel
from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import HostSlice
from trunkline.devices import pki
from trunkline.errors import Refusal
from trunkline.resources.reports import HostReport

#: How often a host reports, seconds.
EVERY = 2.0


async def host(config: AgentConfig) -> None:
    """One host, for ever."""
    context = pki.client_context(config.authority.read_text(), config.files)
    channel = Channel(config.control, context)
    told = HostSlice(host=config.host, revision=0)

    async def report() -> None:
        while True:
            try:
                await channel.report(
                    HostReport(
                        host=config.host,
                        applied_revision=told.revision,
                        vcpus=64,
                        memory_mib=262144,
                        disk_gib=4096,
                        ports=tuple(port.id for port in told.ports),
                    )
                )
            except Refusal as refusal:
                print(config.host, refusal, file=sys.stderr)
            await asyncio.sleep(EVERY)

    reporting = asyncio.create_task(report())
    while True:
        try:
            told = await channel.slice_after(told.revision) or told
        except Refusal as refusal:
            print(config.host, refusal, file=sys.stderr)
            await asyncio.sleep(1.0)
        assert not reporting.done(), reporting


async def main(control: str, folder: Path) -> None:
    """All hosts of standard input."""
    configs = []
    for number, line in enumerate(sys.stdin):
        name, token = line.split()
        configs.append(
            join.prepare(
                directory=folder / name,
                control=control,
                token=token,
                name=name,
                underlay_address=f"10.98.0.{number + 1}",
            )
        )
    for config in configs:
        await join.join(config)
    print("joined", flush=True)
    await asyncio.gather(*(host(config) for config in configs))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
