"""``trunkline up --prove``: a first server, reached from outside, and taken away again.

Everything by the public API, in the demo project, under names of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from typing import Any

from trunkline.cli.api import Api, ApiError, wait_until
from trunkline.cli.progress import Step, Steps
from trunkline.cli.ssh import ssh_argv
from trunkline.devices.lab import Topology
from trunkline.devices.state import Cloud, StateFolder
from trunkline.errors import Unavailable

_NAME = "trunkline-proof"
_CIDR, _GATEWAY = "192.168.240.0/28", "192.168.240.1"


def prove_with_a_server(state: StateFolder, cloud: Cloud, steps: Steps) -> None:
    """Network, router, server, floating IP, and a command in the guest by SSH from the internet host.

    Raises:
        Unavailable: the step that did not work, and why.
    """
    api = Api.open(state)
    _clear(api)
    undo: list[Callable[[], None]] = []
    try:
        with steps.step("first server") as step:
            server, port = _server(api, undo, step)
            step.note(f"ACTIVE on {server.get('OS-EXT-SRV-ATTR:host') or 'a host'}")
        with steps.step("reached") as step:
            address = _floating(api, undo, port)
            said = _reach(state, Topology(cloud).internet, address, step)
            step.note(f"ssh root@{address}: {said}")
    finally:
        with steps.step("tidied up") as step:
            for action in reversed(undo):
                step.note("taking the first server away")
                with contextlib.suppress(ApiError):
                    action()
            step.note("")


def _clear(api: Api) -> None:
    """Removes what a proof that was cut off has left."""
    for server in api.get("compute", "/v2.1/servers", name=f"^{_NAME}$")["servers"]:
        _delete_server(api, server["id"])
    for router in api.get("network", "/v2.0/routers", name=_NAME)["routers"]:
        for port in api.get("network", "/v2.0/ports", device_id=router["id"])["ports"]:
            body = {"port_id": port["id"]}
            with contextlib.suppress(ApiError):
                api.put("network", f"/v2.0/routers/{router['id']}/remove_router_interface", body)
        api.delete("network", f"/v2.0/routers/{router['id']}")
    for floating in api.get("network", "/v2.0/floatingips")["floatingips"]:
        if floating.get("description") == _NAME:
            api.delete("network", f"/v2.0/floatingips/{floating['id']}")
    for network in api.get("network", "/v2.0/networks", name=_NAME)["networks"]:
        api.delete("network", f"/v2.0/networks/{network['id']}")


def _server(api: Api, undo: list[Callable[[], None]], step: Step) -> tuple[dict[str, Any], str]:
    step.note("network, router")
    network = api.post("network", "/v2.0/networks", {"network": {"name": _NAME}})["network"]
    undo.append(lambda: api.delete("network", f"/v2.0/networks/{network['id']}"))
    subnet = api.post(
        "network",
        "/v2.0/subnets",
        {"subnet": {"network_id": network["id"], "ip_version": 4, "cidr": _CIDR, "gateway_ip": _GATEWAY}},
    )["subnet"]
    outside = api.find("network", "/v2.0/networks", "networks", "public")
    gateway = {"network_id": outside["id"]}
    router = api.post(
        "network", "/v2.0/routers", {"router": {"name": _NAME, "external_gateway_info": gateway}}
    )["router"]
    router_path = f"/v2.0/routers/{router['id']}"
    undo.append(lambda: api.delete("network", router_path))
    api.put("network", f"{router_path}/add_router_interface", {"subnet_id": subnet["id"]})
    undo.append(
        lambda: api.put("network", f"{router_path}/remove_router_interface", {"subnet_id": subnet["id"]})
    )
    image = api.find("image", "/v2/images", "images", "tiny")
    flavor = api.find("compute", "/v2.1/flavors", "flavors", "tiny")
    wanted = {
        "name": _NAME,
        "imageRef": image["id"],
        "flavorRef": flavor["id"],
        "networks": [{"uuid": network["id"]}],
    }
    path = f"/v2.1/servers/{api.post('compute', '/v2.1/servers', {'server': wanted})['server']['id']}"
    undo.append(lambda: _delete_server(api, path.rpartition("/")[2]))

    def active() -> dict[str, Any] | None:
        server: dict[str, Any] = api.get("compute", path)["server"]
        step.note(f"server {server['status']}")
        if server["status"] == "ERROR":
            raise Unavailable(
                f"The first server failed: {server.get('fault', {}).get('message', 'no cause')}"
            )
        return server if server["status"] == "ACTIVE" else None

    server = wait_until(active, 120.0, "The first server did not become ACTIVE")
    ports = api.get("network", "/v2.0/ports", device_id=server["id"])["ports"]
    return server, str(ports[0]["id"])


def _delete_server(api: Api, id: str) -> None:
    path = f"/v2.1/servers/{id}"
    api.delete("compute", path)

    def gone() -> bool | None:
        try:
            api.get("compute", path)
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return None

    wait_until(gone, 60.0, "The first server was not taken away")


def _floating(api: Api, undo: list[Callable[[], None]], port: str) -> str:
    outside = api.find("network", "/v2.0/networks", "networks", "public")
    body = {"floating_network_id": outside["id"], "port_id": port, "description": _NAME}
    made = api.post("network", "/v2.0/floatingips", {"floatingip": body})["floatingip"]
    undo.append(lambda: api.delete("network", f"/v2.0/floatingips/{made['id']}"))
    return str(made["floating_ip_address"])


def _reach(state: StateFolder, netns: str, address: str, step: Step) -> str:
    """What `uname -nr` says in the guest. The guest may still be starting, so it is asked again."""
    argv = ssh_argv(state, netns, "root", address, ("uname", "-nr"), seconds=5)
    last = ""

    def ask() -> str | None:
        nonlocal last
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        last = " ".join(done.stderr.split())
        step.note(f"ssh root@{address} {last}")
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        return wait_until(ask, 120.0, f"The first server did not let us in at {address}")
    except Unavailable as error:
        raise Unavailable(f"{error.message} The last try said: {last or 'nothing'}") from None
