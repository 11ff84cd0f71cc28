"""What access control lists write to the log of ovn-controller (ovn-nb(5): ACL, Meter).

A line is written on the host of the port, and its name says what decided: ``rule/ID`` of what was let
pass, ``group/ID`` or ``port/ID`` of what was dropped. Each list has a share of the meter of its own, so
that a flood that one of them is hit by fills no disk, and hides nothing that others see.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trunkline.backends.ovn.names import Emitted, Ref, Row, entry, ids
from trunkline.compiler.derive import View
from trunkline.compiler.logical import TrafficLog

METER = "trunkline_log"
#: Lines in a second of one list on one host, and how many may come at once.
RATE, BURST = 10, 50

#: The columns of a list that writes nothing.
SILENT: Row = {"log": False, "name": None, "severity": None, "meter": None}


def written_as(name: str) -> Row:
    """The columns of a list that writes, under a name of up to 63 characters."""
    return {"log": True, "name": name, "severity": "info", "meter": METER}


def meter(view: View, key: str) -> Emitted:
    """The meter that bounds what is written."""
    band = {"action": "drop", "rate": RATE, "burst_size": BURST, "external_ids": ids(METER)}
    yield entry("Meter_Band", band)
    bands = frozenset({Ref("Meter_Band", METER)})
    row = {"name": METER, "unit": "pktps", "bands": bands, "fair": True, "external_ids": ids(METER)}
    yield entry("Meter", row)


@dataclass
class Logged:
    """What is written of one rule set: of all its ports, or of single ones."""

    accepted: bool = False
    dropped: bool = False
    accepted_ports: set[str] = field(default_factory=set)


def of_rule_set(view: View, key: str) -> Logged:
    """What is written of a rule set."""
    found = Logged()
    for log in view.where(TrafficLog, "rule_sets", key):
        if log.port is None:
            found.accepted |= log.accepted
            found.dropped |= log.dropped
        elif log.accepted:
            found.accepted_ports.add(log.port)
    return found


def dropped_ports(view: View) -> list[str]:
    """The ports of which it is written what is dropped, whatever groups they are in."""
    return sorted({log.port for log in view.where(TrafficLog, _drops_of_one, True) if log.port is not None})


def _drops_of_one(log: TrafficLog) -> tuple[bool]:
    return (log.dropped and log.port is not None,)
