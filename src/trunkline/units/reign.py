"""What a manager does while it leads: its connections to the units, and what it makes of what they say.

A unit is       away          there is no connection; whoever may forward still keeps what it has
                up            it follows
                joined        ... and has the policy in force: shards may be its own, or it is told of them
A data plane counts as dead when its connection ended and a dispatcher hears nothing of it, when it comes back
as another one, or when it is no member any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from trunkline.compiler.unit_slices import BusMember, UnitSlice
from trunkline.errors import Refusal, Unavailable
from trunkline.plan.sides import ASIDE, Sides
from trunkline.units.links import Link, views
from trunkline.units.policy_rounds import PolicyRounds
from trunkline.units.progress import Progress
from trunkline.units.shard_moves import Drop, Give, Moves, Task, Tell, by_shard
from trunkline.units.words import NOBODY, Aside, Forget, Hand, Members, Recited, Retake, Shards, Suspect

#: How long one that begins waits for all units to say what they have, seconds.
_LEARN = 3.0
#: How often is looked what has become possible, and how long after a task failed its unit is asked again.
_LOOK, _AGAIN = 0.5, 0.3
#: How long a unit may take, seconds, to be told something, and to give or forget flows.
_TOLD, _MOVED = 10.0, 60.0
#: Who is not connected, and was not heard for so long, is told of; what was heard before is no news. Seconds.
_AWAY = 5.0


class Reign:
    """One epoch of one manager. `run` ends when it is cancelled."""

    def __init__(
        self,
        lead: tuple[int, int],
        slice_: UnitSlice,
        tell: Callable[[str, str], None],
        changed: Callable[[], None],
        followed: Callable[[], None],
        refused: Callable[[int, int], None],
    ) -> None:
        """`lead`: epoch and number. `tell(what, cause)` is for events; the others say what units answered."""
        self._lead, self._slice = lead, slice_
        self._tell, self._changed, self._followed, self.refused = tell, changed, followed, refused
        self._links: dict[int, tuple[Link, asyncio.Task[None]]] = {}
        #: The incarnation of each unit that was up, as it was seen last.
        self._incarnations: dict[int, str] = {}
        self._moves: Moves | None = None
        self._joined: set[int] = set()
        self._silent: frozenset[int] = frozenset()
        #: Whose connections ended, until the others know.
        self._lost: set[int] = set()
        self._sides = Sides()
        #: Dispatchers that stood aside: what they have of shards is not known.
        self._unsure: set[int] = set()
        self.policies = PolicyRounds(self._ask, tell)
        self.policies.want(slice_.policy)
        self._wanted: object = None
        self._progress, self._cause = Progress(), ""
        self.empty: tuple[int, ...] = ()
        #: No connection is lost with one unit.
        self._copied = True
        self._wake, self._policy = asyncio.Event(), asyncio.Event()

    def want(self, slice_: UnitSlice) -> None:
        """The agent says who there is, and the policy."""
        self._slice = slice_
        self.policies.want(slice_.policy)
        self._policy.set()
        self._wake.set()

    async def run(self) -> None:
        began = _now()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._bring_policies(), name="policies")
            while True:
                self._wake.clear()
                self._connect(tasks)
                for unit, other in itertools.product(self._lost, self._members):
                    if unit != other:
                        tasks.create_task(self._say(other, Suspect, unit), name=f"unit {unit} is lost")
                self._lost.clear()
                if self._moves is None:
                    self._learn(_now() - began)
                if self._moves is not None:
                    for task in self._next(self._moves):
                        tasks.create_task(self._do(self._moves, task), name=f"{type(task).__name__}")
                self._step_aside(tasks)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._wake.wait()

    # Units.

    @property
    def _members(self) -> dict[int, BusMember]:
        """All but managers."""
        return {member.number: member for member in self._slice.members if member.kind != "manager"}

    def _connect(self, tasks: asyncio.TaskGroup) -> None:
        members = self._members
        told = False
        for number, (link, task) in list(self._links.items()):
            member = members.get(number)
            if member is None or member.control_address != link.member.control_address:
                task.cancel()
                del self._links[number]
                self._gone(number, "It is no member any more.")
                self._lost.add(number)
                told = True
            elif member != link.member:
                link.member = member
                told = True
        for number, member in members.items():
            if number not in self._links:
                link = Link(member, self._lead, self)
                self._links[number] = link, tasks.create_task(link.run(), name=f"unit {number}")
                told = True
        if told:
            for number, (link, _) in self._links.items():
                if link.wire is not None:
                    tasks.create_task(self._say(number, Members, self._slice.members), name="members")

    async def _say(self, unit: int, word: Any, *values: Any) -> None:
        """Who is not told sees it by itself, a little later, or is told again for another reason."""
        with contextlib.suppress(Refusal):
            await self._ask(unit, word, *values, patience=_TOLD)

    def members(self) -> tuple[BusMember, ...]:
        return self._slice.members

    def up(self, link: Link) -> None:
        number, known, kind = link.member.number, link.known, link.member.kind
        assert known is not None
        if known.epoch >= self._lead[0] and known.manager != self._lead[1]:
            # It followed another one in this epoch, which is no new one then.
            self.refused(known.epoch, known.manager)
            return
        self._followed()
        before = self._incarnations.get(number)
        if before is not None and before != known.incarnation:
            self._gone(number, "Its program began anew.")
        self._incarnations[number] = known.incarnation
        if link.status is not None:
            self._has_policy(link)
        if before != known.incarnation:
            self._tell(f"Unit {number}, a {kind}, follows.", "")
        self._wake.set()

    def _has_policy(self, link: Link) -> None:
        assert link.status is not None
        spreads = link.member.kind == "dispatcher"
        revision = link.status.policy_revision
        self.policies.joined(link.member.number, spreads=spreads, revision=revision)
        self._policy.set()

    def down(self, link: Link) -> None:
        number = link.member.number
        if not self._is_of(link):
            return
        self.policies.left(number)
        self._leave(number)
        self._lost.add(number)
        self._wake.set()

    def has(self, link: Link) -> None:
        assert link.known is not None
        if not self._is_of(link):
            return
        if self._moves is not None and link.member.number in self._joined:
            self._moves.switched(link.member.number, by_shard(link.known.shards))
        self._wake.set()

    def said(self, link: Link) -> None:
        assert link.status is not None
        if not self._is_of(link):
            return
        if self._moves is not None and link.member.number in self._joined & self._of("data-plane"):
            self._moves.ends(link.member.number, frozenset(link.status.ends))
        if link.status.epoch > self._lead[0]:
            self.refused(link.status.epoch, NOBODY)
        if link.member.number not in self.policies.units:
            self._has_policy(link)
        self._wake.set()

    def _gone(self, number: int, cause: str) -> None:
        """What a unit had is lost."""
        self.policies.left(number)
        self._joined.discard(number)
        known = self._incarnations.pop(number, None)
        owned = self._moves.lost(number) if self._moves is not None else 0
        if known is not None and (owned or number in self._members):
            others = f" Others have its {owned} shards." if owned else ""
            self._tell(f"Unit {number} is gone.{others}", cause)
            self._cause = f"Unit {number} is gone."

    def recited(self, word: Recited) -> None:
        self.policies.recited(word)

    def _is_of(self, link: Link) -> bool:
        """It is not the rest of a connection to a unit that is another one now."""
        found = self._links.get(link.member.number)
        return found is not None and found[0] is link

    def _is_up(self, number: int) -> bool:
        return number in self._links and self._links[number][0].wire is not None

    def _of(self, kind: str) -> set[int]:
        return {number for number, member in self._members.items() if member.kind == kind}

    def _heard_silent(self) -> frozenset[int]:
        """Data planes and dispatchers of whom a dispatcher hears nothing, as `Sides.look`."""
        links = [self._links[number][0] for number in self._of("dispatcher")]
        return self._sides.look(views(links, _AWAY), self._of("data-plane"), _now())

    def _step_aside(self, tasks: asyncio.TaskGroup) -> None:
        new, due = self._sides.due(_now())
        for number in new:
            self._tell(f"Unit {number} stands aside.", "Others, who go on, do not hear it in band.")
        for number in due:
            tasks.create_task(self._say(number, Aside, ASIDE), name="aside")
        for number in self._of("dispatcher") - self._sides.aside if new else ():
            tasks.create_task(self._say(number, Retake), name="retake")

    def _leave(self, number: int) -> None:
        """It has no part in shards any more, and may have it again."""
        if self._moves is not None and number in self._joined:
            self._moves.left(number)
        self._joined.discard(number)

    # Shards.

    def _learn(self, waited: float) -> None:
        """What units have is what is, once all said it, or did not in time."""
        dispatchers, planes = self._of("dispatcher"), self._of("data-plane")
        up = {number for number in dispatchers | planes if self._is_up(number)}
        if not up & dispatchers or not up & planes:
            return
        if up | self._heard_silent() < dispatchers | planes and waited < _LEARN:
            return
        tables = {}
        for number in up - self._sides.aside:
            known = self._links[number][0].known
            assert known is not None
            tables[number] = by_shard(known.shards)
        moves = Moves()
        moves.learned(tables, dispatchers, dispatchers | planes)
        # Each joins when it has the policy.
        for number in up:
            moves.left(number)
        self._moves = moves
        self._tell(
            f"The shards are known: {sum(moves.owners().values())} have an owner.",
            f"{len(up)} units said what they have.",
        )

    def _next(self, moves: Moves) -> list[Task]:
        members = self._members
        silent = self._heard_silent()
        for number in self._sides.aside:
            self._unsure.add(number)
            self._leave(number)
        for number in sorted(silent - self._silent):
            if number in self._joined and members[number].kind == "data-plane":
                passed = moves.silent(number)
                self._tell(f"Unit {number} does not answer dispatchers.", f"{passed} shards are others' now.")
        # The only one that is left keeps what it has: it may be there, and nobody else can take it.
        others = self._joined & self._of("data-plane")
        for number in sorted(silent):
            if number in self._of("data-plane") and not others - {number}:
                continue
            known = number in self._incarnations or moves.busy_with(number)
            if known and not self._is_up(number):
                self._gone(number, "Its connection ended, and dispatchers hear nothing of it.")
        self._silent = silent
        for number in members.keys() - self._joined:
            if self._is_up(number) and self._may_join(number):
                self._join(moves, number)
        self._want(moves, silent)
        tasks = moves.tasks(self._absent(silent))
        self._note(moves)
        self._note_empty(moves)
        return tasks

    def _may_join(self, number: int) -> bool:
        if number in self._sides.aside:
            return False
        known = self._links[number][0].known
        spreads = self._members[number].kind == "dispatcher"
        return self.policies.ready(number) or (spreads and known is not None and bool(known.shards))

    def _join(self, moves: Moves, number: int) -> None:
        known = self._links[number][0].known
        assert known is not None
        spreads = self._members[number].kind == "dispatcher"
        # One that comes has nothing; one that was there when this manager began may have anything.
        table = {} if number in self._unsure else by_shard(known.shards)
        self._unsure.discard(number)
        moves.joined(number, table, spreads=spreads, fresh=not known.shards)
        self._joined.add(number)
        if not spreads and not self._cause:
            self._cause = f"Unit {number} has come."

    def _absent(self, silent: frozenset[int]) -> set[int]:
        """Dispatchers that may send, and cannot be told to whom."""
        found = set()
        for number in self._of("dispatcher") - self._joined - silent:
            known = self._links[number][0].known if self._is_up(number) else None
            if known is None or known.shards:
                found.add(number)
        return found

    def _want(self, moves: Moves, silent: frozenset[int]) -> None:
        members = self._members
        planes = self._joined & self._of("data-plane")
        able = planes - silent or planes
        staying = {number for number in able if not members[number].leaves} or able
        wanted = {number: members[number].host for number in sorted(staying)}, silent, moves.turn
        if wanted == self._wanted:
            return
        self._wanted = wanted
        leaving = [number for number in planes if members[number].leaves]
        if leaving and not self._cause:
            self._cause = f"Unit {', '.join(map(str, leaving))} leaves."
        moves.want(wanted[0], silent & planes - {*leaving})

    async def _do(self, moves: Moves, task: Task) -> None:
        well = False
        try:
            match task:
                case Tell():
                    await self._ask(task.unit, Shards, task.shards, patience=_TOLD)
                case Give():
                    await self._ask(task.unit, Hand, task.shards, task.to, patience=_MOVED)
                case Drop():
                    await self._ask(task.unit, Forget, task.shards, patience=_MOVED)
            well = True
        except Unavailable:
            await asyncio.sleep(_AGAIN)
        except Refusal as error:
            # Flows cannot be given to one who is gone, and there is something else to be done now.
            if not isinstance(task, Give) or self._is_up(task.to):
                self._tell(f"Unit {task.unit} did not do what it was told of shards.", error.message)
                await asyncio.sleep(_AGAIN)
        moves.done(task, well=well)
        self._wake.set()

    async def _ask(self, unit: int, word: Any, *values: Any, patience: float = _TOLD) -> None:
        found = self._links.get(unit)
        if found is None:
            raise Unavailable(f"Unit {unit} is no member any more.")
        await found[0].ask(word, *values, patience=patience)

    # What is seen.

    def _note(self, moves: Moves) -> None:
        moving = moves.under_way()
        if what := self._progress.look(_now(), moving, moves.taken):
            self._tell(what, self._cause)
        self._cause = self._cause if moving else ""
        before, self._copied = self._copied, moves.copied()
        if before != self._copied:
            self._changed()

    @property
    def uncopied(self) -> int:
        """Of how many shards connections are lost with one unit, though there are others."""
        return 0 if self._moves is None else self._moves.uncopied()

    @property
    def away(self) -> tuple[int, ...]:
        """Members that it does not reach."""
        links = sorted((number, link) for number, (link, _) in self._links.items())
        return tuple(number for number, link in links if link.wire is None and link.quiet() > _AWAY)

    def _note_empty(self, moves: Moves) -> None:
        """Members that leave, and that nothing depends on any more."""
        leaving = [member for member in self._slice.members if member.leaves]
        empty = tuple(sorted(member.number for member in leaving if self._is_empty(moves, member)))
        if empty != self.empty:
            self.empty = empty
            self._changed()

    def _is_empty(self, moves: Moves, member: BusMember) -> bool:
        if member.kind == "manager":
            # Another one leads.
            return member.number != self._lead[1]
        up = self._is_up(member.number)
        status = self._links[member.number][0].status if up else None
        if member.kind == "dispatcher":
            others = self._of("dispatcher") & self._joined - {member.number}
            gone = not up and member.number in self._silent
            return bool(others) and (gone or (status is not None and not status.serves))
        if moves.busy_with(member.number):
            return False
        if status is None:
            return member.number not in self._incarnations
        return status.flows == 0 or (status.shards, status.copies) == (0, 0)

    async def _bring_policies(self) -> None:
        while True:
            self._policy.clear()
            if await self.policies.act():
                self._changed()
                self._wake.set()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._policy.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()
