"""Firewall groups: at interfaces of a router, each a firewall beside it that packets go by.

    a (h1)  ── inner ──▣ router ── other ── b (h2)      ▣ the group has the router's interfaces here
                           └── outside

| claim | and in reverse |
| --- | --- |
| connections begin as the policies let them, in v4 and v6 | others do not |
| it holds for the outside and floating IPs, on a distributed router too | |
| the router itself answers those behind the group | nobody reaches the firewall |
| what has begun goes on while the rules change | new ones meet the new rules |
| who is rejected is told | |
| a group that is down lets nothing pass | up again, it does |
| between two interfaces of a group both of its policies hold | |
| without its interfaces a group holds for nobody, and leaves nothing | |
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Ping, Tcp, Udp, must_pass, must_stop
from probes import Probe, Space, wait_for
from tenants import Net, Tenant

pytestmark = pytest.mark.machine

#: How long the machine may take for what takes a few seconds when it is idle.
PATIENCE = 110.0
#: The host behind the outside router, which knows no way to the tenant's own addresses.
INTERNET = "198.51.100.10"


class Scene:
    """The networks and the group, which lets TCP to port 80 in, and everything out."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant, self.api = tenant, tenant.api
        self.inner = tenant.network("10.1.0.0/24", "fd00:1::/64")
        self.other = tenant.network("10.2.0.0/24", "fd00:2::/64")
        self.router = tenant.router(self.inner, self.other, outside=True)
        self.a: Probe = tenant.probe(self.inner, "h1")
        self.b: Probe = tenant.probe(self.other, "h2")
        tenant.ready(self.a, self.b)
        web = [self.rule("allow", version, "tcp", destination_port="80") for version in (4, 6)]
        self.web = [rule.id for rule in web]
        self.ingress = self.policy("in", *self.web)
        self.egress = self.policy("out", *(self.rule("allow", version).id for version in (4, 6)))
        self.legs = self.interfaces(self.inner)
        self.group = self.api.create_firewall_group(
            name="perimeter",
            ports=self.legs,
            ingress_firewall_policy_id=self.ingress.id,
            egress_firewall_policy_id=self.egress.id,
        )

    def interfaces(self, *nets: Net) -> list[str]:
        found = self.api.ports(device_id=self.router.id, device_owner="network:router_interface")
        return [port.id for port in found if port.network_id in {net.id for net in nets}]

    def rule(self, action: str, version: int, protocol: str | None = None, **fields: Any) -> Any:
        return self.api.create_firewall_rule(action=action, ip_version=version, protocol=protocol, **fields)

    def policy(self, name: str, *rules: str) -> Any:
        return self.api.create_firewall_policy(name=name, firewall_rules=list(rules))

    def change(self, **fields: Any) -> None:
        self.api.update_firewall_group(self.group.id, **fields)

    def let_in(self, *rules: str) -> None:
        self.api.update_firewall_policy(self.ingress.id, firewall_rules=list(rules))

    def settled(self, status: str = "ACTIVE") -> None:
        """Returns when the group was seen to do what it says."""

        def told() -> str:
            return str(self.api.get_firewall_group(self.group.id).status)

        wait_for(lambda: told() == status, PATIENCE, f"the group is {status}", lambda: f"it is {told()}")


@pytest.fixture(scope="module")
def scene(tenant: Tenant) -> Iterator[Scene]:
    """For all cases here, in order; each leaves it as it was."""
    made = Scene(tenant)
    yield made
    made.change(ports=[])
    made.api.delete_firewall_group(made.group.id)


def test_connections_begin_as_the_policies_let_them(scene: Scene) -> None:
    scene.settled()
    a, b = scene.a, scene.b
    let_in = [Tcp(b, a, a.v4, 80), Tcp(b, a, a.v6, 80)]
    must_pass(*let_in, Tcp(a, b, b.v4, 81), Udp(a, b, b.v6, 53), Ping(a, b.v4), Ping(a, b.v6))
    must_stop(Tcp(b, a, a.v4, 81), Udp(b, a, a.v4, 80), Ping(b, a.v4), control=let_in[0])
    must_stop(Tcp(b, a, a.v6, 81), Ping(b, a.v6), control=let_in[1])


def test_it_holds_for_the_outside_and_floating_ips(scene: Scene, internet: Space) -> None:
    scene.settled()
    a, out = scene.a, Tcp(scene.a, internet, INTERNET, 8080)
    must_pass(out)
    floating = scene.tenant.floating(a)
    address = floating.floating_ip_address
    come = Tcp(internet, a, address, 80)
    for distributed in (False, True):
        with scene.tenant.changed(scene.router, is_distributed=distributed):
            must_pass(come)
            wait_for(lambda: out.once() and out.seen_from == address, PATIENCE, f"it leaves as {address}")
            must_stop(Tcp(internet, a, address, 81), control=come)


def test_the_router_itself_answers_and_nobody_reaches_the_firewall(scene: Scene) -> None:
    scene.settled()
    must_pass(*(Ping(scene.a, address) for address in ("10.1.0.1", "10.2.0.1", "fd00:1::1", "fd00:2::1")))
    must_stop(
        Ping(scene.a, "169.254.192.2"), Ping(scene.b, "169.254.192.2"), control=Ping(scene.a, scene.b.v4)
    )


def test_what_has_begun_goes_on_while_the_rules_change(scene: Scene) -> None:
    scene.settled()
    a, b = scene.a, scene.b
    with (
        a.open(socket.AF_INET, socket.SOCK_STREAM) as ear,
        b.open(socket.AF_INET, socket.SOCK_STREAM) as begun,
    ):
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind((a.v4, 80))
        ear.listen()
        for end in (ear, begun):
            end.settimeout(PATIENCE)
        begun.connect((a.v4, 80))
        met, _ = ear.accept()
        ear.close()
        with met:
            scene.let_in(scene.web[1])
            scene.settled()
            must_stop(Tcp(b, a, a.v4, 80), control=Tcp(b, a, a.v6, 80))
            met.settimeout(PATIENCE)
            for word in (b"still", b"there"):
                begun.sendall(word)
                assert met.recv(5) == word
                met.sendall(word)
                assert begun.recv(5) == word
    scene.let_in(*scene.web)
    scene.settled()
    must_pass(Tcp(b, a, a.v4, 80))


def test_who_is_rejected_is_told(scene: Scene) -> None:
    no = [scene.rule("reject", version, "tcp", destination_port="83").id for version in (4, 6)]
    scene.let_in(*no, *scene.web)
    scene.settled()
    for family, address in ((socket.AF_INET, scene.a.v4), (socket.AF_INET6, scene.a.v6)):
        with scene.b.open(family, socket.SOCK_STREAM) as wire:
            wire.settimeout(PATIENCE)
            with pytest.raises(ConnectionRefusedError):
                wire.connect((address, 83))
    scene.let_in(*scene.web)


def test_a_group_that_is_down_lets_nothing_pass(scene: Scene) -> None:
    scene.change(admin_state_up=False)
    scene.settled("DOWN")
    ways = [Tcp(scene.b, scene.a, scene.a.v4, 80), Tcp(scene.a, scene.b, scene.b.v6, 81)]
    must_stop(*ways, control=Ping(scene.b, "10.2.0.1"))
    scene.change(admin_state_up=True)
    scene.settled()
    must_pass(*ways)


def test_between_two_interfaces_of_a_group_both_policies_hold(scene: Scene) -> None:
    scene.change(ports=scene.interfaces(scene.inner, scene.other))
    scene.settled()
    a, b = scene.a, scene.b
    ways = [Tcp(b, a, a.v4, 80), Tcp(a, b, b.v6, 80)]
    must_pass(*ways)
    must_stop(Tcp(a, b, b.v4, 81), Tcp(a, b, b.v6, 81), Ping(b, a.v4), control=ways[0])
    scene.change(ports=scene.legs)
    scene.settled()
    must_pass(Tcp(a, b, b.v4, 81))


def test_without_its_interfaces_it_holds_for_nobody(scene: Scene) -> None:
    scene.change(ports=[])
    scene.settled("INACTIVE")
    must_pass(Tcp(scene.b, scene.a, scene.a.v4, 81), Ping(scene.b, scene.a.v6))
    left = [port.device_owner for port in scene.tenant.admin.ports(device_id=scene.router.id)]
    assert "network:router_firewall" not in left
