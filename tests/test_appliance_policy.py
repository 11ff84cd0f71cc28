"""The policy of an appliance: what is taken, what is refused and how, what would change; rules as maps.

| claim | and in reverse |
| --- | --- |
| a whole policy is taken, and is the same when it is written and read again | |
| what cannot be done is refused, with its field and a remedy | |
| what does not fit the appliance is refused | a policy that fits is not |
| what is wrong in a text is told with its line | |
| each port of carrier-grade translation has one subscriber | |
| a difference says what would change | and nothing of two that are the same |
| maps find the rule that is first, whatever the rules | |
| tables that control made are what a unit would make | a unit makes those that it was not told |
| rules are checked by whoever makes their tables | what is too much for others is left to units |
| as many layers as rules overlap, not as there are rules | |
| what may be anything in all rules is not looked up | |
| limits are a data plane's share | |
"""

from __future__ import annotations

import copy
import ipaddress
import json
import re
import zlib
from typing import Any

import msgspec
import pytest
import yaml
from first_match import first_match
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.compiler import rule_tables
from trunkline.compiler.classifier import depth, layers, layers_of_few, layers_of_many
from trunkline.compiler.unit_slices import LegSlice
from trunkline.errors import BadField
from trunkline.resources.appliance_policy import Misread, Rate, Zone, check, difference, parse, read
from trunkline.resources.appliance_policy.carrier import allocations, blocks
from trunkline.units import documents
from trunkline.units.fabric import Blocks, Subscribers
from trunkline.units.rates import limit
from trunkline.units.ruleset import published, ruleset, translated
from trunkline.units.translation import sources

LEGS = (
    LegSlice(zone="inside", addresses=("10.0.0.1/24", "fd00:a::1/64"), mtu=1442),
    LegSlice(
        zone="outside",
        outside=True,
        addresses=("192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24", "fd00:b::1/64"),
        mtu=1442,
    ),
)
ZONES = [Zone(leg.zone, leg.outside, leg.addresses) for leg in LEGS]
TEXT = """
firewall:
  groups:
    addresses:
      lan: [10.0.0.0/24, "fd00:a::/64"]
    services:
      web: [tcp/80, tcp/443]
  default: drop
  syn_protection:
    - {zone: outside, per_source: 50/second, total: 1000/second, connections: 100}
  rules:
    - name: browse
      from: inside
      to: outside
      source: lan
      service: web
      action: accept
      log: true
      rate: 500/second
    - {name: echo, service: icmp, action: accept}
    - {name: in, from: outside, destination: 192.0.2.1, service: [web, tcp/8000-8010], action: accept}
nat:
  source:
    - {from: inside, to: outside, addresses: [192.0.2.1, "fd00:b::1"], ports: 20000-65535}
  destination:
    - {zone: outside, address: 192.0.2.1, service: tcp/80, to: 10.0.0.5, port: 8080}
  static:
    - {inside: 10.0.0.7, outside: 192.0.2.3}
balancer:
  listeners:
    - name: shop
      address: 192.0.2.2
      port: 443
      algorithm: source
      members:
        - {address: 10.0.0.5, port: 443, weight: 2}
        - {address: 10.0.0.6, port: 443}
"""


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXT)
    return found


def test_a_policy_is_taken_and_stays_the_same() -> None:
    policy = parse(document())
    check(policy, ZONES)
    assert parse(msgspec.to_builtins(policy)) == policy
    assert parse(json.loads(json.dumps(document()))) == policy
    assert translated(policy) == {"192.0.2.1": Blocks(20000, 177), "fd00:b::1": Blocks(20000, 177)}
    assert published(policy) == {
        ("192.0.2.1", 80, 6),
        ("10.0.0.5", 8080, 6),
        ("192.0.2.2", 443, 6),
        ("10.0.0.5", 443, 6),
        ("10.0.0.6", 443, 6),
        ("10.0.0.7", 0, 0),
        ("192.0.2.3", 0, 0),
    }


CARRIER = {"from": "inside", "to": "outside", "subscribers": ["100.64.0.0/27"], "addresses": ["192.0.2.6"]}

#: Where, what stands there instead (None: nothing), the field that is named, and words of the message.
HEALTH, CHECK = "balancer.listeners[0].health", {"kind": "http"}
BAD: list[tuple[str, Any, str, str]] = [
    ("firewall.rules[0].action", "allow", "", "accept, drop, reject"),
    ("firewall.rules[0].actoin", "accept", "", "Fields here are: name, from, to"),
    ("firewall.rules[0].name", None, "", "Give it"),
    ("firewall.rules[0].name", 'a "b', "", "letters, digits"),
    ("firewall.rules[1].name", "browse", "", "Give one of them another"),
    ("firewall.rules[0].from", "In side", "", "no name of a zone"),
    ("firewall.rules[0].source", "lam", "", "nor a group of this policy"),
    ("firewall.rules[0].source", ["lan", "10.0.0.1/24"], "firewall.rules[0].source[1]", "Write 10.0.0.0/24"),
    ("firewall.rules[0].source", [], "", "Leave it out"),
    ("firewall.rules[0].service", "http", "", "tcp/80"),
    ("firewall.rules[0].service", "tcp/0", "", "1 to 65535"),
    ("firewall.rules[0].service", "udp/9-8", "", "the lower first"),
    ("firewall.rules[0].service", "icmp/8", "", "neither a service"),
    ("firewall.rules[0].rate", "fast", "", "100/second"),
    ("firewall.rules[0].rate", "0/second", "", "100/second"),
    ("firewall.rules[0].action", "drop", "firewall.rules[0].rate", "Leave it out"),
    ("firewall.rules[0].source_port", "0", "", "1 to 65535"),
    ("firewall.rules[1].source_port", "80", "", "Say tcp or udp"),
    ("firewall.rules[0].log", "yes please", "", "bool"),
    ("firewall.rules[2].source", "fd00::/8", "firewall.rules[2].destination", "one family"),
    ("firewall.groups.addresses.lan", [], "", "empty"),
    ("firewall.groups.addresses.lan", ["any"], "firewall.groups.addresses.lan[0]", "neither an address"),
    ("firewall.groups.addresses.lan", 5, "", "no list"),
    ("firewall.groups.addresses.lan", [5], "firewall.groups.addresses.lan[0]", "text"),
    ("firewall.groups.addresses.any", ["10.0.0.0/8"], "", "another name"),
    ("firewall.groups.services.tcp", ["tcp/80"], "", "another name"),
    ("firewall.groups.services.a/b", ["tcp/80"], "", "letters, digits"),
    (
        "firewall.groups.services.web",
        ["tcp/80", "lan"],
        "firewall.groups.services.web[1]",
        "neither a service",
    ),
    ("firewall.syn_protection[0]", {"zone": "outside"}, "", "it limits nothing"),
    ("firewall.syn_protection[0].zone", "any", "", "Name the one"),
    ("firewall.syn_protection[0].total", "1", "", "100/second"),
    ("nat.source[0].from", "any", "", "Name the one"),
    ("nat.source[0].to", "inside", "", "another one"),
    ("nat.source[0].addresses", [], "", "one or more"),
    ("nat.source[0].addresses", ["192.0.2.1", "192.0.2.1"], "", "twice"),
    ("nat.source[0].addresses", ["192.0.2.0/24"], "nat.source[0].addresses[0]", "no IP address"),
    ("nat.source[0].addresses", ["224.0.0.1"], "nat.source[0].addresses[0]", "one interface"),
    ("nat.source[0].ports", "2000-2100", "", "fewer than 256"),
    ("nat.source[0].ports", "1-65535", "nat.destination[0]", "narrow those"),
    ("nat.destination[0].service", "tcp", "", "not one port"),
    ("nat.destination[0].service", "icmp", "", "not one port"),
    ("nat.destination[0].to", "fd00::5", "", "one family"),
    ("nat.destination[0].to", "192.0.2.1", "", "to itself"),
    ("nat.destination[0].address", "192.0.2.3", "nat.destination[0]", "gives all of 192.0.2.3 away"),
    ("nat.static[0].outside", "192.0.2.1", "nat.destination[0]", "Use another address"),
    ("nat.source[0].addresses", ["192.0.2.3"], "nat.static[0].outside", "Use another address"),
    ("nat.static[1]", {"inside": "10.0.0.7", "outside": "192.0.2.9"}, "nat.static[1].inside", "Leave one"),
    (
        "nat.carrier_grade",
        [CARRIER | {"addresses": ["192.0.2.1"]}],
        "nat.carrier_grade[0].addresses[0]",
        "used by",
    ),
    ("nat.carrier_grade", [CARRIER | {"block": 63}], "nat.carrier_grade[0].block", ">= 64"),
    (
        "nat.carrier_grade",
        [CARRIER | {"untranslated": ["192.0.2.0/24"]}],
        "nat.carrier_grade[0].untranslated[0]",
        "what is elsewhere",
    ),
    (
        "nat.carrier_grade",
        [CARRIER | {"subscribers": ["100.64.0.0/27", "100.65.0.0/31", "100.64.0.16/28"]}],
        "nat.carrier_grade[0].subscribers[2]",
        "100.64.0.0/27",
    ),
    (
        "nat.carrier_grade",
        [CARRIER | {"subscribers": ["10.0.0.5/32"]}],
        "nat.destination[0].to",
        "subscriber",
    ),
    (
        "nat.carrier_grade",
        [CARRIER | {"untranslated": ["10.0.0.0/8", "fd00::/64"]}],
        "nat.carrier_grade[0].untranslated[1]",
        "IPv6",
    ),
    ("nat.carrier_grade", [CARRIER | {"block": 16128}], "nat.carrier_grade[0].addresses", "smaller blocks"),
    (
        "nat.carrier_grade",
        [CARRIER | {"subscribers": ["100.64.0.0/10"]}],
        "nat.carrier_grade[0].subscribers",
        "16384 are the most",
    ),
    (
        "nat.carrier_grade",
        [CARRIER | {"subscribers": ["fd00::/64"]}],
        "nat.carrier_grade[0].subscribers[0]",
        "IPv6",
    ),
    ("nat.carrier_grade", [CARRIER | {"subscribers": []}], "nat.carrier_grade[0].subscribers", "empty"),
    (
        "nat.carrier_grade",
        [CARRIER | {"addresses": ["192.0.2.3"]}],
        "nat.static[0].outside",
        "another address",
    ),
    (
        "nat.carrier_grade",
        [CARRIER, CARRIER | {"addresses": ["192.0.2.7"]}],
        "nat.carrier_grade[1].subscribers",
        "Leave",
    ),
    ("nat.carrier_grade", [CARRIER | {"subscribers": ["10.0.0.0/29"]}], "nat.static[0].inside", "subscriber"),
    ("nat.carrier_grade", [CARRIER | {"to": "inside"}], "nat.carrier_grade[0].to", "another one"),
    ("balancer.listeners[0].algorithm", "least_busy", "", "round_robin, random, source, source_port"),
    ("balancer.listeners[0].address", "192.0.2.1", "", ""),
    ("balancer.listeners[0].members[0].address", "fd00::1", "", "IPv4"),
    ("balancer.listeners[0].members[0].port", 70000, "", "65535"),
    ("balancer.listeners[0].members[0].weight", -1, "", ">= 0"),
    (
        "balancer.listeners[0].members[1].address",
        "10.0.0.5",
        "balancer.listeners[0].members[1]",
        "a weight says",
    ),
    ("balancer.listeners[0].masquerade", ["192.0.2.1"], "balancer.listeners[0].masquerade[0]", "20000-65535"),
    ("balancer.listeners[0].masquerade", ["fd00:b::2"], "", "Give one of IPv4"),
    ("balancer.listeners[0].masquerade", ["10.0.0.1"] * 2, "balancer.listeners[0].masquerade[1]", "twice"),
    ("balancer.listeners[0].masquerade", ["10.0.0"], "balancer.listeners[0].masquerade[0]", "10.0.0"),
    (HEALTH, {}, f"{HEALTH}.kind", "Give it"),
    (HEALTH, {"kind": "snmp"}, f"{HEALTH}.kind", "ping, tcp, tls"),
    (
        HEALTH,
        CHECK | {"timeout": 6},
        f"{HEALTH}.timeout",
        "longer",
    ),
    (HEALTH, CHECK | {"fall": 0}, f"{HEALTH}.fall", ">= 1"),
    (
        HEALTH,
        CHECK | {"path": "up"},
        f"{HEALTH}.path",
        "'/healthy'",
    ),
    (HEALTH, CHECK | {"host": "a b"}, f"{HEALTH}.host", "host"),
    (
        HEALTH,
        CHECK | {"codes": "2xx"},
        f"{HEALTH}.codes",
        "200-204",
    ),
    (
        HEALTH,
        CHECK | {"codes": "204-200"},
        f"{HEALTH}.codes",
        "200-204",
    ),
    (
        HEALTH,
        {"kind": "tcp", "path": "/x"},
        f"{HEALTH}.path",
        "http",
    ),
    ("balancer.listeners[0].members[0].monitor_port", 80, "", "'health' too"),
    ("balancer.listeners[0].allowed", ["lan"], "balancer.listeners[0].allowed[0]", "nor a prefix"),
    ("balancer.listeners[0].allowed", ["fd00::/8"], "balancer.listeners[0].allowed[0]", "family"),
    ("balancer.listeners[0].connections", -1, "", ">= 0"),
    ("balancer.listeners", "none", "", "array"),
    ("vpn", {}, "", "firewall, nat, balancer"),
    ("nat", [], "", "object"),
]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The document with something else at a path."""
    whole: Any = document()
    *way, last = [int(n) if n else name for name, n in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]
    at = whole
    for step in way:
        at = at[step]
    if value is None:
        del at[last]
    elif isinstance(at, list) and last == len(at):
        at.append(value)
    else:
        at[last] = value
    return whole  # type: ignore[no-any-return]


@pytest.mark.parametrize(("path", "value", "field", "words"), [b for b in BAD if b[3]])
def test_what_cannot_be_done_is_refused(path: str, value: Any, field: str, words: str) -> None:
    with pytest.raises(BadField) as refused:
        parse(changed(path, value))
    assert refused.value.field == (field or path)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("firewall.rules[0].from", "dmz", "The appliance has: inside, outside"),
        ("firewall.syn_protection[0].zone", "dmz", "inside, outside"),
        ("nat.source[0].to", "dmz", "inside, outside"),
        ("nat.source[0].addresses[0]", "192.0.2.9", "192.0.2.1, 192.0.2.2"),
        ("nat.source[0].addresses[0]", "10.0.0.1", "192.0.2.1, 192.0.2.2"),
        ("nat.destination[0].address", "192.0.2.9", "192.0.2.1, 192.0.2.2"),
        ("nat.destination[0].to", "10.0.0.1", "own"),
        ("nat.static[0].outside", "192.0.2.9", "192.0.2.1, 192.0.2.2"),
        ("balancer.listeners[0].address", "10.0.0.1", "not outside"),
        ("balancer.listeners[0].members[0].address", "10.0.0.1", "own"),
    ],
)
def test_what_does_not_fit_the_appliance_is_refused(path: str, value: str, words: str) -> None:
    policy = parse(changed(path, value))
    with pytest.raises(BadField) as refused:
        check(policy, ZONES)
    assert refused.value.field == path
    assert words in refused.value.message
    with pytest.raises(BadField):
        ruleset(policy, LEGS)


def test_a_listener_is_at_no_port_of_a_masquerade() -> None:
    listener = {"name": "shop", "address": "192.0.2.1", "port": 8080, "masquerade": ["192.0.2.2"]}
    parse({"balancer": {"listeners": [listener]}})
    with pytest.raises(BadField) as refused:
        parse({"balancer": {"listeners": [listener | {"masquerade": ["192.0.2.1"]}]}})
    assert refused.value.field == "balancer.listeners[0]"
    assert "1024-65535" in refused.value.message
    parse({"balancer": {"listeners": [listener | {"masquerade": ["192.0.2.1"], "port": 443}]}})


def test_members_of_a_balancer_with_one_leg_see_the_appliance() -> None:
    listener = {"name": "shop", "address": "192.0.2.1", "port": 80}
    with pytest.raises(BadField) as refused:
        check(parse({"balancer": {"listeners": [listener]}}), ZONES[1:])
    assert refused.value.field == "balancer.listeners[0].masquerade"
    with pytest.raises(BadField) as refused:
        check(parse({"balancer": {"listeners": [listener | {"masquerade": ["192.0.2.9"]}]}}), ZONES)
    assert refused.value.field == "balancer.listeners[0].masquerade[0]"
    policy = parse({"balancer": {"listeners": [listener | {"masquerade": ["192.0.2.2"]}]}})
    check(policy, ZONES[1:])
    assert published(policy) == {("192.0.2.1", 80, 6)}
    assert translated(policy) == {"192.0.2.2": Blocks(1024, 252)}


def test_rules_that_are_more_than_there_is_room_for_are_refused() -> None:
    hosts = [f"10.0.{n // 256}.{n % 256}" for n in range(400)]
    wide = {"name": "wide", "source": hosts, "destination": hosts, "action": "drop"}
    with pytest.raises(BadField, match="Give prefixes") as refused:
        parse({"firewall": {"rules": [wide]}})
    assert refused.value.field == "firewall.rules[0]"


def test_nobody_outside_is_translated() -> None:
    whole = document()
    whole["nat"] = {"source": [{"from": "outside", "to": "inside", "addresses": ["192.0.2.1"]}]}
    with pytest.raises(BadField, match="outside, where nobody is translated"):
        check(parse(whole), ZONES)


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        (
            "action: accept\n      log",
            "action: allow\n      log",
            17,
            "firewall.rules[0].action: 'allow' is none of",
        ),
        ("name: echo, ", "", 20, "firewall.rules[1].name: it is missing"),
        (
            "echo, service: icmp",
            "echo, servive: icmp",
            20,
            "firewall.rules[1].servive: there is no such field",
        ),
        ("10.0.0.0/24,", "10.0.0.1/24,", 5, "firewall.groups.addresses.lan[0]"),
        ("default: drop", "default: drop\n  default: accept", 9, "it is in line 8 too"),
        ("[tcp/80, tcp/443]", "[tcp/80, tcp/443", 8, "not YAML"),
        ("default: drop", "default: &a [*a]", 8, "part of itself"),
        ("port: 443, weight: 2", "port: x, weight: 2", 36, "members[0].port"),
    ],
)
def test_what_is_wrong_in_a_text_is_told_with_its_line(
    before: str, after: str, line: int, words: str
) -> None:
    with pytest.raises(Misread) as told:
        understood(TEXT.replace(before, after, 1))
    assert words in told.value.message
    assert told.value.message.startswith(f"policy.yaml, line {line}: ")
    assert told.value.line == line


def understood(text: str) -> None:
    source = read(text, "policy.yaml")
    try:
        parse(source.document)
    except BadField as error:
        raise source.located(error) from None


def test_a_text_is_read_as_what_it_says() -> None:
    source = read(TEXT, "policy.yaml")
    assert source.document == document()
    assert source.lines["balancer.listeners[0].members[1]"] == 37
    assert read("", "empty.yaml").document == {}
    for wrong in ("- a", "x", "{1: 2}", "a: &a [*a]", "\x00"):
        with pytest.raises(Misread):
            read(wrong, "wrong.yaml")


def test_a_difference_says_what_would_change() -> None:
    old = parse(document())
    assert difference(old, old) == []
    new = document()
    rules = new["firewall"]["rules"]
    rules[:] = [rules[2], rules[0], {"name": "ssh", "service": "tcp/22", "action": "reject"}]
    rules[1] = {**rules[1], "log": False}
    new["firewall"]["groups"]["services"]["web"] = ["tcp/443", "tcp/8443"]
    new["firewall"]["default"] = "reject"
    new["nat"]["destination"][0]["port"] = 81
    new["nat"]["static"] = []
    new["balancer"]["listeners"][0]["members"] = [{"address": "10.0.0.5", "port": 443}]
    assert difference(old, parse(new)) == [
        "firewall: what no rule fits was to drop, is to reject.",
        "firewall: group 'web' of services: tcp/8443 added; tcp/80 removed.",
        "firewall: rule 2 'echo' is removed: name echo service icmp action accept.",
        "firewall: rule 'in' is moved: it was 3, is 1, the first.",
        "firewall: rule 2 'browse' is changed: log was yes, is no.",
        "firewall: rule 3 'ssh' is added: name ssh service tcp/22 action reject.",
        "nat: tcp/80 of 192.0.2.1 in outside: port was 8080, is 81.",
        "nat: the static address 192.0.2.3: removed.",
        "balancer: listener 'shop': member 10.0.0.6 port 443: removed.",
        "balancer: listener 'shop': member 10.0.0.5 port 443: weight was 2, is 1.",
    ]
    del new["nat"]
    assert "nat: it is removed." in difference(old, parse(new))


def test_each_port_has_one_subscriber() -> None:
    carrier = {**CARRIER, "subscribers": ["100.64.0.0/28", "100.65.0.16/28"], "block": 640}
    carrier |= {"addresses": ["192.0.2.1", "192.0.2.2"], "ports": "2000-12299"}
    policy = parse({"nat": {"carrier_grade": [carrier]}})
    assert policy.nat is not None
    given = list(allocations(policy.nat.carrier_grade[0]))
    names = [f"100.64.0.{n}" for n in range(16)] + [f"100.65.0.{n}" for n in range(16, 32)]
    assert [each.subscriber for each in given] == names
    ports = [(each.address, port) for each in given for port in range(each.ports.first, each.ports.last + 1)]
    assert len(ports) == len(set(ports)) == 32 * 640
    for each in given:
        for port in (each.ports.first, each.ports.last):
            assert list(blocks(policy, each.address, port)) == [each]
    assert [*blocks(policy, "192.0.2.1", 1999), *blocks(policy, "192.0.2.9")] == []
    assert list(blocks(policy, "192.0.2.2")) == given[16:]
    assert list(blocks(policy)) == given
    # Those who have blocks are numbered as their blocks are, by which shards go.
    found = sources(policy, ())
    assert found["100.64.0.0/28"] == Subscribers(0)
    assert found["100.65.0.16/28"] == Subscribers(16)
    assert found["192.0.2.1"] == Blocks(2000, 640, 16, 0)
    assert found["192.0.2.2"] == Blocks(2000, 640, 16, 16)
    # Who is added moves nobody.
    carrier["subscribers"] = [*carrier["subscribers"], "100.66.0.0/31"]
    carrier["addresses"] = [*carrier["addresses"], "192.0.2.3"]
    more = parse({"nat": {"carrier_grade": [carrier]}})
    assert more.nat is not None
    assert list(allocations(more.nat.carrier_grade[0]))[:32] == given


# Rules as maps.

_Element = tuple[list[tuple[int, int]], int]


class Maps:
    """The maps of a table's text, looked up as the kernel would."""

    def __init__(self, text: str) -> None:
        self._pairs = dict(re.findall(r'("\w+" \. "\w+") : jump (\w+)', text))
        self._chains = dict(re.findall(r"^  chain (\w+) \{\n(.*?)\n  \}$", text, re.MULTILINE | re.DOTALL))
        self._maps = {
            name: [self._element(each) for each in elements.split(", ")]
            for name, elements in re.findall(
                r"^  map (\w*match\w+) \{\n.*?elements = \{ (.*?) \}\n", text, re.M | re.S
            )
        }

    @staticmethod
    def _element(text: str) -> _Element:
        key, comment = re.fullmatch(r'(.*) comment "(\d+)" : .*', text).groups()  # type: ignore[union-attr]
        ends = [(part.partition("-")[0], part.rpartition("-")[2]) for part in key.split(" . ")]
        return [(_number(first), _number(last)) for first, last in ends], int(comment)

    def rule(self, pair: str, source: Any, target: Any, protocol: int, port: int) -> int:
        """The number of the rule that is found, -1 for none."""
        kind = {6: "tcp", 17: "udp"}.get(protocol, "other")
        inner = f"{self._pairs.get(pair)}_{source.version}_{kind}"
        for line in self._chains.get(inner, "").splitlines():
            key, name = re.fullmatch(
                r"\s*(?:meta l4proto \w+ )?(ct original .*|meta l4proto .*) vmap @(\w+)", line
            ).groups()  # type: ignore[union-attr]
            told = {"saddr": int(source), "daddr": int(target), "proto-dst": port, "l4proto": protocol}
            values = [told[part.split()[-1]] for part in key.split(" . ")]
            fits = [
                number
                for spans, number in self._maps[name]
                if all(first <= value <= last for (first, last), value in zip(spans, values, strict=True))
            ]
            # A map has one answer, or its order would matter.
            assert len(fits) <= 1
            if fits:
                return fits[0]
        return -1


def _number(text: str) -> int:
    return int(text) if text.isdigit() else int(ipaddress.ip_address(text))


def networks(base: str, bits: int) -> st.SearchStrategy[str]:
    """Prefixes in the last few bits of an address, and the address's own network."""
    whole = ipaddress.ip_network(base)
    sizes = st.integers(0, bits).map(lambda n: whole.max_prefixlen - n)
    return sizes.flatmap(lambda size: st.sampled_from([str(n) for n in whole.subnets(new_prefix=size)]))


def takes(rule: dict[str, Any]) -> bool:
    """Whether it can be met at all: its addresses are of one family."""
    try:
        return bool(parse({"firewall": {"rules": [rule]}}))
    except BadField:
        return False


ADDRESSES = st.one_of(st.just("any"), networks("10.0.0.0/29", 3), networks("fd00::/125", 3))
SERVICES = st.one_of(
    st.sampled_from(["any", "tcp", "udp", "icmp", "ip/6", "gre", "ip/1"]),
    st.tuples(st.sampled_from(["tcp", "udp"]), st.integers(1, 9), st.integers(0, 5)).map(
        lambda each: f"{each[0]}/{each[1]}-{each[1] + each[2]}"
    ),
)
RULES = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["any", "inside", "outside"]),
        "to": st.sampled_from(["any", "outside"]),
        "source": st.lists(ADDRESSES, min_size=1, max_size=3),
        "destination": st.lists(ADDRESSES, min_size=1, max_size=2),
        "service": st.lists(SERVICES, min_size=1, max_size=3),
        "action": st.sampled_from(["accept", "drop", "reject"]),
    }
).filter(lambda rule: takes({**rule, "name": "one"}))
PACKETS = st.tuples(
    st.sampled_from([("inside", "outside"), ("outside", "inside"), ("inside", "inside")]),
    st.sampled_from([("10.0.0.{}", (1, 6, 17, 47)), ("fd00::{}", (58, 6, 17, 47))]),
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(0, 3),
    st.integers(1, 15),
)


@settings(max_examples=60)
@given(rules=st.lists(RULES, max_size=12), packets=st.lists(PACKETS, min_size=20, max_size=40))
def test_maps_find_the_rule_that_is_first(rules: list[dict[str, Any]], packets: list[Any]) -> None:
    policy = parse({"firewall": {"rules": [{**rule, "name": str(n)} for n, rule in enumerate(rules)]}})
    maps = Maps(ruleset(policy, LEGS))
    for (near, far), (form, protocols), one, other, protocol, port in packets:
        source, target = (ipaddress.ip_address(form.format(n)) for n in (one, other))
        packet = (source, target, protocols[protocol], port)
        found = maps.rule(f'"{near}" . "{far}"', *packet)
        assert found == first_match(policy, *packet, near, far)


@settings(max_examples=60)
@given(rules=st.lists(RULES, max_size=12))
def test_tables_that_control_made_are_what_a_unit_would_make(rules: list[dict[str, Any]]) -> None:
    whole = {"firewall": {"rules": [{**rule, "name": str(n)} for n, rule in enumerate(rules)]}}
    policy = parse(whole)
    # The unit knows the newest network later.
    told = rule_tables.told(policy, [*(leg.zone for leg in LEGS), "net1"])
    read_, tables = documents.read(documents.said(whole), told)
    assert tables is not None
    assert read_ == policy
    assert ruleset(read_, LEGS, tables=tables) == ruleset(policy, LEGS)


def test_a_unit_makes_the_tables_that_it_was_not_told() -> None:
    whole = document()
    policy, legs = parse(whole), (*LEGS, LegSlice(zone="net1", addresses=("10.7.0.1/24",), mtu=1442))
    told = rule_tables.told(policy, [leg.zone for leg in LEGS])
    firewall = policy.firewall
    assert firewall is not None
    later = msgspec.structs.replace(rule_tables.rule_tables(firewall, ()), form=rule_tables.FORM + 1)
    for nothing in (b"", zlib.compress(msgspec.msgpack.encode(later)), zlib.compress(b"{}"), b"other"):
        assert documents.read(documents.said(whole), nothing) == (policy, None)
    # Of fewer zones than there are legs.
    tables = rule_tables.heard(told)
    assert tables is not None
    assert ruleset(policy, legs, tables=tables) == ruleset(policy, legs)


def test_rules_are_checked_by_whoever_makes_their_tables() -> None:
    whole = document()
    told = rule_tables.told(parse(whole), [leg.zone for leg in LEGS])
    whole["firewall"]["rules"][0]["source_port"] = "0"
    with pytest.raises(BadField, match="source_port"):
        documents.read(documents.said(whole), b"")
    documents.read(documents.said(whole), told)
    # What depends on the appliance, each unit knows for itself, and what may be another version's.
    whole["nat"]["source"][0]["ports"] = "80"
    with pytest.raises(BadField, match="ports"):
        documents.read(documents.said(whole), told)


def test_too_much_for_others_is_left_to_the_units() -> None:
    nested = [{"name": str(n), "destination": f"10.{n}.0.0/16", "action": "drop"} for n in range(90)]
    across = [{"name": f"p{n}", "source": f"10.{n}.0.0/16", "action": "drop"} for n in range(90)]
    zones = [leg.zone for leg in LEGS]
    for rules, enough in ((nested, True), (nested + across, False)):
        policy = parse({"firewall": {"rules": rules}})
        assert (rule_tables.heard(rule_tables.told(policy, zones)) is not None) == enough
        assert policy.firewall is not None
        assert rule_tables.rule_tables(policy.firewall, zones).tables


def test_what_may_be_anything_in_all_rules_is_not_looked_up() -> None:
    def parts(*rules: dict[str, Any]) -> list[tuple[int, ...]]:
        named = [{"name": str(n), "service": "tcp", "action": "drop"} | rule for n, rule in enumerate(rules)]
        policy = parse({"firewall": {"rules": named}})
        assert policy.firewall is not None
        (tables,) = rule_tables.rule_tables(policy.firewall, ["inside"]).tables
        return [layer.order for table in tables if table.version == 4 for layer in table.layers]

    one = {"destination": "10.0.0.1", "service": "tcp/80"}
    assert parts(one, {"destination": "10.0.0.2"}) == [(1, 2)]
    assert parts(one, {"destination": "10.0.0.2", "source": "10.1.0.0/24"}) == [(1, 0, 2)]
    assert parts(one, {"destination": "10.0.0.2", "source_port": "80"}) == [(1, 2, 3)]
    # A key of ranges has two parts.
    assert parts({"destination": "10.0.0.1"}) == [(1, 0)]
    assert parts({}) == [(0, 1)]


SPANS = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda each: (each[0], each[0] + each[1]))


@given(boxes=st.lists(st.tuples(SPANS, SPANS, SPANS), min_size=1, max_size=40))
def test_layers_of_few_are_those_of_many(boxes: list[Any]) -> None:
    numbered = list(enumerate(boxes))
    assert layers_of_few(numbered) in (None, layers_of_many(numbered))
    for place, spans in enumerate(zip(*boxes, strict=True)):
        most = max(sum(first <= value <= last for first, last in spans) for value in range(40))
        assert depth(spans) == most, place


def test_layers_are_as_many_as_rules_overlap() -> None:
    def layered(*boxes: tuple[tuple[int, int], ...]) -> list[int]:
        return layers(list(enumerate(boxes)))

    apart = [((n, n), (0, 9)) for n in range(100)]
    assert layered(*apart) == [0] * 100
    assert layered(*apart, ((0, 200), (5, 5)), ((300, 300), (0, 9))) == [*[0] * 100, 1, 0]
    nested = [((0, n), (0, 9)) for n in range(5)]
    assert layered(*nested) == [0, 1, 2, 3, 4]
    assert layered() == []


@pytest.mark.parametrize(
    ("rate", "share", "words"),
    [
        (Rate(100, 1), 1.0, "limit rate 100/second burst 100 packets"),
        (Rate(100, 1), 0.25, "limit rate 25/second burst 25 packets"),
        (Rate(1, 1), 0.25, "limit rate 15/minute burst 1 packets"),
        (Rate(1, 3600), 0.001, "limit rate 1/day burst 1 packets"),
    ],
)
def test_limits_are_a_data_planes_share(rate: Rate, share: float, words: str) -> None:
    assert limit(rate, share) == words


def test_a_policy_without_its_parts_is_a_policy() -> None:
    for part in document():
        whole = copy.deepcopy(document())
        del whole[part]
        check(parse(whole), ZONES)
    assert published(parse({})) == set()
    assert translated(parse({})) == {}
