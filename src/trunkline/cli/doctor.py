"""``trunkline doctor``"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

import click

from trunkline.cli.lifecycle import DEFAULT_PORT
from trunkline.cli.options import json_option, state_option, state_root
from trunkline.devices import machine, process
from trunkline.devices.state import StateFolder
from trunkline.errors import Refusal

_GIB = 2**30
_DISK_GIB, _MEMORY_GIB = 2.0, 3.0


@dataclass(frozen=True)
class Line:
    """One thing looked at. "limited": a cloud runs, but with less; the remedy says what would help."""

    name: str
    state: Literal["ok", "limited", "missing"]
    found: str
    remedy: str = ""


@click.command("doctor")
@state_option
@json_option
def command(as_json: bool) -> None:
    """What this machine can and cannot do, found out by trying, with a remedy for each line that is not ok.

    Starts nothing that stays. The exit status is 0 if a cloud can be started, 1 if not.
    """
    state = StateFolder(state_root())
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(look, state) for look in LOOKS]
        lines = [line for future in futures for line in future.result()]
    able = all(line.state != "missing" for line in lines)
    if as_json:
        click.echo(json.dumps({"able": able, "lines": [asdict(line) for line in lines]}, indent=2))
    else:
        _show(lines, able)
    sys.exit(0 if able else 1)


def _root(state: StateFolder) -> list[Line]:
    if machine.is_root():
        return [Line("root", "ok", "may make namespaces")]
    return [Line("root", "missing", "not root", "Type trunkline as root, as by sudo.")]


def _system(state: StateFolder) -> list[Line]:
    found = f"{platform.release()} on {platform.machine()}, Python {platform.python_version()}"
    good = platform.machine() in ("x86_64", "AMD64")
    return [Line("system", "ok" if good else "limited", found, "" if good else "Guests are x86-64: by TCG.")]


def _programs(state: StateFolder) -> list[Line]:
    packages = sorted(set(machine.PROGRAMS.values()))
    try:
        versions = machine.package_versions(packages)
    except Refusal:
        versions = {}
    lines, missing = [], machine.missing_programs()
    for package in packages:
        absent = [program for program, owner in missing.items() if owner == package]
        if absent:
            remedy = machine.apt_line([package])
            lines.append(Line(package, "missing", f"there is no {', '.join(absent)}", remedy))
        else:
            lines.append(Line(package, "ok", versions.get(package, "present, not by a Debian package")))
    return lines


def _kernel(state: StateFolder) -> list[Line]:
    try:
        kinds = machine.link_kinds()
    except Refusal as refusal:
        return [Line("namespaces", "missing", refusal.message, "Needs root and a kernel with namespaces.")]
    lines = [Line("namespaces", "ok", "network namespaces can be made")]
    for kind, need in (
        ("veth", True),
        ("bridge", True),
        ("vxlan", False),
        ("geneve", False),
        ("8021q", False),
    ):
        failure = kinds[kind]
        lesser: Literal["missing", "limited"] = "missing" if need else "limited"
        remedy = (
            f"`modprobe {kind}`, or a kernel that has it."
            if need
            else f"Not needed: Open vSwitch does it in user space. `modprobe {kind}` if the kernel has it."
        )
        lines.append(Line(kind, "ok", "works") if not failure else Line(kind, lesser, failure, remedy))
    failure = kinds["conntrack"]
    remedy = "Not needed by the user-space datapath. `modprobe nf_conntrack`."
    lines.append(
        Line("nf_conntrack", "limited", failure, remedy) if failure else Line("nf_conntrack", "ok", "works")
    )
    return lines


def _tun(state: StateFolder) -> list[Line]:
    failure = machine.tun_failure()
    remedy = "`modprobe tun`; in a container, give it the device /dev/net/tun."
    return [Line("tun", "missing", failure, remedy) if failure else Line("tun", "ok", "tap interfaces work")]


def _datapath(state: StateFolder) -> list[Line]:
    if "ovs-vsctl" in machine.missing_programs():
        return []
    if machine.has_openvswitch_module():
        return [
            Line("datapath", "ok", "system and netdev; the lab uses netdev unless `up --datapath system`")
        ]
    remedy = (
        "`modprobe openvswitch` if the kernel has it. The user-space datapath forwards 0.3 to 0.7 Gbit/s."
    )
    return [Line("datapath", "limited", "netdev (user space); the kernel has no Open vSwitch", remedy)]


def _kvm(state: StateFolder) -> list[Line]:
    failure = machine.kvm_failure()
    if not failure:
        return [Line("kvm", "ok", "a guest was started")]
    remedy = (
        "Guests run by TCG, several times slower. On a real machine: enable VT-x or AMD-V in the firmware, "
        "`modprobe kvm_intel` or kvm_amd; on a virtual one: allow nested virtualisation on its host."
    )
    return [Line("kvm", "limited", failure, remedy)]


def _cgroups(state: StateFolder) -> list[Line]:
    version, controllers = machine.cgroup_controllers()
    lacking = {"cpu", "memory"} - controllers
    found = f"{version}: {' '.join(sorted(controllers)) or 'none'}"
    remedy = (
        f"No {' and no '.join(sorted(lacking))} controller: servers are not bounded beyond their own size."
    )
    return [Line("cgroups", "limited" if lacking else "ok", found, remedy if lacking else "")]


def _room(state: StateFolder) -> list[Line]:
    free, memory = machine.free_disk(state.root) / _GIB, machine.available_memory() / _GIB
    disk: Literal["ok", "limited", "missing"] = (
        "ok" if free >= _DISK_GIB else "limited" if free >= 0.3 else "missing"
    )
    lines = [
        Line(
            "disk",
            disk,
            f"{free:.1f} GiB free where {state.root} is",
            ""
            if disk == "ok"
            else f"{_DISK_GIB:g} GiB are good to have. Make room, or name another --state.",
        )
    ]
    little = memory < _MEMORY_GIB
    remedy = "A server needs its own memory and 150 MiB: end something, or use `--hosts 1`." if little else ""
    lines.append(
        Line("memory", "limited" if little else "ok", f"{memory:.1f} GiB available", remedy),
    )
    return lines


def _port(state: StateFolder) -> list[Line]:
    try:
        port = state.load().api_port
    except Refusal:
        port = DEFAULT_PORT
    owner = machine.owner_of_port("127.0.0.1", port)
    if owner is None:
        return [Line("port", "ok", f"{port} on loopback is free")]
    if process.find(state.pidfile("control")) is not None:
        return [Line("port", "ok", f"{port} on loopback is this cloud's")]
    return [
        Line("port", "missing", f"{port} is in use by {owner}", "`trunkline up --port N`, or end the owner.")
    ]


def _folder(state: StateFolder) -> list[Line]:
    try:
        state.check_length()
        cloud = state.load()
    except Refusal as refusal:
        if not state.cloud_file.exists() and "no cloud in" in refusal.message:
            return [Line("state folder", "ok", f"{state.root}: to be made by `trunkline up`")]
        return [Line("state folder", "missing", refusal.message, "Name another with --state.")]
    return [Line("state folder", "ok", f"{state.root}: cloud {cloud.tag}, {len(cloud.hosts)} hosts")]


#: What is looked at, in the order shown.
LOOKS: tuple[Callable[[StateFolder], list[Line]], ...] = (
    *(_system, _root, _programs, _kernel, _tun, _datapath, _kvm, _cgroups, _room, _port, _folder),
)


def _show(lines: list[Line], able: bool) -> None:
    for text in _text(lines):
        click.echo(text)
    limited = any(line.state == "limited" for line in lines)
    click.echo(
        "\nA cloud can be started here" + (", with the limits told above." if limited else ".")
        if able
        else "\nA cloud cannot be started here before the lines marked ✗ are put right."
    )


def _text(lines: list[Line]) -> Iterator[str]:
    marks = {"ok": ("✓", "green"), "limited": ("~", "yellow"), "missing": ("✗", "red")}
    for line in lines:
        mark, colour = marks[line.state]
        yield f"{click.style(mark, fg=colour)} {line.name:<20} {line.found}"
        if line.remedy:
            yield f"  {'':<20} {click.style(line.remedy, dim=True)}"
