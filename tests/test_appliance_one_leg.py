"""A balancer with a single leg: clients, members and their router are all on its one network.

    client ── router ──┬── balancer 192.0.2.1, as its members see it 192.0.2.2
    10.0.0.5      .9   └── members .21, .22: their default route is the router

| claim | and in reverse |
| --- | --- |
| clients from elsewhere, on the network, and members themselves reach members, who see the balancer | |
| connections go on while data planes come and go | |
| what comes for no listener | is not forwarded |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import unit_lab
from flows import Tcp, Udp, must_pass, must_stop
from probes import Space, wait_for
from unit_lab import TAG, UnitLab, member

from trunkline.compiler.unit_slices import AdvertisedSlice, LegSlice
from trunkline.devices import namespace
from trunkline.plan.shards import SHARDS
from trunkline.traffic.pair import Traffic
from trunkline.traffic.plans import FarPlan, NearPlan

#: Nobody is to be reached there through the balancer.
ELSEWHERE = "198.51.100.7"
ROUTER = "fe80::7:1"
LEG = LegSlice(
    zone="outside",
    outside=True,
    addresses=("192.0.2.1/24", "192.0.2.2/24", "fd00:b::1/64", "fd00:b::2/64", "192.0.3.2/24"),
    advertised=AdvertisedSlice(
        router=ROUTER, prefixes=(("fd00:c::/64", True), ("fd00:b::/64", False)), other=True, mtu=1400
    ),
    routes=(("0.0.0.0/0", "192.0.2.9"), (f"{ELSEWHERE}/32", "192.0.2.21"), ("::/0", "fd00:b::9")),
    mtu=1442,
)
MEMBERS = ("192.0.2.{}", "fd00:b::{}")
#: How long whatever is to happen may take, on a machine that has no time.
SOON = 60.0


def listener(protocol: str, net: str) -> dict[str, Any]:
    return {
        "name": f"{protocol}{net.count(':')}",
        "address": net.format(1),
        "protocol": protocol,
        "port": 80,
        "members": [{"address": net.format(number), "port": 8000} for number in (21, 22)],
        "masquerade": [net.format(2)],
    }


#: On the leg's second subnet, with no way elsewhere.
BESIDE = "192.0.3.21"
PINGED = {"port": 81, "health": {"kind": "ping", "interval": 1, "timeout": 1}}
SECOND = {
    "name": "second",
    "address": "192.0.2.1",
    "members": [{"address": BESIDE, "port": 8000}],
    "masquerade": ["192.0.2.2", "192.0.3.2"],
    **PINGED,
}
SIXTH = {
    "name": "sixth",
    "address": "fd00:b::1",
    "members": [{"address": "fd00:b::21", "port": 8000}],
    "masquerade": ["fd00:b::2"],
    **PINGED,
}
POLICY = {
    "balancer": {"listeners": [listener(p, net) for p in ("tcp", "udp") for net in MEMBERS] + [SECOND, SIXTH]}
}


def made_router(lab: UnitLab) -> Space:
    """The server of the lab, between both networks."""
    router = lab.server
    router.ip("route delete 10.0.0.0/24 via 192.0.2.1", "route delete fd00:a::/64 via fd00:b::1")
    lab.switch.ip(
        f"link add router type veth peer name eth1 netns {router.netns}",
        "link set dev router master inside up",
    )
    router.ip(
        f"link set dev eth1 mtu {LEG.mtu} up",
        "address add 10.0.0.1/24 dev eth1",
        "address add fd00:a::1/64 dev eth1 nodad",
        f"route add {ELSEWHERE}/32 via 192.0.2.1",
    )
    settings: list[tuple[str, str | int]] = [("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)]
    settings += [(f"ipv4/conf/{name}/send_redirects", 0) for name in ("all", "eth0")]
    namespace.sysctl(router.netns, settings)
    return router


def on_the_leg(lab: UnitLab, name: str, *settings: tuple[str, str | int]) -> Space:
    """One more host on the leg's network; its interface is not up yet."""
    space = Space(f"{TAG}-{name}")
    namespace.create(space.netns)
    namespace.sysctl(space.netns, list(settings))
    lab.switch.ip(
        f"link add {name} type veth peer name eth0 netns {space.netns}",
        f"link set dev {name} master outside up",
    )
    return space


def made_members(lab: UnitLab) -> Space:
    space = on_the_leg(lab, "members")
    space.ip(f"link set dev eth0 mtu {LEG.mtu} up", f"address add {ELSEWHERE}/32 dev eth0")
    for number in (21, 22):
        space.ip(
            f"address add 192.0.2.{number}/24 dev eth0", f"address add fd00:b::{number}/64 dev eth0 nodad"
        )
    space.ip("route add default via 192.0.2.9", "route add default via fd00:b::9")
    return space


@pytest.fixture(scope="module")
def lab() -> Iterator[UnitLab]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unit_lab, "LEGS", (LEG,))
        with contextlib.closing(UnitLab(POLICY)) as made:
            kinds = {1: "manager", 2: "dispatcher", 3: "data-plane", 4: "data-plane"}
            made.begin(*(member(number, kind) for number, kind in kinds.items()))
            yield made


@pytest.fixture(scope="module")
def router(lab: UnitLab) -> Space:
    return made_router(lab)


@pytest.fixture(scope="module")
def members(lab: UnitLab) -> Space:
    return made_members(lab)


@pytest.fixture(scope="module")
def beside(lab: UnitLab) -> Space:
    space = on_the_leg(lab, "beside")
    space.ip(f"link set dev eth0 mtu {LEG.mtu} up", f"address add {BESIDE}/24 dev eth0")
    return space


def share_out(lab: UnitLab, *numbers: int) -> None:
    """Returns when these data planes have all shards."""
    low, high = SHARDS // len(numbers), -(-SHARDS // len(numbers))
    for number in numbers:
        lab.units[number].must_say(lambda s: low <= s.shards <= high and s.policy_revision > 0, SOON)


@pytest.mark.machine
def test_members_see_the_balancer_wherever_the_client_is(lab: UnitLab, router: Space, members: Space) -> None:
    share_out(lab, 3, 4)
    for net in MEMBERS:
        for space in (lab.client, router, members):
            # Several times each: flows are spread over the data planes.
            flows = [Tcp(space, members, net.format(1), 80, listening=8000) for _ in range(4)]
            flows.append(Udp(space, members, net.format(1), 80, listening=8000))
            must_pass(*flows)
            assert {flow.seen_from for flow in flows} == {net.format(2)}
    web = Tcp(lab.client, members, "192.0.2.1", 80, listening=8000)
    must_stop(Udp(lab.client, members, ELSEWHERE, 7, answered=False), control=web)


@pytest.mark.machine
def test_members_on_a_second_subnet_see_the_balancer_there(
    lab: UnitLab, router: Space, members: Space, beside: Space
) -> None:
    share_out(lab, 3, 4)

    up = {f"second//{BESIDE}:8000": "up", "sixth//[fd00:b::21]:8000": "up"}

    def is_up() -> bool:
        return all(lab.units[number].statuses[-1].members == up for number in (3, 4))

    wait_for(is_up, SOON, "members answer pings", lambda: str(lab.units[3].statuses[-1].members))
    for space in (lab.client, router, members):
        flows = [Tcp(space, beside, "192.0.2.1", 81, listening=8000) for _ in range(3)]
        must_pass(*flows)
        assert {flow.seen_from for flow in flows} == {"192.0.3.2"}


@pytest.mark.machine
def test_hosts_learn_their_prefix_and_their_way_out(lab: UnitLab) -> None:
    share_out(lab, 3, 4)
    # It asks when it is there, and goes by what its kernel makes of the answer.
    settings = [("ipv6/conf/default/accept_ra", 2), ("ipv6/conf/default/accept_dad", 0)]
    space = on_the_leg(lab, "host", *settings)
    space.ip("link set dev eth0 address 02:00:00:00:00:07 up")
    formed = "fd00:c::ff:fe00:7/64"
    wait_for(
        lambda: formed in space.run("ip", "-6", "address", "show", "dev", "eth0").stdout, SOON, "an address"
    )
    routes = space.run("ip", "-6", "route", "show", "dev", "eth0").stdout
    (way,) = [line for line in routes.splitlines() if line.startswith("default")]
    assert (f"via {ROUTER} " in way, "mtu 1400" in way or "mtu 1400" in routes) == (True, True), routes
    assert {line.split()[0] for line in routes.splitlines()} >= {"fd00:c::/64", "fd00:b::/64"}
    # Whoever is the router answers for that address.
    assert "64 bytes" in space.run("ping", "-6", "-c1", "-W5", f"{ROUTER}%eth0").stdout


@pytest.mark.machine
def test_connections_go_on_while_data_planes_come_and_go(lab: UnitLab, router: Space, members: Space) -> None:
    share_out(lab, 3, 4)
    targets = tuple(f"{each}:80" for each in ("192.0.2.1", "[fd00:b::1]"))
    listen = tuple(f"{net}:8000" for n in (21, 22) for net in (f"192.0.2.{n}", f"[fd00:b::{n}]"))
    plan = NearPlan(targets=targets, connections=200, flows=4, every=0.5, silent=30.0)
    with Traffic(near=lab.client.netns, plan=plan, far={members.netns: FarPlan(listen=listen)}) as traffic:
        assert traffic.ready().refused == 0
        lab.begin(member(5, "data-plane"))
        share_out(lab, 3, 4, 5)
        for number in (3, 5):
            lab.leave(number)
            lab.units[1].must_say(lambda status, gone=number: gone in status.empty, SOON)
            lab.kill(number)
            del lab.members[number]
            lab.tell_all()
        share_out(lab, 4)
        began = traffic.mark("one is left").at

        def answers() -> bool:
            live = traffic.live()
            return live is not None and live.at > began + 1.0 and live.connections.count > 0 < live.answered

        wait_for(answers, SOON, "answers")
        assert not traffic.broken()
