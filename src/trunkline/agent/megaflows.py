"""Has Open vSwitch forget what it made of a packet before its flows changed.

When flows change, ovs-vswitchd puts right the megaflows of its datapath that lead elsewhere now. Before 3.3
it looked a megaflow up by its packet to do so, and in user space, where two overlap, it found the other one:
what the first did before, it went on doing for as long as packets came, whatever the rules of a port say now
(Open vSwitch, commit 21410ff80, "dpif-netdev: Fix dpif_netdev_flow_put").

The datapath in user space makes its megaflows by itself: what ovs-vswitchd counts as put there are those that
it puts right. So whenever that number has grown, all are thrown away, and packets make them anew. It adds
up what its threads counted once a second: a megaflow is wrong for at most about two.

A new mirror it overlooks altogether now and then: megaflows that were made at that moment copy nothing,
nothing is put right, and so it stays for ten seconds and more, while packets come (5 of 12 mirrors, measured
on two busy cores). Whoever makes one says so: `doubt`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time

from trunkline.agent.config import AgentConfig
from trunkline.devices import openvswitch
from trunkline.errors import Unavailable

log = logging.getLogger(__name__)
#: The first version that finds the right one.
_MENDED = (3, 3)
#: How often it is looked.
_SECONDS = 0.5
#: How long all is thrown away after a doubt: by then ovs-vswitchd has taken over what its database says.
_DOUBTFUL = 3.0


class Megaflows:
    """Watches over the above. It owns nothing that stays."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._doubtful_until = 0.0

    def doubt(self) -> None:
        """What was made up to now, or is made in the next seconds, may be wrong."""
        self._doubtful_until = time.monotonic() + _DOUBTFUL

    async def run(self) -> None:
        """Looks twice a second; ends when it is cancelled."""
        put = ""
        while True:
            try:
                if await self._may_be_wrong():
                    doubtful = time.monotonic() < self._doubtful_until
                    put = await self._purge(unless="" if doubtful else put)
            except Unavailable as error:
                log.debug("megaflows are looked at later: %s", error)
            await asyncio.sleep(_SECONDS)

    async def _may_be_wrong(self) -> bool:
        if self._config.datapath != "netdev":
            return False
        version = re.search(r"(\d+)\.(\d+)", await self._ask("version"))
        return version is not None and (int(version[1]), int(version[2])) < _MENDED

    async def _purge(self, unless: str) -> str:
        """Throws all away, unless this many were put right by now; returns how many were."""
        put = await self._ask("coverage/read-counter", "dpif_flow_put")
        if put != unless:
            await self._ask("revalidator/purge")
        return put

    async def _ask(self, method: str, *params: str) -> str:
        """Asks ovs-vswitchd.

        Raises:
            Unavailable: it does not run, or does not answer.
        """
        run = self._config.ovs_run_folder
        for socket in (*run.glob("ovs-vswitchd.*.ctl"), *run.glob("ovs-vswitchd.ctl")):
            with contextlib.suppress(Unavailable):
                return await openvswitch.unixctl(socket, method, *params)
        raise Unavailable(f"no ovs-vswitchd answers in {run}")
