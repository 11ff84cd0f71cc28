"""Shares of what an interface sends: a hierarchy of token buckets (tc-htb(8)), with a class a share.

    746c:      the interface's, "tl"; what no filter finds goes to 746c:2
    746c:1     what the interface carries
    746c:2     the rest: what is left of it
    746c:10..  the shares; each may have what others leave

Frames are told by their source MAC address, by classic BPF (tc-bpf(8)): the byte code needs no compiler,
and the address is at one place whatever tags follow. `tc` is not asked to show rates, which it rounds: who
put a hierarchy in place compares what `shown` says then and later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trunkline.devices.tools import ToolFailed, run

_HANDLE = 0x746C
_ROOT = f"{_HANDLE:x}:"
_TOTAL, _REST, _FIRST = 1, 2, 0x10
#: BPF: load a word, a half word; skip unless equal; return (linux/bpf_common.h).
_WORD, _HALF, _EQUAL, _RETURN = 32, 40, 21, 6
#: Where the source MAC address of a frame is: its first two bytes, the other four.
_HIGH, _LOW = 6, 8
#: A program has 4096 steps at most, and each share takes five.
_IN_A_FILTER = 800
#: What may be sent at once: so many bytes at least, and what passes in so many seconds.
_BURST_BYTES, _BURST_SECONDS = 16_000, 0.001
#: What a class sends in its turn where several borrow, bytes: ten frames.
_QUANTUM = 15_140


@dataclass(frozen=True)
class Shares:
    """How what an interface sends is divided."""

    #: What it carries, kilobits a second.
    total_kbps: int
    #: Source MAC addresses with kilobits a second, which are theirs whatever others send.
    shares: tuple[tuple[str, int], ...]
    #: How many packets wait at most, in all classes together.
    queue: int


@dataclass(frozen=True)
class Discipline:
    """The queueing discipline of an interface."""

    kind: str
    handle: str

    @property
    def ours(self) -> bool:
        """Whether it is one of these hierarchies."""
        return (self.kind, self.handle) == ("htb", _ROOT)

    @property
    def default(self) -> bool:
        """Whether the kernel chose it: nobody else did."""
        return self.handle == "0:"


async def disciplines() -> dict[str, Discipline]:
    """Those of all interfaces of this network namespace, by the interface's name.

    Raises:
        MissingProgram, ToolFailed: there is no tc, or it fails.
    """
    said = json.loads(await run(["tc", "-j", "qdisc", "show"]))
    return {one["dev"]: Discipline(one["kind"], one["handle"]) for one in said if one.get("root")}


async def shown(interface: str) -> str:
    """The hierarchy of an interface as tc shows it, without its counters. Raises as `disciplines`."""
    parts = []
    for what in (["qdisc"], ["class"], ["filter", "parent", _ROOT]):
        said = await run(["tc", what[0], "show", "dev", interface, *what[1:]])
        parts.append(re.sub(r"direct_packets_stat \d+|refcnt \d+", "", said.decode()))
    return "\n".join(parts)


async def put(interface: str, wanted: Shares, *, instead: bool) -> None:
    """Makes the hierarchy of an interface; `instead` of another one of these. Raises as `disciplines`."""
    lines = [f"qdisc del dev {interface} root"] if instead else []
    try:
        await _batch([*lines, *_lines(interface, wanted)])
    except ToolFailed:
        if (found := (await disciplines()).get(interface)) is not None and found.ours:
            await remove(interface)
        raise


async def remove(interface: str) -> None:
    """Takes the hierarchy away: the interface has the kernel's own discipline again."""
    await _batch([f"qdisc del dev {interface} root"])


async def _batch(lines: Sequence[str]) -> None:
    await run(["tc", "-batch", "-"], stdin="".join(f"{line}\n" for line in lines).encode())


def _lines(interface: str, wanted: Shares) -> Iterator[str]:
    total = wanted.total_kbps
    yield f"qdisc add dev {interface} root handle {_ROOT} htb default {_REST:x}"
    yield _class(interface, _ROOT, _TOTAL, total, total)
    # Without anything at all for the rest, nobody finds a neighbour's address.
    rest = max(total - sum(kbps for _, kbps in wanted.shares), total // 100, 8)
    limit = max(4, wanted.queue // (len(wanted.shares) + 1))
    for number, kbps in ((_REST, rest), *enumerate((kbps for _, kbps in wanted.shares), _FIRST)):
        yield _class(interface, f"{_ROOT}{_TOTAL:x}", number, min(kbps, total), total)
        yield f"qdisc add dev {interface} parent {_ROOT}{number:x} handle {number:x}: pfifo limit {limit}"
    for at in range(0, len(wanted.shares), _IN_A_FILTER):
        macs = [mac for mac, _ in wanted.shares[at : at + _IN_A_FILTER]]
        code = list(_program(macs, _HANDLE << 16 | _FIRST + at))
        words = ",".join([str(len(code)), *(" ".join(map(str, step)) for step in code)])
        place = f"parent {_ROOT} protocol all prio {1 + at // _IN_A_FILTER} handle 1"
        yield f'filter add dev {interface} {place} bpf bytecode "{words}" flowid {_ROOT}{_REST:x}'


def _class(interface: str, parent: str, number: int, kbps: int, most: int) -> str:
    burst = max(_BURST_BYTES, int(most * 1000 / 8 * _BURST_SECONDS))
    rates = f"rate {kbps}kbit ceil {most}kbit burst {burst} cburst {burst} quantum {_QUANTUM}"
    return f"class add dev {interface} parent {parent} classid {_ROOT}{number:x} htb {rates}"


def _program(macs: Sequence[str], first: int) -> Iterator[tuple[int, int, int, int]]:
    """Returns the class of a frame's source, counted from `first`; 0 where it is none of these."""
    for number, mac in enumerate(macs, first):
        address = bytes.fromhex(mac.replace(":", ""))
        yield _WORD, 0, 0, _LOW
        yield _EQUAL, 0, 3, int.from_bytes(address[2:])
        yield _HALF, 0, 0, _HIGH
        yield _EQUAL, 0, 1, int.from_bytes(address[:2])
        yield _RETURN, 0, 0, number
    yield _RETURN, 0, 0, 0
