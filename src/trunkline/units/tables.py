"""A table of nftables (nft(8)) as it is written, and as it takes the place of another one.

Base chains and counters stay, for ever; what is in the chains goes and comes in one transaction. A new base
chain in place of an old one would not do: the kernel has both in its list for a moment, and each of them is
in force or not at the moment when a packet comes to it, so that a packet on its way through the list may meet
neither. A chain that stays has, for any packet, the old rules or the new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NAME = "appliance"
_OBJECT = re.compile(r"^  (map|set|chain) (\S+) \{$", re.MULTILINE)


class Table:
    """What is to be in the table: names are unique by kind."""

    def __init__(self) -> None:
        self._counters: list[str] = []
        self._sets: list[str] = []
        self._bases: dict[str, list[str]] = {}
        self._chains: dict[str, list[str]] = {}

    def counter(self, name: str) -> str:
        """One that counts on when rules change; returns what a rule says to count."""
        if name not in self._counters:
            self._counters.append(name)
        return f"counter name {name}"

    def base(self, name: str, hook: str) -> list[str]:
        """The rules of a base chain, to be added to. Where none decides, the packet passes."""
        return self._bases.setdefault(name, [f"type {hook}; policy accept;"])

    def chain(self, name: str, rules: Iterable[str] = ()) -> list[str]:
        """The rules of a chain, to be added to."""
        return self._chains.setdefault(name, list(rules))

    def set(self, kind: str, name: str, lines: Iterable[str]) -> None:
        """A set or a map."""
        self._sets.append(_block(f"{kind} {name}", lines))

    def text(self, replaces: str | None) -> str:
        """The transaction, for ``nft -f -``.

        `replaces` is the text that is in force, "" where there is none; None where that is not known: then
        all is made anew, base chains and counters too.
        """
        before = [f"add table inet {NAME}"]
        if replaces is None:
            before += [f"delete table inet {NAME}", f"add table inet {NAME}"]
        else:
            gone = [(kind, name) for kind, name in _OBJECT.findall(replaces) if name not in self._bases]
            # Maps first: they lead to chains.
            gone.sort(key=lambda each: each[0] == "chain")
            before.append(f"flush table inet {NAME}")
            before += [f"delete {kind} inet {NAME} {name}" for kind, name in gone]
        blocks = [_block(f"counter {name}", ()) for name in self._counters]
        blocks += self._sets
        # Those that are led to come first.
        blocks += [_block(f"chain {name}", rules) for name, rules in reversed(self._chains.items())]
        blocks += [_block(f"chain {name}", rules) for name, rules in self._bases.items()]
        declared = [f"add chain inet {NAME} {name}" for name in self._chains]
        return "\n".join([*before, *declared, f"table inet {NAME} {{", *blocks, "}", ""])


def _block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  {head} {{", *(f"    {line}" for line in lines), "  }"])
