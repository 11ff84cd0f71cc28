"""The query string of a server list, understood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Text, and_, cast, false, not_, or_, select

from trunkline.api.compute.requests import clean_tag
from trunkline.api.compute.status import NEVER, STATUSES
from trunkline.api.compute.wire import boolean, page_limit, when
from trunkline.api.context import Context
from trunkline.api.query import Query
from trunkline.errors import BadField, Forbidden
from trunkline.resources.compute import Server
from trunkline.resources.network import Port
from trunkline.store import table_of

#: Parameter -> column, compared for equality.
_EQUAL = {
    "image": "image_id", "image_ref": "image_id", "flavor": "flavor_id", "instance_type_id": "flavor_id",
    "availability_zone": "zone", "key_name": "key_name", "reservation_id": "reservation_id",
    "user_id": "user_id", "vm_state": "vm_state", "task_state": "task_state", "uuid": "id",
    "locked_by": "", "host": "host", "node": "host", "launched_at": "launched_at", "created_at": "created_at",
    "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6", "kernel_id": "", "ramdisk_id": "",
    "root_device_name": "", "terminated_at": "", "launch_index": "", "progress": "", "power_state": "",
    "config_drive": "",
}  # fmt: skip
#: Of these, what everybody may filter by; the others are for operators, and ignored for others.
_EVERYBODY = frozenset({"image", "flavor", "reservation_id", "uuid"})
_SINCE_83 = frozenset(
    {
        "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at",
        "power_state", "task_state", "vm_state", "progress", "user_id",
    }
)  # fmt: skip
_TEXT = {"name": "name", "hostname": "hostname", "description": "description"}
_SORT = {
    "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6", "auto_disk_config": "disk_config",
    "availability_zone": "zone", "config_drive": "config_drive", "created_at": "created_at",
    "display_description": "description", "display_name": "name", "host": "host", "hostname": "hostname",
    "image_ref": "image_id", "instance_type_id": "flavor_id", "key_name": "key_name",
    "launch_index": "launch_index", "launched_at": "launched_at", "locked_by": "locked", "locked": "locked",
    "node": "host", "power_state": "power_state", "project_id": "project_id", "task_state": "task_state",
    "updated_at": "updated_at", "user_id": "user_id", "uuid": "id", "vm_state": "vm_state",
}  # fmt: skip
_TAGS = ("tags", "tags-any", "not-tags", "not-tags-any")


@dataclass(frozen=True)
class Rights:
    """What a caller may ask of a server list."""

    #: By everything there is, not only by what projects know.
    filters: bool = False
    #: The servers of other projects.
    projects: bool = False


def parse(context: Context, rights: Rights, pairs: Sequence[tuple[str, str]], minor: int) -> Query:
    """Understands the query string of a server list.

    Raises:
        BadField: with the parameter named.
        Forbidden: it asks for other projects' servers.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\x00" in value or "\x00" in name:
            raise BadField(name.replace("\x00", "")[:80], "it contains a NUL character. Remove it.")
        given.setdefault(name, []).append(value)
    last = {name: values[-1] for name, values in given.items()}
    servers = table_of(Server)
    where = [*_whose(context, rights, last)]
    where += _state(given, minor)
    where += _times(last, minor)
    for name, column in _EQUAL.items():
        allowed = rights.filters or name in _EVERYBODY or (minor >= 83 and name in _SINCE_83)
        if name in last and allowed and column:
            where.append(servers.c[column] == last[name])
    for name, column in _TEXT.items():
        if name in last:
            where.append(_matches(servers.c[column], name, last[name]))
    for name, family in (("ip", 4), ("ip6", 6)):
        if name in last and (name == "ip" or minor >= 5 or rights.filters):
            where.append(_address(last[name], family))
    if minor >= 26:
        where += _tags(last)
    if minor >= 73 and "locked" in last:
        where.append(servers.c.locked.is_(boolean("locked", last["locked"])))
    if "power_state" in last and (rights.filters or minor >= 83):
        where.append(servers.c.power_state == _number("power_state", last["power_state"]))
    if "config_drive" in last and (rights.filters or minor >= 83):
        where.append(servers.c.config_drive.is_(boolean("config_drive", last["config_drive"])))
    return Query(
        where=tuple(where),
        sort=_sort(given),
        limit=0 if last.get("limit") == "0" else page_limit(last),
        marker=last.get("marker") or None,
    )


def _whose(context: Context, rights: Rights, last: Mapping[str, str]) -> list[ColumnElement[bool]]:
    servers = table_of(Server)
    every = boolean("all_tenants", last["all_tenants"] or "true") if "all_tenants" in last else False
    if every and not rights.projects:
        raise Forbidden("Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.")
    asked = last.get("project_id", last.get("tenant_id"))
    if every and asked:
        return [servers.c.project_id == asked]
    return [] if every else [servers.c.project_id == context.project_id]


def _state(given: Mapping[str, list[str]], minor: int) -> list[ColumnElement[bool]]:
    servers = table_of(Server)
    if "status" not in given:
        if "deleted" in given and boolean("deleted", given["deleted"][-1]):
            # The rows of deleted servers are not kept.
            return [false()]
        return []
    wanted = [value.upper() for value in given["status"]]
    known = [value for value in wanted if value in STATUSES]
    if minor >= 38 and any(value not in STATUSES and value not in NEVER for value in wanted):
        raise BadField("status", "Invalid status value")
    return [servers.c.status.in_(known)] if known else [false()]


def _times(last: Mapping[str, str], minor: int) -> list[ColumnElement[bool]]:
    servers = table_of(Server)
    clauses: list[ColumnElement[bool]] = []
    since = before = ""
    if "changes-since" in last:
        since = when("changes-since", last["changes-since"])
        clauses.append(servers.c.updated_at >= since)
    if minor >= 66 and "changes-before" in last:
        before = when("changes-before", last["changes-before"])
        clauses.append(servers.c.updated_at <= before)
    if since and before and before < since:
        raise BadField("changes-since", "it must be earlier than or equal to changes-before.")
    return clauses


#: A pattern without operators but the anchors, which is what clients send.
_PLAIN = re.compile(r"(\^?)((?:[^\\^$.|?*+()\[\]{}]|\\.|\.)*)(\$?)", re.S)


def _matches(column: ColumnElement[Any], name: str, pattern: str) -> ColumnElement[bool]:
    """Whether a text matches a pattern: a part of it, or with ^ and $ its beginning, its end or all.

    Clients may send regular expressions; of these the anchors are understood, and .* at either end.
    Others would let a caller spend the database's time.
    """
    text = pattern
    starts, ends = text.startswith("^"), text.endswith("$") and not text.endswith("\\$")
    text = text[1:] if starts else text
    text = text[:-1] if ends else text
    while text.startswith(".*"):
        starts, text = False, text[2:]
    while text.endswith(".*"):
        ends, text = False, text[:-2]
    if not _PLAIN.fullmatch(text):
        raise BadField(name, "of regular expressions, ^, $ and .* at either end are understood here.")
    text = re.sub(r"\\(.)", r"\1", text)
    if starts and ends:
        return column == text
    if starts:
        return column.startswith(text, autoescape=True)
    if ends:
        return column.endswith(text, autoescape=True)
    return column.contains(text, autoescape=True)


def _address(pattern: str, family: int) -> ColumnElement[bool]:
    """Whether a port of the server has such an address."""
    ports, servers = table_of(Port), table_of(Server)
    text = pattern.removeprefix("^")
    anchored, ends = pattern != text, text.endswith("$")
    text = text.removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[0-9a-fA-F.:]{0,45}", text):
        raise BadField("ip" if family == 4 else "ip6", f"'{pattern[:60]}' is no part of an address.")
    quote = '"'
    part = f"{quote if anchored else ''}{text}{quote if ends else ''}"
    mine = select(ports.c.device_id).where(cast(ports.c.fixed_ips, Text).contains(part, autoescape=True))
    return servers.c.id.in_(mine)


def _tags(last: Mapping[str, str]) -> list[ColumnElement[bool]]:
    column = cast(table_of(Server).c.tags, Text)

    def has(tag: str) -> ColumnElement[bool]:
        clean_tag("tags", tag)
        return column.contains(msgspec.json.encode(tag).decode(), autoescape=True)

    clauses: list[ColumnElement[bool]] = []
    for name in _TAGS:
        if name not in last:
            continue
        each = [has(tag) for tag in last[name].split(",")]
        joined = or_(*each) if name.endswith("-any") else and_(*each)
        clauses.append(not_(joined) if name.startswith("not-") else joined)
    return clauses


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadField(name, f"'{text[:40]}' is not a number.")
    return int(text)


def _sort(given: Mapping[str, list[str]]) -> tuple[tuple[str, bool], ...]:
    keys, directions = given.get("sort_key", []), given.get("sort_dir", [])
    result: list[tuple[str, bool]] = []
    for index, key in enumerate(keys):
        if key not in _SORT:
            raise BadField("sort_key", f"'{key[:80]}' is not an attribute of servers to sort by.")
        direction = directions[index] if index < len(directions) else "desc"
        if direction not in ("asc", "desc"):
            raise BadField("sort_dir", f"'{direction[:40]}' is not a direction. Use asc or desc.")
        result.append((_SORT[key], direction == "asc"))
    if len(directions) > max(1, len(keys)):
        raise BadField("sort_dir", "there are more directions than keys.")
    if "created_at" not in keys:
        result.append(("created_at", False))
    if "uuid" not in keys:
        result.append(("id", False))
    return tuple(dict(result).items())
