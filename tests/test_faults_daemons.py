"""Each daemon in turn is killed: it is told of, it heals without a hand, and nobody else is hurt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cloud import Cloud
from fault_lab import HEALED, SEEN, Pinging, is_well, kill, pid_of, soon
from flows import Ping, must_pass
from openstack.exceptions import SDKException
from probes import Probe
from tenants import Net, Tenant, tenant_of

from trunkline.devices import process

pytestmark = pytest.mark.machine

#: The agents tell of a daemon that died within so many seconds.
TOLD = 10.0
#: Daemons of one host, and those that all share.
OF_HOST = ("ovs-vswitchd", "ovsdb-server", "ovn-controller", "agent")
SHARED = ("northd", "nb", "sb", "control", "keeper")


@dataclass
class Scene:
    """A probe on each host, on one network."""

    tenant: Tenant
    net: Net
    one: Probe
    two: Probe
    three: Probe


@pytest.fixture(scope="module")
def scene(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with tenant_of(cloud, tmp_path_factory.mktemp("faults"), "faults") as tenant:
        net = tenant.network("10.0.0.0/24")
        yield Scene(tenant, net, *tenant.probes(net, "h1", "h2", "h3"))


@pytest.mark.parametrize("unit", [*(f"h1-{name}" for name in OF_HOST), *SHARED])
def test_a_daemon_that_is_killed_is_told_of_and_healed_and_hurts_nobody(
    cloud: Cloud, scene: Scene, unit: str
) -> None:
    is_well(cloud)
    must_pass(Ping(scene.one, scene.two.v4), Ping(scene.two, scene.three.v4))
    with Pinging(scene.two, scene.three.v4) as others:
        restarts = daemon(cloud.status(), unit)["restarts"]
        known = agents(cloud)
        before = kill(cloud, unit)
        soon(lambda: seen(cloud, unit, restarts), f"the status tells of {unit}", SEEN)
        soon(lambda: agent_tells(cloud, unit, known), f"the agents tell of {unit}", TOLD)
        soon(lambda: pid_of(cloud, unit) not in (0, before), f"{unit} runs again")
        is_well(cloud)
        must_pass(Ping(scene.one, scene.two.v4), Ping(scene.three, scene.one.v4), within=HEALED)
        assert others.lost() == 0


def agents(cloud: Cloud) -> dict[tuple[str, str], Any]:
    """The agents of the Network API by where they are: (host, program or unit)."""
    found = cloud.admin.network.get("/agents").json()["agents"]
    return {(a["host"], a["configurations"].get("unit", a["binary"])): a for a in found}


def agent_tells(cloud: Cloud, unit: str, known: dict[tuple[str, str], Any]) -> bool:
    """Whether the agents say that a daemon does not run, or that it is another process than it was."""
    host, _, name = unit.partition("-")
    if unit in ("control", "keeper"):  # They are who tells.
        return True
    try:
        now = agents(cloud)
    except SDKException:
        return False
    if name in ("ovs-vswitchd", "ovsdb-server"):
        here = (host, "trunkline-agent")
        was, seen = (each[here]["configurations"]["daemons"][name] for each in (known, now))
        return bool(not seen["well"] or seen["restarts"] > was["restarts"])
    of = (host, "trunkline-agent" if name == "agent" else name) if name else ("control", unit)
    return bool(not now[of]["alive"] or now[of]["started_at"] > known[of]["started_at"])


def test_the_agent_of_a_daemon_that_hangs_is_dead_until_it_goes_on(cloud: Cloud) -> None:
    here = ("h1", "ovn-controller")
    pid = pid_of(cloud, "h1-ovn-controller")
    soon(lambda: agents(cloud)[here]["alive"], "it is alive")
    os.kill(pid, signal.SIGSTOP)
    try:
        soon(lambda: not agents(cloud)[here]["alive"], "its agent is dead", TOLD)
        assert [of for of, agent in agents(cloud).items() if not agent["alive"]] == [here]
    finally:
        os.kill(pid, signal.SIGCONT)
    soon(lambda: agents(cloud)[here]["alive"], "it is alive again")


def seen(cloud: Cloud, unit: str, restarts: int) -> bool:
    """Whether the status says that it does not run, or since when it does again."""
    status = cloud.status()
    if any(unit in problem["what"] for problem in status["problems"]):
        return True
    row = daemon(status, unit)
    return bool(row["restarts"] > restarts and row["note"])


def daemon(status: dict[str, Any], unit: str) -> dict[str, Any]:
    """Its row of the status."""
    found: dict[str, Any] = next(row for row in status["daemons"] if row["name"] == unit)
    return found


def test_what_is_asked_while_a_host_is_hurt_is_done_when_it_is_healed(cloud: Cloud, scene: Scene) -> None:
    with scene.tenant.scope():
        for name in OF_HOST:
            kill(cloud, f"h1-{name}")
        probe = scene.tenant.probe(scene.net, "h1")
        scene.tenant.ready(probe)
        must_pass(Ping(probe, scene.three.v4), within=HEALED)
    is_well(cloud)


def test_a_guest_that_dies_is_told_of_and_started_again(cloud: Cloud, scene: Scene) -> None:
    admin: Any = cloud.admin
    image = admin.image.find_image("tiny", ignore_missing=False)
    flavor = admin.compute.find_flavor("tiny", ignore_missing=False)
    server = admin.compute.create_server(
        name="victim", image_id=image.id, flavor_id=flavor.id, networks="none"
    )
    try:
        server = admin.compute.wait_for_server(server, wait=60, interval=0.2)
        before = guest_of(cloud, server.compute_host, server.id)
        assert before
        with Pinging(scene.two, scene.three.v4) as others:
            os.kill(before, signal.SIGKILL)
            soon(lambda: "without being asked" in str(row_of(cloud, server.id)), "the status tells why", SEEN)
            soon(lambda: guest_of(cloud, server.compute_host, server.id) not in (0, before), "it runs again")
            soon(lambda: row_of(cloud, server.id)["status"] == "ACTIVE", "it is active again")
            assert others.lost() == 0
        assert admin.compute.get_server(server.id).status == "ACTIVE"
    finally:
        admin.compute.delete_server(server)
        admin.compute.wait_for_delete(server, wait=30, interval=0.2)
    is_well(cloud)


def guest_of(cloud: Cloud, host: str, server: str) -> int:
    """The pid of a server's QEMU, 0 where there is none."""
    for file in cloud.state.host(host).glob(f"s/{server[:8]}*.pid"):
        if found := process.find(file):
            return found.pid
    return 0


def row_of(cloud: Cloud, server: str) -> dict[str, Any]:
    """What the status tells of a server."""
    found: dict[str, Any] = next(row for row in cloud.status()["servers"] if row["id"] == server)
    return found
