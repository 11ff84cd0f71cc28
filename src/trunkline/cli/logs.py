"""``trunkline logs``"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from trunkline.cli import traffic
from trunkline.cli.api import Api
from trunkline.cli.options import json_option, state_option, state_root
from trunkline.devices import files
from trunkline.devices.state import StateFolder
from trunkline.errors import NotFound


@click.command("logs")
@state_option
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--lines", default=20, show_default=True, metavar="N", help="How many lines of each.")
@click.option("--network", is_flag=True, help="Packets that security groups let pass or dropped.")
@json_option
def command(units: tuple[str, ...], follow: bool, lines: int, network: bool, as_json: bool) -> None:
    """The logs of daemons. Without a UNIT: which there are, and the last line of each.

    With --network the packets that a log of the Network API asks for (`openstack network log create`),
    with names; UNITs are the names of hosts then.
    """
    state = StateFolder(state_root())
    if network:
        _traffic(state, set(units), lines, follow=follow, as_json=as_json)
        return
    logs = {log.stem: log for log in sorted(state.log.glob("*.log"))}
    if not logs:
        raise NotFound(f"There are no logs in {state.log}. `trunkline up` starts what writes them.")
    if not units and not follow:
        for name, log in logs.items():
            click.echo(f"{name:<20} {(files.last_lines(log, 1) or [''])[0][:150]}")
        return
    chosen = _chosen(logs, units)
    wide = max(len(name) for name in chosen) if len(chosen) > 1 else 0
    places = {}
    for name, log in chosen.items():
        places[name] = files.size(log)
        _show(name, files.last_lines(log, lines, at_most=lines * 1000), wide)
    while follow:
        time.sleep(0.2)
        sys.stdout.flush()
        for name, log in chosen.items():
            places[name] = _continue(name, log, places[name], wide)


def _traffic(state: StateFolder, hosts: set[str], lines: int, *, follow: bool, as_json: bool) -> None:
    names = traffic.Names(Api.open(state, "trunkline-admin"))

    def show(entry: traffic.Entry) -> None:
        whole = names.complete(entry)
        click.echo(msgspec.json.encode(whole).decode() if as_json else traffic.shown(whole))

    logs = [
        log
        for log in sorted(state.log.glob("*.log"))
        if (host := traffic.of_host(log)) and (not hosts or host in hosts)
    ]
    places = {log: files.size(log) for log in logs}
    found = [entry for entry in traffic.entries(state) if not hosts or entry.host in hosts]
    for entry in found[-lines:] if lines else []:
        show(entry)
    while follow:
        time.sleep(0.2)
        sys.stdout.flush()
        for log in logs:
            added, places[log] = _added(log, places[log])
            for entry in traffic.parsed(traffic.of_host(log), added):
                show(entry)


def _chosen(logs: dict[str, Path], units: Iterable[str]) -> dict[str, Path]:
    """The logs of these units; all without any. A host's name stands for all that it runs."""
    chosen = {}
    for unit in units:
        found = {n: log for n, log in logs.items() if n == unit or n.startswith(f"{unit}-")}
        if not found:
            raise NotFound(f"No daemon {unit} has a log. There are: {', '.join(logs)}.")
        chosen.update(found)
    return chosen or logs


def _continue(name: str, log: Path, place: int, wide: int) -> int:
    """Shows whole lines that were added after `place`; returns where it stopped."""
    added, place = _added(log, place)
    _show(name, added, wide)
    return place


def _added(log: Path, place: int) -> tuple[list[str], int]:
    """Whole lines that were added after `place`, and where they stop."""
    size = files.size(log)
    if size < place:  # it was cut
        place = 0
    if size > place:
        with log.open("rb") as stream:
            stream.seek(place)
            block = stream.read(min(size - place, 1 << 20))
        whole = block[: block.rfind(b"\n") + 1]
        return whole.decode(errors="replace").splitlines(), place + len(whole)
    return [], place


def _show(name: str, lines: Iterable[str], wide: int) -> None:
    for line in lines:
        click.echo(f"{name:<{wide}} | {line}" if wide else line)
