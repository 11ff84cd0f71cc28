"""Which dispatchers a manager goes by, where the in-band bus is cut between them."""

from __future__ import annotations

from trunkline.plan.sides import ASIDE, Sides, View

PLANES = frozenset({5, 6, 7})


def view(*silent: int, serves: int = 1, fresh: bool = True) -> View:
    return View(frozenset(silent), serves, fresh)


def test_where_all_hear_each_other_nobody_stands_aside_and_who_is_silent_is_so_for_all() -> None:
    sides = Sides()
    assert sides.look({1: view(7), 2: view()}, PLANES, 0.0) == {7}
    assert sides.aside == frozenset()
    # Who hears nobody is not asked.
    assert sides.look({1: view(2, 5, 6, 7), 2: view(1)}, PLANES, 0.0) == {1}


def test_of_two_that_are_apart_the_one_goes_on_that_hears_more_data_planes() -> None:
    sides = Sides()
    # Both tell of it, one a moment later; when it is over, too.
    assert sides.look({1: view(2, 5, 6), 2: view()}, PLANES, 0.0) == frozenset()
    assert sides.look({1: view(2, 5, 6), 2: view(1, 7)}, PLANES, 0.1) == {1, 7}
    assert sides.aside == {1}
    assert sides.look({1: view(2, 5, 6), 2: view()}, PLANES, 9.0) == frozenset()
    assert sides.aside == {1}
    assert sides.look({1: view(), 2: view()}, PLANES, 9.1) == frozenset()
    assert sides.aside == frozenset()


def test_who_goes_on_does_so_where_both_hear_as_many() -> None:
    sides, planes = Sides(), frozenset({5, 6})
    sides.look({1: view(2, 5, serves=0), 2: view(1, 6, serves=2)}, planes, 0.0)
    assert sides.aside == {1}
    sides.look({1: view(2, 5, serves=2), 2: view(1, 6, serves=2)}, planes, 0.1)
    assert sides.aside == {1}


def test_who_died_is_not_gone_by_for_what_it_said_before() -> None:
    # It does not say that it hears nothing of the other one; or it did so, long ago.
    for said in (view(serves=2), view(1, 5, 6, fresh=False)):
        sides = Sides()
        for now in (0.0, 0.5, 2.0):
            found = sides.look({1: view(2, 7), 2: said}, PLANES, now)
            assert sides.aside == frozenset()
        assert found >= {2, 7}


def test_who_stands_aside_is_told_so_again_and_again() -> None:
    sides = Sides()
    sides.look({1: view(2, 5, 6), 2: view(1, 7)}, PLANES, 0.0)
    assert sides.due(10.0) == ([1], [1])
    assert sides.due(10.1) == ([], [])
    assert sides.due(10.0 + ASIDE / 2) == ([], [1])
    sides.look({1: view(), 2: view()}, PLANES, 20.0)
    assert sides.due(20.0) == ([], [])
