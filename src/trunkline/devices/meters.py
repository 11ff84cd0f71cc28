"""Meters of a bridge of Open vSwitch (ovs-ofctl(8); OpenFlow 1.4, 5.7): limits of packets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices.tools import run

#: A meter as it is shown, its line breaks taken out.
_SHOWN = re.compile(r"pktps burst bands= type=drop rate=(\d+) burst_size=(\d+)")
#: Numbers of a band are 32 bits wide.
_MOST = 2**32 - 1


@dataclass(frozen=True)
class Meter:
    """What is more than this is dropped."""

    #: Packets a second, and how many may come at once.
    rate: int
    burst: int

    @staticmethod
    def of(rate: int, burst: int) -> Meter:
        """One of these numbers; what is more than a meter can hold is no limit to any machine."""
        return Meter(min(rate, _MOST), min(burst, _MOST))


async def shown(management: Path) -> dict[int, Meter | None]:
    """The meters of a bridge by number; None for one that is not a limit of packets alone.

    Args:
        management: the bridge's socket, RUN/BRIDGE.mgmt.
    Raises:
        ToolFailed: the switch does not answer, or has no meters.
    """
    said = (await _ofctl(management, "dump-meters")).decode()
    found: dict[int, Meter | None] = {}
    for number, text in re.findall(r"^meter=(\d+) ((?:.|\n(?!meter=))*)", said, re.MULTILINE):
        match = _SHOWN.fullmatch(" ".join(text.split()))
        found[int(number)] = Meter(int(match[1]), int(match[2])) if match else None
    return found


async def put(management: Path, number: int, meter: Meter, *, new: bool) -> None:
    """Adds a meter, or changes the one that has this number. Raises as `shown`."""
    band = f"band=type=drop,rate={meter.rate},burst_size={meter.burst}"
    command = "add-meter" if new else "mod-meter"
    await _ofctl(management, command, f"meter={number},pktps,burst,{band}")


async def delete(management: Path, number: int) -> None:
    """Removes a meter, and with it all flows that use it. Raises as `shown`."""
    await _ofctl(management, "del-meter", f"meter={number}")


async def _ofctl(management: Path, command: str, *more: str) -> bytes:
    return await run(["ovs-ofctl", "--timeout=10", "-OOpenFlow14", command, f"unix:{management}", *more])
