"""``trunkline demo office``

Three offices, each a network of its own with the same addresses and a file server. A desktop runs a session
and is moved from office to office by the compute API: its interface is detached from one network and attached
to another, while it runs. Nothing of the underlay is touched for that, which is looked at before and after.
"""

from __future__ import annotations

import json
import sys
import time

import click

from trunkline.cli.api import Api
from trunkline.cli.demos import office_show, underlay
from trunkline.cli.demos.guests import check_means
from trunkline.cli.demos.office_plan import (
    CIDR,
    DESKTOP,
    FILE_SERVER,
    MOVES,
    OFFICES,
    SESSION,
    START,
    Move,
    Turn,
    turns,
)
from trunkline.cli.demos.site import Site, alone, settle, taken_away
from trunkline.cli.options import json_option, state_option, state_root
from trunkline.cli.progress import Step, Steps
from trunkline.devices.lab import Topology
from trunkline.devices.state import StateFolder
from trunkline.errors import Unavailable

#: For the session to begin, and to find itself in another office.
_BEGIN_SECONDS, _MOVE_SECONDS = 150.0, 60.0


@click.command("office")
@state_option
@click.option("--keep", is_flag=True, help="Leave it there, to look around.")
@click.option("--remove", is_flag=True, help="Only take away what --keep has left.")
@json_option
def command(keep: bool, remove: bool, as_json: bool) -> None:
    """A desktop moved between office networks while it runs, nothing in the underlay changed.

    Prints what the desktop reached before and after each move. The exit status is 0 if every move was as it
    should be, 1 if not.
    """
    if keep and remove:
        raise click.UsageError("Give one of --keep and --remove.")
    state, steps = StateFolder(state_root()), Steps()
    lab = Topology(state.load())
    check_means()
    with alone(state, "office"):
        site = Site(Api.open(state), "office")
        if remove:
            with steps.step("removed") as step:
                step.note(f"{site.remove(step)} things")
            return
        with taken_away(site, steps, keep):
            networks, desktop = _build(site, steps)
            if not as_json:
                click.echo(f"\n{office_show.picture()}\n")
            moves = _moves(site, state, lab, networks, desktop, steps)
            strange = _seen_below(state, lab, moves, steps)
            if not as_json:
                office_show.show(moves, strange)
    failed = sum(not move.good for move in moves) + bool(strange)
    if as_json:
        told = {
            "moves": [office_show.document(move) for move in moves],
            "desktop_addresses_seen_by_the_underlay": sorted(strange),
            "failed": failed,
            "seconds": {name: round(seconds, 3) for name, seconds in steps.times.items()},
            "seconds_total": round(steps.total, 3),
        }
        click.echo(json.dumps(told, indent=2))
    else:
        office_show.summary(moves, failed, steps.total)
        if keep:
            click.echo(_LOOK_AROUND)
    sys.exit(1 if failed else 0)


_LOOK_AROUND = """
It is still there. To look around, and to move the desktop by hand:

    openstack console log show office-desktop | tail
    openstack server remove network office-desktop office-accounting
    openstack server add network office-desktop office-guest
    trunkline demo office --remove           # takes it away
"""


def _build(site: Site, steps: Steps) -> tuple[dict[str, str], str]:
    """Offices and servers; the networks' ids by office, and the desktop's.

    Raises:
        trunkline.errors.Refusal: what the cloud says, or that a server failed.
    """
    with steps.step("cleared") as step:
        left = site.remove(step)
        step.note(f"{left} things of an earlier run" if left else "nothing of an earlier run")
        site.check_room(len(OFFICES) + 1)
    with steps.step("networks") as step:
        networks = {office: site.network(office) for office in OFFICES}
        for office, network in networks.items():
            site.subnet(network, office, CIDR, gateway_ip=None)
        step.note(f"{len(networks)}, each {CIDR}")
    with steps.step("servers") as step:
        for office, address in OFFICES.items():
            site.server(office, networks[office], address, FILE_SERVER)
        desktop = site.server("desktop", networks[START], DESKTOP, SESSION)
        site.wait_active(step)
    with steps.step("session") as step:
        # The file servers may still be starting when the session has begun.
        def latest() -> Turn | None:
            found = _turns(site, desktop)
            step.note(_reading(found[-1]) if found else "the desktop is starting")
            return found[-1] if found else None

        begun = settle(latest, lambda turn: turn is not None and turn.reads == (START,), _BEGIN_SECONDS)
        if begun is None:
            raise Unavailable(
                f"The desktop's session has not begun within {_BEGIN_SECONDS:g} s. Its console ends with: "
                f"{' '.join(site.console(desktop, 3).split())}"
            )
    return networks, desktop


def _moves(
    site: Site, state: StateFolder, lab: Topology, networks: dict[str, str], desktop: str, steps: Steps
) -> list[Move]:
    """Moves the desktop through the offices."""
    moves, here = [], START
    for there in MOVES:
        below = underlay.facts(state, lab)
        with steps.step(f"{there}") as step:
            move = _move(site, networks[there], desktop, here, there, step)
        move.changes = underlay.changes(below, underlay.facts(state, lab))
        moves.append(move)
        here = there
    return moves


def _move(site: Site, network: str, desktop: str, here: str, there: str, step: Step) -> Move:
    before = _turns(site, desktop)[-1]
    interfaces = f"/v2.1/servers/{desktop}/os-interface"
    (old,) = site.api.get("compute", interfaces)["interfaceAttachments"]
    wanted = {"net_id": network, "fixed_ips": [{"ip_address": DESKTOP}]}
    began = time.monotonic()
    site.api.delete("compute", f"{interfaces}/{old['port_id']}")
    new = site.api.post("compute", interfaces, {"interfaceAttachment": wanted})["interfaceAttachment"]
    wired = 0.0

    def since() -> list[Turn]:
        nonlocal wired
        if not wired:
            port = site.api.get("network", f"/v2.0/ports/{new['port_id']}")["port"]
            wired = time.monotonic() - began if port["status"] == "ACTIVE" else 0.0
        found = [turn for turn in _turns(site, desktop) if turn.number > before.number]
        active = f"port ACTIVE after {wired:.1f} s" if wired else "port DOWN"
        step.note(f"{active}; {_reading(found[-1]) if found else ''}")
        return found

    def arrived(found: list[Turn]) -> bool:
        latest = found[-1] if wired and found else before
        return (latest.reads, latest.cards) == ((there,), (new["mac_addr"],))

    found = settle(since, arrived, _MOVE_SECONDS, pause=0.2)
    return Move(here, there, before, found, wired, old["mac_addr"], new["mac_addr"])


def _seen_below(state: StateFolder, lab: Topology, moves: list[Move], steps: Steps) -> set[str]:
    """The desktop's MAC addresses that the underlay has learned: it should know hosts alone."""
    with steps.step("underlay") as step:
        known = underlay.learned(state, lab)
        strange = known & {mac for move in moves for mac in (move.old_mac, move.new_mac)}
        looked = sum(map(len, underlay.facts(state, lab).values()))
        step.note(
            f"{looked} facts of {len(lab.namespaces)} namespaces, "
            f"{sum(len(move.changes) for move in moves)} changed; "
            f"{len(known)} MAC addresses learned, {len(strange)} of the desktop"
        )
    return strange


def _turns(site: Site, desktop: str) -> list[Turn]:
    return list(turns(site.console(desktop)))


def _reading(turn: Turn) -> str:
    return f"the desktop reads {' '.join(turn.reads) or 'nothing'}, up {turn.up:.0f} s"
