"""Connections that end in data planes' sockets, while data planes come and go.

| claim | and in reverse |
| --- | --- |
| what is kept and what takes long goes on through growth, a change of policy, and the way back | |
| who leaves stays until its last connection has ended | |
| a data plane that is killed takes its own connections with it | those of the others go on |
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator

import pytest
from probes import wait_for
from test_units_proxy import POLICY, SOON, Balanced
from unit_lab import member as unit
from web_members import PIECE, Client

from trunkline.devices.conntrack import Conntrack
from trunkline.plan.shards import SHARDS
from trunkline.units.local import LOCAL

pytestmark = pytest.mark.machine
#: A request on each kept connection so often, seconds.
PAUSE = 0.3


class Kept:
    """A connection on which requests are made, one after the other, until it is `over` or broken."""

    def __init__(self, web: Balanced, path: str) -> None:
        self._web = web
        self.client: Client = wait_for(self._made, SOON, "a connection is made")
        self.answers, self.trouble = 0, ""
        self._path, self._over = path, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self.client.port

    def _made(self) -> Client | None:
        with contextlib.suppress(OSError):
            return self._web.client(patience=30.0)
        return None

    def _ask(self) -> None:
        want = int(self._path.rpartition("/")[2] or 0) * len(PIECE)
        try:
            while not self._over.wait(PAUSE):
                answer = self.client.get(self._path)
                assert answer.status == 200
                assert not want or len(answer.body) == want
                self.answers += 1
                if answer.headers.get("connection") == "close":
                    # It was asked to come by another one (RFC 9112, 9.6): nothing is broken.
                    self.client.close()
                    self.client = wait_for(self._made, SOON, "another connection is made")
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.trouble = repr(error)

    def end(self) -> None:
        """After the request that is under way."""
        self._over.set()
        self._thread.join(60)
        self.client.close()


class Moving(Balanced):
    def settle(self, *planes: int) -> None:
        """These have all shards, each a part: which, depends on where connections end."""

        def settled() -> bool:
            last = [self.lab.units[number].statuses[-1:] for number in planes]
            parts = [status.shards for some in last for status in some]
            return len(parts) == len(planes) and sum(parts) == SHARDS and min(parts) > 50

        wait_for(settled, SOON, f"{planes} have all shards")

    def begin(self, kept: list[Kept], count: int = 12) -> None:
        kept += [Kept(self, "/long/60" if n % 3 == 0 else "/") for n in range(count)]

    def begin_at(self, kept: list[Kept], *planes: int) -> None:
        """As many, and some more until each of these has some: what begins while shards move does so where
        they come from.
        """
        self.begin(kept)

        def each_has() -> bool:
            if all(map(self.ports, planes)):
                return True
            time.sleep(PAUSE)
            self.begin(kept, 3)
            return False

        wait_for(each_has, SOON, f"{planes} have some")

    def must_go_on(self, kept: list[Kept]) -> None:
        """Each is answered once more."""
        before = [each.answers for each in kept]

        def on() -> bool:
            assert not [each.trouble for each in kept if each.trouble]
            return all(each.answers > answers for each, answers in zip(kept, before, strict=True))

        wait_for(on, SOON, "all go on")

    def ports(self, number: int) -> set[int]:
        """Those of clients whose connections end at a data plane."""
        netns = f"/proc/{self.lab.units[number].process.pid}/ns/net"
        with contextlib.closing(Conntrack(netns)) as conntrack:
            entries = conntrack.marked(LOCAL, LOCAL)
        return {
            int.from_bytes(entry.name[44:46], "big")
            for entry in entries
            if entry.protocol == 6 and int.from_bytes(entry.name[52:54], "big") == 80
        }


@pytest.fixture
def moving() -> Iterator[Moving]:
    with contextlib.ExitStack() as stack:
        yield Moving(stack, POLICY, planes=1)


def test_connections_stay_where_their_sockets_are(moving: Moving) -> None:
    kept: list[Kept] = []
    moving.settle(1)
    moving.begin(kept)
    moving.lab.begin(unit(2, "data-plane"), unit(3, "data-plane"))
    moving.settle(1, 2, 3)
    moving.must_go_on(kept)
    moving.begin_at(kept, 2, 3)
    moving.lab.set_policy({**POLICY, "firewall": {"rules": [], "default": "accept"}})
    moving.in_force()
    moving.must_go_on(kept)
    moving.lab.leave(2)
    moving.lab.leave(3)
    # Shards of which connections end elsewhere may not come back before those have ended.
    wait_for(lambda: moving.lab.units[1].statuses[-1].shards > 128, SOON, "most shards are back")
    moving.must_go_on(kept)
    manager = moving.lab.units[240]
    assert not {2, 3} & {*manager.statuses[-1].empty}
    moving.must_go_on(kept)
    for each in kept:
        each.end()
    assert not [each.trouble for each in kept if each.trouble]


def test_who_is_killed_takes_its_own_with_it(moving: Moving) -> None:
    moving.lab.begin(unit(2, "data-plane"))
    moving.settle(1, 2)
    kept: list[Kept] = []
    moving.begin_at(kept, 2)
    own = {each.port for each in kept} & moving.ports(2)
    assert own | moving.ports(1) >= {each.port for each in kept}
    moving.lab.kill(2)
    moving.must_go_on([each for each in kept if each.port not in own])
    # And who comes is served.
    moving.must_answer()
    for each in kept:
        each.end()
