"""The way between two units of one host, on the in-band bus of their appliance: past the bridge.

    unit ── veth ─▶ across ──▶ veth ── unit
                      └──▶ bridge ── tunnel ── other hosts

All else is the bridge's.
"""

from __future__ import annotations

from pathlib import Path

from trunkline.devices.bpf import Object, Side

OBJECT = Path(__file__).with_name("across.bpf.o")
#: FIRST in across.bpf.c. The kernel numbers interfaces by itself from 1 on.
_FIRST = 0x4000_0000


def number(unit: int) -> int:
    """What number the host's end of a unit's interface is to have (ip-link(8), index)."""
    return _FIRST + unit


def lead(netns: str, device: str) -> None:
    """Has what comes from a unit, by the host's end of its interface, go across.

    Raises:
        Unavailable: as `bpf.Object`, or it does already.
    """
    programs = Object(OBJECT)
    try:
        programs.attach(netns, device, "across", Side.ARRIVING)
    finally:
        programs.close()
