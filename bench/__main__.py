"""All figures, each of fresh clouds: ``make bench``, or ``python -m bench [PART ...]`` for some parts.

They need root and the Debian packages, as a cloud does, take fifteen minutes, and leave nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

from bench import api, memory, rebuild, scale, server, start, wire
from bench.cloud import Part, running
from bench.figures import Figure, machine, table

#: What is measured on a cloud that runs, each on one of its own.
PARTS: Mapping[str, Part] = {
    "memory": memory.measure,
    "server": server.measure,
    "api": api.measure,
    "wire": wire.measure,
    "scale": scale.measure,
    "rebuild": rebuild.measure,
}


def main() -> int:
    """Measures, and prints one table."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of start, {', '.join(PARTS)}; default all")
    wanted = parser.parse_args().parts or ["start", *PARTS]
    unknown = [part for part in wanted if part != "start" and part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}")
    if os.geteuid() != 0:
        parser.error("clouds need root")
    print(machine(), flush=True)
    figures: list[Figure] = []
    for name in wanted:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures += start.measure() if name == "start" else _on_a_cloud(PARTS[name])
    print(f"load average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    print(table(figures))
    return 1 if any(figure.met is False for figure in figures) else 0


def _on_a_cloud(part: Part) -> Sequence[Figure]:
    with running() as cloud, cloud.meter.measuring() as usage:
        found = list(asyncio.run(part(cloud)))
    print(f"  processors that others kept busy meanwhile: {usage.others:.1f}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
