"""What `trunkline demo office` prints."""

from __future__ import annotations

from typing import Any

from trunkline.cli.demos.office_plan import CIDR, DESKTOP, OFFICES, START, Move, Turn
from trunkline.cli.demos.terminal import console


def picture() -> str:
    """The offices, and the desktop where it starts."""
    rows = []
    for office, files in OFFICES.items():
        desktop = f"──■ desktop {DESKTOP}" if office == START else ""
        rows.append(f"{office:<12} {CIDR} ──■ files {files} {desktop}".rstrip())
    return "\n".join([*rows, f"{'':<12} no router: no way leads from one to another"])


def show(moves: list[Move], strange: set[str]) -> None:
    """A table with a row for each move."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    table = Table(title="The desktop's moves", title_style="bold", show_lines=True)
    for name in ("move", "read before", "read after", "gap", "ACTIVE", "session", "underlay"):
        table.add_column(name, no_wrap=True)
    for move in moves:
        before, after = move.before, move.after
        same = before.boot == after.boot and before.note == after.note
        uptimes = f"up {before.up:.0f} → {after.up:.0f} s, round {before.number} → {after.number}"
        table.add_row(
            f"{move.left} → {move.joined}",
            _mark(before.reads == (move.left,), _reads(before)),
            _mark(after.reads == (move.joined,), _reads(after)),
            "–" if move.gap is None else f"{move.gap:.1f} s",
            _mark(move.wired > 0, f"{move.wired:.1f} s" if move.wired else "not"),
            f"{_mark(same, f'boot {after.boot[:8]}, note {after.note[:8]}')}\n[dim]{uptimes}[/]",
            _mark(not move.changes, f"{len(move.changes)} changes" if move.changes else "as before"),
        )
    out.print(table)
    out.print(
        "[dim]read: whose file server answered; the session asks all three, once a second. gap: by the "
        "desktop's clock, from\nthe last file of the old office to the first of the new. ACTIVE: from the "
        "request to detach to the new port wired.[/]"
    )
    for move in moves:
        for fault in move.faults:
            out.print(f"[red]✗ {move.left} → {move.joined}: {fault}[/]")
        for change in move.changes:
            out.print(f"    {escape(change)}")
    for mac in sorted(strange):
        out.print(f"[red]✗ the underlay has seen frames of the desktop's {mac}[/]")


def summary(moves: list[Move], failed: int, seconds: float) -> None:
    """One line: how it went."""
    text = (
        f"{len(moves)} moves, {failed} not as they should be ({seconds:.0f} s)"
        if failed
        else f"{len(moves)} moves: never rebooted, never in two offices at once, "
        f"nothing of the underlay changed ({seconds:.0f} s)"
    )
    console().print(f"[red]✗ {text}[/]" if failed else f"[green]✓ {text}[/]")


def document(move: Move) -> dict[str, Any]:
    """A move for --json."""
    return {
        "from": move.left,
        "to": move.joined,
        "before": _document(move.before),
        "after": _document(move.after),
        "seconds_to_active": round(move.wired, 3),
        "seconds_without_files": None if move.gap is None else round(move.gap, 2),
        "underlay_changes": move.changes,
        "faults": move.faults,
    }


def _document(turn: Turn) -> dict[str, Any]:
    return {
        "reads": turn.reads,
        "addresses": turn.at,
        "mac_addresses": turn.cards,
        "boot_id": turn.boot,
        "note": turn.note,
        "round": turn.number,
        "uptime": turn.up,
    }


def _reads(turn: Turn) -> str:
    return " ".join(turn.reads) or "nothing"


def _mark(good: bool, text: str) -> str:
    return f"[green]{text} ✓[/]" if good else f"[red]{text} ✗[/]"
