"""What a server is told of itself: the files of the metadata service and of the config drive.

Both forms that guests look for: OpenStack's
(https://docs.openstack.org/nova/latest/user/metadata.html) and Amazon EC2's, version 2009-04-04.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from trunkline.compiler.slices import PortSlice, ServerSlice

#: The versions of OpenStack's form, each with what it added to the one before.
_OPENSTACK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("2012-08-10", ("meta_data.json", "user_data")),
    ("2013-04-04", ("password",)),
    ("2013-10-17", ("vendor_data.json",)),
    ("2015-10-15", ("network_data.json",)),
    ("2016-06-30", ()),
    ("2016-10-06", ("vendor_data2.json",)),
    ("2017-02-22", ()),
    ("2018-08-27", ()),
    ("2020-10-14", ()),
    ("latest", ()),
)
#: The versions of EC2's form; all show the same.
_EC2 = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01"),
    *("2008-09-01", "2009-04-04", "latest"),
)

#: A directory of the service: names to files or directories.
Tree = Mapping[str, "bytes | Tree"]


def drive(server: ServerSlice, ports: Iterable[PortSlice]) -> dict[str, bytes]:
    """The content of the server's config drive, by path."""
    openstack = _openstack(server)
    found = {f"openstack/latest/{name}": data for name, data in openstack.items() if name != "password"}
    flat = json.dumps(_flat(_ec2(server, ports))).encode()
    for version in ("2009-04-04", "latest"):
        found[f"ec2/{version}/meta-data.json"] = flat
        if "user_data" in openstack:
            found[f"ec2/{version}/user-data"] = openstack["user_data"]
    return found


def service(server: ServerSlice, ports: Iterable[PortSlice]) -> Tree:
    """All that the metadata service answers to a server.

    Any program in the guest may ask it, so the password of the first user is on the config drive alone.
    """
    meta = {name: value for name, value in server.meta_data.items() if name != "admin_pass"}
    files = _openstack(msgspec.structs.replace(server, meta_data=meta))
    openstack: dict[str, Tree] = {}
    names: list[str] = []
    for version, added in _OPENSTACK:
        names += [name for name in added if name in files]
        openstack[version] = {name: files[name] for name in names}
    ec2: dict[str, bytes | Tree] = {"meta-data": _ec2(server, ports)}
    if "user_data" in files:
        ec2["user-data"] = files["user_data"]
    return {**dict.fromkeys(_EC2, ec2), "openstack": openstack}


def find(tree: Tree, path: str) -> bytes | None:
    """What a path of the service shows: a file, or the names in a directory; None where nothing is."""
    here: bytes | Tree = tree
    for part in (p for p in path.split("/") if p):
        if isinstance(here, bytes) or (inner := here.get(part)) is None:
            return None
        here = inner
    return here if isinstance(here, bytes) else _listing(here)


def _listing(tree: Tree) -> bytes:
    lines = []
    for name, inner in tree.items():
        if isinstance(inner, bytes):
            lines.append(name)
        elif isinstance(label := inner.get("_label"), bytes):
            # Public keys are listed by number and name, as clients expect them.
            lines.append(f"{name}={label.decode()}")
        else:
            lines.append(f"{name}/")
    return "\n".join(line for line in lines if line != "_label").encode()


def _openstack(server: ServerSlice) -> dict[str, bytes]:
    meta = {"uuid": server.id, "name": server.name, "hostname": server.name, "launch_index": 0}
    files = {
        "meta_data.json": _json({**meta, **server.meta_data}),
        "network_data.json": _json(server.network_data or {"links": [], "networks": [], "services": []}),
        "vendor_data.json": _json(server.vendor_data),
        "vendor_data2.json": _json({"static": server.vendor_data} if server.vendor_data else {}),
        "password": b"",
    }
    if server.user_data:
        files["user_data"] = _user_data(server.user_data)
    return files


def _ec2(server: ServerSlice, ports: Iterable[PortSlice]) -> dict[str, bytes | Tree]:
    meta = server.meta_data
    hostname = str(meta.get("hostname") or server.name)
    addresses = [ipaddress.ip_address(a) for port in ports for a in port.addresses]
    local = next((str(a) for a in addresses if a.version == 4), "")
    public = next((a for a in server.public_addresses if ":" not in a), "")
    keys = meta.get("public_keys")
    number = hashlib.sha256(server.image.encode()).hexdigest()[:8]
    text: dict[str, str] = {
        "ami-id": f"ami-{number}",
        "ami-launch-index": str(meta.get("launch_index", 0)),
        "ami-manifest-path": "FIXED",
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": f"i-{server.id.replace('-', '')[:8]}",
        "instance-type": server.flavor,
        "local-hostname": hostname,
        "local-ipv4": local,
        "public-hostname": hostname,
        "public-ipv4": public,
        "reservation-id": f"r-{server.id.replace('-', '')[8:16]}",
    }
    tree: dict[str, bytes | Tree] = {name: value.encode() for name, value in text.items()}
    tree["placement"] = {"availability-zone": str(meta.get("availability_zone", "")).encode()}
    tree["block-device-mapping"] = {"ami": b"vda", "root": b"/dev/vda", **_other_disks(server)}
    if isinstance(keys, dict) and keys:
        tree["public-keys"] = {
            str(index): {"_label": str(name).encode(), "openssh-key": str(key).encode()}
            for index, (name, key) in enumerate(keys.items())
        }
    return tree


def _other_disks(server: ServerSlice) -> dict[str, bytes]:
    """The guest's names of the second disk and the one to swap to, while it runs from its own first."""
    names = [
        name for name, there in (("ephemeral0", server.ephemeral_gib), ("swap", server.swap_mib)) if there
    ]
    return {name: f"/dev/vd{letter}".encode() for letter, name in zip("bc", names, strict=False)}


def _flat(tree: Tree) -> dict[str, Any]:
    return {
        name: inner.decode() if isinstance(inner, bytes) else _flat(inner)
        for name, inner in tree.items()
        if name != "_label"
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _user_data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
