"""What a policy says, done by a whole appliance: a manager, a dispatcher, two data planes, each a process.

| claim | and in reverse |
| --- | --- |
| services of all kinds meet their flows, whichever data plane has them | what no rule lets begin does not |
| so they do when the policy is another | and what it takes away ends |
| of a subscriber's port all see one, and other subscribers reach it there | who was not spoken to does not |
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import frames
import msgspec
import pytest
import unit_lab
from flows import Packet, Ping, Tcp, Udp, must_pass, must_stop
from probes import Space
from unit_lab import UnitLab, member

FAR = ("192.0.2.9", "fd00:b::9")
OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}
IN = {"name": "in", "from": "outside", "to": "inside", "destination": "published", "action": "accept"}
GROUPS = {"addresses": {"published": ["192.0.2.1", "192.0.2.2", "fd00:b::1"]}}
#: An address inside that is seen as another one.
STATIC = ("10.0.0.6", "192.0.2.2")
POLICY: dict[str, Any] = {
    "firewall": {"groups": GROUPS, "rules": [OUT, IN]},
    "nat": {
        "source": [{"from": "inside", "to": "outside", "addresses": ["192.0.2.1", "fd00:b::1"]}],
        "destination": [{"zone": "outside", "address": "192.0.2.1", "service": "tcp/80", "to": "10.0.0.5"}],
        "static": [{"inside": STATIC[0], "outside": STATIC[1]}],
        "carrier_grade": [
            {
                "from": "inside",
                "to": "outside",
                "subscribers": ["10.0.0.64/28"],
                "addresses": ["192.0.2.3"],
                "block": 4000,
            }
        ],
    },
    "balancer": {
        "listeners": [
            {
                "name": "six",
                "address": "fd00:b::1",
                "port": 90,
                "algorithm": "source_port",
                "members": [{"address": "fd00:a::5", "port": 8090}],
            },
            # Who answers there sees the appliance.
            *(
                {
                    "name": f"seen as {number}",
                    "address": address,
                    "port": 91,
                    "members": [{"address": near, "port": 8091}],
                    "masquerade": [own],
                }
                for number, (address, near, own) in enumerate(
                    (("192.0.2.1", "10.0.0.5", "10.0.0.1"), ("fd00:b::1", "fd00:a::5", "fd00:a::1"))
                )
            ),
        ]
    },
}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[UnitLab]:
    inside, outside = unit_lab.LEGS
    more = (*outside.addresses, "192.0.2.2/24", "192.0.2.3/24")
    monkeypatch.setattr(unit_lab, "LEGS", (inside, msgspec.structs.replace(outside, addresses=more)))
    with contextlib.closing(UnitLab(POLICY)) as made:
        made.client.ip(f"address add {STATIC[0]}/24 dev eth0", "address add 10.0.0.65/24 dev eth0")
        kinds = {1: "manager", 2: "dispatcher", 3: "data-plane", 4: "data-plane"}
        made.begin(*(member(number, kind) for number, kind in kinds.items()))
        yield made


def in_force(lab: UnitLab, revision: int) -> None:
    for plane in lab.of("data-plane"):
        plane.must_say(lambda status: status.policy_revision == revision and status.shards > 0, 30)


@pytest.mark.machine
def test_services_meet_their_flows_whichever_data_plane_has_them(lab: UnitLab) -> None:
    in_force(lab, 1)
    client, server = lab.client, lab.server
    gre = Packet(client, server, FAR[0], 47, lambda marker: bytes(4) + marker)
    # Each several times: flows are spread over the data planes.
    flows: list[Any] = []
    for _ in range(6):
        flows += [Ping(client, far) for far in FAR]
        flows += [Tcp(client, server, far, 81) for far in FAR]
        flows += [Udp(client, server, FAR[0], 7), Udp(client, server, FAR[1], 7)]
        flows += [Ping(client, FAR[0], source=STATIC[0]), Ping(server, STATIC[1])]
        flows += [Tcp(server, client, "192.0.2.1", 80), Tcp(server, client, "fd00:b::1", 90, listening=8090)]
        flows.append(Tcp(client, server, FAR[0], 81, source="10.0.0.65"))
    masked = [Tcp(server, client, at, 91, listening=8091) for at in ("192.0.2.1", "fd00:b::1") * 6]
    must_pass(*flows, *masked)
    assert {flow.seen_from for flow in masked} == {"10.0.0.1", "fd00:a::1"}
    seen = Udp(client, server, FAR[0], 7, source="10.0.0.65")
    must_pass(seen)
    assert seen.seen_from == "192.0.2.3"
    must_stop(gre, Tcp(server, client, "10.0.0.5", 80), control=flows[2])
    # Who is of neither network is nobody that answers could reach.
    with client.address("172.16.9.9/32") as v4, client.address("fd00:dead::9/128") as v6:
        forged = [
            Udp(client, server, far, 7, source=at, answered=False)
            for far, at in zip(FAR, (v4, v6), strict=True)
        ]
        must_stop(*forged, control=flows[2])
    packets = [plane.statuses[-1].packets for plane in lab.of("data-plane")]
    assert min(packets) > 0
    # What is taken away ends; the rest goes on.
    there, taken = Tcp(client, server, FAR[0], 82), Tcp(server, client, STATIC[1], 83)
    must_pass(taken)
    with there.connected() as connection:
        lab.set_policy({**POLICY, "nat": {**POLICY["nat"], "static": []}})
        in_force(lab, 2)
        must_stop(taken, control=connection)
        must_pass(connection, *flows[:4])


def bound(space: Space, address: str, port: int) -> socket.socket:
    made = space.open(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(5)
    made.bind((address, port))
    return made


@pytest.mark.machine
def test_subscribers_are_seen_as_one_end_and_reach_each_other_there(lab: UnitLab) -> None:
    in_force(lab, 1)
    client, server = lab.client, lab.server
    with contextlib.ExitStack() as stack:
        names = [f"10.0.0.{64 + number}" for number in range(8)]
        for name in names:
            if name != "10.0.0.65":
                stack.enter_context(client.address(f"{name}/24"))
        ears = [stack.enter_context(bound(server, "192.0.2.9", port)) for port in range(7000, 7006)]
        near = [stack.enter_context(bound(client, name, 6000)) for name in names]
        outer: list[tuple[str, int]] = []
        for number, end in enumerate(near):
            seen = set()
            for ear in ears:
                end.sendto(b"who am I?", ear.getsockname())
                _, whom = ear.recvfrom(100)
                ear.sendto(b"this", whom)
                assert end.recv(100) == b"this"
                seen.add(whom)
            # RFC 4787, 4.1: one mapping, whoever is spoken to; the ports are those of the subscriber.
            assert len(seen) == 1
            outer += seen
            first = 1024 + 4000 * number
            assert outer[-1][0] == "192.0.2.3"
            assert first <= outer[-1][1] < first + 4000
        # RFC 4787, 6: by outer addresses they reach each other, as soon as both speak; and go on for long.
        for one, other in ((0, 1), (2, 5), (6, 3), (7, 4)):
            near[one].sendto(b"first", outer[other])
            near[other].sendto(b"hello", outer[one])
            assert near[one].recvfrom(100) == (b"hello", outer[other])
            for turn in range(20):
                near[one].sendto(b"and %d" % turn, outer[other])
                assert near[other].recvfrom(100) == (b"and %d" % turn, outer[one])
                near[other].sendto(b"so %d" % turn, outer[one])
                assert near[one].recvfrom(100) == (b"so %d" % turn, outer[other])
        # In pieces, too.
        long = bytes(4000)
        near[3].sendto(long, outer[6])
        near[6].sendto(long, outer[3])
        assert near[3].recvfrom(5000) == (long, outer[6])
        must_pass(*(Ping(client, "192.0.2.3", source=name) for name in names))
        # Nobody outside is taken for one of them, though what they say needs no kernel by now.
        (port0, port1) = (outer[0][1], outer[1][1])
        for end, to in ((near[0], outer[1]), (near[1], outer[0])):
            end.sendto(b"again", to)
        assert {near[0].recv(100), near[1].recv(100)} <= {b"again", b"so 19", b"and 19"}
        for end in near[:2]:
            end.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while True:
                    end.recv(100)
        mac = "02:0d:00:00:01:02"
        spoofed = frames.udp((port0, port1), b"forged", "192.0.2.3", "192.0.2.3")
        packet = frames.ipv4("192.0.2.3", "192.0.2.3", 17, spoofed)
        for _ in range(3):
            for end, to in ((near[0], outer[1]), (near[1], outer[0])):
                end.sendto(b"again", to)
            with server.frames() as raw:
                raw.send(frames.ethernet(mac, "02:00:00:00:00:99", 0x0800, packet))
        near[1].settimeout(1.0)
        heard = set()
        with contextlib.suppress(TimeoutError):
            while True:
                heard.add(near[1].recv(100))
        assert heard == {b"again"}
        # Who was not spoken to reaches nobody, and nothing goes round for ever.
        # Units say once a second what they have counted.
        time.sleep(1.5)
        before = sum(unit.statuses[-1].packets for unit in lab.units.values() if unit.statuses)
        near[0].sendto(b"nobody asked", outer[7])
        near[7].settimeout(1.5)
        with pytest.raises(TimeoutError):
            near[7].recv(100)
        after = sum(unit.statuses[-1].packets for unit in lab.units.values() if unit.statuses)
        assert after - before < 20
        # From outside nobody comes by such an address but who was spoken to.
        with bound(server, "192.0.2.9", 9999) as stranger:
            stranger.sendto(b"let me in", outer[7])
            with pytest.raises(TimeoutError):
                near[7].recv(100)
