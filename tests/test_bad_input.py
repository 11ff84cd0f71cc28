"""Bad input: whatever is wrong with a request, a 4xx says what it is, and nothing is half done."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
import select
import socket
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_lab import ApiLab, message_of
from things import LATEST, Things, Valid
from valid_requests import valid_requests

SERVICES = ("identity", "network", "compute", "image", "appliance", "load-balancer")
#: Endpoints that write, and take no JSON body.
NO_BODY = re.compile(
    r"/tags/{tag}$|/implies/|/roles/{role_id}|/groups/{id}/users/{user_id}$|/actions/|/file$|/stage$"
    r"|/bindings/{host}/activate$|/drain$|/failover$|/renew$"
)
#: What is refused whatever stands in the body, which is not read.
NOT_READ = re.compile("/remote-consoles$|/os-volume_attachments|/shares$")
#: What nothing takes, wherever it stands.
POISON: dict[str, Any] = {
    "NUL": "a\x00b",
    "beyond 64 bits": 2**64,
    "far below": -(2**63) - 1,
    "a megabyte": "x" * 1_000_000,
}
#: One of each JSON type, and borders.
TYPES: tuple[Any, ...] = (
    None, True, 3, -1, 0, 2**63 - 1, 1.5, 1e300, "", " ", "text", "☃", [], {}, [[]], [None], [{}], {"a": {}},
)  # fmt: skip


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def things(service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Things]:
    lab = ApiLab(tmp_path_factory.mktemp(service))
    yield Things(lab)
    lab.close()


@pytest.fixture
def requests(things: Things, service: str) -> list[Valid]:
    return [request for request in valid_requests(things) if request.service == service]


def send(things: Things, request: Valid, body: Any, **headers: str) -> httpx.Response:
    """Sends a body; checks what holds of every answer: no 5xx, and what is refused has changed nothing."""
    lab = things.lab
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    revision = lab.store.revision
    sent = {"content-type": "application/json", **(request.headers or {}), **headers}
    reply = lab.ask(request.method, request.path, content=content, by=request.by, headers=sent)
    what = f"{request.endpoint} {content[:300]!r}: {reply.status_code} {reply.text[:300]}"
    assert reply.status_code < 500, what
    if reply.status_code >= 400:
        assert lab.store.revision == revision, f"half done: {what}"
        assert len(message_of(request.service, reply)) < 2000, what
    return reply


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a body is, the body itself left out."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def found(body: Any, path: tuple[Any, ...]) -> Any:
    """What stands at a place."""
    for key in path:
        body = body[key]
    return body


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place."""
    body = copy.deepcopy(body)
    found(body, path[:-1])[path[-1]] = value
    return body


def without(body: Any, path: tuple[Any, ...]) -> Any:
    """A copy without what stands at a place."""
    body = copy.deepcopy(body)
    del found(body, path[:-1])[path[-1]]
    return body


def names(value: Any) -> set[str]:
    """All names in a value."""
    return {str(key) for path in places(value) for key in path}


def assert_named(things: Things, request: Valid, reply: httpx.Response, body: Any, at: set[str]) -> None:
    """Fails where a 400 names nothing of what was changed, unless the valid request ends in the same."""
    if reply.status_code != 400:
        return
    message = message_of(request.service, reply)
    if isinstance(request.body, list):  # A patch: what is named is the operation, or the attribute in it.
        at = {*at, "operation", "name", "mine", "["}
    if any(name.lower() in message.lower() for name in at):
        return
    same = message_of(request.service, send(things, request, request.body))
    assert message.split(":")[0] == same.split(":")[0], (
        f"{request.endpoint} {at} {str(body)[:300]}: {message}"
    )


# First what changes nothing: paths, methods and queries.

IDS = (
    "x", "%00", "a%00b", "%F0%9F%90%8D", "x" * 300, "x" * 9000, "%2e%2e", "..%2f..%2fetc", "%ff%fe",
    "%0d%0aset-cookie:%20a", "'%20or%201=1", "-1", "9" * 40, "%25", str(uuid.UUID(int=0)),
)  # fmt: skip


def test_an_id_that_is_none_is_refused(things: Things, service: str) -> None:
    lab = things.lab
    bodies = {request.endpoint: request for request in valid_requests(things)}
    with lab.unchanged():
        for endpoint in lab.services[service].endpoints:
            label = f"{endpoint.method} /{service}{endpoint.path}"
            if not endpoint.path.endswith("{id}") or label == "PUT /identity/v3/regions/{id}":
                continue
            request = bodies.get(label)
            headers = {**LATEST, **((request and request.headers) or {})}
            for id in IDS:
                path = f"/{service}" + re.sub(r"{[a-z_]+}", lambda _, id=id: id, endpoint.path)
                for by in ("admin", "demo"):
                    reply = lab.ask(endpoint.method, path, request and request.body, by=by, headers=headers)
                    assert 400 <= reply.status_code < 500, f"{label} {id[:40]}: {reply.text}"
                    assert message_of(service, reply)
                    assert "set-cookie" not in reply.headers


def test_unknown_paths_and_methods_are_refused(things: Things, service: str) -> None:
    lab = things.lab
    known: dict[str, set[str]] = {}
    for endpoint in lab.services[service].endpoints:
        known.setdefault(endpoint.path, set()).add(endpoint.method)
    for path, methods in known.items():
        url = f"/{service}" + re.sub(r"{[a-z_]+}", "x", path)
        for method in {"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - methods:
            reply = lab.ask(method, url)
            if reply.status_code == 405:
                assert method not in reply.headers["allow"]
                assert message_of(service, reply)
            else:  # Another path has the same form: /servers/{id} and /servers/detail.
                assert 200 <= reply.status_code < 500, f"{method} {url}"
    for path in (
        "/nothing",
        "/v2.0/nothing",
        "/v3/nothing/x",
        "/v2.1/nothing",
        "/v2/nothing",
        "/v3/%0a",
        "/%00",
    ):
        reply = lab.ask("GET", f"/{service}{path}")
        assert reply.status_code in (400, 404), path
        assert message_of(service, reply)


def test_head_is_get_without_a_body(things: Things, service: str) -> None:
    lab = things.lab
    for endpoint in lab.services[service].endpoints:
        if endpoint.method == "GET" and "{" not in endpoint.path:
            get, head = (lab.ask(method, f"/{service}{endpoint.path}") for method in ("GET", "HEAD"))
            assert head.status_code == get.status_code, endpoint.path


#: What queries are asked with; a parameter that does not exist is refused or ignored.
PARAMETERS = (
    "limit", "marker", "sort_key", "sort_dir", "sort", "fields", "page_reverse", "nobody", "%00", "offset",
    "name", "id", "status", "tags", "not-tags-any", "name_substr", "name__icontains", "created_at", "mtu",
    "fixed_ips", "changes-since", "changed_since", "all_tenants", "size_min", "visibility", "tag", "ip",
    "router:external", "is_public", "minRam", "enabled", "effective", "scope.system", "start", "description",
)  # fmt: skip
VALUES = (
    "", "x", "%00", "-1", "9" * 30, "%ff", "%F0%9F%90%8D", "x" * 8000, "x" * 9000, "a," * 499, "a," * 600,
    "1.5", "1e999", "nan", "name:sideways", "name:asc,name:asc", "in:", "gt:x", "0001-01-01T00:00:00+23:59",
)  # fmt: skip
QUERIES = (
    "sort_key=name&sort_key=name", "sort_key=name&sort_dir=asc&sort_dir=asc", "limit=1&limit=2", "%", "%zz",
    "=", "&&&", "a;b", "limit=1&page_reverse=true&marker=", "sort_key=name&" * 3000, "name=x&" * 3000,
    "name_substr=x&" * 400, "tag=x&" * 400, "limit=2&sort_key=name&sort_dir=asc&marker=nobody",
)  # fmt: skip


def test_a_query_that_is_nonsense_is_refused_or_ignored(things: Things, service: str) -> None:
    lab = things.lab
    lists = [e.path for e in lab.services[service].endpoints if e.method == "GET" and "{" not in e.path]
    given = [f"{name}={value}" for name in PARAMETERS for value in VALUES] + list(QUERIES)
    with lab.unchanged():
        for number, query in enumerate(given):
            # Each list sees a third of them, and each of them a third of the lists.
            for path in lists[number % 3 :: 3]:
                reply = lab.ask("GET", f"/{service}{path}?{query}", headers=LATEST)
                assert reply.status_code < 500, f"{path}?{query[:80]}: {reply.text}"
                assert len(message_of(service, reply)) < 2000


def test_a_wrong_parameter_is_named(things: Things, service: str) -> None:
    wrong = {
        "identity": ["/v3/users?enabled=maybe", "/v3/users?sort_key=secret", "/v3/users?limit=-1"],
        "network": ["/v2.0/ports?nobody=1", "/v2.0/ports?limit=x", "/v2.0/networks?mtu=big"],
        "compute": ["/v2.1/servers?limit=-1", "/v2.1/servers?sort_key=x", "/v2.1/servers?changes-since=x"],
        "appliance": [
            "/v1/appliances?limit=x",
            "/v1/appliances?nobody=1",
            "/v1/appliances?sort_key=conditions",
        ],
        "load-balancer": [
            "/v2/lbaas/pools?limit=x",
            "/v2/lbaas/pools?nobody=1",
            "/v2/lbaas/pools?sort=x:asc",
        ],
        "image": ["/v2/images?limit=-1", "/v2/images?sort=x:asc", "/v2/images?visibility=none"],
    }
    for path in wrong[service]:
        reply = things.lab.ask("GET", f"/{service}{path}")
        assert reply.status_code == 400
        parameter = path.partition("?")[2].partition("=")[0]
        assert parameter.removesuffix("_key") in message_of(service, reply)


# Bodies that are none.

RAW: dict[str, bytes] = {
    "nothing": b"",
    "half a body": b'{"network": {"name": "a',
    "no JSON": b"hello",
    "XML": b"<network/>",
    "null": b"null",
    "a number": b"3",
    "text": b'"x"',
    "lists": b"[[[]]]",
    "invalid UTF-8": b'{"network": {"name": "\xff\xfe"}, "x": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a lone surrogate": b'{"a": "\\ud800"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "not a number": b'{"a": NaN}',
    "an infinite number": b'{"a": 1e999}',
    "ten thousand digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "NUL in a name": b'{"a\\u0000": 1}',
}


@pytest.mark.parametrize("content", RAW.values(), ids=RAW.keys())
def test_a_body_that_is_none_is_refused(things: Things, requests: list[Valid], content: bytes) -> None:
    for request in requests:
        reply = send(things, request, content)
        assert reply.status_code >= 400, f"{request.endpoint}: {reply.text}"


def test_a_body_of_another_media_type_is_refused(things: Things, requests: list[Valid]) -> None:
    for request in requests:
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "image/png; a=b", "\x00"):
            status = send(things, request, request.body, **{"content-type": media_type}).status_code
            assert status == 415 or NOT_READ.search(request.path)


def test_a_body_that_is_too_large_is_refused(things: Things, requests: list[Valid]) -> None:
    large = b'{"x": "' + b"x" * (16 * 1024 * 1024) + b'"}'
    for request in requests[::4]:
        if not NOT_READ.search(request.path):
            assert send(things, request, large).status_code == 413


def test_deep_nesting_is_refused_wherever_it_stands(things: Things, requests: list[Valid]) -> None:
    for request in requests:
        for path in places(request.body):
            for depth in (900, 5000):
                body = json.dumps(changed(request.body, path, "@")).replace('"@"', "[" * depth + "]" * depth)
                assert send(things, request, body.encode()).status_code >= 400, (request.endpoint, path)


# Bodies in which one thing is wrong.


def test_every_endpoint_is_asked(things: Things, requests: list[Valid], service: str) -> None:
    there = {
        f"{endpoint.method} /{service}{endpoint.path}"
        for endpoint in things.lab.services[service].endpoints
        if endpoint.method in ("POST", "PUT", "PATCH") and not NO_BODY.search(endpoint.path)
    }
    assert {request.endpoint for request in requests} == there


def test_a_wrong_value_is_refused_by_name(things: Things, requests: list[Valid]) -> None:
    for request in requests:
        for path in places(request.body):
            for label, value in [*POISON.items(), *((repr(value), value) for value in TYPES)]:
                body = changed(request.body, path, value)
                reply = send(things, request, body)
                assert reply.status_code >= 400 or label not in POISON, (request.endpoint, path, label)
                inside = names(value) | names(found(request.body, path))
                assert_named(things, request, reply, body, {str(key) for key in path} | inside)


#: Objects whose names are the client's own.
FREE = {"metadata", "options", "binding:profile", "extra_specs", "meta", "os:scheduler_hints", "system"}
FREE |= {"profile"}  # Of a binding.
#: Requests whose other fields are ignored, as their specification says (RFC 6902, 4; Keystone's log-in).
IGNORING = re.compile(r"PATCH /image/|/auth/tokens$")


def test_an_unknown_field_is_refused_by_name(things: Things, requests: list[Valid]) -> None:
    for request in requests:
        for path in ((), *places(request.body)):
            inner = found(request.body, path)
            if isinstance(inner, dict) and not FREE & set(path):
                body = copy.deepcopy(request.body)
                found(body, path)["nobody"] = 1
                reply = send(things, request, body)
                if not IGNORING.search(request.endpoint):
                    assert reply.status_code >= 400, (request.endpoint, path)
                    assert_named(
                        things, request, reply, body, {"nobody", *map(str, path or ["body", "action"])}
                    )


def test_what_is_missing_is_named(things: Things, requests: list[Valid]) -> None:
    for request in requests:
        for path in places(request.body):
            body = without(request.body, path)
            reply = send(things, request, body)
            named = {str(key) for key in path} | names(request.body)
            assert_named(things, request, reply, body, named if body else {*named, "body"})


def test_the_same_twice_is_refused_or_once(things: Things, requests: list[Valid]) -> None:
    for request in requests:
        for path in places(request.body):
            value = found(request.body, path)
            if isinstance(value, list) and value:
                body = changed(request.body, path, [*value, *value])
                assert_named(things, request, send(things, request, body), body, {str(key) for key in path})
        twice = json.dumps(request.body)[:-1] + "," + json.dumps(request.body)[1:]
        send(things, request, twice.encode())


# References.


@pytest.fixture(scope="module")
def others(things: Things, service: str) -> dict[str, str]:
    """What is the demo project's -> the same kind of thing, which another project owns."""
    lab = things.lab

    def make(path: str, body: dict[str, Any]) -> str:
        reply = lab.ok("POST", path, body, by="otto")
        return str(reply["id"] if "id" in reply else next(iter(reply.values()))["id"])

    base = "/network/v2.0"
    network = make(f"{base}/networks", {"network": {}})
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/16"}
    group = make(f"{base}/security-groups", {"security_group": {}})
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "udp"}
    subnetted = make(f"{base}/networks", {"network": {}})
    make(f"{base}/subnets", {"subnet": {**subnet, "network_id": subnetted}})
    server = {"name": "s", "imageRef": lab.image, "flavorRef": "1", "networks": "none"}
    balancers: dict[str, str] = {}
    if service == "load-balancer":
        lbaas = f"/{service}/v2/lbaas"
        vips = make(f"{base}/networks", {"network": {}})
        vip = make(f"{base}/subnets", {"subnet": {**subnet, "network_id": vips}})
        balancer = make(f"{lbaas}/loadbalancers", {"loadbalancer": {"vip_subnet_id": vip}})
        whose = {"loadbalancer_id": balancer, "protocol": "TCP"}
        balancers = {
            things.balancer: balancer,
            things.listener: make(f"{lbaas}/listeners", {"listener": {**whose, "protocol_port": 80}}),
            things.members_pool: make(f"{lbaas}/pools", {"pool": {**whose, "lb_algorithm": "ROUND_ROBIN"}}),
        }
    return {
        **balancers,
        things.project: lab.projects["other"],
        things.user: lab.users["otto"],
        things.network: network,
        things.subnet: make(f"{base}/subnets", {"subnet": subnet}),
        things.port: make(f"{base}/ports", {"port": {"network_id": network}}),
        things.parent: make(f"{base}/ports", {"port": {"network_id": network}}),
        things.sub_port: make(f"{base}/ports", {"port": {"network_id": network}}),
        things.router: make(f"{base}/routers", {"router": {}}),
        things.group: group,
        things.rule: make(f"{base}/security-group-rules", {"security_group_rule": rule}),
        things.trunk: make(
            f"{base}/trunks",
            {"trunk": {"port_id": make(f"{base}/ports", {"port": {"network_id": network}})}},
        ),
        things.pool: make(
            f"{base}/subnetpools", {"subnetpool": {"name": "p", "prefixes": ["172.16.0.0/16"]}}
        ),
        things.floatingip: make(
            f"{base}/floatingips", {"floatingip": {"floating_network_id": things.public}}
        ),
        things.server: make_server(things, server),
        things.server_group: make(
            "/compute/v2.1/os-server-groups", {"server_group": {"name": "g", "policies": ["affinity"]}}
        ),
        things.image: make("/image/v2/images", {"name": "i", "visibility": "private"}),
        things.outside: network,
        things.spare_inside: subnetted,
        things.credential: make("/identity/v3/credentials", {"credential": {"type": "cert", "blob": "b"}}),
    }


def make_server(things: Things, fields: dict[str, Any]) -> str:
    made = things.lab.ok("POST", "/compute/v2.1/servers", {"server": fields}, by="otto", headers=LATEST)
    return str(made["server"]["id"])


#: Places that may name what is another's, for it gives nothing: what a user notes beside a secret.
HARMLESS = {("trust", "trustee_user_id"), ("credential", "project_id"), ("tags", 0)}


def test_what_another_project_owns_is_refused(
    things: Things, requests: list[Valid], others: dict[str, str]
) -> None:
    asked = 0
    for request in requests:
        if request.by != "demo":
            continue
        for path in places(request.body):
            mine = found(request.body, path)
            if isinstance(mine, str) and mine in others:
                for theirs in (str(uuid.uuid4()), *([] if path in HARMLESS else [others[mine]])):
                    reply = send(things, request, changed(request.body, path, theirs))
                    assert reply.status_code >= 400, (request.endpoint, path)
                    asked += 1
        for mine, theirs in others.items():
            if mine in request.path:
                there = replace(request, path=request.path.replace(mine, theirs))
                assert send(things, there, request.body).status_code in (403, 404), there
                asked += 1
    assert asked > 3


# Below HTTP: what no client library sends.


def talk(address: tuple[str, int], raw: bytes, *, patient: bool = False) -> bytes:
    """What is answered to bytes. `patient`: the server may be waiting for more, which does not come."""
    with socket.create_connection(address, timeout=10) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):  # It may be refused before all of it is sent.
            connection.sendall(raw)
        with contextlib.suppress(ConnectionError):
            if not select.select([connection], [], [], 0.5 if patient else 10)[0]:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def test_bytes_that_are_no_request_are_refused(tmp_path: Path) -> None:
    lab = ApiLab(tmp_path)
    token = b"x-auth-token: " + lab.tokens["demo"].encode() + b"\r\nhost: cloud\r\nconnection: close\r\n"
    list_networks = b"GET /network/v2.0/networks HTTP/1.1\r\n" + token
    post = b"POST /network/v2.0/networks HTTP/1.1\r\n" + token
    raw = {
        "nothing": b"",
        "noise": bytes(range(256)) * 8,
        "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "no version": b"GET /network/v2.0/networks\r\n\r\n",
        "a path with dots": b"GET /network/../../../etc/passwd HTTP/1.1\r\n" + token + b"\r\n",
        "a path with NUL": b"GET /network/v2.0/\x00 HTTP/1.1\r\n" + token + b"\r\n",
        "a path that is no UTF-8": b"GET /network/v2.0/\xff\xfe HTTP/1.1\r\n" + token + b"\r\n",
        "a long path": b"GET /network/v2.0/" + b"x" * 200_000 + b" HTTP/1.1\r\n" + token + b"\r\n",
        "a long header": list_networks + b"x: " + b"x" * 200_000 + b"\r\n\r\n",
        "many headers": list_networks + b"x: y\r\n" * 20_000 + b"\r\n",
        "a header without a name": list_networks + b": x\r\n\r\n",
        "two lengths": post + b"content-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        "a negative length": post + b"content-length: -1\r\n\r\n",
        "less than was said": post + b"content-length: 99\r\n\r\n{",
        "bad chunks": post + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "a body without end": post
        + b"transfer-encoding: chunked\r\n\r\n"
        + (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 18,
    }
    with lab.served() as address, lab.unchanged():
        for label, sent in raw.items():
            status = talk(address, sent, patient=True).partition(b"\r\n")[0]
            assert status == b"" or re.match(rb"HTTP/1.1 (4\d\d|200) ", status), (label, status)
            if label.startswith(("a path", "a body", "bad", "two", "less")):
                assert not status.startswith(b"HTTP/1.1 200"), label
            assert talk(address, list_networks + b"\r\n").startswith(b"HTTP/1.1 200"), label
    lab.close()


def test_many_at_once_that_are_bad_do_not_disturb_those_that_are_good(things: Things, service: str) -> None:
    if service != "network":
        return

    async def storm() -> list[int]:
        good = things.lab.client.get("/network/v2.0/networks", headers=things.lab.headers("demo"))
        bad = [
            things.lab.client.post(
                "/network/v2.0/ports", content=b"[" * n, headers=things.lab.headers("demo")
            )
            for n in range(1, 60)
        ]
        return [reply.status_code for reply in await asyncio.gather(*bad, good)]

    *bad, good = things.lab.run(storm())
    assert set(bad) == {400}
    assert good == 200
