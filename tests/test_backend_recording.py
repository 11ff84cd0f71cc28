"""The recording backend: what tests of the layers above rely on."""

from __future__ import annotations

import asyncio

import pytest
from ovn_networks import everything
from ovsdb_lab import asynchronous

from trunkline.backends.contract import Backend, Observation
from trunkline.backends.recording import RecordingBackend
from trunkline.compiler.logical import LogicalNetwork
from trunkline.errors import Unavailable


@asynchronous
async def test_it_keeps_what_was_applied_and_counts_the_difference() -> None:
    made = RecordingBackend()
    backend: Backend = made
    await backend.start()
    first = await backend.apply(everything())
    assert (first.revision, first.inserted > 20, first.changed, first.removed) == (7, True, 0, 0)
    again = await backend.apply(everything())
    assert (again.inserted, again.changed, again.removed) == (0, 0, 0)
    assert (await backend.apply(LogicalNetwork())).removed == first.inserted
    assert made.applied[0] == everything()
    assert made.network == LogicalNetwork()


@asynchronous
async def test_faults_and_observations_are_scripted() -> None:
    made = RecordingBackend()
    made.faults.append(Unavailable("later"))
    with pytest.raises(Unavailable, match="later"):
        await made.apply(everything())
    made.disturb(2)
    assert (await made.apply(everything())).healed == 2
    await made.changed()
    made.show(Observation(ports_up={"p1": "h1"}))
    async with asyncio.timeout(5):
        await made.changed()
    assert made.observe().ports_up == {"p1": "h1"}
    made.disconnect()
    with pytest.raises(Unavailable):
        await made.apply(everything())
    assert made.observe().problems
    made.reconnect()
    made.plug = True
    await made.apply(everything())
    assert made.observe() == Observation(ports_up={"p1": "h1", "p2": "h2"})
