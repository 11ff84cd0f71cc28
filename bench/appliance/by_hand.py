"""An appliance whose units are started by hand on the path: no cloud, no agents, one host."""

from __future__ import annotations

import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as File
from types import MappingProxyType

from bench.appliance.appliance import Kind, policy
from bench.appliance.path import PLAIN, Path, wait_for
from trunkline.compiler.unit_slices import PolicySlice
from trunkline.devices import namespace
from trunkline.plan.shards import SHARDS

# The lab of the tests: it is what an agent is to the units.
sys.path.append(str(File(__file__).resolve().parents[2] / "tests"))
from probes import Space
from unit_lab import LEGS, RunningUnit, UnitLab, member

_FIRST: dict[Kind, int] = {"data-plane": 1, "dispatcher": 200, "manager": 230}
_LAST: dict[Kind, int] = {"data-plane": 199, "dispatcher": 229, "manager": 255}
#: How long anything may take, seconds, on a machine that does much else.
_PATIENCE = 120.0


class _Lab(UnitLab):
    """Owns units, between the ends of a path that is the caller's."""

    def __init__(self, path: Path, parts: Mapping[str, float]) -> None:
        self._parts = parts
        self.members, self.units = {}, {}
        self.policy = PolicySlice(revision=1, document=policy(0))
        self._folder = tempfile.TemporaryDirectory(prefix="tlu")
        self.client, self.server, self.switch = Space(path.client), Space(path.server), Space(path.switch)
        dad = [(f"ipv6/conf/{which}/accept_dad", 0) for which in ("all", "default")]
        namespace.sysctl(path.switch, dad)
        for bridge in ("bus", "control"):
            self.bridge(bridge)
        for end in (self.client, self.server):
            end.ip(f"link set dev eth0 mtu {LEGS[0].mtu}")

    def cores(self, kind: str) -> float:
        return self._parts.get(kind, float(os.cpu_count() or 1))


class ByHand:
    """An `Appliance`. Owns its units; the path is the caller's."""

    def __init__(
        self,
        path: Path,
        planes: int,
        dispatchers: int,
        managers: int,
        seed: int,
        parts: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """`parts`, by kind: of processors, that packets of such a unit may have, as on a host; or else all
        that there is."""
        self.inside, self.outside, self.cuts = path.client, path.server, True
        self.plain = f"{PLAIN}:8000"
        self._lab = _Lab(path, parts)
        self._chance = random.Random(seed)
        self._used = dict(_FIRST)
        self._shares: list[float] = []
        kinds = dict[Kind, int]({"data-plane": planes, "dispatcher": dispatchers, "manager": managers})
        wanted = [member(self._number(kind), kind) for kind, size in kinds.items() for _ in range(size)]
        try:
            self._lab.begin(*wanted)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends all units."""
        self._lab.close()

    # Units.

    def _number(self, kind: Kind) -> int:
        """One that no unit has had lately."""
        while True:
            number = self._used[kind]
            self._used[kind] = number + 1 if number < _LAST[kind] else _FIRST[kind]
            if number not in self._lab.members:
                return number

    def _there(self, kind: Kind) -> list[RunningUnit]:
        """Units that are members, and not on their way out."""
        return [
            self._lab.units[number]
            for number, each in self._lab.members.items()
            if each.kind == kind and not each.leaves and number in self._lab.units
        ]

    def size(self, kind: Kind) -> int:
        return len(self._there(kind))

    def buses_of(self, kind: Kind) -> list[str]:
        """The switch's ends of its units' interfaces on the in-band bus."""
        return [f"bus{unit.own.number}" for unit in self._there(kind)]

    def _forget(self, number: int) -> None:
        """It is no member any more, and nothing is left of it."""
        unit = self._lab.units.pop(number)
        if unit.process.poll() is None:
            unit.process.terminate()
            unit.process.wait(10)
        unit.close()
        del self._lab.members[number]
        self._lab.tell_all()

    # What can be asked of it.

    def grow(self) -> str:
        number = self._number("data-plane")
        self._lab.begin(member(number, "data-plane"))
        unit = self._lab.units[number]
        self._until(lambda: bool(unit.statuses), f"data plane {number} says something")
        began = time.monotonic()
        share = SHARDS // self.size("data-plane")
        self._until(lambda: unit.statuses[-1].shards >= share, f"data plane {number} has its share")
        self._shares.append(time.monotonic() - began)
        return f"data plane {number} came"

    def shrink(self) -> str:
        return self._leave([unit.own.number for unit in self._there("data-plane")])

    def _leave(self, able: Sequence[int]) -> str:
        number = self._chance.choice(able)
        self._lab.leave(number)
        self._until(
            lambda: any(number in unit.statuses[-1].empty for unit in self._leaders()), f"{number} is empty"
        )
        self._forget(number)
        return f"data plane {number} left"

    def replace(self) -> str:
        old = [unit.own.number for unit in self._there("data-plane")]
        return f"{self.grow()}, {self._leave(old)}"

    def change(self) -> str:
        revision = self._lab.policy.revision + 1
        self._lab.set_policy(policy(revision))
        self._until(self._all_apply, f"all units have policy {revision}")
        return f"policy {revision}"

    def kill(self, kind: Kind) -> str:
        unit = self._chance.choice(self._there(kind))
        unit.kill()
        return f"{kind} {unit.own.number} killed, {self._another(unit)} came"

    def cut(self) -> str:
        # Who is the only dispatcher has nobody in its place.
        kinds: list[Kind] = ["data-plane", *(["dispatcher"] if self.size("dispatcher") > 1 else [])]
        unit = self._chance.choice([unit for kind in kinds for unit in self._there(kind)])
        kind, number = unit.own.kind, unit.own.number
        unit.cut()
        # Nobody says so: it is missed.
        others = [each for each in self._there("dispatcher") if each is not unit]
        self._until(
            lambda: all(number in each.statuses[-1].silent for each in others), f"{kind} {number} is missed"
        )
        return f"{kind} {number} cut off, {self._another(unit)} came"

    def _another(self, lost: RunningUnit) -> int:
        """A new one in the place of one that is lost; returns its number."""
        kind = lost.own.kind
        self._forget(lost.own.number)
        new = self._number(kind)
        self._lab.begin(member(new, kind))
        self._until(lambda: bool(self._lab.units[new].statuses), f"{kind} {new} says something")
        return new

    def shares(self) -> list[float]:
        return self._shares

    def alarms(self) -> int:
        found = 0
        for unit in self._lab.units.values():
            said = list(unit.statuses)
            for before, after in itertools.pairwise(said):
                found += bool(set(after.silent) - set(before.silent))
                found += after.serves != before.serves
                found += after.leads and not before.leads
        return found

    def settle(self) -> None:
        self._until(lambda: bool(self._leaders()), "a manager leads")
        self._until(self._spread, "every shard is somebody's, and has a copy")
        self._until(self._all_apply, "all units have the policy")
        said = {unit.own.number: len(unit.statuses) for unit in self._leaders()}
        self._until(lambda: self._copied(said), "no connection is lost with one unit")

    # How it is.

    def _leaders(self) -> list[RunningUnit]:
        return [unit for unit in self._there("manager") if unit.statuses and unit.statuses[-1].leads]

    def _all_apply(self) -> bool:
        units = self._there("data-plane") + self._there("dispatcher")
        revision = self._lab.policy.revision
        return all(unit.statuses and unit.statuses[-1].policy_revision == revision for unit in units)

    def _spread(self) -> bool:
        said = [unit.statuses[-1] for unit in self._there("data-plane") if unit.statuses]
        shards, copies = [each.shards for each in said], [each.copies for each in said]
        whole = sum(shards) == SHARDS and len(said) > 0 and max(shards) - min(shards) <= 1
        return whole and (len(said) == 1 or sum(copies) == SHARDS)

    def _copied(self, said: Mapping[int, int]) -> bool:
        """Whether managers that lead say so; what they had said so often before is of then."""
        return any(
            len(unit.statuses) > said.get(unit.own.number, 0) and not unit.statuses[-1].uncopied
            for unit in self._leaders()
        )

    def _until(self, what: Callable[[], bool], claim: str) -> None:
        wait_for(what, _PATIENCE, lambda: f"{claim}; {self._picture()}")

    def _picture(self) -> str:
        """All units as they said last, and their logs' ends."""
        return "\n".join(
            f"{unit.own.kind} {number}: {unit.statuses[-1:]} {unit.log.read_text()[-600:]}"
            for number, unit in self._lab.units.items()
        )
