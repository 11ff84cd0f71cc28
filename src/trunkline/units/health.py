"""Which members are well, as this data plane finds: those that are not get no new connections from it.

    policy ──▶ a round for each member ── ask ──▶ Verdict: so many in a row ──▶ up, down ──▶ rules, events

Each data plane asks for itself, for it is its own way to a member that has to work. With a hundred members,
asked every five seconds, that is twenty questions in a second; a member hears as many as there are data
planes. One that asked for all would have to be replaced when it is lost, and what it finds may be true for
itself alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trunkline.resources.appliance_policy import Health, Policy
from trunkline.units import checks
from trunkline.units.balancing import Down

State = Literal["up", "down", "unknown"]
#: The first time that members are asked is within so many seconds.
_FIRST = 0.5
Ask = Callable[[Health, str, int], Awaitable[str]]


@dataclass
class Verdict:
    """What answers make of a member. Until one has come, or `fall` have not, it may be chosen."""

    rise: int
    fall: int
    state: State = "unknown"
    #: How many answers in a row were otherwise than the state is.
    against: int = 0

    def heard(self, well: bool) -> bool:
        """Takes note of an answer; returns whether the state is another one now."""
        if self.state == ("up" if well else "down"):
            self.against = 0
            return False
        if self.state == "unknown" and well:
            self.state, self.against = "up", 0
            return True
        # Of one that is not known only failures are counted.
        self.against += 1
        if self.against < (self.rise if well else self.fall):
            return False
        self.state, self.against = ("up" if well else "down"), 0
        return True


@dataclass(frozen=True)
class Asked:
    """A member that is asked, and where, which may be elsewhere."""

    listener: str
    address: str
    port: int
    target: tuple[str, int]
    health: Health

    @property
    def name(self) -> str:
        """As statuses name it: between the strokes is the pool, "" for the listener's own."""
        where = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.listener}//{where}:{self.port}"

    @property
    def end(self) -> Down:
        return self.listener, self.address, self.port


def asked(policy: Policy | None) -> Iterator[Asked]:
    """The members that a policy has asked."""
    balancer = policy.balancer if policy is not None else None
    for listener in balancer.listeners if balancer else ():
        # A proxy asks for itself.
        health = None if listener.through_proxy else listener.health
        for member in listener.members if health is not None else ():
            assert health is not None
            target = member.monitor_address or member.address, member.monitor_port or member.port
            yield Asked(listener.name, member.address, member.port, target, health)


class Checks:
    """Asks members, all the time. For one event loop; ends with `close`."""

    def __init__(
        self, changed: Callable[[], None], tell: Callable[[str, str], None], ask: Ask = checks.ask
    ) -> None:
        """`changed`: a state is another one; `tell(what, cause)`: an event."""
        self._changed, self._tell, self._ask = changed, tell, ask
        self._rounds: dict[Asked, asyncio.Task[None]] = {}
        self._verdicts: dict[Asked, Verdict] = {}
        self._causes: dict[Asked, str] = {}
        #: Grows when connections that are under way may be lost through no fault of who is asked.
        self._disturbances = 0

    def want(self, policy: Policy | None) -> None:
        """These are asked from now on. What is known of one that stays as it is stays known."""
        wanted = dict.fromkeys(asked(policy))
        for each in self._rounds.keys() - wanted.keys():
            self._rounds.pop(each).cancel()
            self._verdicts.pop(each)
            self._causes.pop(each, None)
        for each in wanted:
            if each not in self._rounds:
                self._verdicts[each] = Verdict(each.health.rise, each.health.fall)
                self._rounds[each] = asyncio.create_task(self._run(each), name=f"asks {each.name}")
        self._changed()

    def disturbed(self) -> None:
        """Shards moved: who did not answer is asked once more before that counts."""
        self._disturbances += 1

    def down(self) -> frozenset[Down]:
        """Members that new connections are not to go to."""
        return frozenset(each.end for each, verdict in self._verdicts.items() if verdict.state == "down")

    def states(self) -> Mapping[str, State]:
        """By name."""
        return {each.name: verdict.state for each, verdict in self._verdicts.items()}

    def close(self) -> None:
        for task in self._rounds.values():
            task.cancel()

    async def _run(self, each: Asked) -> None:
        loop, health = asyncio.get_running_loop(), each.health
        # Not all of them at the same time, nor with those of other data planes.
        due = loop.time() + random.uniform(0, min(_FIRST, health.interval))
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._heard(each, await self._once(each))
            due = max(due + health.interval * random.uniform(0.95, 1.0), loop.time())

    async def _once(self, each: Asked) -> str:
        before = self._disturbances
        problem = await self._ask(each.health, *each.target)
        if problem and before != self._disturbances:
            problem = await self._ask(each.health, *each.target)
        return problem

    def _heard(self, each: Asked, problem: str) -> None:
        verdict = self._verdicts[each]
        before = verdict.state
        if not verdict.heard(not problem):
            return
        if verdict.state == "down":
            self._tell(f"Member {each.name} is down.", f"{problem} ({each.health.fall} times in a row)")
        elif before == "down":
            self._tell(f"Member {each.name} is up again.", f"it answered {each.health.rise} times in a row")
        self._changed()
