"""Shares of what an interface sends: a hierarchy of token buckets (tc-htb(8)), with a class a share.

    746c:      the interface's, "tl"; what no filter finds goes to 746c:2
    746c:1     what the interface carries
    746c:2     the rest: what is left of it
    746c:10..  the shares; each may have what others leave

Frames are told by their source MAC address, by classic BPF (tc-bpf(8)): the byte code needs no compiler,
and the address is at one place whatever tags follow.
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
#: A class as tc shows it, and how exactly: at least four digits of a rate.
_CLASS = re.compile(
    rf"^class htb {_ROOT}([0-9a-f]+) .*\brate (\d+)([KMGT]?)bit ceil (\d+)([KMGT]?)bit", re.MULTILINE
)
_ROUNDED = 0.001


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


async def is_right(interface: str, wanted: Shares) -> bool:
    """Whether the hierarchy of an interface is this one. Raises as `disciplines`."""
    said = [
        (await run(["tc", what, "show", "dev", interface, *more])).decode()
        for what, *more in (["class"], ["qdisc"], ["filter", "parent", _ROOT])
    ]
    there = {
        int(number, 16): (_bits(rate, unit), _bits(most, of_most))
        for number, rate, unit, most, of_most in _CLASS.findall(said[0])
    }
    classes = _classes(wanted)
    limits = re.findall(r"^qdisc pfifo \S+ .*limit (\d+)p", said[1], re.MULTILINE)
    return (
        there.keys() == classes.keys()
        and all(
            abs(now - 1000 * kbps) <= _ROUNDED * 1000 * kbps
            for number, pair in classes.items()
            for now, kbps in zip(there[number], pair, strict=True)
        )
        and limits == [str(_limit(wanted))] * (len(classes) - 1)
        and re.findall(r"bytecode '(.*)'", said[2]) == _programs(wanted)
    )


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
    yield f"qdisc add dev {interface} root handle {_ROOT} htb default {_REST:x}"
    for number, (kbps, most) in _classes(wanted).items():
        parent = _ROOT if number == _TOTAL else f"{_ROOT}{_TOTAL:x}"
        burst = max(_BURST_BYTES, int(most * 1000 / 8 * _BURST_SECONDS))
        rates = f"rate {kbps}kbit ceil {most}kbit burst {burst} cburst {burst} quantum {_QUANTUM}"
        yield f"class add dev {interface} parent {parent} classid {_ROOT}{number:x} htb {rates}"
        if number != _TOTAL:
            leaf = f"parent {_ROOT}{number:x} handle {number:x}:"
            yield f"qdisc add dev {interface} {leaf} pfifo limit {_limit(wanted)}"
    for number, words in enumerate(_programs(wanted), 1):
        place = f"parent {_ROOT} protocol all prio {number} handle 1"
        yield f'filter add dev {interface} {place} bpf bytecode "{words}" flowid {_ROOT}{_REST:x}'


def _classes(wanted: Shares) -> dict[int, tuple[int, int]]:
    """By number, what a class is given and what it may have, kilobits a second."""
    total = wanted.total_kbps
    # Without anything at all for the rest, nobody finds a neighbour's address.
    rest = max(total - sum(kbps for _, kbps in wanted.shares), total // 100, 8)
    given = {_TOTAL: total, _REST: rest, **dict(enumerate((kbps for _, kbps in wanted.shares), _FIRST))}
    return {number: (min(kbps, total), total) for number, kbps in given.items()}


def _limit(wanted: Shares) -> int:
    """How many packets wait at most in a class."""
    return max(4, wanted.queue // (len(wanted.shares) + 1))


def _programs(wanted: Shares) -> list[str]:
    """The filters, each as tc reads and shows it."""
    found = []
    for at in range(0, len(wanted.shares), _IN_A_FILTER):
        macs = [mac for mac, _ in wanted.shares[at : at + _IN_A_FILTER]]
        code = list(_program(macs, _HANDLE << 16 | _FIRST + at))
        found.append(",".join([str(len(code)), *(" ".join(map(str, step)) for step in code)]))
    return found


def _bits(number: str, unit: str) -> int:
    return int(number) * int(1000 ** " KMGT".index(unit or " "))


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
