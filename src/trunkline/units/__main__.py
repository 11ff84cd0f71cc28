"""``python -m trunkline.units --socket PATH --bus DEVICE --control DEVICE [--leg DEVICE ...]``

A compute unit: it runs in namespaces of its own, or in a guest, and is what its agent says on the socket. The
devices are there before the agent says anything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkline.units.roles import ROLES
from trunkline.units.unit import Place, Unit


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the unit, by the words of the command line or these; returns the exit status."""
    parser = argparse.ArgumentParser(prog="trunkline.units", description="A compute unit of an appliance.")
    parser.add_argument("--socket", type=Path, required=True, help="where the agent speaks to it")
    parser.add_argument("--bus", required=True, help="its interface on the in-band bus")
    parser.add_argument("--control", required=True, help="its interface on the out-of-band bus")
    parser.add_argument(
        "--leg", action="append", default=[], help="a port of a dispatcher, in the order of legs"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    with contextlib.suppress(asyncio.CancelledError):
        folder = given.socket.with_name(f"{given.socket.name}.d")
        place = Place(given.bus, given.control, folder, tuple(given.leg))
        asyncio.run(_run(Unit(given.socket, place, ROLES)))
    return 0


async def _run(unit: Unit) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await unit.run()


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)
