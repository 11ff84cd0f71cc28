"""``trunkline demo dmz``

Web, application and database networks in a cascade behind routers, with a demilitarized zone; then every
server tries to reach every other on every port, and what got through is held against what should.

    outside ── edge ── dmz ── front ── app ── back ── db
"""

from __future__ import annotations

import json
import sys

import click

from trunkline.cli.api import Api
from trunkline.cli.demos import dmz_build, dmz_measure, dmz_show
from trunkline.cli.demos.dmz_plan import SERVERS, Probe, probes, wanted
from trunkline.cli.demos.guests import Guest, Outside, check_means, outside
from trunkline.cli.demos.site import Site, alone, settle, taken_away
from trunkline.cli.options import json_option, state_option, state_root
from trunkline.cli.progress import Steps
from trunkline.devices.lab import Topology
from trunkline.devices.state import StateFolder

#: What differs at first is probed again for so long: of servers that have just started, and of others.
_SETTLE_SECONDS, _SETTLED_SECONDS = 45.0, 8.0


@click.command("dmz")
@state_option
@click.option("--keep", is_flag=True, help="Leave it there, to look around.")
@click.option("--measure", "again", is_flag=True, help="Only measure again what --keep has left.")
@click.option("--remove", is_flag=True, help="Only take away what --keep has left.")
@json_option
def command(keep: bool, again: bool, remove: bool, as_json: bool) -> None:
    """Web, application and database networks behind routers, with a demilitarized zone.

    Prints who reaches whom, wanted and measured. The exit status is 0 if they are the same, 1 if not.
    """
    if keep + again + remove > 1:
        raise click.UsageError("Give one of --keep, --measure and --remove.")
    state, steps = StateFolder(state_root()), Steps()
    lab = Topology(state.load())
    check_means()
    with alone(state, "dmz"):
        site = Site(Api.open(state), "dmz")
        if remove:
            with steps.step("removed") as step:
                step.note(f"{site.remove(step)} things")
            return
        if again:
            found = _measured(site, state, lab.internet, steps, _SETTLED_SECONDS, as_json)
        else:
            with taken_away(site, steps, keep):
                dmz_build.build(site, steps)
                found = _measured(site, state, lab.internet, steps, _SETTLE_SECONDS, as_json)
    differ = sum(not cell.same for cell in found)
    if as_json:
        told = {
            "cells": [
                {
                    "from": cell.source,
                    "to": cell.target,
                    "wanted": cell.wanted,
                    "measured": cell.measured,
                    "same": cell.same,
                }
                for cell in found
            ],
            "differ": differ,
            "probes": len(list(probes())),
            "seconds": {name: round(seconds, 3) for name, seconds in steps.times.items()},
            "seconds_total": round(steps.total, 3),
        }
        click.echo(json.dumps(told, indent=2))
    else:
        dmz_show.summary(found, len(list(probes())), steps.total)
        if keep:
            click.echo(_LOOK_AROUND)
    sys.exit(1 if differ else 0)


_LOOK_AROUND = """
It is still there. To look around:

    trunkline ssh dmz-jump                   # the only server of the cascade that lets you in
    trunkline ssh dmz-jump -- ip route       # the ways inwards, as DHCP told them
    trunkline ssh dmz-twin                   # the stranger with the address of db1
    openstack server list
    openstack security group rule list dmz-app
    trunkline demo dmz --measure             # again, after you have changed something
    trunkline demo dmz --remove              # takes it away
"""


def _measured(
    site: Site, state: StateFolder, netns: str, steps: Steps, settle_seconds: float, quiet: bool
) -> list[dmz_show.Cell]:
    """Logs in to every server, measures, and shows the picture and the matrix."""
    floating, inside = dmz_build.addresses(site)
    if not quiet:
        click.echo(f"\n{dmz_show.picture(floating)}\n")
    with outside(state, netns) as internet:
        with steps.step("logged in") as step:
            guests = _guests(internet, floating, inside)
            there: list[str] = []

            def log_in(guest: Guest) -> None:
                guest.log_in()
                dmz_measure.check_listeners(guest)
                there.append(guest.name)
                step.note(f"{len(there)} of {len(guests)}: {' '.join(there)}")

            # The jump host first: the way to the others.
            log_in(guests["jump"])
            internet.each(log_in, (guest for name, guest in guests.items() if name != "jump"))
        with steps.step("measured") as step, dmz_measure.listening_outside(netns):
            where = dmz_measure.Addresses(inside, floating)
            got: dict[Probe, bool] = {}

            def measure() -> int:
                """Probes all, then what differs; how many differ still."""
                left = [probe for probe in probes() if got.get(probe) is not wanted(probe)]
                step.note(f"{len(left)} connections" + (" again, which differed" if got else ""))
                got.update(dmz_measure.measure(left, where, guests, internet))
                return sum(got[probe] is not wanted(probe) for probe in left)

            settle(measure, lambda differ: differ == 0, settle_seconds)
            step.note(f"{len(got)} connections tried, {sum(got.values())} got through")
    found = dmz_show.cells(got)
    if not quiet:
        dmz_show.show(found)
    return found


def _guests(
    internet: Outside, floating: dict[str, str], inside: dict[tuple[str, int], str]
) -> dict[str, Guest]:
    """A way in to each server: by its own floating IP where SSH is let in there, else by the jump host."""
    guests = {name: internet.guest(name, floating[name]) for name in ("jump", "twin")}
    for name in SERVERS:
        if name not in guests:
            guests[name] = internet.guest(name, inside[name, 4], through=guests["jump"])
    return guests
