"""What was acknowledged is there, whatever dies meanwhile; what others change in OVN is put right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from cloud import Cloud

from trunkline.devices import process

pytestmark = pytest.mark.machine


def wait_for(condition: Callable[[], Any], seconds: float, tell: Callable[[], Any] = lambda: "") -> Any:
    """Waits until the condition holds; returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, tell()
        time.sleep(0.05)
    return found


@pytest.fixture
def api(cloud: Cloud) -> Iterator[httpx.Client]:
    token = cloud.admin.session.get_token()
    limits = httpx.Limits(max_connections=64)
    with httpx.Client(
        base_url=f"{cloud.url}/network/v2.0", headers={"X-Auth-Token": token}, limits=limits, timeout=30
    ) as client:
        yield client


@pytest.fixture
def network(api: httpx.Client) -> Iterator[str]:
    made = api.post("/networks", json={"network": {"name": "faults"}}).json()["network"]["id"]
    subnet = {"network_id": made, "ip_version": 4, "cidr": "10.20.0.0/16"}
    assert api.post("/subnets", json={"subnet": subnet}).status_code == 201
    yield made
    for port in api.get("/ports", params={"network_id": made}).json()["ports"]:
        if not port["device_owner"].startswith("network:"):
            assert api.delete(f"/ports/{port['id']}").status_code == 204
    assert api.delete(f"/networks/{made}").status_code == 204


def northbound(cloud: Cloud, *arguments: str) -> str:
    """What ovn-nbctl says on the cloud's own database."""
    command = ["ovn-nbctl", "--timeout=10", f"--db=unix:{cloud.state.central / 'nb.sock'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=True).stdout


def logical_ports(cloud: Cloud) -> set[str]:
    """The names of the logical switch ports."""
    told = json.loads(northbound(cloud, "--format=json", "--columns=name", "list", "Logical_Switch_Port"))
    return {row[0] for row in told["data"]}


def test_acknowledged_creates_survive_a_kill_of_control(
    cloud: Cloud, api: httpx.Client, network: str
) -> None:
    acknowledged: list[dict[str, Any]] = []
    unanswered: list[str] = []
    some = threading.Event()

    def create(number: int) -> None:
        name = f"p{number}"
        try:
            reply = api.post("/ports", json={"port": {"network_id": network, "name": name}})
        except httpx.TransportError:
            unanswered.append(name)
            return
        assert reply.status_code == 201, reply.text
        acknowledged.append(reply.json()["port"])
        if len(acknowledged) >= 20:
            some.set()

    control = process.find(cloud.state.pidfile("control"))
    assert control is not None
    with ThreadPoolExecutor(32) as pool:
        done = [pool.submit(create, number) for number in range(100)]
        assert some.wait(30)
        os.kill(control.pid, signal.SIGKILL)
        for one in done:
            one.result()
    assert unanswered, "control was killed too late to prove anything"

    def answers() -> bool:
        try:
            return bool(httpx.get(f"{cloud.url}/ready", timeout=5).json()["ready"])
        except (httpx.TransportError, ValueError):
            return False

    wait_for(answers, 30, cloud.logs)
    stored = {p["id"]: p for p in api.get("/ports", params={"network_id": network}).json()["ports"]}
    for port in acknowledged:
        assert stored[port["id"]]["fixed_ips"] == port["fixed_ips"]
    addresses = [f["ip_address"] for p in stored.values() for f in p["fixed_ips"]]
    assert len(addresses) == len(set(addresses))
    # What was not acknowledged is there as a whole or not at all, and hinders nothing.
    for name in unanswered:
        assert api.post("/ports", json={"port": {"network_id": network, "name": name}}).status_code == 201
    everything = {p["id"] for p in api.get("/ports", params={"network_id": network}).json()["ports"]}
    wait_for(lambda: everything <= logical_ports(cloud), 20, lambda: everything - logical_ports(cloud))


@pytest.mark.parametrize("table", ["Logical_Switch_Port", "Logical_Switch"])
def test_a_row_that_somebody_removes_comes_back(
    cloud: Cloud, api: httpx.Client, network: str, table: str
) -> None:
    port = api.post("/ports", json={"port": {"network_id": network}}).json()["port"]["id"]
    wait_for(lambda: port in logical_ports(cloud), 20)
    if table == "Logical_Switch_Port":
        northbound(cloud, "lsp-del", port)
    else:
        northbound(cloud, "ls-del", f"ls-{network}")
    wait_for(lambda: port in logical_ports(cloud), 10)
    wait_for(lambda: cloud.status()["well"], 20, cloud.status)


def test_rows_of_others_are_left_alone(cloud: Cloud, api: httpx.Client, network: str) -> None:
    northbound(cloud, "ls-add", "somebody-else")
    try:
        port = api.post("/ports", json={"port": {"network_id": network}}).json()["port"]["id"]
        wait_for(lambda: port in logical_ports(cloud), 20)
        assert "somebody-else" in northbound(cloud, "ls-list")
    finally:
        northbound(cloud, "--if-exists", "ls-del", "somebody-else")
