"""OVN's northbound database wiped with 10,000 ports in it: how long until OVN has all of them again.

python -m bench.rebuild [--state DIR]

The clock runs from when half of the ports are seen gone until the control process has filled the northbound
database, and until northd has made of it what it makes (NB_Global: sb_cfg has reached nb_cfg).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence

from bench.cloud import Cloud, alone
from bench.figures import Figure
from trunkline.devices.ovsdb import Database

NETWORKS, EACH = 40, 250
PORTS = NETWORKS * EACH
_WIPED = ("Logical_Switch", "Logical_Router", "DHCP_Options", "Port_Group", "Address_Set")


async def measure(cloud: Cloud) -> Sequence[Figure]:
    """One wipe."""
    await cloud.lift_limits()
    for number in range(NETWORKS):
        network = await cloud.network(f"rebuild{number}", f"10.{number}.0.0/16")
        body = {"ports": [{"network_id": network} for _ in range(EACH)]}
        await cloud.call("POST", "/network/v2.0/ports", body)
    return await wipe(cloud, PORTS, lambda north: len(north.tables["Logical_Switch_Port"]) >= PORTS)


async def wipe(cloud: Cloud, ports: int, whole: Callable[[Database], bool]) -> Sequence[Figure]:
    """Wipes OVN's northbound database: how long until all is back.

    Args:
        ports: how many there are.
        whole: whether it has all ports.
    """
    north = await follow(cloud)
    try:
        await _filled(north, whole)
        await translated(north)
        print("  wiping", file=sys.stderr, flush=True)
        commands = [word for table in _WIPED for word in ("--", "--all", "destroy", table)]
        remotes = ",".join(cloud.state.remotes(cloud.facts, "nb"))
        command = ("ovn-nbctl", "--timeout=60", f"--db={remotes}", *commands[1:])
        wiping = await asyncio.create_subprocess_exec(*command)
        async with asyncio.timeout(60.0):
            while len(north.tables["Logical_Switch_Port"]) > ports // 2:
                await north.changed()
        wiped = time.monotonic()
        assert await wiping.wait() == 0, command
        filled = await _filled(north, whole) - wiped
        done = await translated(north) - wiped
    finally:
        await north.close()
    return [
        Figure(f"{ports:,} ports back after a wipe of OVN's northbound database", [filled], "s", 60.0),
        Figure("  and of what northd made of it", [done], "s", 60.0),
    ]


async def follow(cloud: Cloud) -> Database:
    """A replica of what is looked at here of the northbound database."""
    remotes = cloud.state.remotes(cloud.facts, "nb")
    tables = {"Logical_Switch_Port": ["name"], "NB_Global": ["nb_cfg", "sb_cfg"]}
    return await Database.connect(remotes, "OVN_Northbound", tables=tables)


async def _filled(north: Database, whole: Callable[[Database], bool], seconds: float = 180.0) -> float:
    """When all ports were there."""
    async with asyncio.timeout(seconds):
        while not whole(north):
            await north.changed()
    return time.monotonic()


async def translated(north: Database, seconds: float = 180.0) -> float:
    """When northd had made of the northbound database all that it makes."""
    (row,) = north.tables["NB_Global"].values()
    wanted = row["nb_cfg"]
    async with asyncio.timeout(seconds):
        while any(row["sb_cfg"] < wanted for row in north.tables["NB_Global"].values()):
            await north.changed()
    return time.monotonic()


if __name__ == "__main__":
    alone(measure)
