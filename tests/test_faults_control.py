"""The control process is killed in the middle of its work, and others change what is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cloud import Cloud
from fault_lab import HEALED, is_well, orphans, ovn, pid_of, soon, vsctl
from flows import Ping, must_pass
from openstack.connection import Connection
from probes import Probe
from tenants import Net, Tenant, tenant_of

pytestmark = pytest.mark.machine


@dataclass
class Wanted:
    """A create request, and what became of it."""

    path: str
    kind: str
    fields: dict[str, Any]
    #: The id that was acknowledged, or "" where no answer came.
    id: str = ""
    #: What was answered instead.
    refused: str = field(default="")


class Storm:
    """A hundred creates at once, of everything that allocates something."""

    def __init__(self, cloud: Cloud, connection: Connection) -> None:
        self.cloud = cloud
        token = connection.auth_token
        self.http = httpx.Client(base_url=cloud.url, headers={"x-auth-token": token}, timeout=60)
        self.project = connection.current_project_id
        network = self.create("/network/v2.0/networks", "network", {"name": "storm"})
        subnet = {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/16"}
        self.create("/network/v2.0/subnets", "subnet", subnet)
        self.network = network
        self.wanted = [self._want(number) for number in range(100)]
        self._kill_after = 0
        self._lock = threading.Lock()

    def _want(self, number: int) -> Wanted:
        name = f"storm{number}"
        if number % 4 == 3:
            return Wanted("/network/v2.0/networks", "network", {"name": name})
        if number % 25 == 12:
            image = self.find("/image/v2/images?name=tiny", "images")
            flavor = self.find("/compute/v2.1/flavors", "flavors")
            fields = {
                "name": name,
                "imageRef": image,
                "flavorRef": flavor,
                "networks": [{"uuid": self.network}],
            }
            return Wanted("/compute/v2.1/servers", "server", fields)
        fixed = [{"ip_address": f"10.0.77.{number}"}]
        return Wanted(
            "/network/v2.0/ports", "port", {"name": name, "network_id": self.network, "fixed_ips": fixed}
        )

    def find(self, path: str, plural: str) -> str:
        found: str = self.http.get(path).raise_for_status().json()[plural][0]["id"]
        return found

    def create(self, path: str, kind: str, fields: dict[str, Any]) -> str:
        reply = self.http.post(path, json={kind: fields})
        assert reply.status_code < 300, reply.text
        id: str = reply.json()[kind]["id"]
        return id

    def run(self, kill_after: int) -> None:
        """Asks for all of them at once; control is killed when so many have been answered."""
        self._kill_after, self._victim = kill_after, pid_of(self.cloud, "control")
        with ThreadPoolExecutor(len(self.wanted)) as pool:
            list(pool.map(self._ask, self.wanted))
        assert self._kill_after <= 0, "it was not killed"

    def _ask(self, wanted: Wanted) -> None:
        # A connection each, as many clients have; and nobody asks twice.
        headers = dict(self.http.headers)
        try:
            reply = httpx.post(
                f"{self.cloud.url}{wanted.path}",
                json={wanted.kind: wanted.fields},
                headers=headers,
                timeout=60,
            )
        except httpx.TransportError:
            return
        if reply.status_code < 300:
            wanted.id = reply.json()[wanted.kind]["id"]
            with self._lock:
                self._kill_after -= 1
                if self._kill_after == 0:
                    os.kill(self._victim, signal.SIGKILL)
        else:
            wanted.refused = f"{reply.status_code} {reply.text}"

    def answers(self) -> bool:
        """Whether control does again."""
        try:
            return self.http.get("/network/v2.0/networks").status_code == 200
        except httpx.TransportError:
            return False

    def there(self, wanted: Wanted) -> list[str]:
        """The ids of what has the name that was asked for."""
        reply = self.http.get(wanted.path, params={"name": wanted.fields["name"]}).raise_for_status()
        name = wanted.fields["name"]
        return [one["id"] for one in reply.json()[f"{wanted.kind}s"] if one["name"] == name]

    def clear(self) -> None:
        """Deletes all that was made."""
        for kind in ("server", "port", "network"):
            for wanted in self.wanted:
                if wanted.kind == kind:
                    for id in self.there(wanted):
                        assert self.http.delete(f"{wanted.path}/{id}").status_code in (204, 404)
        soon(lambda: not self.http.get("/compute/v2.1/servers").json()["servers"], "servers are gone", 30)
        assert self.http.delete(f"/network/v2.0/networks/{self.network}").status_code in (204, 409)
        self.http.close()


@pytest.mark.parametrize("kill_after", [5, 50])
def test_what_was_acknowledged_outlives_control_and_the_rest_blocks_nothing(
    cloud: Cloud, kill_after: int
) -> None:
    with cloud.project("storm") as connection:
        storm = Storm(cloud, connection)
        try:
            storm.run(kill_after)
            soon(storm.answers, "control answers again")
            acknowledged = [wanted for wanted in storm.wanted if wanted.id]
            unanswered = [wanted for wanted in storm.wanted if not wanted.id]
            assert [wanted.refused for wanted in storm.wanted if wanted.refused] == []
            assert len(acknowledged) >= kill_after
            assert unanswered, "it was killed too late to tell anything"

            # What was acknowledged is there, once, and reaches OVN.
            for wanted in acknowledged:
                assert storm.there(wanted) == [wanted.id], wanted
            soon(lambda: in_ovn(cloud, acknowledged), "all of it is in OVN")

            # What was not is there as a whole or not at all. Asked for again, it is granted.
            for wanted in unanswered:
                for id in storm.there(wanted):
                    assert storm.http.delete(f"{wanted.path}/{id}").status_code == 204
                wanted.id = storm.create(wanted.path, wanted.kind, wanted.fields)
            soon(lambda: in_ovn(cloud, storm.wanted), "the rest is in OVN too")

            # Nothing is counted or claimed that is not there.
            used = storm.http.get(f"/network/v2.0/quotas/{storm.project}/details").json()["quota"]
            for kind, plural in (("network", "networks"), ("port", "ports"), ("subnet", "subnets")):
                own = {"project_id": storm.project}
                listed = storm.http.get(f"/network/v2.0/{plural}", params=own).json()[plural]
                assert used[kind]["used"] == len(listed), kind
            assert orphans(cloud) == []
        finally:
            soon(storm.answers, "control answers")
            storm.clear()
    is_well(cloud)


def in_ovn(cloud: Cloud, wanted: list[Wanted]) -> bool:
    """Whether all of them, servers aside, have their switch or port in OVN."""
    tables = ("Logical_Switch", "Logical_Switch_Port")
    names = "".join(ovn(cloud, "--bare", "--columns=name", "list", table) for table in tables)
    return all(one.id in names for one in wanted if one.kind != "server")


# What others change.


@pytest.fixture(scope="module")
def tenant(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    with tenant_of(cloud, tmp_path_factory.mktemp("drift"), "drift") as made:
        yield made


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> tuple[Net, Probe, Probe]:
    """A network with a probe on each of two hosts."""
    net = tenant.network("10.0.0.0/24")
    here, there = tenant.probes(net, "h1", "h2")
    must_pass(Ping(here, there.v4))
    return net, here, there


def healed(cloud: Cloud) -> int:
    """How many rows control says it has put right."""
    count: int = cloud.status()["control"]["healed"]
    return count


def test_rows_that_somebody_removes_or_changes_in_ovn_are_put_right(
    cloud: Cloud, scene: tuple[Net, Probe, Probe]
) -> None:
    net, here, there = scene
    switch, port = f"ls-{net.id}", row_of(cloud, there.port.id)

    def told() -> str:
        columns = "--columns=addresses,port_security,options,external_ids,enabled"
        return "".join(sorted(ovn(cloud, columns, "list", "Logical_Switch_Port", port).splitlines()))

    wanted = told()
    for spoil in (
        ("lsp-del", port),
        ("lsp-set-addresses", port, "02:00:00:00:00:01 10.0.0.200"),
        ("lsp-set-port-security", port, "02:00:00:00:00:01"),
        ("clear", "Logical_Switch_Port", port, "external_ids"),
        ("lsp-set-enabled", port, "disabled"),
        ("ls-del", switch),
    ):
        before = healed(cloud)
        ovn(cloud, *spoil)
        soon(lambda: quiet(told) == wanted, f"{spoil} is undone")
        soon(lambda before=before: healed(cloud) > before, "it is told of")
        must_pass(Ping(here, there.v4))


def quiet(ask: Callable[[], str]) -> str:
    """What is told, or nothing while there is no such row."""
    try:
        return ask()
    except subprocess.CalledProcessError:
        return ""


def row_of(cloud: Cloud, id: str) -> str:
    """The name of the port in OVN that stands for a port."""
    names = ovn(cloud, "--bare", "--columns=name", "list", "Logical_Switch_Port").split()
    return next(name for name in names if id in name)


def test_rows_of_somebody_else_stay(cloud: Cloud, scene: tuple[Net, Probe, Probe]) -> None:
    net, here, there = scene
    switch, foreign = f"ls-{net.id}", "somebody-else"
    ovn(cloud, "ls-add", foreign, "--", "lsp-add", switch, f"{foreign}-port", "--", "lr-add", foreign)
    try:
        # A full comparison has been made when something of ours that was spoilt is right again.
        port = row_of(cloud, there.port.id)
        ovn(cloud, "lsp-del", port)
        soon(lambda: port in ovn(cloud, "lsp-list", switch), "our own row is back")
        must_pass(Ping(here, there.v4))
        assert foreign in ovn(cloud, "ls-list")
        assert f"{foreign}-port" in ovn(cloud, "lsp-list", switch)
        assert foreign in ovn(cloud, "lr-list")
    finally:
        ovn(cloud, "ls-del", foreign, "--", "lsp-del", f"{foreign}-port", "--", "lr-del", foreign)


def test_ports_of_a_hosts_switch_are_put_right_and_others_stay(
    cloud: Cloud, scene: tuple[Net, Probe, Probe]
) -> None:
    _, here, there = scene
    wanted = f"external_ids:iface-id={here.port.id}"
    (device,) = vsctl(cloud, "h1", "--bare", "--columns=name", "find", "Interface", wanted).split()

    def told() -> str:
        interface = vsctl(cloud, "h1", "get", "Interface", device, "external_ids:iface-id")
        return interface + vsctl(cloud, "h1", "get", "Interface", device, "options", "type")

    former = told()
    internal = ("--", "set", "Interface", "somebody", "type=internal")
    vsctl(cloud, "h1", "add-port", "br-int", "somebody", *internal)
    try:
        for spoil in (
            ("del-port", "br-int", device),
            ("remove", "Interface", device, "external_ids", "iface-id"),
            ("set", "Interface", device, "options:peer=nobody"),
            ("set", "Interface", device, "type=internal"),
            ("del-br", "br-int"),
        ):
            vsctl(cloud, "h1", *spoil)
            soon(lambda: quiet(told) == former, f"{spoil} is undone")
            must_pass(Ping(here, there.v4), within=HEALED)
            if spoil[0] != "del-br":
                assert "somebody" in vsctl(cloud, "h1", "list-ports", "br-int").split()
    finally:
        vsctl(cloud, "h1", "--if-exists", "del-port", "somebody")
    is_well(cloud)
