"""``python -m trunkline.agent --config FILE``: the agent of one host, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from trunkline.agent.accelerator import is_accelerated
from trunkline.agent.agent import Agent
from trunkline.agent.config import AgentConfig, load
from trunkline.errors import Refusal


def main() -> int:
    """Runs the agent; returns the exit status."""
    parser = argparse.ArgumentParser(prog="trunkline.agent", description="The agent of one host.")
    parser.add_argument("--config", type=Path, required=True, help="agent.json of the host")
    given = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        config = load(given.config)
    except Refusal as error:
        print(f"trunkline.agent: {error.message}", file=sys.stderr)
        return 2
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(config))
    return 0


async def _run(config: AgentConfig) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    await Agent(config, asyncio.create_task(is_accelerated(config))).run()


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Threads may wait for the network still; nothing of theirs is worth waiting for.
    os._exit(status)
