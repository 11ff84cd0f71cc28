"""OVN's databases are a cluster: leaders die and change, rows are wiped, northd stands still, under load."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from cloud import Cloud, own_cloud
from fault_lab import HEALED, Pinging, is_well, kill, pid_of, soon
from flows import Ping, must_pass
from probes import Probe
from tenants import Net, Tenant, tenant_of

pytestmark = pytest.mark.machine

Kind = Literal["nb", "sb"]
DATABASES: dict[Kind, str] = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}


@dataclass
class Scene:
    """A probe on each of two hosts."""

    cloud: Cloud
    tenant: Tenant
    net: Net
    here: Probe
    there: Probe

    def nbctl(self, *arguments: str) -> str:
        """What ``ovn-nbctl`` says of the leader."""
        remotes = self.cloud.state.remotes(self.cloud.state.load(), "nb")
        command = ["ovn-nbctl", "--timeout=20", f"--db={','.join(remotes)}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def leader(self, kind: Kind) -> str:
        """The member that leads, or "" while none does."""
        for name in self.cloud.state.load().members(kind):
            done = self._tell(name, "cluster/status", DATABASES[kind])
            if done.returncode == 0 and "Role: leader" in done.stdout:
                return name
        return ""

    def hand_over(self, kind: Kind) -> None:
        """Another member becomes the leader."""
        former = soon(lambda: self.leader(kind) or None, f"{kind} has a leader")
        done = self._tell(former, "cluster/failure-test", "transfer-leadership")
        assert done.returncode == 0, done.stderr
        soon(lambda: self.leader(kind) not in ("", former), f"{kind} has another leader")

    def kill_leader(self, kind: Kind) -> None:
        """The leader is killed; it comes back, and one of them leads."""
        former = soon(lambda: self.leader(kind) or None, f"{kind} has a leader")
        before = kill(self.cloud, former)
        soon(lambda: pid_of(self.cloud, former) not in (0, before), f"{former} runs again")
        soon(lambda: self.leader(kind) or None, f"{kind} has a leader again")

    def _tell(self, member: str, *words: str) -> subprocess.CompletedProcess[str]:
        socket = self.cloud.state.central / f"{member}.ctl"
        command = ["ovs-appctl", "--timeout=5", "-t", str(socket), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def ports(self) -> set[str]:
        """The names of the ports that OVN has."""
        return set(self.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port").split())


@dataclass
class Load:
    """Ports that were acknowledged, one after the other, for as long as the block."""

    scene: Scene
    made: list[Any] = field(default_factory=list)

    def run(self, until: threading.Event) -> None:
        while not until.is_set():
            self.made.append(self.scene.tenant.port(self.scene.net))

    def all_are_in_ovn(self) -> None:
        """None of them was lost."""
        wanted = {port.id for port in self.made}
        assert len(wanted) > 10, "too few to tell anything"
        soon(lambda: wanted <= self.scene.ports(), "all ports are in OVN")


@contextmanager
def load(scene: Scene) -> Iterator[Load]:
    """Ports are created all the time."""
    made, until = Load(scene), threading.Event()
    creator = threading.Thread(target=made.run, args=(until,))
    creator.start()
    try:
        yield made
    finally:
        until.set()
        creator.join(30)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        own_cloud("--hosts", "2", "--databases", "3") as cloud,
        tenant_of(cloud, tmp_path_factory.mktemp("cluster"), "cluster") as tenant,
    ):
        project = {"ports": -1, "networks": -1}
        cloud.admin.network.update_quota(tenant.project_id, **project)
        net = tenant.network("10.0.0.0/16")
        here, there = tenant.probes(net, "h1", "h2")
        must_pass(Ping(here, there.v4))
        yield Scene(cloud, tenant, net, here, there)


def test_leaders_may_change_and_die_while_ports_are_made(scene: Scene) -> None:
    with scene.tenant.scope(), Pinging(scene.here, scene.there.v4) as traffic:
        with load(scene) as made:
            for _ in range(2):
                scene.hand_over("nb")
                scene.kill_leader("nb")
                scene.hand_over("sb")
                scene.kill_leader("sb")
        made.all_are_in_ovn()
        assert traffic.lost() == 0
    is_well(scene.cloud)


def test_a_northbound_database_that_is_wiped_is_filled_again(scene: Scene) -> None:
    with scene.tenant.scope():
        with load(scene) as made:
            soon(lambda: len(made.made) > 20, "there is load")
            for table in ("Logical_Switch", "DHCP_Options", "Port_Group", "Address_Set", "Logical_Router"):
                scene.nbctl("--all", "destroy", table)
        made.all_are_in_ovn()
        must_pass(Ping(scene.here, scene.there.v4), within=HEALED)
    is_well(scene.cloud)


def test_traffic_goes_on_while_northd_stands_still(scene: Scene) -> None:
    northd = pid_of(scene.cloud, "northd")
    with scene.tenant.scope(), Pinging(scene.here, scene.there.v4) as traffic:
        os.kill(northd, signal.SIGSTOP)
        try:
            with load(scene) as made:
                soon(lambda: len(made.made) > 20, "there is load")
            made.all_are_in_ovn()
            late = scene.tenant.probe(scene.net, "h1")
            assert traffic.lost() == 0
        finally:
            os.kill(northd, signal.SIGCONT)
        scene.tenant.ready(late)
        must_pass(Ping(late, scene.there.v4), within=HEALED)
    is_well(scene.cloud)
