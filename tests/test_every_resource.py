"""What every resource does because it is declared as one: its documents, its refusals, its collection."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema_rs
import pytest
from api_lab import ApiLab, message_of
from things import forwarder, proxying

from trunkline.api import openapi, wiring
from trunkline.errors import BadField
from trunkline.resources.schema import FieldSpec, Spec, specs

assert wiring.stages, "with it, every resource is declared"

SERVICES = ("identity", "network", "compute", "image", "appliance", "loadbalancer")
EVERY = [spec for spec in specs().values() if spec.service in SERVICES]
#: (spec, verb, field): whatever a client can give.
GIVEN = [
    (spec, verb, field)
    for spec in EVERY
    for verb in ("create", "update")
    for field in spec.fields.values()
    if getattr(field.flags, verb)
]
#: One of every JSON type, and some more.
PALETTE = (None, True, 3, 1.5, "text", [], [[]], [7], {}, {"nobody": 1})


def name_of(value: object) -> str | None:
    return value.kind if isinstance(value, Spec) else value.wire if isinstance(value, FieldSpec) else None


# Documents.


@pytest.mark.parametrize("spec", EVERY, ids=name_of)
def test_it_is_documented(spec: Spec) -> None:
    shown = [field.name for field in spec.fields.values() if field.flags.shown]
    assert spec.doc
    assert [name for name in shown if not spec.field_docs.get(name)] == []


@pytest.mark.parametrize("spec", EVERY, ids=name_of)
def test_its_schemas_are_valid_and_name_each_field(spec: Spec) -> None:
    shown = openapi.output_schema(spec)
    jsonschema_rs.meta.validate(shown)
    assert set(shown["properties"]) == {f.wire for f in spec.fields.values() if f.flags.shown}
    for verb in ("create", "update"):
        taken = dict(openapi.input_schema(spec.kind, verb, spec.kind))
        jsonschema_rs.meta.validate(dict(taken))
        inner = taken["properties"][spec.kind]
        assert set(inner["properties"]) == {f.wire for f in spec.fields.values() if getattr(f.flags, verb)}
        assert inner["additionalProperties"] is False
        assert set(inner.get("required", [])) == {
            f.wire for f in spec.fields.values() if verb == "create" and f.flags.required
        }


# What is refused, whoever asks.


def schema_of(spec: Spec, verb: str, field: FieldSpec) -> dict[str, Any]:
    """The JSON schema of one field of a request."""
    return openapi.input_schema(spec.kind, verb)["properties"][field.wire]


def sample(schema: Mapping[str, Any], text: str = "text") -> Any:
    """A value of the schema with as much in it as it takes."""
    if "anyOf" in schema:
        return sample(next(s for s in schema["anyOf"] if s.get("type") != "null"), text)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "array":
        return [sample(schema["items"], text)]
    if kind == "object":
        if not schema.get("properties"):
            return {"any": text}
        return {name: sample(inner, text) for name, inner in schema["properties"].items()}
    return {"string": text, "integer": schema.get("minimum", 1), "number": 1.5, "boolean": True}.get(
        kind, text
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the leaves of a value are."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))
    else:
        yield path


def with_leaf(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    """A copy of the value with another leaf."""
    if not path:
        return leaf
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = leaf
    return changed


def refused(spec: Spec, verb: str, name: str, value: Any) -> BadField:
    """The error for a field; it must name the field, be of one short line, and say it to the client."""
    parse = spec.parse_create if verb == "create" else spec.parse_update
    with pytest.raises(BadField) as caught:
        parse({name: value})
    error = caught.value
    assert error.field.split("[")[0].removeprefix("$.") == name or error.field.startswith(f"{name}."), error
    assert error.field in error.message
    assert len(error.message) <= 1000
    return error


@pytest.mark.parametrize(("spec", "verb", "field"), GIVEN, ids=name_of)
def test_a_wrong_type_is_refused(spec: Spec, verb: str, field: FieldSpec) -> None:
    takes = jsonschema_rs.validator_for(schema_of(spec, verb, field)).is_valid
    wrong = [value for value in PALETTE if not takes(value)]
    assert wrong
    for value in wrong:
        refused(spec, verb, field.wire, value)


@pytest.mark.parametrize(("spec", "verb", "field"), GIVEN, ids=name_of)
def test_what_no_database_holds_is_refused(spec: Spec, verb: str, field: FieldSpec) -> None:
    value = sample(schema_of(spec, verb, field))
    for path in places(value):
        for leaf in ("a\x00b", "\ud800", 2**63, -(2**63) - 1, 10**400):
            refused(spec, verb, field.wire, with_leaf(value, path, leaf))


@pytest.mark.parametrize(("spec", "verb", "field"), GIVEN, ids=name_of)
def test_a_megabyte_is_refused(spec: Spec, verb: str, field: FieldSpec) -> None:
    refused(spec, verb, field.wire, "x" * 1_000_000)
    value = sample(schema_of(spec, verb, field))
    for path in places(value):
        refused(spec, verb, field.wire, with_leaf(value, path, "x" * 1_000_000))


@pytest.mark.parametrize("verb", ["create", "update"])
@pytest.mark.parametrize("spec", EVERY, ids=name_of)
def test_an_unknown_field_is_refused(spec: Spec, verb: str) -> None:
    assert "nobody" in refused(spec, verb, "nobody", 1).message
    refused(spec, verb, "x" * 300, 1)
    for field in spec.fields.values():
        if not getattr(field.flags, verb):
            refused(spec, verb, field.wire, sample({"type": "string"}))


# Over HTTP: every collection does the same.

#: Collections of another form, with the test that is theirs.
OTHER_FORM = {
    "/v3/users/{user_id}/credentials/OS-EC2": "test_identity_delegation",
    "/v2.0/flavors": "test_network_flavors",
    "/v2.0/flavors/{id}/service_profiles": "test_network_flavors",
    "/v2.0/qos/policies": "test_network_qos",
    "/v2.0/qos/policies/{id}/tags": "test_network_api",
    "/v2.0/policies/{id}/tags": "test_network_api",
    "/v2.0/qos/policies/{policy}/bandwidth_limit_rules": "test_network_qos",
    "/v2.0/qos/policies/{policy}/dscp_marking_rules": "test_network_qos",
    "/v2.0/qos/policies/{policy}/minimum_bandwidth_rules": "test_network_promises",
    "/v2.0/qos/policies/{policy}/minimum_packet_rate_rules": "test_network_promises",
    "/v2.0/qos/policies/{policy}/packet_rate_limit_rules": "test_network_qos",
}


class World:
    """A lab, and what the resources of the table below refer to."""

    def __init__(self, lab: ApiLab) -> None:
        self.lab = lab
        self.numbers = itertools.count(1)
        self.network = self._make("network", "networks", {"name": "needed"})
        self.port = self._make("port", "ports", {"network_id": self.network})
        self.addressed = self._make("network", "networks", {"name": "addressed"})
        self._make(
            "subnet", "subnets", {"network_id": self.addressed, "ip_version": 4, "cidr": "10.201.0.0/16"}
        )
        self.group = self._make("security_group", "security-groups", {"name": "needed"})
        (public,) = lab.ok("GET", "/network/v2.0/networks?name=public")["networks"]
        self.public: str = public["id"]
        owner = {"project_id": lab.projects["demo"]}
        label = lab.ok("POST", "/network/v2.0/metering/metering-labels", {"metering_label": owner})
        self.metering: str = label["metering_label"]["id"]
        self.floatingip, self.inner = forwarder(lab)
        self.proxying, self.proxied = proxying(lab, 150)
        # Each trunk that is asked for has a port of its own.
        ports = {"ports": [{"network_id": self.network}] * 300}
        made = lab.ok("POST", "/network/v2.0/ports", ports, by="demo")["ports"]
        self.ports: Iterator[str] = iter([port["id"] for port in made])
        # ... and each segment a network.
        quota = f"/network/v2.0/quotas/{lab.projects['admin']}"
        lab.ok("PUT", quota, {"quota": {"network": -1}})
        vlan = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
        nets = lab.ok("POST", "/network/v2.0/networks", {"networks": [vlan] * 150})["networks"]
        self.unsegmented = [net["id"] for net in nets]
        service = lab.ok("POST", "/identity/v3/services", {"service": {"type": "needed"}})
        self.service: str = service["service"]["id"]

    def _make(self, kind: str, path: str, fields: dict[str, Any]) -> str:
        id: str = self.lab.ok("POST", f"/network/v2.0/{path}", {kind: fields}, by="demo")[kind]["id"]
        return id


#: kind -> the least that a create request has to say.
LEAST: Mapping[str, Callable[[World, int], dict[str, Any]]] = {
    "address_group": lambda w, n: {},
    "firewall_group": lambda w, n: {},
    "firewall_policy": lambda w, n: {},
    "firewall_rule": lambda w, n: {},
    "default_security_group_rule": lambda w, n: {
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": n,
        "port_range_max": n,
    },
    "service_profile": lambda w, n: {"driver": "ovn"},
    "log": lambda w, n: {"resource_type": "security_group"},
    "address_scope": lambda w, n: {"ip_version": 4},
    "metering_label": lambda w, n: {},
    "metering_label_rule": lambda w, n: {
        "metering_label_id": w.metering,
        "direction": "egress",
        "source_ip_prefix": f"10.{n // 256}.{n % 256}.0/24",
    },
    "network": lambda w, n: {},
    "ndp_proxy": lambda w, n: {"router_id": w.proxying, "port_id": w.proxied.pop()},
    "network_segment_range": lambda w, n: {"network_type": "geneve", "minimum": n, "maximum": n},
    "segment": lambda w, n: {
        "network_id": w.unsegmented.pop(),
        "network_type": "vlan",
        "physical_network": "physnet2",
    },
    "local_ip": lambda w, n: {"network_id": w.addressed},
    "tap_mirror": lambda w, n: {
        "port_id": w.port,
        "directions": {"IN": n},
        "remote_ip": "192.0.2.9",
        "mirror_type": "gre",
    },
    "subnet": lambda w, n: {
        "network_id": w.network,
        "ip_version": 4,
        "cidr": f"10.{n // 256}.{n % 256}.0/24",
    },
    "subnetpool": lambda w, n: {"name": f"pool{n}", "prefixes": [f"172.{n % 256}.0.0/16"]},
    "port": lambda w, n: {"network_id": w.network},
    "rbac_policy": lambda w, n: {
        "object_type": "network",
        "object_id": w.network,
        "action": "access_as_shared",
        "target_tenant": f"project{n}",
    },
    "router": lambda w, n: {},
    "floatingip": lambda w, n: {"floating_network_id": w.public},
    "port_forwarding": lambda w, n: {
        "internal_port_id": w.inner,
        "protocol": "tcp",
        "internal_port": 80,
        "external_port": n,
    },
    "security_group": lambda w, n: {},
    "trunk": lambda w, n: {"port_id": next(w.ports)},
    "security_group_rule": lambda w, n: {
        "security_group_id": w.group,
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": n,
        "port_range_max": n,
    },
    "domain": lambda w, n: {"name": f"domain{n}"},
    "project": lambda w, n: {"name": f"project{n}"},
    "user": lambda w, n: {"name": f"user{n}"},
    "group": lambda w, n: {"name": f"group{n}"},
    "role": lambda w, n: {"name": f"role{n}"},
    "region": lambda w, n: {},
    "service": lambda w, n: {"type": "toy"},
    "endpoint": lambda w, n: {"service_id": w.service, "interface": "public", "url": f"http://toy/{n}"},
    "endpoint_group": lambda w, n: {"name": f"group{n}", "filters": {"interface": "public"}},
    "credential": lambda w, n: {"type": "cert", "blob": f"secret {n}"},
    "application_credential": lambda w, n: {"name": f"program{n}"},
    "trust": lambda w, n: {
        "trustor_user_id": w.lab.users["demo"],
        "trustee_user_id": w.lab.users["otto"],
        "impersonation": False,
        "project_id": w.lab.projects["demo"],
        "roles": [{"name": "member"}],
    },
}
#: Kinds that users make for themselves: others are made by the administrator.
BY_USER = {"credential", "application_credential", "trust"}
#: Kinds of the Network API that the operator alone makes.
BY_OPERATOR = {
    "default_security_group_rule",
    "log",
    "metering_label",
    "metering_label_rule",
    "network_segment_range",
    "segment",
    "service_profile",
}
#: What everybody may look at.
SEEN = {"region", "role", "domain", "default_security_group_rule"}
#: What must be said before one can be deleted.
BEFORE_DELETE: Mapping[str, dict[str, Any]] = {"domain": {"enabled": False}}


class Collection:
    """The collection of one kind, in the lab."""

    def __init__(self, world: World, service: str, kind: str) -> None:
        self.world, self.lab, self.service, self.kind = world, world.lab, service, kind
        self.spec = specs()[kind]
        endpoints = [
            e for e in self.lab.services[service].endpoints if e.kind == kind and e.path not in OTHER_FORM
        ]
        template = next(e.path for e in endpoints if e.method == "POST" and e.success == 201)
        self.methods = {e.method for e in endpoints if e.path == f"{template}/{{id}}"}
        self.update_method = next((m for m in ("PATCH", "PUT") if m in self.methods), "")
        by_user = kind in BY_USER if service == "identity" else kind not in BY_OPERATOR
        self.owner = "demo" if by_user else "admin"
        parents = {"user_id": self.lab.users[self.owner], "floatingip_id": world.floatingip}
        self.path = f"/{service}{template}".format_map(parents)
        listing = next(e for e in endpoints if e.path == template and e.method == "GET")
        self.filters = {
            f.wire: f
            for f in self.spec.fields.values()
            if f.flags.shown and f.flags.filter and f.scalar
            if service == "network" or f.wire in listing.parameters
        }
        self.sorts = {
            wire: f
            for wire, f in self.filters.items()
            if f.flags.sort and (service == "network" or "sort_key" in listing.parameters)
        }
        self.pages = service == "network" or "limit" in listing.parameters

    def body(self, **more: Any) -> dict[str, Any]:
        return {self.kind: {**LEAST[self.kind](self.world, next(self.world.numbers)), **more}}

    def make(self) -> dict[str, Any]:
        made: dict[str, Any] = self.lab.ok("POST", self.path, self.body(), by=self.owner)[self.kind]
        return made

    def list(self, *query: tuple[str, str], by: str | None = None) -> list[dict[str, Any]]:
        if self.kind == "trust":  # Users see those that they gave.
            query = (*query, ("trustor_user_id", self.lab.users[self.owner]))
        reply = self.lab.ok("GET", self.path, by=by or self.owner, params=query)
        items: list[dict[str, Any]] = reply[self.spec.plural]
        return items

    def ids(self, *query: tuple[str, str]) -> list[str]:
        return [item["id"] for item in self.list(*query)]

    def status(self, method: str, id: str = "", body: Any = None, *, by: str | None, **more: Any) -> int:
        reply = self.lab.ask(method, f"{self.path}/{id}" if id else self.path, body, by=by, **more)
        if reply.status_code >= 400:
            assert message_of(self.service, reply)
        return reply.status_code

    def writes(self, id: str) -> Iterator[tuple[str, str, Any]]:
        """Every way to change something here."""
        yield "POST", "", self.body()
        if self.update_method:
            fields = self.spec.update_input.__struct_encode_fields__
            name = next(n for n in ("description", "blob", "target_tenant") if n in fields)
            yield self.update_method, id, {self.kind: {name: "changed"}}
        yield "DELETE", id, None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    lab = ApiLab(tmp_path_factory.mktemp("every"))
    yield World(lab)
    lab.close()


@pytest.fixture(params=sorted(LEAST), scope="module")
def collection(request: pytest.FixtureRequest, world: World) -> Collection:
    return Collection(world, specs()[request.param].service, request.param)


@pytest.fixture
def three(collection: Collection) -> Iterator[list[dict[str, Any]]]:
    """Three of the kind, which are gone afterwards."""
    made = [collection.make() for _ in range(3)]
    yield made
    for one in made:
        remove(collection, one["id"])


def remove(collection: Collection, id: str) -> None:
    before = BEFORE_DELETE.get(collection.kind)
    if before:
        collection.lab.ok(
            collection.update_method,
            f"{collection.path}/{id}",
            {collection.kind: before},
            by=collection.owner,
        )
    reply = collection.lab.ask("DELETE", f"{collection.path}/{id}", by=collection.owner)
    assert reply.status_code == 204, reply.text


def test_no_collection_is_left_out(world: World) -> None:
    there = {
        endpoint.kind
        for service in ("identity", "network")
        for endpoint in world.lab.services[service].endpoints
        if endpoint.method == "POST"
        and endpoint.success == 201
        and endpoint.kind
        and endpoint.request
        and endpoint.path not in OTHER_FORM
    }
    assert there == set(LEAST)


def test_what_is_created_is_shown_and_listed(collection: Collection, three: list[dict[str, Any]]) -> None:
    hidden = {f.wire for f in collection.spec.fields.values() if not f.flags.shown}
    for made in three:
        shown = collection.lab.ok("GET", f"{collection.path}/{made['id']}", by=collection.owner)[
            collection.kind
        ]
        assert {k: v for k, v in made.items() if k != "secret"} == shown
        assert not hidden & (set(shown) - {"project_id"})
        assert made["id"] in collection.ids()


def test_it_is_filtered_by_each_field(collection: Collection, three: list[dict[str, Any]]) -> None:
    for name, value in three[0].items():
        if name in collection.filters and value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found = collection.list((name, text))
            assert three[0]["id"] in [item["id"] for item in found], name
            assert {item[name] for item in found} == {value}, name


def test_it_is_sorted_by_each_field(collection: Collection, three: list[dict[str, Any]]) -> None:
    for name, field in collection.sorts.items():
        if name not in three[0]:
            continue
        nothing: Any = "" if field.base is str else -1
        for direction in ("asc", "desc"):
            found = collection.list(("sort_key", name), ("sort_dir", direction))
            values = [nothing if item[name] is None else item[name] for item in found]
            assert values == sorted(values, reverse=direction == "desc"), name
            assert {made["id"] for made in three} <= {item["id"] for item in found}


def test_what_is_not_shown_is_not_told_by_filters(
    collection: Collection, three: list[dict[str, Any]]
) -> None:
    for name, field in collection.filters.items():
        if name not in three[0]:
            value = {int: "1", bool: "true"}.get(field.base, "x")
            for query in ((name, value), ("sort_key", name)):
                reply = collection.lab.ask("GET", collection.path, by=collection.owner, params=[query])
                assert reply.status_code == 403, name
                assert name in message_of(collection.service, reply)


def test_pages_cover_it_once(collection: Collection, three: list[dict[str, Any]]) -> None:
    if not collection.pages:
        return
    whole = collection.ids(("sort_key", "id"))
    paged: list[str] = []
    while True:
        marker = [("marker", paged[-1])] if paged else []
        page = collection.ids(("sort_key", "id"), ("limit", "2"), *marker)
        paged += page
        if len(page) < 2:
            break
    assert paged == whole
    assert len(whole) == len(set(whole)) >= 3


def test_fields_are_chosen(collection: Collection, three: list[dict[str, Any]]) -> None:
    if collection.service != "network":
        return
    for name in three[0]:
        assert {tuple(item) for item in collection.list(("fields", name))} == {(name,)}
        where = f"{collection.path}/{three[0]['id']}?fields={name}"
        one = collection.lab.ok("GET", where, by=collection.owner)
        assert one[collection.kind] == {name: three[0][name]}


def test_its_own_values_are_no_change(collection: Collection, three: list[dict[str, Any]]) -> None:
    made = three[0]
    for name in collection.spec.update_input.__struct_encode_fields__:
        if name not in made:
            continue
        body = {collection.kind: {name: made[name]}}
        with collection.lab.unchanged():
            reply = collection.lab.ask(
                collection.update_method, f"{collection.path}/{made['id']}", body, by=collection.owner
            )
            if reply.status_code == 403:  # Set by the administrator alone, even to what it is.
                reply = collection.lab.ask(collection.update_method, f"{collection.path}/{made['id']}", body)
            assert reply.status_code == 200, (name, reply.text)


def test_others_do_not_get_at_it(collection: Collection, three: list[dict[str, Any]]) -> None:
    id = three[0]["id"]
    hidden = collection.service == "network" and collection.kind not in BY_OPERATOR
    refusals = {404} if hidden else {403, 404}
    with collection.lab.unchanged():
        for method, at, body in collection.writes(id):
            if at:
                assert collection.status(method, at, body, by="otto") in refusals, method
        if collection.kind not in SEEN:
            assert collection.status("GET", id, by="otto") in refusals | (
                {200} if collection.kind == "trust" else set()
            )


def test_readers_write_nothing(collection: Collection, three: list[dict[str, Any]]) -> None:
    with collection.lab.unchanged():
        for method, at, body in collection.writes(three[0]["id"]):
            if at or collection.kind != "credential":  # Everybody may keep a secret of their own.
                refusals = (403, 404) if collection.kind in BY_OPERATOR else (403,)
                assert collection.status(method, at, body, by="rita") in refusals, method


@pytest.mark.parametrize("token", [None, "garbage", "gAAAAAB" + "x" * 180, "é", "x" * 20_000])
def test_without_a_token_nothing_is_told(
    collection: Collection, three: list[dict[str, Any]], token: str | None
) -> None:
    headers = {} if token is None else {"x-auth-token": token.encode("utf-8")}
    id = three[0]["id"]
    with collection.lab.unchanged():
        for method, at, body in [("GET", "", None), ("GET", id, None), *collection.writes(id)]:
            assert collection.status(method, at, body, by=None, headers=headers) == 401, method


def test_what_is_deleted_is_gone(collection: Collection) -> None:
    id = collection.make()["id"]
    remove(collection, id)
    assert id not in collection.ids()
    for method, at, body in [("GET", id, None), *collection.writes(id)]:
        if at:
            # Whose a credential was is not known any more, so that its user is anybody.
            gone = 403 if collection.kind == "credential" else 404
            assert collection.status(method, at, body, by=collection.owner) == gone, method
            assert collection.status(method, at, body, by="admin") == 404, method
