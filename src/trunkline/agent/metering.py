"""What this host counts for metering labels: flows of the integration bridge, added up.

    router policy ── ovn-controller ──▶ flow ── every few seconds ──▶ what it counted since ──▶ labels
                                                                          `──▶ meters.json

A policy that counts (`backends.ovn.metering`) is a flow here. Which gateway a flow is of shows in those of
packets that leave: they match its MAC address, and name its router and port by numbers, which the others of
that router match. What came in is counted where the gateway is, what leaves where it comes from, so that the
counts of a label are the sums of what all hosts say.

Flows come and go, with their counters. What was read of each is kept in a file with the sums, written in one
step: whenever the agent dies, each packet is added once. What a flow counts between the last look and its
end is lost.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import msgspec

from trunkline.agent.config import AgentConfig
from trunkline.compiler.slices import HostSlice, MeterRule, MeterSlice
from trunkline.devices import files, flow_counters
from trunkline.devices.flow_counters import FlowCounter
from trunkline.errors import Unavailable
from trunkline.resources.reports import MeterReport

log = logging.getLogger(__name__)
#: How often flows are looked at, seconds.
_SECONDS = 3.0
#: A flow that is older or younger than it should be by more than this, seconds, is another one.
_TOLERANCE = 1.0
#: Of each packet, what Open vSwitch counts and a router does not: the head of the frame, of Ethernet.
_HEAD = 14

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A flow when it was last looked at."""

    #: When it was made, by the clock of `time.monotonic`, which goes on while the machine does.
    made: float
    packets: int
    bytes: int


class Memory(msgspec.Struct, frozen=True):
    """What is kept: the flows by their keys, and the sums by label."""

    flows: dict[str, Seen] = {}
    labels: dict[str, MeterReport] = {}


class Counted(NamedTuple):
    """What a flow of a gateway has counted since the last look."""

    gateway: str
    direction: Literal["ingress", "egress"]
    source: Prefix
    destination: Prefix
    packets: int
    #: From the IP header on.
    bytes: int


class Metering:
    """Owns what this host has counted, and the file of it.

    Args:
        changed: called when there is more.
    """

    def __init__(self, config: AgentConfig, changed: Callable[[], None]) -> None:
        self._management = config.ovs_run_folder / f"{config.integration_bridge}.mgmt"
        self._file = config.folder / "meters.json"
        self._changed = changed
        self._began = time.monotonic()
        self._wanted: tuple[MeterSlice, ...] = ()
        #: None as long as nothing was ever counted here, as far as is known.
        self._memory = self._remembered()
        #: The table of the flows, when it is known.
        self._table: int | None = None

    @property
    def reports(self) -> tuple[MeterReport, ...]:
        """The sums, by label."""
        memory = self._memory or Memory()
        return tuple(memory.labels[id] for id in sorted(memory.labels))

    def want(self, slice_: HostSlice) -> None:
        """The labels of this slice are counted, and no others."""
        self._wanted = slice_.meters

    async def run(self) -> None:
        """Looks every few seconds where there is anything to count; ends when it is cancelled."""
        while True:
            if self._wanted:
                try:
                    await self.look()
                except (Unavailable, OSError) as error:
                    log.debug("flows are looked at later: %s", error)
            await asyncio.sleep(_SECONDS)

    async def look(self) -> None:
        """Adds what was counted since the last look.

        Raises:
            Unavailable: the switch does not answer.
            OSError: the file cannot be written.
        """
        wanted = self._wanted
        flows = await self._flows(wanted)
        old = self._memory
        # What older flows had counted before anybody remembers may have been told already.
        fresh = self._began if old is None else float("-inf")
        new = counted_up(old or Memory(), wanted, flows, time.monotonic(), fresh)
        if new != old:
            await asyncio.to_thread(files.replace, self._file, msgspec.json.encode(new), 0o600)
            self._memory = new
            if old is None or new.labels != old.labels:
                self._changed()

    async def _flows(self, wanted: Iterable[MeterSlice]) -> list[FlowCounter]:
        """The flows of the table that has them."""
        if self._table is not None:
            found = await flow_counters.read(self._management, f"table={self._table}")
            if any("dl_src" in flow.match for flow in found):
                return found
        # Which table it is differs from version to version.
        for mac in {mac for each in wanted for mac in each.gateways}:
            for flow in await flow_counters.read(self._management, f"ip,dl_src={mac}"):
                self._table = flow.table
                return await flow_counters.read(self._management, f"table={self._table}")
        return []

    def _remembered(self) -> Memory | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Memory)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None


def counted_up(
    old: Memory, wanted: Iterable[MeterSlice], flows: Iterable[FlowCounter], now: float, fresh: float
) -> Memory:
    """What is to be remembered after a look at the flows at the time `now`.

    Args:
        fresh: flows that were not known, and were made before this time, count from now on.
    """
    seen: dict[str, Seen] = {}
    more: dict[str, tuple[int, int]] = {}
    counting = [flow for flow in flows if not flow.drops]
    for flow in counting:
        made = now - flow.age
        last = old.flows.get(flow.key)
        if last is not None and abs(last.made - made) <= _TOLERANCE and last.packets <= flow.packets:
            made = last.made
            more[flow.key] = flow.packets - last.packets, flow.bytes - last.bytes
        elif last is not None or made >= fresh:
            more[flow.key] = flow.packets, flow.bytes
        seen[flow.key] = Seen(made, flow.packets, flow.bytes)
    found = list(_of_gateways(counting, more))
    sums = {each.label: _sum(each, old.labels.get(each.label), found) for each in wanted}
    return Memory(flows=seen, labels=sums)


def _of_gateways(flows: list[FlowCounter], more: Mapping[str, tuple[int, int]]) -> Iterator[Counted]:
    """What was counted, by gateway, direction and prefixes."""
    # By the numbers of router and port.
    gateways = {
        (flow.match.get("metadata"), flow.match["reg15"]): flow.match["dl_src"]
        for flow in flows
        if "dl_src" in flow.match and "reg15" in flow.match
    }
    for flow in flows:
        packets, size = more.get(flow.key, (0, 0))
        match, router = flow.match, flow.match.get("metadata")
        leaves = gateways.get((router, match.get("reg15", "")))
        gateway = leaves or gateways.get((router, match.get("reg14", "")))
        if gateway is None or not packets:
            continue
        if "ipv6" in match:
            sides = (match.get("ipv6_src", "::/0"), match.get("ipv6_dst", "::/0"))
        else:
            sides = (match.get("nw_src", "0.0.0.0/0"), match.get("nw_dst", "0.0.0.0/0"))
        source, destination = (ipaddress.ip_network(side) for side in sides)
        yield Counted(
            gateway=gateway,
            direction="egress" if leaves else "ingress",
            source=source,
            destination=destination,
            packets=packets,
            bytes=size - packets * _HEAD,
        )


def _sum(meter: MeterSlice, before: MeterReport | None, counted: Iterable[Counted]) -> MeterReport:
    """The sums of a label, with what was counted since."""
    sums = before or MeterReport(label=meter.label, since=secrets.token_hex(8))
    for each in counted:
        if each.gateway not in meter.gateways or not _matches(meter.rules, each):
            continue
        if each.direction == "ingress":
            packets, size = sums.ingress_packets + each.packets, sums.ingress_bytes + each.bytes
            sums = msgspec.structs.replace(sums, ingress_packets=packets, ingress_bytes=size)
        else:
            packets, size = sums.egress_packets + each.packets, sums.egress_bytes + each.bytes
            sums = msgspec.structs.replace(sums, egress_packets=packets, egress_bytes=size)
    return sums


def _matches(rules: Iterable[MeterRule], counted: Counted) -> bool:
    """Whether these packets are of a label with these rules: all of them are, or none."""
    matching = [rule for rule in rules if rule.direction == counted.direction and _holds(rule, counted)]
    return bool(matching) and not any(rule.excluded for rule in matching)


def _holds(rule: MeterRule, counted: Counted) -> bool:
    sides = ((counted.source, rule.source), (counted.destination, rule.destination))
    return all(_is_within(prefix, ipaddress.ip_network(text)) for prefix, text in sides)


def _is_within(inner: Prefix, outer: Prefix) -> bool:
    if inner.version != outer.version or inner.prefixlen < outer.prefixlen:
        return False
    return bool(inner.supernet(new_prefix=outer.prefixlen) == outer)
