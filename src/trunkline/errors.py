"""Every error that a request or an operation can end in; no HTTP here.

    Refusal                 the request cannot be granted; nothing was done
    |-- Unauthenticated     who asks is not known
    |-- Forbidden           who asks may not
    |-- NotFound            the thing named is not there (or not visible to who asks)
    |-- BadRequest          the request is malformed
    |   `-- BadField        ... in one field, which is named
    |-- Conflict            it contradicts what is there
    |   |-- InUse           ... because something else refers to it
    |   |-- Exhausted       ... because no address, number or place is left
    |   `-- Stale           ... because the caller's revision is old
    |-- OverQuota           a quota is spent
    |-- TooMany             asked too often: try again later
    `-- Unavailable         cannot be served just now

`api.statuses` is the one page that turns these into status codes.
"""

from __future__ import annotations

#: The longest message and the longest name of a field, characters: a megabyte that came is not sent back.
_LONGEST, _LONGEST_FIELD = 1000, 300


def _shortened(text: str, most: int) -> str:
    """The text, without its middle where it is too long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} ... {text[-(most // 2 - 5) :]}"


class Refusal(Exception):
    """A request that is not granted. `message` is for the caller, and says the remedy.

    `type` is the name that clients of the network API look at (``NeutronError.type``), by
    default the name of the class.
    """

    def __init__(self, message: str, *, type: str = "", field: str = "") -> None:
        message = _shortened(message, _LONGEST)
        super().__init__(message)
        self.message = message
        self.type = type or self.__class__.__name__
        self.field = _shortened(field, _LONGEST_FIELD)


class Unauthenticated(Refusal):
    """No token, or one that is not valid."""


class Forbidden(Refusal):
    """The access rules do not allow this."""


class NotFound(Refusal):
    """No such thing, or it is not visible to who asks."""


class BadRequest(Refusal):
    """The request is malformed."""


class BadField(BadRequest):
    """One field is wrong. `field` is its wire name, with a path for nested ones."""

    def __init__(self, field: str, problem: str, *, type: str = "") -> None:
        field = _shortened(field, _LONGEST_FIELD)
        super().__init__(f"Invalid input for {field}: {problem}", type=type, field=field)


class Conflict(Refusal):
    """It contradicts what is there."""


class InUse(Conflict):
    """Something else still refers to it."""


class Exhausted(Conflict):
    """No address, number or host is left."""


class Stale(Conflict):
    """The revision that the caller holds is not the newest."""


class OverQuota(Refusal):
    """A quota of the project is spent."""


class TooMany(Refusal):
    """Asked too often; `retry_after` in seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """Cannot be served just now."""
