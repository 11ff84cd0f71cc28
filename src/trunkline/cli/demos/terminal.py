"""Where demos print their tables."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: What the widest table needs.
_LEAST_WIDTH = 130


def console() -> Console:
    """Standard output. A line that is too long for the terminal is better broken by it than cut by us."""
    from rich.console import Console

    return Console(highlight=False, width=max(_LEAST_WIDTH, shutil.get_terminal_size().columns))
