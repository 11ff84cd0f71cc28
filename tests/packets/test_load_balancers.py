"""Load balancers, ordered by the Octavia API: what comes to the VIP is spread over a tenant's servers.

| claim | and in reverse |
| --- | --- |
| it is ACTIVE in seconds, and says so of all that it is made of | |
| connections are spread over the members, on the VIP's network and on another | |
| a member that is taken out gets no new connection, and keeps those that it has | |
| so does one of weight 0, which is draining | |
| one that does not answer is asked for nothing, and shown | once it answers, it is asked again |
| a floating IP leads to the VIP | |
| whom the listener does not allow gets nothing | who is allowed does |
| policies of layer 7 lead requests to pools, and reject them | |
| a balancer that is disabled answers nobody | enabled, it does again |
| a deleted one leaves no port and no appliance | |
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from probes import Space, wait_for
from tenants import Net, Tenant

pytestmark = pytest.mark.machine

#: How long the machine may take for what takes a second or two when it is idle.
PATIENCE = 60.0
PORT, SERVED = 80, 8080
#: Where HTTP is spoken, by the balancer and by servers.
WEB = 88


class Answering:
    """A server in a namespace: it tells its name at first, and then repeats each line that comes."""

    def __init__(self, space: Space, name: str) -> None:
        self.name = name
        self._listening = space.open(socket.AF_INET, socket.SOCK_STREAM)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("", SERVED))
        self._listening.listen(64)
        #: Where the newest connection came from.
        self.seen_from = ""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (self.seen_from, _) = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self.name.encode())
            while data := connection.recv(1000):
                connection.sendall(data)

    def close(self) -> None:
        # One that accepts holds the socket until it is told.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


class Web:
    """A server of HTTP in a namespace, which answers everything with its name."""

    def __init__(self, space: Space, name: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("", WEB), Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = space.open(socket.AF_INET, socket.SOCK_STREAM)
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.socket.bind(("", WEB))
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def got(space: Space, address: str, path: str) -> str:
    """Status and body of the answer to a request, as "200 one"; "" where there is none."""
    with space.open(socket.AF_INET, socket.SOCK_STREAM) as client, contextlib.suppress(OSError):
        client.settimeout(2.0)
        client.connect((address, WEB))
        client.sendall(f"GET {path} HTTP/1.0\r\nHost: www.example.com\r\n\r\n".encode())
        data = b""
        while part := client.recv(65536):
            data += part
        head, _, body = data.decode().partition("\r\n\r\n")
        return f"{head.split()[1]} {body}"
    return ""


class Talk:
    """A connection to the VIP. `name` is that of who answers."""

    def __init__(self, space: Space, address: str, port: int = PORT) -> None:
        self._socket = space.open(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(0.5)
        try:
            self._socket.connect((address, port))
            self.name = self._socket.recv(100).decode()
        except OSError:
            self._socket.close()
            raise

    def goes_on(self) -> bool:
        """Whether what is said comes back."""
        try:
            self._socket.sendall(b"again")
            return self._socket.recv(100) == b"again"
        except OSError:
            return False

    def close(self) -> None:
        self._socket.close()


class Balanced:
    """Two servers of a tenant behind a VIP, a client beside one of them, and short ways to ask the API.

    The other server is on a network of its own, which no router leads to.
    """

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.net: Net = tenant.network("10.0.0.0/24")
        self.router = tenant.router(self.net, outside=True)
        self.apart: Net = tenant.network("10.9.0.0/24")
        self.one, self.client = (tenant.probe(self.net, host) for host in ("h1", "h3"))
        self.two = tenant.probe(self.apart, "h2")
        tenant.ready(self.one, self.two, self.client)
        self.servers = [Answering(self.one, "one"), Answering(self.two, "two")]
        self._session: Any = tenant.api.session
        self._base = f"{tenant.cloud.state.load().api_url}/load-balancer/v2.0/lbaas"
        self.id = ""
        self.vip = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self._session.request(f"{self._base}/{path}", method, json=body, raise_exc=False)
        assert reply.status_code < 300, reply.text
        return reply.json() if reply.content else None

    def order(self) -> None:
        """A balancer with a listener, a pool and both servers, in one request."""
        members = [self.described("one"), self.described("two")]
        pool = {"name": "servers", "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "members": members}
        listener = {"name": "web", "protocol": "TCP", "protocol_port": PORT, "default_pool": pool}
        wanted = {"name": "shop", "vip_subnet_id": self.net.subnets[0].id, "listeners": [listener]}
        made = self.ask("POST", "loadbalancers", {"loadbalancer": wanted})["loadbalancer"]
        self.id, self.vip = made["id"], made["vip_address"]
        self.settled()

    def described(self, name: str) -> dict[str, Any]:
        """A server, as a member is asked for."""
        probe, net = (self.one, self.net) if name == "one" else (self.two, self.apart)
        where = {"address": probe.v4, "subnet_id": net.subnets[0].id}
        return {"name": name, "protocol_port": SERVED, **where}

    def shown(self) -> dict[str, Any]:
        return dict(self.ask("GET", f"loadbalancers/{self.id}")["loadbalancer"])

    def tree(self) -> dict[str, Any]:
        return dict(self.ask("GET", f"loadbalancers/{self.id}/status")["statuses"]["loadbalancer"])

    def settled(self) -> None:
        """Returns when what was asked for is in force."""
        try:
            wait_for(lambda: self.shown()["provisioning_status"] == "ACTIVE", PATIENCE, "ACTIVE")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.shown()}\n{self.events()}") from None

    def appliances(self) -> list[dict[str, Any]]:
        base = f"{self.tenant.cloud.state.load().api_url}/appliance/v1/appliances"
        return list(self._session.get(base).json()["appliances"])

    def events(self) -> str:
        base = f"{self.tenant.cloud.state.load().api_url}/appliance/v1/appliances"
        ids = [appliance["id"] for appliance in self.appliances()]
        told = [e for id in ids for e in self._session.get(f"{base}/{id}/events").json()["events"][-20:]]
        return "\n".join(f"{e['at']} {e['unit']} {e['what']} ({e['cause']})" for e in told)

    @property
    def listener(self) -> str:
        return str(next(each["id"] for each in self.tree()["listeners"] if each["name"] == "web"))

    @property
    def pool(self) -> str:
        found = next(each for each in self.tree()["listeners"] if each["name"] == "web")
        return str(found["pools"][0]["id"])

    def member(self, name: str) -> str:
        """The id of a member."""
        found = self.ask("GET", f"pools/{self.pool}/members")["members"]
        return next(str(each["id"]) for each in found if each["name"] == name)

    def update(self, path: str, kind: str, **fields: Any) -> None:
        self.ask("PUT", path, {kind: fields})
        self.settled()

    @contextlib.contextmanager
    def changed(self, path: str, kind: str, before: dict[str, Any], **fields: Any) -> Iterator[None]:
        """It is otherwise in the block."""
        self.update(path, kind, **fields)
        try:
            yield
        finally:
            self.update(path, kind, **before)

    def who(self, space: Space | None = None, address: str = "", count: int = 8) -> set[str]:
        """Who answers so many new connections; "" where nobody does, which is told by one."""
        found = set()
        for _ in range(count):
            try:
                talk = Talk(space or self.client, address or self.vip)
            except OSError:
                return found | {""}
            found.add(talk.name)
            talk.close()
        return found

    def must_be(self, names: set[str], space: Space | None = None, address: str = "") -> None:
        """Soon these answer, and nobody else does."""
        seen: set[str] = set()

        def so() -> bool:
            nonlocal seen
            seen = self.who(space, address)
            return seen == names

        try:
            wait_for(so, PATIENCE, f"{sorted(names)} answer")
        except AssertionError as error:
            raise AssertionError(f"{error}, but {sorted(seen)}\n{self.events()}") from None

    def must_show(self, two: str, whole: str) -> None:
        """Soon the second server is shown so, and the balancer so."""

        def so() -> bool:
            found = self.ask("GET", f"pools/{self.pool}/members/{self.member('two')}")["member"]
            return (found["operating_status"], self.shown()["operating_status"]) == (two, whole)

        wait_for(so, PATIENCE, f"the server is {two}, the balancer {whole}")

    def talk_to(self, name: str) -> Talk:
        """A connection that this server has."""

        def tried() -> Talk | None:
            with contextlib.suppress(OSError):
                talk = Talk(self.client, self.vip)
                if talk.name == name:
                    return talk
                talk.close()
            return None

        return wait_for(tried, PATIENCE, f"a connection to {name}")


@pytest.fixture(scope="module")
def balanced(tenant: Tenant) -> Iterator[Balanced]:
    """For all cases here, in order."""
    made = Balanced(tenant)
    try:
        made.order()
        yield made
    finally:
        if made.id and any(
            each["id"] == made.id for each in made.ask("GET", "loadbalancers")["loadbalancers"]
        ):
            made.ask("DELETE", f"loadbalancers/{made.id}?cascade=true")
        for server in made.servers:
            server.close()


def test_it_is_active_with_all_of_it(balanced: Balanced) -> None:
    tree = balanced.tree()
    (listener,) = tree["listeners"]
    (pool,) = listener["pools"]
    for each in (tree, listener, pool, *pool["members"]):
        assert each["provisioning_status"] == "ACTIVE"
    assert {each["operating_status"] for each in pool["members"]} == {"NO_MONITOR"}
    wait_for(lambda: balanced.shown()["operating_status"] == "ONLINE", PATIENCE, "ONLINE")


def test_connections_are_spread_over_the_members(balanced: Balanced) -> None:
    balanced.must_be({"one", "two"})
    (appliance,) = balanced.appliances()
    one, two = balanced.servers
    assert one.seen_from in appliance["outside_addresses"]
    assert [two.seen_from] == appliance["network_addresses"][0], "it is on that network itself"


def test_a_member_that_is_taken_out_keeps_what_it_has(balanced: Balanced) -> None:
    talk = balanced.talk_to("two")
    path = f"pools/{balanced.pool}/members"
    balanced.ask("DELETE", f"{path}/{balanced.member('two')}")
    balanced.settled()
    balanced.must_be({"one"})
    assert talk.goes_on()
    talk.close()
    balanced.ask("POST", path, {"member": balanced.described("two")})
    balanced.settled()
    balanced.must_be({"one", "two"})


def test_a_member_of_weight_0_drains(balanced: Balanced) -> None:
    talk = balanced.talk_to("one")
    path = f"pools/{balanced.pool}/members/{balanced.member('one')}"
    with balanced.changed(path, "member", {"weight": 1}, weight=0):
        balanced.must_be({"two"})
        assert talk.goes_on()
        assert balanced.ask("GET", path)["member"]["operating_status"] == "DRAINING"
    talk.close()
    balanced.must_be({"one", "two"})


def test_a_member_that_does_not_answer_is_asked_for_nothing(balanced: Balanced) -> None:
    checks = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1}
    made = balanced.ask("POST", "healthmonitors", {"healthmonitor": {"pool_id": balanced.pool, **checks}})
    balanced.settled()
    balanced.must_show("ONLINE", "ONLINE")
    balanced.servers[1].close()
    balanced.must_show("ERROR", "DEGRADED")
    balanced.must_be({"one"})
    balanced.servers[1] = Answering(balanced.two, "two")
    balanced.must_show("ONLINE", "ONLINE")
    balanced.must_be({"one", "two"})
    balanced.ask("DELETE", f"healthmonitors/{made['healthmonitor']['id']}")
    balanced.settled()
    balanced.must_show("NO_MONITOR", "ONLINE")


def test_a_floating_ip_leads_to_the_vip(balanced: Balanced, internet: Space) -> None:
    floating = balanced.tenant.floating(port_id=balanced.shown()["vip_port_id"])
    balanced.must_be({"one", "two"}, internet, floating.floating_ip_address)


def test_whom_the_listener_does_not_allow_gets_nothing(balanced: Balanced) -> None:
    path = f"listeners/{balanced.listener}"
    with balanced.changed(path, "listener", {"allowed_cidrs": []}, allowed_cidrs=["192.0.2.0/24"]):
        balanced.must_be({""})
    with balanced.changed(
        path, "listener", {"allowed_cidrs": []}, allowed_cidrs=[f"{balanced.client.v4}/32"]
    ):
        balanced.must_be({"one", "two"})


def test_policies_of_layer_7_lead_requests(balanced: Balanced) -> None:
    webs = [Web(balanced.one, "one"), Web(balanced.two, "two")]
    pools = []
    for name in ("one", "two"):
        member = {**balanced.described(name), "protocol_port": WEB}
        pools.append({"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member]})
    rules = {
        "/b": {"action": "REDIRECT_TO_POOL", "redirect_pool": pools[1]},
        "/no": {"action": "REJECT"},
    }
    policies = [
        {**policy, "rules": [{"type": "PATH", "compare_type": "STARTS_WITH", "value": path}]}
        for path, policy in rules.items()
    ]
    listener = {"protocol": "HTTP", "protocol_port": WEB, "default_pool": pools[0], "l7policies": policies}
    made = balanced.ask("POST", "listeners", {"listener": {"loadbalancer_id": balanced.id, **listener}})
    balanced.settled()
    answers = {"/": "200 one", "/b/c": "200 two"}

    def so() -> bool:
        found = {path: got(balanced.client, balanced.vip, path) for path in answers}
        return found == answers and got(balanced.client, balanced.vip, "/no").startswith("403")

    try:
        wait_for(so, PATIENCE, "requests go where policies say")
    finally:
        balanced.ask("DELETE", f"listeners/{made['listener']['id']}")
        balanced.settled()
        for web in webs:
            web.close()


def test_one_that_is_disabled_answers_nobody(balanced: Balanced) -> None:
    path = f"loadbalancers/{balanced.id}"
    with balanced.changed(path, "loadbalancer", {"admin_state_up": True}, admin_state_up=False):
        balanced.must_be({""})
        assert balanced.shown()["operating_status"] == "OFFLINE"
    balanced.must_be({"one", "two"})


def test_a_deleted_one_leaves_nothing(balanced: Balanced) -> None:
    vip = balanced.shown()["vip_port_id"]
    assert [appliance["name"] for appliance in balanced.appliances()] == ["shop"]
    balanced.ask("DELETE", f"loadbalancers/{balanced.id}?cascade=true")
    assert balanced.appliances() == []
    left = balanced.tenant.admin.ports(network_id=balanced.net.id)
    assert not [p for p in left if p.id == vip or p.device_owner.startswith("network:appliance")]
