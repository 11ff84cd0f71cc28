"""How many data planes there are by their load, over loads that are made up.

| claim | and in reverse |
| --- | --- |
| a load above the target has as many come as it wants, at once | a second of it alone has none come |
| one goes at a time, each after a cool-down of room to spare | none goes that leaves too much to the others |
| a load that goes up and down around the target has nobody come and go | |
| what was not seen all the time has none go | |
| it stays from least to most | |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from trunkline.plan.growth import GAP, LOOKS, SMOOTH, Curve, needed, wanted
from trunkline.resources.appliance import Scaling

RULE = Scaling(target_load=0.6, least=1, most=6, cool_down=30.0)


def lived(
    traffic: Callable[[int], float], seconds: int, rule: Scaling = RULE, planes: int = 1, late: int = 3
) -> list[int]:
    """How many there were at each second.

    Args:
        traffic: by the second, in processors of a data plane; what is more than there are is not seen.
        late: so many seconds after it came a data plane gets its part of it.
    """
    curve, found, changed = Curve(), [], -math.inf
    for now in range(seconds):
        working = found[-late] if len(found) >= late else planes
        curve.look(now, min(traffic(now), min(working, planes)), whole=True, keep=rule.cool_down)
        wish = min(wanted(rule, planes, curve, now, now - changed), rule.most)
        if wish != planes:
            planes, changed = wish, now
        found.append(planes)
    return found


def test_as_many_come_at_once_as_the_load_wants() -> None:
    lives = lived(lambda now: 3.0, 12, planes=4)
    assert lives[:2] == [4, 4], "too little was seen"
    assert lives[2:] == [5] * 10
    # One that is full does not tell how much more there is: it takes several steps.
    lives = lived(lambda now: 3.0, 30)
    assert (lives[-1], sorted(lives) == lives) == (5, True)


def test_a_load_of_a_second_has_none_come() -> None:
    assert set(lived(lambda now: 0.9 if now == 20 else 0.4, 60)) == {1}


def test_one_goes_after_each_cool_down() -> None:
    lives = lived(lambda now: 2.9 if now < 20 else 0.2, 240, planes=5)
    changes = [(now, lives[now]) for now in range(1, 240) if lives[now] != lives[now - 1]]
    assert [planes for _, planes in changes] == [4, 3, 2, 1]
    times = [now for now, _ in changes]
    assert times[0] >= 20 + RULE.cool_down
    assert all(later - earlier >= RULE.cool_down for earlier, later in itertools.pairwise(times))


def test_none_goes_that_leaves_too_much_to_the_others() -> None:
    # 1.1 fits on two below the target, but not with room to spare.
    assert set(lived(lambda now: 1.1, 300, planes=3)) == {3}
    assert set(lived(lambda now: 1.0, 300, planes=3)[200:]) == {2}


def test_a_load_around_the_target_has_nobody_come_and_go() -> None:
    lives = lived(lambda now: 1.2 + 0.1 * math.sin(now / 7), 600, planes=2)
    assert lives[-1] == 3
    assert sum(one != other for one, other in itertools.pairwise(lives)) == 1
    # Bursts more often than the cool-down, too.
    lives = lived(lambda now: 2.2 if now % 25 < 10 else 0.1, 600)
    assert len(set(lives[100:])) == 1


def test_what_was_not_seen_all_the_time_has_none_go() -> None:
    curve = Curve()
    for now in range(100):
        curve.look(now, 0.1, whole=now != 80, keep=RULE.cool_down)
    assert wanted(RULE, 3, curve, 99, 1000.0) == 3
    for now in range(100, 112):
        curve.look(now, 0.1, whole=True, keep=RULE.cool_down)
    assert wanted(RULE, 3, curve, 111, 1000.0) == 2
    assert wanted(RULE, 3, curve, 111, 29.0) == 3, "it has changed of late"
    assert wanted(RULE, 3, Curve(), 111, 1000.0) == 3, "control has just begun"


def test_it_stays_from_least_to_most() -> None:
    rule = Scaling(target_load=0.6, least=2, most=4, cool_down=10.0)
    assert set(lived(lambda now: 0.0, 100, rule)) == {2}
    assert max(lived(lambda now: 50.0, 100, rule)) == 4
    assert lived(lambda now: 0.0, 100, rule, planes=9)[5] == 4


@given(st.lists(st.floats(0, 4), min_size=30, max_size=120), st.floats(0.1, 0.9))
def test_what_goes_was_never_needed_in_the_cool_down(loads: list[float], target: float) -> None:
    rule = Scaling(target_load=target, least=1, most=100, cool_down=10.0)
    lives = lived(lambda now: loads[now], len(loads), rule, planes=5, late=1)
    for now in range(1, len(loads)):
        if lives[now] < lives[now - 1]:
            seen = [min(loads[at], lives[at - 1] if at else 5) for at in range(now + 1)]
            means = [
                sum(seen[max(0, at - int(SMOOTH) + 1) : at + 1]) / min(at + 1, int(SMOOTH))
                for at in range(max(now - 9, LOOKS - 1), now + 1)
            ]
            assert max(means) < GAP * target * lives[now] + 1e-9
            assert needed(rule, means[-1]) <= lives[now]
