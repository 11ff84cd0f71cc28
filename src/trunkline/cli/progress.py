"""Steps and their times: a live line on a terminal, plain lines elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Step:
    """One step under way. What is noted last is shown beside its name."""

    def __init__(self, name: str, live: Any = None) -> None:
        self.name = name
        self.detail = ""
        self._live = live

    def note(self, detail: str) -> None:
        """Shows how far it is."""
        if detail != self.detail:
            self.detail = detail
            if self._live is not None:
                self._live.update(f" {self.name}  [dim]{detail}")


class Steps:
    """The steps of one command. `times` has the seconds of each, in order."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._began = time.monotonic()
        self._console: Any = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False)

    @property
    def total(self) -> float:
        """Seconds since the first."""
        return time.monotonic() - self._began

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Times a step, and tells how it ended."""
        began = time.monotonic()
        step = Step(name)
        good = False
        try:
            if self._console is None:
                yield step
            else:
                with self._console.status(f" {name}", spinner="dots") as live:
                    step = Step(name, live)
                    yield step
            good = True
        finally:
            seconds = time.monotonic() - began
            self.times[name] = seconds
            self._tell(step, seconds, good)

    def _tell(self, step: Step, seconds: float, good: bool) -> None:
        if self._console is None:
            mark = "ok  " if good else "FAIL"
            print(
                f"{mark} {seconds:7.2f} s  {step.name:<12} {step.detail}".rstrip(),
                file=sys.stderr,
                flush=True,
            )
        else:
            mark = "[green]✓[/]" if good else "[red]✗[/]"
            self._console.print(f" {mark} {seconds:7.2f} s  {step.name:<12} [dim]{step.detail}[/]")
