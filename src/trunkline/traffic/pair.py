"""Both ends, started in network namespaces, and what they said, put together.

with Traffic(near="client", plan=NearPlan(...), far={"server": FarPlan(...)}) as traffic:
    traffic.ready()
    traffic.mark("a data plane is killed")
    ...
    result = traffic.end()
assert not result.broken
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from trunkline.devices import namespace
from trunkline.errors import Unavailable
from trunkline.traffic import plans
from trunkline.traffic.plans import FarPlan, NearPlan
from trunkline.traffic.words import (
    Altered,
    Broken,
    Delays,
    End,
    FarTotal,
    Gap,
    Listening,
    Live,
    Mark,
    Marked,
    Moved,
    NearTotal,
    Period,
    Refused,
    Returned,
    SetUp,
    Word,
)

W = TypeVar("W", bound=msgspec.Struct)
S = TypeVar("S", SetUp, Live, NearTotal, FarTotal)


@dataclass(frozen=True)
class Result:
    """What became of the traffic."""

    near: NearTotal
    #: Of the far ends that were not killed; None where none is left.
    far: FarTotal | None
    #: By connection: what either end saw, in the order in which it was seen. The near end sees all that
    #: broke; where the far end saw a wrong byte too, it was wrong on the way there.
    broken: Mapping[int, tuple[Broken, ...]]
    refused: tuple[Refused, ...]
    returned: tuple[Returned, ...]
    gaps: tuple[Gap, ...]
    altered: tuple[Altered, ...]
    moved: tuple[Moved, ...]

    def period(self, mark: str) -> Period:
        """The first that is called so; "" is what was before all marks."""
        return next(period for period in self.near.periods if period.name == mark)

    def mark_at(self, when: float) -> str:
        """The mark that held at a time; "" before all marks."""
        return next((each.name for each in reversed(self.near.periods) if each.began <= when), "")


class Traffic:
    """Owns both ends' processes, for as long as the block. One thread may use it."""

    def __init__(self, *, near: str, plan: NearPlan, far: Mapping[str, FarPlan]) -> None:
        """`near`, and the keys of `far`, are network namespaces."""
        self._near_place, self._plan, self._far_plans = near, plan, far
        self._nears: list[_Side] = []
        self._fars: list[_Side] = []

    def __enter__(self) -> Traffic:
        try:
            for place, plan in self._far_plans.items():
                self._fars += [_Side(place, "far", each) for each in _far(plan, self._plan)]
            for side in self._fars:
                side.heard(Listening, 20.0)
            self._nears += [_Side(self._near_place, "near", each) for each in _near(self._plan)]
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for side in (*self._nears, *self._fars):
            side.close()

    def ready(self, seconds: float = 60.0) -> SetUp:
        """When all connections were made or refused. Raises Unavailable where that takes longer."""
        deadline = time.monotonic() + seconds
        return together([near.heard(SetUp, deadline - time.monotonic()) for near in self._nears])

    def mark(self, name: str) -> Marked:
        """Returns when whatever happens now is counted for this name."""
        now = time.monotonic()
        for near in self._nears:
            near.tell(Mark(name=name))
        marked = [near.heard(Marked, 20.0, lambda marked: marked.at >= now) for near in self._nears]
        return max(marked, key=lambda each: each.at)

    def live(self) -> Live | None:
        """How it stood last; None in the first second."""
        last = [said[-1] for near in self._nears if (said := near.all(Live))]
        return together(last) if len(last) == len(self._nears) else None

    def broken(self) -> dict[int, tuple[Broken, ...]]:
        """Those that broke until now, as in `Result`."""
        found: dict[int, tuple[Broken, ...]] = {}
        for broken in sorted(self._said(Broken), key=lambda broken: broken.at):
            found[broken.connection] = (*found.get(broken.connection, ()), broken)
        return found

    def kill_far(self, place: str) -> None:
        """The far end there is no more; the kernel tells those who are connected."""
        for side in self._fars:
            if side.place == place:
                side.killed = True
                side.process.kill()

    def far_processes(self, place: str) -> list[int]:
        """The ids of the far ends' processes there."""
        return [side.process.pid for side in self._fars if side.place == place]

    def end(self) -> Result:
        """Ends the traffic; answers on their way are waited for."""
        for side in self._nears:
            side.tell(End())
        totals = [near.heard(NearTotal, self._plan.silent + 20.0) for near in self._nears]
        for side in self._nears:
            side.process.wait(20)
        left = [side for side in self._fars if not side.killed]
        for side in left:
            side.tell(End())
        fars = [side.heard(FarTotal, 20.0) for side in left]
        return Result(
            near=together(totals),
            far=together(fars) if fars else None,
            broken=self.broken(),
            refused=self._said(Refused),
            returned=self._said(Returned),
            gaps=self._said(Gap),
            altered=self._said(Altered),
            moved=self._said(Moved),
        )

    def _said(self, kind: type[W]) -> tuple[W, ...]:
        return tuple(word for side in (*self._nears, *self._fars) for word in side.all(kind))


def _near(plan: NearPlan) -> list[NearPlan]:
    """For as many processes as are needed; flows have one of their own, the first."""
    flows = [msgspec.structs.replace(plan, connections=0)] if plan.flows else []
    count = -(-plan.connections // plans.most()) or (not flows)
    parts = [range(plan.connections)[n::count] for n in range(count)]
    sizes = [len(part) for part in parts]
    return [
        *flows,
        *(
            msgspec.structs.replace(
                plan,
                connections=size,
                first=plan.first + sum(sizes[:n]),
                flows=0,
                setup_rate=plan.setup_rate / count,
            )
            for n, size in enumerate(sizes)
        ),
    ]


def _far(plan: FarPlan, near: NearPlan) -> list[FarPlan]:
    """For as many processes as are needed if all connections come here; spread unevenly, by a hash.

    Flows have one of their own.
    """
    flows = [msgspec.structs.replace(plan, connections=0)] if plan.flows and near.flows else []
    count = -(-near.connections * 5 // (plans.most() * 4)) or (not flows)
    most = min(near.connections, plans.most())
    shared = [msgspec.structs.replace(plan, connections=most, shared=count > 1, flows=False)] * count
    return [*flows, *shared]


class _Side:
    """A process of ours, and all that it said."""

    def __init__(self, place: str, end: str, plan: NearPlan | FarPlan) -> None:
        self.place, self._end = place, end
        self.killed = False
        text = msgspec.json.encode(plan).decode()
        self.process = subprocess.Popen(
            [
                *("nsenter", f"--net={namespace.path(place)}", "--"),
                *(sys.executable, "-m", "trunkline.traffic", end, text),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._words: list[msgspec.Struct] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._listen, name=f"traffic in {place}", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        decoder = msgspec.json.Decoder(Word)
        for line in self.process.stdout:
            with self._changed:
                self._words.append(decoder.decode(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def all(self, kind: type[W]) -> list[W]:
        """What it said of that kind, in order."""
        with self._changed:
            return [word for word in self._words if isinstance(word, kind)]

    def heard(self, kind: type[W], seconds: float, fits: Callable[[W], bool] = lambda word: True) -> W:
        """The last of that kind that fits, as soon as there is one.

        Raises:
            Unavailable: not in that time, or the process has ended.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for word in reversed(self._words):
                    if isinstance(word, kind) and fits(word):
                        return word
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    break
        words = ""
        if self._ended and self.process.stderr is not None:
            words = " ".join(self.process.stderr.read().decode().split())[-500:]
        raise Unavailable(f"The {self._end} end in {self.place} does not say {kind.__name__}. {words}")

    def tell(self, command: Mark | End) -> None:
        """Sends a command. Raises Unavailable where the process is gone."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(msgspec.json.encode(command) + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Unavailable(f"The {self._end} end in {self.place} has ended: {error}") from error

    def close(self) -> None:
        """Ends it, however far it is."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._thread.join(10)
        for said in (self.process.stdout, self.process.stderr):
            if said is not None:
                said.close()


def together(words: Sequence[S]) -> S:
    """What several processes said, as if one had: counts are added, of spans the longest is taken."""
    first = words[0]
    joined: dict[str, Any] = {}
    for name in first.__struct_fields__:
        values = [getattr(word, name) for word in words]
        joined[name] = _joined(values) if len(words) > 1 else values[0]
    if isinstance(first, Live | NearTotal) and first.flows.count:
        joined["own"] = first.own
    return msgspec.structs.replace(first, **joined)


def _joined(values: Sequence[Any]) -> object:
    if isinstance(values[0], Delays):
        spans = ("median", "p99", "p999", "longest")
        longest = {span: max(getattr(value, span) for value in values) for span in spans}
        return Delays(count=sum(value.count for value in values), **longest)
    if isinstance(values[0], dict):
        return dict(sum((Counter(value) for value in values), Counter()))
    if isinstance(values[0], tuple):
        # Periods: all had the same marks. The first process has the flows, where there are any.
        return tuple(
            msgspec.structs.replace(
                periods[0],
                connections=_joined([period.connections for period in periods]),
                own=periods[0].own if periods[0].flows.count else _joined([period.own for period in periods]),
            )
            for periods in zip(*values, strict=True)
        )
    return sum(values) if isinstance(values[0], int) else max(values)


def make_room(netns: str) -> None:
    """Lets a namespace made for this have all ports for connections, and queues for those that come.

    A namespace's own connection tracking has as many entries as the machine lets all have.
    """
    settings: list[tuple[str, str | int]] = [
        ("ipv4/ip_local_port_range", "1024 65535"),
        # Those are for who listens.
        ("ipv4/ip_local_reserved_ports", "8000-8099"),
        ("core/somaxconn", 4096),
        ("ipv4/tcp_max_syn_backlog", 4096),
    ]
    namespace.sysctl(netns, settings)
