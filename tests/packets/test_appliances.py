"""An appliance between a tenant's network and the outside.

It is ordered through the API, runs on three hosts, and is the network's gateway.

| claim | and in reverse |
| --- | --- |
| what the policy lets begin passes, seen outside as the appliance | what it does not is dropped |
| a subnet that is made later is served by the units that are there | |
| hosts inside learn their IPv6 address and their way out by themselves | |
| the command and the cloud's status show what is seen of it | |
| Prometheus is told of it | by the operator's key alone |
| a connection that a rule logs is told of | |
| data planes come and go as it is scaled, and by their load | |
| all units are replaced by new ones | and no connection breaks |
| a deleted appliance leaves no port, no unit and no process | |
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Tcp, must_pass, must_stop
from probes import Probe, Space, wait_for
from tenants import Net, Tenant

from trunkline.cli.observe import control_status
from trunkline.traffic.pair import Traffic
from trunkline.traffic.plans import FarPlan, NearPlan

pytestmark = pytest.mark.machine

HOST = "198.51.100.10"
#: How long the machine may take for what takes a second or two when it is idle.
PATIENCE = 60.0


class Edge:
    """The appliance of the tenant, a network behind it, a probe there, and short ways to ask."""

    def __init__(self, tenant: Tenant, internet: Space, **other: Any) -> None:
        self.tenant, self.internet = tenant, internet
        self.net: Net = tenant.network("10.0.0.0/24")
        self._session: Any = tenant.api.session
        self._base = f"{tenant.cloud.state.load().api_url}/appliance/v1/appliances"
        legs = {"inside_network_id": self.net.id, "outside_network_id": tenant.public.id}
        fields = {"name": "edge", "services": ["firewall", "nat"], "data_planes": 2, "cu_size": 0.15, **legs}
        self.id = self._ask("POST", "", {"appliance": fields | other})["appliance"]["id"]
        self.shown = self.show()
        self.probe: Probe = tenant.probe(self.net, "h1")
        tenant.ready(self.probe)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self._session.request(f"{self._base}{path}", method, json=body, raise_exc=False)
        assert reply.status_code < 300, reply.text
        return reply.json() if reply.content else None

    def show(self) -> dict[str, Any]:
        return dict(self._ask("GET", f"/{self.id}")["appliance"])

    def units(self, kind: str = "") -> list[dict[str, Any]]:
        found = self._ask("GET", f"/{self.id}/units")["units"]
        return [unit for unit in found if kind in ("", unit["kind"])]

    def life(self) -> str:
        """How it is, and what became of it, for who waited for something else."""
        return f"{self.show()}\n{self.events()}"

    def events(self) -> str:
        told = self._ask("GET", f"/{self.id}/events")["events"][-25:]
        return "\n".join(f"{e['at']} {e['unit']} {e['what']} ({e['cause']})" for e in told)

    def scale(self, planes: int) -> None:
        self.change(data_planes=planes)

    def change(self, **fields: Any) -> None:
        self._ask("PUT", f"/{self.id}", {"appliance": fields})

    @contextlib.contextmanager
    def busy(self, unit: dict[str, Any]) -> Iterator[None]:
        """Has a process of a unit use all of the unit's part of a processor."""
        name = unit["id"].replace("-", "")[:8]
        groups = [root for root in _groups([name]) if os.path.exists(f"{root}/cgroup.procs")]
        # It ends by itself, whatever becomes of this test.
        spin = f"import time; end = time.time() + {2 * PATIENCE}\nwhile time.time() < end: pass"
        process = subprocess.Popen([sys.executable, "-c", spin])
        try:
            for group in groups:
                with open(f"{group}/cgroup.procs", "w") as file:
                    file.write(str(process.pid))
            yield
        finally:
            process.kill()
            process.wait()

    def set_policy(self, *services: str, log: bool = False, **sections: Any) -> None:
        """These may begin inside; `sections` are further ones of the policy, or rules that come first."""
        rule = {
            "log": log,
            "name": "out",
            "from": "inside",
            "to": "outside",
            "service": list(services),
            "action": "accept",
        }
        address = next(a for a in self.shown["outside_addresses"] if ":" not in a)
        source = {"from": "inside", "to": "outside", "addresses": [address]}
        rules = [*sections.pop("rules", ()), rule]
        policy = {"firewall": {"default": "drop", "rules": rules}, "nat": {"source": [source]}, **sections}
        self._ask("PUT", f"/{self.id}/policy", {"policy": policy})

    def renew(self) -> None:
        self._ask("POST", f"/{self.id}/renew")

    def settled(self, planes: int, patience: float = PATIENCE) -> None:
        """Returns when it is as it is to be, with so many data planes and none that is to go."""

        def is_so() -> bool:
            shown, there = self.show(), self.units("data-plane")
            return shown["status"] == "ACTIVE" and len(there) == planes

        wait_for(is_so, patience, f"{planes} data planes, ACTIVE", self.life)

    def process_of(self, unit: dict[str, Any]) -> int:
        """The id of a unit's process: of the one that was started with its socket."""
        mark = f"/u/{unit['id'].replace('-', '')[:8]}".encode()
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            ours = any(word.startswith(b"--socket=") and mark in word for word in words)
            if ours and b"trunkline.units" in words:
                return int(name)
        return 0

    def delete(self) -> None:
        self._ask("DELETE", f"/{self.id}")


@pytest.fixture(scope="module")
def edge(tenant: Tenant, internet: Space) -> Iterator[Edge]:
    """For all cases here, in order."""
    made = Edge(tenant, internet)
    yield made
    if any(a["id"] == made.id for a in made._ask("GET", "")["appliances"]):
        made.delete()


def test_what_the_policy_lets_begin_passes_as_the_appliances(edge: Edge) -> None:
    edge.settled(2)
    web, other = (Tcp(edge.probe, edge.internet, HOST, port) for port in (8080, 9090))
    assert not web.once(), "a new appliance lets nothing begin"
    edge.set_policy("tcp/8080")
    edge.settled(2)
    must_pass(web)
    assert web.seen_from in edge.shown["outside_addresses"]
    must_stop(other, control=web)


def test_a_subnet_that_came_later_is_served(edge: Edge) -> None:
    made = edge.tenant.subnet(edge.net, "10.0.1.0/24")
    assert "10.0.1.1" in edge.show()["inside_addresses"]
    units = {unit["id"] for unit in edge.units()}
    probe = edge.tenant.probe(edge.net, "h2", fixed_ips=[{"subnet_id": made.id}])
    edge.tenant.ready(probe)
    must_pass(Tcp(probe, edge.internet, HOST, 8080))
    assert {unit["id"] for unit in edge.units()} == units


def test_hosts_inside_learn_their_way_out_by_themselves(edge: Edge) -> None:
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    made = edge.tenant.subnet(edge.net, "fd00:17::/64", **modes)
    probe = edge.tenant.probe(edge.net, "h3", fixed_ips=[{"subnet_id": made.id}])
    edge.tenant.ready(probe, configure=False)
    assert probe.autoconfigured() == probe.v6
    assert f"Prefix                   : {made.cidr}" in probe.advertised()
    assert probe.default_router6() == "eth0"


def test_the_command_and_the_status_of_the_cloud_show_it(edge: Edge) -> None:
    cloud = edge.tenant.cloud
    edge.settled(2)
    shown = cloud.trunkline("appliance", "show", edge.id, "--cloud", "trunkline-admin").stdout
    for word in (
        "edge",
        "ACTIVE",
        "data-plane",
        "leads",
        "serves inside outside",
        "Policy revision 2 is set",
    ):
        assert word in shown, shown
    (told,) = (a for a in control_status(cloud.state, cloud.state.load())["appliances"] if a["id"] == edge.id)
    assert (told["name"], told["units"]) == ("edge", 4)


def test_prometheus_is_told_of_it_with_the_operators_key_alone(edge: Edge) -> None:
    state = edge.tenant.cloud.state
    key = (state.run / "status.key").read_text().strip()
    where = f"{edge.tenant.cloud.url}/metrics/appliances"
    told = edge.tenant.api.session.get(where, headers={"X-Trunkline-Key": key}, raise_exc=False)
    assert (told.status_code, f'appliance="{edge.id}"' in told.text) == (200, True)
    assert "trunkline_unit_packets_total{" in told.text
    assert edge.tenant.api.session.get(where, raise_exc=False).status_code == 403


def test_what_a_rule_logs_is_told(edge: Edge) -> None:
    edge.set_policy("tcp/8080", log=True)
    web = Tcp(edge.probe, edge.internet, HOST, 8080)

    def told() -> bool:
        must_pass(web)
        said = cloud.trunkline("appliance", "log", edge.id, "--cloud", "trunkline-admin").stdout
        ends = (f"accept 'out'  tcp {edge.probe.v4}:", f"> {HOST}:8080\n")
        return all(end in said for end in ends)

    cloud = edge.tenant.cloud
    wait_for(told, PATIENCE, "a connection is told of")
    edge.set_policy("tcp/8080")
    edge.settled(2)


def test_data_planes_come_and_go_and_it_forwards_on(edge: Edge) -> None:
    edge.set_policy("tcp/8080")
    web = Tcp(edge.probe, edge.internet, HOST, 8080)
    for planes in (3, 1):
        edge.scale(planes)
        edge.settled(planes)
        must_pass(web)


def test_data_planes_come_and_go_by_their_load(edge: Edge) -> None:
    edge.scale(1)
    edge.settled(1)
    (plane,) = edge.units("data-plane")
    edge.change(scaling={"target_load": 0.5, "least": 1, "most": 2, "cool_down": 3})
    with edge.busy(plane):
        edge.settled(2)
        assert "By its load it is to have 2 data planes instead of 1" in edge.events()
    edge.settled(1)
    edge.change(scaling=None)


def test_a_new_version_rolls_through_and_breaks_no_connection(edge: Edge) -> None:
    edge.settled(1)
    edge.set_policy("tcp/8080")
    edge.settled(1)
    before = {unit["number"] for unit in edge.units()}
    plan = NearPlan(targets=(f"{HOST}:8080",), connections=100, every=0.5, silent=30.0)
    far = {edge.internet.netns: FarPlan(listen=(f"{HOST}:8080",))}
    with Traffic(near=edge.probe.netns, plan=plan, far=far) as traffic:
        assert traffic.ready().refused == 0
        edge.renew()
        wait_for(lambda: edge.show()["renewal"]["state"] != "running", 2 * PATIENCE, "it is renewed")
        edge.settled(1)
        result = traffic.end()
    assert (edge.show()["renewal"]["state"], result.broken) == ("done", {}), edge.events()
    units = edge.units()
    assert not before & {unit["number"] for unit in units}
    assert len({unit["observed"]["version"] for unit in units}) == 1


def test_a_deleted_appliance_leaves_nothing(edge: Edge) -> None:
    edge.scale(1)
    edge.settled(1)
    units = edge.units()
    # A unit that has just been made is listed before it has its process.
    wait_for(lambda: all(map(edge.process_of, units)), PATIENCE, "every unit has its process", edge.life)
    edge.delete()
    wait_for(
        lambda: not any(edge.process_of(unit) for unit in units), PATIENCE, "no process of a unit is left"
    )
    ports = edge.tenant.admin.ports(network_id=edge.net.id)
    assert not [p for p in ports if p.device_owner.startswith("network:appliance")]
    groups = [unit["id"].replace("-", "")[:8] for unit in units]
    wait_for(lambda: not _groups(groups), PATIENCE, "no control group of a unit is left")


def _groups(names: list[str]) -> list[str]:
    """Control groups of these units."""
    there = (root for root, _, _ in os.walk("/sys/fs/cgroup") if "/trunkline/" in root)
    return [root for root in there if any(root.endswith(name) for name in names)]
