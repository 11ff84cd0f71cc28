"""What a demo builds, by the public API as the demo user, and takes away again.

Everything that is made says in its description (a server in its metadata) which demo it is of. It is found
again by that, so removing needs no memory of what was made: it works after a kill too.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from trunkline.cli.api import Api, ApiError, wait_until
from trunkline.cli.progress import Step
from trunkline.devices.state import StateFolder
from trunkline.errors import Conflict, Refusal, Unavailable

T = TypeVar("T")
Json = dict[str, Any]
_METADATA = "trunkline-demo"
_APPLIANCES = "/v1/appliances"
_BOOT_SECONDS, _GONE_SECONDS = 180.0, 90.0


class Site:
    """Owns what bears its mark in the demo user's project."""

    def __init__(self, api: Api, demo: str) -> None:
        """`demo` is the name of the demo: what it makes is called ``DEMO-...``."""
        self.api = api
        self.demo = demo
        self.mark = f"trunkline demo {demo}"
        self._public = ""
        self._image = self._flavor = ""

    # Networks.

    @property
    def public(self) -> str:
        """The id of the external network."""
        if not self._public:
            self._public = self.api.find("network", "/v2.0/networks", "networks", "public")["id"]
        return self._public

    def network(self, name: str) -> str:
        """A network; its id."""
        return str(self._create("network", name=f"{self.demo}-{name}")["id"])

    def subnet(self, network: str, name: str, cidr: str, **fields: Any) -> Json:
        """A subnet. An IPv6 one is told to hosts by router advertisements, unless `fields` say otherwise."""
        values: Json = {"ip_version": 6 if ":" in cidr else 4, **fields}
        if values["ip_version"] == 6:
            values = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac", **values}
        return self._create("subnet", network_id=network, name=f"{self.demo}-{name}", cidr=cidr, **values)

    def router(self, name: str, *, outside: bool = False) -> str:
        """A router; its id. With a gateway to the external network if it leads outside."""
        more = {"external_gateway_info": {"network_id": self.public}} if outside else {}
        return str(self._create("router", name=f"{self.demo}-{name}", **more)["id"])

    def gateway(self, router: str, subnet: Json) -> str:
        """Makes a router the gateway of a subnet; the address."""
        self._route(router, "add_router_interface", {"subnet_id": subnet["id"]})
        return str(subnet["gateway_ip"])

    def leg(self, router: str, subnet: Json, address: str) -> list[str]:
        """Connects a router with a network where it is not the gateway; all its addresses there.

        As any port it has one in each IPv6 subnet of the network too.
        """
        fixed = {"subnet_id": subnet["id"], "ip_address": address}
        network = subnet["network_id"]
        port = self._create("port", name=f"{self.demo}-leg", network_id=network, fixed_ips=[fixed])
        self._route(router, "add_router_interface", {"port_id": port["id"]})
        return [str(fixed["ip_address"]) for fixed in port["fixed_ips"]]

    def routes(self, router: str, routes: Mapping[str, str]) -> None:
        """The static routes of a router, destination to next hop."""
        told = [{"destination": prefix, "nexthop": hop} for prefix, hop in routes.items()]
        self.api.put("network", f"/v2.0/routers/{router}", {"router": {"routes": told}})

    def group(self, name: str, *, sends_all: bool = False) -> str:
        """A security group that lets nothing pass, or only out and everything; its id."""
        group = self._create("security_group", name=f"{self.demo}-{name}")
        if not sends_all:
            for rule in group["security_group_rules"]:
                self.api.delete("network", f"/v2.0/security-group-rules/{rule['id']}")
        return str(group["id"])

    def allow(self, group: str, direction: str, port: int, family: int, **remote: str) -> None:
        """A rule for a TCP port. `remote` is remote_group_id or remote_ip_prefix."""
        self._create(
            "security_group_rule",
            security_group_id=group,
            direction=direction,
            ethertype=f"IPv{family}",
            protocol="tcp",
            port_range_min=port,
            port_range_max=port,
            **remote,
        )

    def floating(self, port: str) -> str:
        """A floating IP for a port; the address."""
        made = self._create("floatingip", floating_network_id=self.public, port_id=port)
        return str(made["floating_ip_address"])

    def appliance(self, name: str, services: Sequence[str], inside: str, **fields: Any) -> Json:
        """An appliance between a network and the external one."""
        wanted: Json = {
            "name": f"{self.demo}-{name}",
            "description": self.mark,
            "services": list(services),
            "inside_network_id": inside,
            "outside_network_id": self.public,
            **fields,
        }
        made: Json = self.api.post("appliance", _APPLIANCES, {"appliance": wanted})["appliance"]
        return made

    def listed(self, kind: str) -> list[Json]:
        """What of a kind bears the mark."""
        query = {"description": self.mark}
        found: list[Json] = self.api.get("network", _path(kind), **query)[f"{kind}s"]
        return found

    def _create(self, kind: str, **fields: Any) -> Json:
        body = {kind: {"description": self.mark, **fields}}
        made: Json = self.api.post("network", _path(kind), body)[kind]
        return made

    def _route(self, router: str, verb: str, body: Json) -> None:
        self.api.put("network", f"/v2.0/routers/{router}/{verb}", body)

    # Servers.

    def server(
        self, name: str, network: str, address: str, user_data: str, groups: Sequence[str] = ()
    ) -> str:
        """Starts a server of the image and flavor `tiny`; its id."""
        if not self._image:
            self._image = self.api.find("image", "/v2/images", "images", "tiny")["id"]
            self._flavor = self.api.find("compute", "/v2.1/flavors", "flavors", "tiny")["id"]
        wanted: Json = {
            "name": f"{self.demo}-{name}",
            "imageRef": self._image,
            "flavorRef": self._flavor,
            "networks": [{"uuid": network, "fixed_ip": address}],
            "metadata": {_METADATA: self.demo},
            "user_data": base64.b64encode(user_data.encode()).decode(),
        }
        if groups:
            wanted["security_groups"] = [{"name": group} for group in groups]
        return str(self.api.post("compute", "/v2.1/servers", {"server": wanted})["server"]["id"])

    def check_room(self, servers: int) -> None:
        """Raises Conflict where the project's quota does not leave room for so many servers."""
        limits = self.api.get("compute", "/v2.1/limits")["limits"]["absolute"]
        room = limits["maxTotalInstances"] - limits["totalInstancesUsed"]
        if limits["maxTotalInstances"] >= 0 and room < servers:
            raise Conflict(
                f"The demo needs {servers} servers; the quota of the demo project leaves room for {room}. "
                "Delete some, or take away what another demo has left: `trunkline demo NAME --remove`."
            )

    def servers(self) -> list[Json]:
        """The servers that bear the mark."""
        listed = self.api.get("compute", "/v2.1/servers/detail")["servers"]
        return [s for s in listed if s["metadata"].get(_METADATA) == self.demo]

    def wait_active(self, step: Step) -> None:
        """Returns when all its servers are ACTIVE.

        Raises:
            Unavailable: one failed, or it takes too long.
        """

        def active() -> bool | None:
            servers = self.servers()
            for server in servers:
                if server["status"] == "ERROR":
                    cause = server.get("fault", {}).get("message", "no cause was told")
                    raise Unavailable(f"The server {server['name']} failed: {cause}")
            there = sum(server["status"] == "ACTIVE" for server in servers)
            step.note(f"{there} of {len(servers)} ACTIVE")
            return True if there == len(servers) else None

        wait_until(active, _BOOT_SECONDS, "Not all servers became ACTIVE")

    def ports(self, server: str) -> list[Json]:
        """The ports of a server."""
        found: list[Json] = self.api.get("network", "/v2.0/ports", device_id=server)["ports"]
        return found

    def console(self, server: str, lines: int = 0) -> str:
        """The end of what a server wrote on its console."""
        body = {"os-getConsoleOutput": {"length": lines} if lines else {}}
        return str(self.api.post("compute", f"/v2.1/servers/{server}/action", body)["output"])

    # Taking it away.

    def remove(self, step: Step) -> int:
        """Takes away all that bears the mark; how many things that was.

        Raises:
            Unavailable: something could not be taken away, with the cloud's words.
        """
        servers = self.servers()
        for server in servers:
            self.api.delete("compute", f"/v2.1/servers/{server['id']}")
        listed = self.api.get("appliance", _APPLIANCES)["appliances"]
        appliances = [each["id"] for each in listed if each["description"] == self.mark]
        for id in appliances:
            self.api.delete("appliance", f"{_APPLIANCES}/{id}")
        removed = len(servers) + len(appliances) + self._remove_all("floatingip")

        def gone() -> bool | None:
            left = len(self.servers())
            step.note(f"{left} servers left" if left else "networks")
            return None if left else True

        wait_until(gone, _GONE_SECONDS, "The demo's servers were not taken away")
        for router in self.listed("router"):
            self.routes(router["id"], {})
            for port in self.api.get("network", "/v2.0/ports", device_id=router["id"])["ports"]:
                if port["device_owner"] != "network:router_gateway":
                    self._route(router["id"], "remove_router_interface", {"port_id": port["id"]})
        return removed + sum(map(self._remove_all, ("router", "port", "network", "security_group")))

    def _remove_all(self, kind: str) -> int:
        found = self.listed(kind)
        for each in found:
            self.api.delete("network", f"{_path(kind)}/{each['id']}")
        return len(found)


def _path(kind: str) -> str:
    return f"/v2.0/{kind.replace('_', '-')}s"


@contextlib.contextmanager
def alone(state: StateFolder, demo: str) -> Iterator[None]:
    """One run of a demo at a time; being told to end is like Ctrl-C in the meantime.

    Raises:
        Unavailable: another one is at work.
    """

    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    descriptor = os.open(state.run / f"demo-{demo}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unavailable(
            f"Another `trunkline demo {demo}` is at work on this cloud. Try again when it is done."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(descriptor)


def settle(measure: Callable[[], T], good: Callable[[T], bool], seconds: float, pause: float = 0.5) -> T:
    """What is measured last: measured again while it is not good, for so many seconds after the first time.

    So it is measured twice at the least, however slow the machine is.
    """
    found = measure()
    deadline = time.monotonic() + seconds
    while not good(found) and time.monotonic() < deadline:
        time.sleep(pause)
        found = measure()
    return found


@contextlib.contextmanager
def taken_away(site: Site, steps: Any, keep: bool) -> Iterator[None]:
    """At the end of the block, however it ends, the demo's things are taken away, unless they are kept.

    Even then a demo that was cut off or failed is not kept half made.
    """
    done = False
    try:
        yield
        done = True
    finally:
        if not (keep and done):
            with steps.step("tidied up") as step:
                try:
                    site.remove(step)
                except (ApiError, Refusal) as error:
                    raise Unavailable(
                        f"{error.message} Something of the demo is left: take it away by "
                        f"`{site.mark} --remove`."
                    ) from error
                step.note("nothing of it is left")
