"""How much memory the control process holds: of a new cloud at rest.

python -m bench.memory [--state DIR]
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.cloud import Cloud, alone
from bench.figures import Figure, resident

#: Seconds until what belongs to the start is over.
REST = 10.0


async def measure(cloud: Cloud) -> Sequence[Figure]:
    """Resident memory after a rest."""
    await asyncio.sleep(REST)
    seen = []
    for _ in range(5):
        seen.append(resident(cloud.control))
        await asyncio.sleep(1.0)
    return [Figure("control process, resident, idle", seen, "MB", 150.0)]


if __name__ == "__main__":
    alone(measure)
