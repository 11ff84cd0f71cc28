"""What processes of a data plane begin themselves: connections of shards that are here.

    connect() ── output: mark = LOCAL, one of the own shards ── postrouting: a port of the shard ──▶ leg
    read()   ◀── a dispatcher knows the shard by the port, and who has it ─────────────────────────── leg

So the answers come to who asked, whoever else has that address. A connection ends in a socket, which stays
where it is: nobody has a copy of it, and when its shard moves it is handed to nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

from trunkline.devices import namespace
from trunkline.errors import Refusal
from trunkline.plan.shards import SHARDS
from trunkline.units.router import apply

log = logging.getLogger(__name__)
#: The bit of a connection's mark that says that an end of it is a socket of this data plane. Below it is the
#: shard.
LOCAL = 0x1_0000
_NAME = "local"
#: Of nftables: a connection that begins gets a shard, and without one it does not begin. Packets have its
#: shard as those that come by the bus do. What is no connection at all (neighbour discovery) passes.
_TABLE = """\
table inet {name} {{
  map own_shards {{ typeof numgen inc mod 2 : ct mark; size {shards}; }}
  chain beginning {{ type filter hook output priority mangle;
    oifname {{ "{control}", "lo" }} accept
    ct state new ct mark and {local} == 0 ct mark set numgen inc mod {shards} map @own_shards
    ct state new ct mark and {local} == 0 drop
    meta mark set ct mark and 0xffff
  }}
}}
"""
#: How long to wait after the kernel refused, seconds.
_AGAIN = 1.0


def elements(own: Collection[int]) -> dict[int, int]:
    """Which shard each of `SHARDS` connections gets, in turn: that of its number, where it is here."""
    some = sorted(own)
    return {n: n if n in own else some[n % len(some)] for n in range(SHARDS)} if some else {}


def changes(before: Mapping[int, int], after: Mapping[int, int]) -> str:
    """One transaction for the kernel: a connection that begins meanwhile meets one or the other."""
    gone = [str(n) for n, shard in before.items() if after.get(n) != shard]
    new = [f"{n} : {LOCAL | shard}" for n, shard in after.items() if before.get(n) != shard]
    lines = [f"delete element inet {_NAME} own_shards {{ {', '.join(gone)} }}"] if gone else []
    lines += [f"add element inet {_NAME} own_shards {{ {', '.join(new)} }}"] if new else []
    return "\n".join([*lines, ""]) if lines else ""


class LocalShards:
    """Owns the table of nftables that sees to it, in this process's kernel. For one event loop."""

    def __init__(self, control: str) -> None:
        """`control` is the device of the out-of-band bus: none of this is for that. Raises Refusal."""
        # Echoes of a socket without rights over frames (icmp(7)).
        namespace.sysctl(None, [("ipv4/ping_group_range", "0 2147483647")])
        apply(_TABLE.format(name=_NAME, control=control, local=LOCAL, shards=SHARDS))
        self._wanted: dict[int, int] = {}
        self._there: dict[int, int] = {}
        #: The shards of what may begin now.
        self._begins: set[int] = set()
        self._news = asyncio.Event()

    def have(self, own: Collection[int]) -> None:
        """These shards are here, and no connection of theirs is elsewhere: what begins is of one of them."""
        wanted = elements(own)
        if wanted != self._wanted:
            self._wanted = wanted
            self._begins.update(wanted.values())
            self._news.set()

    def begins_in(self, shard: int) -> bool:
        """Whether what begins may be of that shard: the kernel is told a moment later than `have`."""
        return shard in self._begins

    async def run(self) -> None:
        """Ends when it is cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            wanted = self._wanted
            try:
                await asyncio.to_thread(apply, changes(self._there, wanted))
                self._there = wanted
                self._begins = {*wanted.values(), *self._wanted.values()}
            except Refusal as error:
                log.warning("own connections are of the shards that were here before: %s", error.message)
                self._news.set()
                await asyncio.sleep(_AGAIN)
