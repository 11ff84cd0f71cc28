"""What hosts tell of units all the time, and no store needs: counters, loads, logs.

a report ── take ──▶ the newest of each unit, shown
                └──▶ what units counted that have ended since: `observation` adds it to their appliances
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trunkline.api.appliance.rule_log import RuleLog
from trunkline.resources.appliance import Unit
from trunkline.resources.reports import ListenerCount, UnitReport

#: Connections and bytes by listener.
Counts = Mapping[str, ListenerCount]


def added(one: Counts, other: Counts) -> dict[str, ListenerCount]:
    """The sum, by listener."""
    return {
        name: one.get(name, ListenerCount()) + other.get(name, ListenerCount())
        for name in one.keys() | other.keys()
    }


@dataclass
class _Told:
    """A unit, as its host told of it last."""

    report: UnitReport
    log: RuleLog = field(default_factory=RuleLog)
    #: Of which start of its program the counts are, which stand until the next one says something.
    incarnation: str = ""
    appliance: str = ""
    counts: Counts = field(default_factory=dict)


class Figures:
    """What hosts told of units last."""

    def __init__(self) -> None:
        #: By host, by unit.
        self._told: dict[str, dict[str, _Told]] = {}

    def take(self, host: str, reports: Sequence[UnitReport]) -> dict[str, Counts]:
        """A host's newest. Returns what units counted there that have ended, by their appliances."""
        before, now = dict(self._told.get(host, {})), dict[str, _Told]()
        ended: dict[str, Counts] = {}

        def end(told: _Told) -> None:
            past = {name: ListenerCount(**_lasting(count)) for name, count in told.counts.items()}
            if past and told.appliance:
                ended[told.appliance] = added(ended.get(told.appliance, {}), past)

        for report in reports:
            told = now[report.id] = before.pop(report.id) if report.id in before else _Told(report)
            told.report = report
            told.appliance = report.appliance or told.appliance
            if (status := report.status) is not None:
                if status.incarnation != told.incarnation:
                    end(told)
                told.incarnation, told.counts = status.incarnation, status.listeners
                told.log.take(status)
        for told in before.values():
            end(told)
        self._told[host] = now
        return ended

    def log_of(self, unit: Unit) -> RuleLog:
        """What rules logged at a unit."""
        told = self._of(unit)
        return told.log if told is not None else RuleLog()

    def of(self, unit: Unit) -> UnitReport | None:
        """What its host told of a unit."""
        told = self._of(unit)
        return told.report if told is not None else None

    def counts_of(self, unit: Unit) -> Counts:
        """What a unit counted of listeners, also while its program is started again."""
        told = self._of(unit)
        return told.counts if told is not None else {}

    def _of(self, unit: Unit) -> _Told | None:
        return self._told.get(unit.host, {}).get(unit.id)


def _lasting(count: ListenerCount) -> dict[str, int]:
    """Without what ends with the program."""
    return {name: getattr(count, name) for name in count.__struct_fields__ if name != "connections"}
