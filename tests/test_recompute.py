"""Whatever is done over the APIs, what was compiled step by step is what compiling everything gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_lab import ApiLab
from msgspec.structs import replace
from things import Things
from valid_requests import valid_requests

from trunkline import persistent
from trunkline.api.network.collection import path_of
from trunkline.backends.ovn.rows import Translation, desired
from trunkline.compiler import names
from trunkline.compiler.hosts import PROBE, host_slices
from trunkline.compiler.incremental import Compiler
from trunkline.compiler.network import logical_network
from trunkline.compiler.settings import Settings
from trunkline.control.replica import Replica
from trunkline.resources.schema import Spec, specs

SETTINGS = Settings()
STEPS = 120
#: What walks are made of: a valid request of the network and of the compute API, as all endpoints have
#: them; the end of any resource; a port that a host has; a router's interface that comes, and that goes.
MOVES = {"request": 6, "delete": 3, "probe": 1, "attach": 1, "detach": 1}


@pytest.fixture(params=[1, 2, 3])
def walk(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    # What a walk makes is not much: what is large is so with few entries.
    monkeypatch.setattr(persistent, "SMALL", 4)
    monkeypatch.setattr(names, "FEW", 1)
    lab = ApiLab(tmp_path)
    yield Walk(lab, random.Random(request.param))
    lab.close()


#: The services whose requests are walked over.
WALKED = ("network", "compute", "appliance", "load-balancer")


class Walk:
    """Steps over the APIs of one lab, each named; and what is compiled along the way."""

    def __init__(self, lab: ApiLab, chance: random.Random) -> None:
        self._lab = lab
        self._chance = chance
        self._replica = Replica(lab.store)
        self._compiler = Compiler(SETTINGS)
        self._translation = Translation()
        self._things = Things(lab)
        found = (r for r in valid_requests(self._things) if r.service in WALKED)
        self._requests = list(found)
        #: What was done, for who reads of a failure.
        self.done: list[str] = []
        #: How many records and slices differed from one step to the next.
        self.changed = 0

    def step(self) -> None:
        """Does something. It may be refused: what it needs is gone, or it is there already."""
        (move,) = self._chance.choices(list(MOVES), list(MOVES.values()))
        method, path, body, by = getattr(self, f"_{move}")()
        reply = self._lab.ask(method, path, body, by=by)
        assert reply.status_code < 500, (method, path, body, reply.text)
        self.done.append(f"{reply.status_code} {method} {path} {body}")

    def check(self) -> None:
        """Compares what was compiled by steps with what is compiled from nothing."""
        snapshot = self._replica.refresh()
        assert snapshot.objects == Replica(self._lab.store).refresh().objects, self.done
        network, slices = self._compiler.compile(snapshot)
        told = {host: replace(one, revision=snapshot.intent) for host, one in slices.items()}
        assert network == logical_network(snapshot, SETTINGS), self.done
        assert told == host_slices(snapshot, SETTINGS), self.done
        assert self._translation.update(network).tables() == desired(network), self.done
        if network.delta is not None:
            self.changed += sum(map(len, network.delta.keys.values()))

    def _request(self) -> tuple[str, str, object, str]:
        made = self._chance.choice(self._requests)
        return made.method, made.path, made.body, made.by

    def _delete(self) -> tuple[str, str, object, str]:
        spec = self._chance.choice([spec for spec in specs().values() if spec.service == "network"])
        found = self._all(spec)
        id = self._chance.choice(found) if found else "nothing"
        return "DELETE", f"{_path(spec)}/{id}", None, "admin"

    def _probe(self) -> tuple[str, str, object, str]:
        port = {"network_id": self._things.network, "device_owner": PROBE, "binding:host_id": "h1"}
        return "POST", "/network/v2.0/ports", {"port": port}, "admin"

    def _attach(self) -> tuple[str, str, object, str]:
        where = f"/network/v2.0/routers/{self._things.router}/add_router_interface"
        return "PUT", where, {"subnet_id": self._things.subnet}, "demo"

    def _detach(self) -> tuple[str, str, object, str]:
        where = f"/network/v2.0/routers/{self._things.router}/remove_router_interface"
        return "PUT", where, {"subnet_id": self._things.subnet}, "demo"

    def _all(self, spec: Spec) -> list[str]:
        with self._lab.store.read() as reader:
            return sorted(one.id for one in reader.select(spec.cls))


def _path(spec: Spec) -> str:
    return f"/network{path_of(spec)}"


def test_recompute_changes_nothing(walk: Walk) -> None:
    walk.check()
    for _ in range(STEPS):
        walk.step()
        walk.check()
    refused = sum(not step.startswith("2") for step in walk.done)
    assert (walk.changed > STEPS / 4, refused < STEPS * 3 / 4) == (True, True), walk.done
