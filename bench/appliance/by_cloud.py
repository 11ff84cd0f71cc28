"""An appliance that a cloud runs, on several hosts: ordered and changed by the API, its ends on two of them.

client ── h3 ── inside ──[ the appliance, wherever it is placed ]── outside ── h4 ── server
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.appliance.appliance import Kind, policy
from bench.appliance.path import wait_for
from trunkline.cli.api import Api
from trunkline.devices import namespace, process
from trunkline.devices.lab import Topology
from trunkline.devices.state import StateFolder
from trunkline.plan.shards import SHARDS
from trunkline.traffic.pair import make_room

Json = dict[str, Any]
#: Where the ends are: these hosts are never cut off.
_CLIENT_HOST, _SERVER_HOST = "h3", "h4"
_INSIDE = (("10.0.0.0/24", "10.0.0.1", "10.0.0.5"), ("fd00:a::/64", "fd00:a::1", "fd00:a::5"))
#: The appliance's own address there, the only one of the pool, and the server's, which is the way on.
_OUTSIDE = (("192.0.2.0/24", "192.0.2.1", "192.0.2.9"), ("fd00:b::/64", "fd00:b::1", "fd00:b::9"))
_COUNTS: dict[Kind, str] = {"data-plane": "data_planes", "dispatcher": "dispatchers", "manager": "managers"}
_PATIENCE = 120.0
#: Between two looks at it, seconds.
_BEAT = 0.1
#: What a manager tells when it takes a unit for dead, or leads.
_ALARMS = ("does not answer", "is gone", "leads.")


class ByCloud:
    """An `Appliance`. Owns it, and the networks and ends that it is between; the cloud is the caller's."""

    def __init__(
        self, state: StateFolder, planes: int, dispatchers: int, managers: int, *, cu: float, seed: int
    ) -> None:
        self._state, self._lab = state, Topology(state.load())
        self._api = Api.open(state, "trunkline-admin")
        self._chance = random.Random(seed)
        self._turn = 0
        self._made: list[tuple[str, str]] = []
        limits = {"units": -1, "appliances": -1}
        self._api.put("appliance", f"/v1/quotas/{self._api.project_id}", {"quota": limits})
        inside, outside = self._network("inside"), self._network("outside")
        for cidr, gateway, _ in _INSIDE:
            self._subnet(inside, cidr, gateway)
        for cidr, own, far in _OUTSIDE:
            self._subnet(outside, cidr, far, own)
        self.inside = self._end(inside, _CLIENT_HOST, _INSIDE)
        self.outside = self._end(outside, _SERVER_HOST, _OUTSIDE)
        self.cuts, self.plain = bool(self._others()), ""
        sizes = {"data_planes": planes, "dispatchers": dispatchers, "managers": managers}
        services = ["firewall", "nat", "balancer"]
        legs = {"inside_network_id": inside, "outside_network_id": outside}
        wanted = {"name": "bench", "services": services, "cu_size": cu, **sizes, **legs}
        made = self._api.post("appliance", "/v1/appliances", {"appliance": wanted})["appliance"]
        self._where = f"/v1/appliances/{made['id']}"
        self._made.append(("appliance", self._where))
        self.set_policy(policy(0))

    def close(self) -> None:
        """Takes away what was made."""
        for service, path in reversed(self._made):
            self._api.delete(service, path)

    # What it is between.

    def _network(self, name: str) -> str:
        made = self._api.post("network", "/v2.0/networks", {"network": {"name": f"bench-{name}"}})["network"]
        self._made.append(("network", f"/v2.0/networks/{made['id']}"))
        return str(made["id"])

    def _subnet(self, network: str, cidr: str, gateway: str, only: str = "") -> None:
        fields: Json = {"network_id": network, "cidr": cidr, "gateway_ip": gateway, "enable_dhcp": False}
        fields["ip_version"] = 6 if ":" in cidr else 4
        if only:
            fields["allocation_pools"] = [{"start": only, "end": only}]
        self._api.post("network", "/v2.0/subnets", {"subnet": fields})

    def _end(self, network: str, host: str, subnets: tuple[tuple[str, str, str], ...]) -> str:
        """A namespace on the network, as a server's interface would be; its name."""
        port = self._api.post(
            "network",
            "/v2.0/ports",
            {
                "port": {
                    "network_id": network,
                    "device_owner": "trunkline:probe",
                    "binding:host_id": host,
                    "port_security_enabled": False,
                    "fixed_ips": [{"ip_address": far} for _, _, far in subnets],
                }
            },
        )["port"]
        self._made.append(("network", f"/v2.0/ports/{port['id']}"))
        at = next(each for each in self._lab.cloud.hosts if each.name == host)
        netns = f"{self._lab.host(at)}-p-{port['id'][:8]}"
        wait_for(lambda: namespace.has(netns, "eth0"), _PATIENCE, lambda: f"{netns} was not made")
        lengths = (24, 64)
        namespace.ip(
            netns,
            *(
                f"address replace {far}/{length} dev eth0{' nodad' if length == 64 else ''}"
                for (_, _, far), length in zip(subnets, lengths, strict=True)
            ),
            "link set dev eth0 up",
            *(f"route replace default via {near}" for _, near, _ in subnets),
        )
        make_room(netns)
        return netns

    # How it is.

    def show(self) -> Json:
        """The appliance."""
        return dict(self._api.get("appliance", self._where)["appliance"])

    def units(self, kind: str = "") -> list[Json]:
        """Those that do not leave."""
        found = self._api.get("appliance", f"{self._where}/units")["units"]
        return [unit for unit in found if kind in ("", unit["kind"])]

    def size(self, kind: Kind) -> int:
        return int(self.show()[_COUNTS[kind]])

    def alarms(self) -> int:
        events = self._api.get("appliance", f"{self._where}/events")["events"]
        told = sum(any(words in event["what"] for words in _ALARMS) for event in events)
        return told + sum(unit["restarts"] for unit in self.units())

    def shares(self) -> list[float]:
        """None: what hosts report is too seldom for that."""
        return []

    def settle(self, beat: float = _BEAT) -> None:
        self._until(self._settled, "all have what they are to have", beat)

    def _settled(self) -> bool:
        shown, units = self.show(), self.units()
        planes = [unit for unit in units if unit["kind"] == "data-plane"]
        shards = [unit["observed"].get("shards", 0) for unit in planes]
        revisions = {u["observed"].get("policy_revision") for u in units if u["kind"] != "manager"}
        return (
            shown["status"] == "ACTIVE"
            and len(units) == sum(shown[field] for field in _COUNTS.values())
            and sum(shards) == SHARDS
            and max(shards) - min(shards) <= 1
            and revisions == {shown["policy_revision"]}
        )

    def _until(self, what: Callable[[], bool], claim: str, beat: float = _BEAT) -> None:
        def slowly() -> bool:
            time.sleep(beat)
            return what()

        wait_for(slowly, _PATIENCE, lambda: f"{claim}; {self._picture()}")

    def _picture(self) -> str:
        events = self._api.get("appliance", f"{self._where}/events")["events"][-15:]
        lines = [f"{e['at']} {e['unit']} {e['what']} ({e['cause']})" for e in events]
        shown = self.show()
        units = [(u["number"], u["kind"], u["host"], u["state"], u["observed"]) for u in self.units()]
        return "\n".join([f"{shown['status']} {shown['conditions']}", *map(str, units), *lines])

    # What can be asked of it.

    def _set(self, **fields: int) -> None:
        self._api.put("appliance", self._where, {"appliance": fields})

    def set_policy(self, document: Json) -> None:
        """Returns when it is stored; `settle` when all units have it."""
        self._api.put("appliance", f"{self._where}/policy", {"policy": document})

    def scale(self, planes: int) -> None:
        """So many data planes; done when each has its share."""
        self._set(data_planes=planes)
        self.settle()

    def grow(self) -> str:
        self.scale(self.size("data-plane") + 1)
        return "a data plane came"

    def shrink(self) -> str:
        self.scale(self.size("data-plane") - 1)
        return "a data plane left"

    def replace(self) -> str:
        unit = self._chance.choice(self.units())
        self._api.post("appliance", f"{self._where}/units/{unit['number']}/drain", None)
        self._until(lambda: unit["id"] not in {u["id"] for u in self.units()}, f"{unit['number']} is gone")
        return f"{unit['kind']} {unit['number']} was replaced"

    def change(self) -> str:
        self._turn += 1
        self.set_policy(policy(self._turn))
        self.settle()
        return f"policy {self._turn}"

    def kill(self, kind: Kind) -> str:
        unit = self._chance.choice(self.units(kind))
        for host in self._lab.cloud.hosts:
            found = process.find(Path(self._state.host(host.name)) / "u" / f"{unit['id'][:8]}.pid")
            if found is not None:
                found.signal(signal.SIGKILL)
                break
        else:
            raise AssertionError(f"the process of {kind} {unit['number']} was not found")

        def restarted() -> bool:
            now = {u["id"]: u["restarts"] for u in self.units()}
            return bool(now.get(unit["id"], unit["restarts"] + 1) > unit["restarts"])

        self._until(restarted, f"{kind} {unit['number']} is started again")
        return f"{kind} {unit['number']} killed"

    def _others(self) -> set[str]:
        """Hosts that no end is on."""
        return {host.name for host in self._lab.cloud.hosts} - {_CLIENT_HOST, _SERVER_HOST}

    def cut(self) -> str:
        hosts = sorted({unit["host"] for unit in self.units()} & self._others())
        host = self._chance.choice(hosts or sorted(self._others()))
        there = {unit["id"] for unit in self.units() if unit["host"] == host}
        with self._without(host):
            self._until(lambda: not there & {u["id"] for u in self.units()}, f"units of {host} are elsewhere")
            self._until(self._settled, f"all is well without {host}")
        return f"{host} cut off, with {len(there)} units"

    @contextlib.contextmanager
    def _without(self, host: str) -> Iterator[None]:
        """A host whose cables are cut, all at once."""
        cables = [f"{cable}-{host}" for cable in "bup"]
        namespace.ip(self._lab.underlay, *(f"link set dev {cable} down" for cable in cables))
        try:
            yield
        finally:
            namespace.ip(self._lab.underlay, *(f"link set dev {cable} up" for cable in cables))
