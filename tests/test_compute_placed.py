"""Servers find their hosts: room, bandwidth, groups, what operators choose; and quotas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_lab import IMAGE, ROOT, Lab, ports_of

from trunkline.resources.compute import Server


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path).with_hosts("h1", "h2")
    yield made
    made.close()


def test_without_a_fitting_host_the_server_is_in_error_and_says_why(lab: Lab) -> None:
    net = lab.network()
    id = lab.boot(flavorRef="5", networks=[{"uuid": net}])
    shown = lab.show(id)
    assert shown["status"] == "ERROR"
    assert "No valid host was found" in shown["fault"]["message"]
    assert "details" not in shown["fault"]
    assert "h1: not enough vCPUs (8 wanted, 4 there)." in lab.show(id, by=ROOT)["fault"]["details"]
    assert ports_of(lab, id) == []
    lab.ask("DELETE", f"/servers/{id}")
    lab.ask("GET", f"/servers/{id}", status=404)


def test_servers_fill_the_bandwidth_of_hosts_and_free_it(lab: Lab) -> None:
    wanted = [{"uuid": lab.promising(h1=1000, h2=600)}]
    first, second = (lab.boot(networks=wanted) for _ in range(2))
    assert {row.host for id in (first, second) if (row := lab.row(id)) is not None} == {"h1", "h2"}
    third = lab.boot(networks=wanted)
    assert lab.show(third)["status"] == "ERROR"
    told = lab.show(third, by=ROOT)["fault"]["details"]
    assert "h1: not enough egress bandwidth of the tunnels (600 kbit/s wanted, 400 free)." in told
    assert "h2: not enough egress bandwidth of the tunnels (600 kbit/s wanted, 0 free)." in told
    lab.ask("DELETE", f"/servers/{first}")
    assert lab.show(lab.boot(networks=wanted))["status"] == "BUILD"


def test_several_servers_at_once_are_promised_no_more_than_there_is(lab: Lab) -> None:
    fields = {"min_count": 3, "max_count": 3}
    lab.boot(networks=[{"uuid": lab.promising(h1=1200, h2=0)}], **fields)
    with lab.store.read() as reader:
        assert sorted(server.host for server in reader.find(Server)) == ["", "h1", "h1"]


def test_an_interface_that_a_host_cannot_promise_is_not_attached(lab: Lab) -> None:
    net = lab.promising(h1=0, h2=0)
    id = lab.booted()
    told = lab.ask(
        "POST", f"/servers/{id}/os-interface", {"interfaceAttachment": {"net_id": net}}, status=409
    )
    assert "cannot promise" in told["conflictingRequest"]["message"]
    assert ports_of(lab, id) == []


def test_a_group_keeps_its_servers_apart_or_together(lab: Lab) -> None:
    def group(policy: str) -> str:
        body = {"server_group": {"name": policy, "policy": policy}}
        return str(lab.ask("POST", "/os-server-groups", body, version="2.64")["server_group"]["id"])

    def hosts(group: str, count: int) -> list[str]:
        rows = [lab.row(lab.boot(hints={"group": group})) for _ in range(count)]
        return [row.host for row in rows if row is not None]

    apart = group("anti-affinity")
    assert sorted(hosts(apart, 3)) == ["", "h1", "h2"]
    assert len(set(hosts(group("affinity"), 3))) == 1
    shown = lab.ask("GET", f"/os-server-groups/{apart}", version="2.64")["server_group"]
    assert len(shown["members"]) == 3


def test_only_operators_choose_a_host(lab: Lab) -> None:
    body = {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none"}
    forced = {"server": {**body, "availability_zone": "nova:h2"}}
    lab.ask("POST", "/servers", forced, version="2.37", status=403)
    id = lab.ask("POST", "/servers", forced, by=ROOT, version="2.37")["server"]["id"]
    row = lab.row(id)
    assert row is not None
    assert row.host == "h2"
    named = lab.row(lab.boot(by=ROOT, host="h1"))
    assert named is not None
    assert named.host == "h1"


def test_a_disabled_or_silent_host_gets_no_servers(lab: Lab) -> None:
    lab.ask("PUT", "/os-services/disable", {"host": "h1", "binary": "nova-compute"}, by=ROOT)
    lab.alive("h2", False)
    assert lab.show(lab.boot())["status"] == "ERROR"
    lab.ask("PUT", "/os-services/enable", {"host": "h1", "binary": "nova-compute"}, by=ROOT)
    assert lab.show(lab.boot())["status"] == "BUILD"


def test_quotas_end_at_their_limits(lab: Lab) -> None:
    lab.ask("PUT", "/os-quota-sets/p1", {"quota_set": {"instances": 2, "ram": 300}}, by=ROOT)
    lab.boot()
    body = {"server": {"name": "s", "imageRef": IMAGE, "flavorRef": "1", "networks": "none", "min_count": 2}}
    refused = lab.ask("POST", "/servers", body, version="2.37", status=403)["forbidden"]["message"]
    assert "Quota exceeded for instances, ram: Requested 2, 256, but already used 1, 128 of 2, 300" in refused
    more = {**body["server"], "min_count": 1, "max_count": 5}
    lab.ask("POST", "/servers", {"server": more}, version="2.37")
    assert len(lab.ask("GET", "/servers")["servers"]) == 2
    lab.boot(by="bob@p2")
