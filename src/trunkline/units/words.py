"""What the units of an appliance say to each other on the out-of-band bus.

    manager ── Members, Shards, Prepare, Commit, Hand, Forget ──▶ data plane, dispatcher
            ────────────────────── Suspect ──────────────────────▶ data plane, dispatcher
            ────────────────── Aside, Retake ────────────────────▶ dispatcher
            ◀───────────────── Done, Said, Has ──────────────────
    data plane ── Entries ──▶ data plane
    agent ── Bequest ──▶ data plane
    manager ── Beat ──▶ manager

A manager connects to every unit and to the other manager, and begins with `Lead`: who has followed one with
a higher epoch refuses. Whatever a manager says is done in its order, `Suspect` alone at once, and answered by
one `Done` with the same number. A unit says by itself how it is (`Said`), once a second and
when that changes, and which shards are whose (`Has`) when somebody wants to lead it, and when it changed that
by itself. `wire.Wire` carries them.
"""

from __future__ import annotations

import msgspec

from trunkline.compiler.unit_slices import BusMember
from trunkline.resources.reports import UnitStatus

#: TCP, on the out-of-band address of every unit.
PORT = 7000
NOBODY = -1


class Lead(msgspec.Struct, frozen=True, tag=True):
    """From now on a unit follows this manager. Answered by `Done`, whose problem says who leads instead."""

    n: int
    epoch: int
    #: The manager's number; of two with one epoch, the higher leads.
    manager: int


class Members(msgspec.Struct, frozen=True, tag=True):
    """Who there is."""

    n: int
    members: tuple[BusMember, ...]


class ShardWord(msgspec.Struct, frozen=True, array_like=True):
    """A shard by its number, and the units that have it, by theirs; `NOBODY` where there is none."""

    shard: int
    owner: int
    #: Who has a copy, and takes over when the owner does not answer: a dispatcher does so by itself.
    second: int = NOBODY
    #: Who has flows of it still that the owner may not know.
    former: int = NOBODY
    #: What the owner does not know is the former one's, and begins there: who does not know all connections
    #: of a shard might give one the port of another.
    begins: bool = False


class Shards(msgspec.Struct, frozen=True, tag=True):
    """Who has these shards; others stay as they are. A data plane that owns one keeps its second informed.

    A dispatcher that is new gets them after the policy: with them, it may serve legs.
    """

    n: int
    shards: tuple[ShardWord, ...]


class Suspect(msgspec.Struct, frozen=True, tag=True):
    """A unit's connection ended, as when its process does: a dispatcher looks at once whether it is there,
    and a data plane that gives it flows stops waiting for it.
    """

    n: int
    unit: int


class Aside(msgspec.Struct, frozen=True, tag=True):
    """A dispatcher is to serve no leg for so many seconds: it is cut off from one that serves."""

    n: int
    seconds: float


class Retake(msgspec.Struct, frozen=True, tag=True):
    """A dispatcher is to take the legs that it serves anew: one that it does not hear may have taken them."""

    n: int


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """A unit is to make ready what it would do by this policy, and change nothing yet.

    A document is thousands of rules, perhaps: who passes it on leaves it as it came (`documents`).
    """

    n: int
    revision: int
    document: msgspec.Raw
    #: As `PolicySlice.tables`; b"" of a manager that does not know of them.
    tables: bytes = b""


class Commit(msgspec.Struct, frozen=True, tag=True):
    """What was prepared last is in force, between one packet and the next."""

    n: int
    revision: int


class Recite(msgspec.Struct, frozen=True, tag=True):
    """A unit is to say which policy it has in force: by `Recited`, before the answer."""

    n: int


class Recited(msgspec.Struct, frozen=True, tag=True):
    """The policy that a unit has in force."""

    revision: int
    document: msgspec.Raw
    tables: bytes = b""


class Hand(msgspec.Struct, frozen=True, tag=True):
    """A data plane is to give all flows of these shards to another one; done when that one has them."""

    n: int
    shards: tuple[int, ...]
    to: int


class Forget(msgspec.Struct, frozen=True, tag=True):
    """A data plane has no flows of these shards any more, nor copies."""

    n: int
    shards: tuple[int, ...]


class Entries(msgspec.Struct, frozen=True, tag=True):
    """Connections of shards that the receiver has, or may get to have: (mark, as `conntrack.Entry.told`)."""

    n: int
    there: tuple[tuple[int, bytes], ...] = ()
    #: (mark, as `conntrack.Entry.name`): these went before others of their names came.
    gone: tuple[tuple[int, bytes], ...] = ()
    #: Of these shards no others are there than these: copies of others are stale.
    all_of: tuple[int, ...] = ()


class Bequest(msgspec.Struct, frozen=True, tag=True):
    """What began lately at a data plane that has died: who has its shard after it, or is to have it, takes
    what it does not know. (mark, as `conntrack.Entry.told`)
    """

    n: int
    #: The dead one.
    unit: int
    there: tuple[tuple[int, bytes], ...]


class Done(msgspec.Struct, frozen=True, tag=True):
    """The answer to what had this number; `problem` says why it was not done, "" where it was."""

    n: int
    problem: str = ""


class Said(msgspec.Struct, frozen=True, tag=True):
    """How a unit is."""

    status: UnitStatus


class Has(msgspec.Struct, frozen=True, tag=True):
    """Whom a unit follows, and the shards as it has them: those that it was told, or took, since it began.

    Said when somebody wants to lead it, before the answer: then it is whom it followed until then. And when a
    dispatcher has switched by itself.
    """

    incarnation: str
    epoch: int
    manager: int
    shards: tuple[ShardWord, ...] = ()


class Beat(msgspec.Struct, frozen=True, tag=True):
    """A manager is there."""

    n: int
    manager: int
    #: The highest that it knows of; its own, where it leads.
    epoch: int
    leads: bool
    #: It would lead, if nobody else did.
    willing: bool = True


Word = (
    Lead
    | Members
    | Shards
    | Suspect
    | Aside
    | Retake
    | Prepare
    | Commit
    | Recite
    | Recited
    | Hand
    | Forget
    | Entries
    | Bequest
    | Done
    | Said
    | Has
    | Beat
)
