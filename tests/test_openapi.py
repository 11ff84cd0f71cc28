"""The served OpenAPI documents: valid, complete, and true of what is answered to thousands of requests."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import pytest
import requests
import schemathesis
from api_lab import ApiLab
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from things import LATEST, Things
from valid_requests import valid_requests

SERVICES = ("identity", "network", "compute", "image", "appliance", "load-balancer")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
#: Requests an operation: with a body, and without.
WITH_BODY, WITHOUT = 12, 4


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Things]:
    lab = ApiLab(tmp_path_factory.mktemp("openapi"))
    yield Things(lab)
    lab.close()


@pytest.mark.parametrize("service", SERVICES)
def test_the_document_is_valid_and_says_all(things: Things, service: str) -> None:
    document = things.lab.ok("GET", f"/{service}/openapi.json", by=None)
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    for endpoint in things.lab.services[service].endpoints:
        if endpoint.path == "/openapi.json":
            continue
        operation = document["paths"][endpoint.path or "/"][endpoint.method.lower()]
        assert operation["summary"]
        assert ("security" in operation) == endpoint.token
        for content in operation.get("requestBody", {}).get("content", {}).values():
            jsonschema_rs.meta.validate(content["schema"])


def real(things: Things) -> Mapping[str, str]:
    """Parameters and fields by name, with what is really there."""
    dummies = things.dummies
    return {
        "user_id": dummies["user"],
        "actor_id": dummies["user"],
        "role_id": dummies["role"],
        "implied_role_id": dummies["role"],
        "implied_id": dummies["role"],
        "scope_id": dummies["project"],
        "service_id": dummies["service"],
        "region_id": dummies["region"],
        "project": dummies["project"],
        "network_id": things.network,
        "net_id": things.network,
        "networkId": things.network,
        "subnet_id": things.subnet,
        "port_id": things.port,
        "port": things.port,
        "policy": things.policy,
        "profile": things.profile,
        "flavor_id": things.router_flavor,
        "qos_policy_id": things.policy,
        "floating_network_id": things.public,
        "security_group_id": things.group,
        "remote_group_id": things.group,
        "imageRef": things.lab.image,
        "flavorRef": "1",
        "server_uuid": things.server,
        "group": things.server_group,
        "member": things.lab.projects["other"],
        "host": "h1",
        "cidr": "10.77.0.0/24",
        "ip_address": "10.0.7.7",
        "mac_address": "fa:16:3e:00:00:42",
        "tenant": dummies["project"],
        "inside_network_id": things.spare_inside,
        "outside_network_id": things.outside,
        "number": "1",
    }


def ids(things: Things) -> Mapping[str, str]:
    """What is before {id} in a path, its last part or all of it -> what is really there."""
    dummies = things.dummies
    return {
        **{f"{kind}s": id for kind, id in dummies.items()},
        "endpoint_groups": dummies["endpoint_group"],
        "credentials": things.credential,
        "networks": things.network,
        "subnets": things.subnet,
        "ports": things.port,
        "routers": things.router,
        "floatingips": things.floatingip,
        "policies": things.policy,
        "tap_mirrors": things.mirror,
        "ndp_proxies": things.proxy,
        "local_ips": things.local_ip,
        "metering-labels": things.metering,
        "metering-label-rules": things.metered,
        "network_segment_ranges": things.range,
        "segments": things.segment,
        "bandwidth_limit_rules": things.limit_rule,
        "dscp_marking_rules": things.dscp_rule,
        "security-groups": things.group,
        "security-group-rules": things.rule,
        "trunks": things.trunk,
        "servers": things.server,
        "flavors": things.flavor,
        "/v2.0/flavors": things.router_flavor,
        "service_profiles": things.profile,
        "os-server-groups": things.server_group,
        "os-aggregates": things.aggregate,
        "images": things.image,
        "appliances": things.appliance,
        "loadbalancers": things.balancer,
        "listeners": things.listener,
        "pools": things.members_pool,
        "/v2/lbaas/pools/{pool}/members": things.member,
        "healthmonitors": things.monitor,
        "l7policies": things.l7_policy,
        "/v2/lbaas/l7policies/{policy}/rules": things.l7_rule,
        "/v2/lbaas/flavors": things.balancer_flavor,
        "flavorprofiles": things.balancer_profile,
        "availabilityzones": things.balancer_zone,
        "availabilityzoneprofiles": things.balancer_zone_profile,
    }


def aimed(case: Case, things: Things, valid: Mapping[str, list[Any]], draw: Any) -> Case:
    """The case, with some of its names, references and fields replaced by such as are good."""
    known, there = real(things), ids(things)
    path = case.operation.path
    before = path.split("/{id}")[0]
    kind = before if before in there else before.rsplit("/", 1)[-1]
    for name in list(case.path_parameters or {}):
        value = there.get(kind) if name == "id" else known.get(name)
        if value is not None and draw(st.integers(0, 5)):
            case.path_parameters[name] = value
    bodies = valid.get(f"{case.method.upper()} {path}")
    if bodies and isinstance(case.body, dict) and draw(st.integers(0, 3)):
        case.body = mixed(copy.deepcopy(draw(st.sampled_from(bodies))), case.body, draw)

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items):
            if key in known and draw(st.booleans()):
                value[key] = known[key]
            elif isinstance(inner, dict | list):
                walk(inner)

    if isinstance(case.body, dict | list):
        walk(case.body)
    return case


def mixed(good: Any, made: dict[str, Any], draw: Any) -> Any:
    """A good body with one field or two of one that was made up."""
    for key, value in made.items():
        inner = good.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            mixed(inner, value, draw)
        elif draw(st.integers(0, 2 if key in good else 5)) == 0:
            good[key] = value
    return good


@pytest.mark.timeout(600)
@pytest.mark.parametrize("caller", ["demo", "admin"])
@pytest.mark.parametrize("service", SERVICES)
def test_what_is_answered_is_what_the_document_says(things: Things, service: str, caller: str) -> None:
    lab = things.lab
    document = lab.ok("GET", f"/{service}/openapi.json", by=None)
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        operation.pop("security", None)  # The token is the caller's; none is made up.
    schema = schemathesis.openapi.from_dict(document)
    # The newest microversion for one of the callers, the oldest for the other.
    headers = {**lab.headers(caller), **(LATEST if caller == "admin" else {})}
    operations = [found.ok() for found in schema.get_all_operations()]
    operations.sort(key=lambda operation: operation.method.upper() == "DELETE")
    valid: dict[str, list[Any]] = {}
    for request in valid_requests(things):
        valid.setdefault(request.endpoint.replace(f" /{request.service}", " "), []).append(request.body)
    with lab.served() as (host, port), requests.Session() as session:
        base = f"http://{host}:{port}/{service}"
        for operation in operations:
            _try(
                operation,
                lambda case, draw: aimed(case, things, valid, draw),
                lambda case: case.call(base_url=base, session=session, headers=headers),
            )
    assert (
        lab.ask("GET", "/identity/v3/auth/tokens", by=caller, headers=subject(lab, caller)).status_code == 200
    )


def subject(lab: ApiLab, caller: str) -> dict[str, str]:
    return {"x-subject-token": lab.tokens[caller]}


def _try(operation: APIOperation, aim: Any, send: Any) -> None:
    """Some requests to one operation, good and bad ones, the same every time."""

    @seed(1)
    @settings(
        max_examples=WITH_BODY if operation.body else WITHOUT,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        mode = data.draw(
            st.sampled_from([GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        )
        case = data.draw(operation.as_strategy(generation_mode=mode))
        response = send(aim(case, data.draw))
        case.validate_response(response, checks=CHECKS)

    run()
