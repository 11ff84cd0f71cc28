"""The Appliance API on a real store, and hosts whose reports are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_lab import ApiLab
from msgspec.structs import replace

from trunkline.api import appliance as api
from trunkline.api.context import CLOUD
from trunkline.api.engine import Call
from trunkline.compiler.hosts import host_slices
from trunkline.compiler.settings import Settings
from trunkline.compiler.slices import HostSlice
from trunkline.control.replica import Replica
from trunkline.resources.appliance import Unit
from trunkline.resources.region import Host
from trunkline.resources.reports import (
    UnitReport,
    UnitStatus,
)

BASE = "/appliance/v1/appliances"
HOSTS = ("a1", "a2", "a3")


class Lab:
    """A region of three hosts that the tests speak for, with a network inside; and short ways to ask."""

    def __init__(self, folder: Path) -> None:
        self.api = ApiLab(folder)
        self.figures = self.api.figures

        def hosts(tx: Any) -> None:
            tx.delete(Host, "h1")
            for number, name in enumerate(HOSTS):
                tx.insert(
                    Host(
                        id=name,
                        alive=True,
                        vcpus=4,
                        memory_mib=4096,
                        physical_networks=["physnet1"],
                        bus_address=f"10.99.0.{number + 1}",
                    )
                )

        self.api.store.write_sync(hosts)
        self.inside = self.network("10.5.0.0/24", "fd00:5::/64")
        (public,) = self.api.ok("GET", "/network/v2.0/networks?name=public")["networks"]
        self.public: str = public["id"]

    def network(self, *cidrs: str, by: str = "demo", **fields: Any) -> str:
        base = "/network/v2.0"
        made = str(self.api.ok("POST", f"{base}/networks", {"network": fields}, by=by)["network"]["id"])
        for cidr in cidrs:
            version = 6 if ":" in cidr else 4
            subnet = {"network_id": made, "ip_version": version, "cidr": cidr}
            self.api.ok("POST", f"{base}/subnets", {"subnet": subnet}, by=by)
        return made

    def body(self, **fields: Any) -> dict[str, Any]:
        least = {
            "services": ["firewall", "nat"],
            "inside_network_id": self.inside,
            "outside_network_id": self.public,
        }
        return {
            "appliance": {name: value for name, value in {**least, **fields}.items() if value is not None}
        }

    def make(self, **fields: Any) -> dict[str, Any]:
        return dict(self.api.ok("POST", BASE, self.body(**fields), by="demo")["appliance"])

    def refused(self, by: str = "demo", **fields: Any) -> tuple[int, str, str]:
        """Status, field and message of a create that is refused; nothing is left of it."""
        with self.api.unchanged():
            reply = self.api.ask("POST", BASE, self.body(**fields), by=by)
        assert reply.status_code >= 400, reply.text
        error = reply.json()["error"]
        return reply.status_code, error["field"], error["message"]

    def show(self, id: str) -> dict[str, Any]:
        return dict(self.api.ok("GET", f"{BASE}/{id}", by="demo")["appliance"])

    def scale(self, id: str, **fields: Any) -> dict[str, Any]:
        return dict(self.api.ok("PUT", f"{BASE}/{id}", {"appliance": fields}, by="demo")["appliance"])

    def units(self, id: str, kind: str = "", by: str = "admin") -> list[dict[str, Any]]:
        found = self.api.ok("GET", f"{BASE}/{id}/units", by=by)["units"]
        return [unit for unit in found if kind in ("", unit["kind"])]

    def events(self, id: str) -> list[str]:
        return [event["what"] for event in self.api.ok("GET", f"{BASE}/{id}/events", by="demo")["events"]]

    def stored(self, id: str) -> list[Unit]:
        with self.api.store.read() as reader:
            return sorted(reader.find(Unit, appliance_id=id), key=lambda unit: unit.number)

    def slices(self) -> dict[str, HostSlice]:
        return host_slices(Replica(self.api.store).refresh(), Settings())

    def report(
        self, id: str, *, without: tuple[int, ...] = (), hosts: tuple[str, ...] = HOSTS, **other: Any
    ) -> None:
        """Every host reports its units as well: planes share the shards, the first dispatcher serves.

        Args:
            without: numbers of units that are not reported.
            hosts: those that report.
            other: fields of the status of units, by ``u`` and their number.
        """
        there = [u for u in self.stored(id) if u.number not in without]
        staying = [u for u in there if not u.leaves and u.host in hosts]
        planes = [u for u in staying if u.kind == "data-plane"]
        spread = {u.number: 256 // len(planes) for u in planes}
        spread[planes[0].number] += 256 % len(planes)
        first = {
            kind: next((u for u in staying if u.kind == kind), None) for kind in ("dispatcher", "manager")
        }
        revision = self.show(id)["policy_revision"]
        by_host: dict[str, list[UnitReport]] = {}
        for unit in there:
            leads = unit == first["manager"]
            status = UnitStatus(
                incarnation="one",
                policy_revision=revision,
                shards=spread.get(unit.number, 0),
                serves=("inside", "outside") if unit == first["dispatcher"] else (),
                leads=leads,
                empty=tuple(u.number for u in there if u.leaves) if leads else (),
                load=0.5,
                packets=77,
            )
            status = replace(status, **other.get(f"u{unit.number}", {}))
            seen = UnitReport(id=unit.id, appliance=id, state="running", status=status)
            by_host.setdefault(unit.host, []).append(seen)
        engine = self.api.api.engine
        for host in hosts:
            reports = by_host.get(host, [])
            ended = self.figures.take(host, reports)
            self.api.store.write_sync(
                lambda tx, h=host, r=reports, e=ended: api.observe(Call(engine, CLOUD, tx), h, r, e)
            )

    def silence(self, host: str, id: str, alive: bool = False) -> None:
        """A host is not heard of any more; it is looked at what follows."""
        engine = self.api.api.engine

        def write(tx: Any) -> None:
            tx.observe(replace(tx.get(Host, host), alive=alive))
            api.settle(Call(engine, CLOUD, tx), id)

        self.api.store.write_sync(write)

    def age(self, id: str) -> None:
        """As if its units had come long ago."""

        def write(tx: Any) -> None:
            for unit in tx.find(Unit, appliance_id=id):
                tx.replace(replace(unit, since=1.0))

        self.api.store.write_sync(write)

    def settle_later(self, id: str) -> None:
        """As if what leaves had been told to long ago."""

        def write(tx: Any) -> None:
            for unit in tx.find(Unit, appliance_id=id):
                if unit.leaves:
                    tx.replace(replace(unit, left_at=1.0))

        self.api.store.write_sync(write)
        self.report(id)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """An empty one."""
    made = Lab(tmp_path)
    yield made
    made.api.close()
