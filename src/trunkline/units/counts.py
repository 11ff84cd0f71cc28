"""What a data plane's table has counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from trunkline.units.tables import NAME

#: What to ask nft(8) for: drops by reason, which is little; rules, which is as much as there are rules.
DROPS = ("nft", "-j", "list", "counters", "table", "inet", NAME)
RULES = ("nft", "-j", "list", "table", "inet", NAME)
_DROPPED = "dropped_"


def drops(answer: str) -> dict[str, int]:
    """Packets by reason, since the unit began, from the answer to `DROPS`.

    Reasons: ``invalid`` (of no connection that is known), ``default`` (no rule fits), ``rate``, ``syn``,
    ``untranslatable`` (has no ports), ``own`` (was for the appliance itself). Rules that drop are not among
    them: each counts for itself.
    """
    counters = (each["counter"] for each in json.loads(answer)["nftables"] if "counter" in each)
    return {each["name"].removeprefix(_DROPPED): int(each["packets"]) for each in counters}


def rules(answer: str) -> dict[int, int]:
    """Connections that met each rule since the policy was set, by its number there. From `RULES`."""
    found: Counter[int] = Counter()
    listed = json.loads(answer)["nftables"]
    # Maps of the policy before are there still; no rule looks them up.
    used = set(re.findall(r'"@(\w+)"', json.dumps([each["rule"] for each in listed if "rule" in each])))
    for each in listed:
        if each.get("map", {}).get("name") not in used:
            continue
        for element in each.get("map", {}).get("elem", ()):
            told: Any = element[0].get("elem", {}) if isinstance(element[0], dict) else {}
            if "counter" in told and "comment" in told:
                found[int(told["comment"])] += int(told["counter"]["packets"])
    return dict(found)
