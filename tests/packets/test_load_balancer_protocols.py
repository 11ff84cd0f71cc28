"""Load balancers whose VIP is of IPv6, ordered by the Octavia API in one request: TCP, UDP and HTTP.

| claim |
| --- |
| TCP is spread over members of either family |
| datagrams are spread; those of one client's port are one member's, and answers come from the VIP |
| who has the balancer's cookie comes back to his member; who has none comes to any |
| what passed is counted, of the listener and of the balancer |
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from balanced import PATIENCE, PORT, SERVED, WEB, Answering, Balanced, Talk, Web, fetched, opened
from probes import Space, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine

#: Where datagrams are balanced.
DATAGRAMS = 5353


class Repeating:
    """A server that answers each datagram with its name and the datagram."""

    def __init__(self, space: Space, name: str) -> None:
        self._socket = space.open(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.bind(("", SERVED))
        self._name = name
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = self._socket.recvfrom(1000)
                if not client:
                    return
                self._socket.sendto(f"{self._name} ".encode() + data, client)

    def close(self) -> None:
        # One that waits holds the socket until it is told.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Sixth(Balanced):
    """Both servers and the client are on the VIP's network, with addresses of both families."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.net = tenant.network("10.0.0.0/24", "fd00:8::/64")
        self.one, self.two, self.client = tenant.probes(self.net, "h1", "h2", "h3")
        tenant.ready(self.one, self.two, self.client)
        self.servers = []
        for name, space in (("one", self.one), ("two", self.two)):
            self.servers += [Answering(space, name), Repeating(space, name), Web(space, name)]
        self.connect()

    def order(self) -> None:
        """Everything in one request."""
        one, two = {"name": "one"}, {"name": "two"}
        pools = {
            ("TCP", PORT): [
                {**one, "address": self.one.v4, "protocol_port": SERVED},
                {**two, "address": self.two.v6, "protocol_port": SERVED},
            ],
            ("UDP", DATAGRAMS): [
                {**one, "address": self.one.v6, "protocol_port": SERVED},
                {**two, "address": self.two.v6, "protocol_port": SERVED},
            ],
            ("HTTP", WEB): [
                {**one, "address": self.one.v6, "protocol_port": WEB},
                {**two, "address": self.two.v6, "protocol_port": WEB},
            ],
        }
        listeners = []
        for (protocol, port), members in pools.items():
            pool = {"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members}
            if protocol == "HTTP":
                pool["session_persistence"] = {"type": "HTTP_COOKIE"}
            name = "web" if protocol == "TCP" else protocol
            listeners.append(
                {"name": name, "protocol": protocol, "protocol_port": port, "default_pool": pool}
            )
        wanted = {"name": "six", "vip_subnet_id": self.net.subnets[1].id, "listeners": listeners}
        made = self.ask("POST", "loadbalancers", {"loadbalancer": wanted})["loadbalancer"]
        self.id, self.vip = made["id"], made["vip_address"]
        self.settled()

    def counted(self, path: str) -> dict[str, int]:
        return dict(self.ask("GET", f"{path}/stats")["stats"])


@pytest.fixture(scope="module")
def sixth(tenant: Tenant) -> Iterator[Sixth]:
    """For all cases here."""
    with contextlib.closing(Sixth(tenant)) as made:
        made.order()
        yield made


def test_tcp_is_spread_over_members_of_either_family(sixth: Sixth) -> None:
    sixth.must_be({"one", "two"})


def test_datagrams_are_spread_and_those_of_a_port_are_one_members(sixth: Sixth) -> None:
    def answers(count: int) -> set[str]:
        """Who answers so many datagrams of one port; "" where one is lost."""
        with opened(sixth.client, sixth.vip, socket.SOCK_DGRAM) as wire:
            wire.settimeout(1.0)
            wire.connect((sixth.vip, DATAGRAMS))  # The kernel drops what is from elsewhere.
            found = set()
            for number in range(count):
                with contextlib.suppress(OSError):
                    wire.send(b"%d" % number)
                    name, _, again = wire.recv(100).decode().partition(" ")
                    found.add(name if again == str(number) else "")
                    continue
                found.add("")
            return found

    def so() -> bool:
        found = [answers(3) for _ in range(8)]
        return all(len(each) == 1 for each in found) and set.union(*found) == {"one", "two"}

    wait_for(so, PATIENCE, "each port has one member, and both have some")


def test_who_has_the_cookie_comes_back_to_his_member(sixth: Sixth) -> None:
    def cookie_of(name: str) -> str | None:
        head, body = fetched(sixth.client, sixth.vip, "/")
        if body != name:
            return None
        lines = [line for line in head.splitlines() if line.lower().startswith("set-cookie:")]
        return lines[0].partition(":")[2].strip().partition(";")[0] if lines else None

    for name in ("one", "two"):
        cookie = wait_for(lambda n=name: cookie_of(n), PATIENCE, f"a cookie of {name}")
        assert {fetched(sixth.client, sixth.vip, "/", cookie)[1] for _ in range(6)} == {name}


def test_what_passed_is_counted(sixth: Sixth) -> None:
    listener, balancer = f"listeners/{sixth.listener}", f"loadbalancers/{sixth.id}"
    before, above = sixth.counted(listener), sixth.counted(balancer)
    said = 0
    for _ in range(10):
        talk = Talk(sixth.client, sixth.vip)
        assert talk.goes_on()
        said += len(talk.name) + len(b"again")
        talk.close()

    def more(now: dict[str, int], then: dict[str, int]) -> bool:
        connections = now["total_connections"] - then["total_connections"]
        return connections >= 10 and now["bytes_out"] - then["bytes_out"] >= said

    wait_for(lambda: more(sixth.counted(listener), before), PATIENCE, "the listener counted them")
    wait_for(lambda: more(sixth.counted(balancer), above), PATIENCE, "the balancer counted them")
