"""What metering labels have counted, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from trunkline.resources.network import MeteringLabel
from trunkline.store import Reader


class _Labels(Collector):
    def __init__(self, labels: list[MeteringLabel]) -> None:
        self._labels = labels

    def collect(self) -> Iterator[CounterMetricFamily]:
        for what in ("packets", "bytes"):
            family = CounterMetricFamily(
                f"trunkline_metering_{what}",
                f"{what.capitalize()} that a metering label has counted.",
                labels=("label", "name", "project", "direction"),
            )
            for label in self._labels:
                for direction in ("ingress", "egress"):
                    names = (label.id, label.name, label.project_id, direction)
                    family.add_metric(names, getattr(label, f"{direction}_{what}"))
            yield family


def exposition(reader: Reader) -> bytes:
    """All labels, in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Labels(sorted(reader.select(MeteringLabel), key=lambda label: label.id)))
    return generate_latest(registry)
