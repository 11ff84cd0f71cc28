"""The rows that the backend `ovn` writes, proved by packets between two hosts.

One lab for the module; each test applies a network of its own to it, and its reverse.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from ovn_lab import OUTSIDE, PHYSICAL, Lab, Space, lab, reaches, silent
from ovn_networks import by_key, port, rule
from ovsdb_lab import wait_until

from trunkline.backends.contract import Observation
from trunkline.backends.ovn import OvnBackend
from trunkline.compiler.logical import (
    Advertisement,
    Allowed,
    Dhcp,
    LogicalNetwork,
    Nat,
    Route,
    Router,
    RouterPort,
    Rule,
    RuleSet,
    Switch,
    SwitchPort,
    Uplink,
)

pytestmark = pytest.mark.machine

A, B, C, D = "10.0.0.11", "10.0.0.12", "10.0.1.13", "10.0.0.14"
FLOATING = "203.0.113.50"
OUT = (rule("out", "egress"), rule("out6", "egress", 6))
PING = (rule("ping", protocol=1, icmp_type=8), rule("ping6", family=6, protocol=58, icmp_type=128))


def leg(key: str, number: int, *networks: str, **more: Any) -> RouterPort:
    mac = f"fa:16:3e:01:00:0{number}"
    return RouterPort(key=f"leg-{key}", router="r", switch=key, mac=mac, networks=networks, **more)


def network() -> LogicalNetwork:
    """a (host 1), b and d (host 2) on one switch, c (host 2) on another, a router to the outside."""
    uplink = Uplink(physical_network=PHYSICAL)
    c = port("c", 13, "db", host="h2", addresses=(C,), dhcp4=None, dhcp6=None, rule_sets=("all",))
    advertisement = Advertisement(mode="slaac", mtu=1442)
    return LogicalNetwork(
        switches=by_key(
            Switch(key="web", name="web", mtu=1442),
            Switch(key="db", name="db", mtu=1442),
            Switch(key="outer", name="public", mtu=1500, encapsulation=None, uplinks=(uplink,)),
        ),
        ports=by_key(
            port("a", 11, host="h1", rule_sets=("all",)),
            port("b", 12, host="h2", rule_sets=("all",)),
            msgspec.structs.replace(c, allowed=(Allowed(mac=c.mac, prefix=C),)),
            port("d", 14, host="h2", rule_sets=("all",)),
        ),
        routers=by_key(Router(key="r", name="r")),
        router_ports=by_key(
            leg("web", 1, "10.0.0.1/24", "fd00:a::1/64", mtu=1442, advertisement=advertisement),
            leg("db", 2, "10.0.1.1/24", mtu=1442),
            leg("outer", 3, "203.0.113.10/24", gateway_hosts=("h1", "h2")),
        ),
        routes=by_key(Route(key="out", router="r", prefix="0.0.0.0/0", next_hop=OUTSIDE, port="leg-outer")),
        nats=by_key(Nat(key="web", router="r", type="snat", external="203.0.113.10", internal="10.0.0.0/24")),
        rule_sets=by_key(RuleSet(key="all", name="all", rules=(*OUT, *PING))),
        dhcps=by_key(
            Dhcp(
                key="web4",
                family=4,
                prefix="10.0.0.0/24",
                server_address="10.0.0.1",
                server_mac="fa:16:3e:01:00:01",
                mtu=1442,
                router="10.0.0.1",
                dns_servers=("192.0.2.53",),
                domain="lab.example",
                routes=(("169.254.169.254/32", "10.0.0.2"), ("0.0.0.0/0", "10.0.0.1")),
            ),
        ),
        revision=1,
    )


def with_port(base: LogicalNetwork, key: str, **changes: Any) -> LogicalNetwork:
    changed: SwitchPort = msgspec.structs.replace(base.ports[key], **changes)
    return replace(base, ports=base.ports | {key: changed})


def with_rules(*rules: Rule, stateful: bool = True) -> LogicalNetwork:
    return replace(network(), rule_sets=by_key(RuleSet(key="all", name="", stateful=stateful, rules=rules)))


class Scene:
    """The lab with its four workloads."""

    def __init__(self, made: Lab) -> None:
        self.lab = made
        self.outside = made.outside
        self.a = made.plug(1, "a", "fa:16:3e:00:00:0b", f"{A}/24", "fd00:a::b/64", gateway="10.0.0.1")
        self.b = made.plug(2, "b", "fa:16:3e:00:00:0c", f"{B}/24", "fd00:a::c/64", gateway="10.0.0.1")
        self.c = made.plug(2, "c", "fa:16:3e:00:00:0d", f"{C}/24", gateway="10.0.1.1")
        self.d = made.plug(2, "d", "fa:16:3e:00:00:0e")

    def apply(self, wanted: LogicalNetwork) -> Observation:
        """Returns when every workload is up and every host follows."""

        async def scene() -> Observation:
            central = self.lab.central
            backend = OvnBackend([central.nb.remote], [central.sb.remote])
            await backend.start()
            try:
                await backend.apply(wanted)
                async with asyncio.timeout(40):
                    # Until the hosts hear each other, another one than the first may carry a gateway.
                    legs = wanted.router_ports.items()
                    gateways = {key: leg.gateway_hosts[0] for key, leg in legs if leg.gateway_hosts}
                    while (seen := backend.observe()).ports_up.keys() != wanted.ports.keys() or (
                        seen.gateways != gateways
                    ):
                        await backend.changed()
                await asyncio.to_thread(central.nbctl, "--wait=hv", "sync")
                return backend.observe()
            finally:
                await backend.close()

        return asyncio.run(scene())


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with lab() as made:
        yield Scene(made)


def test_ports_and_gateway_are_seen_where_they_are(scene: Scene) -> None:
    seen = scene.apply(network())
    assert seen.ports_up == {"a": "h1", "b": "h2", "c": "h2", "d": "h2"}
    assert seen.gateways == {"leg-outer": "h1"}
    assert (seen.hosts, seen.problems) == ({"h1", "h2"}, [])
    assert scene.lab.central.complaints() == []


def test_a_switch_joins_its_ports_across_hosts(scene: Scene) -> None:
    scene.apply(network())
    assert reaches(scene.a, B)
    assert reaches(scene.a, "fd00:a::c")
    # The largest packet that fits goes through, whole: 1442 bytes.
    assert reaches(scene.a, B, "-M", "do", "-s", "1414")
    scene.apply(with_port(network(), "b", enabled=False))
    assert silent(scene.a, B)


def test_a_router_joins_switches(scene: Scene) -> None:
    scene.apply(network())
    assert reaches(scene.a, C)
    ports = {key: leg for key, leg in network().router_ports.items() if key != "leg-db"}
    scene.apply(replace(network(), router_ports=ports))
    assert silent(scene.a, C)


def test_dhcp_tells_what_the_record_says(scene: Scene) -> None:
    scene.apply(network())
    answer = scene.lab.dhcp(scene.d)
    assert f"ip={D}/24 router=10.0.0.1 mtu=1442 dns=192.0.2.53 domain=lab.example" in answer
    assert "routes=169.254.169.254/32 10.0.0.2 0.0.0.0/0 10.0.0.1" in answer
    scene.apply(replace(network(), dhcps={}))
    assert "ip=" not in scene.lab.dhcp(scene.d, seconds=4)


def test_only_what_a_rule_allows_comes_in_and_replies_always_do(scene: Scene) -> None:
    scene.apply(with_port(network(), "b", rule_sets=()))
    assert silent(scene.a, B)
    assert silent(scene.a, "fd00:a::c")
    assert silent(scene.b, A)
    scene.apply(with_rules(*OUT))
    assert silent(scene.a, B)
    own = (rule("own", remote_set="all"), rule("own6", family=6, remote_set="all"))
    scene.apply(with_rules(*OUT, *own))
    assert reaches(scene.a, B)
    assert reaches(scene.a, "fd00:a::c")
    # b lets nobody in, and gets its replies.
    only_out = RuleSet(key="out", name="", rules=OUT)
    base = with_rules(*OUT, *PING)
    base = replace(base, rule_sets=base.rule_sets | by_key(only_out))
    scene.apply(with_port(base, "b", rule_sets=("out",)))
    assert silent(scene.a, B)
    assert reaches(scene.b, A)


def test_the_outside_sees_the_routers_address(scene: Scene) -> None:
    scene.apply(network())
    # The outside has no way back to 10.0.0.0/24 but this address.
    assert reaches(scene.a, OUTSIDE)
    assert reaches(scene.b, OUTSIDE)
    scene.apply(replace(network(), nats={}))
    assert silent(scene.a, OUTSIDE)


def floating(*, distributed: bool) -> LogicalNetwork:
    nat = Nat(key="f", router="r", type="floating", external=FLOATING, internal=B, gateway_port="leg-outer")
    if distributed:
        nat = msgspec.structs.replace(nat, port="b", external_mac="fa:16:3e:02:00:01")
    return replace(network(), nats=network().nats | by_key(nat))


@pytest.mark.parametrize("distributed", [False, True])
def test_a_floating_address_leads_in(scene: Scene, distributed: bool) -> None:
    scene.apply(floating(distributed=distributed))
    scene.outside.ip("neigh", "flush", "dev", "eth0")
    assert reaches(scene.outside, FLOATING)
    assert ("fa:16:3e:02:00:01" in scene.outside.ip("neigh", "show", FLOATING)) == distributed
    scene.apply(network())
    assert silent(scene.outside, FLOATING)


@pytest.mark.parametrize("distributed", [False, True])
def test_what_is_too_large_for_the_overlay_is_answered(scene: Scene, distributed: bool) -> None:
    scene.apply(floating(distributed=distributed))
    scene.outside.ip("neigh", "flush", "dev", "eth0")
    scene.outside.ip("route", "flush", "cache")
    assert reaches(scene.outside, FLOATING)
    large = ("ping", "-c", "2", "-i", "0.3", "-W", "1", "-M", "do", "-s", "1472", FLOATING)
    wait_until(lambda: "mtu = 1442" in scene.outside.run(*large).stdout, "it is told what is too large")


def test_a_forged_address_does_not_leave_a_filtered_port(scene: Scene) -> None:
    scene.a.ip("addr", "add", "10.0.0.99/24", "dev", "eth0")
    try:
        scene.apply(network())
        assert reaches(scene.a, B, "-I", A)
        assert silent(scene.a, B, "-I", "10.0.0.99")
        scene.apply(with_port(network(), "a", allowed=None))
        assert reaches(scene.a, B, "-I", "10.0.0.99")
    finally:
        scene.a.ip("addr", "del", "10.0.0.99/24", "dev", "eth0")


RECEIVE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 68))
s.settimeout(20)
print("ready", flush=True)
while True:
    data = s.recv(100).decode()
    print(data, flush=True)
    if data == "end":
        break
"""
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", int(sys.argv[1])))
for _ in range(3):
    s.sendto(sys.argv[2].encode(), (sys.argv[3], 68))
"""


def received(sender: Space, receiver: Space, address: str) -> str:
    """What came of messages from the port of a DHCP server, and of others after them."""
    inside = ("ip", "netns", "exec", receiver.name, "python3", "-c", RECEIVE)
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        sender.run("python3", "-c", SEND, "67", "rogue", address)
        sender.run("python3", "-c", SEND, "66", "end", address)
        try:
            return process.communicate(timeout=25)[0]
        finally:
            process.kill()


@pytest.mark.parametrize("stateful", [True, False])
def test_a_filtered_port_is_no_dhcp_server(scene: Scene, stateful: bool) -> None:
    everything = (*OUT, rule("in"), rule("in6", family=6))
    scene.apply(with_rules(*everything, stateful=stateful))
    assert reaches(scene.a, B)
    assert received(scene.a, scene.b, B) == "end\n"
    scene.apply(with_port(with_rules(*everything, stateful=stateful), "a", allowed=None))
    assert received(scene.a, scene.b, B).startswith("rogue\n")
