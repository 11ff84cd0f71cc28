"""What appliances, their units and the hosts of these do, for Prometheus. Operators alone are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trunkline.api.appliance import Figures
from trunkline.resources.appliance import Appliance, Unit
from trunkline.resources.region import Host
from trunkline.resources.reports import UnitReport, UnitStatus
from trunkline.store import Reader

_UNIT = ("appliance", "name", "project", "unit", "kind", "host")
#: Of a unit's status: what only grows while its program runs, and what does not.
_COUNTERS = {
    "packets": "Packets that a unit forwarded.",
    "bytes": "... and their bytes.",
}
_GAUGES = {
    "load": "How much of its processors a unit uses, 0 to 1.",
    "flows": "Connections that a data plane knows of, its own and copies of others'.",
    "shards": "Shards of the flows that a data plane owns, of 256.",
    "policy_revision": "Of the policy that a unit applies.",
}
_LISTENER = {
    "total": "Connections that a listener has had.",
    "bytes_in": "Bytes that its clients sent.",
    "bytes_out": "Bytes that they were sent.",
    "errors": "Requests that could not be answered.",
}


@dataclass(frozen=True)
class _Seen:
    """A unit, and what is seen of it now: None where its host is silent, or has not told yet."""

    labels: tuple[str, ...]
    report: UnitReport | None

    @property
    def status(self) -> UnitStatus | None:
        return self.report.status if self.report is not None else None


class _Appliances(Collector):
    def __init__(self, appliances: list[Appliance], units: list[_Seen], hosts: list[Host]) -> None:
        self._appliances, self._units, self._hosts = appliances, units, hosts

    def collect(self) -> Iterator[Metric]:
        yield from self._of_appliances()
        yield from self._of_units()
        yield from self._of_listeners()
        alive = GaugeMetricFamily("trunkline_host_up", "Whether a host is heard of.", labels=("host",))
        for host in self._hosts:
            alive.add_metric((host.id,), host.alive)
        yield alive

    def _of_appliances(self) -> Iterator[Metric]:
        names = ("appliance", "name", "project")
        status = GaugeMetricFamily(
            "trunkline_appliance_status", "1 for the status that it has.", labels=(*names, "status")
        )
        planes = GaugeMetricFamily(
            "trunkline_appliance_data_planes", "How many data planes it is to have.", labels=names
        )
        conditions = GaugeMetricFamily(
            "trunkline_appliance_conditions", "How much of it is not as it is to be.", labels=names
        )
        for each in self._appliances:
            labels = each.id, each.name, each.project_id
            status.add_metric((*labels, each.status), 1)
            planes.add_metric(labels, each.data_planes)
            conditions.add_metric(labels, len(each.conditions))
        yield from (status, planes, conditions)

    def _of_units(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("trunkline_unit_up", "Whether a unit is seen to run.", labels=_UNIT)
        restarts = CounterMetricFamily(
            "trunkline_unit_restarts", "How often its host started it again.", labels=_UNIT
        )
        drops = CounterMetricFamily(
            "trunkline_unit_drops", "Packets that a unit dropped.", labels=(*_UNIT, "reason")
        )
        for unit in self._units:
            up.add_metric(unit.labels, unit.report is not None and unit.report.state == "running")
            if unit.report is not None:
                restarts.add_metric(unit.labels, unit.report.restarts)
            for reason, count in (unit.status.drops if unit.status is not None else {}).items():
                drops.add_metric((*unit.labels, reason), count)
        yield from (up, restarts, drops)
        for name, text in _COUNTERS.items():
            yield self._filled(CounterMetricFamily(f"trunkline_unit_{name}", text, labels=_UNIT), name)
        for name, text in _GAUGES.items():
            yield self._filled(GaugeMetricFamily(f"trunkline_unit_{name}", text, labels=_UNIT), name)

    def _filled(self, family: CounterMetricFamily | GaugeMetricFamily, field: str) -> Metric:
        for unit in self._units:
            if unit.status is not None:
                family.add_metric(unit.labels, getattr(unit.status, field))
        return family

    def _of_listeners(self) -> Iterator[Metric]:
        labels = (*_UNIT, "listener")
        now = GaugeMetricFamily(
            "trunkline_listener_connections", "Connections that a listener has now.", labels=labels
        )
        families = {
            name: CounterMetricFamily(f"trunkline_listener_{name}", text, labels=labels)
            for name, text in _LISTENER.items()
        }
        for unit in self._units:
            for listener, count in (unit.status.listeners if unit.status is not None else {}).items():
                now.add_metric((*unit.labels, listener), count.connections)
                for name, family in families.items():
                    family.add_metric((*unit.labels, listener), getattr(count, name))
        yield now
        yield from families.values()


def exposition(reader: Reader, figures: Figures) -> bytes:
    """All appliances, in the text format of Prometheus."""
    appliances = sorted(reader.select(Appliance), key=lambda each: each.id)
    hosts = sorted(reader.select(Host), key=lambda host: host.id)
    registry = CollectorRegistry()
    registry.register(_Appliances(appliances, list(_seen(reader, figures, appliances, hosts)), hosts))
    return generate_latest(registry)


def _seen(
    reader: Reader, figures: Figures, appliances: Iterable[Appliance], hosts: Iterable[Host]
) -> Iterator[_Seen]:
    alive = {host.id for host in hosts if host.alive}
    by_id = {each.id: each for each in appliances}
    for unit in sorted(reader.select(Unit), key=lambda unit: (unit.appliance_id, unit.number)):
        if (of := by_id.get(unit.appliance_id)) is not None:
            labels = of.id, of.name, of.project_id, str(unit.number), unit.kind, unit.host
            yield _Seen(labels, figures.of(unit) if unit.host in alive else None)
