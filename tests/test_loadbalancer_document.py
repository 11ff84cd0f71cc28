"""What a load balancer of the Octavia API becomes in its appliance's policy.

| claim | and in reverse |
| --- | --- |
| a listener has its pool's members inline, at the VIP | without a pool it has none |
| what is disabled is not there: balancer, listener, pool, member, monitor, L7 policy, L7 rule | |
| members see addresses of their own family | |
| HAProxy has what the kernel does not do, and nothing else | the kernel has the rest |
| limits, ranges, timeouts, headers, algorithms, persistence and checks arrive | defaults do not |
| rejects are asked first, then redirects, then pools, by position | without rules nothing is |
"""

from __future__ import annotations

from typing import Any

import pytest
from balancers import VIP, listener, member, monitor, policy, pool, rule, tree

from trunkline.api.loadbalancer.document import document, proxied
from trunkline.errors import BadField
from trunkline.resources.appliance_policy import parse
from trunkline.resources.loadbalancer import SessionPersistence

OWN = ("10.1.0.9", "fd00::9")
PAIR = (member("m1", last=11), member("m2", last=12))
#: A rule that fits the beginning of a path.
ON = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/a"}


def listeners(*parts: Any, **balancer: Any) -> list[dict[str, Any]]:
    """The listeners of the policy."""
    found = document(tree(*parts, **balancer), OWN)
    assert list(found) == ["balancer"]
    return list(found["balancer"]["listeners"])


def only(*parts: Any) -> dict[str, Any]:
    (found,) = listeners(*parts)
    return found


def test_a_listener_has_its_pool_inline() -> None:
    assert listeners(listener(default_pool_id="p"), pool(), *PAIR) == [
        {
            "name": "l",
            "address": VIP,
            "port": 80,
            "protocol": "tcp",
            "masquerade": ["10.1.0.9"],
            "algorithm": "round_robin",
            "members": [{"address": "10.1.0.11", "port": 8080}, {"address": "10.1.0.12", "port": 8080}],
        }
    ]


def test_a_listener_without_a_pool_has_no_members() -> None:
    own = {"masquerade": ["10.1.0.9"]}
    assert only(listener()) == {"name": "l", "address": VIP, "port": 80, "protocol": "tcp", **own}


def test_a_pool_of_no_listener_is_not_there() -> None:
    found = listeners(listener(default_pool_id="p"), pool(), pool("other"), member("m", "other"))
    assert found[0]["members"] == []
    assert "pools" not in found[0]


def test_two_listeners_may_have_one_pool() -> None:
    found = listeners(
        listener("a", default_pool_id="p"), listener("b", port=81, default_pool_id="p"), pool(), *PAIR
    )
    assert [each["name"] for each in found] == ["a", "b"]
    assert found[0]["members"] == found[1]["members"] != []


@pytest.mark.parametrize(
    ("given", "protocol"), [("TCP", "tcp"), ("HTTPS", "tcp"), ("UDP", "udp"), ("HTTP", "http")]
)
def test_protocols(given: str, protocol: str) -> None:
    kind = given if given != "HTTPS" else "TCP"
    assert only(listener(protocol=given, default_pool_id="p"), pool(protocol=kind))["protocol"] == protocol


# What is disabled.


def test_a_disabled_balancer_listens_nowhere() -> None:
    assert listeners(listener(default_pool_id="p"), pool(), *PAIR, admin_state_up=False) == []


def test_a_disabled_listener_is_not_there() -> None:
    assert [e["name"] for e in listeners(listener("a", admin_state_up=False), listener("b", port=81))] == [
        "b"
    ]


def test_a_disabled_pool_has_no_members() -> None:
    assert only(listener(default_pool_id="p"), pool(admin_state_up=False), *PAIR)["members"] == []


def test_a_disabled_member_is_not_there() -> None:
    out = member("m2", last=12, admin_state_up=False)
    assert only(listener(default_pool_id="p"), pool(), PAIR[0], out)["members"] == [
        {"address": "10.1.0.11", "port": 8080}
    ]


def test_a_disabled_monitor_asks_nobody() -> None:
    assert "health" not in only(listener(default_pool_id="p"), pool(), *PAIR, monitor(admin_state_up=False))


@pytest.mark.parametrize("which", ["policy", "rule"])
def test_what_is_disabled_of_l7_fits_nothing(which: str) -> None:
    off = {"admin_state_up": False}
    found = only(
        listener(protocol="HTTP"),
        policy("x", "REJECT", **off if which == "policy" else {}),
        rule("r", "x", **ON, **off if which == "rule" else {}),
    )
    assert "routes" not in found


# Members.


def test_weights_are_told_where_they_are_others() -> None:
    found = only(listener(default_pool_id="p"), pool(), member("m", weight=0), member("n", last=12, weight=7))
    assert [each.get("weight") for each in found["members"]] == [0, 7]


def test_backups_are_told() -> None:
    found = only(listener(default_pool_id="p"), pool(), PAIR[0], member("m2", last=12, backup=True))
    assert [each.get("backup") for each in found["members"]] == [None, True]


def test_where_members_are_asked_is_told() -> None:
    found = only(
        listener(default_pool_id="p"),
        pool(),
        member("m", monitor_address="10.1.0.77", monitor_port=99),
        monitor(),
    )
    assert found["members"][0]["monitor_address"] == "10.1.0.77"
    assert found["members"][0]["monitor_port"] == 99


def test_members_see_an_address_of_their_family() -> None:
    six = member("m", address="fd00::11")
    assert only(listener(default_pool_id="p"), pool(), six)["masquerade"] == ["10.1.0.9", "fd00::9"]


def test_members_that_are_not_reached_yet_are_left_out() -> None:
    made = tree(listener(default_pool_id="p"), pool(), *PAIR)
    (found,) = document(made, OWN, ["m1"])["balancer"]["listeners"]
    assert [each["address"] for each in found["members"]] == ["10.1.0.12"]


def test_where_members_would_be_asked_is_no_matter_where_none_is() -> None:
    found = only(listener(default_pool_id="p"), pool(), member("m", monitor_port=99))
    assert found["members"] == [{"address": "10.1.0.11", "port": 8080}]


def test_an_answer_is_waited_for_until_the_next_question_at_most() -> None:
    made = monitor(type="TCP", delay=2, timeout=3)
    assert only(listener(default_pool_id="p"), pool(), *PAIR, made)["health"]["timeout"] == 2


# Who does it.


@pytest.mark.parametrize(
    ("listener_fields", "pool_fields", "member_fields"),
    [
        ({}, {"protocol": "PROXY"}, {}),
        ({}, {"protocol": "PROXYV2"}, {}),
        ({}, {"tls_enabled": True}, {}),
        ({}, {}, {"address": "fd00::11"}),
        ({"timeout_client_data": 1000}, {}, {}),
        ({"timeout_tcp_inspect": 1}, {}, {}),
    ],
)
def test_haproxy_has_what_the_kernel_does_not_do(
    listener_fields: dict[str, Any], pool_fields: dict[str, Any], member_fields: dict[str, Any]
) -> None:
    parts = (
        listener(default_pool_id="p", **listener_fields),
        pool(**pool_fields),
        member("m", **member_fields),
    )
    assert only(*parts)["proxied"] is True


@pytest.mark.parametrize("protocol", ["TCP", "HTTPS", "UDP"])
def test_the_kernel_has_the_rest(protocol: str) -> None:
    parts = (
        listener(protocol=protocol, default_pool_id="p", connection_limit=9),
        pool(protocol=protocol, lb_algorithm="LEAST_CONNECTIONS"),
        *PAIR,
        monitor(),
    )
    assert "proxied" not in only(*parts)
    assert "timeouts" not in only(*parts)


def test_http_is_haproxys_without_saying_so() -> None:
    made = tree(listener(protocol="HTTP", default_pool_id="p"), pool(protocol="HTTP"), *PAIR)
    assert not proxied(made, made.listeners[0])


@pytest.mark.parametrize(("protocol", "version"), [("PROXY", 1), ("PROXYV2", 2)])
def test_members_are_greeted_by_the_proxy_protocol(protocol: str, version: int) -> None:
    assert only(listener(default_pool_id="p"), pool(protocol=protocol), *PAIR)["send_proxy"] == version


def test_members_are_asked_by_tls() -> None:
    assert only(listener(default_pool_id="p"), pool(tls_enabled=True), *PAIR)["tls_to_members"] is True


@pytest.mark.parametrize(
    ("listener_fields", "member_fields", "field"),
    [({"timeout_member_data": 1}, {}, "timeout_member_data"), ({}, {"address": "fd00::11"}, "address")],
)
def test_what_udp_cannot_is_refused(
    listener_fields: dict[str, Any], member_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadField) as refused:
        only(
            listener(protocol="UDP", default_pool_id="p", **listener_fields),
            pool(protocol="UDP"),
            member("m", **member_fields),
        )
    assert refused.value.field == field


# Of listeners.


def test_a_limit_of_connections_arrives() -> None:
    assert only(listener(connection_limit=3))["connections"] == 3
    assert "connections" not in only(listener(connection_limit=-1))


def test_ranges_arrive() -> None:
    assert only(listener(allowed_cidrs=["10.0.0.0/8"]))["allowed"] == ["10.0.0.0/8"]
    assert "allowed" not in only(listener(allowed_cidrs=[]))


def test_timeouts_are_seconds() -> None:
    found = only(
        listener(
            protocol="HTTP",
            timeout_client_data=1500,
            timeout_member_connect=200,
            timeout_member_data=3000,
            timeout_tcp_inspect=10,
        )
    )
    assert found["timeouts"] == {"client": 1.5, "member_connect": 0.2, "member_data": 3.0, "inspect": 0.01}


def test_headers_that_are_wanted_are_inserted() -> None:
    given = {"X-Forwarded-For": "true", "X-Forwarded-Port": "false"}
    assert only(listener(protocol="HTTP", insert_headers=given))["insert_headers"] == {
        "X-Forwarded-For": True
    }
    none = {"X-Forwarded-For": "false"}
    assert "insert_headers" not in only(listener(protocol="HTTP", insert_headers=none))


# Of pools.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ROUND_ROBIN", "round_robin"),
        ("LEAST_CONNECTIONS", "least_connections"),
        ("SOURCE_IP", "source"),
        ("SOURCE_IP_PORT", "source_port"),
    ],
)
def test_algorithms(given: str, said: str) -> None:
    assert only(listener(default_pool_id="p"), pool(lb_algorithm=given))["algorithm"] == said


def test_who_is_to_come_back_by_his_address_goes_by_it() -> None:
    found = only(
        listener(default_pool_id="p"), pool(session_persistence=SessionPersistence(type="SOURCE_IP")), *PAIR
    )
    assert found["algorithm"] == "source"
    assert "affinity" not in found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SessionPersistence(type="HTTP_COOKIE"), {"kind": "cookie"}),
        (SessionPersistence(type="APP_COOKIE", cookie_name="sid"), {"kind": "app_cookie", "cookie": "sid"}),
    ],
)
def test_cookies(given: SessionPersistence, said: dict[str, str]) -> None:
    found = only(
        listener(protocol="HTTP", default_pool_id="p"), pool(protocol="HTTP", session_persistence=given)
    )
    assert found["affinity"] == said
    assert found["algorithm"] == "round_robin"


@pytest.mark.parametrize(
    ("given", "said"),
    [("PING", "ping"), ("TCP", "tcp"), ("TLS-HELLO", "tls"), ("UDP-CONNECT", "udp")],
)
def test_checks(given: str, said: str) -> None:
    made = monitor(type=given, delay=7, timeout=2, max_retries=4, max_retries_down=5)
    assert only(listener(default_pool_id="p"), pool(), *PAIR, made)["health"] == {
        "kind": said,
        "interval": 7,
        "timeout": 2,
        "rise": 4,
        "fall": 5,
    }


def test_a_check_by_http_has_its_defaults() -> None:
    made = monitor(type="HTTP", delay=1, timeout=1, max_retries=1, max_retries_down=1)
    assert only(listener(default_pool_id="p"), pool(), *PAIR, made)["health"] == {
        "kind": "http",
        "interval": 1,
        "timeout": 1,
        "rise": 1,
        "fall": 1,
        "method": "GET",
        "path": "/",
        "codes": "200",
    }


def test_a_check_by_https_has_what_was_said() -> None:
    made = monitor(
        type="HTTPS",
        http_method="HEAD",
        url_path="/well",
        expected_codes="200-299,401",
        http_version=1.1,
        domain_name="www.example.com",
    )
    found = only(listener(default_pool_id="p"), pool(), *PAIR, made)["health"]
    said = {name: found[name] for name in ("kind", "method", "path", "codes", "version", "host")}
    assert said == {
        "kind": "https",
        "method": "HEAD",
        "path": "/well",
        "codes": "200-299,401",
        "version": "1.1",
        "host": "www.example.com",
    }


# Routes.


def test_rejects_come_first_then_redirects_then_pools() -> None:
    parts = [
        listener(protocol="HTTP"),
        pool("q", protocol="HTTP"),
        policy("pool", "REDIRECT_TO_POOL", position=1, redirect_pool_id="q"),
        policy("url", "REDIRECT_TO_URL", position=2, redirect_url="http://a.example/"),
        policy("no", "REJECT", position=3),
        policy("prefix", "REDIRECT_PREFIX", position=4, redirect_prefix="https://b.example"),
        policy("never", "REJECT", position=5),
    ]
    parts += [rule(f"r-{id}", id, **ON) for id in ("pool", "url", "no", "prefix")]
    found = only(*parts)["routes"]
    assert [each["name"] for each in found] == ["no", "url", "prefix", "pool"]


def test_what_a_route_does() -> None:
    parts = [
        listener(protocol="HTTP", default_pool_id="p"),
        pool(protocol="HTTP"),
        pool("q", protocol="HTTP", lb_algorithm="SOURCE_IP"),
        member("m", "q", last=20),
        policy("pool", "REDIRECT_TO_POOL", position=1, redirect_pool_id="q"),
        policy("url", "REDIRECT_TO_URL", position=2, redirect_url="http://a.example/"),
        policy("no", "REJECT", position=3),
        policy(
            "prefix",
            "REDIRECT_PREFIX",
            position=4,
            redirect_prefix="https://b.example",
            redirect_http_code=308,
        ),
    ]
    parts += [rule(f"r-{id}", id, **ON) for id in ("pool", "url", "no", "prefix")]
    found = only(*parts)
    when = [{"kind": "path", "compare": "starts", "value": "/a"}]
    assert found["routes"] == [
        {"name": "no", "when": when, "reject": True},
        {"name": "url", "when": when, "redirect": "http://a.example/", "code": 302},
        {"name": "prefix", "when": when, "prefix": "https://b.example", "code": 308},
        {"name": "pool", "when": when, "to": "q"},
    ]
    assert found["pools"] == {
        "q": {"algorithm": "source", "members": [{"address": "10.1.0.20", "port": 8080}]}
    }


@pytest.mark.parametrize(
    ("type_", "compare", "key", "said"),
    [
        ("HOST_NAME", "EQUAL_TO", None, {"kind": "host", "compare": "equal"}),
        ("PATH", "REGEX", None, {"kind": "path", "compare": "regex"}),
        ("FILE_TYPE", "EQUAL_TO", None, {"kind": "file_type", "compare": "equal"}),
        ("HEADER", "CONTAINS", "X-A", {"kind": "header", "compare": "contains", "key": "X-A"}),
        ("COOKIE", "ENDS_WITH", "c", {"kind": "cookie", "compare": "ends", "key": "c"}),
    ],
)
def test_conditions(type_: str, compare: str, key: str | None, said: dict[str, str]) -> None:
    made = rule("r", "x", type=type_, compare_type=compare, key=key, value="v", invert=True)
    (route,) = only(listener(protocol="HTTP"), policy("x", "REJECT"), made)["routes"]
    assert route["when"] == [{**said, "value": "v", "invert": True}]


def test_all_rules_of_a_policy_are_conditions() -> None:
    more = {"type": "HOST_NAME", "compare_type": "EQUAL_TO", "value": "www.example.com"}
    (route,) = only(
        listener(protocol="HTTP"), policy("x", "REJECT"), rule("r", "x", **ON), rule("s", "x", **more)
    )["routes"]
    assert [each["kind"] for each in route["when"]] == ["path", "host"]


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "HTTP"])
def test_an_appliance_understands_all_of_it(protocol: str) -> None:
    http = protocol == "HTTP"
    parts: list[Any] = [pool(protocol=protocol), member("m1", weight=3)]
    if not http:
        parts = [
            listener(
                protocol=protocol, default_pool_id="p", connection_limit=9, allowed_cidrs=["10.0.0.0/8"]
            ),
            pool(protocol=protocol, lb_algorithm="LEAST_CONNECTIONS"),
            *parts[1:],
            member("m2", last=12, backup=True, monitor_port=99, monitor_address="10.1.0.77"),
            monitor(type="HTTP", domain_name="www.example.com", http_version=1.1),
        ]
    if http:
        affinity = SessionPersistence(type="APP_COOKIE", cookie_name="sid")
        parts += [
            listener(protocol=protocol, default_pool_id="p", timeout_client_data=1500),
            member("m2", last=12),
            pool("q", protocol="PROXYV2", tls_enabled=True, session_persistence=affinity),
            member("m3", "q", last=13),
            policy("pool", "REDIRECT_TO_POOL", redirect_pool_id="q"),
            policy("url", "REDIRECT_TO_URL", redirect_url="http://a.example/", redirect_http_code=301),
            policy("prefix", "REDIRECT_PREFIX", redirect_prefix="https://b.example"),
            policy("no", "REJECT"),
        ]
        parts += [rule(f"r-{id}", id, **ON) for id in ("pool", "url", "no", "prefix")]
    read = parse(document(tree(*parts), OWN))
    assert read.balancer is not None
    assert len(read.balancer.listeners[0].members) == 2
