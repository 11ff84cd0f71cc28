"""Config drives: a small read-only disk that tells a guest who it is.

ISO 9660 with the label ``config-2``, long names by Rock Ridge and Joliet, as cloud-init and its kin look
for it (https://cloudinit.readthedocs.io/en/latest/reference/datasources/configdrive.html).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trunkline.devices.tools import run

LABEL = "config-2"


async def write(file: Path, content: Mapping[str, bytes]) -> None:
    """Makes (or replaces) a config drive.

    Args:
        content: by path, as "openstack/latest/meta_data.json".
    Raises:
        trunkline.devices.process.MissingProgram: xorriso is not installed.
        trunkline.devices.tools.ToolFailed: it failed.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=file.parent, prefix=".drive"))
    try:
        await asyncio.to_thread(_lay_out, folder / "root", content)
        new = folder / "iso"
        await run(
            ("xorriso", "-as", "mkisofs", "-quiet", "-J", "-r", "-V", LABEL, "-o", str(new), f"{folder}/root")
        )
        new.replace(file)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _lay_out(root: Path, content: Mapping[str, bytes]) -> None:
    for path, data in content.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
