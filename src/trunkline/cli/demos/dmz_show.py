"""What `trunkline demo dmz` prints: the topology as a picture, and the matrix, wanted beside measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trunkline.cli.demos import terminal
from trunkline.cli.demos.dmz_plan import (
    BACK_IN_APP,
    FRONT_IN_DMZ,
    NETWORKS,
    OUTSIDE,
    OUTSIDE_V4,
    PORTS,
    SERVERS,
    Probe,
    wanted,
)

_MARKS = {4: "⁴", 6: "⁶"}


@dataclass(frozen=True)
class Cell:
    """Who, whom, and the ports: those that FLOWS let through, and those that got through."""

    source: str
    target: str
    wanted: tuple[str, ...]
    measured: tuple[str, ...]

    @property
    def same(self) -> bool:
        return self.wanted == self.measured


def cells(measured: Mapping[Probe, bool]) -> list[Cell]:
    """One cell for each pair that was probed."""
    pairs: dict[tuple[str, str], list[Probe]] = {}
    for probe in measured:
        pairs.setdefault((probe.source, probe.target), []).append(probe)
    return [
        Cell(
            source,
            target,
            _ports({probe: wanted(probe) for probe in probes}),
            _ports({probe: measured[probe] for probe in probes}),
        )
        for (source, target), probes in pairs.items()
    ]


def _ports(open_: Mapping[Probe, bool]) -> tuple[str, ...]:
    """Names of ports, "all" for all; with the family where only one of those tried is open."""
    if all(open_.values()):
        return ("all",)
    found = []
    for port, name in PORTS.items():
        tried = {probe.family: is_open for probe, is_open in open_.items() if probe.port == port}
        families = [family for family, is_open in tried.items() if is_open]
        if families:
            found.append(name + ("" if len(families) == len(tried) else _MARKS[families[0]]))
    return tuple(found)


def picture(floating: Mapping[str, str]) -> str:
    """Networks, routers and servers, with their addresses."""
    dmz, app, db, twin = (NETWORKS[name] for name in ("dmz", "app", "db", "twin"))

    def servers(network: str, indent: str) -> list[str]:
        rows = []
        for server in SERVERS.values():
            if server.network == network:
                outer = f"  ◀── {floating[server.name]}" if server.name in floating else ""
                rows.append(f"{indent}■ {server.name:<5} {server.address}{outer}")
        return rows

    return "\n".join(
        [
            f"internet host {OUTSIDE_V4}",
            "      │",
            "public 203.0.113.0/24 ═════════════════════╗",
            "      │                                    ║",
            "  ( edge )  source NAT, floating IPs   ( twin )",
            "      │                                    ║",
            f"      │                                  twin  {twin.cidr}: db's addresses again",
            *servers("twin", " " * 6 + "│" + " " * 36),
            f"dmz   {dmz.cidr}  {dmz.cidr6}",
            *servers("dmz", "      │   "),
            "      │",
            f"  ( front ) {FRONT_IN_DMZ}",
            "      │",
            f"app   {app.cidr}  {app.cidr6}",
            *servers("app", "      │   "),
            "      │",
            f"  ( back )  {BACK_IN_APP}",
            "      │",
            f"db    {db.cidr}  {db.cidr6}",
            *servers("db", "          "),
        ]
    )


def show(found: list[Cell]) -> None:
    """The matrix as a table: rows are sources, columns targets; in a cell wanted above measured."""
    from rich.table import Table

    by_pair = {(cell.source, cell.target): cell for cell in found}
    table = Table(show_lines=True, title="Who reaches whom, by TCP", title_style="bold")
    table.add_column("from \\ to", header_style="dim", no_wrap=True)
    table.add_column("", header_style="dim", no_wrap=True)
    names = (OUTSIDE, *SERVERS)
    for name in names:
        table.add_column(name, no_wrap=True)
    for source in names:
        row = [_text(by_pair.get((source, target))) for target in names]
        table.add_row(f"[bold]{source}[/]", "[dim]wanted\nmeasured[/]", *row)
    out = terminal.console()
    out.print(table)
    services = ", ".join(f"{name} {port}" for port, name in PORTS.items())
    out.print(
        f"[dim]{services}. By IPv4 and IPv6, but to and from the outside and the twin by IPv4; "
        "⁴ or ⁶: by that one alone.[/]"
    )


def summary(found: list[Cell], probes: int, seconds: float) -> None:
    """One line: how many cells differ."""
    differ = sum(not cell.same for cell in found)
    terminal.console().print(
        f"[red]✗ {differ} of {len(found)} cells differ[/] ({probes} connections tried, {seconds:.0f} s)"
        if differ
        else f"[green]✓ 0 of {len(found)} cells differ[/] ({probes} connections tried, {seconds:.0f} s)"
    )


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    want, got = (" ".join(ports) or "–" for ports in (cell.wanted, cell.measured))
    mark = f"[green]{got} ✓[/]" if cell.same else f"[bold red]{got} ✗[/]"
    return f"[dim]{want}[/]\n{mark}"
