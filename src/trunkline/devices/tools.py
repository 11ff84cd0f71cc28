"""Short-lived helper programs: run one, with a bound, and take what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trunkline.devices.process import MissingProgram
from trunkline.errors import Unavailable


class ToolFailed(Unavailable):
    """A program said no; the message has its last words."""


async def run(argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0) -> bytes:
    """What the program wrote on its standard output.

    Raises:
        MissingProgram: it is not installed.
        ToolFailed: it ended with an error, or not within `timeout` seconds.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise MissingProgram(argv[0]) from None
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        raise ToolFailed(f"{argv[0]} did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = " ".join(err.decode(errors="replace").split()) or f"it ended with {process.returncode}"
        raise ToolFailed(f"{argv[0]}: {words}")
    return out
