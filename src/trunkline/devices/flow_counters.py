"""What the flows of an Open vSwitch bridge have counted, as ovs-ofctl(8) tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices.tools import run

_FLOW = re.compile(
    r"^ *cookie=(?P<cookie>\w+), duration=(?P<duration>[\d.]+)s, table=(?P<table>\d+), "
    r"n_packets=(?P<packets>\d+), n_bytes=(?P<bytes>\d+), (?:\w+=\w+, )*?"
    r"priority=(?P<priority>\d+),?(?P<match>\S*) actions=(?P<actions>.*)$"
)


@dataclass(frozen=True)
class FlowCounter:
    """A flow, and what it has counted since it was made."""

    #: Tells flows of one bridge apart.
    key: str
    table: int
    #: Field to value, as written: "ip" and other protocols have the value "".
    match: Mapping[str, str]
    drops: bool
    #: Seconds since it was made.
    age: float
    packets: int
    #: Of whole frames.
    bytes: int


async def read(management: Path, which: str) -> list[FlowCounter]:
    """The flows of a bridge.

    Args:
        management: the bridge's socket, RUN/BRIDGE.mgmt.
        which: what they match at least, as ``table=23`` or ``ip,dl_src=02:00:00:00:00:01``.
    Raises:
        trunkline.devices.tools.ToolFailed: the switch does not answer.
    """
    command = ["ovs-ofctl", "--timeout=10", "-OOpenFlow15", "dump-flows", f"unix:{management}", which]
    return list(parsed((await run(command)).decode()))


def parsed(text: str) -> Iterator[FlowCounter]:
    """Flows from what ``ovs-ofctl dump-flows`` writes; other lines are skipped."""
    for line in text.splitlines():
        found = _FLOW.match(line)
        if found is None:
            continue
        fields = (field.partition("=") for field in found["match"].split(",") if field)
        yield FlowCounter(
            key=f"{found['cookie']} {found['table']} {found['priority']} {found['match']}",
            table=int(found["table"]),
            match={name: value for name, _, value in fields},
            drops=found["actions"] == "drop",
            age=float(found["duration"]),
            packets=int(found["packets"]),
            bytes=int(found["bytes"]),
        )
