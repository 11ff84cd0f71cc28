"""What a dispatcher knows of policies, while they change."""

from __future__ import annotations

from typing import Any

from trunkline.resources.appliance_policy import parse
from trunkline.units.ends import KEPT, Ends
from trunkline.units.fabric import Blocks

OURS = "192.0.2.1"


class Told:
    """In place of a fabric: what it would know."""

    def __init__(self) -> None:
        self.ends: set[tuple[str, int, int]] = set()
        self.blocks: dict[str, Blocks] = {}

    def tell_published(self, address: str, port: int, protocol: int) -> None:
        self.ends.add((address, port, protocol))

    def untell_published(self, address: str, port: int, protocol: int) -> None:
        self.ends.remove((address, port, protocol))

    def tell_sources(self, sources: dict[str, Blocks]) -> None:
        self.blocks |= sources

    def untell_source(self, address: str) -> None:
        del self.blocks[address]


def policy(port: int, member: str, *ports: str) -> Any:
    """A service of ours at that port; sources are translated to these."""
    source = [{"from": "inside", "to": "outside", "addresses": [OURS], "ports": each} for each in ports]
    target = {"zone": "outside", "address": OURS, "service": f"tcp/{port}", "to": member, "port": 8080}
    return parse({"nat": {"source": source, "destination": [target]}})


def ends(port: int, member: str) -> set[tuple[str, int, int]]:
    return {(OURS, port, 6), (member, 8080, 6)}


def begun() -> tuple[Told, Ends]:
    told = Told()
    made = Ends(told)
    made.prepare(policy(80, "10.0.0.5", "1024-65535"))
    made.commit(0.0)
    return told, made


def test_a_policy_is_known_before_it_is_in_force() -> None:
    told, made = begun()
    assert told.ends == ends(80, "10.0.0.5")
    assert told.blocks == {OURS: Blocks(1024, 252)}
    made.prepare(policy(81, "10.0.0.6", "1024-65535"))
    assert told.ends == ends(80, "10.0.0.5") | ends(81, "10.0.0.6")


def test_what_was_prepared_and_not_done_is_forgotten() -> None:
    told, made = begun()
    made.prepare(policy(81, "10.0.0.6"))
    made.prepare(policy(82, "10.0.0.7"))
    assert told.ends == ends(80, "10.0.0.5") | ends(82, "10.0.0.7")


def test_flows_of_a_former_policy_stay_where_they_are_for_a_while() -> None:
    told, made = begun()
    made.prepare(policy(81, "10.0.0.6"))
    made.commit(1.0)
    made.expire(KEPT)
    assert told.ends == ends(80, "10.0.0.5") | ends(81, "10.0.0.6")
    assert told.blocks == {OURS: Blocks(1024, 252)}
    made.expire(KEPT + 2)
    assert (told.ends, told.blocks) == (ends(81, "10.0.0.6"), {})


def test_ports_that_sources_have_are_not_published_too() -> None:
    told, made = begun()
    # Port 5000 is a source's until the policy is in force.
    made.prepare(policy(5000, "10.0.0.6", "8192-65535"))
    assert told.ends == ends(80, "10.0.0.5") | {("10.0.0.6", 8080, 6)}
    assert told.blocks == {OURS: Blocks(1024, 252)}
    made.commit(1.0)
    assert told.ends == ends(80, "10.0.0.5") | ends(5000, "10.0.0.6")
    assert told.blocks == {OURS: Blocks(8192, 224)}
    # And back.
    made.prepare(policy(80, "10.0.0.5", "1024-65535"))
    made.commit(2.0)
    assert told.ends == ends(80, "10.0.0.5") | {("10.0.0.6", 8080, 6)}


def test_what_comes_back_does_not_go_with_the_former_policy() -> None:
    told, made = begun()
    for now, port in enumerate((81, 80)):
        made.prepare(policy(port, "10.0.0.5"))
        made.commit(float(now))
    made.expire(KEPT + 3)
    assert told.ends == ends(80, "10.0.0.5")
