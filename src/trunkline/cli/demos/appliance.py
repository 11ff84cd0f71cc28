"""``trunkline demo appliance``

A firewall with NAT between a network and the outside, made of compute units on several hosts. Connections
go through it all the time, and every byte of them is compared, while it grows, gets another policy, loses a
unit to ``kill -9``, and shrinks.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from trunkline.cli.api import Api, wait_until
from trunkline.cli.demos import appliance_show
from trunkline.cli.demos.appliance_plan import (
    CIDR,
    CONNECTIONS,
    CU,
    FAR,
    FAR_PORTS,
    FEW,
    FLOWS,
    GATEWAY,
    STAGES,
    Outcome,
    Stage,
    policy,
)
from trunkline.cli.demos.appliance_show import Redraw, Screen
from trunkline.cli.demos.site import Site, alone, taken_away
from trunkline.cli.options import json_option, state_option, state_root
from trunkline.cli.progress import Steps
from trunkline.devices import namespace, process
from trunkline.devices.lab import Topology
from trunkline.devices.state import StateFolder
from trunkline.errors import Unavailable
from trunkline.plan.shards import SHARDS
from trunkline.traffic.pair import Result, Traffic
from trunkline.traffic.plans import FarPlan, NearPlan

Json = dict[str, Any]
_READY_SECONDS, _SETTLE_SECONDS, _REST_SECONDS = 60.0, 60.0, 2.0
_BEAT = 0.3
_PROBE = "trunkline:probe"


@click.command("appliance")
@state_option
@click.option("--keep", is_flag=True, help="Leave it there, to look around.")
@click.option("--remove", is_flag=True, help="Only take away what --keep has left.")
@json_option
def command(keep: bool, remove: bool, as_json: bool) -> None:
    """A firewall that grows, shrinks and crashes without losing a connection.

    Prints for each stage how long flows stood still, and how many connections broke. The exit status is 0 if
    none did, 1 if one did.
    """
    if keep and remove:
        raise click.UsageError("Give one of --keep and --remove.")
    state, steps = StateFolder(state_root()), Steps()
    lab = Topology(state.load())
    with alone(state, "appliance"):
        site = Site(Api.open(state), "appliance")
        if remove:
            with steps.step("removed") as step:
                step.note(f"{site.remove(step)} things")
            return
        with taken_away(site, steps, keep):
            scene = _Scene(state, lab, site, Screen(quiet=as_json))
            scene.build(steps)
            outcomes, result = scene.play()
    if as_json:
        told = {
            "stages": [appliance_show.document(one) for one in outcomes],
            "connections": result.near.established,
            "bytes_compared": result.near.bytes,
            "broken": len(result.broken),
            "seconds_total": round(steps.total, 3),
        }
        click.echo(json.dumps(told, indent=2))
    else:
        appliance_show.show(outcomes)
        appliance_show.summary(outcomes, result.near.bytes, steps.total)
        if keep:
            click.echo(_LOOK_AROUND)
    sys.exit(0 if all(one.good for one in outcomes) else 1)


_LOOK_AROUND = """
It is still there. To look around:

    trunkline appliance show appliance-edge --watch
    trunkline appliance scale appliance-edge --data-planes 4
    trunkline appliance events appliance-edge
    trunkline demo appliance --remove        # takes it away
"""


class _Scene:
    """The appliance, and the traffic through it."""

    def __init__(self, state: StateFolder, lab: Topology, site: Site, screen: Screen) -> None:
        self._state, self._lab, self._site, self._screen = state, lab, site, screen
        self._api = site.api
        self._where = ""
        self._client = ""

    def build(self, steps: Steps) -> None:
        """Network, client and appliance, at work.

        Raises:
            trunkline.errors.Refusal: what the cloud says, or that it did not come to work.
        """
        with steps.step("cleared") as step:
            left = self._site.remove(step)
            step.note(f"{left} things of an earlier run" if left else "nothing of an earlier run")
        with steps.step("network") as step:
            network = self._site.network("inside")
            self._site.subnet(network, "inside", CIDR, gateway_ip=GATEWAY)
            step.note(CIDR)
        with steps.step("appliance") as step:
            self._order(network)

            def works() -> bool | None:
                one = self._look()["appliance"]
                step.note("; ".join([one["status"], *(each["what"] for each in one["conditions"][:2])]))
                return True if one["status"] in ("ACTIVE", "DEGRADED") else None

            wait_until(works, _READY_SECONDS, "The appliance did not begin to work")
        with steps.step("client") as step:
            self._client = self._attach(network)
            step.note(f"{CONNECTIONS} connections to {FAR}")

    def _order(self, network: str) -> None:
        one = self._site.appliance(
            "edge", ["firewall", "nat"], network, data_planes=FEW, dispatchers=2, cu_size=CU
        )
        self._where, self._outside = f"/v1/appliances/{one['id']}", str(one["outside_addresses"][0])
        self._api.put("appliance", f"{self._where}/policy", {"policy": policy(self._outside)})

    def _attach(self, network: str) -> str:
        """A namespace of the lab on the network; which host it is on, an operator says."""
        host = self._lab.cloud.hosts[-1]
        fields = {
            "description": self._site.mark,
            "device_owner": _PROBE,
            "project_id": self._api.project_id,
            "binding:host_id": host.name,
            "security_groups": [],
            "port_security_enabled": False,
        }
        operator = Api.open(self._state, "trunkline-admin")
        port = operator.post("network", "/v2.0/ports", {"port": {"network_id": network, **fields}})["port"]
        netns = f"{self._lab.host(host)}-p-{port['id'][:8]}"
        wait_until(lambda: namespace.has(netns, "eth0") or None, 20.0, "The client's namespace was not made")
        address = f"{port['fixed_ips'][0]['ip_address']}/{CIDR.partition('/')[2]}"
        namespace.ip(
            netns,
            f"address replace {address} dev eth0",
            "link set dev eth0 up",
            f"route replace default via {GATEWAY}",
        )
        return netns

    def play(self) -> tuple[list[Outcome], Result]:
        """All stages, with the traffic going on."""
        near = NearPlan(
            targets=(f"{FAR}:{FAR_PORTS}",), connections=CONNECTIONS, every=1.0, flows=FLOWS, setup_rate=200.0
        )
        far = {self._lab.internet: FarPlan(listen=(f"{FAR}:{FAR_PORTS}",))}
        outcomes = []
        with Traffic(near=self._client, plan=near, far=far) as traffic, self._screen.open() as redraw:
            made = traffic.ready()
            if made.refused:
                raise Unavailable(f"{made.refused} of {CONNECTIONS} connections were not to be had.")
            for stage in STAGES:
                traffic.mark(stage.name)
                outcomes.append(self._stage(stage, traffic, redraw))
                self._screen.stage(outcomes[-1])
            result = traffic.end()
        for one in outcomes:
            one.gap = result.period(one.stage.name).longest_gap
            one.broken = [
                f"connection {number}: {said[0].why} at byte {said[0].position} {said[0].detail}".rstrip()
                for number, said in result.broken.items()
                if (said[0].marks or ("",))[-1] == one.stage.name
            ]
        return outcomes, result

    def _stage(self, stage: Stage, traffic: Traffic, redraw: Redraw) -> Outcome:
        began, killed = time.monotonic(), None
        restarted: Callable[[Json], bool] = bool
        if stage.name == "policy":
            changed = policy(self._outside, telnet=False)
            self._api.put("appliance", f"{self._where}/policy", {"policy": changed})
        elif stage.name == "crash":
            victim = self._kill()
            killed = victim["number"]

            def restarted(unit: Json) -> bool:
                return bool(unit["id"] != victim["id"] or unit["restarts"] > victim["restarts"])

        elif stage.name in ("grow", "shrink"):
            self._api.put("appliance", self._where, {"appliance": {"data_planes": stage.planes}})
        settled: float | None = None
        while (passed := time.monotonic() - began) < _SETTLE_SECONDS:
            seen = self._look()
            redraw(seen, traffic.live(), appliance_show.doing(stage))
            if settled is None and _settled(seen, stage.planes) and all(map(restarted, seen["units"])):
                settled = passed
            if settled is not None and passed > settled + _REST_SECONDS:
                break
            time.sleep(_BEAT)
        return Outcome(stage, settled, killed)

    def _look(self) -> Json:
        return {
            "appliance": self._api.get("appliance", self._where)["appliance"],
            "units": self._api.get("appliance", f"{self._where}/units")["units"],
            "events": self._api.get("appliance", f"{self._where}/events")["events"],
        }

    def _kill(self) -> Json:
        """The data plane with the most connections, as if it had crashed."""
        planes = [unit for unit in self._look()["units"] if unit["kind"] == "data-plane"]
        victim: Json = max(planes, key=lambda unit: unit["observed"].get("flows", 0))
        for host in self._lab.cloud.hosts:
            found = process.find(Path(self._state.host(host.name)) / "u" / f"{victim['id'][:8]}.pid")
            if found is not None:
                found.signal(signal.SIGKILL)
                return victim
        raise Unavailable(f"The process of unit {victim['number']} was not found.")


def _settled(seen: Json, planes: int) -> bool:
    """Whether so many data planes have all shards, each its share, with copies, and the newest policy."""
    there = [unit for unit in seen["units"] if unit["kind"] == "data-plane"]
    shards = [unit["observed"].get("shards", 0) for unit in there]
    revisions = {unit["observed"].get("policy_revision") for unit in there}
    return (
        len(there) == planes
        and seen["appliance"]["status"] == "ACTIVE"
        and sum(shards) == SHARDS
        and min(shards) >= SHARDS // planes
        and revisions == {seen["appliance"]["policy_revision"]}
    )
