"""A load balancer with servers of a tenant behind it, and clients: for tests that send packets through it."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

from probes import Space, wait_for
from tenants import Net, Tenant

#: How long the machine may take for what takes a second or two when it is idle.
PATIENCE = 60.0
PORT, SERVED = 80, 8080
#: Where HTTP is spoken, by the balancer and by servers.
WEB = 88


class Answering:
    """A server in a namespace: it tells its name at first, and then repeats each line that comes."""

    def __init__(self, space: Space, name: str) -> None:
        self.name = name
        # Of IPv6, which takes IPv4 too.
        self._listening = space.open(socket.AF_INET6, socket.SOCK_STREAM)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("", SERVED))
        self._listening.listen(64)
        #: Where the newest connection came from.
        self.seen_from = ""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (seen, *_) = self._listening.accept()
                self.seen_from = seen.removeprefix("::ffff:")
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
        self._server.socket = space.open(socket.AF_INET6, socket.SOCK_STREAM)
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.socket.bind(("", WEB))
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def got(space: Space, address: str, path: str) -> str:
    """Status and body of the answer to a request, as "200 one"; "" where there is none."""
    head, body = fetched(space, address, path)
    return f"{head.split()[1]} {body}" if head else ""


def fetched(space: Space, address: str, path: str, cookie: str = "") -> tuple[str, str]:
    """Head and body of the answer to a request; both "" where there is none."""
    with opened(space, address) as client, contextlib.suppress(OSError):
        client.settimeout(2.0)
        client.connect((address, WEB))
        more = f"Cookie: {cookie}\r\n" if cookie else ""
        client.sendall(f"GET {path} HTTP/1.0\r\nHost: www.example.com\r\n{more}\r\n".encode())
        data = b""
        while part := client.recv(65536):
            data += part
        head, _, body = data.decode().partition("\r\n\r\n")
        return head, body
    return "", ""


def opened(space: Space, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket for an address of either family."""
    return space.open(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)


class Talk:
    """A connection to the VIP. `name` is that of who answers."""

    def __init__(self, space: Space, address: str, port: int = PORT) -> None:
        self._socket = opened(space, address)
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
        self.servers: list[Any] = [Answering(self.one, "one"), Answering(self.two, "two")]
        self.connect()

    def connect(self) -> None:
        """The API, and nothing ordered of it yet."""
        self._session: Any = self.tenant.api.session
        self._base = f"{self.tenant.cloud.state.load().api_url}/load-balancer/v2.0/lbaas"
        self.id = ""
        self.vip = ""

    def close(self) -> None:
        """Nothing is left of what was ordered, and nobody serves."""
        there = self.ask("GET", "loadbalancers")["loadbalancers"]
        if self.id in (each["id"] for each in there):
            self.ask("DELETE", f"loadbalancers/{self.id}?cascade=true")
        for server in self.servers:
            server.close()

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
        wait_for(
            lambda: self.shown()["provisioning_status"] == "ACTIVE",
            PATIENCE,
            "ACTIVE",
            lambda: f"{self.shown()}\n{self.events()}",
        )

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

        wait_for(
            so, PATIENCE, f"{sorted(names)} answer", lambda: f"these do: {sorted(seen)}\n{self.events()}"
        )

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
