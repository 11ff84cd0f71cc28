"""The ends of flows that a policy translates, as a dispatcher has to know them, while policies change too.

What a new policy translates is known before any data plane does it, or both directions of the first flows
would not meet; what only an old one did, for as long as flows of it may be there. Neither may lead others
astray: where a port of an address would be published, and is one that sources are translated to, what is in
force decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.compiler.unit_slices import LegSlice
from trunkline.resources.appliance_policy import Policy
from trunkline.units.fabric import Blocks, Fabric, Subscribers
from trunkline.units.ruleset import Endpoint, published
from trunkline.units.translation import sources

#: How long flows of a policy that is not in force any more are spread as they were, seconds.
KEPT = 600.0


#: By addresses, and by prefixes of subscribers.
_Sources = dict[str, Blocks | Subscribers]


class Ends:
    """Owns what the fabric's programs know of the policy."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._legs: Sequence[LegSlice] = ()
        #: What was made ready last, and what is in force.
        self._prepared = Policy()
        self._policy: Policy | None = None
        self._published: set[Endpoint] = set()
        self._sources: _Sources = {}
        self._next: tuple[set[Endpoint], _Sources] = (set(), {})
        #: Of former policies, and until when.
        self._old: dict[Endpoint, float] = {}
        self._old_sources: dict[str, tuple[Blocks | Subscribers, float]] = {}
        self._told: set[Endpoint] = set()
        self._told_sources: _Sources = {}

    def fit(self, legs: Sequence[LegSlice]) -> None:
        """These are the legs, for which policies are."""
        self._legs = legs
        self._next = (self._next[0], sources(self._prepared, legs))
        if self._policy is not None:
            self._sources = sources(self._policy, legs)
        self._tell()

    def prepare(self, policy: Policy) -> None:
        """This policy may be in force soon."""
        self._prepared = policy
        self._next = (published(policy), sources(policy, self._legs))
        self._tell()

    def commit(self, now: float) -> None:
        """It is."""
        self._policy = self._prepared
        published_, sources_ = self._next
        self._old |= dict.fromkeys(self._published - published_, now + KEPT)
        self._old_sources |= {
            name: (told, now + KEPT) for name, told in self._sources.items() if name not in sources_
        }
        self._published, self._sources = published_, sources_
        self.expire(now)

    def expire(self, now: float) -> None:
        """Forgets what is too old."""
        self._old = {
            end: until for end, until in self._old.items() if until > now and end not in self._published
        }
        self._old_sources = {
            name: (told, until)
            for name, (told, until) in self._old_sources.items()
            if until > now and name not in self._sources
        }
        self._tell()

    def _tell(self) -> None:
        ends = self._published | {
            end for end in (*self._next[0], *self._old) if not _translates(self._sources, end)
        }
        all_sources: _Sources = {
            name: told
            for name, told in (
                self._next[1] | {n: told for n, (told, _) in self._old_sources.items()}
            ).items()
            # The longest prefix tells the subscriber: none may be there but those in force.
            if isinstance(told, Blocks)
        }
        all_sources |= self._sources
        for name, told in all_sources.items():
            if self._told_sources.get(name) != told:
                self._fabric.tell_sources({name: told})
        for end in ends - self._told:
            self._fabric.tell_published(*end)
        for end in self._told - ends:
            self._fabric.untell_published(*end)
        for name in self._told_sources.keys() - all_sources.keys():
            self._fabric.untell_source(name)
        self._told, self._told_sources = ends, all_sources


def _translates(sources: _Sources, end: Endpoint) -> bool:
    """Whether sources are translated to it."""
    address, port, _ = end
    blocks = sources.get(address)
    return isinstance(blocks, Blocks) and (not port or port >= blocks.first)
