"""What the programs of fabric.bpf.c are told, and what they count.

A unit has one `Fabric`: in a dispatcher, legs lead to the tenant's networks; in a data plane they are devices
that neither ask for neighbours (`arp off`) nor have an address other than the bus's.
docs/designs/0003-appliances.md has the picture.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices import namespace
from trunkline.devices.bpf import Object, Side
from trunkline.plan.shards import SHARDS

OBJECT = Path(__file__).with_name("fabric.bpf.o")
#: How many units an appliance has at the most (UNITS in the programs, as SHARDS is theirs too).
UNITS = 256
_NOBODY = 0xFFFF
#: In the order of `enum counted`.
COUNTED = (
    "received",
    "sent",
    "handed_over",
    "handed_back",
    "carried",
    "dropped_malformed",
    "dropped_late_fragment",
    "dropped_no_owner",
    "dropped_no_unit",
    "dropped_no_route",
    "dropped_over_quota",
    "received_bytes",
    "sent_bytes",
    "processor_time",
)
#: A bit of a packet's mark that rules set: those of its flow that follow soon are to fare as it does.
SAME = 0x100_0000
#: The same, of a packet that goes out to an address of the appliance's own, and comes in again.
TURNING = 0x400_0000
#: enum life.
_ANSWERS, _TAKES = 0, 1
_NUMBER = struct.Struct("=I")
_LEG = struct.Struct("=I6sBxI")
_SELF = struct.Struct("=IIBB?x")
#: struct shard.
_SHARD = struct.Struct("=HHH")
#: struct quota, and the unit of its price.
_QUOTA, _PRICE = struct.Struct("=QQQ"), 1 << 16
#: For so long packets may have had more than their part of a processor, seconds.
AHEAD = 0.1


@dataclass(frozen=True)
class Leg:
    """An interface of a unit towards one of the appliance's networks."""

    device: str
    #: Whether addresses are translated for those behind it: it is the far side.
    outside: bool
    #: In a data plane: the address on the bus of the dispatcher that sends what leaves here, until a
    #: dispatcher's probe says that it is another one.
    dispatcher: str = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Blocks:
    """The ports that sources are translated to: shard n has `size` from first + n * size on."""

    first: int
    size: int
    #: Where these are subscribers' blocks: how many, and the first one's number, by which shards go.
    subscribers: int = 0
    number: int = 0

    def of(self, shard: int) -> range:
        start = self.first + shard * self.size
        return range(start, start + self.size)


@dataclass(frozen=True)
class Subscribers:
    """Addresses of IPv4 that have blocks: they are numbered, and this is the first one's number."""

    number: int


class Fabric:
    """A unit's part in the fabric. Owns the programs in the kernel, as long as the unit's process."""

    def __init__(
        self,
        netns: str | None,
        bus: str,
        control: str,
        unit: int,
        legs: Sequence[Leg],
        *,
        spreads: bool,
        paired: bool = True,
    ) -> None:
        """Puts the programs on the interfaces; nothing passes before it is told who has the shards.

        Args:
            bus, control: the interfaces on the in-band bus and the out-of-band one.
            unit: the unit's number in the appliance, below UNITS.
            spreads: it is a dispatcher, not a data plane.
            paired: the bus's interface is one end of a veth, whose other end is in another namespace.

        Raises:
            Unavailable: as `bpf.Object`.
        """
        self._object = Object(OBJECT)
        self._cores: float | None = None
        numbers = {name: number for number, name in namespace.inside(netns, socket.if_nameindex)}
        self._object.put("here", _NUMBER.pack(0), _SELF.pack(numbers[bus], unit, 0, 0, paired))
        for shard in range(SHARDS):
            self.tell_shard(shard, None)
        self._object.lead("living", _NUMBER.pack(_ANSWERS), "answers" if spreads else "answers_following")
        if spreads:
            self._object.lead("living", _NUMBER.pack(_TAKES), "takes")
        for number, leg in enumerate(legs):
            device = numbers[leg.device]
            value = _LEG.pack(device, _mac(leg.dispatcher), leg.outside, 0)
            self._object.put("legs", _NUMBER.pack(number), value)
            self._object.put("devices", _NUMBER.pack(device), _NUMBER.pack(number))
            if spreads:
                self._object.attach(netns, leg.device, "spread", Side.ARRIVING)
            else:
                self._object.attach(netns, leg.device, "enter", Side.ARRIVING)
                self._object.attach(netns, leg.device, "leave", Side.LEAVING)
        self._object.attach(netns, bus, "dispatcher" if spreads else "dataplane", Side.ARRIVING)
        self._object.attach(netns, control, "beside", Side.ARRIVING)

    def close(self) -> None:
        self._object.close()

    def limit(self, cores: float | None) -> None:
        """The part of processors that packets may have from now on; None: as much as there is."""
        if cores == self._cores:
            return
        self._cores = cores
        price = 0 if cores is None else round(_PRICE / cores)
        self._object.put("quotas", _NUMBER.pack(0), _QUOTA.pack(0, price, round(AHEAD * 1e9)))

    def tell_unit(self, unit: int, mac: str | None) -> None:
        """Where on the bus a unit is; None: it is not there."""
        value = struct.pack("=6sBx", _mac(mac or "00:00:00:00:00:00"), mac is not None)
        self._object.put("units", _NUMBER.pack(unit), value)

    def tell_shard(
        self, shard: int, owner: int | None, former: int | None = None, *, begins: bool = False
    ) -> None:
        """Which unit has a shard, and which one has flows of it that the owner may not know.

        Args:
            begins: what the owner does not know begins at the former one.
        """
        units = (_NOBODY if unit is None else unit for unit in (owner, former))
        self._object.put("shards", _NUMBER.pack(shard), _SHARD.pack(*units, begins))

    def tell_sources(self, sources: Mapping[str, Blocks | Subscribers]) -> None:
        """The addresses that sources are translated to; and, by their prefixes, subscribers."""
        for name, told in sources.items():
            if isinstance(told, Subscribers):
                network = ipaddress.IPv4Network(name)
                more = (told.number - int(network.network_address)) % (1 << 32)
                self._object.put("subscribers", _prefix(network), _NUMBER.pack(more))
            else:
                value = struct.pack("=HHHH", told.first, told.size, told.number % SHARDS, told.subscribers)
                self._object.put("translated", _endpoint(name, 0, 0), value)

    def untell_source(self, name: str) -> None:
        """Of an address, or a prefix, that is so no more."""
        if "/" in name:
            self._object.drop("subscribers", _prefix(ipaddress.IPv4Network(name)))
        else:
            self._object.drop("translated", _endpoint(name, 0, 0))

    def tell_published(self, address: str, port: int, protocol: int) -> None:
        """A published address, or who answers behind it: flows of it are told apart by their other end.

        Port and protocol 0: all that the address has.
        """
        self._object.put("published", _endpoint(address, port, protocol), _NUMBER.pack(1))

    def untell_published(self, address: str, port: int, protocol: int) -> None:
        """Flows of it are told apart by both ends again."""
        self._object.drop("published", _endpoint(address, port, protocol))

    def descriptor(self, name: str) -> int:
        """Of one of the programs' maps, for another process of the unit."""
        return self._object.descriptor(name)

    def counters(self) -> dict[str, int]:
        """Packets, bytes (from the IP header on) and nanoseconds of a processor, since the unit began."""
        return {name: self._object.total("counters", _NUMBER.pack(n)) for n, name in enumerate(COUNTED)}


def _mac(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def _prefix(network: ipaddress.IPv4Network) -> bytes:
    """struct prefix."""
    return _NUMBER.pack(network.prefixlen) + network.network_address.packed


def _endpoint(address: str, port: int, protocol: int) -> bytes:
    """struct endpoint; the port is in the order of the network."""
    found = ipaddress.ip_address(address)
    packed = found.packed if found.version == 6 else bytes(10) + b"\xff\xff" + found.packed
    return packed + struct.pack("!HBx", port, protocol)
