"""Derivations run again where something that they read is another, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import Struct

from trunkline.compiler.derive import Derivations, Node, Sources, View


class House(Struct, frozen=True):
    street: str
    color: str = "white"


class Street(Struct, frozen=True):
    city: str
    length: int = 1


class Sign(Struct, frozen=True):
    key: str
    text: str


RAN: list[str] = []


def city(view: View, street: str) -> str:
    RAN.append(f"city {street}")
    return view.need(Street, street).city


def sign(view: View, key: str) -> Iterator[Sign]:
    RAN.append(f"sign {key}")
    yield Sign(key, view.ask(city, view.need(House, key).street))


def row(view: View, key: str) -> Iterator[Sign]:
    RAN.append(f"row {key}")
    houses = view.where(House, "street", key)
    if houses:
        yield Sign(f"{key}/row", " ".join(house.color for house in houses))


class Town:
    """A town that is derived again after every change."""

    def __init__(self) -> None:
        self.engine: Derivations[Sign] = Derivations(
            (Node(House, sign), Node(Street, row)), lambda one: (Sign, one.key)
        )
        self.sources: Sources = {House: {}, Street: {}}

    def put(self, **objects: House | Street | None) -> dict[str, str]:
        """The signs after the objects came, or went where they are None."""
        RAN.clear()
        sources = {cls: dict(known) for cls, known in self.sources.items()}
        for key, one in objects.items():
            for known in sources.values():
                known.pop(key, None)
            if one is not None:
                sources[type(one)][key] = one
        self.sources = sources
        outcome = self.engine.update(sources)
        return {key: one.text for key, one in outcome.outputs[Sign].items()}


def town() -> Town:
    made = Town()
    made.put(elm=Street("york"), oak=Street("bath"), h1=House("elm"), h2=House("elm"), h3=House("oak"))
    return made


def test_an_object_that_changed_is_derived_again_alone() -> None:
    assert town().put(h3=House("oak", "red"))["oak/row"] == "red"
    assert sorted(RAN) == ["row oak", "sign h3"]


def test_an_answer_that_stays_equal_wakes_nobody() -> None:
    made = town()
    made.put(elm=Street("york", 2))
    assert sorted(RAN) == ["city elm", "row elm"]
    assert made.put(elm=Street("leeds"))["h1"] == "leeds"
    assert sorted(RAN) == ["city elm", "row elm", "sign h1", "sign h2"]


def test_who_looked_for_what_was_not_there_is_told_when_it_comes() -> None:
    made = town()
    made.put(ash=Street("york"))
    assert made.put(h4=House("ash", "blue"))["ash/row"] == "blue"


def test_what_moves_is_found_where_it_is_now_and_nowhere_else() -> None:
    signs = town().put(h1=House("oak", "green"))
    assert (signs["elm/row"], signs["oak/row"], signs["h1"]) == ("white", "green white", "bath")


def test_what_an_answer_was_about_may_go_together_with_who_asked() -> None:
    made = town()
    assert made.put(oak=None, h3=None).keys() == {"h1", "h2", "elm/row"}
    assert made.put(oak=Street("bath"), h3=House("oak"))["h3"] == "bath"


def test_outputs_that_come_out_equal_are_the_same_objects() -> None:
    made = town()
    before = made.engine.update(made.sources).outputs[Sign]
    made.put(elm=Street("leeds"), h3=House("oak", "red"))
    after = made.engine.update(made.sources).outputs[Sign]
    assert after["h3"] is before["h3"]
    assert after["h1"] is not before["h1"]


def test_an_update_says_what_is_another() -> None:
    made = town()
    sources = {**made.sources, House: {**made.sources[House], "h1": House("elm", "red")}}
    changed = made.engine.update(sources, {House: ["h1"]}).changed
    assert {kind: set(keys) for kind, keys in changed.items()} == {Sign: {"elm/row"}}


def test_after_a_failure_everything_is_derived_anew() -> None:
    made = town()
    with pytest.raises(KeyError):
        made.put(h5=House("nowhere"))
    assert made.put(h5=None).keys() == {"h1", "h2", "h3", "elm/row", "oak/row"}
