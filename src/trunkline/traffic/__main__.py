"""``python -m trunkline.traffic near PLAN`` and ``... far PLAN``: plans are JSON, as in `plans.py`.

    python -m trunkline.traffic far '{"listen": ["192.0.2.9:8000"]}'
    python -m trunkline.traffic near '{"targets": ["192.0.2.9:8000"], "connections": 1000, "flows": 32}'

Words go to standard output, commands come by standard input (`words.py`), whose end is the program's.
"""

from __future__ import annotations

import gc
import sys

import msgspec

from trunkline.traffic import promptness
from trunkline.traffic.far import Far
from trunkline.traffic.near import Near
from trunkline.traffic.plans import FarPlan, NearPlan
from trunkline.traffic.words import Word

_USAGE = "usage: python -m trunkline.traffic near|far PLAN"
_encoder = msgspec.json.Encoder()


def main() -> int:
    """Runs one end; returns the exit status."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("near", "far"):
        print(_USAGE, file=sys.stderr)
        return 2
    end, text = sys.argv[1:]
    # Hardly anything here is garbage by itself, and looking for it among 20,000 connections takes 20 ms.
    gc.disable()
    try:
        if end == "near":
            near = msgspec.json.decode(text, type=NearPlan)
            Near(near, sys.stdin.fileno(), say, _promptly(near)).run()
        else:
            far = msgspec.json.decode(text, type=FarPlan)
            Far(far, sys.stdin.fileno(), say, _promptly(far)).run()
    except (ValueError, OSError) as error:
        print(f"trunkline.traffic: {error}", file=sys.stderr)
        return 1
    return 0


def _promptly(plan: NearPlan | FarPlan) -> str:
    """Who has flows and nothing else measures time. Returns as `promptness.go_first`."""
    return promptness.go_first() if plan.flows and not plan.connections else ""


def say(word: Word) -> None:
    """To standard output, at once."""
    sys.stdout.buffer.write(_encoder.encode(word) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
