"""The keeper starts the dead again, takes over the living, and tells how it stands."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ovsdb_lab import wait_until

from trunkline.devices import process, units
from trunkline.devices.process import Process
from trunkline.devices.state import StateFolder
from trunkline.devices.units import KeeperState, Unit, UnitState


class Kept:
    """A state folder with a keeper."""

    def __init__(self, root: Path) -> None:
        self.state = StateFolder(root)
        self.state.make_folders()

    def keep(self, *listed: Unit) -> Process:
        units.save_units(self.state, list(listed))
        keeper, new = units.ensure_keeper(self.state)
        if not new:
            keeper.signal(signal.SIGHUP)
        return keeper

    def pid(self, name: str) -> int:
        found = process.find(self.state.pidfile(name))
        return found.pid if found else 0

    def seen(self, name: str, fits: Callable[[UnitState], bool], seconds: float = 30.0) -> UnitState:
        """What the keeper tells of a unit as soon as it fits."""
        deadline, unit = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            told = units.load_keeper(self.state)
            unit = told.units.get(name) if told else None
            if unit is not None and fits(unit):
                return unit
            time.sleep(0.01)
        raise AssertionError(f"{name}: {unit}")

    def end(self) -> None:
        for pidfile in [self.state.pidfile("keeper"), *self.state.run.glob("*.pid")]:
            if (found := process.find(pidfile)) is not None:
                found.terminate(10.0)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    found = Kept(tmp_path / "s")
    yield found
    found.end()


def _sleeper(name: str, **more: object) -> Unit:
    return Unit(name=name, argv=("sleep", "600"), **more)  # type: ignore[arg-type]


def _log(kept: Kept, name: str) -> str:
    log = kept.state.log_file(name)
    return log.read_text() if log.exists() else ""


def _keeper(kept: Kept) -> KeeperState:
    told = units.load_keeper(kept.state)
    assert told is not None
    return told


def _running(unit: UnitState) -> bool:
    return unit.state == "running"


def test_a_unit_that_is_killed_is_started_again_and_that_is_told(kept: Kept) -> None:
    kept.keep(_sleeper("a"))
    first = kept.seen("a", _running).pid
    os.kill(first, signal.SIGKILL)
    again = kept.seen("a", lambda unit: _running(unit) and unit.pid != first)
    assert again.restarts == 1
    assert again.ended == "killed by SIGKILL"
    assert kept.pid("a") == again.pid


def test_one_that_keeps_dying_is_started_ever_more_slowly_and_its_words_are_told(kept: Kept) -> None:
    kept.keep(Unit(name="a", argv=("sh", "-c", "echo ERROR no such thing >&2; exit 4")), _sleeper("b"))
    seen = kept.seen("a", lambda unit: unit.restarts >= 3)
    assert seen.ended == "exit status 4"
    assert "no such thing" in seen.cause
    assert kept.seen("b", _running).restarts == 0
    began, restarts = time.monotonic(), seen.restarts
    later = kept.seen("a", lambda unit: unit.restarts >= restarts + 2)
    assert (time.monotonic() - began) / (later.restarts - restarts) > 0.3


def test_a_keeper_that_is_killed_hurts_nobody_and_the_next_takes_over(kept: Kept) -> None:
    keeper = kept.keep(_sleeper("a"), _sleeper("b"))
    before = {name: kept.seen(name, _running).pid for name in ("a", "b")}
    keeper.signal(signal.SIGKILL)
    while keeper.alive():
        time.sleep(0.01)
    os.kill(before["b"], signal.SIGKILL)
    assert kept.pid("a") == before["a"]
    kept.keep(_sleeper("a"), _sleeper("b"))
    new = kept.seen("b", lambda unit: _running(unit) and unit.pid != before["b"])
    assert kept.pid("a") == before["a"]
    # And it watches those that it did not start.
    os.kill(before["a"], signal.SIGKILL)
    kept.seen("a", lambda unit: _running(unit) and unit.pid != before["a"])
    assert kept.pid("b") == new.pid


def test_it_tells_that_the_one_before_was_lost_and_not_that_it_was_stopped(kept: Kept) -> None:
    def next_one() -> tuple[int, bool]:
        pid = kept.keep(_sleeper("a")).pid
        kept.seen("a", lambda unit: _running(unit) and _keeper(kept).pid == pid)
        return _keeper(kept).restarts, time.time() - _keeper(kept).lost_at < 60

    def end(number: signal.Signals) -> None:
        keeper = process.find(kept.state.pidfile("keeper"))
        assert keeper is not None
        keeper.signal(number)
        while keeper.alive():
            time.sleep(0.01)

    assert next_one() == (0, False)
    end(signal.SIGTERM)
    assert next_one() == (0, False)
    end(signal.SIGKILL)
    assert next_one() == (1, True)


def test_a_unit_waits_for_the_socket_of_the_one_it_comes_after(kept: Kept, tmp_path: Path) -> None:
    path, early = str(tmp_path / "sock"), tmp_path / "early"
    server = (
        "import socket, time; time.sleep(0.3); "
        f"open({str(early)!r}, 'w').close(); s = socket.socket(socket.AF_UNIX); "
        f"s.bind({path!r}); s.listen(); time.sleep(600)"
    )
    kept.keep(
        Unit(name="late", argv=("sh", "-c", f"test -e {early} && exec sleep 600"), after=("first",)),
        Unit(name="first", argv=("python3", "-c", server), socket=path),
    )
    assert kept.seen("late", _running).restarts == 0


def test_the_list_is_read_again_when_it_is_told_to(kept: Kept) -> None:
    kept.keep(_sleeper("a"), _sleeper("b"), _sleeper("c"))
    before = {name: kept.seen(name, _running).pid for name in ("a", "b", "c")}
    kept.keep(_sleeper("a"), Unit(name="b", argv=("sleep", "601")), _sleeper("d"))
    kept.seen("d", _running)
    kept.seen("b", lambda unit: _running(unit) and unit.pid != before["b"])
    wait_until(lambda: kept.pid("c") == 0, "what is listed no more is ended")
    assert kept.pid("a") == before["a"]


def test_it_may_be_told_before_it_listens(kept: Kept) -> None:
    keeper = kept.keep(_sleeper("a"))
    for _ in range(20):
        keeper.signal(signal.SIGHUP)
    kept.keep(_sleeper("a"), _sleeper("b"))
    kept.seen("b", _running)
    assert keeper.alive()


def test_told_to_end_it_ends_its_units_last_first(kept: Kept, tmp_path: Path) -> None:
    order = tmp_path / "order"

    def unit(name: str, *after: str) -> Unit:
        script = f"trap 'echo {name} >> {order}; exit' TERM; echo up; while :; do sleep 0.05; done"
        return Unit(name=name, argv=("sh", "-c", script), after=after)

    keeper = kept.keep(unit("c", "b"), unit("b", "a"), unit("a"))
    for name in ("a", "b", "c"):
        kept.seen(name, lambda unit, name=name: "up" in _log(kept, name))  # type: ignore[misc]
    keeper.terminate(20.0)
    assert order.read_text().split() == ["c", "b", "a"]
    assert not list(kept.state.run.glob("[abc].pid"))


def test_a_program_that_is_not_there_is_named(kept: Kept) -> None:
    kept.keep(Unit(name="a", argv=("no-such-daemon",)))
    assert "no-such-daemon" in kept.seen("a", lambda unit: unit.state == "missing").cause


def test_there_is_one_keeper_a_folder(kept: Kept, tmp_path: Path) -> None:
    kept.keep(_sleeper("a"))
    kept.seen("a", _running)
    kept.state.pidfile("keeper").rename(tmp_path / "pid")
    try:
        second, new = units.ensure_keeper(kept.state)
        assert new
        while second.alive():
            time.sleep(0.01)
        assert "has a keeper already" in kept.state.log_file("keeper").read_text()
    finally:
        (tmp_path / "pid").replace(kept.state.pidfile("keeper"))
