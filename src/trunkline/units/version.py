"""Which program a unit runs."""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from pathlib import Path

import trunkline

#: What of the package makes a unit do what it does.
_PARTS = (
    "units",
    "devices",
    "plan",
    "compiler/classifier.py",
    "compiler/rule_tables.py",
    "compiler/unit_slices.py",
    "resources/appliance_policy",
    "resources/reports.py",
)


@cache
def version() -> str:
    """Trunkline's version, and a digest of the units' code as it is when this is called first."""
    with contextlib.suppress(FileNotFoundError):
        # The image of units that are guests has no sources.
        return Path(__file__).with_suffix(".txt").read_text()
    root, digest = Path(trunkline.__file__).parent, hashlib.blake2b(digest_size=4)
    for part in _PARTS:
        place = root / part
        files = place.rglob("*") if place.is_dir() else (place,)
        for file in sorted(file for file in files if file.suffix in (".py", ".o")):
            digest.update(
                f"{file.relative_to(root)}\0".encode() + hashlib.blake2b(file.read_bytes()).digest()
            )
    return f"{trunkline.__version__}+{digest.hexdigest()}"
