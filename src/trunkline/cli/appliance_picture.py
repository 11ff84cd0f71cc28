"""An appliance as a terminal shows it: once, or again and again while it changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trunkline.cli.demos.terminal import console

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {"ACTIVE": "green", "UPDATING": "cyan", "BUILD": "cyan", "DEGRADED": "yellow", "ERROR": "red"}
#: How many events are shown, and how wide a full load is drawn.
_EVENTS, _BAR = 8, 10


def _legs(appliance: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Zones, and the addresses there."""
    if appliance["inside_network_id"]:
        yield "inside", appliance["inside_addresses"]
    yield "outside", appliance["outside_addresses"]
    for number, addresses in enumerate(appliance["network_addresses"], 1):
        yield f"net{number}", addresses


class Picture:
    """Remembers the counters of the look before, so that rates can be told."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int, int]] = {}

    def print(self, seen: dict[str, Any]) -> None:
        """Once. `seen`: {"appliance", "units", "events"}, as the API tells them."""
        console().print(self.draw(seen))

    @contextmanager
    def live(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Again and again in one place, with what is given to the function; Ctrl-C ends it quietly."""
        from rich.live import Live

        with Live(console=console(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
            try:
                yield lambda seen: live.update(self.draw(seen), refresh=True)
            except KeyboardInterrupt:
                pass

    def draw(self, seen: dict[str, Any]) -> RenderableType:
        """All of it."""
        from rich.console import Group
        from rich.markup import escape

        one = seen["appliance"]
        colour = _COLOURS.get(one["status"], "white")
        lines: list[RenderableType] = [
            f"[bold]{escape(one['name'] or one['id'])}[/]  [{colour}]{one['status']}[/]  "
            f"{', '.join(one['services'])}  policy revision {one['policy_revision']}",
            "   ".join(f"{zone} {', '.join(addresses)}" for zone, addresses in _legs(one)),
            f"data planes {one['data_planes']}{_scaling(one, seen['units'])}, "
            f"dispatchers {one['dispatchers']}, managers {one['managers']}",
            f"each {one['cu_size']:g} processors, {one['cu_memory']} MiB; id {one['id']}",
        ]
        if told := _renewal(one, seen["units"]):
            lines.append(told)
        if seen["units"]:
            lines += ["", self._units(seen["units"])]
        for condition in one["conditions"]:
            lines.append(f"[yellow]! {escape(condition['what'])}[/]: {escape(condition['cause'])}")
            if condition.get("remedy"):
                lines.append(f"  [dim]{escape(condition['remedy'])}[/]")
        if seen["events"]:
            lines.append("")
        for event in seen["events"][-_EVENTS:]:
            unit = f"unit {event['unit']}: " if event["unit"] is not None else ""
            cause = f" [dim]({escape(event['cause'])})[/]" if event["cause"] else ""
            lines.append(f"[dim]{event['at'][11:23]}[/] {unit}{escape(event['what'])}{cause}")
        return Group(*lines)

    def _units(self, units: list[dict[str, Any]]) -> RenderableType:
        from rich.table import Table

        hosts = any("host" in unit for unit in units)
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("unit", "kind", *(["host"] if hosts else []), "state", "policy"):
            table.add_column(name, no_wrap=True, header_style="dim")
        for name in ("shards", "flows", "packets/s", "Mbit/s", "dropped"):
            table.add_column(name, no_wrap=True, header_style="dim", justify="right")
        table.add_column("load", no_wrap=True, header_style="dim")
        now = time.monotonic()
        for unit in units:
            told = unit["observed"]
            packets, rate = self._rates(unit["id"], now, told)
            plane = unit["kind"] == "data-plane"
            table.add_row(
                str(unit["number"]),
                unit["kind"],
                *([unit.get("host", "")] if hosts else []),
                _state(unit),
                str(told.get("policy_revision") or ""),
                _shards(told) if plane else "",
                str(told.get("flows", "")) if plane else "",
                packets,
                rate,
                str(sum(told.get("drops", {}).values()) or ""),
                _bar(told.get("load", 0.0)) if told else "",
            )
        return table

    def _rates(self, id: str, now: float, told: dict[str, Any]) -> tuple[str, str]:
        """Packets a second and megabits a second since the look before."""
        packets, size = told.get("packets", 0), told.get("bytes", 0)
        before = self._before.get(id)
        self._before[id] = (now, packets, size)
        if before is None or not told or packets < before[1]:
            return "", ""
        seconds = max(now - before[0], 0.001)
        return f"{(packets - before[1]) / seconds:.0f}", f"{(size - before[2]) * 8e-6 / seconds:.1f}"


def _scaling(one: dict[str, Any], units: list[dict[str, Any]]) -> str:
    """By what the number of data planes goes."""
    rule = one.get("scaling")
    if rule is None:
        return ""
    planes = [unit["observed"] for unit in units if unit["kind"] == "data-plane" and unit["observed"]]
    now = f", is {sum(told.get('load', 0.0) for told in planes) / len(planes):.2f}" if planes else ""
    return f" ({rule['least']} to {rule['most']} by load, which is to be {rule['target_load']:g}{now})"


def _renewal(one: dict[str, Any], units: list[dict[str, Any]]) -> str:
    """Which versions of the program run, and how far the newest has come."""
    running: dict[str, list[str]] = {}
    for unit in units:
        running.setdefault(unit["observed"].get("version", ""), []).append(str(unit["number"]))
    running.pop("", None)
    told = []
    if len(running) > 1:
        told = [f"{version} (units {', '.join(numbers)})" for version, numbers in sorted(running.items())]
    elif running:
        told = list(running)
    words = [f"version {', '.join(told)}"] if told else []
    if renewal := one.get("renewal"):
        done = renewal["units"] - len(renewal["left"])
        words.append(f"renewal {renewal['state']}, {done} of {renewal['units']} units replaced")
    return "; ".join(words)


def _state(unit: dict[str, Any]) -> str:
    told = unit["observed"]
    words = [unit["state"]]
    if unit["leaves"]:
        words.append("leaves")
    elif unit["replaced_by"] is not None:
        words.append(f"unit {unit['replaced_by']} comes instead")
    if told.get("leads"):
        words.append("leads")
    if told.get("serves"):
        words.append(f"serves {' '.join(told['serves'])}")
    colour = {"running": "green", "failed": "red", "silent": "red"}.get(unit["state"], "cyan")
    return f"[{colour}]{words[0]}[/]{''.join(f', {word}' for word in words[1:])}"


def _shards(told: dict[str, Any]) -> str:
    return f"{told.get('shards', 0)}+{told.get('copies', 0)}"


def _bar(load: float) -> str:
    full = round(max(0.0, min(load, 1.0)) * _BAR)
    return f"[green]{'█' * full}[/][dim]{'░' * (_BAR - full)}[/] {load:4.0%}"


def packet_line(packet: dict[str, Any]) -> str:
    """A packet that a rule logged, as the API tells it, in a line."""
    names = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
    protocol = names.get(packet["protocol"], f"ip/{packet['protocol']}")
    ends = []
    for end in ("source", "target"):
        port = packet[f"{end}_port"]
        address = packet[end]
        ends.append(
            f"[{address}]:{port}" if port and ":" in address else f"{address}:{port}" if port else address
        )
    return (
        f"{packet['at']}  unit {packet['unit']}: {packet['action']} '{packet['rule']}'  {protocol} "
        f"{ends[0]} > {ends[1]}"
    )
