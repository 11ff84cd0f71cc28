"""Access rules: equal to oslo.policy where both decide, and refused early where it would only deny."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.api.context import Context
from trunkline.api.policy import Rules, RulesError, UnknownRule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from oslo_config import cfg
    from oslo_policy import policy as oslo

NOBODY = Context()


def context(**attributes: Any) -> Context:
    return Context(**{"roles": frozenset(), **attributes})


# The oracle.

_CONF = cfg.ConfigOpts()
_CONF([])


def oracle(checks: Mapping[str, Any], name: str, caller: Context, target: Mapping[str, Any]) -> bool:
    """What oslo.policy decides."""
    enforcer = oslo.Enforcer(_CONF, use_conf=False, rules=oslo.Rules.from_dict(dict(checks)))
    credentials: dict[str, Any] = {
        "user_id": caller.user_id or None,
        "user_domain_id": caller.user_domain_id or None,
        "project_id": caller.project_id or None,
        "project_domain_id": caller.project_domain_id or None,
        "domain_id": caller.domain_id or None,
        "system_scope": "all" if caller.system else None,
    }
    credentials |= {"roles": sorted(caller.roles), "is_admin": caller.is_admin}
    return bool(enforcer.enforce(name, dict(target), credentials))


WORDS = ("admin", "Member", "reader", "p1", "p2", "None", "True", "all")
KEYS = ("project_id", "user_id", "shared", "target.user.id")

value = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(KEYS).map(lambda key: f"%({key})s"),
    st.sampled_from(KEYS).map(lambda key: f"p%({key})s"),
)
kind = st.sampled_from(
    (
        "role",
        "user_id",
        "project_id",
        "user_domain_id",
        "domain_id",
        "system_scope",
        "is_admin",
        "nothing",
        "None",
        "True",
        "1",
        "'admin'",
        '"p1"',
    )
)
leaf = st.one_of(
    st.sampled_from(("@", "!", "rule:base", "rule:other")),
    st.builds(lambda k, v: f"{k}:{v}", kind, value),
)


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    word = st.sampled_from((" and ", " or ", "  AND ", " Or "))
    return st.one_of(
        st.builds(lambda a, w, b: f"{a}{w}{b}", inner, word, inner),
        st.builds(lambda a, w, b: f"({a}{w}{b})", inner, word, inner),
        inner.map(lambda a: f"not ({a})"),
        inner.map(lambda a: f"((({a} )))"),
        leaf.map(lambda a: f"not {a}"),
    )


check = st.recursive(leaf, joined, max_leaves=8)
lists = st.lists(st.one_of(leaf, st.lists(leaf, max_size=3)), max_size=3)
callers = st.builds(
    Context,
    user_id=st.sampled_from(("", "p1", "u1")),
    project_id=st.sampled_from(("", "p1", "p2")),
    domain_id=st.sampled_from(("", "p2")),
    system=st.booleans(),
    is_admin=st.booleans(),
    roles=st.frozensets(st.sampled_from(("admin", "MEMBER", "Reader", "p1"))),
)
targets = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(("p1", "1", True, "Admin")))


@settings(max_examples=600, deadline=None)
@given(rule=st.one_of(check, lists), base=leaf, caller=callers, target=targets)
def test_decides_as_oslo_policy_does(rule: Any, base: str, caller: Context, target: dict[str, Any]) -> None:
    logging.disable(logging.CRITICAL)
    checks = {"it": rule, "other": "role:reader", "base": base.replace("rule:base", "@")}
    assert Rules.of(checks).allows("it", caller, target) == oracle(checks, "it", caller, target)


# What each check says.


@pytest.mark.parametrize(
    ("rule", "caller", "target", "allowed"),
    [
        ("", NOBODY, {}, True),
        ([], NOBODY, {}, True),
        ([[]], NOBODY, {}, False),
        ("role:ADMIN", context(roles=frozenset({"Admin"})), {}, True),
        ("project_id:%(project_id)s", context(project_id="p"), {"project_id": "p"}, True),
        ("project_id:%(project_id)s", context(project_id="p"), {}, False),
        ("not project_id:%(project_id)s", context(project_id="p"), {}, True),
        ("user_id:%(target.user.id)s", context(user_id="u"), {"target.user.id": "u"}, True),
        ("user_id:%(target.user.id)s", context(user_id="u"), {"target": {"user": {"id": "u"}}}, True),
        ("'public':%(visibility)s", NOBODY, {"visibility": "public"}, True),
        ("True:%(shared)s", NOBODY, {"shared": True}, True),
        ("None:%(owner)s", NOBODY, {"owner": None}, True),
        ("domain_id:None", context(project_id="p"), {}, True),
        ("not domain_id:None", context(domain_id="d"), {}, True),
        ("system_scope:all", context(system=True), {}, True),
        ("system_scope:all", context(project_id="p"), {}, False),
        ("is_admin:True", context(is_admin=True), {}, True),
        ("domain_id:%(target.domain.id)s", context(domain_id="d"), {"target.domain.id": "d"}, True),
        ("field:networks:router:external=True", NOBODY, {"router:external": True}, True),
        ("field:port:device_owner=~^network:", NOBODY, {"device_owner": "network:dhcp"}, True),
        ("field:port:device_owner=~^network:", NOBODY, {"device_owner": None}, False),
        ("role:a or role:b and role:c", context(roles=frozenset({"a"})), {}, True),
        ("(role:a or role:b) and role:c", context(roles=frozenset({"a"})), {}, False),
    ],
)
def test_a_check(rule: Any, caller: Context, target: dict[str, Any], allowed: bool) -> None:
    assert Rules.of({"it": rule}).allows("it", caller, target) is allowed


def test_a_token_without_a_project_owns_nothing_that_has_none() -> None:
    rules = Rules.of({"own": "project_id:%(project_id)s"})
    assert not rules.allows("own", context(project_id=""), {"project_id": ""})
    assert not rules.allows("own", context(project_id=""), {"project_id": None})


def test_an_unknown_rule_denies_the_administrator_too() -> None:
    caller = context(is_admin=True, system=True, roles=frozenset({"admin"}))
    with pytest.warns(UnknownRule, match="no_such_rule"):
        assert not Rules.of({"default": "@"}).allows("no_such_rule", caller, {})


# Files.


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_an_override_replaces_a_default_and_keeps_the_others(write: Callable[[str, str], Path]) -> None:
    defaults = write("a.yaml", "admin: role:admin\nget: rule:admin\nput: rule:admin\n")
    rules = Rules.load([defaults], write("mine.yaml", "admin: role:boss\nget: '@'\n"))
    boss = context(roles=frozenset({"boss"}))
    assert rules.allows("get", NOBODY, {})
    assert rules.allows("put", boss, {})
    assert not rules.allows("put", context(roles=frozenset({"admin"})), {})


def test_json_is_read_too(write: Callable[[str, str], Path]) -> None:
    rules = Rules.load([write("policy.json", '{"a": "!", "b": [["@"]]}')])
    assert not rules.allows("a", NOBODY, {})
    assert rules.allows("b", NOBODY, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: role:x\nb: role:x and", "line 2, rule 'b': it ends where a check is expected"),
        ("a: (role:x", "a parenthesis is not closed"),
        ("a: role:x)", "'\\)' is not expected here"),
        ("a: role:x role:y", "'role:y' is not expected here"),
        ("a: or role:x", "'or' stands where a check is expected"),
        ("a: admin", "'admin' is no check. Write kind:value"),
        ("a: rule:b", "refers to rule 'b', which does not exist"),
        ("a: rule:b\nb: not rule:c\nc: rule:a", "refers to itself: a -> b -> c -> a"),
        ("a: role:x\na: role:y", "line 2, rule 'a': it stands in line 1 already"),
        ("a: project_id:%(x)d", "stray '%'"),
        ("a: project_id:%(x", "stray '%'"),
        ("a: pro-ject:x", "neither an attribute of a token nor a literal"),
        ("a: http://example.org/%(x)s", "are not supported"),
        ("a: field:port=x", "Write field:networks:shared=True"),
        ("a: field:port:x=~(", "no regular expression"),
        ("a:\n  b: c", "a check is text, or a list of lists of text"),
        ("a: [[[x]]]", "a list of lists of text"),
        ("- a", "a rules file is a mapping"),
        ("a: @", "no YAML"),
        ("a: [", "no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_remedy(
    write: Callable[[str, str], Path], text: str, says: str
) -> None:
    with pytest.raises(RulesError, match=says) as caught:
        Rules.load([write("rules.yaml", text)])
    assert "rules.yaml" in str(caught.value)


def test_two_default_files_must_agree(write: Callable[[str, str], Path]) -> None:
    first, same, other = (
        write("a.yaml", "admin: role:admin"),
        write("b.yaml", "admin: role:admin"),
        write("c.yaml", "admin: role:boss"),
    )
    assert "admin" in Rules.load([first, same])
    with pytest.raises(
        RulesError, match=r"c\.yaml, line 1, rule 'admin': it is given otherwise in .*a\.yaml"
    ):
        Rules.load([first, other])


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"nowhere\.yaml: the rules cannot be read"):
        Rules.load([], tmp_path / "nowhere.yaml")


def test_the_rules_that_ship_can_be_used() -> None:
    rules = Rules.load()
    assert rules.allows("context_is_admin", context(project_id="p", roles=frozenset({"admin"})), {})
    assert rules.allows("context_is_admin", context(system=True, roles=frozenset({"admin"})), {})
    assert not rules.allows("context_is_admin", context(domain_id="d", roles=frozenset({"admin"})), {})
