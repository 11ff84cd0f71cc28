"""What requests for servers say: the bodies of create, update and rebuild, checked field by field."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec import field as named

from trunkline.api.compute.networking import items_of
from trunkline.api.compute.wire import Body, boolean, labels, only, printable_name, shaped, whole
from trunkline.errors import BadField
from trunkline.resources.types import ip_address

#: Field of a create request -> the microversion that it came with.
_SINCE = {
    "description": 19, "tags": 52, "trusted_image_certificates": 63, "host": 74, "hypervisor_hostname": 74,
    "hostname": 90,
}  # fmt: skip
#: The most bytes of user data, encoded.
USER_DATA = 65535
_HOST = re.compile(r"[a-zA-Z0-9._\-]{1,255}")
#: The most servers that one request makes.
MOST_AT_ONCE = 100


class ServerBody(Body):
    """The fields of `server` in a create request."""

    name: Any
    flavor_ref: Any = named(name="flavorRef")
    image_ref: Any = named(name="imageRef", default=UNSET)
    admin_pass: Any = named(name="adminPass", default=None)
    metadata: Any = UNSET
    networks: Any = None
    disk_config: Any = named(name="OS-DCF:diskConfig", default="MANUAL")
    access_v4: Any = named(name="accessIPv4", default="")
    access_v6: Any = named(name="accessIPv6", default="")
    personality: Any = UNSET
    availability_zone: Any = UNSET
    block_device_mapping: Any = UNSET
    block_device_mapping_v2: Any = UNSET
    config_drive: Any = False
    key_name: Any = UNSET
    min_count: Any = 1
    max_count: Any = UNSET
    return_reservation_id: Any = False
    security_groups: Any = UNSET
    user_data: Any = UNSET
    description: Any = UNSET
    tags: Any = UNSET
    trusted_image_certificates: Any = UNSET
    host: Any = UNSET
    hypervisor_hostname: Any = UNSET
    hostname: Any = UNSET


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A create request, understood."""

    name: str
    flavor: str
    image: str
    networks: Any
    count: int = 1
    least: int = 1
    password: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    description: str | None = None
    disk_config: str = "MANUAL"
    access_v4: str = ""
    access_v6: str = ""
    #: zone, zone:host or "".
    zone: str = ""
    host: str = ""
    config_drive: bool = False
    key_name: str | None = None
    reservation: bool = False
    groups: tuple[str, ...] = ()
    user_data: str = ""
    hostname: str = ""
    hints: Mapping[str, list[str]] = field(default_factory=dict)


def understand_create(body: Any, minor: int) -> Wanted:
    """A create request's body.

    Raises:
        BadField: with the field named.
    """
    if not isinstance(body, dict):
        raise BadField("server", "the body must be a JSON object with the key 'server'.")
    only(body, {"server", "os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"})
    given = shaped(body.get("server"), ServerBody, "server")
    for name, since in _SINCE.items():
        if minor < since and getattr(given, name) is not UNSET:
            raise BadField(name, f"it is there from microversion 2.{since} on.")
    _refuse_others(given, minor)
    least = whole("min_count", given.min_count, 1, MOST_AT_ONCE)
    if given.max_count is UNSET:
        most = least
    else:
        most = whole("max_count", given.max_count, 1, MOST_AT_ONCE)
    if least > most:
        raise BadField("min_count", "min_count must be <= max_count.")
    host = _either_host(given)
    return Wanted(
        name=printable_name("name", given.name),
        flavor=_last_part("flavorRef", given.flavor_ref),
        image=image_ref(given.image_ref, given.block_device_mapping_v2),
        networks=items_of(given.networks, minor),
        count=most,
        least=least,
        password=_password(given.admin_pass),
        metadata={} if given.metadata is UNSET else labels("metadata", given.metadata),
        tags=() if given.tags is UNSET else clean_tags("tags", given.tags),
        description=None if given.description is UNSET else description(given.description),
        disk_config=disk_config(given.disk_config),
        access_v4=access("accessIPv4", given.access_v4, 4),
        access_v6=access("accessIPv6", given.access_v6, 6),
        zone="" if given.availability_zone is UNSET else _zone(given.availability_zone),
        host=host,
        config_drive=boolean("config_drive", given.config_drive),
        key_name=None if given.key_name is UNSET else printable_name("key_name", given.key_name),
        reservation=boolean("return_reservation_id", given.return_reservation_id),
        groups=() if given.security_groups is UNSET else _groups(given.security_groups),
        user_data="" if given.user_data is UNSET else user_data(given.user_data),
        hostname="" if given.hostname is UNSET else host_name(given.hostname, minor),
        hints=_hints(body.get("os:scheduler_hints", body.get("OS-SCH-HNT:scheduler_hints", {}))),
    )


def _refuse_others(given: ServerBody, minor: int) -> None:
    if given.personality is not UNSET and (minor >= 57 or given.personality):
        raise BadField("personality", "files cannot be injected. Use user_data.")
    if given.block_device_mapping is not UNSET and given.block_device_mapping:
        raise BadField("block_device_mapping", "volumes are not offered here. Boot from an image.")
    if given.trusted_image_certificates is not UNSET and given.trusted_image_certificates:
        raise BadField("trusted_image_certificates", "signatures of images are not checked here. Remove it.")


def image_ref(value: Any, mapping: Any) -> str:
    """The image to boot from: `imageRef`, or a block device mapping that says no more than it.

    Raises:
        BadField: it is none, or volumes are asked for.
    """
    ref = "" if value is UNSET or value is None else value
    if not isinstance(ref, str):
        raise BadField("imageRef", "it must be the id of an image.")
    if mapping is not UNSET and mapping:
        if not isinstance(mapping, list) or not all(isinstance(each, dict) for each in mapping):
            raise BadField("block_device_mapping_v2", "it must be a list of JSON objects.")
        only_one = mapping[0] if len(mapping) == 1 else {}
        if (
            only_one.get("source_type") != "image"
            or only_one.get("destination_type", "local") != "local"
            or not isinstance(only_one.get("uuid"), str)
        ):
            raise BadField(
                "block_device_mapping_v2",
                "volumes are not offered here. Give one entry with source_type image and destination_type "
                "local, or imageRef.",
            )
        if ref and ref != only_one["uuid"]:
            raise BadField("block_device_mapping_v2", "it names another image than imageRef.")
        ref = only_one["uuid"]
    if not ref:
        raise BadField("imageRef", "Invalid imageRef provided. Give the id of an image to boot from.")
    try:
        return str(uuid.UUID(ref.rpartition("/")[2]))
    except ValueError:
        raise BadField("imageRef", f"'{ref[:80]}' is not the id of an image, a UUID.") from None


def _last_part(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        raise BadField(name, "it must be the id of a flavor.")
    return str(value).rstrip("/").rpartition("/")[2]


def _password(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 255:
        raise BadField("adminPass", "it must be a text of up to 255 characters.")
    return value


def description(value: Any) -> str | None:
    """A description.

    Raises:
        BadField: it is none.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 255 or not value.replace("\n", "").isprintable():
        raise BadField("description", "it is a text of up to 255 printable characters, or null.")
    return value


def disk_config(value: Any) -> str:
    """AUTO or MANUAL.

    Raises:
        BadField: it is neither.
    """
    if value not in ("AUTO", "MANUAL"):
        raise BadField("OS-DCF:diskConfig", "it must be AUTO or MANUAL.")
    return str(value)


def access(name: str, value: Any, family: int) -> str:
    """An address for people to reach a server at.

    Raises:
        BadField: it is none of the family.
    """
    if value in ("", None):
        return ""
    try:
        address = ip_address(value) if isinstance(value, str) else ""
    except ValueError:
        address = ""
    if not address or (6 if ":" in address else 4) != family:
        raise BadField(name, f"'{str(value)[:80]}' is not an IPv{family} address.")
    return address


def _zone(value: Any) -> str:
    return printable_name("availability_zone", value)


def _either_host(given: ServerBody) -> str:
    for name in ("host", "hypervisor_hostname"):
        value = getattr(given, name)
        if value is UNSET:
            continue
        if not isinstance(value, str) or not _HOST.fullmatch(value):
            raise BadField(name, "it must be the name of a host.")
        other = given.hypervisor_hostname
        if name == "host" and other not in (UNSET, value):
            raise BadField("hypervisor_hostname", "it names another host than host.")
        return value
    return ""


def _groups(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 128:
        raise BadField("security_groups", "it must be a list of JSON objects with a name.")
    names = []
    for index, item in enumerate(value):
        where = f"security_groups[{index}]"
        if not isinstance(item, dict) or set(item) != {"name"}:
            raise BadField(where, "it must be a JSON object with a name, and nothing else.")
        names.append(printable_name(f"{where}.name", item["name"]))
    return tuple(dict.fromkeys(names))


def user_data(value: Any) -> str:
    """User data, encoded.

    Raises:
        BadField: it is not base64, or too long.
    """
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > USER_DATA:
        raise BadField("user_data", f"it is base64 of up to {USER_DATA} characters.")
    text = re.sub(r"\s", "", value)
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadField("user_data", "it is not base64. Encode it.") from None
    return text


_TAG = re.compile(r"[^,/]{1,60}")


def clean_tags(name: str, value: Any) -> tuple[str, ...]:
    """Tags of a server.

    Raises:
        BadField: they are malformed, or too many.
    """
    if not isinstance(value, list) or len(value) > 50:
        raise BadField(name, "it must be a list of up to 50 tags.")
    return tuple(dict.fromkeys(clean_tag(name, tag) for tag in value))


def clean_tag(name: str, tag: Any) -> str:
    """A tag of a server.

    Raises:
        BadField: it is none.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag) or "\x00" in tag:
        raise BadField(name, f"'{str(tag)[:80]}' is no tag: 1 to 60 characters, no comma and no slash.")
    return tag


_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?"
_HOSTNAME, _FQDN = re.compile(_LABEL), re.compile(rf"{_LABEL}(\.{_LABEL})*")


def host_name(value: Any, minor: int) -> str:
    """The name that a guest is given; from 2.94 on with a domain.

    Raises:
        BadField: it is none (RFC 1123).
    """
    pattern, most = (_FQDN, 255) if minor >= 94 else (_HOSTNAME, 63)
    if not isinstance(value, str) or len(value) > most or not pattern.fullmatch(value):
        raise BadField("hostname", "it is a host name of letters, digits and '-'.")
    return value


def default_host_name(name: str, id: str) -> str:
    """The host name that follows from a server's name."""
    text = re.sub(r"[^a-z0-9-]", "", re.sub(r"[ _.]", "-", name.lower()))[:63].strip("-")
    return text or f"server-{id}"


def _hints(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise BadField("os:scheduler_hints", "it must be a JSON object.")
    hints: dict[str, list[str]] = {}
    for name, given in value.items():
        items = given if isinstance(given, list) else [given]
        if name in ("group", "same_host", "different_host"):
            for item in items:
                try:
                    uuid.UUID(item if isinstance(item, str) else "")
                except ValueError:
                    raise BadField(f"os:scheduler_hints.{name}", "it must be a UUID.") from None
            if name == "group" and len(items) != 1:
                raise BadField("os:scheduler_hints.group", "give one server group.")
            hints[name] = [str(uuid.UUID(item)) for item in items]
        else:
            # Others than these are for other schedulers.
            hints[str(name)[:255]] = [str(item)[:255] for item in items[:50]]
    return hints


class UpdateBody(Body):
    """The fields of `server` in an update request."""

    name: Any = UNSET
    disk_config: Any = named(name="OS-DCF:diskConfig", default=UNSET)
    access_v4: Any = named(name="accessIPv4", default=UNSET)
    access_v6: Any = named(name="accessIPv6", default=UNSET)
    description: Any = UNSET
    hostname: Any = UNSET


def understand_update(given: UpdateBody | RebuildBody, minor: int) -> dict[str, Any]:
    """The fields of a server that an update (or a rebuild) changes, by attribute name."""
    if minor < 19 and given.description is not UNSET:
        raise BadField("description", "it is there from microversion 2.19 on.")
    if minor < 90 and given.hostname is not UNSET:
        raise BadField("hostname", "it is there from microversion 2.90 on.")
    values: dict[str, Any] = {}
    if given.name is not UNSET:
        values["name"] = printable_name("name", given.name)
    if given.disk_config is not UNSET:
        values["disk_config"] = disk_config(given.disk_config)
    if given.access_v4 is not UNSET:
        values["access_ip_v4"] = access("accessIPv4", given.access_v4, 4)
    if given.access_v6 is not UNSET:
        values["access_ip_v6"] = access("accessIPv6", given.access_v6, 6)
    if given.description is not UNSET:
        values["description"] = description(given.description)
    if given.hostname is not UNSET:
        values["hostname"] = host_name(given.hostname, minor)
    return values


class RebuildBody(Body):
    """The fields of `rebuild`."""

    image_ref: Any = named(name="imageRef")
    name: Any = UNSET
    admin_pass: Any = named(name="adminPass", default=None)
    metadata: Any = UNSET
    preserve_ephemeral: Any = False
    disk_config: Any = named(name="OS-DCF:diskConfig", default=UNSET)
    access_v4: Any = named(name="accessIPv4", default=UNSET)
    access_v6: Any = named(name="accessIPv6", default=UNSET)
    personality: Any = UNSET
    description: Any = UNSET
    key_name: Any = UNSET
    user_data: Any = UNSET
    trusted_image_certificates: Any = UNSET
    hostname: Any = UNSET


def understand_rebuild(given: RebuildBody, minor: int) -> tuple[str, dict[str, Any], str, Any]:
    """A rebuild: the image, the fields to change, the password, and the key's name (or UNSET)."""
    for name, since in (("key_name", 54), ("user_data", 57), ("trusted_image_certificates", 63)):
        if minor < since and getattr(given, name) is not UNSET:
            raise BadField(name, f"it is there from microversion 2.{since} on.")
    if given.personality is not UNSET and (minor >= 57 or given.personality):
        raise BadField("personality", "files cannot be injected. Use user_data.")
    if given.trusted_image_certificates is not UNSET and given.trusted_image_certificates:
        raise BadField("trusted_image_certificates", "signatures of images are not checked here. Remove it.")
    boolean("preserve_ephemeral", given.preserve_ephemeral)
    values = understand_update(given, minor)
    if given.metadata is not UNSET:
        values["metadata"] = labels("metadata", given.metadata)
    if given.user_data is not UNSET:
        values["user_data"] = user_data(given.user_data)
    key: str | UnsetType | None = given.key_name
    if key is not UNSET and key is not None:
        key = printable_name("key_name", key)
    return image_ref(given.image_ref, UNSET), values, _password(given.admin_pass), key
