"""The one page that turns errors into status codes."""

from __future__ import annotations

from trunkline import errors

#: From the most general to the most special: the last class that fits decides.
STATUS: tuple[tuple[type[errors.Refusal], int], ...] = (
    (errors.Refusal, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.BadRequest, 400),
    (errors.Conflict, 409),
    (errors.Stale, 412),
    (errors.OverQuota, 409),
    (errors.TooMany, 429),
    (errors.Unavailable, 503),
)


def status_of(error: errors.Refusal) -> int:
    """The HTTP status of an error (RFC 9110; 429 is RFC 6585)."""
    status = 400
    for kind, code in STATUS:
        if isinstance(error, kind):
            status = code
    return status
