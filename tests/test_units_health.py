"""Members that come and go, behind data planes: new connections go to those that answer, old ones go on.

| claim | and in reverse |
| --- | --- |
| a member that is down gets no new connection, and comes back | connections that began with others go on |
| who stands in answers when all others are down | with nobody left nothing begins, and it is told |
| a source stays with its member when another one goes | |
| who is not allowed does not come in, and no more come than may | |
| connections, bytes and who was not let in are counted, and add up | |
| who has fewer connections gets the next ones | |
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from probes import wait_for
from test_units_dataplane import Managed, managed, spread

from trunkline.resources.reports import ListenerCount

PLANES = (1, 2)
VIP, PORT = "192.0.2.1", 80
HEALTH = {"kind": "tcp", "interval": 0.3, "timeout": 0.3, "rise": 2, "fall": 2}
ADDRESSES = ("10.0.0.5", "10.0.0.6", "10.0.0.7")
SOON = 60.0


def policy(**listener: Any) -> dict[str, Any]:
    members = [{"address": address, "port": 8080, "backup": n == 2} for n, address in enumerate(ADDRESSES)]
    given = {"name": "web", "address": VIP, "port": PORT, "members": members, "health": HEALTH}
    rules = [{"name": "all", "action": "accept"}]
    return {"firewall": {"rules": rules}, "balancer": {"listeners": [given | listener]}}


class Members:
    """Servers inside, that say who they are; `stop` and `start` one."""

    def __init__(self, cloud: Managed) -> None:
        self._cloud = cloud
        self._ears: dict[str, socket.socket] = {}
        self._wires: list[socket.socket] = []
        self.revision = 1
        for address in ADDRESSES[1:]:
            cloud.lab.client.ip(f"address add {address}/24 dev eth0")
        for address in ADDRESSES:
            self.start(address)

    def start(self, address: str) -> None:
        ear = self._ears[address] = self._cloud.lab.client.open(socket.AF_INET, socket.SOCK_STREAM)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind((address, 8080))
        ear.listen(100)
        threading.Thread(target=self._serve, args=(ear, address), daemon=True).start()

    def stop(self, address: str) -> None:
        """Nobody listens there any more; connections that are there go on."""
        ear = self._ears.pop(address)
        with contextlib.suppress(OSError):
            ear.shutdown(socket.SHUT_RDWR)
        ear.close()

    def _serve(self, ear: socket.socket, address: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = ear.accept()
                self._wires.append(wire)
                threading.Thread(target=self._answer, args=(wire, address), daemon=True).start()

    @staticmethod
    def _answer(wire: socket.socket, address: str) -> None:
        with contextlib.suppress(OSError), wire:
            while wire.recv(100):
                wire.sendall(address.encode())

    def set(self, **listener: Any) -> None:
        self.revision += 1
        self._cloud.apply(policy(**listener), self.revision)

    def close(self) -> None:
        for address in [*self._ears]:
            self.stop(address)
        for wire in self._wires:
            wire.close()

    def connect(self, port: int = PORT, patience: float = 5.0) -> socket.socket:
        """To the listener; raises OSError."""
        wire = self._cloud.lab.server.open(socket.AF_INET, socket.SOCK_STREAM)
        wire.settimeout(patience)
        try:
            wire.connect((VIP, port))
        except OSError:
            wire.close()
            raise
        return wire

    def answers(self, count: int) -> list[str]:
        """Who answers so many new connections; "" for one that nobody does."""
        found = []
        for _ in range(count):
            try:
                with self.connect(patience=0.3) as wire:
                    found.append(said(wire))
            except OSError:
                found.append("")
        return found

    def must_be(self, *members: str) -> None:
        """Soon all of these answer, and nobody else."""
        wait_for(lambda: {*self.answers(8)} == {*members}, SOON, f"{members} answer")

    def states(self, *states: str) -> None:
        for unit in self._cloud.lab.of("data-plane"):
            unit.must_say(lambda status: [*status.members.values()] == [*states], SOON)


def said(wire: socket.socket) -> str:
    wire.sendall(b"?")
    return wire.recv(100).decode()


@pytest.fixture(scope="module")
def cloud() -> Iterator[Managed]:
    with managed(*PLANES) as made:
        made.begin(spread(PLANES))
        yield made


@pytest.fixture(scope="module")
def members(cloud: Managed) -> Iterator[Members]:
    with contextlib.closing(Members(cloud)) as made:
        yield made


pytestmark = pytest.mark.machine


def test_a_member_that_is_down_gets_nothing_new(cloud: Managed, members: Members) -> None:
    one, two, three = ADDRESSES
    members.set()
    members.states("up", "up", "up")
    members.must_be(one, two)
    with contextlib.ExitStack() as stack:
        old = [stack.enter_context(contextlib.closing(members.connect())) for _ in range(8)]
        who = [said(wire) for wire in old]
        assert {*who} == {one, two}
        members.stop(one)
        members.states("down", "up", "up")
        members.must_be(two)
        members.stop(two)
        members.states("down", "down", "up")
        members.must_be(three)
        members.stop(three)
        members.states("down", "down", "down")
        members.must_be("")
        for unit in cloud.lab.of("data-plane"):
            unit.must_say(lambda status: "leads nowhere" in "".join(p.what for p in status.problems))
            told = {event.what: event.cause for event in unit.statuses[-1].events}
            assert "refused" in told[f"Member web//{one}:8080 is down."]
        for address in (three, one):
            members.start(address)
        members.states("up", "down", "up")
        members.must_be(one)
        members.start(two)
        members.must_be(one, two)
        assert [said(wire) for wire in old] == who


def test_a_source_stays_when_another_member_goes(members: Members, cloud: Managed) -> None:
    one, two, three = ADDRESSES
    both = [{"address": address, "port": 8080} for address in ADDRESSES]
    members.set(algorithm="source", members=both)
    members.states("up", "up", "up")

    def one_answers() -> str | None:
        # What is known of a member comes to the kernel a moment after it is told.
        found = {*members.answers(6)}
        return found.pop() if len(found) == 1 else None

    mine = wait_for(lambda: one_answers() or None, SOON, "one answers")
    other = next(address for address in (one, two, three) if address != mine)
    members.stop(other)
    members.states(*("down" if address == other else "up" for address in ADDRESSES))
    assert {*members.answers(6)} == {mine}
    members.start(other)
    members.states("up", "up", "up")


def test_no_more_come_than_may_and_only_who_may(members: Members) -> None:
    members.set(allowed=["198.51.100.0/24"])
    members.must_be("")
    members.set(allowed=["198.51.100.0/24", "192.0.2.9"], connections=4)
    wait_for(lambda: "" not in members.answers(1), SOON, "it may come")
    with contextlib.ExitStack() as stack:
        there = 0
        for _ in range(12):
            with contextlib.suppress(OSError):
                stack.enter_context(contextlib.closing(members.connect(patience=0.3)))
                there += 1
        # Each data plane has its part of them.
        assert 1 <= there <= 4


def counted(cloud: Managed, name: str = "web") -> ListenerCount:
    """What all data planes count together."""
    found = [unit.statuses[-1].listeners.get(name, ListenerCount()) for unit in cloud.lab.of("data-plane")]
    return sum(found, ListenerCount())


def test_what_comes_is_counted(cloud: Managed, members: Members) -> None:
    members.set(name="shop", port=81)
    members.states("up", "up", "up")
    before = counted(cloud, "shop")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(contextlib.closing(members.connect(81))) for _ in range(10)]
        for wire in wires:
            for _ in range(10):
                said(wire)

        def all_are() -> bool:
            now = counted(cloud, "shop")
            there = (now.connections, now.total - before.total)
            # A hundred packets each way, with their headers.
            return there == (10, 10) and min(now.bytes_in, now.bytes_out) > 4000

        wait_for(all_are, SOON, "ten connections are counted")
    members.set(name="shop", port=81, allowed=["198.51.100.0/24"])
    for _ in range(3):
        with pytest.raises(TimeoutError):
            members.connect(81, patience=0.3)

    def ended() -> bool:
        now = counted(cloud, "shop")
        return now.connections == 0 and now.errors >= 3 and now.total - before.total == 10

    wait_for(ended, SOON, "they have ended, and three were not let in")


def test_who_has_fewer_connections_gets_the_next(cloud: Managed, members: Members) -> None:
    one, two, _ = ADDRESSES
    alone = [{"address": one, "port": 8080}]
    members.set(algorithm="least_connections", members=alone)
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            wire = stack.enter_context(contextlib.closing(members.connect()))
            assert said(wire) == one
        members.set(algorithm="least_connections", members=[*alone, {"address": two, "port": 8080}])
        members.states("up", "up")
        wait_for(lambda: {*members.answers(4)} == {two}, SOON, "the other one gets all")
