"""Data planes and a dispatcher, as they run on a host; the test is their manager.

| claim | and in reverse |
| --- | --- |
| connections go on when shards are moved by words: TCP, UDP, ICMP, both families, translated both ways | |
| ... and when their data plane is killed, for its seconds have copies | what ended at the owner has none |
| a copy goes on with the usual timeouts where it is the owner's | |
| a policy that is prepared, or refused, changes nothing; one that is committed does, and breaks nothing | |
| what began at the owner is not changed by what the former one had left of it | what it was told of is |
| news that were lost are made good | |
| who comes by a leg does not reach the out-of-band bus | |
"""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from flows import PATIENCE, Connection, Flow, Ping, Tcp, must_pass, must_stop
from probes import Space, wait_for
from unit_lab import LEGS, RunningUnit, UnitLab, member

from trunkline.devices import namespace
from trunkline.devices.conntrack import Conntrack, Entry
from trunkline.errors import Refusal
from trunkline.plan.shards import SHARDS
from trunkline.units.words import (
    NOBODY,
    PORT,
    Commit,
    Done,
    Entries,
    Forget,
    Hand,
    Lead,
    Prepare,
    Shards,
    ShardWord,
    Word,
)

pytestmark = pytest.mark.machine
DISPATCHER, PLANES = 200, (1, 2, 3)
OUTSIDE = ("192.0.2.9", "fd00:b::9")
OUT = {"name": "out", "from": "inside", "to": "outside", "action": "accept"}
IN = {"name": "in", "from": "outside", "destination": "192.0.2.1", "service": "tcp/80", "action": "accept"}
NAT = {
    "source": [{"from": "inside", "to": "outside", "addresses": ["192.0.2.1"], "ports": "2048-18431"}],
    "destination": [
        {"zone": "outside", "address": "192.0.2.1", "service": "tcp/80", "to": "10.0.0.5", "port": 8080}
    ],
}
POLICY = {"firewall": {"rules": [OUT, IN]}, "nat": NAT}
#: Nothing begins any more but to port 81.
NARROW = {"firewall": {"rules": [OUT | {"service": "tcp/81"}]}, "nat": NAT}
#: Longer than any kernel keeps what it sees nothing of: as long as copies are kept, at least.
COPY = 6 * 24 * 3600
_ask = msgspec.msgpack.Encoder().encode
_answer = msgspec.msgpack.Decoder(Word).decode


class Datagrams:
    """A flow of UDP that stays: words one way and back, between two sockets."""

    def __init__(self, client: Space, server: Space, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._client, self._server = (space.open(family, socket.SOCK_DGRAM) for space in (client, server))
        self._server.bind((address, port))
        self._client.connect((address, port))
        for one in (self._client, self._server):
            one.settimeout(PATIENCE)
        self._name, self._numbers = f"UDP at {address} port {port}", itertools.count()
        self._seen: Any = None

    def __repr__(self) -> str:
        return self._name

    def close(self) -> None:
        self._client.close()
        self._server.close()

    def once(self) -> bool:
        words = b"%d" % next(self._numbers)
        try:
            self._client.send(words)
            while True:
                heard, seen = self._server.recvfrom(100)
                if heard == words:
                    break
            # Translated to another port it would be another flow.
            self._seen = self._seen or seen
            assert seen == self._seen
            self._server.sendto(words, seen)
            while self._client.recv(100) != words:
                pass
        except OSError:
            return False
        return True


class Managed:
    """A lab with data planes and a dispatcher, and words to them."""

    def __init__(self, *planes: int) -> None:
        self.lab = UnitLab({})
        self._numbers = itertools.count(1)
        self._wires: dict[int, socket.socket] = {}
        self.table: list[ShardWord] = []
        try:
            self.lab.switch.ip("address add fd00:74:6c::ffff/64 dev control nodad")
            kinds = dict.fromkeys(planes, "data-plane") | {DISPATCHER: "dispatcher"}
            self.lab.begin(*(member(number, kind) for number, kind in kinds.items()))
            for number in planes:
                self.unit(number).must_say(lambda status: bool(status.incarnation), 20)
            self.apply(POLICY, 1)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()
        self.lab.close()

    def unit(self, number: int) -> RunningUnit:
        return self.lab.units[number]

    def ask(self, number: int, word: Any, *values: Any) -> None:
        """Raises Refusal: the unit did not do it."""
        wire = self._wires.get(number)
        if wire is None:
            address = self.lab.members[number].control_address
            wire = self._wires[number] = wait_for(lambda: self._connected(address), 20, f"{number} listens")
            wire.settimeout(30)
            self.ask(number, Lead, 1, 255)
        n = next(self._numbers)
        said = _ask(word(n, *values))
        wire.sendall(struct.pack("!I", len(said)) + said)
        while True:
            (length,) = struct.unpack("!I", wire.recv(4, socket.MSG_WAITALL))
            heard = _answer(wire.recv(length, socket.MSG_WAITALL))
            if isinstance(heard, Done) and heard.n == n:
                if heard.problem:
                    raise Refusal(heard.problem)
                return

    def _connected(self, address: str) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return namespace.inside(
                self.lab.switch.netns, lambda: socket.create_connection((address, PORT), 5)
            )
        return None

    def apply(self, document: dict[str, Any], revision: int) -> None:
        for word in ((Prepare, revision, document), (Commit, revision)):
            for number in self.lab.units:
                self.ask(number, *word)

    def have(self, *words: ShardWord) -> None:
        """Everybody is told who has these shards, seconds first; then owners give them what they have."""
        seconds = [ShardWord(word.shard, NOBODY, word.second) for word in words]
        for number, unit in self.lab.units.items():
            if unit.process.poll() is None and number != DISPATCHER:
                self.ask(number, Shards, [word for word in seconds if word.second == number])
        for number, unit in self.lab.units.items():
            if unit.process.poll() is None:
                self.ask(number, Shards, words)
        for owner, second in {(word.owner, word.second) for word in words}:
            if self.unit(second).process.poll() is None:
                shards = [word.shard for word in words if (word.owner, word.second) == (owner, second)]
                self.ask(owner, Hand, shards, second)

    def begin(self, table: list[ShardWord]) -> None:
        self.table = table
        self.have(*table)
        # Who does not know whose the shards are serves no leg.
        self.unit(DISPATCHER).must_say(lambda status: len(status.serves) == len(LEGS), 20)

    def move(self, shards: list[int], to: int, second: int) -> None:
        """As a manager does; one unit has them all."""
        (before,) = {self.table[shard].owner for shard in shards}
        if second != before:
            self.ask(second, Shards, [ShardWord(shard, to, second) for shard in shards])
        self.ask(to, Shards, [ShardWord(shard, to, second, before) for shard in shards])
        self.ask(before, Hand, shards, to)
        words = [ShardWord(shard, to, second) for shard in shards]
        self.ask(DISPATCHER, Shards, words)
        self.ask(before, Hand, shards, to)
        self.ask(to, Shards, words)
        if second != before:
            self.ask(before, Forget, shards)
        self.have(*words)
        for word in words:
            self.table[word.shard] = word

    def netns(self, number: int) -> str:
        return f"/proc/{self.unit(number).process.pid}/ns/net"

    def known(self, number: int) -> dict[bytes, Entry]:
        """The connections in a unit's kernel, by name. Its namespace is held no longer than that takes."""
        with contextlib.closing(Conntrack(self.netns(number))) as conntrack:
            return {entry.name: entry for entry in conntrack.entries()}

    def end(self, number: int, protocol: int) -> None:
        """The unit's kernel knows no connections of a protocol any more."""
        with contextlib.closing(Conntrack(self.netns(number))) as conntrack:
            conntrack.drop(entry for entry in conntrack.entries() if entry.protocol == protocol)

    def copied(self) -> None:
        """Waits until each connection is known to the owner of its shard, and to the second."""

        def all_are() -> bool:
            planes = [unit for unit in self.lab.of("data-plane") if unit.process.poll() is None]
            known = {unit.own.number: self.known(unit.own.number) for unit in planes}
            for word in self.table:
                owned, seconds = (
                    {name for name, entry in known.get(unit, {}).items() if entry.mark == word.shard}
                    for unit in (word.owner, word.second)
                )
                if word.second in known and owned != seconds:
                    return False
            return True

        wait_for(all_are, 20, "all connections are copied")

    def flows(self, stack: contextlib.ExitStack, count: int = 6) -> list[Flow]:
        client, server = self.lab.client, self.lab.server
        tcp = [Tcp(client, server, address, 80) for address in OUTSIDE for _ in range(count)]
        tcp += [Tcp(server, client, "192.0.2.1", 80, listening=8080) for _ in range(count)]
        made: list[Flow] = [stack.enter_context(self.connected(flow)) for flow in tcp]
        for address, port in itertools.product(OUTSIDE, range(7000, 7000 + count)):
            made.append(stack.enter_context(contextlib.closing(Datagrams(client, server, address, port))))
        return made

    @contextlib.contextmanager
    def connected(self, flow: Tcp) -> Iterator[Connection]:
        """Made when it can be: the first packets of all may wait for a neighbour."""
        with contextlib.ExitStack() as stack:

            def made() -> Connection | None:
                with contextlib.suppress(OSError):
                    return stack.enter_context(flow.connected())
                return None

            yield wait_for(made, 20, f"{flow} is connected")


@contextlib.contextmanager
def managed(*planes: int) -> Iterator[Managed]:
    with contextlib.closing(Managed(*planes)) as made:
        yield made


def spread(planes: tuple[int, ...], seed: int = 1) -> list[ShardWord]:
    chance = random.Random(seed)
    return [ShardWord(shard, *chance.sample(planes, 2)) for shard in range(SHARDS)]


def test_connections_go_on_when_shards_move_and_when_their_data_plane_dies() -> None:
    with managed(*PLANES) as cloud, contextlib.ExitStack() as stack:
        cloud.begin(spread(PLANES))
        flows = cloud.flows(stack)
        pings = [Ping(cloud.lab.client, address) for address in OUTSIDE]
        must_pass(*flows, *pings)
        chance = random.Random(7)
        # Those that flows are in.
        used = sorted({entry.mark for n in PLANES for entry in cloud.known(n).values()})
        moved = 0
        while moved < 50:
            owner, to, third = chance.sample(PLANES, 3)
            shards = [shard for shard in used if cloud.table[shard].owner == owner]
            shards = chance.sample(shards, min(5, len(shards)))
            if shards:
                cloud.move(shards, to, chance.choice((owner, third)))
                moved += len(shards)
                must_pass(*flows)
        must_pass(*flows, *pings)
        cloud.copied()
        for number in PLANES:
            cloud.end(number, socket.IPPROTO_ICMPV6)
        cloud.copied()
        rest = [
            (n, e.timeout, cloud.table[e.mark])
            for n in PLANES
            for e in cloud.known(n).values()
            if e.protocol == socket.IPPROTO_ICMPV6
        ]
        assert rest == []
        statuses = [cloud.unit(n).must_say(lambda status: status.shards > 0) for n in PLANES]
        assert sum(status.shards for status in statuses) == SHARDS
        said = "".join(unit.log.read_text() for unit in cloud.lab.of("data-plane"))
        assert "not taken" not in said
        must_pass(*flows)
        cloud.copied()
        cloud.unit(2).kill()
        must_pass(*flows)
        # Flows are known to whoever has them now; what was a copy is none any more.
        left = [n for n in PLANES if n != 2]
        alive = [word for word in cloud.table if 2 in (word.owner, word.second)]
        words = [ShardWord(w.shard, *sorted(left, key=lambda n: n not in (w.owner, w.second))) for w in alive]
        cloud.begin([{word.shard: word for word in words}.get(word.shard, word) for word in cloud.table])

        def usual() -> bool:
            known = [(n, entry) for n in left for entry in cloud.known(n).values()]
            return all((e.timeout < COPY) == (cloud.table[e.mark].owner == n) for n, e in known)

        wait_for(usual, 20, "only copies are kept longer than is usual")
        cloud.copied()


def test_a_policy_is_in_force_when_it_is_committed_and_breaks_nothing() -> None:
    with managed(1, 2) as cloud, contextlib.ExitStack() as stack:
        cloud.begin([ShardWord(shard, 1 + shard % 2, 2 - shard % 2) for shard in range(SHARDS)])
        flows = cloud.flows(stack, 2)
        new = [Tcp(cloud.lab.client, cloud.lab.server, address, 82) for address in OUTSIDE]
        allowed = [Tcp(cloud.lab.client, cloud.lab.server, address, 81) for address in OUTSIDE]
        must_pass(*flows, *new, *allowed)
        for number in (1, 2):
            cloud.ask(number, Prepare, 2, NARROW)
            with pytest.raises(Refusal, match=r"firewall\.rules\[0\]"):
                cloud.ask(number, Prepare, 3, {"firewall": {"rules": [OUT | {"to": "nowhere"}]}})
            # What was ready is not any more: the newest is no policy.
            for revision in (2, 3):
                with pytest.raises(Refusal, match="not ready"):
                    cloud.ask(number, Commit, revision)
            assert (
                cloud.unit(number).must_say(lambda status: bool(status.policy_revision)).policy_revision == 1
            )
        must_pass(*new)
        for revision in range(4, 14):
            cloud.apply(POLICY if revision % 2 else NARROW, revision)
            must_pass(*flows)
        must_pass(*new, *allowed)
        cloud.apply(NARROW, 14)
        # The out-of-band bus is nobody's to reach, whatever is allowed.
        bus = [Ping(cloud.lab.client, member(number, "data-plane").control_address) for number in (1, 2)]
        must_stop(*new, *bus, control=allowed[0])
        must_pass(*flows, *allowed)
        for number in cloud.lab.units:
            cloud.unit(number).must_say(lambda status: status.policy_revision == 14)
        planes = list(cloud.lab.of("data-plane"))

        def dropped() -> bool:
            return sum(unit.statuses[-1].drops.get("default", 0) for unit in planes) >= 6

        wait_for(dropped, 20, "what the rules drop is counted")


def test_what_began_here_is_not_what_a_former_owner_had() -> None:
    """A client may use a port anew for which the former owner has what is left of a connection."""
    with managed(1, 2) as cloud, contextlib.ExitStack() as stack:
        cloud.begin([ShardWord(shard, 2, 1) for shard in range(SHARDS)])
        client, server = cloud.lab.client, cloud.lab.server
        before = stack.enter_context(cloud.connected(Tcp(client, server, OUTSIDE[1], 80)))
        cloud.copied()
        (old,) = [entry for entry in cloud.known(2).values() if entry.protocol == socket.IPPROTO_TCP]
        comes = [ShardWord(shard, 1, 2, 2) for shard in range(SHARDS)]
        for number in (1, DISPATCHER):
            cloud.ask(number, Shards, comes)
        after = stack.enter_context(cloud.connected(Tcp(client, server, OUTSIDE[1], 80)))
        known = [entry for entry in cloud.known(1).values() if entry.protocol == socket.IPPROTO_TCP]
        (new,) = [entry for entry in known if entry.name != old.name]
        said = [(entry.mark, entry.lasting(5).told) for entry in (old, new)]
        cloud.ask(1, Entries, said, [], [])
        assert cloud.known(1)[old.name].timeout <= 5
        assert cloud.known(1)[new.name].timeout > 1000
        must_pass(before, after)
        # When it is all here, nobody else has anything of it, and what is told is so.
        cloud.ask(1, Shards, [ShardWord(shard, 1, 2) for shard in range(SHARDS)])
        cloud.ask(1, Entries, said, [], [])
        assert cloud.known(1)[new.name].timeout <= 5


def test_news_that_were_lost_are_made_good() -> None:
    with managed(1, 2) as cloud, contextlib.ExitStack() as stack:
        cloud.begin([ShardWord(shard, 1, 2) for shard in range(SHARDS)])
        namespace.sysctl(cloud.netns(1), [("netfilter/nf_conntrack_udp_timeout", 300)])
        flows = cloud.flows(stack, 2)
        must_pass(*flows)
        unit = cloud.unit(1)
        with contextlib.closing(cloud.lab.client.open(socket.AF_INET6, socket.SOCK_DGRAM)) as many:
            # The kernel has more to tell than it has room for while nobody reads.
            unit.process.send_signal(signal.SIGSTOP)
            for port in range(10_000, 26_000):
                with contextlib.suppress(OSError):
                    many.sendto(b"", (OUTSIDE[1], port))
            unit.process.send_signal(signal.SIGCONT)
        wait_for(lambda: "could be read" in unit.log.read_text() or None, 20, "that something was lost")
        cloud.copied()
        assert len(cloud.known(2)) > 15_000
        cloud.unit(1).kill()
        must_pass(*flows)
