"""Metering labels: what passes a router's gateway and matches a label's rules is counted, each packet once.

| claim | and in reverse |
| --- | --- |
| packets and bytes are counted both ways, of both families | what stays inside is not, nor without a rule |
| a prefix is counted by itself, within another one too | excluded, it is not, and the rest still is |
| a label counts at its project's routers; a shared one at all | another project's counts nothing |
| counts go on when the gateway moves to another host, and when an agent dies | ... from where they were |
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from fault_lab import kill, ovn, pid_of
from flows import Ping, must_pass
from probes import Space, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine

HOST4, HOST6 = "198.51.100.10", "2001:db8:198::10"
RANGE4, RANGE6 = "10.0.0.0/24", "2001:db8:a::/64"
#: Of an IP packet, bytes.
SIZE = 500
#: Hosts look at their flows every three seconds, and tell.
SOON = 20.0
WAYS = ("ingress", "egress")
COUNTS = ("ingress_packets", "ingress_bytes", "egress_packets", "egress_bytes")


class Scene:
    """a (h1) and b (h2) on a network with a router that leads out; b has a floating IP."""

    def __init__(self, tenant: Tenant, internet: Space, outside_router: Space) -> None:
        self.tenant, self.internet, self.cloud = tenant, internet, tenant.cloud
        self.net = tenant.network(RANGE4, RANGE6)
        self.router = tenant.router(self.net, outside=True)
        self.a, self.b = tenant.probes(self.net, "h1", "h2")
        self.floating = tenant.floating(self.b).floating_ip_address
        fixed = tenant.api.get_router(self.router).external_gateway_info["external_fixed_ips"]
        way = next(f["ip_address"] for f in fixed if ":" in f["ip_address"])
        self.own = next(f["ip_address"] for f in fixed if ":" not in f["ip_address"])
        outside_router.ip(f"route replace {RANGE6} via {way} dev eth0")
        must_pass(*(Ping(self.a, host) for host in (HOST4, HOST6)), Ping(internet, self.floating))

    def label(self, *rules: dict[str, Any], **fields: Any) -> Any:
        """A label of this project with these rules, known to all hosts when this returns."""
        wanted = {"name": "label", "project_id": self.tenant.project_id, **fields}
        admin = self.tenant.admin
        label = admin.create_metering_label(**wanted)
        self.tenant.undo(admin.delete_metering_label, label)
        for rule in rules:
            # Not by its own word in openstacksdk, which warns of `remote_ip_prefix`.
            body = {"metering_label_rule": {"metering_label_id": label.id, **rule}}
            reply = admin.post("/metering/metering-label-rules", json=body)
            assert reply.status_code == 201, reply.text
        return label

    def ready(self, *prefixes: str) -> None:
        """Returns when all packets go by the flows of the rules, which have these prefixes."""
        router = f"lr-{self.router.id}"

        def written() -> bool:
            policies = ovn(self.cloud, "lr-policy-list", router)
            return all(prefix in policies for prefix in prefixes)

        wait_for(written, SOON, "the rules are in OVN")
        ovn(self.cloud, "--wait=hv", "sync")
        for host in self.cloud.hosts:
            socket = self.cloud.state.host(host) / "ovs-vswitchd.ctl"
            subprocess.run(["ovs-appctl", "-t", str(socket), "revalidator/wait"], check=True, timeout=20)

    def carrier(self) -> str | None:
        """The host that carries the gateway, as the status tells."""
        gateways = self.cloud.status()["gateways"]
        found: str | None = next(g["host"] for g in gateways if g["router"] == self.router.id)
        return found

    def pings(self, times: int) -> tuple[Passed, Passed, Passed, Passed]:
        """So many by a to the outside and from there to b, in IPv4 and then in IPv6."""
        return (
            exchange(self.a, HOST4, times),
            exchange(self.internet, self.floating, times),
            exchange(self.a, HOST6, times),
            exchange(self.internet, self.b.v6, times),
        )


class Passed(NamedTuple):
    """How many packets passed each way: on a busy machine one may be lost, before it is counted or after."""

    least: int
    most: int
    #: And so many smaller ones of somebody else: routers on the way speak of their own now and then.
    strays: int = 0

    def __add__(self, other: object) -> Passed:
        assert isinstance(other, Passed)
        return Passed(self.least + other.least, self.most + other.most)

    def counted(self, packets: int, size: int) -> bool:
        """Whether it is this that was counted."""
        own, stray = divmod(size, SIZE)
        return (
            self.least <= own <= self.most
            and 0 <= packets - own <= self.strays
            and (not stray or self.strays > 0)
        )


NONE = Passed(0, 0)


def exchange(space: Space, address: str, times: int) -> Passed:
    """Sends requests of `SIZE` bytes, most of which are answered."""
    header = 40 if ":" in address else 20
    data = str(SIZE - header - 8)
    said = space.run("ping", "-n", "-q", "-c", str(times), "-i", "0.02", "-s", data, address).stdout
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found is not None, said
    passed = Passed(int(found[2]), int(found[1]))
    assert passed.least > times / 2, said
    return passed


def counts(scene: Scene, label: Any) -> tuple[int, ...]:
    """Packets and bytes in, and out, as the API tells."""
    api = scene.tenant.api if label.project_id == scene.tenant.project_id else scene.tenant.admin
    shown = api.get(f"/metering/metering-labels/{label.id}").json()["metering_label"]
    return tuple(shown[name] for name in COUNTS)


def must_count(scene: Scene, *expected: tuple[Any, Passed, Passed]) -> None:
    """Soon labels have counted what passed in and out, in packets of `SIZE` bytes."""

    def right(label: Any, *ways: Passed) -> bool:
        shown = counts(scene, label)
        pairs = zip(shown[::2], shown[1::2], ways, strict=True)
        return all(way.counted(n, size) for n, size, way in pairs)

    try:
        wait_for(lambda: all(right(*each) for each in expected), SOON, "")
    except AssertionError:
        shown = [(label.name, counts(scene, label), *ways) for label, *ways in expected]
        raise AssertionError(f"counted, and expected in and out: {shown}") from None


@pytest.fixture(scope="module")
def scene(tenant: Tenant, internet: Space, outside_router: Space) -> Iterator[Scene]:
    """For all cases here; each takes its labels away."""
    yield Scene(tenant, internet, outside_router)
    outside_router.ip(f"route delete {RANGE6} dev eth0")


def inner(direction: str, prefix: str, **fields: Any) -> dict[str, Any]:
    return {"direction": direction, "remote_ip_prefix": prefix, **fields}


def test_what_passes_the_gateway_is_counted_once(scene: Scene, stranger: Tenant) -> None:
    all_ = scene.label(*(inner(way, prefix) for way in WAYS for prefix in (RANGE4, RANGE6)), name="all")
    six = scene.label({"direction": "ingress", "source_ip_prefix": f"{HOST6}/128"}, name="six")
    # What lies in another prefix, and what is left out of one; the rules cross.
    part = scene.label(
        inner("egress", RANGE4),
        inner("egress", f"{scene.b.v4}/32", excluded=True),
        {
            "direction": "egress",
            "destination_ip_prefix": f"{HOST4}/32",
            "source_ip_prefix": f"{scene.b.v4}/32",
        },
        {"direction": "ingress", "source_ip_prefix": "198.51.100.0/24"},
        {"direction": "ingress", "source_ip_prefix": f"{HOST4}/32", "destination_ip_prefix": RANGE4},
        name="part",
    )
    nothing = scene.label(name="nothing")
    others = scene.label(inner("egress", RANGE4), name="others", project_id=stranger.project_id)
    shared = scene.label(
        {"direction": "egress", "destination_ip_prefix": HOST6},
        name="shared",
        project_id=stranger.project_id,
        shared=True,
    )
    scene.ready(RANGE4, RANGE6, f"{HOST6}/128", scene.b.v4)
    a4, b4, a6, b6 = scene.pings(20)
    exchange(scene.a, scene.b.v4, 5)
    every = a4 + b4 + a6 + b6
    must_count(
        scene,
        (all_, every._replace(strays=10), every),
        (six, a6 + b6, NONE),
        (part, a4 + b4, a4),
        (nothing, NONE, NONE),
        (others, NONE, NONE),
        (shared, NONE, a6 + b6),
    )
    scene.tenant.admin.delete_metering_label(six)
    scene.ready()
    more4, more6 = exchange(scene.a, HOST4, 5), exchange(scene.a, HOST6, 5)
    every += more4 + more6
    must_count(
        scene,
        (all_, every._replace(strays=10), every),
        (part, a4 + b4 + more4, a4 + more4),
        (nothing, NONE, NONE),
        (others, NONE, NONE),
        (shared, NONE, a6 + b6 + more6),
    )


def test_counts_go_on_wherever_the_gateway_is(scene: Scene) -> None:
    label = scene.label(*(inner(way, RANGE4) for way in WAYS))
    scene.ready(RANGE4)
    passed = exchange(scene.internet, scene.floating, 10)
    must_count(scene, (label, passed, passed))
    first = scene.carrier()
    (agent,) = scene.tenant.admin.agents(host=first, agent_type="OVN Controller Gateway agent")
    scene.tenant.admin.update_agent(agent, admin_state_up=False)
    try:
        wait_for(lambda: scene.carrier() not in (first, None), SOON, "another host carries the gateway")
        # Of the router's own, this is not counted.
        must_pass(Ping(scene.internet, scene.own))
        passed += exchange(scene.internet, scene.floating, 10)
        must_count(scene, (label, passed, passed))
        killed = kill(scene.cloud, f"{scene.carrier()}-agent")
        passed += exchange(scene.internet, scene.floating, 10)
        unit = f"{scene.carrier()}-agent"
        wait_for(lambda: pid_of(scene.cloud, unit) not in (0, killed), SOON, "the agent runs again")
        must_count(scene, (label, passed, passed))
    finally:
        scene.tenant.admin.update_agent(agent, admin_state_up=True)
