"""The scheduler: who fits, who has the most room, and every reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.plan.placement import HostView, Load, NoHost, Spread, Wish, place
from trunkline.plan.promises import PACKETS, Good

SMALL = Wish(vcpus=1, memory_mib=128, disk_gib=1)
#: A network on two racks, and a port with an address of the first.
SPREAD = Spread(network="n", physical_networks=frozenset({"rack1", "rack2"}), fitting=frozenset({"rack1"}))


def host(name: str, **facts: Any) -> HostView:
    return HostView(**{"name": name, "vcpus": 4, "memory_mib": 1024, "disk_gib": 10, **facts})


def load(host: str, server: str = "x", **taken: Any) -> Load:
    return Load(**{"host": host, "server": server, "vcpus": 1, "memory_mib": 128, "disk_gib": 1, **taken})


def wish(**asked: Any) -> Wish:
    return Wish(**{"vcpus": 1, "memory_mib": 128, "disk_gib": 1, **asked})


def why(hosts: list[HostView], loads: list[Load], wanted: Wish) -> str:
    found = place(hosts, loads, wanted)
    assert isinstance(found, NoHost), found
    return str(found)


def test_equal_servers_spread_evenly_over_equal_hosts() -> None:
    hosts, loads = [host("h1"), host("h2"), host("h3")], []
    for number in range(6):
        found = place(hosts, loads, SMALL)
        assert isinstance(found, str)
        loads.append(load(found, str(number)))
    assert sorted(each.host for each in loads) == ["h1", "h1", "h2", "h2", "h3", "h3"]


def test_the_host_with_the_larger_part_of_memory_free_wins() -> None:
    assert place([host("h1"), host("h2", memory_mib=8192)], [], SMALL) == "h2"


@pytest.mark.parametrize(
    ("facts", "asked", "reason"),
    [
        ({"memory_mib": 64}, {}, "h1: not enough memory (128 MiB wanted, 64 free)."),
        ({"disk_gib": 0}, {}, "h1: not enough disk (1 GiB wanted, 0 free)."),
        ({}, {"vcpus": 5}, "h1: not enough vCPUs (5 wanted, 4 there)."),
        ({"enabled": False, "disabled_reason": "fans"}, {}, "h1: disabled (fans)."),
        ({"alive": False}, {}, "h1: its agent does not report."),
        ({"zone": "az1"}, {"zone": "az2"}, "h1: in availability zone az1, not az2."),
        ({}, {"host": "h9"}, "h1: not the host asked for (h9)."),
        ({}, {"physical_networks": frozenset({"dc"})}, "h1: not connected to physical network dc."),
        (
            {"physical_networks": frozenset({"rack2"})},
            {"spread": [SPREAD]},
            "h1: not connected to the segment of network n on rack1.",
        ),
        (
            {"physical_networks": frozenset({"rack1", "rack2"})},
            {"spread": [SPREAD]},
            "h1: connected to several segments of network n (rack1, rack2).",
        ),
    ],
)
def test_each_reason_is_told(facts: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    assert why([host("h1", **facts)], [], wish(**asked)) == reason


def test_all_reasons_of_all_hosts_are_told() -> None:
    text = why([host("h1", alive=False, memory_mib=64), host("h2", enabled=False)], [], SMALL)
    assert text == (
        "h1: its agent does not report, not enough memory (128 MiB wanted, 64 free). h2: disabled."
    )
    assert why([], [], SMALL) == "No host has joined the region yet."


def test_processors_are_shared_and_memory_is_not() -> None:
    busy = [load("h1", str(n), memory_mib=0, disk_gib=0) for n in range(63)]
    assert place([host("h1")], busy, SMALL) == "h1"
    assert "not enough vCPUs (1 wanted, 0 free)" in why(
        [host("h1")], [*busy, load("h1", "63", disk_gib=0)], SMALL
    )
    assert "not enough memory" in why([host("h1")], [load("h1", memory_mib=1000)], SMALL)


def test_a_host_promises_its_bandwidth_and_its_packets_once() -> None:
    goods = {Good("egress", "dc"): 1000, PACKETS: 50}
    hosts = [host("h1", promises=goods), host("h2", promises=goods, promised={Good("egress", "dc"): 500})]
    assert place(hosts, [], wish(promises={Good("egress", "dc"): 501})) == "h1"
    assert "h1: not enough packet rate (51 kpackets/s wanted, 50 free)." in why(
        hosts, [], wish(promises={PACKETS: 51})
    )
    assert why(hosts, [], wish(promises={Good("ingress", "dc"): 1})).count(
        "not enough ingress bandwidth on physical network dc (1 kbit/s wanted, 0 free)"
    ) == len(hosts)


def test_affinity_keeps_together_and_anti_affinity_apart() -> None:
    hosts, there = [host("h1"), host("h2", memory_mib=9999)], [load("h1", "a", group="g")]
    together = wish(group="g", policy="affinity")
    apart = wish(group="g", policy="anti-affinity")
    assert place(hosts, there, together) == "h1"
    assert place(hosts, [], together) == "h2"
    assert place(hosts, there, apart) == "h2"
    both = [*there, load("h2", "b", group="g")]
    assert why(hosts, both, apart).count("it carries a server of the group already") == 2
    assert place(hosts, both, wish(group="g", policy="anti-affinity", max_per_host=2)) == "h2"
    full = [host("h1", memory_mib=128), host("h2")]
    assert "the server group is on h1" in why(full, there, together)


def test_soft_policies_prefer_and_never_refuse() -> None:
    hosts, there = [host("h1"), host("h2")], [load("h1", "a", group="g")]
    assert place(hosts, there, wish(group="g", policy="soft-affinity")) == "h1"
    assert place(hosts, there, wish(group="g", policy="soft-anti-affinity")) == "h2"
    one = [host("h1")]
    assert place(one, there, wish(group="g", policy="soft-anti-affinity")) == "h1"
    assert place([host("h2")], there, wish(group="g", policy="soft-affinity")) == "h2"


def test_hosts_of_other_servers_are_sought_or_shunned() -> None:
    hosts, there = [host("h1"), host("h2")], [load("h1", "a")]
    assert place(hosts, there, wish(same_host=frozenset({"a"}))) == "h1"
    assert place(hosts, there, wish(different_host=frozenset({"a"}))) == "h2"
    assert "none of the servers to share" in why(hosts, there, wish(same_host=frozenset({"zz"})))
