"""``trunkline status``"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from trunkline.cli.observe import observe
from trunkline.cli.options import json_option, state_option, state_root
from trunkline.devices.state import StateFolder


@click.command("status")
@state_option
@json_option
def command(as_json: bool) -> None:
    """What is observed of hosts, daemons, backend and servers; cause and next step where it is not well.

    The exit status is 0 if all is well, 1 if not.
    """
    seen = observe(StateFolder(state_root()))
    if as_json:
        click.echo(json.dumps(seen, indent=2))
    else:
        _show(seen)
    sys.exit(0 if seen["well"] else 1)


def _show(seen: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    # Not a terminal: nothing is cut to its width.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    cloud, control, backend = seen["cloud"], seen["control"], seen["backend"]
    console.print(f"Cloud {cloud['tag']} in {escape(cloud['state'])}, APIs at {cloud['api']}")
    if control is not None:
        console.print(
            f"Revision {control['revision']}, applied to the backend {control['applied_revision']}; "
            f"rows healed {control['healed']}"
        )
    if backend is not None:
        console.print(
            f"Backend {backend['name']}: {_mark(backend['well'])}; ports up {backend['ports_up']}; "
            f"hosts {' '.join(backend['hosts']) or 'none'}"
        )
    _table(
        console,
        "Hosts",
        ("name", "", "applied", "accelerator", "datapath", "daemons"),
        [
            (
                host["name"],
                _mark(host["well"]),
                f"{host['applied_revision']} of {host['published_revision']}",
                host["accelerator"],
                host["datapath"],
                " ".join(f"{d['name']}{'' if d['well'] else '[red]!![/]'}" for d in host["daemons"]),
            )
            for host in sorted(seen["hosts"], key=lambda host: str(host["name"]))
        ],
    )
    _table(
        console,
        "Promises",
        ("host", "link", "what", "held", "of", ""),
        [
            (host["name"], each["link"], each["what"], str(each["held"]), str(each["offered"]), each["unit"])
            for host in sorted(seen["hosts"], key=lambda host: str(host["name"]))
            for each in host["promises"]
        ],
    )
    _table(
        console,
        "Daemons",
        ("name", "", "pid", "restarts", "of late"),
        [
            (
                daemon["name"],
                _mark(daemon["state"] == "running", daemon["state"]),
                str(daemon["pid"] or ""),
                str(daemon["restarts"] or ""),
                escape(daemon["note"][:160]),
            )
            for daemon in seen["daemons"]
        ],
    )
    _table(
        console,
        "Gateways",
        ("router", "name", "host", "next", ""),
        [
            (
                gateway["router"],
                escape(gateway["name"]),
                gateway["host"] or "[red]none[/]",
                " ".join(host for host in gateway["hosts"] if host != gateway["host"]),
                gateway["note"],
            )
            for gateway in seen["gateways"]
        ],
    )
    _table(
        console,
        "Servers",
        ("id", "name", "host", "status", "observed"),
        [
            (s["id"], escape(s["name"]), s["host"] or "", s["status"], s["observed"] or "")
            for s in seen["servers"]
        ],
    )
    _table(
        console,
        "Appliances",
        ("id", "name", "status", "units", "hosts"),
        [
            (a["id"], escape(a["name"]), a["status"], f"{a['running']} of {a['units']}", " ".join(a["hosts"]))
            for a in seen["appliances"]
        ],
    )
    for problem in seen["problems"]:
        console.print(f"\n[red]✗ {escape(problem['what'])}[/]")
        console.print(f"  cause: {escape(problem['cause'])}")
        console.print(f"  next:  {escape(problem['remedy'])}")
    if seen["well"]:
        console.print("\n[green]✓ all is well[/]")


def _mark(good: bool, word: str = "") -> str:
    return f"[green]{word or 'well'}[/]" if good else f"[red]{word or 'not well'}[/]"


def _table(console: Any, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, header_style="dim")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
