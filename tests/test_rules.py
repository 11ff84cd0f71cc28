"""Access rules and the code that asks for them: each finds the other."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline import api
from trunkline.api import network, wiring
from trunkline.api.engine import RULE_PREFIX, Stages
from trunkline.api.policy import DEFAULTS, Rules, read
from trunkline.resources.schema import Spec, specs

FOLDER = Path(api.__file__).parent
SERVICES = ("identity", "network", "compute", "image", "appliance")
#: Methods whose first argument is the name of a rule.
ASKING = frozenset({"require", "allowed", "allows"})
#: What is not known before the code runs.
ANY = "*"


def constants(tree: ast.Module) -> dict[str, str]:
    """The texts that a module gives names."""
    return {
        target.id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def texts(node: ast.expr, known: dict[str, str]) -> set[str]:
    """What an expression may be, `ANY` standing for what is not known."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return texts(node.body, known) | texts(node.orelse, known)
    if isinstance(node, ast.Name):
        return {known.get(node.id, ANY)}
    if isinstance(node, ast.FormattedValue):
        return texts(node.value, known)
    if isinstance(node, ast.JoinedStr):
        parts = [sorted(texts(part, known)) for part in node.values]
        return {"".join(chosen) for chosen in itertools.product(*parts)}
    return {ANY}


def asked(service: str) -> Iterator[tuple[str, str]]:
    """(name, place) of every rule that a service asks for: in calls, and wherever its prefix stands."""
    prefix = RULE_PREFIX.get(service, "")
    for file in sorted((FOLDER / service).rglob("*.py")):
        tree = ast.parse(file.read_text())
        known = constants(tree)
        pieces = {id(p) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for p in node.values}
        for node in ast.walk(tree):
            place = f"{file.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ASKING and node.args:
                    yield from ((text, place) for text in texts(node.args[0], known))
            elif prefix and isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in pieces:
                rule = re.compile(rf"{prefix}[a-z0-9:_*-]+[^:]")
                yield from ((text, place) for text in texts(node, known) if rule.fullmatch(text))


def words(service: str) -> set[str]:
    """Every text in the source of a service."""
    return {
        node.value
        for file in (FOLDER / service).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def derived(spec: Spec, stages: Stages[object]) -> Iterator[str]:
    """The rules that the engine asks for a kind, by its own names."""
    for verb in ("create", "update", "delete", "get"):
        rule = stages.rules.get(verb) or f"{RULE_PREFIX.get(spec.service, '')}{verb}_{spec.kind}"
        yield rule
        for field in spec.fields.values():
            guarded = field.flags.guarded_read if verb == "get" else field.flags.guarded_write
            if guarded and (verb == "get" or getattr(field.flags, verb, False)):
                yield f"{rule}:{field.wire}"


def pattern(name: str) -> re.Pattern[str]:
    return re.compile(".+".join(re.escape(part) for part in name.split(ANY)))


@pytest.mark.parametrize("service", SERVICES)
def test_every_rule_that_the_code_names_exists(service: str) -> None:
    rules = Rules.load().rules
    missing = [
        (name, place)
        for name, place in asked(service)
        if not any(pattern(name).fullmatch(known) for known in rules)
    ]
    assert missing == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_rule_of_a_field_exists(service: str) -> None:
    rules, stages = Rules.load(), wiring.stages(network.Settings())
    guarded = [
        rule
        for spec in specs().values()
        if spec.service == service
        for rule in derived(spec, stages.get(spec.kind, Stages()))
        if rule.rpartition(":")[0] in rules
    ]
    assert [rule for rule in guarded if rule not in rules] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_rule_in_a_file_is_asked_for(service: str) -> None:
    rules = read(DEFAULTS / f"{service}.yaml")
    stages = wiring.stages(network.Settings())
    names = {pattern(name) for name, _ in asked(service) if name != ANY}
    names |= {
        pattern(rule)
        for spec in specs().values()
        for rule in derived(spec, stages.get(spec.kind, Stages()))
        if spec.service == service
    }
    said, prefix = words(service), RULE_PREFIX.get(service, "")
    referred = {word for rule in rules for word in re.findall(r"rule:([^\s()]+)", str(rule.check))}
    idle = [
        rule.name
        for rule in rules
        if rule.name not in referred
        and rule.name.removeprefix(prefix) not in said
        and not any(each.fullmatch(rule.name) for each in names)
    ]
    assert idle == []
