"""How far the move of one shard is, and what comes next. Pure functions of one record.

    at rest          owner A, second X
    announced        B is told that it is the owner, and that A is the former one; A that it is the second
    switched         dispatchers send to B; what B does not know it hands to A. A gives B all flows, twice;
                     what begins before the first time is over begins at A, for it knows which ports are taken
    settled          A is the second: it has everything, for B informed it since it was announced. What ends
                     in A's sockets stays there: B hands it what B does not know, until A says that it ended
    filling          the owner informs C, and gives it all flows; then dispatchers know that C is the second

If A dies after it was announced, X had everything until then, and gives it to B in A's place. If B dies, A
takes over: it has everything, for B informed it.

A shard of which connections end in a former owner's sockets moves nowhere but back to that one, who then
hands what it does not know to the one that it comes from: so there are never more than two who have any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trunkline.units.words import NOBODY, ShardWord

#: How often the former owner gives what it has: once all of it, once what changed until nobody sent to it.
HANDS = 2


@dataclass(frozen=True)
class Held:
    """One shard: which units have its flows. Units by their numbers; `NOBODY` where there is none."""

    #: To whom dispatchers send, or are about to.
    owner: int = NOBODY
    #: Who takes over when the owner dies: dispatchers know it.
    second: int = NOBODY
    #: The second misses what changed lately.
    stale: bool = False
    #: Has flows that the owner may not know; how often it gave them.
    former: int = NOBODY
    handed: int = 0
    #: What begins, begins there.
    begins: bool = False
    #: Was the former owner's second.
    spare: int = NOBODY
    #: Was the owner, and may have connections that end in its sockets: it gets what the owner does not know.
    #: The owner itself, while the shard comes back to it.
    ends: int = NOBODY
    #: Is told that it is the owner; dispatchers are not yet.
    heir: int = NOBODY
    #: Is kept informed, and gets all flows: the next second.
    filling: int = NOBODY
    #: Have flows, or copies, that nobody needs.
    litter: frozenset[int] = frozenset()

    @property
    def moving(self) -> bool:
        return self.heir != NOBODY or self.former != NOBODY

    def parts(self) -> set[int]:
        """The units that have flows which may be needed."""
        has_all = {self.owner, self.second, self.former, self.spare, self.heir, self.filling}
        return {*has_all, self.ends} - {NOBODY}


def word_for(shard: int, held: Held, unit: int, *, spreads: bool) -> ShardWord:
    """What a unit is to know of a shard: a dispatcher, who `spreads`, or a data plane."""
    before = held.former if held.former != NOBODY else held.ends if held.ends != held.owner else NOBODY
    if spreads:
        return ShardWord(shard, held.owner, held.second, before)
    if held.heir != NOBODY:
        # Dispatchers send to the owner still, who hands to whoever had the shard before.
        former = {held.heir: held.owner, held.owner: held.ends}.get(unit, NOBODY)
        begins = unit == held.heir and former != NOBODY
        return ShardWord(shard, held.heir, held.owner, former, begins)
    filled = held.second if held.filling == NOBODY else held.filling
    if unit == held.former:
        # It gives what it has until it is told otherwise. What dispatchers sent before they switched may be
        # for the owner's sockets.
        before = held.owner if held.ends == held.owner else unit
    elif unit != held.owner:
        before = NOBODY
    begins = unit == held.owner and held.former != NOBODY and held.begins
    return ShardWord(shard, held.owner, filled, before, begins)


def announced(held: Held, heir: int) -> Held:
    """The shard is to move."""
    rest = replace(held, heir=heir, filling=NOBODY, stale=held.stale or held.second != NOBODY)
    return _littered(rest, held.filling)


def switched(held: Held) -> Held:
    """Who was announced is the owner now."""
    if held.owner == NOBODY:
        return replace(held, owner=held.heir, heir=NOBODY)
    spare = held.second if held.second != held.heir else NOBODY
    return replace(
        held, owner=held.heir, heir=NOBODY, second=held.owner, stale=False,
        former=held.owner, handed=0, begins=True, spare=spare,
    )  # fmt: skip


def settled(held: Held) -> Held:
    """The owner knows all that the former one did, but for what ends in that one's sockets."""
    # Who never was the owner has nothing that ends there.
    ends = held.former if held.ends in (NOBODY, held.owner) else held.ends
    rest = replace(held, former=NOBODY, handed=0, begins=False, spare=NOBODY, ends=ends)
    return _littered(rest, held.former, held.spare)


def ended(held: Held) -> Held:
    """No connection ends in a former owner's sockets any more."""
    return _littered(replace(held, ends=NOBODY), held.ends)


def filled(held: Held) -> Held:
    """Who was filled has everything."""
    rest = replace(held, second=held.filling, filling=NOBODY, stale=False)
    return _littered(rest, held.second)


def unfilled(held: Held) -> Held:
    """Who was to be filled cannot be."""
    return _littered(replace(held, filling=NOBODY), held.filling)


def next_step(held: Held, owner: int, second: int, *, room: bool) -> Held:
    """What is to be begun, or given up, to have this owner and this second; itself where nothing is.

    `room`: there may be one more that moves. A unit that has something which nobody needs forgets that first.
    """
    if held.heir != NOBODY:
        # The second missed what happened since: it was announced that it is none.
        return held if held.heir == owner else _littered(replace(held, heir=NOBODY), held.heir)
    if held.former != NOBODY:
        return held
    if owner not in (held.owner, NOBODY) and held.ends in (NOBODY, owner):
        return announced(held, owner) if room and owner not in held.litter else held
    if second == held.owner:
        # The shard cannot go from there yet: who is to have it later has the copies now.
        second = owner
    if held.filling not in (second, NOBODY):
        return unfilled(held)
    if held.filling == NOBODY and second == NOBODY != held.second:
        return _littered(replace(held, second=NOBODY, stale=False), held.second)
    if held.filling == NOBODY and second != NOBODY and (second != held.second or held.stale):
        if not room or second in held.litter:
            return held
        return replace(held, filling=second, stale=held.second != NOBODY)
    return held


def without(held: Held, unit: int) -> Held:
    """The shard when what a unit had is lost."""
    held = replace(held, litter=held.litter - {unit})
    if held.spare == unit:
        held = replace(held, spare=NOBODY)
    if held.heir == unit:
        held = replace(held, heir=NOBODY)
    if held.filling == unit:
        held = replace(held, filling=NOBODY)
    if held.ends == unit:
        held = replace(held, ends=NOBODY)
    if held.former == unit:
        # Whoever was its second has what it had.
        held = replace(held, former=held.spare, spare=NOBODY, handed=0)
    if held.second == unit:
        held = replace(held, second=NOBODY, stale=False)
    if held.owner == unit:
        held = _bereft(held)
        if held.owner == NOBODY:
            held = replace(held, owner=held.ends)
        if held.owner == held.ends and held.former == NOBODY:
            held = replace(held, ends=NOBODY)
    return held


def passed(held: Held) -> Held:
    """The shard when dispatchers send past its owner, which has what it had: the second, and newer flows."""
    if {held.former, held.second} == {NOBODY}:
        return held
    rest = without(held, held.owner)
    return _littered(replace(rest, second=held.owner, stale=True), rest.second)


def _bereft(held: Held) -> Held:
    """The shard when its owner is lost: dispatchers send to the second by themselves, and so it is."""
    if held.former != NOBODY:
        rest = replace(
            held, owner=held.former, former=NOBODY, handed=0, begins=False,
            second=held.spare, spare=NOBODY,
        )  # fmt: skip
        if held.former != held.second:
            rest = _littered(rest, held.second)
        return replace(rest, stale=rest.second != NOBODY)
    if held.second != NOBODY:
        # Who was being filled knows the newest.
        newest = held.filling if held.filling != held.second else NOBODY
        rest = replace(
            held, owner=held.second, second=NOBODY, stale=False,
            former=newest, handed=0, begins=False, heir=NOBODY, filling=NOBODY,
        )  # fmt: skip
        return _littered(rest, held.heir)
    # Better some of the flows than none.
    some = held.filling if held.filling != NOBODY else held.heir
    return replace(held, owner=some, heir=NOBODY, filling=NOBODY)


def _littered(held: Held, *units: int) -> Held:
    """Whoever of these has no part in the shard any more has litter."""
    return replace(held, litter=held.litter | ({*units} - {NOBODY} - held.parts()))
