"""What northd makes of rows that somebody deleted is refused, and nothing is new to it when they are back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from ovn_central import Central, central
from ovn_networks import everything
from ovsdb_lab import asynchronous, run, wait_until
from test_backend_ovn_apply import backend, healed, wipe

from trunkline.backends.ovn.fence import Fence

pytestmark = pytest.mark.machine

#: Tables of the southbound database whose rows hosts go by.
WATCHED = (
    "Datapath_Binding",
    "Port_Binding",
    "Logical_Flow",
    "Logical_DP_Group",
    "Port_Group",
    "Address_Set",
)


@pytest.fixture
def ovn() -> Iterator[Central]:
    with central() as daemons:
        yield daemons


def role(ovn: Central) -> str:
    """What northd says that it does: "active" or "standby"."""
    return run(
        "ovs-appctl", "--timeout=10", "-t", str(ovn.northd.log.with_name("northd.ctl")), "status"
    ).split()[-1]


def rows(ovn: Central) -> dict[str, set[str]]:
    """The UUIDs of what northd made."""
    return {t: set(ovn.sbctl("--bare", "--columns=_uuid", "list", t).split()) for t in WATCHED}


@asynchronous
async def test_hosts_see_nothing_of_a_northbound_database_that_is_wiped_and_filled_again(
    ovn: Central,
) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        await asyncio.to_thread(ovn.sync)
        before = rows(ovn)
        assert all(before.values())
        # Who is quicker is not to decide here.
        ovn.northd.send(signal.SIGSTOP)
        try:
            await wipe(ovn)
            assert await healed(made, network) > 0
        finally:
            ovn.northd.send(signal.SIGCONT)
        await asyncio.to_thread(ovn.sync)
        assert rows(ovn) == before


@asynchronous
async def test_northd_writes_nothing_until_the_fence_is_lowered(ovn: Central) -> None:
    fence = Fence([ovn.sb.remote])
    assert await asyncio.to_thread(role, ovn) == "active"
    fence.raise_()
    await asyncio.to_thread(wait_until, lambda: role(ovn) == "standby", "northd stands by")
    await asyncio.to_thread(ovn.nbctl, "ls-add", "n")
    assert [await asyncio.to_thread(role, ovn) for _ in range(10)] == ["standby"] * 10
    assert not rows(ovn)["Datapath_Binding"]
    fence.lower()
    await asyncio.to_thread(wait_until, lambda: rows(ovn)["Datapath_Binding"], "it goes on")
    # Whoever deletes rows again and again does not keep northd away for good.
    fence.raise_()
    assert not fence.up


@asynchronous
async def test_what_is_deleted_by_ourselves_is_no_loss(ovn: Central) -> None:
    async with backend(ovn) as made:
        network = everything()
        await made.apply(network)
        await made.apply(replace(network, ports={}))
        await asyncio.to_thread(ovn.sync)
        assert "standby" not in ovn.northd.log.read_text()
        await asyncio.to_thread(ovn.nbctl, "ls-del", "ls-web")
        assert await healed(made, replace(network, ports={})) > 0
        await asyncio.to_thread(
            wait_until, lambda: "standby" in ovn.northd.log.read_text(), "it was kept away"
        )
        await asyncio.to_thread(wait_until, lambda: role(ovn) == "active", "it goes on")
