"""The way between units of one host, past the bridge of their bus.

| claim | and in reverse |
| --- | --- |
| a frame for a unit of this host arrives, though no bridge knows of it | what is for others is the bridge's |
| so it is on a kernel that knows no tcx | |
| what stands there already stays, and a second one is refused | |
| the object is of its source | |
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import hooks
import pytest
from probes import Space, wait_for

from trunkline.agent import across
from trunkline.devices import bpf, namespace
from trunkline.errors import Unavailable

TAG = f"ac{os.getpid()}"
#: For experiments and private use (IEEE Std 802).
KIND = b"\x88\xb5"
HERE, OTHER, ELSEWHERE = 1, 2, 3


def mac(unit: int) -> str:
    return f"02:0b:00:00:00:{unit:02x}"


@pytest.fixture(params=["tcx", "clsact"])
def units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Space]]:
    """Three units at a bridge that floods nothing; the third one has no number of a unit of this host."""
    switch = Space(f"{TAG}-b")
    made = {n: Space(f"{TAG}-{n}", "bus") for n in (HERE, OTHER, ELSEWHERE)}
    if request.param == "clsact":
        monkeypatch.setattr(bpf, "tcx", lambda index, side: None)
    try:
        namespace.create(switch.netns, *(each.netns for each in made.values()))
        switch.ip("link add name bus type bridge", "link set dev bus up")
        for n, unit in made.items():
            index = f"index {across.number(n)} " if n != ELSEWHERE else ""
            peer = f"type veth peer name bus address {mac(n)} netns {unit.netns}"
            switch.ip(f"link add b{n} {index}{peer}", f"link set dev b{n} master bus up")
            switch.ip(f"link set dev b{n} type bridge_slave learning off flood off")
            across.lead(switch.netns, f"b{n}")
            unit.ip("link set dev bus up")
        yield made
    finally:
        namespace.delete(switch.netns, *(each.netns for each in made.values()))


def frame(to: int, source: int, words: bytes) -> bytes:
    return bytes.fromhex((mac(to) + mac(source)).replace(":", "")) + KIND + words.ljust(46, b".")


@pytest.mark.machine
def test_units_of_a_host_reach_each_other_past_the_bridge(units: dict[int, Space]) -> None:
    ears = {n: each.frames() for n, each in units.items()}
    try:
        for end in ears.values():
            end.setblocking(False)

        def heard(unit: int, words: bytes) -> bool:
            try:
                return words in ears[unit].recv(2000)
            except BlockingIOError:
                return False

        def arrives(source: int, to: int, words: bytes) -> bool:
            ears[source].send(frame(to, source, words))
            return heard(to, words)

        for source, to in ((HERE, OTHER), (OTHER, HERE), (ELSEWHERE, HERE)):
            wait_for(lambda a=source, b=to: arrives(a, b, b"past"), 5, f"{source} reaches {to}")
        for _ in range(50):
            ears[HERE].send(frame(ELSEWHERE, HERE, b"nowhere"))
        wait_for(lambda: arrives(HERE, OTHER, b"last"), 5, "what came later has arrived")
        assert not any(heard(ELSEWHERE, b"nowhere") for _ in range(100))
        # The bridge knows where it is.
        entry = ("fdb", "add", mac(ELSEWHERE), "dev", f"b{ELSEWHERE}", "master", "static")
        assert Space(f"{TAG}-b").run("bridge", *entry).returncode == 0
        wait_for(lambda: arrives(HERE, ELSEWHERE, b"by the bridge"), 5, "it comes by the bridge")
    finally:
        for end in ears.values():
            end.close()


@pytest.mark.machine
def test_a_second_one_is_refused(units: dict[int, Space]) -> None:
    switch = f"{TAG}-b"
    with pytest.raises(Unavailable, match=f"across on b{HERE}: File exists"):
        across.lead(switch, f"b{HERE}")
    assert hooks.programs(switch, f"b{HERE}") == ["across"]


def test_the_object_is_of_this_source() -> None:
    source = across.OBJECT.with_suffix(".c").read_bytes()
    assert hashlib.sha256(source).hexdigest().encode() in across.OBJECT.read_bytes()
