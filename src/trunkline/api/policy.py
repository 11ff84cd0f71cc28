"""Access rules: the file syntax of oslo.policy, compiled to closures.

A rules file is a YAML mapping of rule name to check. A check is text:

    @  !                            always, never
    rule:NAME                       another rule
    role:NAME                       the caller's token carries the role (case does not matter)
    CREDENTIAL:VALUE                an attribute of the caller's token equals the value
    LITERAL:VALUE                   True, None, a number or a quoted text equals the value
    field:KINDS:NAME=VALUE          a field of the target equals the value, or matches ~REGEX
    not C, C and C, C or C, (C)     and binds more tightly than or

``%(name)s`` in a value stands for the target's entry of that name. An entry that the target does not
have, and a credential that the token does not have, make the check fail; ``domain_id:None`` says that
the token has none. The older form, a list of lists, is understood too: the outer list is an *or*,
each inner one an *and*.

Source: oslo.policy's documentation of its file format; ``field`` is the network service's addition.
What oslo.policy turns into "deny" and a log line (a syntax error, a reference to nothing, a cycle),
is refused here when the files are loaded; and a token without a project does not own what has none.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import yaml

from trunkline.api.context import Context

#: Decides for a caller and a target.
Decision = Callable[[Context, Mapping[str, Any]], bool]
#: Makes the text of a value from a target; raises KeyError where an entry is missing.
_Text = Callable[[Mapping[str, Any]], str]

#: libyaml's, ten times as fast, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DEFAULTS = Path(__file__).with_name("rules")


class RulesError(ValueError):
    """A rules file cannot be used. The text says the file, the line, the rule and the remedy."""


class UnknownRule(UserWarning):
    """The code asks for an access rule that is in no file: a mistake in one of them. Tests fail by it."""


@dataclass(frozen=True)
class Rule:
    """One rule as it stands in its file."""

    name: str
    #: Text, or a list of lists of text.
    check: Any
    file: str = "<rules>"
    line: int = 0

    def refuse(self, problem: str) -> RulesError:
        """The error that this rule is wrong."""
        return RulesError(f"{self.file}, line {self.line}, rule '{self.name}': {problem}")


class Rules:
    """The access rules of a cloud. Immutable: to change them, load again.

    Args:
        rules: by name; references among them are resolved here.
    Raises:
        RulesError: a check is malformed, refers to a rule that is not there, or to itself.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = rules
        self._decisions: dict[str, Decision] = {}
        for name in rules:
            _compile(name, rules, self._decisions, ())

    @classmethod
    def load(cls, defaults: Iterable[Path] | None = None, override: Path | None = None) -> Rules:
        """Reads the files: `defaults` (the package's own by default), then the operator's `override`.

        Raises:
            RulesError: a file cannot be read or used, or two default files disagree on a rule.
        """
        rules: dict[str, Rule] = {}
        for path in sorted(DEFAULTS.glob("*.yaml")) if defaults is None else defaults:
            for rule in read(path):
                known = rules.setdefault(rule.name, rule)
                if known.check != rule.check:
                    raise rule.refuse(
                        f"it is given otherwise in {known.file}, line {known.line}. Rename one of them."
                    )
        if override is not None:
            rules.update((rule.name, rule) for rule in read(override))
        return cls(rules)

    @classmethod
    def of(cls, checks: Mapping[str, Any]) -> Rules:
        """Rules from name to check, without a file."""
        return cls({name: Rule(name, check) for name, check in checks.items()})

    def __contains__(self, name: str) -> bool:
        return name in self._decisions

    def allows(self, name: str, credentials: Context, target: Mapping[str, Any]) -> bool:
        """Whether the rule holds for a caller and a target. A rule that does not exist does not.

        Warns:
            UnknownRule: it does not exist: nobody may, whatever the operator's file says.
        """
        decision = self._decisions.get(name)
        if decision is None:
            warnings.warn(f"There is no access rule {name}: nobody is allowed.", UnknownRule, stacklevel=2)
            return False
        return decision(credentials, target)


def read(path: Path) -> list[Rule]:
    """The rules of one file, in order.

    Raises:
        RulesError: it cannot be read, is no YAML mapping of names to checks, or names a rule twice.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: the rules cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise RulesError(f"{path}: this is no YAML: {error}.") from None
    if node is None:
        return []
    if not isinstance(node, yaml.MappingNode):
        raise RulesError(
            f"{path}: a rules file is a mapping of names to checks, as 'get_network: role:reader'."
        )
    rules: dict[str, Rule] = {}
    for key, value in node.value:
        rule = Rule(str(key.value), _plain(value), str(path), key.start_mark.line + 1)
        if rule.name in rules:
            raise rule.refuse(f"it stands in line {rules[rule.name].line} already. Remove one of them.")
        rules[rule.name] = rule
    return list(rules.values())


def _plain(node: yaml.Node) -> Any:
    """Text stays text, whatever YAML would make of it: `!` and `@` need their quotes, True does not."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(inner) for inner in node.value]
    if isinstance(node, yaml.ScalarNode):
        return node.value
    return None


# From text to closures.


def _compile(
    name: str, rules: Mapping[str, Rule], done: dict[str, Decision], within: tuple[str, ...]
) -> Decision:
    if name in done:
        return done[name]
    rule = rules[name]
    if name in within:
        path = " -> ".join((*within[within.index(name) :], name))
        raise rule.refuse(f"it refers to itself: {path}. Break the circle.")

    def refer(other: str) -> Decision:
        if other not in rules:
            raise rule.refuse(
                f"it refers to rule '{other}', which does not exist. Define it, or check its spelling."
            )
        return _compile(other, rules, done, (*within, name))

    try:
        if isinstance(rule.check, str):
            decision = _Parser(rule.check, refer).parse()
        elif isinstance(rule.check, list):
            decision = _lists(rule.check, refer)
        else:
            raise _Problem("a check is text, or a list of lists of text.")
    except _Problem as problem:
        raise rule.refuse(str(problem)) from None
    done[name] = decision
    return decision


class _Problem(ValueError):
    """What is wrong with a check; the caller knows the rule."""


class _Parser:
    """Recursive descent over: or := and ("or" and)*; and := not ("and" not)*; not := "not"* item."""

    def __init__(self, text: str, refer: Callable[[str], Decision]) -> None:
        self.refer = refer
        self.tokens = list(_tokens(text))
        self.at = 0

    def parse(self) -> Decision:
        if not self.tokens:
            return _always
        decision = self._or()
        if self.at < len(self.tokens):
            raise _Problem(f"'{self.tokens[self.at]}' is not expected here. Join checks by 'and' or 'or'.")
        return decision

    def _take(self, word: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at].lower() == word:
            self.at += 1
            return True
        return False

    def _or(self) -> Decision:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return _any(parts)

    def _and(self) -> Decision:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return _all(parts)

    def _not(self) -> Decision:
        negative = False
        while self._take("not"):
            negative = not negative
        inner = self._item()
        return _negated(inner) if negative else inner

    def _item(self) -> Decision:
        if self.at >= len(self.tokens):
            raise _Problem("it ends where a check is expected. Complete it.")
        if self._take("("):
            inner = self._or()
            if not self._take(")"):
                raise _Problem("a parenthesis is not closed. Add ')'.")
            return inner
        token = self.tokens[self.at]
        if token == ")" or token.lower() in ("and", "or"):
            raise _Problem(f"'{token}' stands where a check is expected.")
        self.at += 1
        return _check(token, self.refer)


def _tokens(text: str) -> Iterable[str]:
    """Words, with the parentheses around them split off; those of ``%(name)s`` are inside a word."""
    for word in text.split():
        body = word.lstrip("(")
        yield from "(" * (len(word) - len(body))
        bare = body.rstrip(")")
        if bare:
            yield bare
        yield from ")" * (len(body) - len(bare))


def _lists(outer: Sequence[Any], refer: Callable[[str], Decision]) -> Decision:
    if not outer:
        return _always
    parts = []
    for inner in outer:
        if not inner:
            continue
        words = [inner] if isinstance(inner, str) else inner
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise _Problem("a check in list form is a list of lists of text.")
        parts.append(_all([_check(word, refer) for word in words]))
    return _any(parts) if parts else _never


# The kinds of check.


def _check(word: str, refer: Callable[[str], Decision]) -> Decision:
    if word == "@":
        return _always
    if word == "!":
        return _never
    kind, colon, value = word.partition(":")
    if not colon:
        raise _Problem(f"'{word}' is no check. Write kind:value, as role:member.")
    if kind == "rule":
        return refer(value)
    if kind == "role":
        return _role(value)
    if kind == "field":
        return _field(value)
    if kind in ("http", "https"):
        raise _Problem(f"'{kind}' checks, which ask another server, are not supported. Use roles.")
    try:
        literal = str(ast.literal_eval(kind))
    except (ValueError, SyntaxError):
        return _credential(kind, value)
    text = _text(value)
    return _safe(lambda context, target: text(target) == literal)


def _always(context: Context, target: Mapping[str, Any]) -> bool:
    return True


def _never(context: Context, target: Mapping[str, Any]) -> bool:
    return False


def _negated(inner: Decision) -> Decision:
    return lambda context, target: not inner(context, target)


def _all(parts: list[Decision]) -> Decision:
    return reduce(_both, parts)


def _any(parts: list[Decision]) -> Decision:
    return reduce(_either, parts)


def _both(first: Decision, second: Decision) -> Decision:
    return lambda context, target: first(context, target) and second(context, target)


def _either(first: Decision, second: Decision) -> Decision:
    return lambda context, target: first(context, target) or second(context, target)


@lru_cache(maxsize=4096)
def _folded(roles: frozenset[str]) -> frozenset[str]:
    """Role names in lower case. The sets are few, and a frozenset remembers its hash."""
    return frozenset(role.lower() for role in roles)


def _role(value: str) -> Decision:
    if not _PLACE.search(value):
        name = _text(value)({}).lower()
        return lambda context, target: name in _folded(context.roles)
    text = _text(value)
    return _safe(lambda context, target: text(target).lower() in _folded(context.roles))


#: What a rule may call an attribute of a token -> how it is read from a `Context`; "" is none.
_CREDENTIALS: Mapping[str, Callable[[Context], str]] = {
    "user_id": lambda context: context.user_id,
    "user": lambda context: context.user_id,
    "user_domain_id": lambda context: context.user_domain_id,
    "project_id": lambda context: context.project_id,
    "tenant_id": lambda context: context.project_id,
    "tenant": lambda context: context.project_id,
    "project_domain_id": lambda context: context.project_domain_id,
    "domain_id": lambda context: context.domain_id,
    "system_scope": lambda context: "all" if context.system else "",
    "is_admin": lambda context: str(context.is_admin),
    # The cloud knows no project whose administrators rule all others.
    "is_admin_project": lambda context: "True",
}
_PATH = re.compile(r"\w+(\.\w+)*")


def _credential(kind: str, value: str) -> Decision:
    if not _PATH.fullmatch(kind):
        raise _Problem(f"'{kind}' is neither an attribute of a token nor a literal. Quote a text as 'text'.")
    text = _text(value)
    read = _CREDENTIALS.get(kind)
    if kind == "roles":
        return _safe(lambda context, target: text(target) in context.roles)
    if read is None:
        # As oslo.policy: what a token does not have, equals nothing.
        return _never

    if value == "None":
        return lambda context, target: read(context) == ""

    def decide(context: Context, target: Mapping[str, Any]) -> bool:
        held = read(context)
        return held != "" and held == text(target)

    return _safe(decide)


def _field(value: str) -> Decision:
    _, colon, rest = value.partition(":")
    name, equals, wanted = rest.partition("=")
    if not colon or not equals or not name:
        raise _Problem(f"'field:{value}' is no check. Write field:networks:shared=True.")
    if not wanted.startswith("~"):
        return lambda context, target: str(target.get(name)) == wanted
    try:
        pattern = re.compile(wanted[1:])
    except re.error as error:
        raise _Problem(f"'{wanted[1:]}' is no regular expression: {error}.") from None
    return lambda context, target: bool(pattern.match(str(target.get(name) or "")))


def _safe(decide: Decision) -> Decision:
    """A check on an entry that the target does not have fails."""

    def decision(context: Context, target: Mapping[str, Any]) -> bool:
        try:
            return decide(context, target)
        except KeyError:
            return False

    return decision


_PLACE = re.compile(r"%\(([^()]+)\)s")


def _text(value: str) -> _Text:
    parts = _PLACE.split(value)
    for index in range(0, len(parts), 2):
        if "%" in parts[index].replace("%%", ""):
            raise _Problem(
                f"'{value}' has a stray '%'. Write %(name)s for a target's entry, %% for the sign."
            )
        parts[index] = parts[index].replace("%%", "%")
    if len(parts) == 1:
        fixed = parts[0]
        return lambda target: fixed
    if len(parts) == 3 and not parts[0] and not parts[2]:
        name = parts[1]
        return lambda target: str(_entry(target, name))
    return lambda target: "".join(
        str(_entry(target, part)) if index % 2 else part for index, part in enumerate(parts)
    )


def _entry(target: Mapping[str, Any], name: str) -> Any:
    """``a.b`` is the entry of that very name, or else entry b of entry a."""
    if name in target:
        return target[name]
    inner: Any = target
    for part in name.split("."):
        if not isinstance(inner, Mapping):
            raise KeyError(name)
        inner = inner[part]
    return inner
