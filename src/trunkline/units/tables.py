"""A table of nftables (nft(8)) as it is written, and as it takes the place of another one.

A packet that is under way while rules change has to meet the old ones or the new. The kernel switches all
rules at once, and a packet goes through a chain by one set of them; but what it looks up by the way is not of
that set, and three things would make it meet neither:
- A base chain in place of another one: both are in the kernel's list for a moment, and each is in force or
  not when the packet comes to it. So base chains stay, for ever, and so do counters.
- A map that comes together with the rules that look it up: what is in one of ranges is seen a moment later
  than the rules are. So what base chains lead to is put there in a transaction of its own, before.
- A map that goes with the rules that looked it up, with a name or without: what is in it is gone for whoever
  reads the old rules still. So all maps have names, and what is replaced is deleted when the next one
  takes its place. For that, names begin with one of three letters, in turn.

What says the same in every policy stays, under a name that says what it is: whoever changes a rule does not
wait for the kernel to make hundreds of chains anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NAME = "appliance"
_SWITCH = "# switch"
_LEFT = re.compile(r"^# leaves (.+)$", re.MULTILINE)
_LASTS = re.compile(r"^# lasts (.+)$", re.MULTILINE)
_MAKES = re.compile(r"^# makes (.+)$", re.MULTILINE)
_BRINGS = re.compile(r"^# brings (.+)$", re.MULTILINE)
#: Names of what stays begin with it.
_LASTING = "k_"


class Table:
    """What is to be in the table. Names are unique by kind."""

    def __init__(self, replaces: str | None = None) -> None:
        """`replaces`: the text that is in force, "" for none; None: not known, so that all is made anew."""
        self._replaces = replaces
        self._letter = {"# a": "b", "# b": "c"}.get((replaces or "")[:3], "a")
        self._counters: list[str] = []
        #: Sets and maps as "map NAME", and as they are written.
        self._sets: dict[str, str] = {}
        self._bases: dict[str, list[str]] = {}
        self._chains: dict[str, list[str]] = {}
        #: What stays, as "map NAME" and "chain NAME", and what it is.
        self._lasting: dict[str, list[str]] = {}

    def named(self, name: str) -> str:
        """As rules name a chain of that name."""
        return f"{self._letter}_{name}"

    def counter(self, name: str) -> str:
        """One that counts on when rules change; returns what a rule says to count."""
        if name not in self._counters:
            self._counters.append(name)
        return f"counter name {name}"

    def base(self, name: str, hook: str) -> list[str]:
        """The rules of a base chain, to be added to. Where none decides, the packet passes."""
        return self._bases.setdefault(name, [f"type {hook}; policy accept;"])

    def chain(self, name: str) -> list[str]:
        """The rules of a chain, to be added to."""
        return self._chains.setdefault(self.named(name), [])

    def lasting(self, name: str, rules: Iterable[str]) -> str:
        """Adds a chain that says the same whenever it has that name; returns it as rules name it."""
        self._lasting[f"chain {_LASTING}{name}"] = [*rules]
        return f"{_LASTING}{name}"

    def lasting_map(self, name: str, of: str, elements: Iterable[str], *options: str) -> str:
        """As `map`, of one that has the same elements whenever it has that name."""
        self._lasting[f"map {_LASTING}{name}"] = [of, *options, f"elements = {{ {', '.join(elements)} }}"]
        return f"@{_LASTING}{name}"

    def set(self, kind: str, name: str, lines: Iterable[str]) -> str:
        """Adds a set or a map; returns it as rules name it."""
        head = f"{kind} {self.named(name)}"
        self._sets[head] = _block(head, lines)
        return f"@{self.named(name)}"

    def map(self, name: str, of: str, elements: Iterable[str], *options: str) -> str:
        """Adds a map, whose type is as nft says it; returns it as rules name it."""
        return self.set("map", name, [of, *options, f"elements = {{ {', '.join(elements)} }}"])

    def text(self) -> str:
        """What `steps` divides; all of it at once is taken as well."""
        replaces = _head(self._replaces or "")
        left = _LEFT.findall(replaces)
        # What the one before did not need any more is there until this one is in force.
        there = {*_LASTS.findall(replaces), *left}
        new = {name: lines for name, lines in self._lasting.items() if name not in there}
        inner = [_block(f"counter {name}", ()) for name in self._counters]
        # Maps first: chains look them up.
        inner += [_block(name, new[name]) for name in sorted(new, reverse=True)]
        inner += self._sets.values()
        inner += [_block(f"chain {name}", rules) for name, rules in self._chains.items()]
        bare = [_block(f"chain {name}", rules[:1]) for name, rules in self._bases.items()]
        full = [_block(f"chain {name}", rules) for name, rules in self._bases.items()]
        lines = [f"# {self._letter}"]
        if self._replaces is None:
            lines += [f"{verb} table inet {NAME}" for verb in ("add", "delete", "add")]
        else:
            before = _MAKES.findall(replaces) + _LASTS.findall(replaces)
            lines += [f"# leaves {each}" for each in before if each not in self._lasting]
            lines.append(f"add table inet {NAME}")
        # What is asked of a text is in its first lines, for all of it may be long.
        made = [*self._sets, *(f"chain {name}" for name in self._chains)]
        lines[1:1] = [f"# lasts {each}" for each in self._lasting] + [f"# brings {each}" for each in new]
        lines[1:1] = [f"# makes {each}" for each in made]
        # Maps lead to chains, so those have to be there.
        lines += [f"add {each.replace(' ', f' inet {NAME} ')}" for each in new if each.startswith("chain ")]
        lines += [f"add chain inet {NAME} {name}" for name in self._chains]
        lines += [f"table inet {NAME} {{", *inner, "}"]
        if self._replaces is not None:
            lines += [_SWITCH, f"table inet {NAME} {{", *bare, "}"]
            lines += [f"flush chain inet {NAME} {name}" for name in self._bases]
        lines += [f"table inet {NAME} {{", *full, "}"]
        return "\n".join([*lines, *_removal(each for each in left if each not in self._lasting), ""])


def named_in(text: str, name: str) -> str:
    """As rules of a text name a chain, a set or a map."""
    return f"{text[2]}_{name}"


def steps(text: str) -> list[str]:
    """A text of a table as transactions, to be done one after the other; the last one puts it in force."""
    before, switch, after = text.partition(f"{_SWITCH}\n")
    return [before, after] if switch else [before]


def discarded(text: str) -> str:
    """The transaction that takes away what the steps of a text brought, when the last one was not done."""
    head = _head(text)
    return "\n".join([*_removal(_MAKES.findall(head) + _BRINGS.findall(head)), ""])


def _head(text: str) -> str:
    """The first lines of a text, which say what it makes, and leaves to the next one."""
    return text.partition("\nadd ")[0]


def _removal(objects: Iterable[str]) -> list[str]:
    """Of chains and maps, each as "map NAME", that nobody looks up or leads to but they themselves."""
    pairs = [(kind, name) for kind, _, name in (each.partition(" ") for each in objects)]
    chains = [name for kind, name in pairs if kind == "chain"]
    lines = [f"flush chain inet {NAME} {name}" for name in chains]
    lines += [f"delete {kind} inet {NAME} {name}" for kind, name in pairs if kind != "chain"]
    return lines + [f"delete chain inet {NAME} {name}" for name in chains]


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  {head} {{", *(f"    {line}" for line in lines), "  }"])
