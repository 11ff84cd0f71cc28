"""What the programs say, a JSON line each, and what they can be told.

Times are seconds of the machine's monotonic clock, the same for all processes; spans are seconds too.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Why = Literal["reset", "closed", "wrong byte", "silent"]
Side = Literal["near", "far"]


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """From sending to the answer's last byte; quantiles to within 2%. Of flows, until the kernel had it, and
    without the time for which the far end did.

    Put together of several processes', quantiles are those of the slowest.
    """

    count: int = 0
    median: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between a mark and the next one."""

    #: The mark; "" before the first.
    name: str
    began: float
    #: The longest time without an answer of a flow whose next one was to come in this period; and which flow.
    longest_gap: float = 0.0
    flow: int = -1
    connections: Delays = Delays()
    flows: Delays = Delays()
    #: How late the program itself was, that of the flows where there are any: what is above is not known
    #: better than that.
    own: Delays = Delays()
    #: Of `flows`, how many there were in each bucket of a `tally.Histogram`.
    flow_buckets: dict[int, int] = {}


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag="listening"):
    """The far end takes connections and datagrams."""

    at: float


class SetUp(msgspec.Struct, frozen=True, kw_only=True, tag="set up"):
    """Every connection has been made, or refused."""

    at: float
    established: int
    refused: int


class Live(msgspec.Struct, frozen=True, kw_only=True, tag="live"):
    """Once a second: how it stands, and what was seen since the last time."""

    at: float
    opening: int
    established: int
    refused: int
    #: How many broke so far, by cause.
    broken: dict[str, int]
    sent: int
    answered: int
    #: The longest time without an answer of a flow that ended, or goes on, since the last time.
    longest_gap: float
    #: Flows that wait for an answer longer than `gap` of the plan now.
    silent_flows: int
    connections: Delays
    flows: Delays
    own: Delays


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag="broken"):
    """An established connection that is no more, or does not carry what was sent."""

    at: float
    side: Side
    connection: int
    why: Why
    #: Which byte of its stream; of those that fell silent, the first that did not come back.
    position: int
    #: When the last answer came, and the marks since then, the one that held at that time first.
    good: float
    #: When it was begun, as far as this end knows; 0: it does not.
    made: float = 0.0
    marks: tuple[str, ...] = ()
    detail: str = ""


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag="returned"):
    """A connection that had fallen silent, and answered after all. It counts as broken."""

    at: float
    connection: int
    silent: float


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A connection that was not to be had."""

    at: float
    connection: int
    why: str


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """A flow had no answer for longer than `gap` of the plan."""

    flow: int
    began: float
    seconds: float
    mark: str
    #: How late the program itself was meanwhile, at most.
    own: float


class Altered(msgspec.Struct, frozen=True, kw_only=True, tag="altered"):
    """A datagram that is not what was sent."""

    at: float
    side: Side
    flow: int


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """The far end sees a flow come from elsewhere than before: its translation was forgotten."""

    at: float
    flow: int
    before: str
    after: str


class Marked(msgspec.Struct, frozen=True, kw_only=True, tag="marked"):
    """A mark was set."""

    at: float
    name: str


class NearTotal(msgspec.Struct, frozen=True, kw_only=True, tag="near total"):
    """At the end."""

    at: float
    established: int
    refused: int
    broken: dict[str, int]
    #: Connections that never broke, and whose time was over.
    ended: int
    #: Connections that never broke, and whose last bytes had not come back when the program was to end.
    unanswered: int
    #: Of connections, sent and compared.
    bytes: int
    #: Datagrams.
    sent: int
    answered: int
    longest_gap: float
    connections: Delays
    flows: Delays
    own: Delays
    periods: tuple[Period, ...]
    #: Why the process of the flows does not go before others; "" where it does, and where there are none.
    unscheduled: str = ""


class FarTotal(msgspec.Struct, frozen=True, kw_only=True, tag="far total"):
    """At the end."""

    at: float
    accepted: int
    #: Connections that began with something else, and are none of ours.
    strangers: int
    bytes: int
    datagrams: int
    #: As in `NearTotal`.
    unscheduled: str = ""


Word = (
    Listening
    | SetUp
    | Live
    | Broken
    | Returned
    | Refused
    | Gap
    | Altered
    | Moved
    | Marked
    | NearTotal
    | FarTotal
)


class Mark(msgspec.Struct, frozen=True, kw_only=True, tag="mark"):
    """Whatever happens from now on is counted for this."""

    name: str


class End(msgspec.Struct, frozen=True, tag="end"):
    """Send no more, hear what is on its way, say the total. The end of standard input means the same."""


Command = Mark | End
