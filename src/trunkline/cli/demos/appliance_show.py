"""What `trunkline demo appliance` prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trunkline.cli.appliance_picture import Picture
from trunkline.cli.demos.appliance_plan import CONNECTIONS, FAR, Outcome, Stage
from trunkline.cli.demos.terminal import console
from trunkline.traffic.words import Live

Redraw = Callable[[dict[str, Any], Live | None, str], None]


class Screen:
    """The appliance while it changes: a picture in one place on a terminal, a line a stage elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        """`quiet`: standard output is for a document."""
        self._picture = Picture()
        self._draws = not quiet and sys.stdout.isatty()
        self._began = time.monotonic()

    @contextmanager
    def open(self) -> Iterator[Redraw]:
        """What is given to the function is shown: the appliance, its traffic, and what is being done."""
        if not self._draws:
            yield lambda seen, traffic, doing: None
            return
        from rich.console import Group
        from rich.live import Live as Display

        with Display(console=console(), auto_refresh=False, transient=True) as display:

            def redraw(seen: dict[str, Any], traffic: Live | None, doing: str) -> None:
                lines = (f"[bold]{doing}[/]", self._traffic(traffic), "", self._picture.draw(seen))
                display.update(Group(*lines), refresh=True)

            yield redraw

    def stage(self, outcome: Outcome) -> None:
        """Where nothing is drawn, progress is told on standard error."""
        if not self._draws:
            mark = "ok  " if outcome.good else "FAIL"
            settled = "not settled" if outcome.settled is None else f"{outcome.settled:7.2f} s"
            print(
                f"{mark} {settled}  {outcome.stage.name:<12} {outcome.stage.what}",
                file=sys.stderr,
                flush=True,
            )

    def _traffic(self, live: Live | None) -> str:
        seconds = time.monotonic() - self._began
        if live is None:
            return f"[dim]{seconds:5.1f} s  connections are made[/]"
        broken = sum(live.broken.values())
        colour = "red" if broken else "green"
        return (
            f"[dim]{seconds:5.1f} s[/]  {live.established - broken} connections to {FAR}, "
            f"[{colour}]{broken} broken[/], {live.answered} datagrams answered, "
            f"longest gap of the last second {1000 * live.longest_gap:.0f} ms"
        )


def show(outcomes: list[Outcome]) -> None:
    """A table with a row for each stage."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    table = Table(title="What became of the connections", title_style="bold")
    for name in ("stage", "what", "planes", "settled", "longest gap", "broken"):
        table.add_column(name, no_wrap=True)
    for one in outcomes:
        what = one.stage.what + (f" (unit {one.killed})" if one.killed is not None else "")
        settled = "[red]not in time ✗[/]" if one.settled is None else f"{one.settled:.1f} s"
        broken = f"[red]{len(one.broken)} ✗[/]" if one.broken else "[green]0 ✓[/]"
        gap = f"{1000 * one.gap:.0f} ms"
        table.add_row(one.stage.name, what, str(one.stage.planes), settled, gap, broken)
    out.print(table)
    out.print(
        "[dim]planes: data planes in the end. settled: each had its share of the shards, as the API told it. "
        "gap: of a flow of\ndatagrams, 50 a second. broken: connections with a byte that was not sent, "
        "a reset, or ten seconds of silence.[/]"
    )
    for one in outcomes:
        for why in one.broken[:5]:
            out.print(f"[red]{one.stage.name}: {escape(why)}[/]")


def summary(outcomes: list[Outcome], bytes_: int, seconds: float) -> None:
    """The last line."""
    broken = sum(len(one.broken) for one in outcomes)
    late = sum(one.settled is None for one in outcomes)
    colour, mark = ("green", "✓") if not broken and not late else ("red", "✗")
    console().print(
        f"[{colour}]{mark} {CONNECTIONS} connections, {bytes_:,} bytes compared, {broken} broken"
        f"{f', {late} stages did not settle' if late else ''} ({seconds:.0f} s)[/]"
    )


def document(outcome: Outcome) -> dict[str, Any]:
    """A stage for --json."""
    return {
        "stage": outcome.stage.name,
        "data_planes": outcome.stage.planes,
        "seconds_to_settle": None if outcome.settled is None else round(outcome.settled, 3),
        "killed_unit": outcome.killed,
        "longest_gap_seconds": round(outcome.gap, 4),
        "broken": outcome.broken,
    }


def doing(stage: Stage) -> str:
    return f"{stage.name}: {stage.what}"
