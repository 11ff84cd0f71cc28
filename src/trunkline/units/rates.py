"""Rates of a policy as limits of nftables."""

from __future__ import annotations

from trunkline.resources.appliance_policy import Rate

_UNITS = ((1, "second"), (60, "minute"), (3600, "hour"), (86400, "day"))


def limit(rate: Rate, share: float, *, over: bool = False) -> str:
    """A data plane's share of a rate: at once as much as in the rate's own time, and never nothing."""
    here = rate.count * share
    counts = [(here * seconds / rate.seconds, unit) for seconds, unit in _UNITS]
    count, unit = next((each for each in counts if each[0] >= 1), (1, "day"))
    which = "over " if over else ""
    return f"limit rate {which}{round(count)}/{unit} burst {max(1, round(here))} packets"
