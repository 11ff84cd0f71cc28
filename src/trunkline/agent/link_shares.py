"""What ports are promised of the links to physical networks, kept in packets: of what the host sends.

Each interface that leads to such a network has a hierarchy of token buckets (`devices.htb`) for as long as a
port is promised something there. Open vSwitch's own queues are obeyed by its datapath in the kernel alone;
what leaves the one in user space passes the interface's queueing discipline, too. ovs-vswitchd removes what
it finds on its interfaces when it starts.

In user space all that waits there counts against the buffer of one socket, by which every interface is sent
to: where the rest fills it, nobody sends. So little may wait.
"""

from __future__ import annotations

import time
from collections import defaultdict

from trunkline.agent import uplinks
from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import HostSlice
from trunkline.devices import htb
from trunkline.devices.htb import Shares
from trunkline.devices.ovsdb import Database
from trunkline.errors import Conflict

#: They are looked at this often where nothing else has changed.
_LOOK_SECONDS = 5.0
#: Packets that wait for an interface: of whole frames, half of what a socket's buffer holds by default.
_QUEUE = {"netdev": 64, "system": 4000}


class LinkShares:
    """Manager of the above. Owns the disciplines with the handle 746c: of the host's interfaces."""

    def __init__(self, config: AgentConfig, db: Database) -> None:
        self._config = config
        self._db = db
        #: By physical network: kilobits a second by source MAC address.
        self._shares: dict[str, dict[str, int]] = {}
        self._promised: dict[str, int] = {}
        self._wanted: dict[str, Shares] | None = None
        self._looked = 0.0
        #: Whether there may be any.
        self._used = True
        self._complaints: list[str] = []

    def want(self, slice_: HostSlice) -> None:
        """What this slice promises, and no more."""
        shares: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for port in slice_.ports:
            if port.share is not None:
                shares[port.share.physical_network][port.mac] += port.share.kbps
        self._shares = {network: dict(macs) for network, macs in shares.items()}
        self._promised = slice_.promised

    async def apply(self) -> None:
        """Drives the host there.

        Raises:
            Conflict, ToolFailed: some promise is not kept in packets, and why; the others are.
        """
        wanted, now = self._divided(), time.monotonic()
        if self._complaints or wanted != self._wanted or now > self._looked + _LOOK_SECONDS:
            self._wanted = None
            self._complaints = await self._drive(wanted)
            self._wanted, self._looked = wanted, now
        if self._complaints:
            raise Conflict(" ".join(["What ports are promised is not kept in packets:", *self._complaints]))

    async def _drive(self, wanted: dict[str, Shares]) -> list[str]:
        """Returns what is in the way, a sentence each."""
        if not (wanted or self._used):
            return []
        self._used = True
        complaints = []
        there = await htb.disciplines()
        for name, found in there.items():
            if found.ours and name not in wanted:
                await htb.remove(name)
        for name, shares in wanted.items():
            now = there.get(name)
            if now is None:
                complaints.append(f"{name} is no interface of the kernel.")
            elif not (now.ours or now.default):
                complaints.append(
                    f"{name} has a queueing discipline of somebody else's, {now.kind} {now.handle}"
                    f" (`tc qdisc del dev {name} root` removes it)."
                )
            elif not (now.ours and await htb.is_right(name, shares)):
                await htb.put(name, shares, instead=now.ours)
        self._used = bool(wanted)
        return complaints

    def _divided(self) -> dict[str, Shares]:
        """How each interface is to be divided. Several of one network carry the same part each."""
        if not self._shares:
            return {}
        found: dict[str, Shares] = {}
        speeds = {each.physical_network: each.egress_kbps for each in uplinks.speeds(self._config, self._db)}
        for network, interfaces in uplinks.leading(self._config, self._db):
            shares = self._shares.get(network)
            total = self._promised.get(network, speeds.get(network, 0)) // max(1, len(interfaces))
            if network and shares and total:
                division = Shares(total, tuple(sorted(shares.items())), _QUEUE[self._config.datapath])
                found.update(dict.fromkeys(interfaces, division))
        return found
