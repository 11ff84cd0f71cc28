"""Names in DNS, as the control plane tells them and hosts answer.

The name of an address without one of its own, and the part of many in which a name is told.
"""

from __future__ import annotations

import ipaddress
import re
import zlib

_GENERIC = "host-"
_FOUR = re.compile(r"\d+-\d+-\d+-\d+", re.ASCII)


def generic_name(address: str) -> str:
    """The name that an address without one has: host-10-0-0-5, host-fd00--5."""
    # A label does not end with '-'.
    ending = "0" if address.endswith(":") else ""
    return _GENERIC + address.replace(".", "-").replace(":", "-") + ending


def generic_address(label: str) -> str | None:
    """The address whose `generic_name` a label is, or None."""
    rest = label.removeprefix(_GENERIC)
    if rest == label or rest.count("-") < 2:
        return None
    separator = "." if _FOUR.fullmatch(rest) else ":"
    try:
        found = str(ipaddress.ip_address(rest.replace("-", separator)))
    except ValueError:
        return None
    return found if generic_name(found) == label else None


def part_of(name: str, parts: int) -> int:
    """Which of so many parts a name is told in. A name, and what it is short for, are in the same one."""
    return zlib.crc32(name.partition(".")[0].lower().encode()) % parts
