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
from trunkline.units.fabric import Blocks, Fabric
from trunkline.units.ruleset import Endpoint, published, translated

#: How long flows of a policy that is not in force any more are spread as they were, seconds.
KEPT = 600.0


class Ends:
    """Owns what the fabric's programs know of the policy."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._legs: Sequence[LegSlice] = ()
        #: What was made ready last, and what is in force.
        self._prepared = Policy()
        self._policy: Policy | None = None
        self._published: set[Endpoint] = set()
        self._blocks: dict[str, Blocks] = {}
        self._next: tuple[set[Endpoint], dict[str, Blocks]] = (set(), {})
        #: Of former policies, and until when.
        self._old: dict[Endpoint, float] = {}
        self._old_blocks: dict[str, tuple[Blocks, float]] = {}
        self._told: set[Endpoint] = set()
        self._told_blocks: dict[str, Blocks] = {}

    def fit(self, legs: Sequence[LegSlice]) -> None:
        """These are the legs, for which policies are."""
        self._legs = legs
        self._next = (self._next[0], translated(self._prepared, legs))
        if self._policy is not None:
            self._blocks = translated(self._policy, legs)
        self._tell()

    def prepare(self, policy: Policy) -> None:
        """This policy may be in force soon."""
        self._prepared = policy
        self._next = (published(policy), translated(policy, self._legs))
        self._tell()

    def commit(self, now: float) -> None:
        """It is."""
        self._policy = self._prepared
        published_, blocks = self._next
        self._old |= dict.fromkeys(self._published - published_, now + KEPT)
        self._old_blocks |= {
            address: (block, now + KEPT) for address, block in self._blocks.items() if address not in blocks
        }
        self._published, self._blocks = published_, blocks
        self.expire(now)

    def expire(self, now: float) -> None:
        """Forgets what is too old."""
        self._old = {
            end: until for end, until in self._old.items() if until > now and end not in self._published
        }
        self._old_blocks = {
            address: (block, until)
            for address, (block, until) in self._old_blocks.items()
            if until > now and address not in self._blocks
        }
        self._tell()

    def _tell(self) -> None:
        ends = self._published | {
            end for end in (*self._next[0], *self._old) if not _translates(self._blocks, end)
        }
        blocks = self._next[1] | {address: block for address, (block, _) in self._old_blocks.items()}
        blocks |= self._blocks
        for address, block in blocks.items():
            if self._told_blocks.get(address) != block:
                self._fabric.tell_blocks({address: block})
        for end in ends - self._told:
            self._fabric.tell_published(*end)
        for end in self._told - ends:
            self._fabric.untell_published(*end)
        for address in self._told_blocks.keys() - blocks.keys():
            self._fabric.untell_blocks(address)
        self._told, self._told_blocks = ends, blocks


def _translates(blocks: dict[str, Blocks], end: Endpoint) -> bool:
    """Whether sources are translated to it."""
    address, port, _ = end
    return address in blocks and (not port or port >= blocks[address].first)
