"""How long it takes from nothing to a cloud, and to its first server.

python -m bench.start

Each run starts the command ``trunkline up`` in a new state folder, packages and the image `tiny` being there
already (a first start builds the image, and is not measured), and takes all of it away afterwards. The clock
runs from the start of the command's process: until it ends, which is when the API answers, OVN follows and
every host has reported; then a client that had nothing to do with the start makes a network with a subnet
and a server, and asks every 20 ms until the server is ACTIVE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bench.cloud import Cloud, new_folder, up
from bench.figures import Figure, machine, table
from bench.server import boot
from trunkline.devices.state import StateFolder

RUNS = 5


def measure() -> Sequence[Figure]:
    """Fresh starts, one after the other."""
    usable, active = [], []
    for run in range(RUNS + 1):
        with new_folder() as root:
            started = time.monotonic()
            took = up(root)
            asyncio.run(_first_server(Cloud(StateFolder(root), "trunkline")))
            if run:
                usable.append(took)
                active.append(time.monotonic() - started)
    return [
        Figure("trunkline up, to the API answering and OVN ready", usable, "s", 3.0),
        Figure("  to the first server active", active, "s", 10.0),
    ]


async def _first_server(cloud: Cloud) -> None:
    await boot(cloud, await cloud.network("first", "10.0.0.0/24"))


if __name__ == "__main__":
    print(machine(), flush=True)
    print(table(measure()))
