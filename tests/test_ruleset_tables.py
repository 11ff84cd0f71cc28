"""A table that takes the place of another one: what is made, what stays, and what goes, and when."""

from __future__ import annotations

import re

from trunkline.units.tables import Table, discarded, steps

_MADE = re.compile(r"^  ((?:map|chain) [abck]_\S+) \{$", re.MULTILINE)
_GONE = re.compile(r"^delete (map|chain) inet appliance (\S+)$", re.MULTILINE)


class Kernel:
    """Which objects there are. What is made is not there yet, what goes is there and not used any more."""

    def __init__(self) -> None:
        self.there: set[str] = set()

    def apply(self, text: str) -> set[str]:
        """Does one transaction; returns what it made."""
        made = set(_MADE.findall(text))
        gone = {f"{kind} {name}" for kind, name in _GONE.findall(text)}
        assert not made & self.there
        assert gone <= self.there
        self.there = (self.there | made) - gone
        return made


def text_of(*lasting: str, replaces: str | None = "") -> str:
    table = Table(replaces)
    base = table.base("sources", "nat hook postrouting priority srcnat")
    table.chain("rules").append("accept")
    for name in lasting:
        map_ = table.lasting_map(name, "type mark : inet_service", ["1 : 80"])
        base.append(f"goto {table.lasting(name, [f'snat to 192.0.2.1:mark map {map_}'])}")
    return table.text()


def test_what_lasts_is_made_once_and_goes_when_nobody_needs_it() -> None:
    kernel, lasting = Kernel(), {"map k_x", "chain k_x"}
    first = text_of("x")
    for step in steps(first):
        kernel.apply(step)
    assert lasting <= kernel.there
    second = text_of("x", "y", replaces=first)
    made = set().union(*map(kernel.apply, steps(second)))
    assert made >= {"map k_y", "chain k_y"}
    assert not made & lasting
    third = text_of("y", replaces=second)
    for step in steps(third):
        kernel.apply(step)
    # A packet may be under way by the rules before.
    assert lasting <= kernel.there
    for step in steps(text_of("y", replaces=third)):
        kernel.apply(step)
    assert not kernel.there & lasting


def test_what_was_about_to_go_stays_when_it_is_needed_again() -> None:
    kernel, lasting = Kernel(), {"map k_x", "chain k_x"}
    text = ""
    for names in (("x",), (), ("x",), ("x",), (), (), ("x",)):
        text = text_of(*names, replaces=text)
        for step in steps(text):
            kernel.apply(step)
            assert lasting <= kernel.there or not names
    assert lasting <= kernel.there


def test_what_was_loaded_and_is_not_to_be_in_force_leaves_what_is() -> None:
    kernel = Kernel()
    first = text_of("x")
    for step in steps(first):
        kernel.apply(step)
    before = set(kernel.there)
    other = text_of("x", "y", replaces=first)
    kernel.apply(steps(other)[0])
    kernel.apply(discarded(other))
    assert kernel.there == before
