"""Connections that are moved from one kernel's table to another go on, whatever is translated.

| claim | and in reverse |
| --- | --- |
| connections through a router go on through another that was given its entries | without, they end |
| ... with sources or targets translated, both families | |
| only those with a wanted mark are given | |
| what comes, changes and goes is told | |
| an entry is kept for as long as is said, and again as long as is usual | |
| of one that was told when it began, as if it were established, the rest passes elsewhere | else not |
| those that began since some time are given | others are not |
| what has a mark is given, and dropped, by the kernel's own search | |
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import pytest
from flows import Connection, Tcp, must_pass
from probes import Space, wait_for

from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack, Event, Watch, timeouts

pytestmark = pytest.mark.machine
TAG = f"ct{os.getpid()}"
INSIDE, OUTSIDE = ("10.0.0.{}", "fd00:a::{}"), ("192.0.2.{}", "fd00:b::{}")
#: Each router translates to PORTS of its own, as data planes do: so nothing goes on by chance.
RULES = """
table inet t {
  chain marks { type filter hook prerouting priority -150; ct mark set 7; }
  chain only { type filter hook forward priority 0; policy drop;
    ct state established accept
    ct state new iifname "in" accept
    ct state new ct status dnat accept
  }
  chain sources { type nat hook postrouting priority 100;
    oifname "out" meta nfproto ipv4 meta l4proto { tcp, udp } snat ip to 192.0.2.1:PORTS
    oifname "out" meta nfproto ipv6 meta l4proto { tcp, udp } snat ip6 to [fd00:b::1]:PORTS
  }
  chain targets { type nat hook prerouting priority -100;
    iifname "out" tcp dport 8080 dnat ip to 10.0.0.5:80
  }
}
"""


class Scene:
    """A client inside and a server outside, and between them two routers; one is in use."""

    def __init__(self) -> None:
        self.client, self.server, self.switch = (Space(f"{TAG}-{name}", "eth0") for name in "cse")
        self.routers = [Space(f"{TAG}-r{n}", "in") for n in (1, 2)]
        namespace.create(*(space.netns for space in self.all()))
        self.switch.ip(*(f"link add name {side} type bridge" for side in ("in", "out")))
        self.switch.ip(*(f"link set dev {side} up" for side in ("in", "out")))
        self._plug(self.client, "eth0", "in", "02:00:00:00:00:05", [a.format(5) for a in INSIDE])
        self._plug(self.server, "eth0", "out", "02:00:00:00:01:09", [a.format(9) for a in OUTSIDE])
        for n, router in enumerate(self.routers, 1):
            self._plug(router, "in", "in", f"02:00:00:00:00:f{n}", [a.format(1) for a in INSIDE])
            self._plug(router, "out", "out", f"02:00:00:00:01:f{n}", [a.format(1) for a in OUTSIDE])
            namespace.sysctl(
                router.netns,
                [
                    ("ipv4/ip_forward", 1),
                    ("ipv6/conf/all/forwarding", 1),
                    ("netfilter/nf_conntrack_tcp_be_liberal", 1),
                ],
            )
            router.run("nft", "-f", "-", input=RULES.replace("PORTS", f"{n}000-{n}063"))
            router.ip(
                *(f"neigh replace {a.format(5)} lladdr 02:00:00:00:00:05 dev in" for a in INSIDE),
                *(f"neigh replace {a.format(9)} lladdr 02:00:00:00:01:09 dev out" for a in OUTSIDE),
            )
        self.client.ip(*(f"route add default via {a.format(1)}" for a in INSIDE))

    def all(self) -> list[Space]:
        return [self.client, self.server, self.switch, *self.routers]

    def _plug(self, space: Space, device: str, side: str, mac: str, addresses: list[str]) -> None:
        port = f"{space.netns[-2:]}-{device}"
        namespace.ip(
            self.switch.netns,
            f"link add name {port} type veth peer name {device} address {mac} netns {space.netns}",
            f"link set dev {port} master {side} up",
        )
        given = (f"{a}/64 dev {device} nodad" if ":" in a else f"{a}/24 dev {device}" for a in addresses)
        space.ip(f"link set dev {device} up", *(f"address add {address}" for address in given))
        namespace.checksums_in_software(space.netns, device)

    def by(self, number: int) -> None:
        """From now on packets go by that router."""
        for space, side, addresses in ((self.client, 0, INSIDE), (self.server, 1, OUTSIDE)):
            mac = f"02:00:00:00:0{side}:f{number}"
            space.ip(*(f"neigh replace {a.format(1)} lladdr {mac} dev {space.device}" for a in addresses))

    @contextlib.contextmanager
    def table(self, number: int) -> Iterator[Conntrack]:
        table = Conntrack(self.routers[number - 1].netns)
        try:
            yield table
        finally:
            table.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    try:
        made = Scene()
        made.by(1)
        yield made
    finally:
        namespace.delete(*namespace.names(f"{TAG}-"))


def opened(scene: Scene, stack: contextlib.ExitStack) -> list[Connection]:
    """One out in each family, and one in by a published address."""
    client, server = scene.client, scene.server
    out = [Tcp(client, server, address.format(9), 80) for address in OUTSIDE]
    into = Tcp(server, client, OUTSIDE[0].format(1), 8080, listening=80)
    return [stack.enter_context(flow.connected()) for flow in (*out, into)]


def test_connections_go_on_where_their_entries_went(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        before, after = stack.enter_context(scene.table(1)), stack.enter_context(scene.table(2))
        connections = opened(scene, stack)
        must_pass(*connections)
        assert after.put(before.entries(lambda mark: mark == 8)) == []
        assert after.entries() == []
        for _ in ("new", "there already"):
            assert after.put(before.entries(lambda mark: mark == 7)) == []
        scene.by(2)
        must_pass(*connections)


def test_without_their_entries_they_end(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        connections = opened(scene, stack)
        must_pass(*connections)
        scene.by(2)
        # What goes to one address and port for ever, another router takes up in the middle.
        assert [connection.once() for connection in connections] == [False, False, True]


def test_what_is_dropped_is_known_no_longer(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(scene.table(1))
        connections = opened(scene, stack)
        must_pass(*connections)
        table.drop(table.entries())
        assert table.entries() == []
        table.drop([])


def test_what_becomes_of_connections_is_told(scene: Scene) -> None:
    watch = Watch(scene.routers[0].netns)
    heard: list[Event] = []

    def told(gone: bool) -> bool:
        heard.extend(watch.events())
        return any(event.gone == gone and event.entry.mark == 7 for event in heard)

    try:
        with Tcp(scene.client, scene.server, OUTSIDE[0].format(9), 80).connected(), scene.table(1) as table:
            wait_for(lambda: told(gone=False), 5, "that it came")
            assert not told(gone=True)
            assert [event.entry for event in heard][-1].mark == 7
            table.drop(table.entries())
            wait_for(lambda: told(gone=True), 5, "that it went")
    finally:
        watch.close()


def test_an_entry_is_kept_as_long_as_is_said(scene: Scene) -> None:
    days = 10 * 24 * 3600
    with contextlib.ExitStack() as stack:
        before, after = stack.enter_context(scene.table(1)), stack.enter_context(scene.table(2))
        must_pass(*opened(scene, stack))
        entries = before.entries()
        for _ in ("new", "there already"):
            assert after.put(entry.lasting(days) for entry in entries) == []
            assert {entry.timeout for entry in after.entries()} <= {days, days - 1}
        usual = namespace.inside(scene.routers[1].netns, timeouts)
        after.change(entry.timeout_alone(usual(entry)) for entry in after.entries())
        assert {entry.timeout for entry in after.entries()} <= {432_000, 432_000 - 1}
        assert {entry.name for entry in after.entries()} == {entry.name for entry in entries}
        assert all(entry.tcp_state == 3 for entry in after.entries())


@pytest.mark.parametrize("as_established", [True, False])
def test_what_is_told_when_it_begins_may_be_further(scene: Scene, as_established: bool) -> None:
    namespace.sysctl(scene.routers[1].netns, [("netfilter/nf_conntrack_tcp_loose", 0)])
    watch = Watch(scene.routers[0].netns)
    try:
        flow = Tcp(scene.client, scene.server, OUTSIDE[0].format(9), 80)
        with flow.connected() as connection, scene.table(2) as after:
            must_pass(connection)
            first = wait_for(watch.events, 5, "that it came")[0].entry
            assert first.tcp_state == 1 != first.opened.tcp_state
            assert first.opened.opened == first.opened
            assert after.put([first.opened if as_established else first]) == []
            usual = namespace.inside(scene.routers[1].netns, timeouts)
            # Until it is seen that it is more than that, it ends as what has only begun.
            assert usual(first.opened) < 200
            scene.by(2)
            assert connection.once() is as_established
            if as_established:
                must_pass(connection)
                (there,) = after.entries()
                assert usual(there) == 432_000
    finally:
        watch.close()


def test_what_began_since_some_time_is_given(scene: Scene) -> None:
    namespace.sysctl(scene.routers[0].netns, [("netfilter/nf_conntrack_timestamp", 1)])
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(scene.table(1))
        must_pass(*opened(scene, stack))
        between = time.time()
        later = stack.enter_context(Tcp(scene.client, scene.server, OUTSIDE[0].format(9), 81).connected())
        must_pass(later)
        assert len(table.entries()) == 4
        (found,) = table.begun(between, lambda mark: mark == 7)
        assert found in table.entries()
        assert table.begun(between, lambda mark: mark == 8) == []


def test_the_kernel_finds_what_has_a_mark(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(scene.table(1))
        must_pass(*opened(scene, stack))
        entries = table.entries()
        named = {entry.name for entry in entries}
        assert {entry.name for entry in table.marked(7, 0xFFFF)} == named
        assert table.marked(8, 0xFFFF) == []
        (found,) = table.find([entries[0].name])
        assert found.mark == 7
