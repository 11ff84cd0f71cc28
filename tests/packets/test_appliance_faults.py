"""An appliance on three hosts when things go wrong: where it ends, what is told of it, what flows see.

| fault | where it ends, told by `show`; no byte of a connection is lost |
| --- | --- |
| the out-of-band bus is cut, and it is to shrink | DEGRADED: who is not reached; it shrinks when that ends |
| the in-band bus is cut between dispatchers | DEGRADED: who is not heard; one of them serves, not both |
| both managers die while it grows | no manager leads; then it is as large as it is to be |
| a dispatcher dies while a data plane leaves and a policy is set | as it was asked to be |
| a data plane dies while another comes and a policy is set | as it was asked to be; no claim of flows |
| the hosts are full | refused by the name of the field; it is as it was |
| an agent is killed while a unit of its host is drained | the unit is gone, another one came |

| a tenant tries | and in reverse |
| --- | --- |
| units' own addresses, by way of the legs | units reach each other there |
| labels of the in-band bus | a unit's are answered |
| hosts and what they listen at, through the appliance | hosts reach it; the tenant reaches what it may |
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cloud import Cloud
from fault_lab import kill, pid_of
from flows import Tcp, must_pass
from probes import Space, wait_for
from tenants import Tenant
from test_appliances import HOST, PATIENCE, Edge

from trunkline.devices import namespace
from trunkline.devices.lab import Topology
from trunkline.traffic.pair import Traffic
from trunkline.traffic.plans import FarPlan, NearPlan

pytestmark = pytest.mark.machine

PORT = 7000
CHANNEL = ("10.99.0.10", 8443)
#: units/fabric.bpf.c, `struct probe` with the header before it.
LABEL, PROBE, ECHO = 0x88B5, 5, 6
FRAME = struct.Struct("!6sBBBBHH6sBBI8III")


@pytest.fixture(scope="module")
def edge(tenant: Tenant, internet: Space) -> Iterator[Edge]:
    """With three data planes, and two of each other kind: each host has some of them."""
    made = Edge(tenant, internet, data_planes=3, dispatchers=2, managers=2, cu_size=0.1)
    made.set_policy("tcp/8000", "tcp/8080")
    is_calm(made, 3)
    try:
        yield made
    finally:
        made.delete()


def is_calm(edge: Edge, planes: int) -> None:
    """Has it have so many; returns when each has its part, and each dispatcher a leg."""

    def calm() -> bool:
        shown, units = edge.show(), edge.units()
        told = {u["number"]: u["observed"] for u in units}
        there = [u["number"] for u in units if u["kind"] == "data-plane"]
        shards = [told[number].get("shards", 0) for number in there]
        return (
            shown["status"] == "ACTIVE"
            and not shown["conditions"]
            and len(there) == planes
            and sum(shards) == 256
            and max(shards) - min(shards) <= 1
            and len(units) == planes + 4
            and sorted(len(u.get("serves", ())) for u in told.values())[-2:] == [1, 1]
        )

    if edge.show()["data_planes"] != planes:
        edge.scale(planes)
    wait_for(calm, PATIENCE, f"it is ACTIVE with {planes} data planes", edge.life)


@contextlib.contextmanager
def flows(edge: Edge) -> Iterator[Traffic]:
    """Connections through it, of which each byte is compared: none breaks in the block, nor at its end."""
    plan = NearPlan(targets=(f"{HOST}:8000",), connections=60, every=0.3, silent=30.0)
    far = {edge.internet.netns: FarPlan(listen=(f"{HOST}:8000",))}
    with Traffic(near=edge.probe.netns, plan=plan, far=far) as traffic:
        assert traffic.ready().refused == 0
        # What has only just begun is nobody else's yet.
        wait_for(traffic.live, PATIENCE, "they have been there for a while")
        yield traffic
        assert traffic.end().broken == {}, edge.events()


def told(edge: Edge, status: str, *words: str) -> None:
    """`show` says so, in the end."""

    def says() -> bool:
        shown = edge.show()
        return shown["status"] == status and all(word in str(shown["conditions"]) for word in words)

    wait_for(says, PATIENCE, f"it is told: {status}, {words}", edge.life)


def host_of(edge: Edge, unit: dict[str, Any]) -> str:
    """Where a unit is; for administrators alone."""
    cloud = edge.tenant.cloud
    path = f"{cloud.url}/appliance/v1/appliances/{edge.id}/units"
    units = cloud.admin.session.get(path).json()["units"]
    return str(next(each["host"] for each in units if each["id"] == unit["id"]))


@contextlib.contextmanager
def cut(edge: Edge, bus: str, host: str) -> Iterator[None]:
    """One bus of the appliance, "bus" or "control", does not pass the cable of a host; the other one does."""
    cloud = edge.tenant.cloud
    buses = cloud.namespace(f"{host}-b-{edge.id[:8]}")
    shown = subprocess.run(
        ["ip", "-n", buses, "-json", "-details", "link", "show", "dev", f"{bus}-x"],
        capture_output=True,
        check=True,
        timeout=10,
    )
    number = json.loads(shown.stdout)[0]["linkinfo"]["info_data"]["id"]
    vxlan = f"udp dport 4790 @th,96,24 {number} drop"
    table = f"cut-{bus}"
    rules = f'iifname "b-{host}" {vxlan}; oifname "b-{host}" {vxlan};'
    switch = Space(Topology(cloud.state.load()).underlay)
    nft(switch, f"table bridge {table} {{ chain c {{ type filter hook forward priority 0; {rules} }}; }}")
    try:
        yield
    finally:
        nft(switch, f"delete table bridge {table}")


def nft(space: Space, text: str) -> None:
    done = space.run("nft", text)
    assert done.returncode == 0, done.stderr


def die(edge: Edge, *units: dict[str, Any]) -> None:
    for unit in units:
        if pid := edge.process_of(unit):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# Faults.


def test_a_cut_of_the_in_band_bus_is_told_and_one_dispatcher_serves(edge: Edge) -> None:
    is_calm(edge, 3)
    planes = {host_of(edge, unit) for unit in edge.units("data-plane")}
    at = {host_of(edge, unit): unit["number"] for unit in edge.units("dispatcher")}
    # With a dispatcher and a data plane on one side, and another dispatcher and two data planes on the other.
    host = next(name for name in sorted(at) if name in planes)

    def serves(number: int, legs: int) -> bool:
        here = next(unit for unit in edge.units() if unit["number"] == number)
        return len(here["observed"].get("serves", ())) == legs

    with flows(edge):
        with cut(edge, "bus", host):
            told(edge, "DEGRADED", f"unit {at[host]} (dispatcher)", "on the in-band bus")
            wait_for(lambda: serves(at[host], 0), PATIENCE, "the one that is cut off serves nothing")
            (other,) = (number for name, number in at.items() if name != host)
            wait_for(lambda: serves(other, 2), PATIENCE, "the other one serves")
            must_pass(Tcp(edge.probe, edge.internet, HOST, 8080))
        is_calm(edge, 3)


def test_a_cut_of_the_out_of_band_bus_is_told_and_what_waited_for_it_is_done_then(edge: Edge) -> None:
    is_calm(edge, 3)
    (leader,) = (unit for unit in edge.units("manager") if unit["observed"].get("leads"))
    with flows(edge):
        with cut(edge, "control", host_of(edge, leader)):
            edge.scale(2)
            told(edge, "DEGRADED", "the manager does not reach unit", "out-of-band bus")
            must_pass(Tcp(edge.probe, edge.internet, HOST, 8080))
        is_calm(edge, 2)


def test_managers_die_while_it_grows_and_it_has_grown_in_the_end(edge: Edge) -> None:
    is_calm(edge, 2)
    with flows(edge):
        die(edge, *edge.units("manager"))
        edge.scale(3)
        told(edge, "DEGRADED", "no manager leads")
        is_calm(edge, 3)


def test_a_dispatcher_dies_while_a_data_plane_leaves_and_a_policy_comes(edge: Edge) -> None:
    is_calm(edge, 3)
    with flows(edge):
        edge.scale(2)
        edge.set_policy("tcp/8000", "tcp/8080", "tcp/9090")
        die(edge, edge.units("dispatcher")[0])
        is_calm(edge, 2)
        must_pass(Tcp(edge.probe, edge.internet, HOST, 9090))


def test_a_data_plane_dies_while_another_comes_and_a_policy_does(edge: Edge) -> None:
    is_calm(edge, 2)
    edge.scale(3)
    edge.set_policy("tcp/8000", "tcp/8080")
    die(edge, edge.units("data-plane")[0])
    is_calm(edge, 3)
    must_pass(Tcp(edge.probe, edge.internet, HOST, 8080))


def test_hosts_that_are_full_are_named_and_it_is_as_it_was(edge: Edge) -> None:
    is_calm(edge, 3)
    before = {unit["id"] for unit in edge.units()}
    with flows(edge):
        path = f"{edge.tenant.cloud.url}/appliance/v1/appliances/{edge.id}"
        body = {"appliance": {"data_planes": 60}}
        reply = edge.tenant.api.session.put(path, json=body, raise_exc=False)
        error = reply.json()["error"]
        assert (reply.status_code, error["field"]) == (409, "data_planes")
        assert "no host has room for one more data-plane" in error["message"]
        assert (edge.show()["data_planes"], {unit["id"] for unit in edge.units()}) == (3, before)
        assert edge.show()["status"] == "ACTIVE"


def test_an_agent_dies_in_the_middle_of_a_drain(edge: Edge, cloud: Cloud) -> None:
    is_calm(edge, 3)
    unit = edge.units("data-plane")[0]
    agent = f"{host_of(edge, unit)}-agent"
    with flows(edge):
        edge._ask("POST", f"/{edge.id}/units/{unit['number']}/drain")
        killed = kill(cloud, agent)
        wait_for(lambda: pid_of(cloud, agent) not in (0, killed), PATIENCE, "the agent runs again")
        is_calm(edge, 3)
    assert unit["id"] not in {each["id"] for each in edge.units()}


# What a tenant tries.


def addresses(edge: Edge) -> list[str]:
    """Where units hear managers, and agents are not."""
    found = []
    for unit in edge.units():
        name = namespace.of_process(edge.process_of(unit))
        shown = subprocess.run(
            ["nsenter", f"--net={namespace.path(name)}", "--", "ip", "-json", "-6", "address"],
            capture_output=True,
            check=True,
            timeout=10,
        )
        has = [a["local"] for link in json.loads(shown.stdout) for a in link.get("addr_info", ())]
        found += [address for address in has if address.startswith("fd74:6c:")]
    assert len(found) == len(edge.units())
    return found


def answers(make: Callable[[], socket.socket], address: str, port: int) -> bool:
    """Whether somebody is there, who may refuse."""
    with make() as tcp:
        tcp.settimeout(1.0)
        try:
            tcp.connect((address, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


def among(make: Callable[[], socket.socket], *ends: tuple[str, int]) -> list[tuple[str, int]]:
    """Those of them where somebody is."""
    with ThreadPoolExecutor(len(ends)) as pool:
        there = list(pool.map(lambda end: answers(make, *end), ends))
    return [end for end, here in zip(ends, there, strict=True) if here]


def from_unit(edge: Edge, kind: str, family: int) -> Callable[[], socket.socket]:
    """Sockets in the namespace of a unit."""
    name = namespace.of_process(edge.process_of(edge.units(kind)[0]))
    return lambda: namespace.inside(name, lambda: socket.socket(family, socket.SOCK_STREAM))


def leg_mac(edge: Edge) -> str:
    """Of the dispatcher that serves the leg inside."""
    edge.probe.run("ping", "-c1", "-W1", edge.shown["inside_addresses"][0])
    shown = edge.probe.run("ip", "-json", "neighbor", "show", edge.shown["inside_addresses"][0]).stdout
    return str(json.loads(shown)[0]["lladdr"])


def test_no_unit_is_reached_at_its_own_address_by_way_of_a_leg(edge: Edge) -> None:
    is_calm(edge, 3)
    ends, probe = [(address, PORT) for address in addresses(edge)], edge.probe
    assert among(from_unit(edge, "data-plane", socket.AF_INET6), *ends) == ends
    hop = "fe80::aaaa"
    with edge.tenant.trusted(probe):
        must_pass(Tcp(probe, edge.internet, HOST, 8080))
        probe.ip(
            "address replace fd74:6c:ffff::5/128 dev eth0 nodad",
            f"neighbor replace {hop} lladdr {leg_mac(edge)} dev eth0 nud permanent",
            f"route replace fd74:6c::/32 via {hop} dev eth0 onlink",
        )
        try:
            reached = among(lambda: probe.open(socket.AF_INET6, socket.SOCK_STREAM), *ends)
        finally:
            probe.ip(
                "route delete fd74:6c::/32",
                f"neighbor delete {hop} dev eth0",
                "address delete fd74:6c:ffff::5/128 dev eth0",
            )
        assert reached == []
        must_pass(Tcp(probe, edge.internet, HOST, 8080))


def asked(frames: socket.socket, own: bytes, to: bytes, unit: int) -> bool:
    """Whether a probe of the in-band bus is answered that is sent to this address as this unit."""
    zeros = (0,) * 11
    frame = FRAME.pack(to, 0x02, PROBE, 0, unit, 0, LABEL, own, 0, 0, *zeros)
    frames.settimeout(0.5)
    frames.send(frame)
    with contextlib.suppress(TimeoutError):
        while True:
            heard = frames.recv(2000)
            if heard[12:14] == LABEL.to_bytes(2) and heard[7] == ECHO and heard[:6] == own:
                return True
    return False


def test_labels_of_the_in_band_bus_mean_nothing_on_a_leg(edge: Edge) -> None:
    is_calm(edge, 3)
    plane, dispatcher = edge.units("data-plane")[0], edge.units("dispatcher")[0]

    def bus(unit: dict[str, Any]) -> socket.socket:
        digits = unit["id"].replace("-", "")[:11]
        return Space(namespace.of_process(edge.process_of(unit)), f"tlb{digits}").frames()

    with bus(plane) as near, bus(dispatcher) as far:
        own, to = near.getsockname()[4], far.getsockname()[4]
        wait_for(lambda: asked(near, own, to, plane["number"]), PATIENCE, "a unit's probe is answered")
    with edge.tenant.trusted(edge.probe):
        must_pass(Tcp(edge.probe, edge.internet, HOST, 8080))
        mine = bytes.fromhex(edge.probe.mac.replace(":", ""))
        leg = bytes.fromhex(leg_mac(edge).replace(":", ""))
        with edge.probe.frames() as frames:
            for target in (leg, to, b"\xff" * 6):
                assert not asked(frames, mine, target, plane["number"])
        must_pass(Tcp(edge.probe, edge.internet, HOST, 8080))


def test_no_host_is_reached_through_it_nor_from_its_legs(edge: Edge, cloud: Cloud) -> None:
    edge.set_policy("tcp")
    is_calm(edge, 3)
    must_pass(Tcp(edge.probe, edge.internet, HOST, 8080))
    host = Space(cloud.namespace("h1"))
    assert answers(lambda: host.open(socket.AF_INET, socket.SOCK_STREAM), *CHANNEL)
    ends = [
        CHANNEL,
        *((f"10.{net}.0.{101 + n}", port) for net in (98, 99) for n in range(3) for port in (22, 6642)),
    ]
    tries = {
        "tenant": lambda: edge.probe.open(socket.AF_INET, socket.SOCK_STREAM),
        "dispatcher": from_unit(edge, "dispatcher", socket.AF_INET),
        "data plane": from_unit(edge, "data-plane", socket.AF_INET),
    }
    for who, make in tries.items():
        assert among(make, *ends) == [], who
