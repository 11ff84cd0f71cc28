"""Listeners of http and https at a whole appliance: members inside, clients outside.

| claim | and in reverse |
| --- | --- |
| requests are spread over members, of both families | what the firewall does not accept does not begin |
| members hear who the client is | |
| a route leads by host and path to a pool, or elsewhere, or nowhere | the others go to the default pool |
| a cookie keeps a client with its member | |
| TLS ends with the certificate of the name that is asked for | |
| tcp goes through a proxy, which says who the client is | |
| connections go on through a change of policy | the worker before ends with its last one |
| HAProxy that dies is started again | |
| a policy that HAProxy does not take is refused, and the one before stays | |
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from probes import wait_for
from unit_lab import UnitLab
from unit_lab import member as unit
from web_members import Answer, Client, certificate, member, once

pytestmark = pytest.mark.machine
VIP, VIP6 = "192.0.2.1", "fd00:b::1"
IN = {
    "name": "in",
    "from": "outside",
    "to": "inside",
    "service": ["tcp/80", "tcp/443", "tcp/90"],
    "action": "accept",
}
SOON = 60.0
SITES = {name: certificate(f"{name}.example.org") for name in ("one", "two")}


def members(*ports: int, address: str = "10.0.0.5") -> list[dict[str, Any]]:
    return [{"address": address, "port": port} for port in ports]


WEB: dict[str, Any] = {
    "name": "web", "address": VIP, "port": 80, "protocol": "http", "members": members(8001, 8002),
    "affinity": {"kind": "cookie", "cookie": "WHO"},
    "insert_headers": {"X-Forwarded-For": True, "X-Forwarded-Port": True, "X-Forwarded-Proto": True},
    "pools": {"api": {"members": members(8003), "affinity": {"kind": "app_cookie", "cookie": "SID"}}},
    "routes": [
        {"name": "no", "when": [{"kind": "path", "compare": "starts", "value": "/secret"}], "reject": True},
        {"name": "api", "to": "api", "when": [
            {"kind": "host", "value": "api.example.org"},
            {"kind": "path", "compare": "regex", "value": "^/v[0-9]+/"}]},
        {"name": "old", "when": [{"kind": "file_type", "value": "php"}], "redirect": "https://new.example.org/%41"},
        {"name": "moved", "when": [{"kind": "header", "key": "X-Old", "value": "yes it's"}],
         "prefix": "https://new.example.org", "code": 308},
    ],
}  # fmt: skip
LISTENERS = [
    WEB,
    {"name": "web6", "address": VIP6, "port": 80, "protocol": "http",
     "members": members(8001, address="fd00:a::5")},
    {"name": "safe", "address": VIP, "port": 443, "protocol": "https", "certificates": ["one", "two"],
     "members": members(8001, 8002), "insert_headers": {"X-Forwarded-Proto": True}},
    {"name": "closed", "address": VIP, "port": 81, "protocol": "http", "members": members(8001)},
    # Nobody listens at the first one.
    {"name": "asked", "address": VIP6, "port": 90, "protocol": "http",
     "health": {"kind": "http", "interval": 0.3, "timeout": 0.3, "rise": 1, "fall": 2, "codes": "200-499"},
     "members": [{"address": "fd00:a::5", "port": port} for port in (8004, 8001)]},
    {"name": "plain", "address": VIP, "port": 90, "protocol": "tcp", "proxied": True, "send_proxy": 1,
     "members": members(8009)},
]  # fmt: skip
POLICY: dict[str, Any] = {
    "firewall": {"rules": [IN]},
    "balancer": {"certificates": SITES, "listeners": LISTENERS},
}


class Balanced:
    """An appliance with members, and clients of its listeners."""

    def __init__(self, stack: contextlib.ExitStack, policy: dict[str, Any], planes: int = 2) -> None:
        self.lab = UnitLab(policy)
        stack.callback(self.lab.close)
        kinds = {240: "manager", 200: "dispatcher"} | dict.fromkeys(range(1, planes + 1), "data-plane")
        self.lab.begin(*(unit(number, kind) for number, kind in kinds.items()))
        for port in (8001, 8002, 8003):
            stack.enter_context(member(self.lab.client, "10.0.0.5", port, f"m{port}"))
        stack.enter_context(member(self.lab.client, "fd00:a::5", 8001, "six"))
        self.in_force()
        self.must_answer()

    def in_force(self) -> None:
        """All units do what the newest policy says."""
        revision = self.lab.policy.revision
        for one in self.lab.units.values():
            if one.own.kind != "manager" and one.process.poll() is None:
                one.must_say(lambda status: status.policy_revision == revision, SOON)

    def once(self, path: str = "/", address: str = VIP, port: int = 80, **more: Any) -> Answer | None:
        return once(self.lab.server, address, port, path, **more)

    def must_answer(self, path: str = "/", **more: Any) -> Answer:
        return wait_for(lambda: self.once(path, **more), SOON, f"{path} is answered")

    def client(self, address: str = VIP, port: int = 80, **more: Any) -> Client:
        return Client(self.lab.server, address, port, **more)


@pytest.fixture(scope="module")
def web() -> Iterator[Balanced]:
    with contextlib.ExitStack() as stack:
        yield Balanced(stack, POLICY)


def test_requests_are_spread(web: Balanced) -> None:
    seen = Counter(web.must_answer().member for _ in range(24))
    assert set(seen) == {"m8001", "m8002"}
    assert web.must_answer(address=VIP6).member == "six"
    # The firewall lets nothing begin there.
    assert web.once(port=81, patience=1.0) is None


def test_who_does_not_answer_is_not_asked_by_clients(web: Balanced) -> None:
    for plane in web.lab.of("data-plane"):
        plane.must_say(lambda status: status.members.get("asked//[fd00:a::5]:8004") == "down", SOON)
        plane.must_say(lambda status: status.members.get("asked//[fd00:a::5]:8001") == "up", SOON)
    assert {web.must_answer(address=VIP6, port=90).member for _ in range(8)} == {"six"}


def test_members_hear_who_the_client_is(web: Balanced) -> None:
    answer = web.must_answer()
    assert answer.heard("x-forwarded-for") == "192.0.2.9"
    assert answer.heard("x-forwarded-port") == "80"
    assert answer.heard("x-forwarded-proto") == "http"


def test_routes_lead_elsewhere(web: Balanced) -> None:
    api = {"headers": {"Host": "API.example.org:80"}}
    assert web.must_answer("/v2/things", **api).member == "m8003"
    assert web.must_answer("/v/things", **api).member != "m8003"
    assert web.must_answer("/v2/things").member != "m8003"
    # The first that fits decides.
    assert web.must_answer("/secret/v2/", **api).status == 403
    old = web.must_answer("/a/b.php")
    assert (old.status, old.headers["location"]) == (302, "https://new.example.org/%41")
    moved = web.must_answer("/there", headers={"X-Old": "yes it's"})
    assert (moved.status, moved.headers["location"]) == (308, "https://new.example.org/there")


def test_a_cookie_keeps_a_client_with_its_member(web: Balanced) -> None:
    for _ in range(3):
        first = web.must_answer()
        cookie = first.cookies["WHO"]
        assert {web.must_answer(headers={"Cookie": f"WHO={cookie}"}).member for _ in range(6)} == {
            first.member
        }
    # One of the members' own: the balancer writes in it, which they do not see.
    api = web.must_answer("/v2/", headers={"Host": "api.example.org"})
    cookie = api.cookies["SID"]
    assert cookie.endswith("~abc")
    again = web.must_answer("/v2/", headers={"Host": "api.example.org", "Cookie": f"SID={cookie}"})
    assert again.heard("cookie") == "SID=abc"


def test_tls_ends_here(web: Balanced) -> None:
    for name, site in SITES.items():
        more = {"tls": f"{name}.example.org", "trusted": site["certificate"]}
        answer = web.must_answer(port=443, **more)
        assert answer.heard("x-forwarded-proto") == "https"


def test_tcp_through_a_proxy_says_who_the_client_is(web: Balanced) -> None:
    with contextlib.closing(web.lab.client.open(socket.AF_INET, socket.SOCK_STREAM)) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind(("10.0.0.5", 8009))
        ear.listen(8)
        ear.settimeout(20)
        with contextlib.closing(web.lab.server.open(socket.AF_INET, socket.SOCK_STREAM)) as client:
            client.settimeout(20)
            client.connect((VIP, 90))
            near = client.getsockname()
            member_end, peer = ear.accept()
            with contextlib.closing(member_end):
                client.sendall(b"hello\n")
                member_end.settimeout(20)
                heard = b""
                while not heard.endswith(b"hello\n"):
                    heard += member_end.recv(1000)
    assert heard == f"PROXY TCP4 {near[0]} {VIP} {near[1]} 90\r\nhello\n".encode()
    assert peer[0] == "10.0.0.1"
